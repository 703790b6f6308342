//! Retained messages by topic.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Bound;

use super::matches::{matches, wildcard_at};
use crate::time::Instant;

/// Retained messages, at most one for each topic, with limits and expiry.
///
/// `M` stands for a message, usually something cheap to clone. Topics are taken as they are: give
/// it what [`super::TopicName`] accepts. An expired message is not given out; it counts until
/// [`Retained::expire`] removes it.
pub struct Retained<M> {
    topics: BTreeMap<Arc<str>, Stored<M>>,
    /// By expiry, then by number: equal expiries in the order of storing.
    expiries: BTreeMap<(Instant, u64), Arc<str>>,
    sequence: u64,
    bytes: u64,
    /// Bytes of the topics, and of the places in the maps.
    owned: u64,
    max: u32,
    max_bytes: u64,
}

/// Bytes reckoned for the places of a message in both maps, beside its topic.
const ENTRY: u64 = 160;

struct Stored<M> {
    message: M,
    bytes: u64,
    sequence: u64,
    expires: Option<Instant>,
}

impl<M> Stored<M> {
    fn alive(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// A message is not stored because a limit would be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many messages.
    Messages,
    /// Too many bytes.
    Bytes,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "too many retained messages",
            Self::Bytes => "too many bytes of retained messages",
        })
    }
}

impl core::error::Error for Full {}

impl<M> Retained<M> {
    /// An empty store for at most `max` messages, and `max_bytes` in the sum of what
    /// [`Retained::set`] is told. With 0 for one of them nothing (that has bytes) can be stored.
    #[must_use]
    pub const fn new(max: u32, max_bytes: u64) -> Self {
        Self {
            topics: BTreeMap::new(),
            expiries: BTreeMap::new(),
            sequence: 0,
            bytes: 0,
            owned: 0,
            max,
            max_bytes,
        }
    }

    /// Stores `message`, which counts as `bytes` and is no longer given out from `expires` on.
    /// Gives the message that was there before, and whether the new one was stored.
    ///
    /// The old message is gone even when the new one is not stored: it is stale then.
    ///
    /// # Errors
    /// [`Full`] when a limit would be passed.
    pub fn set(
        &mut self,
        topic: &str,
        message: M,
        bytes: u64,
        expires: Option<Instant>,
    ) -> (Option<M>, Result<(), Full>) {
        let (text, old) = match self.take(topic) {
            Some((text, message)) => (Some(text), Some(message)),
            None => (None, None),
        };
        if self.topics.len() >= self.max as usize {
            return (old, Err(Full::Messages));
        }
        if bytes > self.max_bytes - self.bytes {
            return (old, Err(Full::Bytes));
        }
        let text = text.unwrap_or_else(|| Arc::from(topic));
        self.sequence += 1;
        self.bytes += bytes;
        self.owned += Self::cost(topic);
        if let Some(expires) = expires {
            self.expiries.insert((expires, self.sequence), text.clone());
        }
        let stored = Stored { message, bytes, sequence: self.sequence, expires };
        self.topics.insert(text, stored);
        (old, Ok(()))
    }

    /// Removes the message of a topic, expired or not, and gives it.
    pub fn remove(&mut self, topic: &str) -> Option<M> {
        self.take(topic).map(|(_, message)| message)
    }

    /// The message of a topic, unless it has expired.
    #[must_use]
    pub fn get(&self, now: Instant, topic: &str) -> Option<&M> {
        let stored = self.topics.get(topic).filter(|stored| stored.alive(now))?;
        Some(&stored.message)
    }

