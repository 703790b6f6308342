//! Which other shards want a message: filters to sets of shards.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::pressure::index;
use super::place::Place;
use super::shapes::Shapes;
use crate::map::Map;
use crate::topic::{Index, matches, split_share};

/// Bytes of a topic that is remembered, at most.
const LAST: usize = 256;

/// After so many topics in a row that all other shards want, only one in [`SAMPLE`] is looked for.
const SURE: u8 = if cfg!(fuzzing) { 2 } else { 16 };
/// Of these messages all but one, on average, go to all other shards unasked. Where that was wrong
/// about as many cross for nothing before it is noticed.
const SAMPLE: u64 = 8;

/// Filters with wildcards in a tree, at least, before others are kept by their shape: a tree finds
/// those that match at once, whatever their shapes are.
const TREE: usize = if cfg!(fuzzing) { 1 } else { 4096 };

/// What one shard knows of the subscriptions of the others. A set of shards is a bit for each.
pub(super) struct Routes {
    /// All of them.
    others: u64,
    /// Filters without wildcards, by fingerprint: two that collide only waste a message.
    exact: Map<u64, u64>,
    exacts: usize,
    /// The others, by their text; the key of an entry is the shard: the first [`TREE`], and those
    /// for which `shapes` has no table.
    wild: Index,
    shapes: Shapes,
    /// Shared groups by their full text, and their numbers by filter.
    by_name: Map<Arc<str>, u32>,
    by_filter: Index,
    groups: Vec<Group>,
    free: Vec<u32>,
    /// Often the next message has the same topic. Where it has not, one hash of it and one look are
    /// less than to look in a place of its own.
    last: Last,
    /// Topics in a row that all wanted, up to [`SURE`].
    wanted: u8,
    /// Draws which of the messages are looked for: topics may come in any order.
    draw: u64,
    /// Bytes of what the two indexes remember.
    remembered: usize,
}

/// The topic that was looked for last.
#[derive(Default)]
struct Last {
    /// Empty, as no topic is, when something changed that could matter for it.
    topic: String,
    /// None if it was not needed.
    fingerprint: Option<u64>,
    /// The shards that want it.
    shards: u64,
}

/// A shared group as other shards have it.
struct Group {
    full: Arc<str>,
    /// Members and connected ones of each shard.
    counts: Vec<Counts>,
    /// Whose turn it is.
    turn: u32,
}

/// Members of a group on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Counts {
    pub(in crate::broker) members: u32,
    /// Of them, those whose clients are connected.
    pub(in crate::broker) connected: u32,
}

impl Routes {
    pub(super) fn new(place: Place, seed: u64, budget: u64) -> Self {
        Self {
            others: place.others(),
            exact: Map::new(seed),
            exacts: 0,
            wild: index(seed, budget),
            shapes: Shapes::new(place, seed, budget),
            by_name: Map::new(seed),
            by_filter: index(seed, budget),
            groups: Vec::new(),
            free: Vec::new(),
            last: Last::default(),
            wanted: 0,
            draw: seed | 1,
            remembered: 0,
        }
    }

    /// A shard has, or has no more, subscribers of a filter without wildcards.
    pub(super) fn set_exact(&mut self, shard: u16, fingerprint: u64, on: bool) {
        if self.last.fingerprint.is_none_or(|last| last == fingerprint) {
            self.last.topic.clear();
        }
        let before = self.exact.get(&fingerprint).copied().unwrap_or(0);
        let after = if on { before | 1 << shard } else { before & !(1 << shard) };
        if after != 0 {
            self.exacts += usize::from(before == 0);
            self.exact.insert(fingerprint, after);
        } else if before != 0 {
            self.exacts -= 1;
            self.exact.remove(&fingerprint);
        }
    }

    /// The same for a filter with wildcards.
    pub(super) fn set_wild(&mut self, shard: u16, filter: &str, on: bool) {
        if matches(filter, &self.last.topic) {
            self.last.topic.clear();
        }
        if !on {
            if self.wild.remove(filter, u32::from(shard)).is_none() {
                self.shapes.remove(filter, shard);
            }
        } else if self.wild.filters() < TREE || !self.shapes.insert(filter, shard) {
            self.wild.insert(filter, u32::from(shard), 0);
        }
        self.recount_remembered();
    }

