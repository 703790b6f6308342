//! A client that subscribes and unsubscribes at a steady rate.

use std::io::{self, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use fulmar_core::{Packet, PacketId, Version};
use rustix::net::{RecvFlags, recv};

use super::link::Opener;
use super::list::ALL;
use super::scenario::Load;
use super::system::unless_blocked;
use super::usage::Usage;
use super::wire;

/// Filters subscribed to, and left again, a second: each by itself, so that each could cost others
/// a cache, and few enough to leave most of a core to them.
const RATE: u64 = 5_000;
/// Most that are unanswered: a broker that cannot keep up gets fewer.
const UNANSWERED: u64 = 1_000;
/// Filters that the client holds all the time, those with the first numbers.
pub(super) const HELD: u64 = 400;
/// How long it runs by itself to tell what it costs.
const ALONE: Duration = Duration::from_millis(500);

/// A client that churns when it is told to.
pub(super) struct Churn {
    stream: TcpStream,
    filter: fn(u64) -> String,
    /// The number of the next filter: none comes twice.
    next: u64,
}

impl Churn {
    /// Connects, and subscribes to what it holds.
    pub(super) fn open(to: SocketAddrV4, load: &Load) -> io::Result<Self> {
        let filter = if load.wild > 0 { among } else { beside };
        let mut opener = Opener::new(to, &ALL[0].load);
        opener.open(1, "churn", |_| (0..HELD).map(filter).collect())?;
        let stream = opener.streams.pop().expect("one was opened");
        Ok(Self { stream, filter, next: HELD })
    }

    /// Churns while something goes on. Gives what that gives, and how many SUBSCRIBE and
    /// UNSUBSCRIBE were answered, or an error if one was refused or the connection ended.
    pub(super) fn during<T>(&mut self, work: impl FnOnce() -> T) -> (T, io::Result<u64>) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let churn = scope.spawn(|| self.work(&stop));
            let result = work();
            stop.store(true, Ordering::Relaxed);
            (result, churn.join().expect("it does not panic"))
        })
    }

    /// Seconds of CPU a second that the process takes for it while nothing else goes on.
    pub(super) fn alone(&mut self, pid: u32) -> io::Result<f64> {
        let (before, start) = (Usage::of(pid), Instant::now());
        let ((), answered) = self.during(|| sleep(ALONE));
        answered?;
        Ok(Usage::of(pid).seconds_since(&before) / start.elapsed().as_secs_f64())
    }

    fn work(&mut self, stop: &AtomicBool) -> io::Result<u64> {
        let (start, first) = (Instant::now(), self.next);
        let (mut out, mut bytes, mut answered) = (Vec::new(), Vec::new(), 0);
        // Once at least, however short the rest is.
        loop {
            let due = first + 1 + (start.elapsed().as_secs_f64() * RATE as f64) as u64;
            out.clear();
            while self.next < due.min(first + answered / 2 + UNANSWERED) {
                let filter = [(self.filter)(self.next)];
                out.extend(wire::subscribe(&ALL[0].load, PacketId::MIN, &filter));
                out.extend(wire::unsubscribe(PacketId::MIN, &filter));
                self.next += 1;
            }
            self.stream.write_all(&out)?;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            sleep(Duration::from_secs(1) / RATE as u32);
            answered += self.answers(&mut bytes, RecvFlags::DONTWAIT)?;
        }
        while answered < 2 * (self.next - first) {
            answered += self.answers(&mut bytes, RecvFlags::empty())?;
        }
        Ok(answered)
    }

    /// Reads once, behind `bytes` of a packet that is not whole; says how many answers there were.
    fn answers(&self, bytes: &mut Vec<u8>, flags: RecvFlags) -> io::Result<u64> {
        let mut buffer = [0; 16 * 1024];
        let read = recv(&self.stream, &mut buffer[..], flags).map(|(read, _)| read);
        match unless_blocked(read.map_err(io::Error::from))? {
            None if flags.is_empty() => {
                return Err(io::Error::other("no answer to a subscription"));
            }
            None => return Ok(0),
            Some(0) => {
                return Err(io::Error::other("the broker closed the connection that subscribes"));
            }
            Some(read) => bytes.extend_from_slice(&buffer[..read]),
        }
        let mut answers = 0;
        let used = wire::packets(Version::V311, bytes, |packet| {
            let is_answer = matches!(packet, Packet::Suback(_) | Packet::Unsuback(_));
            if !is_answer || !wire::is_granted(&packet) {
                return Err(wire::refused(&packet));
            }
            answers += 1;
            Ok(())
        })?;
        bytes.drain(..used);
        Ok(answers)
    }
}

/// Filters among a million others. Every other one has wildcards; each is another one, beside those
/// that get messages.
fn among(number: u64) -> String {
    match number % 2 {
        0 => format!("plant-7/churn/{number}/sensor/temp"),
        _ => format!("plant-7/+/{number}/churn/#"),
    }
}

/// Filters below the topics of a load without wildcards, with `+` in place of any of their levels:
/// whoever looks for what matches such a topic goes all these ways in vain.
fn beside(number: u64) -> String {
    let level = |bit: u64, name: &str| match number >> bit & 1 {
        0 => name.to_owned(),
        _ => "+".to_owned(),
    };
    let topic = (number / 8 % 50).to_string();
    let levels = [level(0, "bench"), level(1, "topic"), level(2, &topic)];
    format!("{}/churn/{number}", levels.join("/"))
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

#[cfg(test)]
mod tests {
    use fulmar_core::topic::{TopicFilter, matches};

    use super::super::list::BASE;
    use super::*;

    #[test]
    fn filters_beside_the_topics_match_none_of_them() {
        let filters: Vec<_> = (0..2 * HELD).map(beside).chain(quiet(16)).collect();
        assert!(filters.iter().all(|filter| TopicFilter::new(filter, 128).is_ok()), "{filters:?}");
        for topic in BASE.topic_names() {
            let matched = filters.iter().find(|filter| matches(filter, &topic));
            assert_eq!(matched, None, "{topic}");
        }
        assert!(quiet(16).iter().all(|filter| matches(filter, "bench/quiet/1/2/3/4/5/6/7")));
    }
}
