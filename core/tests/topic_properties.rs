//! The structures over topics against the naive matcher and plain lists.
#![cfg(feature = "alloc")]

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::Instant;
use fulmar_core::topic::{
    Cursor, Groups, Index, Member, Retained, TopicFilter, TopicName, matches, split_share,
};
use quickcheck::{Arbitrary, Gen, quickcheck};

/// A valid name of few levels from a small alphabet, so that filters often match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(String);

/// A valid filter over the same alphabet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Filter(String);

// `!` and `0` stand before and behind `/` in the order of bytes.
const LEVELS: [&str; 8] = ["", "a", "b", "a!", "a0", "$x", "é", "a"];

fn levels(g: &mut Gen, wild: bool) -> String {
    loop {
        let mut levels = Vec::new();
        for _ in 0..1 + usize::arbitrary(g) % 4 {
            let plus = wild && u8::arbitrary(g) % 3 == 0;
            levels.push(if plus { "+" } else { g.choose(&LEVELS).expect("some") });
        }
        if wild && u8::arbitrary(g) % 3 == 0 {
            let last = levels.len() - 1;
            levels[last] = "#";
        }
        let text = levels.join("/");
        if !text.is_empty() {
            return text;
        }
    }
}

impl Arbitrary for Name {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(levels(g, false))
    }
}

impl Arbitrary for Filter {
    fn arbitrary(g: &mut Gen) -> Self {
        let wild = bool::arbitrary(g);
        Self(levels(g, wild))
    }
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Filter, u8, u32),
    Remove(Filter, u8),
    /// Removes the entry at this place of the model, so that much is removed.
    RemoveAt(usize),
}

impl Arbitrary for Change {
    fn arbitrary(g: &mut Gen) -> Self {
        let (filter, key) = (Filter::arbitrary(g), u8::arbitrary(g) % 4);
        match u8::arbitrary(g) % 5 {
            0 => Self::Remove(filter, key),
            1 | 2 => Self::RemoveAt(usize::arbitrary(g)),
            _ => Self::Insert(filter, key, u32::arbitrary(g)),
        }
    }
}

type Model = BTreeMap<(String, u32), u32>;

/// The entries for `topic`, ordered, with the number of calls of `found`.
fn found(index: &Index, topic: &str) -> (usize, Vec<(u32, u32)>) {
    let (mut calls, mut entries) = (0, Vec::new());
    index.matches(topic, |found| {
        assert!(!found.is_empty());
        calls += 1;
        entries.extend(found.iter().map(|entry| (entry.key, entry.value)));
    });
    entries.sort_unstable();
    (calls, entries)
}

/// The same, by [`Index::lookup`].
fn looked_up(index: &mut Index, topic: &str) -> (usize, Vec<(u32, u32)>) {
    let (mut calls, mut entries) = (0, Vec::new());
    index.lookup(topic, |found| {
        assert!(!found.is_empty());
        calls += 1;
        entries.extend(found.iter().map(|entry| (entry.key, entry.value)));
        true
    });
    entries.sort_unstable();
    (calls, entries)
}

fn expected(model: &Model, topic: &str) -> (usize, Vec<(u32, u32)>) {
    let matching = || model.iter().filter(|((filter, _), _)| matches(filter, topic));
    let filters: BTreeSet<&str> = matching().map(|((filter, _), _)| filter.as_str()).collect();
    let mut entries: Vec<_> = matching().map(|((_, key), value)| (*key, *value)).collect();
    entries.sort_unstable();
    (filters.len(), entries)
}

fn apply(index: &mut Index, model: &mut Model, change: Change) -> bool {
    match change {
        Change::Insert(Filter(filter), key, value) => {
            let key = u32::from(key);
            let (text, replaced) = index.insert(&filter, key, value);
            *text == *filter && replaced == model.insert((filter, key), value)
        }
        Change::Remove(Filter(filter), key) => {
            let key = u32::from(key);
            index.remove(&filter, key) == model.remove(&(filter, key))
        }
        Change::RemoveAt(at) => {
            let Some(((filter, key), value)) =
                model.iter().nth(at % model.len().max(1)).map(|(k, v)| (k.clone(), *v))
            else {
                return true;
            };
            model.remove(&(filter.clone(), key));
            index.get(&filter, key) == Some(value) && index.remove(&filter, key) == Some(value)
        }
    }
}

