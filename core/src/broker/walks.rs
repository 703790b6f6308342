//! Retained messages still to be queued for a session, subscription by subscription.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::session::{Walk, WalkId};

/// Walks that can go on, in the order in which they came. Found by their names in little time,
/// since one SUBSCRIBE may bring thousands; without one it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Walks(Option<Box<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    by_turn: BTreeMap<u64, (WalkId, Walk)>,
    turns: BTreeMap<WalkId, u64>,
    next: u64,
}

impl Walks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds one behind all others, in place of one of the same name.
    pub(super) fn insert(&mut self, id: WalkId, walk: Walk) {
        self.remove(&id);
        let inner = self.0.get_or_insert_default();
        inner.next += 1;
        inner.turns.insert(id.clone(), inner.next);
        inner.by_turn.insert(inner.next, (id, walk));
    }

    pub(super) fn remove(&mut self, id: &WalkId) -> Option<Walk> {
        let inner = self.0.as_mut()?;
        let turn = inner.turns.remove(id)?;
        let (_, walk) = inner.by_turn.remove(&turn)?;
        if inner.turns.is_empty() {
            self.0 = None;
        }
        Some(walk)
    }

    pub(super) fn first(&mut self) -> Option<(&WalkId, &mut Walk)> {
        let (_, (id, walk)) = self.0.as_mut()?.by_turn.iter_mut().next()?;
        Some((id, walk))
    }

    pub(super) fn pop_first(&mut self) -> Option<(WalkId, Walk)> {
        let id = self.first()?.0.clone();
        let walk = self.remove(&id)?;
        Some((id, walk))
    }

    /// The names of those of one subscription.
    pub(super) fn of(&self, filter: &Arc<str>) -> Vec<WalkId> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let first = (filter.clone(), None);
        let ids = inner.turns.range(first..).map(|(id, _)| id);
        ids.take_while(|id| id.0 == *filter).cloned().collect()
    }
}