    /// The members that a shard has of the group `$share/{name}/{filter}`.
    pub(super) fn set_group(&mut self, shard: u16, full: &Arc<str>, counts: Counts) {
        let Ok(Some((_, filter))) = split_share(full) else { return };
        let number = match self.by_name.get(full) {
            Some(number) => *number,
            None if counts.members == 0 => return,
            None => {
                let group = Group { full: full.clone(), counts: Vec::new(), turn: 0 };
                let number = self.free.pop().unwrap_or(self.groups.len() as u32);
                if let Some(slot) = self.groups.get_mut(number as usize) {
                    *slot = group;
                } else {
                    self.groups.push(group);
                }
                self.by_name.insert(full.clone(), number);
                self.by_filter.insert(filter, number, 0);
                number
            }
        };
        let group = &mut self.groups[number as usize];
        if group.counts.len() <= usize::from(shard) {
            group.counts.resize(usize::from(shard) + 1, Counts::default());
        }
        group.counts[usize::from(shard)] = counts;
        if group.counts.iter().all(|counts| counts.members == 0) {
            *group = Group { full: Arc::from(""), counts: Vec::new(), turn: 0 };
            self.by_name.remove(full);
            self.by_filter.remove(filter, number);
            self.free.push(number);
        }
        self.recount_remembered();
    }

    /// The shards with subscribers of filters that match a topic, groups aside; `fingerprint` is
    /// asked only if it is needed. Where nobody is to be told whether there are some, `exact` is
    /// false, and there may be others among them.
    #[inline]
    pub(super) fn matches(
        &mut self,
        topic: &str,
        exact: bool,
        fingerprint: impl FnOnce() -> u64,
    ) -> u64 {
        if self.last.topic != topic {
            if !exact && self.is_surely_wanted() {
                return self.others;
            }
            self.find(topic, fingerprint);
        }
        self.last.shards
    }

    /// Whether all that was looked for of late was wanted by all: to look costs more than a message
    /// that crosses for nothing now and then.
    fn is_surely_wanted(&mut self) -> bool {
        if self.wanted < SURE {
            return false;
        }
        // Xorshift: nobody is to be kept from foreseeing it.
        self.draw ^= self.draw << 13;
        self.draw ^= self.draw >> 7;
        self.draw ^= self.draw << 17;
        !(self.draw >> 32).is_multiple_of(SAMPLE)
    }

    fn find(&mut self, topic: &str, fingerprint: impl FnOnce() -> u64) {
        let Self { others, last, .. } = self;
        last.topic.clear();
        if topic.len() <= LAST {
            last.topic.push_str(topic);
        }
        last.fingerprint = (self.exacts > 0).then(fingerprint);
        let exact = last.fingerprint.and_then(|fingerprint| self.exact.get(&fingerprint));
        last.shards = exact.copied().unwrap_or(0);
        if last.shards != *others {
            let taken_up = self.wild.lookup(topic, |entries| {
                let shards = entries.iter().map(|entry| 1 << entry.key);
                last.shards |= shards.fold(0, |all, shard| all | shard);
                // Where all are to have it nothing else matters.
                last.shards != *others
            });
            if taken_up {
                self.recount_remembered();
            }
        }
        if self.shapes.find(topic, self.others, &mut self.last.shards) {
            self.recount_remembered();
        }
        let all = self.last.shards == self.others;
        self.wanted = if all { (self.wanted + 1).min(SURE) } else { 0 };
    }

    /// Whether there are any groups.
    #[inline]
    pub(super) fn has_groups(&self) -> bool {
        self.by_filter.filters() > 0
    }

    /// The numbers of the groups whose filters match a topic.
    pub(super) fn groups(&mut self, topic: &str, found: &mut Vec<u32>) {
        let taken_up = self.by_filter.lookup(topic, |entries| {
            found.extend(entries.iter().map(|entry| entry.key));
            true
        });
        if taken_up {
            self.recount_remembered();
        }
    }

    /// Whether another shard has members of this group, and its number.
    pub(super) fn group(&self, full: &str) -> Option<u32> {
        self.by_name.get(full).copied()
    }

    /// The full text of a group.
    pub(super) fn name(&self, group: u32) -> Arc<str> {
        self.groups[group as usize].full.clone()
    }

