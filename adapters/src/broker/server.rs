//! A broker from its options to its end.

use std::fmt;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use async_channel::{Receiver, Sender};
use fulmar_core::broker::{Config, MAX_SHARDS};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use smol::Async;

use super::accept::{self, Listener};
use super::handle::BrokerHandle;
use super::inbox::Item;
use super::mesh::Mesh;
use super::notice::Notice;
use super::place::Bounds;
use super::poller::Poller;
use super::seat::{Seats, panicked};
use super::shard::{Parts, Shard};
use super::{Authenticate, Observe, Options};

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
    /// The memory budget is too small for so many shards.
    Memory {
        /// How many.
        shards: u16,
        /// For how many it is enough.
        enough: u16,
    },
    /// More shards were asked for than there can be.
    Shards {
        /// How many.
        shards: u16,
    },
    /// The system has no files or memory left.
    System(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, error) = match self {
            Self::Listen { address, error } => (address, error),
            Self::System(error) => return write!(f, "cannot start: {error}"),
            Self::Memory { shards, enough } => {
                let least = Config::LEAST_BUDGET >> 20;
                return write!(
                    f,
                    "memory_budget is enough for {enough} of {shards} shards, which need {least} \
                     MiB each; raise it or ask for fewer shards"
                );
            }
            Self::Shards { shards } => {
                return write!(
                    f,
                    "{shards} shards are too many; ask for {MAX_SHARDS} at most, or for 0, which \
                     is one per core"
                );
            }
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
            Self::Memory { .. } | Self::Shards { .. } => None,
        }
    }
}

/// Ends what handles wait for when the server goes, in whatever way.
struct Life {
    mesh: Arc<Mesh>,
    /// The other end is held by the handles, which see when this one goes.
    _running: Sender<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.mesh.inboxes.iter().for_each(|inbox| inbox.close());
    }
}

/// A broker that listens, and serves as soon as it runs.
///
/// Dropping it without running it stops it.
pub struct Server {
    options: Options,
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    /// One for each shard.
    pollers: Vec<Poller>,
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
    /// (Windows), or there are too many shards, or the memory budget is too small for them; nothing
    /// is listened on then.
    pub fn bind(options: Options) -> Result<Self, BindError> {
        let shards = shards(options.shards, &options.config)?;
        let mut listeners = Vec::new();
        for &address in &options.listeners {
            let listener = listen_on(address);
            listeners.push(listener.map_err(|error| BindError::Listen { address, error })?);
        }
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        let (mut pollers, mut wakers) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let (poller, waker) = Poller::new().map_err(BindError::System)?;
            pollers.push(poller);
            wakers.push(waker);
        }
        let key = getrandom::u64().map_err(|error| BindError::System(error.into()))?;
        let (running, stopped) = async_channel::bounded(1);
        let life = Life { mesh: Arc::new(Mesh::new(key, wakers)), _running: running };
        Ok(Self { options, listeners, addresses, pollers, stopped, life })
    }

    /// The addresses listened on, in the order of the options, with the ports the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle; any number may be made, now or by cloning one.
    #[must_use]
    pub fn handle(&self) -> BrokerHandle {
        BrokerHandle { mesh: Arc::clone(&self.life.mesh), stopped: self.stopped.clone() }
    }

    /// Serves on the present thread, and on one more for each shard but the first and for
    /// accepting, until a handle stops it.
    ///
    /// With the GNU C library, freed memory at the end of a heap is kept up to 2 MiB from now on,
    /// in the whole process: large messages need no new pages then.
    ///
    /// # Errors
    /// The system gave no thread or no random seed, its readiness poller failed, or a shard
    /// panicked (in a callback, say) and not in a turn of the first one on this thread, whose panic
    /// is passed on.
    pub fn run(self) -> io::Result<()> {
        let Self { mut options, listeners, addresses, pollers, stopped: _, life } = self;
        let mesh = &life.mesh;
        let prepare = mem::replace(&mut options.prepare, Box::new(|_| {}));
        keep_freed_memory();
        for &address in &addresses {
            (options.observe)(&Notice::Listening(address));
        }
        let bounds = Bounds {
            connections: options.config.max_connections,
            unplaced: options.config.max_unauthenticated,
            unplaced_per_address: options.config.max_unauthenticated_per_address,
            timeout: options.config.connect_timeout,
        };
        let (accepting, stop) = async_channel::bounded(1);
        let shards = make_shards(options, pollers, mesh, accepting)?;
        let mut others = Others { threads: Vec::new(), accepts: None, mesh: Arc::clone(mesh) };
        let numbers = 1..shards.len() as u16;
        let seats = Arc::new(Seats::new(shards, mesh, prepare));
        for number in numbers {
            let (mesh, seats) = (Arc::clone(mesh), Arc::clone(&seats));
            let name = format!("fulmar-shard-{number}");
            let serve = move || Ends(&mesh).after(|| seats.serve(number));
            others.threads.push(Builder::new().name(name).spawn(serve)?);
        }
        let placing = Arc::clone(mesh);
        let accept = move || accept::run(listeners, &placing, bounds, &stop);
        others.accepts = Some(Builder::new().name("fulmar-accept".into()).spawn(accept)?);
        // Last: threads that are started take after the one that starts them.
        let result = Ends(mesh).after(|| seats.serve(0));
        // The listening sockets are closed when this returns.
        result.and(others.join())
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

/// The GNU C library gives memory at the end of its heap back to the system when 128 KiB of it are
/// free, and the system clears it anew, page by page, for the next large packets. After a mapped
/// block was freed, it waits for twice the size of that. Other allocators do not mind.
fn keep_freed_memory() {
    const BLOCK: usize = 1024 * 1024;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK)));
}

