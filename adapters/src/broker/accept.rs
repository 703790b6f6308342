//! The thread that accepts connections.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use smol::{Async, LocalExecutor, Timer};

use super::handle::HandleError;
use super::inbox::{Accepted, Inbox, Item};
use super::mesh::Mesh;
use super::notice::Notice;
use super::place::{Bounds, Placer};

/// First pause when the system gives no connection; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A listening socket with its address.
pub(super) struct Listener {
    pub(super) socket: Async<TcpListener>,
    pub(super) address: SocketAddr,
}

/// Accepts on all `listeners` until the other end of `stop` is gone, then closes them.
pub(super) fn run(listeners: Vec<Listener>, mesh: &Arc<Mesh>, bounds: Bounds, stop: &Receiver<()>) {
    let executor = Rc::new(LocalExecutor::new());
    let placer = Placer::new(Arc::clone(mesh), bounds);
    for listener in listeners {
        let acceptor = Acceptor {
            inbox: Arc::clone(&mesh.inboxes[0]),
            alone: mesh.shards() == 1,
            placer: Rc::clone(&placer),
            executor: Rc::downgrade(&executor),
        };
        executor.spawn(async move { acceptor.accept(&listener).await }).detach();
    }
    // Nothing is ever sent: it fails when the other end is gone.
    let _ = smol::block_on(executor.run(stop.recv()));
}

/// What a listener needs.
struct Acceptor {
    /// For what is told.
    inbox: Arc<Inbox>,
    /// There is one shard.
    alone: bool,
    placer: Rc<Placer>,
    /// Runs this, too, and ends with it.
    executor: Weak<LocalExecutor<'static>>,
}

impl Acceptor {
    /// Accepts until the shards have ended.
    async fn accept(&self, listener: &Listener) -> Result<(), HandleError> {
        let mut pause = None;
        loop {
            match listener.socket.read_with(TcpListener::accept).await {
                Ok((stream, remote)) => {
                    if pause.take().is_some() {
                        let listener = listener.address;
                        self.inbox.push(Item::Notice(Notice::AcceptResumed { listener }))?;
                    }
                    self.take(stream, remote)?;
                    // So that a flood on one listener leaves time for the others, and the stop.
                    smol::future::yield_now().await;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    let length = match pause {
                        None => {
                            let listener = listener.address;
                            let notice = Notice::AcceptPaused { listener, error };
                            self.inbox.push(Item::Notice(notice))?;
                            FIRST_PAUSE
                        }
                        Some(last) => MAX_PAUSE.min(last * 2),
                    };
                    pause = Some(length);
                    Timer::after(length).await;
                }
            }
        }
    }

    /// Gives a connection to its shard, ready for use, or has it placed first.
    fn take(&self, stream: TcpStream, remote: SocketAddr) -> Result<(), HandleError> {
        if let Err(error) = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)) {
            return self.inbox.push(Item::Notice(Notice::Failed { remote, error }));
        }
        if self.alone {
            let local = stream.local_addr().ok();
            let (since, bytes) = (None, Vec::new());
            let accepted = Accepted { stream, remote, local, since, bytes };
            return self.inbox.push(Item::Accepted(accepted));
        }
        if let Err(why) = self.placer.admit(remote) {
            return self.inbox.push(Item::Notice(Notice::Refused { remote, why }));
        }
        let Some(executor) = self.executor.upgrade() else { return Err(HandleError::Stopped) };
        executor.spawn(Rc::clone(&self.placer).place(stream, remote)).detach();
        Ok(())
    }
}

/// Whether the next connection may succeed at once, since only this one failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