/// Walks to the end, `steps` at a time.
fn walk(retained: &Retained<u32>, filter: &str, steps: usize) -> Vec<(String, u32)> {
    let mut given = Vec::new();
    let mut cursor = Cursor::new(filter, retained.sequence());
    while !retained.walk(Instant::ZERO, &mut cursor, steps, &mut |topic, &message| {
        given.push((topic.to_owned(), message));
        true
    }) {}
    given
}

fn store(topics: &[Name]) -> (Retained<u32>, BTreeMap<String, u32>) {
    let mut retained = Retained::new(u32::MAX, u64::MAX);
    let mut model = BTreeMap::new();
    for (message, Name(topic)) in (0..).zip(topics) {
        let (old, stored) = retained.set(topic, message, 1, None);
        assert!(stored.is_ok());
        assert_eq!(old, model.insert(topic.clone(), message));
    }
    (retained, model)
}

quickcheck! {
    fn what_the_generators_make_is_valid(name: Name, filter: Filter) -> bool {
        TopicName::new(&name.0, 4).is_ok()
            && TopicFilter::new(&filter.0, 4).is_ok()
            && matches(&name.0, &name.0)
            && split_share(&filter.0) == Ok(None)
            && split_share(&format!("$share/g/{}", filter.0)) == Ok(Some(("g", &*filter.0)))
    }

    fn validation_accepts_exactly_what_the_standard_does(picks: Vec<u8>) -> bool {
        let signs = ['a', '/', '+', '#', '/', '$', '\0'];
        let text: String = picks.iter().map(|&pick| signs[usize::from(pick) % 7]).collect();
        let plain = !text.is_empty() && !text.contains('\0') && text.split('/').count() <= 8;
        let levels: Vec<&str> = text.split('/').collect();
        let placed = levels.iter().enumerate().all(|(at, &level)| {
            !level.contains(['+', '#'])
                || level == "+"
                || (level == "#" && at + 1 == levels.len())
        });
        TopicName::new(&text, 8).is_ok() == (plain && !text.contains(['+', '#']))
            && TopicFilter::new(&text, 8).is_ok() == (plain && placed)
    }

    fn the_index_finds_what_the_naive_matcher_finds(
        changes: Vec<Change>,
        topics: Vec<Name>,
        seed: u64
    ) -> bool {
        let (mut index, mut model) = (Index::new(seed), Model::new());
        for change in changes {
            if !apply(&mut index, &mut model, change) {
                return false;
            }
            let filters: BTreeSet<_> = model.keys().map(|(filter, _)| filter).collect();
            if index.filters() != filters.len() {
                return false;
            }
        }
        let mut topics = topics.iter().map(|topic| topic.0.as_str());
        if !topics.all(|topic| found(&index, topic) == expected(&model, topic)) {
            return false;
        }
        // Nothing is left behind by filters that are gone.
        for (filter, key) in model.into_keys() {
            index.remove(&filter, key);
        }
        index.filters() == 0 && LEVELS.iter().all(|topic| found(&index, topic).0 == 0)
    }

    fn what_is_remembered_of_a_topic_stays_right(
        steps: Vec<(Change, Name, bool)>,
        hot: Vec<Name>,
        seed: u64
    ) -> bool {
        let (mut index, mut model) = (Index::with_cache(seed), Model::new());
        let empty = index.footprint();
        for (change, Name(topic), twice) in steps {
            if !apply(&mut index, &mut model, change) {
                return false;
            }
            // Any topic once or twice, and some again and again.
            let any = std::iter::repeat_n(&topic, 1 + usize::from(twice));
            let again = hot.iter().take(3).flat_map(|Name(topic)| [topic, topic]);
            for topic in any.chain(again) {
                let found = found(&index, topic);
                if looked_up(&mut index, topic) != found || found != expected(&model, topic) {
                    return false;
                }
                // Who has enough is given no more, and the next one all the same.
                let mut calls = 0;
                index.lookup(topic, |_| {
                    calls += 1;
                    false
                });
                if calls != found.0.min(1) {
                    return false;
                }
            }
            let wild = model.keys().any(|(filter, _)| filter.contains(['+', '#']));
            if (index.remembered() > 0) != wild {
                return false;
            }
        }
        for (filter, key) in model.into_keys() {
            index.remove(&filter, key);
        }
        index.remembered() == 0 && index.footprint() <= empty + 4096
    }

    fn a_walk_in_steps_gives_what_a_filter_over_all_topics_gives(
        topics: Vec<Name>,
        filter: Filter,
        steps: usize
    ) -> bool {
        let (retained, model) = store(&topics);
        let naive: Vec<_> =
            model.into_iter().filter(|(topic, _)| matches(&filter.0, topic)).collect();
        walk(&retained, &filter.0, 1 + steps % 5) == naive
    }

    fn a_walk_gives_what_stays_once_and_nothing_that_comes(
        topics: Vec<Name>,
        filter: Filter,
        changes: Vec<(bool, Name)>,
        steps: usize
    ) -> bool {
        let (mut retained, model) = store(&topics);
        let mut stays: BTreeMap<_, _> =
            model.iter().filter(|(topic, _)| matches(&filter.0, topic)).collect();
        let mut given = Vec::new();
        let mut cursor = Cursor::new(&*filter.0, retained.sequence());
        let mut changes = changes.into_iter();
        while !retained.walk(Instant::ZERO, &mut cursor, 1 + steps % 3, &mut |topic, &message| {
            given.push((topic.to_owned(), message));
            // Sometimes stops early.
            !message.is_multiple_of(3)
        }) {
            if let Some((set, Name(topic))) = changes.next() {
                stays.remove(&topic);
                if set {
                    retained.set(&topic, u32::MAX, 1, None).1.expect("room");
                } else {
                    retained.remove(&topic);
                }
            }
        }
        given.is_sorted()
            && given.windows(2).all(|pair| pair[0].0 != pair[1].0)
            && given.iter().all(|(topic, message)| {
                model.get(topic) == Some(message) && matches(&filter.0, topic)
            })
            && stays.iter().all(|(topic, message)| {
                given.iter().filter(|(t, m)| t == *topic && m == *message).count() == 1
            })
    }

    fn groups_do_what_a_list_does(steps: Vec<(u8, u8, bool)>) -> bool {
        let mut groups = Groups::new(9);
        let names = ["$share/g/a", "$share/g/b"];
        let mut models = [BTreeMap::new(), BTreeMap::new()];
        // Enough members that positions are kept in a map.
        let grow = (0..80).map(|session| (0, session, session % 2 == 0));
        for (what, session, connected) in grow.chain(steps) {
            let at = usize::from(session % 2);
            let (name, model, session) = (names[at], &mut models[at], u32::from(session % 96));
            let member = Member { session, value: u32::from(what) };
            match what % 3 {
                0 => {
                    let joined = groups.join(name, member, connected);
                    let old = model.insert(session, (connected, member.value));
                    assert_eq!(joined.replaced, old.map(|(_, value)| value));
                    assert_eq!(joined.new, model.len() == 1 && old.is_none());
                    assert_eq!(groups.name(joined.group), Some(name));
                }
                1 => {
                    let left = groups.leave(name, session);
                    let old = model.remove(&session);
                    assert_eq!(left.map(|left| left.value), old.map(|(_, value)| value));
                    assert!(left.is_none_or(|left| left.empty == model.is_empty()));
                }
                _ => {
                    groups.set_connected(name, session, connected);
                    if let Some(known) = model.get_mut(&session) {
                        known.0 = connected;
                    }
                }
            }
        }
        (0..2).all(|group| {
            let Some(name) = groups.name(group) else { return true };
            let model = &models[usize::from(name == names[1])];
            let mut members: Vec<_> =
                groups.members(group).map(|member| (member.session, member.value)).collect();
            members.sort_unstable();
            let expected = model.iter().map(|(&session, &(_, value))| (session, value));
            members.into_iter().eq(expected) && turns_are_fair(&mut groups, group, model)
        })
    }
}

/// In as many turns as there are eligible members each of them has one; the others have none.
fn turns_are_fair(groups: &mut Groups, group: u32, model: &BTreeMap<u32, (bool, u32)>) -> bool {
    let connected = model.values().filter(|(connected, _)| *connected).count();
    assert_eq!(groups.connected(group), connected);
    let eligible: BTreeSet<u32> = model
        .iter()
        .filter(|(_, (on, _))| *on || connected == 0)
        .map(|(&session, _)| session)
        .collect();
    let turns: Vec<u32> = (0..eligible.len())
        .filter_map(|_| groups.choose(group, None))
        .map(|member| member.session)
        .collect();
    turns.len() == eligible.len() && turns.into_iter().collect::<BTreeSet<_>>() == eligible
}
