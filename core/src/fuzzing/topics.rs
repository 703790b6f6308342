//! Topics: matching, the index and the retained store against what can be seen to be right.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::time::Instant;
use crate::topic::{Cursor, Full, Index, Retained, TopicFilter, TopicName, matches, split_share};

const LEVELS: u16 = 8;
const MAX_RETAINED: u32 = 12;
const MAX_BYTES: u64 = 120;

/// Lines of text: a letter, a digit, and a name or filter.
///
/// | letter | meaning of the line |
/// |---|---|
/// | `i`, `r` | insert, remove the filter for a subscriber |
/// | `m` | subscribers of the name |
/// | `s`, `d` | store, remove a retained message; the digit gives seconds of life, 0 none |
/// | `w` | walk with the filter, in steps of the digit |
/// | `p`, `n` | begin a walk, take steps of it |
/// | `t`, `x` | time passes, expired messages are removed |
///
/// # Panics
/// If an answer differs from that of a naive implementation.
pub fn topics(data: &[u8]) {
    let Some(chunk) = data.utf8_chunks().next() else { return };
    let mut world = World::new();
    for line in chunk.valid().lines().take(200) {
        let mut chars = line.chars();
        let (Some(letter), Some(digit)) = (chars.next(), chars.next()) else { continue };
        world.line(letter, u32::from(digit) % 10, chars.as_str());
    }
    world.end();
}

/// A walk under way.
struct Walk {
    filter: String,
    cursor: Cursor,
    /// Messages that matched at the beginning.
    start: BTreeMap<String, u32>,
    /// Those of them that must come.
    due: BTreeSet<String>,
    last: Option<String>,
}

struct World {
    now: Instant,
    index: Index,
    subscribers: BTreeMap<(String, u32), u32>,
    retained: Retained<u32>,
    stored: BTreeMap<String, (u32, Option<Instant>)>,
    walk: Option<Walk>,
    next: u32,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::ZERO,
            index: Index::with_cache(7),
            subscribers: BTreeMap::new(),
            retained: Retained::new(MAX_RETAINED, MAX_BYTES),
            stored: BTreeMap::new(),
            walk: None,
            next: 0,
        }
    }

    fn line(&mut self, letter: char, digit: u32, text: &str) {
        self.next += 1;
        let filter = check_filter(text);
        let name = check_name(text);
        match (letter, filter, name) {
            ('i', Some(filter), _) => {
                let (text, old) = self.index.insert(filter, digit, self.next);
                assert_eq!(&*text, filter);
                assert_eq!(old, self.subscribers.insert((filter.into(), digit), self.next));
            }
            ('r', Some(filter), _) => {
                let removed = self.index.remove(filter, digit);
                assert_eq!(removed, self.subscribers.remove(&(filter.into(), digit)));
            }
            ('m', _, Some(name)) => self.find(name),
            ('s', _, Some(name)) => self.store(name, digit),
            ('d', _, Some(name)) => {
                let removed = self.retained.remove(name);
                assert_eq!(removed, self.stored.remove(name).map(|(message, _)| message));
                self.undue(name);
            }
            ('w', Some(filter), _) => self.walk_all(filter, digit as usize + 1),
            ('p', Some(filter), _) => self.begin(filter),
            ('n', ..) => self.steps(digit as usize),
            ('t', ..) => self.now = self.now.after_secs(digit.into()),
            ('x', ..) => self.expire(digit as usize),
            _ => {}
        }
        let filters: BTreeSet<_> = self.subscribers.keys().map(|(filter, _)| filter).collect();
        assert_eq!(self.index.filters(), filters.len());
        assert_eq!(self.retained.len(), self.stored.len());
        let bytes: usize = self.stored.keys().map(String::len).sum();
        assert_eq!(self.retained.bytes(), bytes as u64);
    }

    fn find(&mut self, name: &str) {
        let mut found = Vec::new();
        self.index.matches(name, |entries| {
            assert!(!entries.is_empty());
            found.extend(entries.iter().map(|entry| (entry.key, entry.value)));
        });
        found.sort_unstable();
        let matching = self.subscribers.iter().filter(|((filter, _), _)| naive(filter, name));
        let mut expected: Vec<_> = matching.map(|((_, key), value)| (*key, *value)).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{name}");
        // One that comes again is remembered; then it must stay right.
        let mut again = Vec::new();
        self.index.lookup(name, |entries| {
            assert!(!entries.is_empty());
            again.extend(entries.iter().map(|entry| (entry.key, entry.value)));
            true
        });
        again.sort_unstable();
        assert_eq!(again, expected, "{name}, looked up");
        for (filter, _) in self.subscribers.keys() {
            assert_eq!(matches(filter, name), naive(filter, name), "{filter} and {name}");
        }
    }

    fn store(&mut self, name: &str, secs: u32) {
        let expires = (secs > 0).then(|| self.now.after_secs(secs.into()));
        let (old, result) = self.retained.set(name, self.next, name.len() as u64, expires);
        assert_eq!(old, self.stored.remove(name).map(|(message, _)| message));
        let bytes: usize = self.stored.keys().map(String::len).sum();
        let expected = if self.stored.len() >= MAX_RETAINED as usize {
            Err(Full::Messages)
        } else if (bytes + name.len()) as u64 > MAX_BYTES {
            Err(Full::Bytes)
        } else {
            self.stored.insert(name.into(), (self.next, expires));
            Ok(())
        };
        assert_eq!(result, expected);
        let alive = expected.is_ok().then_some(&self.next);
        assert_eq!(self.retained.get(self.now, name), alive);
        self.undue(name);
    }

    /// The topic changed: a walk that began before need not give it.
    fn undue(&mut self, name: &str) {
        if let Some(walk) = &mut self.walk {
            walk.due.remove(name);
        }
    }

    fn matching(&self, filter: &str) -> BTreeMap<String, u32> {
        let alive = |expires: &Option<Instant>| expires.is_none_or(|at| self.now < at);
        self.stored
            .iter()
            .filter(|(name, (_, expires))| alive(expires) && naive(filter, name))
            .map(|(name, (message, _))| (name.clone(), *message))
            .collect()
    }

    fn walk_all(&self, filter: &str, steps: usize) {
        let mut cursor = Cursor::new(filter, self.retained.sequence());
        let mut given = Vec::new();
        while !self.retained.walk(self.now, &mut cursor, steps, &mut |name, message| {
            given.push((String::from(name), *message));
            // Sometimes stops early.
            message % 3 != 0
        }) {}
        let expected: Vec<_> = self.matching(filter).into_iter().collect();
        assert_eq!(given, expected, "{filter}");
    }

    fn begin(&mut self, filter: &str) {
        let start = self.matching(filter);
        self.walk = Some(Walk {
            filter: filter.into(),
            cursor: Cursor::new(filter, self.retained.sequence()),
            due: start.keys().cloned().collect(),
            start,
            last: None,
        });
    }

    fn steps(&mut self, steps: usize) {
        let Some(walk) = &mut self.walk else { return };
        let Walk { cursor, start, due, last, filter } = walk;
        let finished = self.retained.walk(self.now, cursor, steps, &mut |name, message| {
            assert!(last.as_deref().is_none_or(|last| last < name), "{name} out of order");
            assert_eq!(start.get(name), Some(message), "{name} for {filter}");
            due.remove(name);
            *last = Some(name.into());
            true
        });
        if !finished {
            return;
        }
        let stored = &self.stored;
        due.retain(|name| stored[name].1.is_none_or(|expires| self.now < expires));
        assert!(due.is_empty(), "{due:?} not given for {filter}");
        self.walk = None;
    }

    fn expire(&mut self, at_most: usize) {
        let dead: BTreeSet<_> = self
            .stored
            .iter()
            .filter_map(|(name, (_, expires))| {
                expires.filter(|at| *at <= self.now).map(|_| name.clone())
            })
            .collect();
        let removed = self.retained.expire(self.now, at_most);
        assert_eq!(removed, dead.len().min(at_most));
        let mut gone = Vec::new();
        // Which of them went is told by what a store says that nothing expires in.
        for name in dead {
            if self.retained.get(Instant::ZERO, &name).is_none() {
                self.stored.remove(&name);
                gone.push(name);
            }
        }
        assert_eq!(gone.len(), removed);
        gone.iter().for_each(|name| self.undue(name));
        let next = self.stored.values().filter_map(|(_, expires)| *expires).min();
        assert_eq!(self.retained.next_expiry(), next);
    }

    fn end(mut self) {
        self.steps(usize::MAX);
        for ((filter, key), value) in core::mem::take(&mut self.subscribers) {
            assert_eq!(self.index.get(&filter, key), Some(value));
            assert_eq!(self.index.remove(&filter, key), Some(value));
        }
        assert_eq!(self.index.filters(), 0);
    }
}

