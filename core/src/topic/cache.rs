//! Which filters match the topics that come again and again.

use alloc::vec::Vec;

use super::matches::{bytes_match, wildcard_at};

/// The numbers of all filters that match a topic, for some topics.
///
/// It is kept right instead of being emptied: where a filter comes or goes, the topics it matches
/// gain or lose its number. So nobody who subscribes and unsubscribes all the time, to whatever
/// filters, takes it away from others, and he pays himself, by looking through the topics. That is
/// why they are few.
///
/// Where all places of its set are taken, a topic is taken up only if it is one of the last few
/// that were missed there: so topics that never come again displace nothing, and cost no more than
/// to be looked for.
pub(crate) struct Cache {
    /// None while it is off.
    sets: Vec<Set>,
    /// Places in use.
    used: u32,
    /// All that it has.
    bytes: usize,
}

/// Sets. The places of all are looked through when a filter with wildcards comes or goes: so many
/// cost at most about what SUBSCRIBE and UNSUBSCRIBE cost besides. Few for the fuzzer, which has
/// few topics.
const SETS: usize = if cfg!(fuzzing) { 2 } else { 32 };
/// Places of a set, so that topics with the same hash displace each other seldom.
const WAYS: usize = 4;
/// Bytes of a topic, at most.
const TOPIC: usize = 80;
/// Filters that match a topic and are in its place, which has two cache lines; more are apart.
const FEW: usize = 5;
/// Filters that match a topic, at most. Whoever has so many filters that match one topic makes
/// each of its messages dear in any case.
const FILTERS: usize = if cfg!(fuzzing) { 8 } else { 256 };

struct Set {
    /// Of the topics in the places, 0 of none.
    hashes: [u32; WAYS],
    /// Of the last topics that were not there, in a ring that goes on at `misses`.
    missed: [u32; WAYS],
    misses: u16,
    /// Which place the next topic takes.
    next: u16,
    places: [Place; WAYS],
}

struct Place {
    len: u8,
    /// Of the few.
    count: u8,
    topic: [u8; TOPIC],
    few: [u32; FEW],
    /// All filters, where they are more than a few; empty otherwise.
    many: Vec<u32>,
}

const NOTHING: Place =
    Place { len: 0, count: 0, topic: [0; TOPIC], few: [0; FEW], many: Vec::new() };
const EMPTY: Set = Set {
    hashes: [0; WAYS],
    missed: [0; WAYS],
    misses: 0,
    next: 0,
    places: [const { NOTHING }; WAYS],
};

/// What is known of a topic.
pub(crate) enum Known<'c> {
    /// All filters that match.
    All(&'c [u32]),
    /// Nothing, but it is worth to be taken up.
    Again,
    Nothing,
}

/// What is found for a topic, to be taken up if it is not too much.
#[derive(Default)]
pub(crate) struct Finds {
    numbers: heapless::Vec<u32, FILTERS>,
    too_many: bool,
}

impl Finds {
    /// False if it is too much.
    pub(crate) fn push(&mut self, number: u32) -> bool {
        self.too_many |= self.numbers.push(number).is_err();
        !self.too_many
    }
}

impl Place {
    fn topic(&self) -> &[u8] {
        &self.topic[..usize::from(self.len)]
    }

    fn filters(&self) -> &[u32] {
        match self.many.is_empty() {
            true => &self.few[..usize::from(self.count)],
            false => &self.many,
        }
    }

    fn set(&mut self, filters: &[u32]) {
        self.many = Vec::new();
        if let Some(few) = self.few.get_mut(..filters.len()) {
            few.copy_from_slice(filters);
            self.count = filters.len() as u8;
        } else {
            self.many = filters.to_vec();
        }
    }

    /// False if there is no room.
    fn push(&mut self, number: u32) -> bool {
        let count = self.filters().len();
        if count >= FILTERS {
            return false;
        }
        match self.few.get_mut(count) {
            Some(slot) => {
                *slot = number;
                self.count += 1;
            }
            None => {
                if self.many.is_empty() {
                    self.many.extend(self.few);
                }
                self.many.push(number);
            }
        }
        true
    }

