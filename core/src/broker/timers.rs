//! Deadlines of a shard: one for each connection and session that has any, re-armed lazily.

use alloc::collections::BTreeSet;

use super::slots::Key;
use crate::time::Instant;

/// Whose deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// CONNECT or keep alive of a connection.
    Conn(Key),
    /// Will and expiry of a session.
    Session(Key),
    /// The retained message that expires first.
    Retained,
    /// Paced connections are read again.
    Pace,
    /// Other shards get credit again.
    Credit,
    /// The budget is looked at again.
    Shed,
}

/// Deadlines in order; equal ones in the order of [`Timer`].
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    /// Moves a deadline from `armed` (or [`Instant::NEVER`]) to `at` (likewise).
    pub(super) fn arm(&mut self, timer: Timer, armed: &mut Instant, at: Instant) {
        if *armed == at {
            return;
        }
        if *armed != Instant::NEVER {
            self.0.remove(&(*armed, timer));
        }
        if at != Instant::NEVER {
            self.0.insert((at, timer));
        }
        *armed = at;
    }

    /// A deadline that is not moved.
    pub(super) fn once(&mut self, timer: Timer, at: Instant) {
        self.0.insert((at, timer));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(timer)
    }
}
