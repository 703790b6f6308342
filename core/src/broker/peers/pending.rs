//! What the subscriptions of one session wait for from other shards.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::queue::Copy;
use super::super::session::{Options, Session, Subscription, Walk, WalkId};
use super::super::slots::Key;

/// Gates of a session, and those of its walks that cannot go on. Everything is found by filter:
/// one SUBSCRIBE may open thousands of gates, and ask as many questions of each shard.
#[derive(Debug, Default)]
pub(in crate::broker) struct Pending {
    gates: BTreeMap<Arc<str>, Key>,
    /// Walks whose question is not answered, or whose gate is shut.
    walks: BTreeMap<WalkId, Walk>,
    /// Copies behind all the gates, and their bytes.
    held: usize,
    held_bytes: u64,
    /// Places in the queue that are kept for answers under way.
    kept: usize,
    /// First questions under way that may bring many messages, for which none is kept.
    firsts: usize,
}

impl Pending {
    /// The shut gate of a subscription.
    pub(super) fn gate(&self, filter: &str) -> Option<Key> {
        self.gates.get(filter).copied()
    }

    pub(in crate::broker) fn has_gates(&self) -> bool {
        !self.gates.is_empty()
    }

    /// All gates, where the session ends.
    pub(in crate::broker) fn into_gates(self) -> impl Iterator<Item = Key> {
        self.gates.into_values()
    }

    pub(super) fn add_gate(&mut self, filter: &Arc<str>, gate: Key) {
        self.gates.insert(filter.clone(), gate);
    }

    /// A question is under way.
    pub(super) fn asked(&mut self, id: WalkId, walk: Walk) {
        self.walks.insert(id, walk);
    }

    /// The walk that asked a question, if it still wants the answer.
    pub(super) fn asker(&mut self, id: &WalkId, query: u64) -> Option<&mut Walk> {
        self.walks.get_mut(id).filter(|walk| walk.query == query)
    }

    /// Copies behind all the gates, and their bytes.
    pub(in crate::broker) fn held(&self) -> (usize, u64) {
        (self.held, self.held_bytes)
    }

    pub(super) fn hold<'c>(&mut self, copies: impl IntoIterator<Item = &'c Copy>) {
        for copy in copies {
            self.held += 1;
            self.held_bytes += copy.message.footprint();
        }
    }

    pub(super) fn let_go<'c>(&mut self, copies: impl IntoIterator<Item = &'c Copy>) {
        for copy in copies {
            self.held -= 1;
            self.held_bytes -= copy.message.footprint();
        }
    }

    /// Places in the queue that are kept for answers under way.
    pub(in crate::broker) fn kept(&self) -> usize {
        self.kept
    }

    /// First questions under way that may bring many messages.
    pub(super) fn firsts(&self) -> usize {
        self.firsts
    }

    /// A question is under way, for so many places or as one of the first.
    pub(super) fn keep(&mut self, places: usize, first: bool) {
        self.kept += places;
        self.firsts += usize::from(first);
    }

    pub(super) fn give_back(&mut self, places: usize, first: bool) {
        self.kept -= places;
        self.firsts -= usize::from(first);
    }

    fn is_empty(&self) -> bool {
        let asked = self.kept > 0 || self.firsts > 0;
        self.gates.is_empty() && self.walks.is_empty() && !asked
    }
}

/// The walks of one subscription.
fn walks_of(map: &BTreeMap<WalkId, Walk>, filter: &Arc<str>) -> Vec<WalkId> {
    let first = (filter.clone(), None);
    map.range(first..).map(|(id, _)| id).take_while(|id| id.0 == *filter).cloned().collect()
}

impl Session {
    /// The shut gate of a subscription.
    pub(super) fn gate(&self, filter: &str) -> Option<Key> {
        self.pending.as_ref()?.gate(filter)
    }

    /// A gate is shut: the walk of this shard waits, too.
    pub(super) fn shut(&mut self, filter: &Arc<str>) {
        let id = (filter.clone(), None);
        if let Some(walk) = self.walks.remove(self.turn(filter), id.clone()) {
            self.pending.get_or_insert_default().asked(id, walk);
        }
    }

    /// A gate is no more: walks that it held up go on.
    pub(super) fn unshut(&mut self, filter: &Arc<str>, held: &[Copy]) {
        let turn = self.turn(filter);
        let Some(pending) = &mut self.pending else { return };
        pending.gates.remove(&**filter);
        pending.let_go(held);
        for id in walks_of(&pending.walks, filter) {
            if pending.walks.get(&id).is_some_and(|walk| walk.query == 0)
                && let Some(walk) = pending.walks.remove(&id)
            {
                self.walks.insert(turn, id, walk);
            }
        }
        self.tidy();
    }

    /// A walk's question is answered. It goes on unless it is done or its gate is shut.
    pub(super) fn answered(&mut self, id: WalkId, done: bool) {
        let turn = self.turn(&id.0);
        let Some(pending) = &mut self.pending else { return };
        if done {
            pending.walks.remove(&id);
        } else if pending.gate(&id.0).is_none()
            && let Some(walk) = pending.walks.remove(&id)
        {
            self.walks.insert(turn, id, walk);
        }
        self.tidy();
    }

    /// A subscription is replaced: of its walks on other shards go on, with new options, those
    /// whose first question is not answered. Gives their shards.
    pub(super) fn renew(&mut self, filter: &Arc<str>, options: Options) -> u64 {
        let Some(pending) = &mut self.pending else { return 0 };
        let mut fresh = 0;
        for id in walks_of(&pending.walks, filter) {
            let Some(owner) = id.1 else { continue };
            match pending.walks.get_mut(&id) {
                Some(walk) if walk.query != 0 && walk.cursor.upto().is_none() => {
                    walk.options = options;
                    fresh |= 1 << owner;
                }
                _ => {
                    pending.walks.remove(&id);
                }
            }
        }
        fresh
    }

    /// A subscription is no more, nor are its walks.
    pub(in crate::broker) fn forget_walks(&mut self, gone: &Subscription) {
        self.walks.forget(gone.turn, &gone.filter);
        let Some(pending) = &mut self.pending else { return };
        for id in walks_of(&pending.walks, &gone.filter) {
            pending.walks.remove(&id);
        }
        self.tidy();
    }

    /// Whoever waits for nothing keeps nothing.
    pub(super) fn tidy(&mut self) {
        if self.pending.as_ref().is_some_and(|pending| pending.is_empty()) {
            self.pending = None;
        }
    }

    /// For a gate or a question.
    pub(super) fn pending(&mut self) -> &mut Box<Pending> {
        self.pending.get_or_insert_default()
    }
}