    fn remove_at(&mut self, at: usize) {
        if self.many.is_empty() {
            self.count -= 1;
            self.few[at] = self.few[usize::from(self.count)];
            return;
        }
        self.many.swap_remove(at);
        if self.many.len() <= FEW {
            let few = core::mem::take(&mut self.many);
            self.set(&few);
        }
    }

    /// Bytes that it has apart.
    fn apart(&self) -> usize {
        self.many.capacity() * size_of::<u32>()
    }
}

/// What a filter that comes or goes does to all topics together.
#[derive(Default)]
struct Change {
    /// Topics that too many match now.
    full: u32,
    /// Bytes apart that are had no more, and those that are.
    less: usize,
    more: usize,
}

// Apart from the walk over all topics, of which few are matched.
impl Change {
    #[inline(never)]
    fn gain(&mut self, known: &mut u32, place: &mut Place, number: u32) {
        self.less += place.apart();
        if !place.push(number) {
            place.set(&[]);
            *known = 0;
            self.full += 1;
        }
        self.more += place.apart();
    }

    #[inline(never)]
    fn lose(&mut self, place: &mut Place, at: usize) {
        let before = place.apart();
        place.remove_at(at);
        self.less += before - place.apart();
    }
}

impl Cache {
    pub(crate) const fn new() -> Self {
        Self { sets: Vec::new(), used: 0, bytes: 0 }
    }

    /// Bytes that it has while it is on, and no topic is matched by more than a few filters.
    pub(crate) const BYTES: usize = SETS * size_of::<Set>();

    /// Gives it memory, or takes it away.
    pub(crate) fn switch(&mut self, on: bool) {
        match (on, self.sets.is_empty()) {
            (true, true) => {
                self.sets.reserve_exact(SETS);
                self.sets.resize_with(SETS, || EMPTY);
                self.bytes = Self::BYTES;
            }
            (false, false) => *self = Self::new(),
            _ => {}
        }
    }

    pub(super) fn is_on(&self) -> bool {
        !self.sets.is_empty()
    }

    /// Looks for a topic; `hash` is always the same one for it.
    pub(crate) fn get(&mut self, hash: u32, topic: &str) -> Known<'_> {
        // One that is too long to be taken up need not be missed.
        if topic.len() > TOPIC {
            return Known::Nothing;
        }
        let hash = hash.max(1);
        let Some(set) = self.sets.get_mut(set_of(hash)) else { return Known::Nothing };
        let mut places = set.hashes.iter().zip(&set.places);
        let found =
            places.position(|(known, place)| *known == hash && place.topic() == topic.as_bytes());
        match found {
            Some(at) => Known::All(set.places[at].filters()),
            None if set.missed.contains(&hash) || set.hashes.contains(&0) => Known::Again,
            None => {
                set.missed[usize::from(set.misses) % WAYS] = hash;
                set.misses = set.misses.wrapping_add(1);
                Known::Nothing
            }
        }
    }

    /// Takes up a topic that is not there, with all filters that match it.
    pub(crate) fn put(&mut self, hash: u32, topic: &str, finds: &Finds) {
        let hash = hash.max(1);
        let Some(set) = self.sets.get_mut(set_of(hash)) else { return };
        let found = &finds.numbers;
        if finds.too_many || topic.len() > TOPIC {
            return;
        }
        let free = set.hashes.iter().position(|known| *known == 0);
        let at = free.unwrap_or(usize::from(set.next) % WAYS);
        set.next = at as u16 + 1;
        self.used += u32::from(free.is_some());
        let place = &mut set.places[at];
        place.len = topic.len() as u8;
        place.topic[..topic.len()].copy_from_slice(topic.as_bytes());
        self.bytes -= place.apart();
        place.set(found);
        self.bytes += place.apart();
        set.hashes[at] = hash;
    }

    /// A filter has come: the topics that it matches gain its number. `hash` is that of its text.
    pub(crate) fn add(&mut self, hash: u32, filter: &str, number: u32) {
        let mut change = Change::default();
        self.each(hash, wildcard_at(filter).is_some(), |known, place| {
            if bytes_match(filter.as_bytes(), place.topic()) {
                change.gain(known, place, number);
            }
        });
        self.used -= change.full;
        self.bytes = self.bytes - change.less + change.more;
    }

    /// A filter has gone: the topics that it matched lose its number.
    pub(super) fn remove(&mut self, hash: u32, filter: &str, number: u32) {
        let mut change = Change::default();
        self.each(hash, wildcard_at(filter).is_some(), |_, place| {
            if let Some(at) = place.filters().iter().position(|known| *known == number) {
                change.lose(place, at);
            }
        });
        self.bytes -= change.less;
    }

    /// The same where several filters may have one number: only topics that this one matches lose
    /// it, once.
    pub(crate) fn remove_one(&mut self, hash: u32, filter: &str, number: u32) {
        let mut change = Change::default();
        self.each(hash, wildcard_at(filter).is_some(), |_, place| {
            if bytes_match(filter.as_bytes(), place.topic())
                && let Some(at) = place.filters().iter().position(|known| *known == number)
            {
                change.lose(place, at);
            }
        });
        self.bytes -= change.less;
    }

    /// Calls `change` for each topic that a filter can match.
    fn each(&mut self, hash: u32, wild: bool, mut change: impl FnMut(&mut u32, &mut Place)) {
        if self.used == 0 {
            return;
        }
        let own = set_of(hash.max(1));
        let sets = if wild { &mut self.sets[..] } else { &mut self.sets[own..=own] };
        for set in sets {
            for (known, place) in set.hashes.iter_mut().zip(&mut set.places) {
                if *known != 0 {
                    change(known, place);
                }
            }
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes
    }
}

