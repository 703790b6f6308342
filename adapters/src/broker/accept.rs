//! The thread that accepts connections.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use smol::{Async, LocalExecutor, Timer};

use super::handle::HandleError;
use super::inbox::{Inbox, Item};
use super::notice::Notice;

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
pub(super) fn run(listeners: Vec<Listener>, inbox: &Arc<Inbox>, stop: &Receiver<()>) {
    let executor = LocalExecutor::new();
    for listener in listeners {
        let inbox = Arc::clone(inbox);
        executor.spawn(async move { accept(&listener, &inbox).await }).detach();
    }
    // Nothing is ever sent: it fails when the other end is gone.
    let _ = smol::block_on(executor.run(stop.recv()));
}

/// Accepts until the shard has ended.
async fn accept(listener: &Listener, inbox: &Inbox) -> Result<(), HandleError> {
    let mut pause = None;
    loop {
        match listener.socket.read_with(TcpListener::accept).await {
            Ok((stream, remote)) => {
                if pause.take().is_some() {
                    let listener = listener.address;
                    inbox.push(Item::Notice(Notice::AcceptResumed { listener }))?;
                }
                hand_over(stream, remote, inbox)?;
                // So that a flood on one listener leaves time for the others, and for the stop.
                smol::future::yield_now().await;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let length = match pause {
                    None => {
                        let listener = listener.address;
                        inbox.push(Item::Notice(Notice::AcceptPaused { listener, error }))?;
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

/// Whether the next connection may succeed at once, since only this one failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Gives a connection to the shard, ready for use.
fn hand_over(stream: TcpStream, remote: SocketAddr, inbox: &Inbox) -> Result<(), HandleError> {
    match stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)) {
        Ok(()) => {
            let local = stream.local_addr().ok();
            inbox.push(Item::Accepted { stream, remote, local })
        }
        Err(error) => inbox.push(Item::Notice(Notice::Failed { remote, error })),
    }
}