    /// The shard whose turn it is to have a message for a group, of which shard `own` has `here`;
    /// never one of the set `not`. Each connected member counts once; the others do where nobody is
    /// connected.
    pub(super) fn choose(&mut self, group: u32, own: u16, here: Counts, not: u64) -> Option<u16> {
        let group = &mut self.groups[group as usize];
        let of = |shard: u16| match shard {
            _ if not & 1 << shard != 0 => Counts::default(),
            _ if shard == own => here,
            _ => group.counts.get(usize::from(shard)).copied().unwrap_or_default(),
        };
        let shards = (group.counts.len() as u16).max(own + 1);
        let sum = |sum: u32, count| sum.saturating_add(count);
        let connected = (0..shards).map(|shard| of(shard).connected).fold(0, sum);
        let members = (0..shards).map(|shard| of(shard).members).fold(0, sum);
        let weight = |shard: u16| match connected {
            0 => of(shard).members,
            _ => of(shard).connected,
        };
        let total = if connected > 0 { connected } else { members };
        if total == 0 {
            return None;
        }
        let mut turn = group.turn % total;
        let chosen = (0..shards).find(|shard| {
            let weight = weight(*shard);
            let here = turn < weight;
            turn = turn.saturating_sub(weight);
            here
        });
        group.turn = (group.turn % total) + 1;
        chosen
    }

    /// Memory held, in bytes, about, without what is remembered.
    pub(super) fn footprint(&self) -> usize {
        let groups = self.groups.capacity() * size_of::<Group>();
        let wild = self.wild.footprint() + self.shapes.footprint();
        let tables = self.exact.footprint() + wild + self.by_filter.footprint();
        tables + groups - self.remembered
    }

    /// That of topics that are remembered: it changes when one is looked for.
    #[inline]
    pub(super) fn remembered(&self) -> usize {
        self.remembered
    }

    /// To be called where an index may remember more or less: how much is asked more often.
    fn recount_remembered(&mut self) {
        let wild = self.wild.remembered() + self.shapes.remembered();
        self.remembered = wild + self.by_filter.remembered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the first of so many shards knows.
    fn of(shards: u16) -> Routes {
        Routes::new(Place { shard: 0, shards, key: 3 }, 1, u64::MAX)
    }

    #[test]
    fn a_shard_is_found_once_for_all_its_filters() {
        let mut routes = of(4);
        assert_eq!(routes.matches("a/b", true, || unreachable!()), 0);
        routes.set_exact(1, 77, true);
        routes.set_wild(1, "a/+", true);
        routes.set_wild(2, "#", true);
        routes.set_wild(3, "b/#", true);
        assert_eq!(routes.matches("a/b", true, || 77), 0b110);
        assert_eq!(routes.matches("a/b", true, || unreachable!("it was the last one")), 0b110);
        assert_eq!(routes.matches("a", true, || 5), 0b100);
        routes.set_exact(1, 77, false);
        routes.set_wild(1, "a/+", false);
        routes.set_wild(2, "#", false);
        assert_eq!(routes.matches("a/b", true, || 77), 0);
        assert_eq!(routes.matches("b", true, || unreachable!()), 0b1000);
    }

    #[test]
    fn changes_that_do_not_matter_for_the_last_topic_leave_it() {
        let mut routes = of(3);
        routes.set_exact(1, 77, true);
        assert_eq!(routes.matches("a/b", true, || 77), 0b10);
        routes.set_exact(2, 78, true);
        routes.set_wild(2, "b/#", true);
        assert_eq!(routes.matches("a/b", true, || unreachable!("it was the last one")), 0b10);
        routes.set_wild(2, "+/b", true);
        assert_eq!(routes.matches("a/b", true, || 77), 0b110);
        routes.set_wild(2, "+/b", false);
        assert_eq!(routes.matches("a/b", true, || 77), 0b10);
        routes.set_exact(1, 77, false);
        assert_eq!(routes.matches("a/b", true, || 77), 0);
        // A topic for which no fingerprint was needed.
        let mut routes = of(3);
        assert_eq!(routes.matches("a/b", true, || unreachable!("nothing is there")), 0);
        routes.set_exact(2, 77, true);
        assert_eq!(routes.matches("a/b", true, || 77), 0b100);
    }

    /// Any filters of three shards come and go, and topics are looked for: those are found that a
    /// list would find.
    #[test]
    fn filters_are_found_and_forgotten_whether_in_a_tree_or_by_their_shape() {
        let mut routes = of(4);
        // The tree is full, and two shapes have tables.
        for n in 0..TREE + 80 {
            routes.set_wild(1, &std::format!("full/{n}/+"), true);
            routes.set_wild(1, &std::format!("full/{n}/#"), true);
        }
        assert!(routes.wild.filters() >= TREE && routes.shapes.footprint() > 25 * TREE);
        let mut list: Vec<(u16, String)> = Vec::new();
        let mut random = 1u64;
        let mut draw = |most: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % most
        };
        let mut found = [0; 2];
        for _ in 0..20_000 {
            let level = |n: usize| ["a", "b", "", "$a"][n];
            let mut levels: Vec<_> = (0..=draw(3)).map(|_| level(draw(4))).collect();
            // A topic has at least one character.
            if draw(2) == 0 && levels != [""] {
                let topic = levels.join("/");
                let wanted = list.iter().filter(|(_, filter)| matches(filter, &topic));
                let wanted = wanted.fold(0, |all, (shard, _)| all | 1u64 << shard);
                let shards = routes.matches(&topic, true, || unreachable!("none is exact"));
                assert_eq!(shards, wanted, "{topic}");
                found[usize::from(wanted > 0)] += 1;
                continue;
            }
            let at = draw(levels.len());
            levels[at] = "+";
            if draw(3) == 0 {
                levels.push("#");
            }
            let entry = (draw(3) as u16 + 1, levels.join("/"));
            let before = list.iter().position(|other| *other == entry);
            routes.set_wild(entry.0, &entry.1, before.is_none());
            match before {
                Some(at) => drop(list.swap_remove(at)),
                None if list.len() < 12 => list.push(entry),
                None => routes.set_wild(entry.0, &entry.1, false),
            }
        }
        assert!(found.iter().all(|found| *found > 1000), "{found:?}");
        for n in 0..TREE + 80 {
            routes.set_wild(1, &std::format!("full/{n}/+"), false);
            routes.set_wild(1, &std::format!("full/{n}/#"), false);
        }
        list.iter().for_each(|(shard, filter)| routes.set_wild(*shard, filter, false));
        assert_eq!((routes.wild.filters(), routes.remembered()), (0, 0));
    }