fn set_of(hash: u32) -> usize {
    hash as usize % SETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::String};

    /// A cache that is on, and has taken up topics without filters; all have the same hash, so that
    /// they share a set.
    fn with(topics: &[&str]) -> Cache {
        let mut cache = Cache::new();
        cache.switch(true);
        topics.iter().for_each(|topic| take_up(&mut cache, topic, &[]));
        cache
    }

    fn take_up(cache: &mut Cache, topic: &str, numbers: &[u32]) {
        let mut finds = Finds::default();
        numbers.iter().for_each(|number| {
            finds.push(*number);
        });
        cache.put(7, topic, &finds);
    }

    /// The numbers known of a topic.
    fn known(cache: &mut Cache, topic: &str) -> Option<Vec<u32>> {
        let Known::All(numbers) = cache.get(7, topic) else { return None };
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        Some(numbers)
    }

    #[test]
    fn a_place_has_two_cache_lines() {
        assert_eq!(size_of::<Place>(), 128);
        let mut cache = Cache::new();
        assert_eq!((cache.is_on(), cache.footprint()), (false, 0));
        cache.switch(true);
        assert_eq!((cache.is_on(), cache.footprint()), (true, Cache::BYTES));
        const { assert!(Cache::BYTES <= 18 * 1024) };
        cache.switch(false);
        assert_eq!((cache.is_on(), cache.footprint()), (false, 0));
    }

    #[test]
    fn where_all_places_are_taken_a_topic_must_come_again_soon() {
        let mut cache = with(&["1", "2", "3"]);
        assert!(matches!(cache.get(7, "a"), Known::Again), "a place is free");
        take_up(&mut cache, "4", &[]);
        assert!(matches!(cache.get(7, "a"), Known::Nothing));
        assert!(matches!(cache.get(7, "a"), Known::Again));
        // Others of the set come between, by their hashes.
        let others: Vec<u32> = (1..=4).map(|other| 7 + other * SETS as u32).collect();
        for other in &others[..3] {
            assert!(matches!(cache.get(*other, "b"), Known::Nothing));
        }
        assert!(matches!(cache.get(7, "a"), Known::Again));
        assert!(matches!(cache.get(others[3], "b"), Known::Nothing));
        assert!(matches!(cache.get(7, "a"), Known::Nothing), "too many came between");
        // One of another set does not.
        assert!(matches!(cache.get(8, "c"), Known::Again));
        assert!(matches!(cache.get(7, "a"), Known::Again));
    }

    #[test]
    fn filters_that_come_and_go_change_the_topics_they_match() {
        let mut cache = with(&["a", "a/b", "$a", "b"]);
        for (number, filter) in (1..).zip(["a/#", "+/b", "#", "a", "a/+", "/+", "b/b/#"]) {
            cache.add(7, filter, number);
        }
        assert_eq!(known(&mut cache, "a"), Some([1, 3, 4].into()));
        assert_eq!(known(&mut cache, "a/b"), Some([1, 2, 3, 5].into()));
        assert_eq!(known(&mut cache, "$a"), Some([].into()));
        assert_eq!(known(&mut cache, "b"), Some([3].into()));
        cache.remove(7, "#", 3);
        cache.remove(7, "a", 4);
        assert_eq!(known(&mut cache, "a"), Some([1].into()));
        assert_eq!(known(&mut cache, "a/b"), Some([1, 2, 5].into()));
        assert_eq!(known(&mut cache, "b"), Some([].into()));
        assert_eq!(cache.used, 4);
    }

    #[test]
    fn what_is_too_much_is_not_known() {
        let all: Vec<u32> = (0..FILTERS as u32).collect();
        let mut cache = with(&[]);
        let (long, longer) = ("x".repeat(TOPIC), "x".repeat(TOPIC + 1));
        take_up(&mut cache, &long, &all);
        take_up(&mut cache, &longer, &all);
        assert_eq!(known(&mut cache, &long), Some(all.clone()));
        assert_eq!(known(&mut cache, &longer), None);
        // One more filter, and it is not known any more.
        cache.add(7, "x/#", 99);
        assert_eq!(known(&mut cache, &long), Some(all.clone()));
        cache.add(7, "+", 99);
        assert_eq!((known(&mut cache, &long), cache.used), (None, 0));
        assert_eq!(cache.footprint(), Cache::BYTES);
        take_up(&mut cache, &long, &[all, [99].into()].concat());
        assert_eq!((known(&mut cache, &long), cache.used), (None, 0));
    }

    #[test]
    fn more_than_a_few_filters_are_apart() {
        let mut cache = with(&["a", "b"]);
        let all: Vec<u32> = (0..FEW as u32 + 3).collect();
        for few in [1, FEW, FEW + 1, all.len()] {
            take_up(&mut cache, "c", &all[..few]);
            assert_eq!(known(&mut cache, "c"), Some(all[..few].to_vec()));
            let apart = if few > FEW { few * size_of::<u32>() } else { 0 };
            assert_eq!(cache.footprint(), Cache::BYTES + apart);
            // It takes the place of another one each time.
            (0..WAYS).for_each(|n| take_up(&mut cache, &format!("{n}"), &[]));
            assert_eq!((known(&mut cache, "c"), cache.footprint()), (None, Cache::BYTES));
        }
        let mut cache = with(&["a/b", "c"]);
        for number in 0..FEW as u32 + 2 {
            cache.add(7, "a/#", number);
            assert_eq!(known(&mut cache, "a/b"), Some((0..=number).collect()));
        }
        assert!(cache.footprint() > Cache::BYTES);
        for number in 0..FEW as u32 + 2 {
            cache.remove(7, "a/#", number);
            assert_eq!(known(&mut cache, "a/b"), Some((number + 1..FEW as u32 + 2).collect()));
        }
        assert_eq!((known(&mut cache, "c"), cache.footprint()), (Some([].into()), Cache::BYTES));
    }

    #[test]
    fn a_full_set_displaces_its_topics_in_turn() {
        let topics: Vec<String> = (0..WAYS + 2).map(|number| format!("{number}")).collect();
        let mut cache = with(&topics.iter().map(String::as_str).collect::<Vec<_>>());
        let there: Vec<bool> = topics.iter().map(|t| known(&mut cache, t).is_some()).collect();
        assert_eq!(there, [false, false, true, true, true, true]);
        assert_eq!(cache.used as usize, WAYS);
    }
}
