//! Filters with wildcards by where these stand: many of one shape need no tree, and no text.
//!
//! Of all filters of one shape a topic matches one text at most, which it gives itself: `a/b/c`
//! gives `a/+/c` for the shape of `x/+/y`. So it is enough to keep fingerprints, and to look for
//! that of this text: a fifth, at most, of the memory of a filter in an
//! [`Index`](crate::topic::Index).

use alloc::string::String;
use alloc::vec::Vec;

use super::super::pressure::may_remember;
use super::bits;
use super::place::Place;
use crate::map::{Map, Numbers};
use crate::topic::{Cache, Finds, Known};

/// Shapes with a table at most: each costs one look for every topic that is not remembered.
const SHAPES: usize = if cfg!(fuzzing) { 2 } else { 8 };
/// Filters of a shape that come, in all, before it gets a table: a rare one needs none.
const SEEN: u32 = if cfg!(fuzzing) { 1 } else { 64 };
/// Shapes without a table that are counted at most.
const COUNTED: usize = 16;
/// Bytes of a topic for which memory is kept.
const TEXT: usize = 1024;

/// Where a filter has its wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Before the `#`.
    levels: u32,
    /// Which of them are `+`, a bit for each.
    plus: u32,
    /// It ends with `#`.
    rest: bool,
}

impl Shape {
    /// None if it has more levels than there are bits.
    fn of(filter: &str) -> Option<Self> {
        let mut shape = Self { levels: 0, plus: 0, rest: false };
        for level in filter.split('/') {
            if level == "#" {
                shape.rest = true;
            } else {
                shape.plus |= u32::from(level == "+").checked_shl(shape.levels)?;
                shape.levels += 1;
            }
        }
        Some(shape)
    }

    /// Writes the text of the only filter of this shape that a topic can match; false if it can
    /// match none.
    fn write(self, topic: &str, text: &mut String) -> bool {
        text.clear();
        // [MQTT-4.7.2-1]: wildcards do not stand for what begins with `$`.
        if topic.starts_with('$') && (self.plus & 1 != 0 || self.levels == 0) {
            return false;
        }
        let mut levels = topic.split('/');
        for at in 0..self.levels {
            let Some(level) = levels.next() else { return false };
            text.push_str(if self.plus >> at & 1 != 0 { "+" } else { level });
            text.push('/');
        }
        if self.rest {
            text.push('#');
            return true;
        }
        text.pop();
        levels.next().is_none()
    }
}

/// By fingerprint, the shards that have subscribers of a filter. So wide that no two filters ever
/// have the same one: if one of these went, nobody would hear of the other.
type Table = Map<[u64; 2], u64>;

/// The shards that have subscribers of such filters. A set of shards is a bit for each.
pub(super) struct Shapes {
    place: Place,
    seed: u64,
    tables: Vec<(Shape, Table)>,
    /// Shapes without a table, with how many filters came of each.
    counts: Vec<(Shape, u32)>,
    /// For topics that come again: for each filter that matches, each shard that has it.
    cache: Option<Cache>,
    hash: Numbers,
    /// For the text that is looked for.
    text: String,
}

impl Shapes {
    pub(super) fn new(place: Place, seed: u64, budget: u64) -> Self {
        let cache = may_remember(budget).then(Cache::new);
        let hash = Numbers::new(seed);
        let (tables, counts, text) = (Vec::new(), Vec::new(), String::new());
        Self { place, seed, tables, counts, cache, hash, text }
    }

    /// A shard has subscribers of a filter; false, and no change, if there is no table for it.
    pub(super) fn insert(&mut self, filter: &str, shard: u16) -> bool {
        let Some(shape) = Shape::of(filter) else { return false };
        let Some(at) = self.table_of(shape).or_else(|| self.add_table(shape)) else {
            return false;
        };
        let table = &mut self.tables[at].1;
        let fingerprint = self.place.wide_fingerprint(filter);
        let before = table.get(&fingerprint).copied().unwrap_or(0);
        table.insert(fingerprint, before | 1 << shard);
        if before & 1 << shard == 0
            && let Some(cache) = &mut self.cache
        {
            cache.switch(true);
            cache.add(self.hash.hash(&filter), filter, shard.into());
        }
        true
    }

