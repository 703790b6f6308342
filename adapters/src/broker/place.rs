//! Finds out which shard a new connection belongs to, before any shard sees it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fulmar_core::broker::OpenError;
use fulmar_core::codec::{Peek, peek_connect};
use smol::{Async, Timer, future};

use super::handle::HandleError;
use super::inbox::{Accepted, Inbox, Item};
use super::mesh::Mesh;
use super::notice::Notice;
use super::shard::Clock;

/// Bytes read at once.
const STEP: usize = 2 * 1024;
/// Bytes looked into: little, since they are on no account yet. A shard finds the identifier
/// behind more of them itself.
const LOOK: usize = 4 * 1024;

/// Limits of connections that were not given to a shard yet.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections: u32,
    pub(super) unplaced: u32,
    pub(super) unplaced_per_address: u32,
    pub(super) timeout: Duration,
}

/// Connections of which too little has come, in all and by address.
#[derive(Default)]
struct Unplaced {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// Places connections. Lives on the thread that accepts.
pub(super) struct Placer {
    pub(super) mesh: Arc<Mesh>,
    bounds: Bounds,
    unplaced: RefCell<Unplaced>,
    /// The shard of the last connection that could go to any.
    last: Cell<usize>,
}

impl Placer {
    pub(super) fn new(mesh: Arc<Mesh>, bounds: Bounds) -> Rc<Self> {
        Rc::new(Self { mesh, bounds, unplaced: RefCell::default(), last: Cell::new(0) })
    }

    /// Counts a connection, or says which limit is reached. With one shard that counts itself.
    pub(super) fn admit(&self, remote: SocketAddr) -> Result<(), OpenError> {
        if self.mesh.shards() == 1 {
            return Ok(());
        }
        let mut unplaced = self.unplaced.borrow_mut();
        if unplaced.all >= self.bounds.unplaced {
            return Err(OpenError::TooManyUnauthenticated);
        }
        let count = unplaced.by_address.get(&remote.ip()).copied().unwrap_or(0);
        if count >= self.bounds.unplaced_per_address {
            return Err(OpenError::TooManyFromAddress);
        }
        if !self.mesh.open(self.bounds.connections) {
            return Err(OpenError::TooManyConnections);
        }
        unplaced.all += 1;
        unplaced.by_address.insert(remote.ip(), count + 1);
        Ok(())
    }

    /// One shard after the other.
    fn anyone(&self) -> &Arc<Inbox> {
        let next = (self.last.get() + 1) % self.mesh.inboxes.len();
        self.last.set(next);
        &self.mesh.inboxes[next]
    }

    fn settle(&self, remote: SocketAddr) {
        let mut unplaced = self.unplaced.borrow_mut();
        unplaced.all -= 1;
        match unplaced.by_address.get_mut(&remote.ip()) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                unplaced.by_address.remove(&remote.ip());
            }
        }
    }

    /// Reads until the Client Identifier has come, and gives the connection to its shard; one that
    /// will have none goes to any shard, which says what there is to say.
    pub(super) async fn place(
        self: Rc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<(), HandleError> {
        let since = Clock(self.mesh.started).now();
        let mut bytes = Vec::new();
        let stream = match Async::new_nonblocking(stream) {
            Ok(stream) => {
                let timeout = async {
                    Timer::after(self.bounds.timeout).await;
                };
                future::or(read(&stream, &mut bytes), timeout).await;
                stream.into_inner()
            }
            Err(error) => Err(error),
        };
        self.settle(remote);
        let inbox = match peek_connect(&bytes) {
            Peek::Client(id) if !id.is_empty() => self.mesh.home(id),
            _ => self.anyone(),
        };
        let item = match stream {
            Ok(stream) => {
                let since = Some(since);
                Item::Accepted(Accepted { stream, remote, local, since, bytes })
            }
            Err(error) => {
                self.mesh.arrive();
                self.mesh.closed();
                // As a shard counts one that fails before it is a client.
                self.mesh.refuse();
                Item::Notice(Notice::Failed { remote, error })
            }
        };
        inbox.push(item)
    }
}

/// Reads until it is known what to do, or nothing more comes.
async fn read(stream: &Async<TcpStream>, bytes: &mut Vec<u8>) {
    // Apart, since this may be left at the next wait.
    let mut step = [0; STEP];
    while peek_connect(bytes) == Peek::More && bytes.len() < LOOK {
        match stream.read_with(|mut stream| stream.read(&mut step)).await {
            Ok(0) => return,
            Ok(n) => bytes.extend_from_slice(&step[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
