//! Shared groups with members on several shards.

use alloc::sync::Arc;

use super::super::fanout::Target;
use super::super::message::Message;
use super::super::{Broker, DropReason};
use super::msg::{Change, Way};
use super::routes::Counts;
use super::{DELIVER, Group};
use crate::time::Instant;
use alloc::vec::Vec;

/// A group that a session leaves: its number, when it was made, and its full text.
pub(in crate::broker) type Leaving = (u32, u64, Arc<str>);

/// Shards, and groups by their full text.
pub(super) type Shares = Vec<(u16, Arc<str>)>;

/// Memory for the groups of the next message, empty.
#[derive(Default)]
pub(super) struct Lent {
    groups: Vec<u32>,
    shares: Shares,
}

impl Lent {
    /// Groups that there is memory for.
    const MOST: usize = 1024;

    fn keep_groups(&mut self, groups: Vec<u32>) {
        if groups.capacity() <= Self::MOST {
            self.groups = groups;
        }
    }

    pub(super) fn keep_shares(&mut self, shares: Shares) {
        if shares.capacity() <= Self::MOST {
            self.shares = shares;
        }
    }
}

impl Broker {
    /// The shards with the member whose turn it is, for each group elsewhere that wants a message.
    /// Members of groups here whose turn it is are added to `targets`.
    pub(super) fn wanted_by_groups(&mut self, topic: &str, targets: &mut Vec<Target>) -> Shares {
        let Some(peers) = &mut self.peers else { return Shares::new() };
        let own = peers.place.shard;
        let mut groups = core::mem::take(&mut peers.lent.groups);
        let mut shares = core::mem::take(&mut peers.lent.shares);
        peers.routes.groups(topic, &mut groups);
        for group in groups.drain(..) {
            let Some(peers) = &self.peers else { break };
            let full = peers.routes.name(group);
            let here = self.counts(&full);
            let Some(peers) = &mut self.peers else { break };
            match peers.routes.choose(group, own, here, 0) {
                Some(shard) if shard == own => {
                    if let Some(group) = self.groups.number(&full) {
                        self.choose(group, targets);
                    }
                }
                Some(shard) => shares.push((shard, full)),
                None => {}
            }
        }
        if let Some(peers) = &mut self.peers {
            peers.lent.keep_groups(groups);
            if shares.is_empty() {
                peers.lent.keep_shares(core::mem::take(&mut shares));
            }
        }
        shares
    }

    /// Members that this shard has.
    pub(super) fn counts(&self, full: &str) -> Counts {
        self.groups.number(full).map_or_else(Counts::default, |group| Counts {
            members: self.groups.size(group) as u32,
            connected: self.groups.connected(group) as u32,
        })
    }

    /// The members of a group changed: that will be told.
    pub(in crate::broker) fn share_changed(&mut self, full: &str) {
        let Some(peers) = &mut self.peers else { return };
        let text: Arc<str> = match peers.shares.get_mut(full) {
            Some(known) if known.listed => return,
            Some(known) => {
                known.listed = true;
                Arc::from(full)
            }
            None => {
                let text: Arc<str> = Arc::from(full);
                peers.shares.insert(text.clone(), Group { listed: true, ..Group::default() });
                peers.charge_tables();
                text
            }
        };
        peers.changed.push_back(text);
    }

    /// Tells all of a group's members if they changed; gives the number of the last change.
    pub(super) fn announce_share(&mut self, full: &Arc<str>) -> u64 {
        let counts = self.counts(full);
        let Some(peers) = &mut self.peers else { return 0 };
        let Some(known) = peers.shares.get_mut(full) else { return 0 };
        let (listed, mut seq) = (core::mem::take(&mut known.listed), known.seq);
        if listed && core::mem::replace(&mut known.told, counts) != counts {
            seq = peers.announce(&Change::Group { full: full.clone(), counts });
        }
        if counts.members == 0 {
            peers.shares.remove(full);
            peers.charge_tables();
        } else if let Some(known) = peers.shares.get_mut(full) {
            known.seq = seq;
        }
        seq
    }

    /// Tells of groups whose members changed, as far as the window allows.
    pub(super) fn announce_changed(&mut self) {
        while let Some(peers) = &mut self.peers
            && !peers.window_is_full()
            && let Some(full) = peers.changed.pop_front()
        {
            self.announce_share(&full);
        }
    }

    /// Whether members of a group are elsewhere, too, so that the group is chosen for among all.
    pub(in crate::broker) fn is_elsewhere(&self, group: u32) -> bool {
        let Some(peers) = &self.peers else { return false };
        self.groups.name(group).is_some_and(|full| peers.routes.group(full).is_some())
    }

    /// A copy for a group whose members here are gone, or were never there: to another shard.
    /// False if no shard has a member.
    pub(super) fn pass_share(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        full: &Arc<str>,
        tried: u64,
    ) -> bool {
        let here = self.counts(full);
        let Some(peers) = &mut self.peers else { return false };
        let own = peers.place.shard;
        let tried = if here.members == 0 { tried | 1 << own } else { tried };
        let chosen = match peers.routes.group(full) {
            Some(group) => peers.routes.choose(group, own, here, tried),
            None => (here.members > 0).then_some(own),
        };
        match chosen {
            None => false,
            Some(shard) if shard == own => self.share_here(now, message, full),
            Some(shard) => {
                let link = &peers.links[usize::from(shard)];
                // It has been taken once, and cannot wait: it may overdraw, within a limit.
                if link.outstanding(DELIVER) >= 2 * peers.credit {
                    let (group, qos) = (full.clone(), message.head.qos);
                    self.dropped_event(group, qos, DropReason::OutOfBudget, 1);
                    return true;
                }
                let way = Way::Share { full: full.clone(), tried };
                peers.send(1 << shard, message, |_| way.clone());
                true
            }
        }
    }

    /// Gives a copy to a member here; false if there is none.
    pub(super) fn share_here(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        full: &Arc<str>,
    ) -> bool {
        let mut targets = core::mem::take(&mut self.targets);
        targets.clear();
        if let Some(group) = self.groups.number(full) {
            self.choose(group, &mut targets);
        }
        let target = targets.pop();
        self.keep_targets(targets);
        let Some(target) = target else { return false };
        self.deliver(now, message, target);
        true
    }

    /// The groups a session is in, before it leaves them; nothing with one shard.
    pub(in crate::broker) fn leaving(
        &self,
        filters: impl Iterator<Item = Arc<str>>,
    ) -> Vec<Leaving> {
        if self.peers.is_none() {
            return Vec::new();
        }
        let group = |full: Arc<str>| {
            let number = self.groups.number(&full)?;
            Some((number, self.groups.since(number)?, full))
        };
        filters.filter_map(group).collect()
    }

    /// A copy of a session that ended goes back to its group, wherever that has members.
    /// `[U5-072]` False if it has none.
    pub(in crate::broker) fn pass_back(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        group: u32,
        leaving: &[Leaving],
    ) -> bool {
        let mut known = leaving
            .iter()
            .filter(|(number, since, _)| *number == group && message.arrival > *since);
        let full = match known.next() {
            Some((_, _, full)) => full.clone(),
            // It unsubscribed before. The number may be of a younger group by now.
            None if self.groups.since(group).is_none_or(|since| message.arrival <= since) => {
                return false;
            }
            None => Arc::from(self.groups.name(group).unwrap_or_default()),
        };
        self.pass_share(now, message, &full, 0)
    }
}
