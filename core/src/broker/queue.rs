//! Messages waiting for one session.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::message::Message;
use super::stage::Staged;
use crate::codec::Qos;
use crate::time::Instant;

/// Bytes charged for a place in a queue beside its message.
pub(super) const PLACE: u64 = 48;

/// Subscription Identifiers of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// One, or 0 for none.
    One(u32),
    /// Of several subscriptions that match.
    Many(Box<[u32]>),
}

impl Ids {
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let ids = match self {
            Self::One(0) => &[],
            Self::One(id) => core::slice::from_ref(id),
            Self::Many(ids) => &ids[..],
        };
        ids.iter().copied()
    }

    pub(super) fn push(&mut self, id: u32) {
        if id == 0 {
            return;
        }
        *self = match self {
            Self::One(0) => Self::One(id),
            _ => Self::Many(self.iter().chain([id]).collect()),
        };
    }
}

/// No group.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// A copy of a message for one session.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) message: Arc<Message>,
    pub(super) ids: Ids,
    /// Shared subscription it came by, or [`NO_GROUP`].
    pub(super) group: u32,
    /// The lower of published and granted.
    pub(super) qos: Qos,
    /// RETAIN as it is to be sent.
    pub(super) retain: bool,
}

/// A copy, and its place among the copies of the session.
#[derive(Debug)]
struct Place {
    copy: Copy,
    sequence: u32,
}

/// Two queues, so that QoS 0 need not wait for the window; one order as long as it is open.
#[derive(Debug)]
pub(super) struct Queue {
    plain: VecDeque<Place>,
    acked: VecDeque<Place>,
    /// Before all others, encoded already.
    staged: Staged,
    bytes: u64,
    sequence: u32,
    /// Nothing in the queue expires before.
    next_expiry: Instant,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            plain: VecDeque::new(),
            acked: VecDeque::new(),
            staged: Staged::default(),
            bytes: 0,
            sequence: 0,
            next_expiry: Instant::NEVER,
        }
    }
}

/// Memory of empty queues, so that a busy session does not allocate for each message.
#[derive(Debug, Default)]
pub(super) struct Pool {
    queues: alloc::vec::Vec<VecDeque<Place>>,
    /// Places they have in all.
    places: usize,
    staged: alloc::vec::Vec<Staged>,
}

impl Pool {
    /// Places kept in all, about 400 KiB: enough for a fan-out to 2,000 idle sessions.
    const KEPT: usize = 8 * 1024;
    /// Spare memory for staged messages: a megabyte at most.
    const STAGED: usize = 64;

    fn take(&mut self) -> VecDeque<Place> {
        let queue = self.queues.pop().unwrap_or_default();
        self.places -= queue.capacity();
        queue
    }

    fn give(&mut self, queue: VecDeque<Place>) {
        if queue.capacity() > 0 && self.places + queue.capacity() <= Self::KEPT {
            self.places += queue.capacity();
            self.queues.push(queue);
        }
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.acked.len() + self.staged.count() as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.has_no_copies() && self.staged.count() == 0
    }

    /// Whether at most staged messages wait.
    pub(super) fn has_no_copies(&self) -> bool {
        self.plain.is_empty() && self.acked.is_empty()
    }

    /// The messages encoded already, which go first.
    pub(super) const fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Encodes one more message with `write`, behind those staged before.
    pub(super) fn stage(&mut self, pool: &mut Pool, write: impl FnOnce(&mut alloc::vec::Vec<u8>)) {
        if self.staged.count() == 0 {
            self.staged = pool.staged.pop().unwrap_or_default();
        }
        self.bytes += self.staged.push(write);
    }

    /// Takes what is staged; give it back with [`Queue::put_staged`].
    pub(super) fn take_staged(&mut self) -> Option<Staged> {
        let staged = core::mem::take(&mut self.staged);
        self.bytes -= staged.weight();
        (staged.count() > 0).then_some(staged)
    }

    /// Gives back what was not sent, or the memory of it.
    pub(super) fn put_staged(&mut self, staged: Staged, pool: &mut Pool) {
        if staged.count() > 0 {
            self.bytes += staged.weight();
            self.staged = staged;
        } else if pool.staged.len() < Pool::STAGED {
            pool.staged.push(staged);
        }
    }

    /// Puts a copy of QoS 0 before all others.
    pub(super) fn push_front(&mut self, copy: Copy, pool: &mut Pool) {
        let fronts = [self.plain.front(), self.acked.front()];
        // The older of the two, as in `front_queue`.
        let first = fronts.into_iter().flatten().map(|place| place.sequence);
        let first = first.reduce(|a, b| if (a.wrapping_sub(b) as i32) < 0 { a } else { b });
        let sequence = first.unwrap_or(self.sequence).wrapping_sub(1);
        self.bytes += copy.message.footprint();
        self.next_expiry = self.next_expiry.min(copy.message.head.expires);
        if self.plain.capacity() == 0 {
            self.plain = pool.take();
        }
        self.plain.push_front(Place { copy, sequence });
    }

    /// Bytes of the messages, each at full size.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn push(&mut self, copy: Copy, pool: &mut Pool) {
        self.bytes += copy.message.footprint();
        self.next_expiry = self.next_expiry.min(copy.message.head.expires);
        let queue = if copy.qos == Qos::AtMostOnce { &mut self.plain } else { &mut self.acked };
        if queue.capacity() == 0 {
            *queue = pool.take();
        }
        if defect!("queue_order_wrong") && queue.len() > 2 {
            queue.rotate_left(1);
        }
        queue.push_back(Place { copy, sequence: self.sequence });
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The next copy to send: the oldest, or the oldest of QoS 0 while the `window` is shut.
    pub(super) fn front(&self, window: bool) -> Option<&Copy> {
        self.front_queue(window).and_then(|queue| queue.front()).map(|place| &place.copy)
    }

