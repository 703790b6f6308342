//! What stays in memory: of connections that do nothing, and after a burst.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use fulmar_core::Packet;

use super::link::{self, Opener};
use super::measure::Target;
use super::row::Row;
use super::scenario::Load;
use super::system::now;
use super::usage::Usage;
use super::wire::{self, Stamp, Templates};

/// Bytes written or read at once.
const PIECE: usize = 256 * 1024;

/// What connections cost that do nothing but subscribe.
pub(super) fn idle(load: &Load, target: &Target<'_>) -> io::Result<Row> {
    let before = Usage::of(target.pid);
    let start = now();
    let mut opener = Opener::new(target.addr, load);
    let filters = |number| vec![format!("device/{number}/command")];
    let result = opener.open(load.idle, "idle", filters);
    let seconds = (now() - start) as f64 / 1e9;
    let connected = Usage::of(target.pid);
    // A small number is a test of the way, not a measurement.
    let (settle, watch) = if load.idle < 1000 { (0.1, 0.2) } else { (2.0, 5.0) };
    sleep(Duration::from_secs_f64(settle));
    let settled = Usage::of(target.pid);
    sleep(Duration::from_secs_f64(watch));
    let later = Usage::of(target.pid);
    let count = opener.streams.len().max(1) as f64;
    Ok(Row {
        error: result.err().map(|error| error.to_string()).unwrap_or_default(),
        seconds,
        connections: opener.streams.len() as u64,
        memory_before: before.memory,
        memory_after: settled.memory,
        memory_peak: settled.peak,
        bytes_per_connection: (settled.memory as f64 - before.memory as f64) * 1024.0 / count,
        cpu_us_per_connection: connected.seconds_since(&before) * 1e6 / count,
        idle_percent: later.seconds_since(&settled) / watch * 100.0,
        ..Row::default()
    })
}

/// What memory a broker keeps when a burst is over: subscribers read nothing before all is
/// published, then everything, and go. `memory_before` is with all of them connected,
/// `memory_peak` the most, `memory_after` when they are gone.
///
/// # Errors
/// The broker refuses something, or ends a connection.
pub(super) fn burst(load: &Load, target: &Target<'_>) -> io::Result<Row> {
    let mut opener = Opener::new(target.addr, load);
    opener.open(load.publishers, "p", |_| Vec::new())?;
    opener.open(load.subscribers, "s", |subscriber| load.filters(subscriber))?;
    let mut streams = opener.streams;
    let subscribers = streams.split_off(load.publishers);
    let before = Usage::of(target.pid);
    let start = now();
    let each = (load.messages / load.publishers as u64) as u32;
    for (number, stream) in streams.iter_mut().enumerate() {
        publish_all(load, number, each, stream)?;
    }
    for stream in &mut streams {
        stream.write_all(&wire::PINGREQ)?;
        // It comes behind all that was published.
        link::answer(stream, load.version)?;
    }
    let mut row = Row { published: u64::from(each) * load.publishers as u64, ..Row::default() };
    let due = u64::from(each);
    for stream in &subscribers {
        let (came, disordered) = take_all(load, due, stream)?;
        row.delivered += came;
        row.disordered += disordered;
    }
    row.lost = row.published - row.delivered;
    row.seconds = (now() - start) as f64 / 1e9;
    row.rate = row.delivered as f64 / row.seconds;
    let cpu = Usage::of(target.pid).seconds_since(&before);
    row.cpu_us_per_delivery = cpu * 1e6 / row.delivered.max(1) as f64;
    drop((streams, subscribers));
    // Brokers look every few seconds whether there is something to give back.
    let settle = if load.messages < 10_000 { 0.1 } else { 10.0 };
    sleep(Duration::from_secs_f64(settle));
    let after = Usage::of(target.pid);
    (row.memory_before, row.memory_peak) = (before.memory, after.peak);
    row.memory_after = after.memory;
    row.connections = (load.publishers + load.subscribers) as u64;
    Ok(row)
}

/// Sends `count` messages of publisher `number`, numbered from 0.
fn publish_all(load: &Load, number: usize, count: u32, stream: &mut TcpStream) -> io::Result<()> {
    let topics = load.topic_names();
    let topic = number % topics.len();
    let template = Templates::new(load, &topics[topic], 1).first;
    let mut out = Vec::new();
    for message in 0..count {
        let (publisher, topic) = (number as u32, topic as u32);
        let stamp = Stamp { time: now(), publisher, topic, number: message };
        template.append(&mut out, 0, &stamp);
        if out.len() >= PIECE || message + 1 == count {
            stream.write_all(&out)?;
            out.clear();
        }
    }
    Ok(())
}

/// Reads until `due` messages came, or nothing comes for long; says how many, and how many were
/// not the next of their publisher.
fn take_all(load: &Load, due: u64, mut stream: &TcpStream) -> io::Result<(u64, u64)> {
    let (mut came, mut disordered) = (0, 0);
    let (mut buffer, mut kept) = (vec![0; 2 * PIECE], 0);
    while came < due {
        let read = match stream.read(&mut buffer[kept..kept + PIECE]) {
            Ok(0) => return Err(io::Error::other("the broker closed a connection")),
            Ok(read) => read,
            // The time of the socket is over: what is missing is lost.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        let filled = kept + read;
        let used = wire::packets(load.version, &buffer[..filled], |packet| {
            if let Packet::Publish(publish) = packet {
                let number = Stamp::read(publish.payload).map(|stamp| u64::from(stamp.number));
                disordered += u64::from(number != Some(came));
                came += 1;
            }
            Ok(())
        })?;
        buffer.copy_within(used..filled, 0);
        kept = filled - used;
    }
    Ok((came, disordered))
}
