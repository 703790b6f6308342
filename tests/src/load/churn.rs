//! A client that subscribes and unsubscribes as fast as it can.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use fulmar_core::{Packet, PacketId, Version};

use super::link::Opener;
use super::list::ALL;
use super::measure::Target;
use super::scenario::Load;
use super::usage::Usage;
use super::wire;

/// Filters subscribed to, and left again, before answers are waited for.
const PAIRS: u64 = 50;
/// How long it runs by itself to tell what it costs.
const ALONE: Duration = Duration::from_millis(500);

/// A client at work on a thread of its own.
pub(super) struct Churn {
    thread: JoinHandle<io::Result<u64>>,
    stop: Arc<AtomicBool>,
}

impl Churn {
    /// Connects, and begins.
    pub(super) fn start(to: SocketAddrV4, load: &Load) -> io::Result<Self> {
        let mut opener = Opener::new(to, &ALL[0].load);
        opener.open(1, "churn", |_| Vec::new())?;
        let stream = opener.streams.pop().expect("one was opened");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let filter = if load.wild > 0 { among } else { beside };
        let thread = thread::spawn(move || work(stream, &stopped, filter));
        Ok(Self { thread, stop })
    }

    /// Has it end, and says how many SUBSCRIBE and UNSUBSCRIBE were answered.
    ///
    /// # Errors
    /// The broker refused one, or ended the connection.
    pub(super) fn stop(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

/// Microseconds of the broker's CPU for each SUBSCRIBE and UNSUBSCRIBE while nothing else goes on.
pub(super) fn alone(target: &Target<'_>, load: &Load) -> io::Result<f64> {
    let churn = Churn::start(target.addr, load)?;
    let before = Usage::of(target.pid);
    sleep(ALONE);
    let count = churn.stop()?;
    Ok(Usage::of(target.pid).seconds_since(&before) * 1e6 / count.max(1) as f64)
}

/// Filters among a million others. Every other one has wildcards; each is another one, beside those
/// that get messages.
fn among(number: u64) -> String {
    match number % 2 {
        0 => format!("plant-7/churn/{number}/sensor/temp"),
        _ => format!("plant-7/+/{number}/churn/#"),
    }
}

/// Filters next to the topics of a load without wildcards: below them, beside them, and across.
fn beside(number: u64) -> String {
    let topic = number / 4 % 50;
    match number % 4 {
        0 => format!("bench/topic/{topic}/churn/{number}"),
        1 => format!("bench/topic/{topic}/+/{number}/#"),
        2 => format!("bench/topic/churn-{number}/#"),
        _ => format!("bench/+/churn-{number}"),
    }
}

/// Filters with wildcards below what all topics of a load begin with, each of which overlaps with
/// the others, and none of which matches a topic of the load.
pub(super) fn quiet(count: usize) -> Vec<String> {
    let filter = |n: usize| {
        let start = if n.is_multiple_of(2) { "bench/quiet" } else { "+/quiet" };
        format!("{start}{}/#", "/+".repeat(n / 2))
    };
    (0..count).map(filter).collect()
}

fn work(mut stream: TcpStream, stop: &AtomicBool, filter: fn(u64) -> String) -> io::Result<u64> {
    let load = &ALL[0].load;
    let (mut out, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let (mut number, mut answered) = (0, 0);
    // Once at least, however short the rest is.
    loop {
        out.clear();
        for _ in 0..PAIRS {
            let filter = [filter(number)];
            out.extend(wire::subscribe(load, PacketId::MIN, &filter));
            out.extend(wire::unsubscribe(PacketId::MIN, &filter));
            number += 1;
        }
        stream.write_all(&out)?;
        let mut kept = 0;
        while answered < 2 * number {
            let read = stream.read(&mut buffer[kept..])?;
            if read == 0 {
                return Err(io::Error::other("the broker closed the connection that subscribes"));
            }
            let filled = kept + read;
            let used = wire::packets(Version::V311, &buffer[..filled], |packet| {
                let answers = matches!(packet, Packet::Suback(_) | Packet::Unsuback(_));
                if !answers || !wire::is_granted(&packet) {
                    return Err(wire::refused(&packet));
                }
                answered += 1;
                Ok(())
            })?;
            buffer.copy_within(used..filled, 0);
            kept = filled - used;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use fulmar_core::topic::{TopicFilter, matches};

    use super::super::list::BASE;
    use super::*;

    #[test]
    fn filters_beside_the_topics_match_none_of_them() {
        let filters: Vec<_> = (0..400).map(beside).chain(quiet(16)).collect();
        assert!(filters.iter().all(|filter| TopicFilter::new(filter, 128).is_ok()), "{filters:?}");
        for topic in BASE.topic_names() {
            let matched = filters.iter().find(|filter| matches(filter, &topic));
            assert_eq!(matched, None, "{topic}");
        }
        assert!(quiet(16).iter().all(|filter| matches(filter, "bench/quiet/1/2/3/4/5/6/7")));
    }
}
