//! The subscription index: from a Topic Name to the subscribers of all filters that match it.

use alloc::sync::Arc;

use super::cache::{Cache, Finds, Known};
use super::list::{Keyed, List};
use super::matches::wildcard_at;
use super::slab::Slab;
use super::trie::Trie;
use crate::map::Numbers;

/// A subscriber of a filter. What the two numbers mean is up to the owner of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Tells the subscribers of one filter apart.
    pub key: u32,
    /// Kept for the owner.
    pub value: u32,
}

impl Keyed for Entry {
    fn key(&self) -> u32 {
        self.key
    }
}

/// Filters and their subscribers.
///
/// Filters are taken as they are, without checks: give it what [`super::TopicFilter`] accepts,
/// without `$share/{name}/`. Order and results depend on nothing but the calls and the seed.
pub struct Index {
    filters: Slab<Filter>,
    /// Filters by their text, also those with wildcards: a topic never has the text of one.
    by_text: Numbers,
    /// Filters with wildcards, and how many there are.
    wild: Trie,
    wilds: usize,
    /// For [`Index::lookup`]; on while there are filters with wildcards.
    cache: Option<Cache>,
    seed: u64,
    generation: u64,
    /// Bytes that the filters own.
    owned: usize,
}

#[derive(Default)]
struct Filter {
    text: Arc<str>,
    entries: List<Entry>,
}

/// The two counters before the text of an `Arc`.
const ARC: usize = 2 * size_of::<usize>();

