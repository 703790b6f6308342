//! A broker from its options to its end.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use async_channel::{Receiver, Sender};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use smol::Async;

use super::Options;
use super::accept::{self, Listener};
use super::handle::BrokerHandle;
use super::inbox::Inbox;
use super::notice::Notice;
use super::poller::Poller;
use super::shard::Shard;

/// Connections the system keeps until they are accepted: a fleet that reconnects at once.
const BACKLOG: i32 = 4_096;

/// Why a server could not be made.
#[derive(Debug)]
pub enum BindError {
    /// An address cannot be listened on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The system has no files or memory left.
    System(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, error) = match self {
            Self::Listen { address, error } => (address, error),
            Self::System(error) => return write!(f, "cannot start: {error}"),
        };
        write!(f, "cannot listen on {address}: ")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => f.write_str(
                "another program uses this address; stop that program or choose another port",
            ),
            io::ErrorKind::PermissionDenied => f.write_str(
                "this user is not allowed to; choose a port from 1024 on, or ask for the right",
            ),
            io::ErrorKind::AddrNotAvailable => f.write_str(
                "no network interface of this machine has this address; choose one that has",
            ),
            _ => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { error, .. } | Self::System(error) => Some(error),
        }
    }
}

/// Ends what handles wait for when the server goes, in whatever way.
struct Life {
    inbox: Arc<Inbox>,
    /// The other end is held by the handles, which see when this one goes.
    _running: Sender<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// A broker that listens, and serves as soon as it runs.
///
/// Dropping it without running it stops it.
pub struct Server {
    options: Options,
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    poller: Poller,
    stopped: Receiver<()>,
    life: Life,
}

impl Server {
    /// Listens on all addresses of the options. Clients that connect wait until it runs.
    ///
    /// An IPv6 address takes IPv6 clients only, so that `0.0.0.0` and `[::]` can be used together.
    ///
    /// # Errors
    /// An address cannot be had, the system has no files left, or it tells no edges of readiness
    /// (Windows); nothing is listened on then.
    pub fn bind(options: Options) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for &address in &options.listeners {
            let listener = listen_on(address);
            listeners.push(listener.map_err(|error| BindError::Listen { address, error })?);
        }
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        let (poller, waker) = Poller::new().map_err(BindError::System)?;
        let (running, stopped) = async_channel::bounded(1);
        let life = Life { inbox: Arc::new(Inbox::new(waker)), _running: running };
        Ok(Self { options, listeners, addresses, poller, stopped, life })
    }

    /// The addresses listened on, in the order of the options, with the ports the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle; any number may be made, now or by cloning one.
    #[must_use]
    pub fn handle(&self) -> BrokerHandle {
        BrokerHandle { inbox: Arc::clone(&self.life.inbox), stopped: self.stopped.clone() }
    }

    /// Serves on the present thread, and accepts on another, until a handle stops it.
    ///
    /// # Errors
    /// The system gave no thread or no random seed, or its readiness poller failed.
    pub fn run(self) -> io::Result<()> {
        let Self { mut options, listeners, addresses, poller, stopped: _, life } = self;
        for &address in &addresses {
            (options.observe)(&Notice::Listening(address));
        }
        let (accepting, stop) = async_channel::bounded(1);
        let shard = Shard::new(options, poller, Arc::clone(&life.inbox), accepting)?;
        let inbox = Arc::clone(&life.inbox);
        let acceptor = Builder::new()
            .name("fulmar-accept".into())
            .spawn(move || accept::run(listeners, &inbox, &stop))?;
        let result = shard.run();
        // The listening sockets are closed when this returns.
        let accepted = acceptor.join();
        drop(life);
        accepted.map_err(|_| io::Error::other("the accepting thread panicked"))?;
        result
    }

    /// Serves on a thread of its own, as [`run`](Self::run) does; the thread ends when a handle
    /// stops it.
    ///
    /// # Errors
    /// The system gave no thread.
    pub fn spawn(self) -> io::Result<JoinHandle<io::Result<()>>> {
        Builder::new().name("fulmar-shard".into()).spawn(|| self.run())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// As the standard library's, but with a longer backlog and IPv6 apart from IPv4.
fn listen_on(address: SocketAddr) -> io::Result<Listener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Elsewhere it means that two programs may share a port, and children get no files anyway.
    #[cfg(unix)]
    {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let socket = Async::new(TcpListener::from(socket))?;
    let address = socket.get_ref().local_addr()?;
    Ok(Listener { socket, address })
}
