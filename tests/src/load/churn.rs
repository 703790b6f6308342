//! A client that subscribes and unsubscribes as fast as it can.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use fulmar_core::{Packet, PacketId, Version};

use super::link::Opener;
use super::measure::Target;
use super::scenario::ALL;
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
    pub(super) fn start(to: SocketAddrV4) -> io::Result<Self> {
        let mut opener = Opener::new(to, &ALL[0].load);
        opener.open(1, "churn", |_| Vec::new())?;
        let stream = opener.streams.pop().expect("one was opened");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || work(stream, &stopped));
        Ok(Self { thread, stop })
    }

    /// Has it end, and says how many SUBSCRIBE and UNSUBSCRIBE were answered.
    pub(super) fn stop(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

/// Microseconds of the broker's CPU for each SUBSCRIBE and UNSUBSCRIBE while nothing else goes on.
pub(super) fn alone(target: &Target<'_>) -> io::Result<f64> {
    let churn = Churn::start(target.addr)?;
    let before = Usage::of(target.pid);
    sleep(ALONE);
    let count = churn.stop()?;
    Ok(Usage::of(target.pid).seconds_since(&before) * 1e6 / count.max(1) as f64)
}

/// Every other filter has wildcards; each is another one, beside those that get messages.
fn filter(number: u64) -> String {
    match number % 2 {
        0 => format!("plant-7/churn/{number}/sensor/temp"),
        _ => format!("plant-7/+/{number}/churn/#"),
    }
}

fn work(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<u64> {
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
            let used = wire::packets(Version::V311, &buffer[..filled], |packet| match packet {
                Packet::Suback(_) | Packet::Unsuback(_) => {
                    answered += 1;
                    Ok(())
                }
                other => Err(io::Error::other(format!("the broker sent {other:?}"))),
            })?;
            buffer.copy_within(used..filled, 0);
            kept = filled - used;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(answered);
        }
    }
}
