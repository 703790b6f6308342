//! Messages on their way from the shard to the embedding program.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use fulmar_core::broker::{Delivery, SubscriberId};
use smol::stream::Stream;

use super::inbox::{Inbox, Item};

/// Messages between shard and program. Few, since the rest waits in the core's queue, where it is
/// limited and its loss counted.
const ROOM: usize = 64;

#[derive(Default)]
struct State {
    messages: VecDeque<Delivery>,
    /// The shard has more and wants to hear of room.
    stalled: bool,
    ended: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    overflow: AtomicU64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shard's end of a queue; dropping it ends the subscription's stream.
pub(super) struct Feed(Arc<Queue>);

impl Feed {
    /// Two ends of a new queue.
    pub(super) fn new(id: SubscriberId, inbox: Arc<Inbox>) -> (Self, Subscription) {
        let queue = Arc::new(Queue::default());
        (Self(Arc::clone(&queue)), Subscription { id, queue, inbox })
    }

    /// Takes messages from `next` until it gives none or the queue is full. Says whether it is
    /// full; then [`Item::Room`] comes when it has drained.
    pub(super) fn fill(&self, mut next: impl FnMut() -> Option<Delivery>) -> bool {
        let mut state = self.0.lock();
        let before = state.messages.len();
        state.stalled = loop {
            if state.messages.len() >= ROOM {
                break true;
            }
            let Some(delivery) = next() else { break false };
            state.messages.push_back(delivery);
        };
        let waker = if state.messages.len() > before { state.waker.take() } else { None };
        let full = state.stalled;
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        full
    }

    /// Tells the program how many copies were lost.
    pub(super) fn set_overflow(&self, lost: u64) {
        self.0.overflow.store(lost, Ordering::Relaxed);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.lock();
            state.ended = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A subscription of the embedding program, made by
/// [`BrokerHandle::subscribe`](super::BrokerHandle::subscribe): a stream of messages.
///
/// Dropping it unsubscribes.
pub struct Subscription {
    id: SubscriberId,
    queue: Arc<Queue>,
    inbox: Arc<Inbox>,
}

impl Subscription {
    /// The next message; `None` when the broker has stopped and all are taken. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Messages lost since the subscription was made because the program did not take them in
    /// time: those beyond the capacity it asked for.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.queue.overflow.load(Ordering::Relaxed)
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<Delivery>> {
        let mut state = self.queue.lock();
        let delivery = state.messages.pop_front();
        if delivery.is_none() && !state.ended {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        // Half of the room, so that the shard is not called for every message.
        let room = state.stalled && state.messages.len() <= ROOM / 2;
        if room {
            state.stalled = false;
        }
        drop(state);
        if room {
            // Refused only when the shard has ended, which the stream tells.
            let _ = self.inbox.push(Item::Room(self.id));
        }
        Poll::Ready(delivery)
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Refused only when the shard has ended, and the subscription with it.
        let _ = self.inbox.push(Item::Unsubscribe(self.id));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}
