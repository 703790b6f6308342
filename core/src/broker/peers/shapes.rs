//! Filters with wildcards by where these stand: many of one shape need no tree, and no text.
//!
//! Of all filters of one shape a topic matches one text at most, which it gives itself: `a/b/c`
//! gives `a/+/c` for the shape of `x/+/y`. So it is enough to keep fingerprints, and to look for
//! that of this text: a fifth of the memory of a filter in an [`Index`](crate::topic::Index), and
//! of the work where there are a million.

use alloc::string::String;
use alloc::vec::Vec;

use super::place::Place;
use crate::map::Map;

/// Shapes with a table at most: each costs every topic a look that is not known already.
const SHAPES: usize = if cfg!(fuzzing) { 2 } else { 8 };

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

    /// Writes the text that a filter of this shape has if the topic matches it; false if none
    /// matches.
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

/// The shards that have subscribers of such filters. A set of shards is a bit for each.
pub(super) struct Shapes {
    place: Place,
    seed: u64,
    /// By fingerprint. So wide that no two filters ever have the same one: if one of these went,
    /// nobody would hear of the other.
    tables: Vec<(Shape, Map<[u64; 2], u64>)>,
    /// For the text that is looked for.
    text: String,
}

impl Shapes {
    pub(super) fn new(place: Place, seed: u64) -> Self {
        Self { place, seed, tables: Vec::new(), text: String::new() }
    }

    /// A shard has subscribers of a filter; false, and no change, if there is no table for it.
    pub(super) fn insert(&mut self, filter: &str, shard: u16) -> bool {
        let Some(shape) = Shape::of(filter) else { return false };
        let known = self.tables.iter().position(|(other, _)| *other == shape);
        let at = match known {
            Some(at) => at,
            None if self.tables.len() == SHAPES => return false,
            None => {
                self.tables.push((shape, Map::new(self.seed)));
                self.tables.len() - 1
            }
        };
        let table = &mut self.tables[at].1;
        let fingerprint = self.place.wide_fingerprint(filter);
        let before = table.get(&fingerprint).copied().unwrap_or(0);
        table.insert(fingerprint, before | 1 << shard);
        true
    }

    /// It has none any more.
    pub(super) fn remove(&mut self, filter: &str, shard: u16) {
        let shape = Shape::of(filter);
        let Some(at) = self.tables.iter().position(|(other, _)| Some(*other) == shape) else {
            return;
        };
        let table = &mut self.tables[at].1;
        let fingerprint = self.place.wide_fingerprint(filter);
        let Some(shards) = table.get_mut(&fingerprint) else { return };
        *shards &= !(1 << shard);
        if *shards == 0 {
            table.remove(&fingerprint);
        }
        if table.is_empty() {
            self.tables.swap_remove(at);
        }
    }

    /// Adds the shards that want a topic to `shards`, until all `others` are among them.
    #[inline]
    pub(super) fn find(&mut self, topic: &str, others: u64, shards: &mut u64) {
        for (shape, table) in &self.tables {
            if *shards == others {
                return;
            }
            if shape.write(topic, &mut self.text) {
                let wanted = table.get(&self.place.wide_fingerprint(&self.text));
                *shards |= wanted.copied().unwrap_or(0);
            }
        }
    }

    /// Memory held, in bytes.
    pub(super) fn footprint(&self) -> usize {
        let tables: usize = self.tables.iter().map(|(_, table)| table.footprint()).sum();
        tables + self.tables.capacity() * size_of::<(Shape, Map<[u64; 2], u64>)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::{TopicFilter, TopicName, matches};

    const PLACE: Place = Place { shard: 0, shards: 3, key: 5 };

    fn shapes() -> Shapes {
        Shapes::new(PLACE, 1)
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
            assert!(shapes.insert(&filter, 2));
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
        let levels = ["a"; 31].join("/");
        assert!(shapes.insert(&std::format!("{levels}/+"), 1));
        assert!(!shapes.insert(&std::format!("{levels}/+/+"), 1));
        shapes.remove(&std::format!("{levels}/+/+"), 1);
        for length in 1..SHAPES {
            assert!(shapes.insert(&std::format!("{}/#", ["a"; 9][..length].join("/")), 1));
        }
        assert!(!shapes.insert("+", 1));
        shapes.remove("a/#", 1);
        assert!(shapes.insert("+", 1));
    }
}