    fn front_queue(&self, window: bool) -> Option<&VecDeque<Place>> {
        match (self.plain.front(), self.acked.front()) {
            (_, None) => Some(&self.plain),
            (None, Some(_)) if window => Some(&self.acked),
            (None, Some(_)) => None,
            (Some(_), Some(_)) if !window => Some(&self.plain),
            (Some(plain), Some(acked)) => {
                let behind = plain.sequence.wrapping_sub(acked.sequence) as i32;
                Some(if behind < 0 { &self.plain } else { &self.acked })
            }
        }
    }

    /// Takes what [`Queue::front`] shows.
    pub(super) fn pop(&mut self, window: bool, pool: &mut Pool) -> Option<Copy> {
        let plain = core::ptr::eq(self.front_queue(window)?, &raw const self.plain);
        if plain { self.pop_plain(pool) } else { self.pop_acked(pool) }
    }

    /// Takes the oldest copy of QoS 0.
    pub(super) fn pop_plain(&mut self, pool: &mut Pool) -> Option<Copy> {
        Self::pop_from(&mut self.plain, &mut self.bytes, pool)
    }

    /// Takes the oldest copy of QoS 1 or 2.
    pub(super) fn pop_acked(&mut self, pool: &mut Pool) -> Option<Copy> {
        Self::pop_from(&mut self.acked, &mut self.bytes, pool)
    }

    fn pop_from(queue: &mut VecDeque<Place>, bytes: &mut u64, pool: &mut Pool) -> Option<Copy> {
        let place = queue.pop_front()?;
        *bytes -= place.copy.message.footprint();
        if queue.is_empty() {
            pool.give(core::mem::take(queue));
        }
        Some(place.copy)
    }

    /// Removes what has expired; calls `dropped` for each. Looks only when something can have.
    pub(super) fn expire(&mut self, now: Instant, dropped: &mut dyn FnMut(Copy)) {
        if now < self.next_expiry {
            return;
        }
        self.next_expiry = Instant::NEVER;
        for queue in [&mut self.plain, &mut self.acked] {
            for _ in 0..queue.len() {
                let Some(place) = queue.pop_front() else { break };
                let message = &place.copy.message;
                if message.is_expired(now) {
                    self.bytes -= message.footprint();
                    dropped(place.copy);
                } else {
                    self.next_expiry = self.next_expiry.min(message.head.expires);
                    queue.push_back(place);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::message::{Body, Head, MessageId, Messages};
    use super::*;
    use crate::codec::Properties;

    fn copy(messages: &mut Messages, qos: Qos, payload: &[u8], expires: Instant) -> Copy {
        let head = Head { id: MessageId::default(), qos, retain: false, expires, publisher: None };
        let body = |spare| Body::new_in(spare, "t", Properties::EMPTY, payload);
        let message = messages.make(head, 0, body);
        Copy { message, ids: Ids::One(0), group: NO_GROUP, qos, retain: false }
    }

    fn drain(queue: &mut Queue, window: bool, pool: &mut Pool) -> Vec<u8> {
        core::iter::from_fn(|| queue.pop(window, pool)).map(|c| c.message.payload()[0]).collect()
    }

    #[test]
    fn one_order_while_the_window_is_open_and_qos_0_passes_while_it_is_shut() {
        let (mut messages, mut pool) = (Messages::new(1_000_000), Pool::default());
        let mut queue = Queue::default();
        let qos = [1, 0, 2, 0, 1].map(|bits| Qos::from_bits(bits).unwrap());
        for (i, qos) in (0u8..).zip(qos) {
            queue.push(copy(&mut messages, qos, &[i], Instant::NEVER), &mut pool);
        }
        assert_eq!(queue.front(true).unwrap().message.payload(), [0]);
        assert_eq!(drain(&mut queue, false, &mut pool), [1, 3]);
        assert!(queue.front(false).is_none());
        assert_eq!(drain(&mut queue, true, &mut pool), [0, 2, 4]);
        assert_eq!((queue.bytes(), messages.bytes()), (0, 0));
        for (i, qos) in (0u8..).zip(qos) {
            queue.push(copy(&mut messages, qos, &[i], Instant::NEVER), &mut pool);
        }
        assert_eq!(drain(&mut queue, true, &mut pool), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_has_expired_leaves_and_the_rest_keeps_its_order() {
        let (mut messages, mut pool) = (Messages::new(1_000_000), Pool::default());
        let mut queue = Queue::default();
        for (i, seconds) in [5, u64::MAX, 3, 9].into_iter().enumerate() {
            let expires = Instant::ZERO.after_secs(seconds);
            queue.push(copy(&mut messages, Qos::AtLeastOnce, &[i as u8], expires), &mut pool);
        }
        let mut gone = Vec::new();
        queue.expire(Instant::ZERO.after_secs(2), &mut |c| gone.push(c.message.payload()[0]));
        assert!(gone.is_empty());
        queue.expire(Instant::ZERO.after_secs(5), &mut |c| gone.push(c.message.payload()[0]));
        assert_eq!(gone, [0, 2]);
        assert_eq!(drain(&mut queue, true, &mut pool), [1, 3]);
        assert_eq!(messages.bytes(), 0);
    }

    #[test]
    fn identifiers_are_kept_in_order_with_duplicates() {
        let mut ids = Ids::One(0);
        for id in [0, 7, 0, 3, 7] {
            ids.push(id);
        }
        assert_eq!(ids.iter().collect::<Vec<_>>(), [7, 3, 7]);
    }
}
