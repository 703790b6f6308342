//! What the generator asks of the system: sockets, readiness, clock, limits.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Events taken from the system at once.
const EVENTS: usize = 1024;
/// Clients that wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a blocking socket waits for its peer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nanoseconds on the monotonic clock.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Raises the soft limit of open files to the hard one, here and for children started later, and
/// has timed waits end on time; the system lets them be 50 µs late otherwise.
pub(super) fn prepare() {
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, a scenario that needs more files says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// A blocking connection to `to`, from the address `from` if one is given.
pub(super) fn connect(to: SocketAddrV4, from: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    if let Some(from) = from {
        rustix::net::bind(&socket, &SocketAddrV4::new(from, 0))?;
    }
    rustix::net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A listening socket that does not block.
pub(super) fn listen(at: SocketAddrV4) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// What became of one read or write: bytes, or `None` when it would wait.
pub(super) fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}

/// A socket that has something to read, or room to write to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) key: usize,
    /// Something to read, or the end.
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// Waits for sockets, level-triggered.
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Watches for something to read.
    pub(super) fn add(&self, socket: impl AsFd, key: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
    }

    /// Watches for room to write, too, or no longer.
    pub(super) fn watch_room(&self, socket: impl AsFd, key: usize, room: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        let out = if room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        Ok(epoll::modify(&self.epoll, socket, data, epoll::EventFlags::IN | out)?)
    }

    /// Waits at most `limit`, exact to the nanosecond, and fills `ready`.
    pub(super) fn wait(&self, limit: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        let time = |time: Duration| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut limit = time(limit);
        ready.clear();
        // This wait would be rounded up to milliseconds; the other one is not.
        if limit.tv_nsec % 1_000_000 != 0 {
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => limit = time(Duration::ZERO),
                Err(error) => return Err(error.into()),
            }
        }
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        let events = match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                key: data.u64() as usize,
                readable: flags.intersects(!epoll::EventFlags::OUT),
                writable: flags.contains(epoll::EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn waits_are_not_rounded_to_milliseconds() {
        prepare();
        let (poller, mut ready) = (Poller::new().expect("a poller"), Vec::new());
        // The shortest of many: the machine may be busy.
        let shortest = (0..200).map(|_| {
            let start = Instant::now();
            poller.wait(Duration::from_micros(150), &mut ready).expect("a wait");
            start.elapsed()
        });
        let shortest = shortest.min().expect("a time");
        assert!(shortest >= Duration::from_micros(150) && ready.is_empty(), "{shortest:?}");
        assert!(shortest < Duration::from_millis(1), "{shortest:?}");
    }
}
