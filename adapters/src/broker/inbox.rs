//! What other threads ask of the shard.

use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_channel::Sender;
use fulmar_core::Instant;
use fulmar_core::broker::{Command, Reply, SubscriberId};
use fulmar_core::codec::ReasonCode;

use super::handle::{HandleError, Statistics};
use super::notice::Notice;
use super::poller::Waker;
use super::subscription::Subscription;

/// Requests of the embedding program that may wait: more than a shard answers in a turn, and
/// little memory.
const MAX_REQUESTS: usize = 4_096;

/// Something for the shard.
pub(super) enum Item {
    /// A connection, non-blocking.
    Accepted(Accepted),
    /// Carry out and answer.
    Command { command: Command, answer: Sender<Reply> },
    /// Carry out a [`Command::Subscribe`].
    Subscribe { command: Command, answer: Sender<Result<Subscription, ReasonCode>> },
    /// Answer with the figures.
    Statistics(Sender<Statistics>),
    /// A subscription was dropped.
    Unsubscribe(SubscriberId),
    /// A subscription whose queue was full has room.
    Room(SubscriberId),
    /// Tell the observer.
    Notice(Notice),
    /// Begin the shutdown.
    Stop,
    /// End at once.
    Abort,
}

/// A connection on its way to a shard.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) remote: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    /// When it was opened, if that was some time ago: it was under way then.
    pub(super) since: Option<Instant>,
    /// What was read already.
    pub(super) bytes: Vec<u8>,
}

impl Item {
    const fn is_request(&self) -> bool {
        matches!(self, Self::Command { .. } | Self::Subscribe { .. } | Self::Statistics(_))
    }
}

#[derive(Default)]
struct Waiting {
    items: Vec<Item>,
    requests: usize,
    closed: bool,
}

/// The way to the shard, for every other thread; emptied by the shard at one stroke.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    waker: Waker,
}

impl Inbox {
    pub(super) fn new(waker: Waker) -> Self {
        Self { waiting: Mutex::default(), waker }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an item over. Refused when the shard has ended, or a request when too many wait.
    pub(super) fn push(&self, item: Item) -> Result<(), HandleError> {
        let requests = usize::from(item.is_request());
        self.hand_over([item], requests)
    }

    /// Hands connections over at one stroke. Refused when the shard has ended.
    pub(super) fn push_accepted(&self, all: Vec<Accepted>) -> Result<(), HandleError> {
        self.hand_over(all.into_iter().map(Item::Accepted), 0)
    }

    fn hand_over(
        &self,
        items: impl IntoIterator<Item = Item>,
        requests: usize,
    ) -> Result<(), HandleError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(HandleError::Stopped);
        }
        if requests > 0 && waiting.requests + requests > MAX_REQUESTS {
            return Err(HandleError::Busy);
        }
        waiting.requests += requests;
        let first = waiting.items.is_empty();
        waiting.items.extend(items);
        drop(waiting);
        if first {
            self.waker.wake();
        }
        Ok(())
    }

    /// Exchanges what waits for `items`, which is empty.
    pub(super) fn take(&self, items: &mut Vec<Item>) {
        let mut waiting = self.lock();
        waiting.requests = 0;
        mem::swap(&mut waiting.items, items);
    }

    /// Refuses everything from now on; who waits for an answer learns it.
    pub(super) fn close(&self) {
        let items = {
            let mut waiting = self.lock();
            waiting.closed = true;
            mem::take(&mut waiting.items)
        };
        drop(items);
    }
}

#[cfg(test)]
mod tests {
    use super::super::poller::Poller;
    use super::*;

    #[test]
    fn requests_are_refused_beyond_the_limit_and_after_the_end() {
        let (poller, waker) = Poller::new().expect("files can be opened");
        let inbox = Inbox::new(waker);
        let (answer, answers) = async_channel::bounded(1);
        for _ in 0..MAX_REQUESTS {
            assert_eq!(inbox.push(Item::Statistics(answer.clone())), Ok(()));
        }
        assert_eq!(inbox.push(Item::Statistics(answer.clone())), Err(HandleError::Busy));
        assert_eq!(inbox.push(Item::Stop), Ok(()));
        assert!(poller.wait(None, &mut Vec::new()).expect("waiting works"));

        let mut items = Vec::new();
        inbox.take(&mut items);
        assert_eq!(items.len(), MAX_REQUESTS + 1);
        items.clear();
        assert_eq!(inbox.push(Item::Statistics(answer)), Ok(()));

        inbox.close();
        assert_eq!(inbox.push(Item::Stop), Err(HandleError::Stopped));
        assert!(answers.is_closed(), "who waits for an answer waits for ever");
    }
}