/// Matching as the standard describes it, level by level.
fn naive(filter: &str, name: &str) -> bool {
    fn rest(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, name @ ..]) => rest(filter, name),
            ([a, filter @ ..], [b, name @ ..]) => a == b && rest(filter, name),
            _ => false,
        }
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    !(name[0].starts_with('$') && matches!(filter[0], "+" | "#")) && rest(&filter, &name)
}

fn is_plain(text: &str) -> bool {
    let levels = text.split('/').count();
    !text.is_empty() && !text.contains('\0') && levels <= usize::from(LEVELS)
}

/// The text if it is a Topic Name.
fn check_name(text: &str) -> Option<&str> {
    let valid = is_plain(text) && !text.contains(['+', '#']);
    assert_eq!(TopicName::new(text, LEVELS).is_ok(), valid, "{text:?}");
    valid.then_some(text)
}

/// The text if it is a Topic Filter, without `$share/{name}/`.
fn check_filter(text: &str) -> Option<&str> {
    let parts: Vec<&str> = text.splitn(3, '/').collect();
    let (shared, inner) = match parts[..] {
        ["$share", name, inner] => {
            let valid = !name.is_empty() && !name.contains(['+', '#']) && !inner.is_empty();
            (Some(valid), inner)
        }
        ["$share", ..] => (Some(false), text),
        _ => (None, text),
    };
    let split = split_share(text);
    assert_eq!(split.is_ok(), shared != Some(false), "{text:?}");
    assert_eq!(matches!(split, Ok(Some((_, rest))) if rest == inner), shared == Some(true));
    let levels: Vec<&str> = inner.split('/').collect();
    let last = levels.len() - 1;
    let placed = levels.iter().enumerate().all(|(at, level)| {
        !level.contains(['+', '#']) || *level == "+" || *level == "#" && at == last
    });
    let valid = shared != Some(false) && is_plain(inner) && !text.contains('\0') && placed;
    assert_eq!(TopicFilter::new(text, LEVELS).is_ok(), valid, "{text:?}");
    valid.then_some(inner)
}