    #[test]
    fn where_all_is_wanted_a_sample_is_looked_for() {
        let mut routes = of(3);
        routes.set_wild(1, "a/#", true);
        routes.set_wild(2, "a/#", true);
        // So that a topic which is looked for is asked for its fingerprint.
        routes.set_exact(1, 77, true);
        // Answers how many topics were looked for, and how many were wanted by both.
        let publish = |routes: &mut Routes, topics: &mut dyn Iterator<Item = String>, exact| {
            let (mut asked, mut both) = (0, 0);
            for topic in topics {
                let shards = routes.matches(&topic, exact, || {
                    asked += 1;
                    5
                });
                both += usize::from(shards == 0b110);
            }
            (asked, both)
        };
        let topics = |count| (0..count).map(|n| std::format!("a/{n}"));
        let sure = usize::from(SURE);
        assert_eq!(publish(&mut routes, &mut topics(sure), false), (sure, sure));
        let (asked, both) = publish(&mut routes, &mut topics(800), false);
        assert!(both == 800 && (50..200).contains(&asked), "{asked}, {both}");
        assert_eq!(publish(&mut routes, &mut topics(80), true), (80, 80), "somebody is told");
        // Of topics that come in turn one is wanted still, as often as a sample is taken.
        routes.set_wild(2, "a/#", false);
        routes.set_wild(2, "a/0", true);
        let mut turns = (0..800).map(|n| std::format!("a/{}", n % SAMPLE));
        let (asked, both) = publish(&mut routes, &mut turns, false);
        assert!(both < 100 + 50 && asked > 800 - 50, "{asked}, {both}");
    }

    #[test]
    fn connected_members_have_equal_shares_wherever_they_are() {
        let mut routes = of(3);
        let full: Arc<str> = Arc::from("$share/g/a/+");
        let counts = |members, connected| Counts { members, connected };
        routes.set_group(1, &full, counts(3, 2));
        routes.set_group(2, &full, counts(5, 0));
        let mut found = Vec::new();
        routes.groups("a/x", &mut found);
        assert_eq!(found, [0]);
        let picks = |routes: &mut Routes, here, not| {
            let mut picks: Vec<_> = (0..6).map(|_| routes.choose(0, 0, here, not)).collect();
            picks.sort_unstable();
            picks.into_iter().map(|pick| pick.map_or(9, |pick| pick)).collect::<Vec<_>>()
        };
        assert_eq!(picks(&mut routes, counts(1, 1), 0), [0, 0, 1, 1, 1, 1]);
        assert_eq!(picks(&mut routes, counts(1, 0), 0), [1; 6]);
        assert_eq!(picks(&mut routes, counts(1, 0), 0b10), [0, 2, 2, 2, 2, 2]);
        assert_eq!(picks(&mut routes, counts(0, 0), 0b110), [9; 6]);
        routes.set_group(1, &full, Counts::default());
        routes.set_group(2, &full, Counts::default());
        assert_eq!((routes.group(&full), routes.free.len()), (None, 1));
        routes.set_group(2, &full, counts(1, 1));
        assert_eq!(routes.choose(0, 0, Counts::default(), 0), Some(2));
    }
}
