//! One run: a load on a broker, and what it cost.

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::thread::{self, sleep};
use std::time::Duration;

use fulmar_core::Version;

use super::broker::Running;
use super::churn::{self, Churn};
use super::engine::{Engine, Patience};
use super::histogram::Histogram;
use super::link::Opener;
use super::memory;
use super::names::Names;
use super::row::Row;
use super::scenario::Load;
use super::serve::Counters;
use super::system::{now, unless_blocked};
use super::usage::Usage;

/// What is measured: an address, and where they are known its process and its counters.
pub(super) struct Target<'a> {
    pub(super) addr: SocketAddrV4,
    /// 0 if not known.
    pub(super) pid: u32,
    pub(super) running: Option<&'a mut Running>,
}

impl Target<'_> {
    fn counters(&mut self) -> Option<Counters> {
        self.running.as_mut()?.counters()
    }
}

/// Runs a load. What goes wrong stands in the row.
pub(super) fn measure(load: &Load, target: &mut Target<'_>, patience: Patience) -> Row {
    let result = match load {
        load if load.idle > 0 => memory::idle(load, target),
        load if load.hoard => memory::burst(load, target, patience),
        load if load.churn => churned(load, target, patience),
        load => traffic(load, target, patience, None),
    };
    let row = result.unwrap_or_else(|error| Row { error: error.to_string(), ..Row::default() });
    described(load, patience, row)
}

/// A row that says what was run.
pub(super) fn described(load: &Load, patience: Patience, row: Row) -> Row {
    let mqtt = match load.version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    };
    let threads = if load.is_traffic() { load.parts().len() } else { 1 };
    let limited = load.is_traffic() && load.rate == 0;
    Row {
        generator: concat!("fulmar-load ", env!("CARGO_PKG_VERSION")).into(),
        mqtt: mqtt.into(),
        threads: threads as u64,
        enough_seconds: patience.enough.filter(|_| limited).map(|enough| enough.as_secs_f64()),
        tiny: load.tiny,
        ..row
    }
}

/// A load with churn, and before it, in the same broker, without: all while the client that churns
/// holds its filters.
fn churned(load: &Load, target: &mut Target<'_>, patience: Patience) -> io::Result<Row> {
    let mut churn = Churn::open(target.addr, load)?;
    let calm = traffic(load, target, patience, None)?;
    if !calm.is_clean() {
        return Ok(calm);
    }
    let row = traffic(load, target, patience, Some(&mut churn))?;
    Ok(Row {
        calm_cpu_us_per_delivery: calm.cpu_us_per_delivery,
        calm_rate: calm.rate,
        // The other time there is memory in the broker from before.
        bytes_per_subscription: calm.bytes_per_subscription,
        ..row
    })
}

fn traffic(
    load: &Load,
    target: &mut Target<'_>,
    patience: Patience,
    mut churn: Option<&mut Churn>,
) -> io::Result<Row> {
    let empty = Usage::of(target.pid);
    let parts = load.parts();
    let names = match &mut target.running {
        Some(running) if load.pinned => Names::together(load, |name| running.home(name))?,
        _ => Names::default(),
    };
    let engines = parts.iter().map(|part| Engine::new(part, target.addr, patience, &names));
    let mut engines = engines.collect::<io::Result<Vec<_>>>()?;
    let mut quiet = Opener::new(target.addr, load);
    quiet.open(usize::from(load.quiet > 0), "quiet", |_| churn::quiet(load.quiet))?;
    sleep(Duration::from_millis(300));
    let alone = churn.as_mut().map(|churn| churn.alone(target.pid)).transpose()?;
    let counters = target.counters();
    let before = Usage::of(target.pid);
    let filled = before.memory as f64 - empty.memory as f64;
    let own = Usage::of(std::process::id());
    let start = now();
    let (driven, churned) = match churn {
        Some(churn) => churn.during(|| drive(&mut engines)),
        None => (drive(&mut engines), Ok(0)),
    };
    let own = Usage::of(std::process::id()).seconds_since(&own);
    let (churned, mut error) = told(driven, churned);
    // Whatever the broker does after the last message is part of its cost.
    sleep(Duration::from_millis(50));
    let after = Usage::of(target.pid);
    let calls = counters.zip(target.counters()).map(|(before, after)| after.all() - before.all());
    let progress = engines.iter().map(|engine| engine.progress).max().unwrap_or(start);
    let seconds = progress.saturating_sub(start).max(1) as f64 / 1e9;
    // Measured is what was due. What comes beyond that is counted.
    if error.is_empty()
        && let Err(late) = engines.iter_mut().try_for_each(Engine::listen)
    {
        error = late.to_string();
    }
    let mut row = Row {
        error,
        seconds,
        cpu_seconds: after.seconds_since(&before),
        busiest_us_per_delivery: after.busiest_since(&before) * 1e6,
        own_cpu_seconds: own,
        connections: (load.publishers + load.subscribers) as u64,
        memory_before: before.memory,
        memory_after: after.memory,
        memory_peak: after.peak,
        churned,
        churn_cpu: alone.unwrap_or_default(),
        ..Row::default()
    };
    let mut latencies = Histogram::new();
    for engine in engines {
        row.published += engine.published;
        engine.checker.tell(engine.due(), &mut row);
        latencies.merge(&engine.latencies);
        engine.disconnect();
    }
    for stream in quiet.streams {
        row.strays += u64::from(heard(&stream)?);
    }
    latencies.tell(&mut row);
    row.calls_per_delivery = calls.map(|calls| calls as f64 / row.delivered.max(1) as f64);
    tell(load, filled, &mut row);
    Ok(row)
}

