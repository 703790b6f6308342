//! A hash map keyed by a secret seed, without iteration: its order could not be repeated.

use core::borrow::Borrow;
use core::hash::Hash;

use foldhash::fast::FixedState;

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

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Memory held, in bytes, without what keys and values own.
    pub(crate) fn footprint(&self) -> usize {
        self.0.capacity() * (size_of::<(K, V)>() + 1)
    }
}
