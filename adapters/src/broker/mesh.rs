//! The way between the shards of a broker: one queue for each pair, and a wake where one sleeps.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fulmar_core::broker::{PeerMsg, Place};

use super::inbox::Inbox;
use super::poller::Waker;

/// What the other shards have for one of them.
struct Mailbox {
    /// By sender.
    queues: Vec<Mutex<Vec<PeerMsg>>>,
    /// Senders whose queue may have something, a bit for each.
    filled: AtomicU64,
    /// The shard waits, or is about to.
    asleep: AtomicBool,
    waker: Waker,
}

/// All that the shards of a broker, and those who talk to them, have in common.
pub(super) struct Mesh {
    /// As shard 0 has it.
    place: Place,
    mailboxes: Vec<Mailbox>,
    pub(super) inboxes: Vec<Arc<Inbox>>,
    /// Connections open on all shards. One shard counts them itself.
    open: AtomicUsize,
    /// Those of them that no shard has: they are not placed yet, or on their way to one.
    under_way: AtomicUsize,
    /// Connections refused before a shard had them.
    refused: AtomicU64,
    pub(super) started: std::time::Instant,
}

impl Mesh {
    pub(super) fn new(key: u64, wakers: Vec<Waker>) -> Self {
        let shards = wakers.len() as u16;
        let inboxes = wakers.iter().map(|waker| Arc::new(Inbox::new(waker.clone()))).collect();
        let mailbox = |waker| Mailbox {
            queues: (0..shards).map(|_| Mutex::default()).collect(),
            filled: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            waker,
        };
        Self {
            place: Place { shard: 0, shards, key },
            mailboxes: wakers.into_iter().map(mailbox).collect(),
            inboxes,
            open: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            started: std::time::Instant::now(),
        }
    }

    pub(super) fn place(&self, shard: u16) -> Place {
        Place { shard, ..self.place }
    }

    /// How many there are.
    pub(super) fn shards(&self) -> u16 {
        self.place.shards
    }

    /// The way to the shard that has a client's session.
    pub(super) fn home(&self, client_id: &str) -> &Arc<Inbox> {
        &self.inboxes[usize::from(self.place.home(client_id))]
    }

    /// Counts a connection, which is under way; false and nothing changed if there are `max`
    /// already.
    pub(super) fn open(&self, max: u32) -> bool {
        let add = |open| (open < max as usize).then_some(open + 1);
        let counted = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        if counted {
            self.leave();
        }
        counted
    }

    /// A connection goes to a shard, from another one or from nowhere.
    pub(super) fn leave(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that was under way is so no longer: a shard has it, or it failed.
    pub(super) fn arrive(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections under way now.
    pub(super) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed) as u64
    }

    /// Counts a connection that no shard is to have.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Such connections since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts one less of those that were counted: not with one shard.
    pub(super) fn closed(&self) {
        if self.shards() == 1 {
            return;
        }
        let less = |open: usize| Some(open.saturating_sub(1));
        let _ = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Adds a batch, which is empty then, to what a shard is to have. True if that sleeps: nobody
    /// else wakes it, so that who is told must do so, or stand in for it.
    #[must_use]
    pub(super) fn send(&self, from: u16, to: u16, batch: &mut Vec<PeerMsg>) -> bool {
        let mailbox = &self.mailboxes[usize::from(to)];
        let queue = &mailbox.queues[usize::from(from)];
        queue.lock().unwrap_or_else(PoisonError::into_inner).append(batch);
        mailbox.filled.fetch_or(1 << from, Ordering::SeqCst);
        // Either it sees the bit before it sleeps, or this sees that it sleeps.
        mailbox.asleep.swap(false, Ordering::SeqCst)
    }

    /// Ends a shard's wait, the present one or the next.
    pub(super) fn wake(&self, shard: u16) {
        self.mailboxes[usize::from(shard)].waker.wake();
    }

    /// How often a shard was woken so far, by other shards and for its inbox.
    pub(super) fn wakes(&self, shard: u16) -> u64 {
        self.mailboxes[usize::from(shard)].waker.wakes()
    }

    /// Whether there is something for a shard that it has not looked at.
    pub(super) fn filled(&self, shard: u16) -> bool {
        self.mailboxes[usize::from(shard)].filled.load(Ordering::SeqCst) != 0
    }

    /// Says that a shard is about to wait; false if it must not, since something is there.
    pub(super) fn sleep(&self, shard: u16) -> bool {
        self.mailboxes[usize::from(shard)].asleep.store(true, Ordering::SeqCst);
        !self.filled(shard)
    }

    /// Says that a shard is awake; gives the set of those that have something for it.
    pub(super) fn awake(&self, shard: u16) -> u64 {
        let mailbox = &self.mailboxes[usize::from(shard)];
        mailbox.asleep.store(false, Ordering::SeqCst);
        mailbox.filled.swap(0, Ordering::SeqCst)
    }

    /// Exchanges what one shard has for another for `batch`, which is empty.
    pub(super) fn receive(&self, from: u16, to: u16, batch: &mut Vec<PeerMsg>) {
        let queue = &self.mailboxes[usize::from(to)].queues[usize::from(from)];
        mem::swap(&mut *queue.lock().unwrap_or_else(PoisonError::into_inner), batch);
    }
}

/// The shards in a set, which has a bit for each.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let number = (set != 0).then(|| set.trailing_zeros() as u16)?;
        set &= set - 1;
        Some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::super::poller::Poller;
    use super::*;

    #[test]
    fn a_shard_is_woken_only_when_it_sleeps_and_never_sleeps_over_a_message() {
        let (poller, waker) = Poller::new().expect("files can be opened");
        let (_other, second) = Poller::new().expect("files can be opened");
        let mesh = Mesh::new(1, vec![waker, second]);
        assert!(mesh.sleep(0));
        assert!(mesh.send(1, 0, &mut Vec::new()), "it sleeps");
        assert!(!mesh.send(1, 0, &mut Vec::new()), "one that was told is enough");
        mesh.wake(0);
        assert!(poller.wait(None, &mut Vec::new()).expect("waiting works"), "woken");
        assert_eq!((mesh.wakes(0), mesh.wakes(1)), (1, 0));
        assert_eq!(mesh.awake(0), 0b10);
        assert!(!mesh.send(1, 0, &mut Vec::new()), "it was awake");
        assert!(mesh.filled(0) && !mesh.sleep(0), "something is there");
        assert_eq!(mesh.awake(0), 0b10);
        assert!(mesh.sleep(0));
    }

    #[test]
    fn connections_of_all_shards_are_counted_together() {
        let (_poller, waker) = Poller::new().expect("files can be opened");
        let (_other, second) = Poller::new().expect("files can be opened");
        let mesh = Mesh::new(1, vec![waker, second]);
        assert!(mesh.open(2) && mesh.open(2) && !mesh.open(2));
        assert_eq!(mesh.under_way(), 2);
        mesh.arrive();
        mesh.closed();
        assert!(mesh.open(2));
        assert_eq!(mesh.under_way(), 2);
    }
}
