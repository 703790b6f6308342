//! Retained messages still to be queued for a session, subscription by subscription.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::session::{Walk, WalkId};

/// Walks that can go on, in the order in which they came; without one it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Walks(VecDeque<(WalkId, Walk)>);

impl Walks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one behind all others, in place of one of the same name.
    pub(super) fn insert(&mut self, id: WalkId, walk: Walk) {
        self.remove(&id);
        self.0.push_back((id, walk));
    }

    pub(super) fn remove(&mut self, id: &WalkId) -> Option<Walk> {
        let at = self.0.iter().position(|(other, _)| other == id)?;
        let (_, walk) = self.0.remove(at)?;
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        Some(walk)
    }

    pub(super) fn first(&mut self) -> Option<(&WalkId, &mut Walk)> {
        self.0.front_mut().map(|(id, walk)| (&*id, walk))
    }

    pub(super) fn pop_first(&mut self) -> Option<(WalkId, Walk)> {
        let first = self.0.pop_front();
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        first
    }

    /// The names of those of one subscription.
    pub(super) fn of(&self, filter: &Arc<str>) -> Vec<WalkId> {
        self.0.iter().map(|(id, _)| id).filter(|id| id.0 == *filter).cloned().collect()
    }
}