/// Ends all shards when one of them fails or panics: no other one can do its work.
struct Ends<'m>(&'m Mesh);

impl Ends<'_> {
    fn after(self, serve: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let result = serve();
        if result.is_err() {
            abort(self.0);
        }
        result
    }
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            abort(self.0);
        }
    }
}

fn abort(mesh: &Mesh) {
    for inbox in &mesh.inboxes {
        // Refused only by one that has ended.
        let _ = inbox.push(Item::Abort);
    }
}

/// The threads of all shards but the first, and the one that accepts.
struct Others {
    threads: Vec<JoinHandle<io::Result<()>>>,
    accepts: Option<JoinHandle<()>>,
    mesh: Arc<Mesh>,
}

impl Others {
    /// Waits for them all; gives what failed first.
    fn join(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        for (number, thread) in (1..).zip(self.threads.drain(..)) {
            let ended = thread.join().unwrap_or_else(|_| Err(panicked(number)));
            result = result.and(ended);
        }
        let accepted = self.accepts.take().map_or(Ok(()), JoinHandle::join);
        result.and(accepted.map_err(|_| io::Error::other("the accepting thread panicked")))
    }
}

impl Drop for Others {
    /// All have ended, or not all of them could be started, or the first shard panicked: then they
    /// are waited for, since what tells them to end is thrown away when the server goes.
    fn drop(&mut self) {
        if !self.threads.is_empty() || self.accepts.is_some() {
            abort(&self.mesh);
            let _ = self.join();
        }
    }
}

/// How many shards a server has that is asked for so many: with 0 one per core, or fewer where the
/// memory budget is not enough.
///
/// # Errors
/// [`BindError::Shards`] for more than 64, [`BindError::Memory`] where the budget is not enough for
/// those that were asked for.
pub fn shards(asked: u16, config: &Config) -> Result<u16, BindError> {
    let enough = config.shard_budget / Config::LEAST_BUDGET;
    let enough = enough.clamp(1, MAX_SHARDS.into()) as u16;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    match asked {
        0 => Ok(cores().min(enough.into()) as u16),
        shards if shards > MAX_SHARDS => Err(BindError::Shards { shards }),
        shards if shards > enough => Err(BindError::Memory { shards, enough }),
        shards => Ok(shards),
    }
}

/// All shards, one for each poller. Fails when the system gives no random seed.
pub(super) fn make_shards(
    options: Options,
    pollers: Vec<Poller>,
    mesh: &Arc<Mesh>,
    accepting: Sender<()>,
) -> io::Result<Vec<Shard>> {
    let parts = parts(options, pollers.len()).zip((0..).zip(pollers));
    parts
        .map(|(parts, (shard, poller))| {
            Shard::new(parts, shard, poller, Arc::clone(mesh), accepting.clone())
        })
        .collect()
}

/// What each shard is made from. What is told and asked by several goes through a lock.
fn parts(options: Options, shards: usize) -> impl Iterator<Item = Parts> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let Options { config, shutdown_timeout, record, authenticate, observe, .. } = options;
    let config = config.of_one(shards as u16);
    let mut alone = Some((authenticate, observe));
    let shared = (shards > 1).then(|| alone.take()).flatten().map(|(authenticate, observe)| {
        (Arc::new(Mutex::new(authenticate)), Arc::new(Mutex::new(observe)))
    });
    (0..shards).filter_map(move |_| {
        let (authenticate, observe): (Authenticate, Observe) = match &shared {
            None => alone.take()?,
            Some((authenticate, observe)) => {
                let (authenticate, observe) = (Arc::clone(authenticate), Arc::clone(observe));
                let decide = move |conn, request: &_| (lock(&authenticate))(conn, request);
                (Box::new(decide), Box::new(move |notice: &_| (lock(&observe))(notice)))
            }
        };
        let (config, record) = (config.clone(), record.clone());
        Some(Parts { config, authenticate, observe, record, shutdown_timeout, unix })
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    // Connections take it from the listener.
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let socket = Async::new(TcpListener::from(socket))?;
    let address = socket.get_ref().local_addr()?;
    Ok(Listener { socket, address })
}