    /// The number of the message stored last: what [`Cursor::new`] wants as `upto` so that only
    /// messages stored until now are walked.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Continues a walk over the topics that match the cursor's filter, in the order of their
    /// bytes. Looks at no more than `steps` messages, whether they match or not, and calls `found`
    /// for each that matches, has not expired and was stored until the cursor was made. Stops early
    /// when `found` answers `false`; that message is not given again. True when the walk is
    /// finished, and from then on.
    ///
    /// Between two calls the store may change: a topic that stays is given exactly once, one that
    /// is stored or replaced after the cursor was made is not given.
    pub fn walk(
        &self,
        now: Instant,
        cursor: &mut Cursor,
        mut steps: usize,
        found: &mut dyn FnMut(&str, &M) -> bool,
    ) -> bool {
        let Cursor { filter, upto, place } = cursor;
        let wildcard = wildcard_at(filter);
        let due = |stored: &Stored<M>| stored.sequence <= *upto && stored.alive(now);
        if matches!(place, Place::Single) {
            if steps == 0 {
                return false;
            }
            steps -= 1;
            *place = if wildcard.is_some() { Place::Front } else { Place::Done };
            let topic = &filter[..wildcard.map_or(filter.len(), |at| at - 1)];
            let stored = self.topics.get(topic).filter(|stored| due(stored));
            if stored.is_some_and(|stored| !found(topic, &stored.message)) {
                return matches!(place, Place::Done);
            }
        }
        let prefix = &filter[..wildcard.unwrap_or(0)];
        let start = match place {
            Place::Done => return true,
            Place::After(topic) => Bound::Excluded(&**topic),
            Place::Single | Place::Front => Bound::Included(prefix),
        };
        let from = |start| self.topics.range::<str, _>((start, Bound::Unbounded));
        let mut range = from(start);
        let mut last = None;
        let finished = loop {
            let Some((topic, stored)) = range.next() else { break true };
            if !topic.starts_with(prefix) {
                break true;
            }
            // [MQTT-4.7.2-1]: behind all topics with `$`, as `%` comes next.
            if prefix.is_empty() && topic.starts_with('$') {
                range = from(Bound::Included("%"));
                continue;
            }
            if steps == 0 {
                break false;
            }
            steps -= 1;
            last = Some(topic);
            if due(stored) && matches(filter, topic) && !found(topic, &stored.message) {
                break false;
            }
        };
        if finished {
            *place = Place::Done;
        } else if let Some(topic) = last {
            *place = Place::After(topic.clone());
        }
        finished
    }

    /// Removes messages that have expired, at most `at_most`; gives how many.
    pub fn expire(&mut self, now: Instant, at_most: usize) -> usize {
        let mut removed = 0;
        while removed < at_most
            && let Some((&(expires, _), topic)) = self.expiries.first_key_value()
            && expires <= now
        {
            let topic = topic.clone();
            self.take(&topic);
            removed += 1;
        }
        removed
    }

    /// When the next message expires, which may have passed.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first_key_value().map(|(&(expires, _), _)| expires)
    }

    /// Messages stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no message is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The sum of the bytes that [`Retained::set`] was told for the messages stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory held, in bytes, without what the messages own. Takes constant time.
    #[must_use]
    pub const fn footprint(&self) -> u64 {
        self.owned
    }

    /// What a message on this topic adds to [`Retained::footprint`].
    #[must_use]
    pub const fn cost(topic: &str) -> u64 {
        ENTRY + topic.len() as u64
    }

    fn take(&mut self, topic: &str) -> Option<(Arc<str>, M)> {
        let (text, stored) = self.topics.remove_entry(topic)?;
        if let Some(expires) = stored.expires {
            self.expiries.remove(&(expires, stored.sequence));
        }
        self.bytes -= stored.bytes;
        self.owned -= Self::cost(topic);
        Some((text, stored.message))
    }
}

/// Where a walk over retained messages is; for one [`Retained`] only.
#[derive(Clone, Debug)]
pub struct Cursor {
    filter: Arc<str>,
    upto: u64,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// Before the one topic of a filter without wildcard, or `a` of `a/#`: in the order of bytes
    /// other topics may stand between `a` and `a/`.
    Single,
    /// Before the topics that start as the filter does.
    Front,
    /// Behind this topic, which may be gone.
    After(Arc<str>),
    Done,
}