    /// It has none any more.
    pub(super) fn remove(&mut self, filter: &str, shard: u16) {
        let Some(at) = Shape::of(filter).and_then(|shape| self.table_of(shape)) else { return };
        let table = &mut self.tables[at].1;
        let fingerprint = self.place.wide_fingerprint(filter);
        let Some(shards) = table.get_mut(&fingerprint).filter(|all| **all & 1 << shard != 0) else {
            return;
        };
        *shards &= !(1 << shard);
        if *shards == 0 {
            table.remove(&fingerprint);
        }
        if table.is_empty() {
            self.tables.swap_remove(at);
        }
        if let Some(cache) = &mut self.cache {
            cache.remove_one(self.hash.hash(&filter), filter, shard.into());
            cache.switch(!self.tables.is_empty());
        }
    }

    fn table_of(&self, shape: Shape) -> Option<usize> {
        self.tables.iter().position(|(other, _)| *other == shape)
    }

    /// A table for a shape, if there is room and many filters of it come.
    fn add_table(&mut self, shape: Shape) -> Option<usize> {
        if self.tables.len() == SHAPES {
            return None;
        }
        let count = match self.counts.iter_mut().find(|(other, _)| *other == shape) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                // One of which few came makes room, or others that are rare would keep it out.
                if self.counts.len() == COUNTED
                    && let Some(least) = (0..COUNTED).min_by_key(|at| self.counts[*at].1)
                {
                    self.counts.remove(least);
                }
                self.counts.push((shape, 1));
                1
            }
        };
        if count < SEEN {
            return None;
        }
        self.counts.retain(|(other, _)| *other != shape);
        self.tables.push((shape, Map::new(self.seed)));
        Some(self.tables.len() - 1)
    }

    /// Adds the shards that want a topic to `shards`, perhaps not all once all `others` are among
    /// them. Gives whether what is remembered may have changed.
    #[inline]
    pub(super) fn find(&mut self, topic: &str, others: u64, shards: &mut u64) -> bool {
        !self.tables.is_empty() && *shards != others && self.look(topic, others, shards)
    }

    fn look(&mut self, topic: &str, others: u64, shards: &mut u64) -> bool {
        let Self { place, tables, cache, text, .. } = self;
        let hash = self.hash.hash(&topic);
        let known = cache.as_mut().map_or(Known::Nothing, |cache| cache.get(hash, topic));
        if let Known::All(all) = known {
            *shards |= all.iter().fold(0, |set, shard| set | 1 << shard);
            return false;
        }
        let mut finds = matches!(known, Known::Again).then(Finds::default);
        for (shape, table) in tables {
            if *shards == others && finds.is_none() {
                break;
            }
            if !shape.write(topic, text) {
                continue;
            }
            let Some(wanted) = table.get(&place.wide_fingerprint(text)) else { continue };
            *shards |= wanted;
            if let Some(finds) = &mut finds {
                bits(*wanted).for_each(|shard| {
                    finds.push(shard as u32);
                });
            }
        }
        if let (Some(cache), Some(finds)) = (cache, &finds) {
            cache.put(hash, topic, finds);
        }
        if text.capacity() > TEXT {
            *text = String::new();
        }
        finds.is_some()
    }

    /// Memory held, in bytes, with [what is remembered](Self::remembered).
    pub(super) fn footprint(&self) -> usize {
        let tables: usize = self.tables.iter().map(|(_, table)| table.footprint()).sum();
        tables + self.tables.capacity() * size_of::<(Shape, Table)>() + self.remembered()
    }

    /// Memory held for topics, in bytes.
    pub(super) fn remembered(&self) -> usize {
        self.cache.as_ref().map_or(0, Cache::footprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::{TopicFilter, TopicName, matches};

    const PLACE: Place = Place { shard: 0, shards: 3, key: 5 };

    fn shapes() -> Shapes {
        Shapes::new(PLACE, 1, u64::MAX)
    }

    /// All texts of up to four of these levels.
    fn texts(levels: &[&str]) -> Vec<String> {
        let mut texts: Vec<String> = levels.iter().map(|level| String::from(*level)).collect();
        let mut last = texts.clone();
        for _ in 1..4 {
            let longer = |text: &String| -> Vec<String> {
                levels.iter().map(|level| std::format!("{text}/{level}")).collect()
            };
            last = last.iter().flat_map(longer).collect();
            texts.extend(last.iter().cloned());
        }
        texts
    }

    #[test]
    fn what_a_filter_matches_is_found() {
        let topics = texts(&["", "a", "$b"]);
        let topics: Vec<_> =
            topics.iter().filter(|topic| TopicName::new(topic, 9).is_ok()).collect();
        let mut found = 0;
        for filter in texts(&["", "a", "$b", "+", "#"]) {
            if TopicFilter::new(&filter, 9).is_err() {
                continue;
            }
            let mut shapes = shapes();
            while !shapes.insert(&filter, 2) {}
            for topic in &topics {
                let mut shards = 0;
                shapes.find(topic, 0b110, &mut shards);
                let wanted = if matches(&filter, topic) { 0b100 } else { 0 };
                assert_eq!(shards, wanted, "{filter} and {topic}");
                found += usize::from(shards != 0);
            }
        }
        assert!(found > 1000, "{found}");
    }

    #[test]
    fn a_filter_is_there_while_a_shard_has_it() {
        let mut shapes = shapes();
        let find = |shapes: &mut Shapes| {
            let mut shards = 0;
            shapes.find("a/b", 0b110, &mut shards);
            shards
        };
        let before = (1..SEEN).find(|n| shapes.insert(&std::format!("{n}/+"), 1));
        assert_eq!(before, None, "few need no table");
        for shard in [1, 2, 1] {
            assert!(shapes.insert("a/+", shard));
        }
        assert!(shapes.insert("c/+", 1));
        assert_eq!(find(&mut shapes), 0b110);
        shapes.remove("a/+", 1);
        shapes.remove("b/+", 2);
        shapes.remove("a/#", 2);
        assert_eq!(find(&mut shapes), 0b100);
        shapes.remove("a/+", 2);
        assert_eq!(find(&mut shapes), 0);
        assert!(shapes.footprint() > 0 && shapes.tables.len() == 1);
        shapes.remove("c/+", 1);
        assert!(shapes.tables.is_empty());
    }

    #[test]
    fn there_are_few_shapes_and_none_with_many_levels() {
        let mut shapes = shapes();
        let mut insert = |filter: &str| (0..SEEN).any(|_| shapes.insert(filter, 1));
        let levels = ["a"; 31].join("/");
        assert!(insert(&std::format!("{levels}/+")));
        assert!(!insert(&std::format!("{levels}/+/+")));
        for length in 1..SHAPES {
            assert!(insert(&std::format!("{}/#", ["a"; 9][..length].join("/"))));
        }
        assert!(!insert("+"));
        shapes.remove(&std::format!("{levels}/+/+"), 1);
        shapes.remove("a/#", 1);
        assert!((0..SEEN).any(|_| shapes.insert("+", 1)));
        let mut shards = 0;
        shapes.find(&std::format!("{levels}/b"), 0b110, &mut shards);
        assert_eq!(shards, 0b10);
    }

    #[test]
    fn shapes_that_are_rare_keep_none_out_that_is_not() {
        let mut shapes = shapes();
        let rare = |n: usize| std::format!("+{}", "/a".repeat(n % 100));
        let mut common = (0..).map(|n| {
            (0..4).for_each(|more| assert!(!shapes.insert(&rare(4 * n + more), 1)));
            shapes.insert(&std::format!("{n}/#"), 2)
        });
        assert!(common.by_ref().take(2 * SEEN as usize).any(|table| table));
    }

    #[test]
    fn topics_that_come_again_are_remembered_and_kept_right() {
        let mut shapes = shapes();
        let find = |shapes: &mut Shapes| {
            let mut shards = 0;
            let taken_up = shapes.find("a/b", 0b110, &mut shards);
            (shards, taken_up)
        };
        for filter in ["a/+", "+/b"] {
            while !shapes.insert(filter, 1) {}
        }
        assert_eq!([find(&mut shapes), find(&mut shapes)], [(0b10, true), (0b10, false)]);
        let changes: [(&str, u16, bool, u64); 5] = [
            ("a/+", 2, true, 0b110),
            ("c/+", 2, true, 0b110),
            ("a/+", 2, false, 0b10),
            // Of two filters of a shard one is left.
            ("+/b", 1, false, 0b10),
            ("c/+", 2, false, 0b10),
        ];
        for (filter, shard, on, wanted) in changes {
            match on {
                true => assert!(shapes.insert(filter, shard)),
                false => shapes.remove(filter, shard),
            }
            assert_eq!(find(&mut shapes), (wanted, false), "{filter} {on}");
        }
        assert_eq!(shapes.remembered(), Cache::BYTES);
        shapes.remove("a/+", 1);
        assert_eq!((find(&mut shapes), shapes.remembered()), ((0, false), 0));
        while !shapes.insert("a/+", 2) {}
        assert_eq!([find(&mut shapes), find(&mut shapes)], [(0b100, true), (0b100, false)]);
    }
}
