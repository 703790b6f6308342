//! Retained messages still to be queued for a session, subscription by subscription.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::session::{Session, Walk, WalkId};

/// Walks that can go on, by the turns of their subscriptions, so that they come in the order of the
/// filters. One SUBSCRIBE may bring thousands: each is found by turn and name, without a search.
/// Without one it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Walks {
    map: BTreeMap<(u32, WalkId), Walk>,
    /// The turn given last. Subscriptions of the same turn are told apart by name.
    last: u32,
}

impl Walks {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn insert(&mut self, turn: u32, id: WalkId, walk: Walk) {
        self.map.insert((turn, id), walk);
    }

    pub(super) fn remove(&mut self, turn: u32, id: WalkId) -> Option<Walk> {
        let walk = self.map.remove(&(turn, id));
        self.tidy();
        walk
    }

    pub(super) fn first(&mut self) -> Option<(&WalkId, &mut Walk)> {
        self.map.iter_mut().next().map(|((_, id), walk)| (id, walk))
    }

    pub(super) fn pop_first(&mut self) -> Option<(WalkId, Walk)> {
        let first = self.map.pop_first();
        self.tidy();
        first.map(|((_, id), walk)| (id, walk))
    }

    /// Takes away those of one subscription.
    pub(super) fn forget(&mut self, turn: u32, filter: &Arc<str>) {
        if self.map.is_empty() {
            return;
        }
        let first = (turn, (filter.clone(), None));
        let theirs = self.map.range(first..).map(|(key, _)| key);
        let theirs = theirs.take_while(|(of, id)| *of == turn && id.0 == *filter).cloned();
        for key in theirs.collect::<Vec<_>>() {
            self.map.remove(&key);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.map.is_empty() {
            self.map = BTreeMap::new();
        }
    }
}

impl Session {
    /// Retained messages are wanted for a subscription: behind those of all others, and instead of
    /// what is still to come of an older wish. Gives its turn.
    pub(super) fn next_turn(&mut self, filter: &Arc<str>) -> u32 {
        if self.walks.is_empty() && self.pending.is_none() {
            self.walks.last = 0;
        }
        // After 2^32 wishes without a rest they come in the order of the texts.
        self.walks.last = self.walks.last.saturating_add(1);
        let turn = self.walks.last;
        if let Ok(at) = self.find(filter) {
            let before = core::mem::replace(&mut self.subscriptions[at].turn, turn);
            self.walks.forget(before, filter);
        }
        turn
    }

    /// The turn of a subscription.
    pub(super) fn turn(&self, filter: &str) -> u32 {
        self.find(filter).map_or(0, |at| self.subscriptions[at].turn)
    }
}
