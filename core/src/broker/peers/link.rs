//! The accounts with one other shard: what was sent, taken, confirmed and is owed.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::super::slots::Key;
use super::msg::{Counters, Msg};
use super::{DELIVER, OWNER};

/// Places that an empty book keeps: as many as a busy link uses from turn to turn.
const KEPT: usize = 1024;

/// Who waits until a message is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A session with acknowledgements for its client.
    Session(Key),
    /// Another shard that sent a message to us as its owner.
    Peer(u16),
    /// A command whose answer waits.
    Reply(u64),
}

/// What must have been taken, and by whom. Nothing, by nobody, at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Need {
    pub(super) lane: usize,
    pub(super) number: u64,
    pub(in crate::broker) shards: u64,
}

impl Need {
    pub(in crate::broker) fn is_nothing(&self) -> bool {
        self.shards == 0
    }
}

/// A message on one link and lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::broker) struct Mark {
    pub(super) shard: usize,
    pub(super) lane: usize,
    pub(super) number: u64,
}

/// Numbers of the last messages of one publisher that were forwarded, by lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Clocks(pub(super) [u64; 2]);

impl Clocks {
    pub(in crate::broker) fn note(&mut self, need: &Need) {
        if !need.is_nothing() {
            self.0[need.lane] = need.number;
        }
    }

    /// What comes after both.
    pub(super) fn join(&mut self, other: &Self) {
        for (number, other) in self.0.iter_mut().zip(other.0) {
            *number = other.max(*number);
        }
    }
}

/// A message of another shard that is not done with.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// It is in all queues here.
    pub(super) here: bool,
    /// And with those it was forwarded to.
    pub(super) need: Need,
}

#[derive(Debug, Default)]
pub(super) struct Link {
    /// What waits to be fetched by the driver.
    pub(super) out: Vec<Msg>,
    /// What to tell, and what was told last.
    pub(super) tell: Counters,
    pub(super) told: Counters,
    /// By lane: bytes of what was taken while memory is short, to be told with the next beat.
    pub(super) kept: [u64; 2],
    /// What the other told last.
    pub(super) heard: Counters,
    /// By lane: number of the last message sent, and bytes of all.
    pub(super) sent: [u64; 2],
    pub(super) sent_bytes: [u64; 2],
    /// By lane: numbers of the messages that are not taken.
    pub(super) under_way: [VecDeque<u64>; 2],
    /// By lane: who waits for which number.
    pub(super) waiters: [VecDeque<(u64, Waiter)>; 2],
    /// By lane: messages taken from the other and not done with, in order.
    pub(super) open: [VecDeque<Open>; 2],
}

impl Link {
    /// Whether all messages up to this number that were sent on this link are taken.
    pub(super) fn has_taken(&self, lane: usize, number: u64) -> bool {
        self.under_way[lane].front().is_none_or(|first| *first > number)
    }

    /// The last message up to this number that is not taken. The number itself may be that of a
    /// message on another link.
    pub(super) fn last_until(&self, lane: usize, number: u64) -> Option<u64> {
        let at = self.under_way[lane].partition_point(|sent| *sent <= number).checked_sub(1)?;
        self.under_way[lane].get(at).copied()
    }

    /// Notes how far the other is.
    pub(super) fn hear(&mut self, counters: Counters) {
        self.heard = counters;
        for lane in [DELIVER, OWNER] {
            let taken = self.heard.taken[lane];
            while self.under_way[lane].pop_front_if(|number| *number <= taken).is_some() {}
            shrink(&mut self.under_way[lane]);
        }
    }

    /// Who is to be told of it next, some of them perhaps again. None who waits meanwhile is among
    /// them: that is always for what is not taken.
    pub(super) fn next_due(&mut self) -> Option<Waiter> {
        for lane in [DELIVER, OWNER] {
            let (taken, waiters) = (self.heard.taken[lane], &mut self.waiters[lane]);
            if let Some((_, waiter)) = waiters.pop_front_if(|(number, _)| *number <= taken) {
                return Some(waiter);
            }
            shrink(waiters);
        }
        None
    }

    /// Takes the first message of the other out that is not done with.
    pub(super) fn close_first(&mut self, lane: usize) {
        if let Some(open) = self.open[lane].pop_front() {
            self.take(lane, open.number, open.bytes);
        }
        shrink(&mut self.open[lane]);
    }

    /// Counts a message of the other as taken, with all before.
    pub(super) fn take(&mut self, lane: usize, number: u64, bytes: u64) {
        self.tell.taken[lane] = number;
        if defect!("credit_lost") && number.is_multiple_of(16) {
            return;
        }
        let count = if self.tell.short { &mut self.kept } else { &mut self.tell.bytes };
        count[lane] = count[lane].saturating_add(bytes);
    }

    /// Gives credit for what was taken while memory is short.
    pub(super) fn give_credit(&mut self) {
        for (bytes, kept) in self.tell.bytes.iter_mut().zip(&mut self.kept) {
            *bytes = bytes.saturating_add(core::mem::take(kept));
        }
    }

    /// Has someone told when a message is taken.
    pub(super) fn wait(&mut self, lane: usize, number: u64, waiter: Waiter) {
        // Mostly it is the last one, but not where a client asks for what it sent before.
        let queue = &mut self.waiters[lane];
        let at = queue.partition_point(|(other, _)| *other <= number);
        queue.insert(at, (number, waiter));
    }

    /// Bytes on their way, or in the other's hands.
    pub(super) fn outstanding(&self, lane: usize) -> u64 {
        self.sent_bytes[lane].saturating_sub(self.heard.bytes[lane])
    }

    pub(super) fn has_news(&self) -> bool {
        !self.out.is_empty() || self.tell != self.told
    }
}

/// Gives back the memory of a book that is empty and was long.
fn shrink<T>(book: &mut VecDeque<T>) {
    if book.is_empty() && book.capacity() > KEPT {
        *book = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_that_were_long_give_their_memory_back() {
        const COUNT: u64 = 100_000;
        let mut link = Link::default();
        for number in 1..=COUNT {
            link.under_way[DELIVER].push_back(number);
            link.wait(DELIVER, number, Waiter::Reply(number));
            let open = Open { number, bytes: 1, here: true, need: Need::default() };
            link.open[DELIVER].push_back(open);
        }
        let counters = Counters { taken: [COUNT, 0], ..Counters::default() };
        link.hear(counters);
        assert_eq!(core::iter::from_fn(|| link.next_due()).count(), COUNT as usize);
        for _ in 0..COUNT {
            link.close_first(DELIVER);
        }
        assert_eq!(link.tell.taken[DELIVER], COUNT);
        let kept = link.under_way[DELIVER].capacity() + link.waiters[DELIVER].capacity();
        assert_eq!(kept + link.open[DELIVER].capacity(), 0);
    }
}
