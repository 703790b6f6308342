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
/// Connections accepted and handed over at one stroke: few, since the first waits for the last.
const BURST: usize = 16;

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
        let mut new = Vec::new();
        loop {
            match listener.socket.read_with(|socket| accept_some(socket, &mut new)).await {
                Ok(()) => {
                    if pause.take().is_some() {
                        let listener = listener.address;
                        self.inbox.push(Item::Notice(Notice::AcceptResumed { listener }))?;
                    }
                    self.take(&mut new, listener.address)?;
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

    /// Gives connections to their shard, or has them placed first.
    fn take(&self, new: &mut Vec<New>, listener: SocketAddr) -> Result<(), HandleError> {
        if self.alone {
            let accepted = new.drain(..).map(|(stream, remote)| {
                let local = local_address(&stream, listener);
                Accepted { stream, remote, local, since: None, bytes: Vec::new() }
            });
            return self.inbox.push_accepted(accepted.collect());
        }
        for (stream, remote) in new.drain(..) {
            if let Err(why) = self.placer.admit(remote) {
                self.placer.mesh.refuse();
                self.inbox.push(Item::Notice(Notice::Refused { remote, why }))?;
                continue;
            }
            let Some(executor) = self.executor.upgrade() else { return Err(HandleError::Stopped) };
            let local = local_address(&stream, listener);
            executor.spawn(Rc::clone(&self.placer).place(stream, remote, local)).detach();
        }
        Ok(())
    }
}

/// A connection and its other end.
type New = (TcpStream, SocketAddr);

/// Accepts one connection at least, and those that wait behind it. An error after the first one
/// comes again, or was about a connection that is gone.
fn accept_some(listener: &TcpListener, new: &mut Vec<New>) -> io::Result<()> {
    new.push(accept_one(listener)?);
    while new.len() < BURST
        && let Ok(more) = accept_one(listener)
    {
        new.push(more);
    }
    Ok(())
}

/// The next connection: non-blocking, and without delays to save packets. With Linux both cost no
/// call of their own: the second is as the listener has it.
#[cfg(target_os = "linux")]
fn accept_one(listener: &TcpListener) -> io::Result<New> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    let (socket, remote) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let remote = remote.and_then(|remote| SocketAddr::try_from(remote).ok());
    let remote = remote.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok((TcpStream::from(socket), remote))
}

#[cfg(not(target_os = "linux"))]
fn accept_one(listener: &TcpListener) -> io::Result<New> {
    let (stream, remote) = listener.accept()?;
    // Fails only if the connection is gone.
    let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
    ready.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok((stream, remote))
}

/// The address that a connection came to: the system is asked only where the listener has all.
fn local_address(stream: &TcpStream, listener: SocketAddr) -> Option<SocketAddr> {
    match listener.ip().is_unspecified() {
        true => stream.local_addr().ok(),
        false => Some(listener),
    }
}

/// Whether the next connection may succeed at once, since only this one failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
