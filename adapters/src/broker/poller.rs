//! Readiness of sockets, told once for every edge. The only file that knows how the system does it.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) use system::Poller;

/// Readiness told in one wait, at most.
const BATCH: usize = 1024;

/// A socket on which something changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// The number it was added with.
    pub(super) index: usize,
    /// There may be something to read.
    pub(super) readable: bool,
    /// There may be room to write.
    pub(super) writable: bool,
    /// The peer will send nothing more, so that only a read of nothing ends reading.
    pub(super) hangup: bool,
    /// The connection is gone in both directions.
    pub(super) gone: bool,
}

/// Ends the poller's wait from any thread.
#[derive(Clone, Debug)]
pub(super) struct Waker {
    wake: Arc<system::Wake>,
    /// Wakes so far.
    count: Arc<AtomicU64>,
}

impl Waker {
    fn new(wake: Arc<system::Wake>) -> Self {
        Self { wake, count: Arc::default() }
    }

    /// The present wait, or else the next one, ends at once and says that it was woken. Each is one
    /// system call, beside which the counting is nothing.
    pub(super) fn wake(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        system::wake(&self.wake);
    }

    /// How often it was used, by all who have it.
    pub(super) fn wakes(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::mem::MaybeUninit;

    use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
    use rustix::fd::OwnedFd;
    use rustix::io::Errno;

    use super::{Arc, BATCH, Duration, Ready, TcpStream, Waker, io};

    /// No socket has this number.
    const WAKER: u64 = u64::MAX;

    pub(super) type Wake = OwnedFd;

    /// Its counter is never read: each write is an edge, and it is too large to fill.
    pub(super) fn wake(wake: &Wake) {
        let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
    }

    /// An epoll with every socket registered once for both directions.
    pub(in crate::broker) struct Poller {
        epoll: OwnedFd,
    }

    impl Poller {
        /// A poller without sockets, and what wakes it. Fails when no file can be opened.
        pub(in crate::broker) fn new() -> io::Result<(Self, Waker)> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKER), flags)?;
            Ok((Self { epoll }, Waker::new(Arc::new(wake))))
        }

        /// Watches `socket` under the number `index`; what it is ready for already is told too.
        pub(in crate::broker) fn add(&self, socket: &TcpStream, index: usize) -> io::Result<()> {
            let flags = epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(index as u64);
            Ok(epoll::add(&self.epoll, socket, data, flags)?)
        }

        /// Must come before a socket is closed. Here the closing itself does it.
        pub(in crate::broker) fn remove(&self, _socket: &TcpStream) {}

        /// Watches a socket no more that stays open.
        pub(in crate::broker) fn release(&self, socket: &TcpStream) {
            // It was added, and is open: this cannot fail.
            let _ = epoll::delete(&self.epoll, socket);
        }

        /// Waits at most `timeout`, rounded up to milliseconds, and appends what became ready. Says
        /// whether it was woken. One thread waits; sockets are added and removed by any meanwhile.
        pub(in crate::broker) fn wait(
            &self,
            timeout: Option<Duration>,
            ready: &mut Vec<Ready>,
        ) -> io::Result<bool> {
            let timeout = timeout.map(|timeout| {
                // Whole milliseconds need no newer system call than every kernel has.
                let millis = timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i64;
                Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
            });
            let mut events = [const { MaybeUninit::uninit() }; BATCH];
            let events = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok((events, _)) => events,
                Err(Errno::INTR) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let mut woken = false;
            for event in events {
                let (flags, index) = (event.flags, event.data.u64());
                if index == WAKER {
                    woken = true;
                    continue;
                }
                let gone = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
                let hangup = gone || flags.contains(epoll::EventFlags::RDHUP);
                ready.push(Ready {
                    index: index as usize,
                    readable: hangup || flags.contains(epoll::EventFlags::IN),
                    writable: gone || flags.contains(epoll::EventFlags::OUT),
                    hangup,
                    gone,
                });
            }
            Ok(woken)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::num::NonZeroUsize;
    use std::sync::{Mutex, PoisonError};

    use polling::{Event, Events, PollMode};

    use super::{Arc, BATCH, Duration, Ready, TcpStream, Waker, io};

    pub(super) type Wake = polling::Poller;

    /// Fails only when the poller is broken, and then its waits fail too.
    pub(super) fn wake(wake: &Wake) {
        let _ = wake.notify();
    }

    /// The system's poller with every socket registered once for both directions.
    pub(in crate::broker) struct Poller {
        poller: Arc<polling::Poller>,
        /// Of the thread that waits.
        events: Mutex<Events>,
        mode: PollMode,
    }

    impl Poller {
        /// A poller without sockets, and what wakes it. Fails when no file can be opened.
        pub(in crate::broker) fn new() -> io::Result<(Self, Waker)> {
            let poller = Arc::new(polling::Poller::new()?);
            let events =
                Events::with_capacity(NonZeroUsize::new(BATCH).unwrap_or(NonZeroUsize::MIN));
            // Level-triggered readiness would be told without end for a socket that is not read.
            if !poller.supports_edge() {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let waker = Waker::new(Arc::clone(&poller));
            Ok((Self { poller, events: Mutex::new(events), mode: PollMode::Edge }, waker))
        }

        /// Watches `socket` under the number `index`; what it is ready for already is told too.
        pub(in crate::broker) fn add(&self, socket: &TcpStream, index: usize) -> io::Result<()> {
            // SAFETY: every socket is given to `remove` before it is dropped.
            unsafe { self.poller.add_with_mode(socket, Event::all(index), self.mode) }
        }

        /// Must come before a socket is closed.
        pub(in crate::broker) fn remove(&self, socket: &TcpStream) {
            let _ = self.poller.delete(socket);
        }

        /// Watches a socket no more that stays open.
        pub(in crate::broker) fn release(&self, socket: &TcpStream) {
            self.remove(socket);
        }

        /// Waits at most `timeout` and appends what became ready. Says that it was woken always,
        /// since this poller cannot tell.
        pub(in crate::broker) fn wait(
            &self,
            timeout: Option<Duration>,
            ready: &mut Vec<Ready>,
        ) -> io::Result<bool> {
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            events.clear();
            self.poller.wait(&mut events, timeout)?;
            ready.extend(events.iter().map(|event| Ready {
                index: event.key,
                readable: event.readable,
                writable: event.writable,
                // Not told reliably: then every reading goes on until nothing comes.
                hangup: event.readable,
                gone: false,
            }));
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound"));
        (listener.accept().expect("it connects").0, client.expect("it listens"))
    }

    #[test]
    fn an_edge_is_told_once_and_again_when_more_comes() {
        let (poller, _waker) = Poller::new().expect("files can be opened");
        let (server, mut client) = pair();
        poller.add(&server, 7).expect("it can be watched");
        let mut ready = Vec::new();
        for round in 0..2 {
            client.write_all(b"x").expect("the peer is there");
            while !ready.iter().any(|ready: &Ready| ready.index == 7 && ready.readable) {
                poller.wait(None, &mut ready).expect("waiting works");
            }
            ready.clear();
            poller.wait(Some(Duration::ZERO), &mut ready).expect("waiting works");
            assert!(ready.is_empty(), "told twice in round {round}: {ready:?}");
        }
        drop(client);
        while !ready.iter().any(|ready| ready.hangup) {
            poller.wait(None, &mut ready).expect("waiting works");
        }
        poller.remove(&server);
    }

    #[test]
    fn a_waker_ends_the_wait_each_time() {
        let (poller, waker) = Poller::new().expect("files can be opened");
        for _ in 0..3 {
            waker.wake();
            assert!(poller.wait(None, &mut Vec::new()).expect("waiting works"));
        }
        assert_eq!(waker.clone().wakes(), 3);
    }
}
