//! The memory budget of a shard: who is slowed down, refused and shed as it is used up.

use core::time::Duration;

use super::conn::Conn;
use super::queue::PLACE;
use super::slots::Key;
use super::timers::Timer;
use super::{Broker, DropReason, Event};
use crate::time::Instant;
use crate::topic::Index;

/// Per cent of the budget from which publishers are slowed down.
const SLOW: u64 = 80;
/// Per cent from which nothing new is taken that would stay.
const FULL: u64 = 95;
/// Bytes of a packet a connection may hold even then.
const PARTIAL: usize = 4 * 1024;
/// A slowed connection is read once in this time: slow, but never shut, since it may owe
/// acknowledgements that set memory free.
const BEAT: Duration = Duration::from_millis(100);
/// Pressure for longer than this makes the largest queues shed.
const PATIENCE: Duration = Duration::from_secs(10);

/// An empty index, which remembers topics where that takes little of the budget: a small one is
/// for messages.
pub(super) fn index(seed: u64, budget: u64) -> Index {
    match may_remember(budget) {
        true => Index::with_cache(seed),
        false => Index::new(seed),
    }
}

/// Whether that is so.
pub(super) fn may_remember(budget: u64) -> bool {
    budget / 64 >= Index::CACHE as u64
}

impl Broker {
    /// Bytes charged to the budget.
    #[inline]
    pub(super) fn used(&self) -> u64 {
        let peers = self.peers.as_ref().map_or(0, |peers| peers.footprint());
        let kept = self.messages.bytes() + self.retained.footprint() + peers;
        let kept = kept + self.index.remembered() as u64;
        kept + self.held + self.places * PLACE
    }

    #[inline]
    fn above(&self, percent: u64) -> bool {
        self.used() > self.config.shard_budget / 100 * percent
    }

    /// Whether nothing new can be taken.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.above(FULL)
    }

    /// Whether a connection has to go: the budget is used up, and it holds a part of a packet.
    pub(super) fn is_too_much(&self, conn: &Conn) -> bool {
        conn.machine.buffered() > PARTIAL
            && self.used() + conn.footprint() - conn.charged > self.config.shard_budget
    }

    /// After input: stops reading until the next beat while memory is short.
    pub(super) fn pace(&mut self, now: Instant, key: Key, conn: &mut Conn) {
        if conn.paced || !self.above(SLOW) {
            return;
        }
        conn.paced = true;
        if self.paced.is_empty() {
            self.timers.once(Timer::Pace, now + BEAT);
        }
        self.paced.push(key);
        self.press(now);
    }

    fn press(&mut self, now: Instant) {
        if self.pressed.is_none() {
            self.pressed = Some(now);
            self.timers.once(Timer::Shed, now + PATIENCE);
            self.pressure_event(true);
        }
    }

    /// After input of another shard, or any while memory is short: what other shards send is
    /// paced, too.
    pub(super) fn pace_peers(&mut self, now: Instant) {
        let short = self.above(SLOW);
        if let Some(peers) = &mut self.peers
            && peers.spare_credit(short)
        {
            peers.beating = true;
            self.timers.once(Timer::Credit, now + BEAT);
            self.press(now);
        }
    }

    /// The beat: other shards get as much credit as they had.
    pub(super) fn unpace_peers(&mut self) {
        if let Some(peers) = &mut self.peers {
            peers.beat();
        }
    }

    fn pressure_event(&mut self, on: bool) {
        let (used, budget) = (self.used(), self.config.shard_budget);
        self.event(Event::Pressure { used, budget, on });
    }

    /// The beat: everyone is read once more.
    pub(super) fn unpace(&mut self, now: Instant) {
        for key in core::mem::take(&mut self.paced) {
            let Some(mut conn) = self.conns.take(key) else { continue };
            conn.paced = false;
            if !conn.closing {
                self.set_reading(now, key, &mut conn);
            }
            self.conns.put(key, conn);
        }
    }

    /// Pressure has lasted: the session with the longest queue loses the older half of it.
    pub(super) fn shed(&mut self, now: Instant) {
        if !self.above(SLOW) {
            self.pressed = None;
            self.pressure_event(false);
            return;
        }
        self.timers.once(Timer::Shed, now + Duration::from_secs(1));
        let bytes = |key: Key| self.sessions.get(key).map_or(0, |s| s.queue.bytes());
        let Some(largest) = self.sessions.keys().max_by_key(|key| bytes(*key)) else { return };
        self.unstage(largest);
        let goal = self.sessions.get(largest).map_or(0, |s| s.queue.bytes()) / 2;
        while let Some(session) = self.sessions.get_mut(largest) {
            if session.queue.bytes() <= goal {
                break;
            }
            let plain = session.queue.pop_plain(&mut self.pool);
            let Some(copy) = plain.or_else(|| session.queue.pop_acked(&mut self.pool)) else {
                break;
            };
            self.unqueue(largest, &copy, DropReason::OutOfBudget);
        }
    }
}
