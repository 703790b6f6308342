//! Shared subscription groups.

use alloc::sync::Arc;

use super::list::{Keyed, List};
use super::slab::Slab;
use crate::map::Numbers;

/// A session in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The session; once in each group. `[U5-071]`
    pub session: u32,
    /// Kept for the owner.
    pub value: u32,
}

impl Keyed for Member {
    fn key(&self) -> u32 {
        self.session
    }
}

/// What became of [`Groups::join`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The number of the group.
    pub group: u32,
    /// Whether the group did not exist before.
    pub new: bool,
    /// The value of the member, if the session was one already.
    pub replaced: Option<u32>,
}

/// What became of [`Groups::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The number of the group; free if `empty`.
    pub group: u32,
    /// Whether the last member left, so that the group is gone.
    pub empty: bool,
    /// The value of the member.
    pub value: u32,
}

/// Shared subscription groups and the members whose turn it is.
///
/// A group is identified by the whole text `$share/{name}/{filter}`: the same name with another
/// filter is another group. Its number is small, stays as long as the group and is used again
/// later. Joining, leaving and choosing take constant time.
pub struct Groups {
    groups: Slab<Group>,
    by_name: Numbers,
    seed: u64,
    /// Bytes that the groups own.
    owned: usize,
}

#[derive(Default)]
struct Group {
    name: Arc<str>,
    since: u64,
    connected: Ring,
    away: Ring,
}

#[derive(Default)]
struct Ring {
    members: List<Member>,
    /// The position of the next in turn; behind the last means the first.
    turn: usize,
}

impl Ring {
    fn len(&self) -> usize {
        self.members.as_slice().len()
    }

    fn next(&mut self, skip: Option<u32>) -> Option<Member> {
        let members = self.members.as_slice();
        // A session is here once, so the one after the skipped one is another, if there is any.
        for _ in 0..2 {
            let member = *members.get(self.turn).or_else(|| members.first())?;
            self.turn = if self.turn < members.len() { self.turn + 1 } else { 1 };
            if Some(member.session) != skip {
                return Some(member);
            }
        }
        None
    }
}

impl Group {
    fn ring(&mut self, connected: bool) -> &mut Ring {
        if connected { &mut self.connected } else { &mut self.away }
    }

    fn remove(&mut self, session: u32) -> Option<Member> {
        self.connected.members.remove(session).or_else(|| self.away.members.remove(session))
    }

    fn len(&self) -> usize {
        self.connected.len() + self.away.len()
    }

    fn footprint(&self) -> usize {
        self.connected.members.footprint() + self.away.members.footprint()
    }
}

/// The two counters before the text of an `Arc`.
const ARC: usize = 2 * size_of::<usize>();