/// Adds what follows from the rest, with KiB that subscriptions took.
fn tell(load: &Load, filled: f64, row: &mut Row) {
    row.rate = row.delivered as f64 / row.seconds;
    row.churned_per_second = row.churn_rate().unwrap_or_default();
    row.cpu_us_per_delivery = row.cpu_seconds * 1e6 / row.delivered.max(1) as f64;
    row.busiest_us_per_delivery /= row.delivered.max(1) as f64;
    if row.churned > 0 {
        let less = row.churn_cpu * 1e6 / row.rate.max(1.0);
        row.less_churn_cpu_us_per_delivery = row.cpu_us_per_delivery - less;
    }
    if load.wild > 0 {
        let subscriptions = (load.wild * load.subscribers) as f64;
        row.bytes_per_subscription = filled * 1024.0 / subscriptions;
    }
}

/// How many were churned, and what went wrong. One who churns and is refused something has ended
/// before, and most of the load was without it: an error.
fn told(driven: io::Result<()>, churned: io::Result<u64>) -> (u64, String) {
    let wrong = [churned.as_ref().err(), driven.as_ref().err()];
    let wrong: Vec<_> = wrong.into_iter().flatten().map(io::Error::to_string).collect();
    (churned.unwrap_or_default(), wrong.join("; "))
}

/// Drives all to their ends, each on a thread of its own, the only one on this.
fn drive(engines: &mut [Engine<'_>]) -> io::Result<()> {
    if let [engine] = engines {
        return engine.drive();
    }
    thread::scope(|scope| {
        let threads = engines.iter_mut().map(|engine| scope.spawn(|| engine.drive()));
        let threads: Vec<_> = threads.collect();
        let ends = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        // All are waited for, whatever became of the first.
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Whether anything came to a client that is to get nothing.
fn heard(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    match unless_blocked(stream.peek(&mut [0])) {
        Ok(bytes) => Ok(bytes.is_some()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use fulmar::Settings;
    use fulmar::broker::Server;
    use fulmar_core::Qos;

    use super::super::list::ALL;
    use super::*;

    /// They come in pieces; more of them than may be under way without an acknowledgement.
    #[test]
    fn large_messages_are_acknowledged_when_they_are_whole() {
        let yaml = "listeners: [{protocol: mqtt, addr: \"127.0.0.1:0\"}]\nallow_anonymous: true\n\
                    max_inflight: 5\n";
        let settings = Settings::parse(yaml).expect("a configuration");
        let options = fulmar::options(settings, &fulmar::Log::default()).expect("options");
        let server = Server::bind(options).expect("a port is free");
        let [SocketAddr::V4(addr)] = *server.addresses() else { panic!("it listens there") };
        let broker = server.handle();
        let running = thread::spawn(|| server.run());
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let load = Load { publishers: 2, subscribers: 2, topics: 2, ..ALL[0].load };
            let load = Load { payload: 300_000, messages: 40, window: 10, burst: 5, qos, ..load };
            let mut target = Target { addr, pid: 0, running: None };
            let row = measure(&load, &mut target, Patience::default());
            assert!(row.is_clean() && row.delivered == 40, "{qos:?}: {row:?}");
        }
        smol::block_on(broker.abort());
        running.join().expect("it does not panic").expect("it ends");
    }
}
