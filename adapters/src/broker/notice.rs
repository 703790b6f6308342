//! What a server tells its observer.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use fulmar_core::broker::{Event, OpenError};

/// Something that happened, for logs and metrics.
#[non_exhaustive]
#[derive(Debug)]
pub enum Notice {
    /// Clients may connect to this address now.
    Listening(SocketAddr),
    /// The broker tells something.
    Event {
        /// What.
        event: Event,
        /// For [`Event::Connected`] and [`Event::Disconnected`]: the peer's address.
        remote: Option<SocketAddr>,
    },
    /// A connection was closed before its first byte, because of a limit or of a shutdown.
    Refused {
        /// The peer.
        remote: SocketAddr,
        /// Which limit.
        why: OpenError,
    },
    /// The system failed to prepare a connection; it was closed.
    Failed {
        /// The peer.
        remote: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The system gives no more connections, as a rule because too many files are open. Those
    /// waiting are tried again after pauses of 100 ms to 1 s; the open ones are served. Told once,
    /// until [`Notice::AcceptResumed`].
    AcceptPaused {
        /// Where they wait.
        listener: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// Connections are accepted again.
    AcceptResumed {
        /// Where.
        listener: SocketAddr,
    },
    /// The recording has reached its size bound; the broker goes on without.
    RecordingFull {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The recording cannot be written; the broker goes on without.
    RecordingFailed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A shutdown has begun.
    Stopping,
    /// The shutdown took too long, or was an abort: so many connections were cut.
    Cut {
        /// How many.
        connections: usize,
    },
}