impl Cursor {
    /// A walk that has not begun, over the messages stored until [`Retained::sequence`] was `upto`
    /// whose topics match `filter`, without `$share/{name}/`.
    #[must_use]
    pub fn new(filter: impl Into<Arc<str>>, upto: u64) -> Self {
        let filter = filter.into();
        let place = match wildcard_at(&filter) {
            None => Place::Single,
            Some(at) if at > 0 && &filter[at..] == "#" => Place::Single,
            Some(_) => Place::Front,
        };
        Self { filter, upto, place }
    }

    /// A walk that stopped somewhere: the opposite of [`Cursor::upto`] and [`Cursor::after`].
    #[must_use]
    pub fn at(filter: impl Into<Arc<str>>, upto: u64, after: Option<Arc<str>>) -> Self {
        let mut cursor = Self::new(filter, upto);
        if let Some(after) = after {
            let prefix = &cursor.filter[..wildcard_at(&cursor.filter).unwrap_or(0)];
            // Behind `a` of `a/#` those that begin with `a/` have not begun.
            let begun = after.starts_with(prefix);
            cursor.place = if begun { Place::After(after) } else { Place::Front };
        }
        cursor
    }

    /// What was given as `upto`; `None` for `u64::MAX`, which stands for a number not known yet.
    #[must_use]
    pub fn upto(&self) -> Option<u64> {
        (self.upto != u64::MAX).then_some(self.upto)
    }