impl Groups {
    /// No groups; `seed` keeps peers from choosing names that collide in hash tables.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { groups: Slab::default(), by_name: Numbers::new(seed), seed, owned: 0 }
    }

    /// Makes `member` one of the group `full`, `connected` or not; replaces the value if the
    /// session is a member already.
    pub fn join(&mut self, full: &str, member: Member, connected: bool) -> Joined {
        let known = self.find(full);
        let group = known.unwrap_or_else(|| self.add(full));
        let seed = self.seed;
        let replaced = self.change(group, |group| {
            let ring = group.ring(connected);
            if ring.members.get(member.session).is_some() {
                // Keeps its place in the order.
                return ring.members.insert(seed, member);
            }
            let old = group.remove(member.session);
            group.ring(connected).members.insert(seed, member);
            old
        });
        Joined { group, new: known.is_none(), replaced: replaced.map(|old| old.value) }
    }

    /// Takes a session out of the group `full`; `None` if it is no member. A group without members
    /// is removed.
    pub fn leave(&mut self, full: &str, session: u32) -> Option<Left> {
        let group = self.find(full)?;
        let removed = self.change(group, |group| group.remove(session))?;
        let empty = self.groups[group].len() == 0;
        if empty {
            self.by_name.remove(full, group);
            self.owned -= ARC + self.groups.remove(group).name.len();
        }
        Some(Left { group, empty, value: removed.value })
    }

    /// Says whether the client of a member is connected. Harmless for what is no member and when it
    /// is known already.
    pub fn set_connected(&mut self, full: &str, session: u32, connected: bool) {
        let Some(group) = self.find(full) else { return };
        let seed = self.seed;
        self.change(group, |group| {
            if let Some(member) = group.ring(!connected).members.remove(session) {
                group.ring(connected).members.insert(seed, member);
            }
        });
    }

    /// The member of a group whose turn it is, never the session `skip`. Connected members take
    /// turns; the others do when there is no connected one. `None` if there is no other member or
    /// no such group.
    pub fn choose(&mut self, group: u32, skip: Option<u32>) -> Option<Member> {
        let group = self.groups.slot_mut(group)?;
        group.connected.next(skip).or_else(|| group.away.next(skip))
    }

    /// The whole text `$share/{name}/{filter}` of a group.
    #[must_use]
    pub fn name(&self, group: u32) -> Option<&str> {
        self.groups.slot(group).filter(|group| group.len() > 0).map(|group| &*group.name)
    }

    /// Says when a group was made, in the owner's reckoning: its number may have been that of
    /// another one before. Harmless where there is no such group.
    pub fn set_since(&mut self, group: u32, since: u64) {
        if let Some(group) = self.groups.slot_mut(group) {
            group.since = since;
        }
    }

    /// What [`Groups::set_since`] said last; 0 before. `None` if there is no such group.
    #[must_use]
    pub fn since(&self, group: u32) -> Option<u64> {
        self.groups.slot(group).filter(|group| group.len() > 0).map(|group| group.since)
    }

    /// The members of a group, connected ones first.
    pub fn members(&self, group: u32) -> impl Iterator<Item = Member> {
        let rings = self.groups.slot(group).map(|group| [&group.connected, &group.away]);
        rings.into_iter().flatten().flat_map(|ring| ring.members.as_slice()).copied()
    }

    /// The number of the group `full`.
    #[must_use]
    pub fn number(&self, full: &str) -> Option<u32> {
        self.find(full)
    }

    /// How many members a group has.
    #[must_use]
    pub fn size(&self, group: u32) -> usize {
        self.groups.slot(group).map_or(0, Group::len)
    }

    /// How many members of a group are connected.
    #[must_use]
    pub fn connected(&self, group: u32) -> usize {
        self.groups.slot(group).map_or(0, |group| group.connected.len())
    }

    /// The number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in bytes, without the overhead of the allocator. Takes constant time.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.groups.footprint() + self.by_name.footprint() + self.owned
    }

    fn find(&self, full: &str) -> Option<u32> {
        self.by_name.find(full, |group| &*self.groups[group].name)
    }

    fn add(&mut self, full: &str) -> u32 {
        self.owned += ARC + full.len();
        let group = self.groups.insert(Group { name: Arc::from(full), ..Group::default() });
        self.by_name.insert(full, group);
        group
    }

    /// Runs `change` and counts the memory again.
    fn change<T>(&mut self, group: u32, change: impl FnOnce(&mut Group) -> T) -> T {
        let group = &mut self.groups[group];
        let before = group.footprint();
        let result = change(group);
        self.owned = self.owned - before + group.footprint();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const NAME: &str = "$share/g/a/+";

    fn member(session: u32) -> Member {
        Member { session, value: session * 10 }
    }

    fn sessions(groups: &mut Groups, times: usize) -> Vec<u32> {
        (0..times).filter_map(|_| groups.choose(0, None)).map(|member| member.session).collect()
    }

    #[test]
    fn connected_members_take_turns() {
        let mut groups = Groups::new(1);
        for session in [1, 2, 3, 4] {
            groups.join(NAME, member(session), session != 3);
        }
        assert_eq!(sessions(&mut groups, 7), [1, 2, 4, 1, 2, 4, 1]);
        assert_eq!(groups.connected(0), 3);
    }

    #[test]
    fn others_are_chosen_only_when_none_is_connected() {
        let mut groups = Groups::new(1);
        groups.join(NAME, member(1), true);
        groups.join(NAME, member(2), false);
        groups.join(NAME, member(3), false);
        assert_eq!(sessions(&mut groups, 2), [1, 1]);
        groups.set_connected(NAME, 1, false);
        let mut all = sessions(&mut groups, 3);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        groups.set_connected(NAME, 2, true);
        assert_eq!(sessions(&mut groups, 2), [2, 2]);
    }

    #[test]
    fn the_skipped_session_is_never_chosen() {
        let mut groups = Groups::new(1);
        groups.join(NAME, member(1), true);
        assert_eq!(groups.choose(0, Some(1)), None);
        groups.join(NAME, member(2), false);
        assert_eq!(groups.choose(0, Some(1)), Some(member(2)));
        groups.join(NAME, member(3), true);
        for _ in 0..4 {
            assert_eq!(groups.choose(0, Some(1)), Some(member(3)));
        }
        assert_eq!(groups.choose(9, None), None);
    }

    #[test]
    fn joining_again_replaces_the_value_and_not_the_membership() {
        let mut groups = Groups::new(1);
        let joined = groups.join(NAME, member(1), true);
        assert_eq!(joined, Joined { group: 0, new: true, replaced: None });
        let again = groups.join(NAME, Member { session: 1, value: 5 }, false);
        assert_eq!(again, Joined { group: 0, new: false, replaced: Some(10) });
        let again = groups.join(NAME, Member { session: 1, value: 6 }, false);
        assert_eq!(again.replaced, Some(5));
        assert_eq!(groups.members(0).collect::<Vec<_>>(), [Member { session: 1, value: 6 }]);
        let left = Some(Left { group: 0, empty: true, value: 6 });
        assert_eq!(groups.leave(NAME, 1), left);
        assert_eq!(groups.leave(NAME, 1), None);
        assert!(groups.is_empty());
    }

    #[test]
    fn groups_with_another_filter_are_independent_and_numbers_are_used_again() {
        let mut groups = Groups::new(1);
        assert_eq!(groups.join("$share/g/a", member(1), true).group, 0);
        assert_eq!(groups.join("$share/g/b", member(1), true).group, 1);
        assert_eq!((groups.len(), groups.name(1)), (2, Some("$share/g/b")));
        groups.leave("$share/g/a", 1);
        assert_eq!((groups.len(), groups.name(0)), (1, None));
        assert_eq!(groups.choose(0, None), None);
        let joined = groups.join("$share/h/a", member(2), true);
        assert_eq!(joined, Joined { group: 0, new: true, replaced: None });
        assert_eq!(groups.name(0), Some("$share/h/a"));
    }
}
