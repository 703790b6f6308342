//! What stays in memory: of connections that do nothing, and after a burst.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use fulmar_core::Packet;

use super::check::Checker;
use super::engine::{self, Patience};
use super::link::{self, Link, Opener};
use super::measure::Target;
use super::row::Row;
use super::scenario::Load;
use super::system::{Poller, Ready, now};
use super::usage::Usage;
use super::wire::{self, Stamp, Template, Templates};

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
/// The broker refuses something, or ends a publisher's connection. What goes wrong while messages
/// are taken stands in the row.
pub(super) fn burst(load: &Load, target: &Target<'_>, patience: Patience) -> io::Result<Row> {
    let mut opener = Opener::new(target.addr, load);
    opener.open(load.publishers, "p", |_| Vec::new())?;
    opener.open(load.subscribers, "s", |subscriber| load.filters(subscriber))?;
    let mut streams = opener.streams;
    let subscribers = streams.split_off(load.publishers);
    let templates = load.topic_names();
    let templates: Vec<_> = templates.iter().map(|topic| Templates::new(load, topic, 1)).collect();
    let before = Usage::of(target.pid);
    let start = now();
    let each = (load.messages / load.publishers as u64) as u32;
    for (number, stream) in streams.iter_mut().enumerate() {
        let topic = number % templates.len();
        publish_all(&templates[topic].first, number, topic, each, stream)?;
    }
    for stream in &mut streams {
        stream.write_all(&wire::PINGREQ)?;
        // It comes behind all that was published.
        link::answer(stream, load.version)?;
    }
    let due = (0..load.publishers).map(|publisher| load.fan(publisher, 0)).sum::<u64>();
    let due = due * u64::from(each);
    let mut takers = Takers::new(load, &templates, each, subscribers)?;
    let mut result = takers.take(due, patience);
    let seconds = (now() - start) as f64 / 1e9;
    let cpu = Usage::of(target.pid).seconds_since(&before);
    // Measured is what was due. What comes beyond that is counted.
    if result.is_ok() {
        result = engine::listen(|wait| takers.read(wait));
    }
    let error = result.err().map(|error| error.to_string()).unwrap_or_default();
    let published = u64::from(each) * load.publishers as u64;
    let mut row = Row { error, seconds, published, ..Row::default() };
    takers.checker.tell(due, &mut row);
    row.rate = row.delivered as f64 / row.seconds;
    row.cpu_us_per_delivery = cpu * 1e6 / row.delivered.max(1) as f64;
    drop((streams, takers));
    // Brokers look every few seconds whether there is something to give back.
    let settle = if load.messages < 10_000 { 0.1 } else { 10.0 };
    sleep(Duration::from_secs_f64(settle));
    let after = Usage::of(target.pid);
    (row.memory_before, row.memory_peak) = (before.memory, after.peak);
    row.memory_after = after.memory;
    row.connections = (load.publishers + load.subscribers) as u64;
    Ok(row)
}

/// Sends `count` messages of publisher `number`, numbered from 0, to a topic.
fn publish_all(
    template: &Template,
    number: usize,
    topic: usize,
    count: u32,
    stream: &mut TcpStream,
) -> io::Result<()> {
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

/// Subscribers that take what waits for them.
struct Takers<'a> {
    load: &'a Load,
    templates: &'a [Templates],
    /// Messages that each publisher has sent.
    each: u32,
    poller: Poller,
    links: Vec<Link>,
    checker: Checker,
    ready: Vec<Ready>,
    buffer: Vec<u8>,
}

impl<'a> Takers<'a> {
    fn new(
        load: &'a Load,
        templates: &'a [Templates],
        each: u32,
        streams: Vec<TcpStream>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let links = streams.into_iter().enumerate();
        let links = links.map(|(key, stream)| Link::new(stream, key, &poller));
        let links = links.collect::<io::Result<_>>()?;
        let (checker, ready, buffer) = (Checker::new(load), Vec::new(), Vec::new());
        Ok(Self { load, templates, each, poller, links, checker, ready, buffer })
    }

    /// Reads until so many messages came.
    ///
    /// # Errors
    /// Nothing comes for long, or time is over; the broker ends a connection or breaks the
    /// protocol.
    fn take(&mut self, due: u64, patience: Patience) -> io::Result<()> {
        let (start, limit) = (now(), patience.limit.as_nanos() as u64);
        while self.checker.delivered < due {
            if !self.read(patience.stall)? {
                return Err(io::Error::other("nothing comes any more"));
            }
            if now() - start > limit {
                return Err(io::Error::other("the time is over"));
            }
        }
        Ok(())
    }

    /// Reads what comes within a time, and says whether anything did.
    fn read(&mut self, wait: Duration) -> io::Result<bool> {
        self.poller.wait(wait, &mut self.ready)?;
        for ready in &self.ready {
            let link = &mut self.links[ready.key];
            let Some(filled) = link.read(&mut self.buffer, PIECE)? else {
                return Err(io::Error::other("the broker closed connection of a subscriber"));
            };
            let bytes = &self.buffer[..filled];
            let used = wire::packets(self.load.version, bytes, |packet| match packet {
                Packet::Publish(publish) => {
                    let sent =
                        |publisher, _| (publisher < self.load.publishers).then_some(self.each);
                    let message = (&publish, publish.payload.len());
                    let (load, templates) = (self.load, self.templates);
                    let seen = self.checker.look(load, templates, ready.key, message, sent);
                    self.checker.take(seen);
                    Ok(())
                }
                other => Err(io::Error::other(format!("the broker sent {other:?}"))),
            })?;
            link.keep(&bytes[used..]);
        }
        Ok(!self.ready.is_empty())
    }
}