    /// The topic behind which the walk goes on; `None` if it has not begun.
    #[must_use]
    pub fn after(&self) -> Option<Arc<str>> {
        match &self.place {
            Place::After(topic) => Some(topic.clone()),
            Place::Front => {
                let wildcard = wildcard_at(&self.filter)?;
                let rest = &self.filter[wildcard..];
                (wildcard > 0 && rest == "#").then(|| Arc::from(&self.filter[..wildcard - 1]))
            }
            Place::Single | Place::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    const NOW: Instant = Instant::from_micros(100);

    fn store(topics: &[&str]) -> Retained<usize> {
        let mut retained = Retained::new(100, 1000);
        for (number, topic) in topics.iter().enumerate() {
            assert_eq!(retained.set(topic, number, 1, None), (None, Ok(())));
        }
        retained
    }

    fn walk(retained: &Retained<usize>, filter: &str) -> Vec<String> {
        let mut topics = Vec::new();
        let mut cursor = Cursor::new(filter, retained.sequence());
        assert!(retained.walk(NOW, &mut cursor, 100, &mut |topic, _| {
            topics.push(topic.to_string());
            true
        }));
        assert!(retained.walk(NOW, &mut cursor, 0, &mut |_, _| unreachable!()));
        topics
    }

    #[test]
    fn walks_give_matching_topics_in_order() {
        let retained =
            store(&["b", "a/x/y", "$SYS/a", "a", "a!", "a/b", "!", "a0", "/a", "a/", "$", "%"]);
        assert_eq!(walk(&retained, "a/#"), ["a", "a/", "a/b", "a/x/y"]);
        assert_eq!(walk(&retained, "+"), ["!", "%", "a", "a!", "a0", "b"]);
        assert_eq!(walk(&retained, "#").len(), 10);
        assert_eq!(walk(&retained, "/#"), ["/a"]);
        assert_eq!(walk(&retained, "$SYS/#"), ["$SYS/a"]);
        assert_eq!(walk(&retained, "a/+/y"), ["a/x/y"]);
        assert_eq!(walk(&retained, "a"), ["a"]);
        assert!(walk(&retained, "c").is_empty());
        assert!(walk(&retained, "+/c/#").is_empty());
    }

    #[test]
    fn a_walk_that_is_stopped_goes_on_behind_the_last_topic() {
        let retained = store(&["a", "a/b", "a/c"]);
        let mut cursor = Cursor::new("a/#", retained.sequence());
        let mut given = Vec::new();
        while !retained.walk(NOW, &mut cursor, 100, &mut |_, &number| {
            given.push(number);
            false
        }) {}
        assert_eq!(given, [0, 1, 2]);
        let mut cursor = Cursor::new("a", retained.sequence());
        assert!(retained.walk(NOW, &mut cursor, 1, &mut |_, _| false));
    }

    #[test]
    fn a_step_of_one_gets_past_hidden_topics() {
        let retained = store(&["$1", "$2", "!", "x"]);
        let mut cursor = Cursor::new("#", retained.sequence());
        let mut calls = 0;
        while !retained.walk(NOW, &mut cursor, 1, &mut |_, _| true) {
            calls += 1;
        }
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_walk_goes_on_from_where_it_was_written_down() {
        let retained = store(&["a", "a!", "a/b", "a/c", "b", "/"]);
        for filter in ["a/#", "#", "+", "a/+", "a", "b", "+/#"] {
            let (mut upto, mut after, mut given) = (retained.sequence(), None, Vec::new());
            loop {
                let mut cursor = Cursor::at(filter, upto, after);
                let done = retained.walk(NOW, &mut cursor, 1, &mut |topic, _| {
                    given.push(topic.to_string());
                    false
                });
                if done {
                    break;
                }
                (upto, after) = (cursor.upto().expect("known"), cursor.after());
            }
            assert_eq!(given, walk(&retained, filter), "{filter}");
        }
    }

    #[test]
    fn messages_stored_after_the_cursor_are_not_given() {
        let mut retained = store(&["a", "b"]);
        let mut cursor = Cursor::new("#", retained.sequence());
        retained.set("a", 9, 1, None).1.expect("room");
        retained.set("c", 9, 1, None).1.expect("room");
        let mut given = Vec::new();
        retained.walk(NOW, &mut cursor, 100, &mut |topic, _| {
            given.push(topic.to_string());
            true
        });
        assert_eq!(given, ["b"]);
    }

    #[test]
    fn the_limits_hold_and_a_stale_message_is_removed() {
        let mut retained = Retained::new(2, 10);
        assert_eq!(retained.set("a", 'a', 4, None), (None, Ok(())));
        assert_eq!(retained.set("a", 'b', 6, None), (Some('a'), Ok(())));
        assert_eq!((retained.len(), retained.bytes()), (1, 6));
        assert_eq!(retained.set("b", 'c', 5, None), (None, Err(Full::Bytes)));
        assert_eq!(retained.set("b", 'c', 4, None), (None, Ok(())));
        assert_eq!(retained.set("c", 'c', 0, None), (None, Err(Full::Messages)));
        assert_eq!(retained.set("b", 'd', 5, None), (Some('c'), Err(Full::Bytes)));
        assert_eq!((retained.get(NOW, "b"), retained.bytes()), (None, 6));
        assert_eq!(retained.remove("a"), Some('b'));
        assert_eq!(retained.remove("a"), None);
        assert_eq!((retained.is_empty(), retained.bytes()), (true, 0));
        assert_eq!(retained.set("a", 'a', u64::MAX, None).1, Err(Full::Bytes));
    }

    #[test]
    fn expired_messages_are_hidden_and_then_removed() {
        let at = Instant::from_micros;
        let mut retained = Retained::new(10, 10);
        for (topic, expires) in [("a", Some(at(5))), ("b", Some(at(3))), ("c", None)] {
            retained.set(topic, topic, 1, expires).1.expect("room");
        }
        retained.set("b", "b", 1, Some(at(4))).1.expect("room");
        assert_eq!(retained.next_expiry(), Some(at(4)));
        assert_eq!((retained.get(at(3), "b"), retained.get(at(4), "b")), (Some(&"b"), None));
        let mut given = Vec::new();
        let mut cursor = Cursor::new("#", retained.sequence());
        retained.walk(at(4), &mut cursor, 9, &mut |topic, _| {
            given.push(topic.to_string());
            true
        });
        assert_eq!(given, ["a", "c"]);
        assert_eq!(retained.expire(at(3), 9), 0);
        assert_eq!((retained.expire(at(9), 1), retained.len()), (1, 2));
        assert_eq!((retained.expire(at(9), 9), retained.len()), (1, 1));
        assert_eq!((retained.next_expiry(), retained.bytes()), (None, 1));
    }
}