impl Index {
    /// An empty index; `seed` keeps peers from choosing filters that collide in hash tables.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            filters: Slab::default(),
            by_text: Numbers::new(seed),
            wild: Trie::new(seed),
            wilds: 0,
            cache: None,
            seed,
            generation: 0,
            owned: 0,
        }
    }

    /// Bytes that an index [with a cache](Self::with_cache) takes for it, while there are filters
    /// with wildcards. Each topic that it remembers and more than 5 filters match adds 2 KiB at
    /// most.
    pub const CACHE: usize = Cache::BYTES;

    /// An empty index for topics that come again and again: [`Index::lookup`] remembers 128 of them
    /// at most. That takes about [`Index::CACHE`] bytes.
    #[must_use]
    pub fn with_cache(seed: u64) -> Self {
        Self { cache: Some(Cache::new()), ..Self::new(seed) }
    }

    /// Adds an entry; there is one for each filter and key. Gives the text of the filter, which all
    /// its entries share, and the value that was there before. Takes time in proportion to
    /// the text, however many filters and entries there are.
    pub fn insert(&mut self, filter: &str, key: u32, value: u32) -> (Arc<str>, Option<u32>) {
        self.put(filter, || filter.into(), key, value)
    }

    /// The same with a text that the caller keeps, too: a filter that is new is held in its memory.
    pub(crate) fn insert_shared(
        &mut self,
        filter: &Arc<str>,
        key: u32,
        value: u32,
    ) -> (Arc<str>, Option<u32>) {
        self.put(filter, || filter.clone(), key, value)
    }

    fn put(
        &mut self,
        filter: &str,
        text: impl FnOnce() -> Arc<str>,
        key: u32,
        value: u32,
    ) -> (Arc<str>, Option<u32>) {
        self.generation += 1;
        let number = self.find(filter).unwrap_or_else(|| self.add(filter, text()));
        let Filter { text, entries } = &mut self.filters[number];
        let before = entries.footprint();
        let replaced = entries.insert(self.seed, Entry { key, value });
        self.owned = self.owned - before + entries.footprint();
        (text.clone(), replaced.map(|entry| entry.value))
    }

    /// Removes an entry and gives its value; `None` and no change if there is none. A filter
    /// without entries is removed. Takes as long as [`Index::insert`].
    pub fn remove(&mut self, filter: &str, key: u32) -> Option<u32> {
        let number = self.find(filter)?;
        let entries = &mut self.filters[number].entries;
        let before = entries.footprint();
        let removed = entries.remove(key)?;
        self.owned = self.owned - before + entries.footprint();
        self.generation += 1;
        if entries.as_slice().is_empty() {
            self.drop_filter(filter, number);
        }
        Some(removed.value)
    }

    /// The value of an entry.
    #[must_use]
    pub fn get(&self, filter: &str, key: u32) -> Option<u32> {
        self.filters[self.find(filter)?].entries.get(key).map(|entry| entry.value)
    }

    /// Calls `found` once for each filter that matches `topic`, with its entries, of which there is
    /// at least one. Allocates nothing; one lookup, and a walk over the levels if there is a filter
    /// with wildcards.
    pub fn matches<'a>(&'a self, topic: &str, mut found: impl FnMut(&'a [Entry])) {
        if self.filters.len() == 0 {
            return;
        }
        self.walk(self.by_text.hash(&topic), topic, |number| {
            found(self.filters[number].entries.as_slice());
            true
        });
    }

    /// The same, perhaps in another order, while `found` gives true. A topic that comes again is
    /// found by one lookup, whoever changes filters meanwhile, if the index is one
    /// [with a cache](Self::with_cache), the topic has at most 80 bytes and at most 256 filters
    /// match it. Allocates nothing, but for topics that it takes up which more than 5 match. Gives
    /// whether it took this one up: otherwise it remembers what it did.
    pub fn lookup(&mut self, topic: &str, mut found: impl FnMut(&[Entry]) -> bool) -> bool {
        let hash = self.by_text.hash(&topic);
        let filters = &self.filters;
        let mut found = |number: u32| found(filters[number].entries.as_slice());
        let known = match &mut self.cache {
            Some(cache) if cache.is_on() => cache.get(hash, topic),
            _ => Known::Nothing,
        };
        match known {
            Known::All(numbers) => {
                let _ = numbers.iter().all(|number| found(*number));
                false
            }
            Known::Nothing => {
                self.walk(hash, topic, found);
                false
            }
            Known::Again => {
                let (mut finds, mut more) = (Finds::default(), true);
                self.walk(hash, topic, |number| {
                    more = more && found(number);
                    finds.push(number) || more
                });
                if let Some(cache) = &mut self.cache {
                    cache.put(hash, topic, &finds);
                }
                true
            }
        }
    }

    /// The number of different filters.
    #[must_use]
    pub fn filters(&self) -> usize {
        self.filters.len()
    }

    /// Memory held, in bytes, without the overhead of the allocator. Takes constant time.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let tables = self.filters.footprint() + self.by_text.footprint() + self.wild.footprint();
        tables + self.owned + self.remembered()
    }

    /// Memory held for the topics that are remembered, in bytes. It changes with the first and the
    /// last filter with wildcards, and where more than 5 filters match a topic.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.cache.as_ref().map_or(0, Cache::footprint)
    }

    /// A number that grows with each change, so that results of [`Index::matches`] can be kept
    /// until it does.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn find(&self, text: &str) -> Option<u32> {
        self.find_hashed(self.by_text.hash(&text), text)
    }

    fn find_hashed(&self, hash: u32, text: &str) -> Option<u32> {
        self.by_text.find_hashed(hash, text, |number| &*self.filters[number].text)
    }

    /// Calls `found` with the number of each filter that matches, while it gives true.
    fn walk(&self, hash: u32, topic: &str, mut found: impl FnMut(u32) -> bool) {
        let exact = self.filters.len() > self.wilds;
        let go_on = match exact.then(|| self.find_hashed(hash, topic)).flatten() {
            Some(number) => found(number),
            None => true,
        };
        if go_on && self.wilds > 0 {
            self.wild.matches(topic, found);
        }
    }

    fn add(&mut self, filter: &str, text: Arc<str>) -> u32 {
        self.owned += ARC + text.len();
        let number = self.filters.insert(Filter { text, entries: List::default() });
        self.by_text.insert(filter, number);
        let is_wild = wildcard_at(filter).is_some();
        if is_wild {
            self.wild.insert(filter, number);
            self.wilds += 1;
        }
        if let Some(cache) = &mut self.cache {
            cache.switch(self.wilds > 0);
            cache.add(self.by_text.hash(&filter), filter, number);
        }
        number
    }

    /// Removes a filter without entries.
    fn drop_filter(&mut self, filter: &str, number: u32) {
        if wildcard_at(filter).is_some() {
            self.wild.remove(filter);
            self.wilds -= 1;
        }
        if let Some(cache) = &mut self.cache {
            cache.switch(self.wilds > 0);
            cache.remove(self.by_text.hash(&filter), filter, number);
        }
        self.by_text.remove(filter, number);
        self.owned -= ARC + self.filters.remove(number).text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn keys(index: &Index, topic: &str) -> Vec<u32> {
        let mut keys = Vec::new();
        index.matches(topic, |entries| keys.extend(entries.iter().map(|entry| entry.key)));
        keys.sort_unstable();
        keys
    }

    #[test]
    fn an_entry_is_eight_bytes() {
        assert_eq!(size_of::<Entry>(), 8);
    }

    #[test]
    fn subscribers_of_one_filter_share_its_text() {
        for filter in ["a/b", "a/+"] {
            let mut index = Index::new(1);
            let (first, replaced) = index.insert(filter, 1, 10);
            assert_eq!(replaced, None);
            let (second, replaced) = index.insert(filter, 2, 20);
            assert_eq!(replaced, None);
            assert!(Arc::ptr_eq(&first, &second));
            assert_eq!(&*first, filter);
            assert_eq!(index.insert(filter, 1, 11).1, Some(10));
            assert_eq!(index.get(filter, 1), Some(11));
            assert_eq!(index.filters(), 1);
        }
    }

    #[test]
    fn a_new_filter_takes_the_text_that_is_shared_with_it() {
        let mut index = Index::new(1);
        let [first, second] = ["a/+", "a/+"].map(Arc::<str>::from);
        assert!(Arc::ptr_eq(&index.insert_shared(&first, 1, 10).0, &first));
        assert!(Arc::ptr_eq(&index.insert_shared(&second, 2, 20).0, &first));
        assert_eq!((index.get("a/+", 2), index.filters()), (Some(20), 1));
        assert_eq!((index.remove("a/+", 1), index.remove("a/+", 2)), (Some(10), Some(20)));
        assert_eq!((index.filters(), Arc::strong_count(&first)), (0, 1));
    }

    #[test]
    fn found_is_called_once_for_each_matching_filter() {
        let mut index = Index::new(1);
        for (key, filter) in (0..).zip(["a/b", "a/+", "#", "a/b/#", "+/+", "a", "$x/#", "a/c"]) {
            index.insert(filter, key, 0);
            index.insert(filter, key + 100, 0);
        }
        let mut lens = Vec::new();
        index.matches("a/b", |entries| lens.push(entries.len()));
        assert_eq!(lens, [2; 5]);
        assert_eq!(keys(&index, "a/b"), [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]);
        assert_eq!(keys(&index, "$x"), [6, 106]);
    }

    #[test]
    fn the_generation_changes_with_each_change_only() {
        let mut index = Index::new(1);
        let mut last = index.generation();
        index.insert("a", 1, 1);
        assert_ne!(index.generation(), last);
        last = index.generation();
        index.insert("a", 1, 2);
        assert_ne!(index.generation(), last);
        last = index.generation();
        assert_eq!((index.remove("a", 2), index.remove("b", 1)), (None, None));
        assert_eq!(index.generation(), last);
        assert_eq!(index.remove("a", 1), Some(2));
        assert_ne!(index.generation(), last);
    }
}
