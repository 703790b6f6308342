//! Hash tables keyed by a secret seed, without iteration: their order could not be repeated.

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Key to value. Lookup, insertion and removal take constant time.
pub(crate) struct Map<K, V>(hashbrown::HashMap<K, V, FixedState>);

impl<K: Eq + Hash, V> Map<K, V> {
    /// An empty map; `seed` keeps peers from choosing keys that collide.
    pub(crate) fn new(seed: u64) -> Self {
        Self(hashbrown::HashMap::with_hasher(FixedState::with_seed(seed)))
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    pub(crate) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = self.0.remove(key);
        // Memory returns after a burst.
        if self.0.capacity() > 64 && self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
        }
        removed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Memory held, in bytes, without what keys and values own.
    pub(crate) fn footprint(&self) -> usize {
        self.0.allocation_size()
    }
}

/// Finds numbers by the keys they stand for. The keys live elsewhere, usually in a slab, so that
/// each is held once; `key_of` gives the key of a number that is in the table.
pub(crate) struct Numbers {
    /// Number and hash. Without the hash, growing would visit all keys: a third of a second for a
    /// million of them.
    table: HashTable<(u32, u32)>,
    state: FixedState,
}

/// 64 bits of hash, as the table wants them, of the 32 that are kept.
fn spread(&(_, hash): &(u32, u32)) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Numbers {
    /// An empty table; `seed` as in [`Map::new`].
    pub(crate) fn new(seed: u64) -> Self {
        Self { table: HashTable::new(), state: FixedState::with_seed(seed) }
    }

    pub(crate) fn find<K: Eq + Hash>(&self, key: K, key_of: impl Fn(u32) -> K) -> Option<u32> {
        self.find_hashed(self.hash(&key), key, key_of)
    }

    /// The same, where the hash of the key is known already.
    #[inline]
    pub(crate) fn find_hashed<K: Eq>(
        &self,
        hash: u32,
        key: K,
        key_of: impl Fn(u32) -> K,
    ) -> Option<u32> {
        let found = self.table.find(spread(&(0, hash)), |&(n, h)| h == hash && key_of(n) == key);
        found.map(|&(number, _)| number)
    }

    /// Adds `number` for `key`, which must not be in the table.
    pub(crate) fn insert<K: Hash>(&mut self, key: K, number: u32) {
        let entry = (number, self.hash(&key));
        self.table.insert_unique(spread(&entry), entry, spread);
    }

    /// Takes out `number`, which is there for `key`.
    pub(crate) fn remove<K: Hash>(&mut self, key: K, number: u32) {
        let entry = (number, self.hash(&key));
        let Self { table, .. } = self;
        if let Ok(found) = table.find_entry(spread(&entry), |known| *known == entry) {
            found.remove();
        }
        if table.capacity() > 64 && table.len() < table.capacity() / 4 {
            table.shrink_to(table.len() * 2, spread);
        }
    }

    /// The hash of a key, the same one whatever is in the table.
    #[inline]
    pub(crate) fn hash<K: Hash>(&self, key: &K) -> u32 {
        (self.state.hash_one(key) >> 32) as u32
    }

    /// Memory held, in bytes.
    pub(crate) fn footprint(&self) -> usize {
        self.table.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{string::String, vec::Vec};

    #[test]
    fn numbers_are_found_by_their_keys_until_removed() {
        let keys: Vec<String> = (0..1000).map(|n| std::format!("key {n}")).collect();
        let key_of = |n: u32| keys[n as usize].as_str();
        let mut numbers = Numbers::new(7);
        for n in 0..1000 {
            numbers.insert(key_of(n), n);
        }
        let full = numbers.footprint();
        for n in (0..1000).filter(|n| n % 10 != 0) {
            numbers.remove(key_of(n), n);
        }
        for n in 0..1000 {
            assert_eq!(numbers.find(key_of(n), key_of), (n % 10 == 0).then_some(n));
        }
        assert!(numbers.footprint() < full);
    }
}
