//! Items with a key of 32 bits, each key once: one of them inline, a million in constant time.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::map::Map;

/// What a [`List`] holds.
pub(super) trait Keyed: Copy {
    fn key(&self) -> u32;
}

/// The items of one filter or group. Their order is that of insertion until one is removed, whose
/// place the last one takes.
pub(super) enum List<T> {
    One(T),
    /// None, or more than one; searched from the front.
    Few(Vec<T>),
    Many(Box<Many<T>>),
}

pub(super) struct Many<T> {
    items: Vec<T>,
    positions: Map<u32, u32>,
}

/// Above this many items their positions are kept in a map, below half of it no more.
const SEARCHED: usize = 32;

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<T: Keyed> List<T> {
    /// All items.
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(item) => core::slice::from_ref(item),
            Self::Few(items) => items,
            Self::Many(many) => &many.items,
        }
    }

    pub(super) fn get(&self, key: u32) -> Option<T> {
        self.position(key).map(|at| self.as_slice()[at])
    }

    /// Adds `item`, or puts it in the place of the item with the same key, which is given back.
    /// `seed` is for a [`Map`], should one be needed.
    pub(super) fn insert(&mut self, seed: u64, item: T) -> Option<T> {
        if let Some(at) = self.position(item.key()) {
            return Some(mem::replace(&mut self.as_mut_slice()[at], item));
        }
        match self {
            Self::One(first) => *self = Self::Few(vec![*first, item]),
            Self::Few(items) if items.is_empty() => *self = Self::One(item),
            Self::Few(items) => {
                items.push(item);
                if items.len() > SEARCHED {
                    *self = Self::Many(Box::new(Many::new(seed, mem::take(items))));
                }
            }
            Self::Many(many) => {
                many.positions.insert(item.key(), many.items.len() as u32);
                many.items.push(item);
            }
        }
        None
    }

    pub(super) fn remove(&mut self, key: u32) -> Option<T> {
        let at = self.position(key)?;
        match self {
            Self::One(item) => {
                let removed = *item;
                *self = Self::default();
                Some(removed)
            }
            Self::Few(items) => {
                let removed = take(items, at);
                if let [only] = items[..] {
                    *self = Self::One(only);
                }
                Some(removed)
            }
            Self::Many(many) => {
                let removed = take(&mut many.items, at);
                many.positions.remove(&key);
                if let Some(moved) = many.items.get(at) {
                    many.positions.insert(moved.key(), at as u32);
                }
                if many.items.len() < SEARCHED / 2 {
                    *self = Self::Few(mem::take(&mut many.items));
                }
                Some(removed)
            }
        }
    }

    /// Memory held, in bytes, beside the list itself.
    pub(super) fn footprint(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Few(items) => items.capacity() * size_of::<T>(),
            Self::Many(many) => {
                size_of::<Many<T>>()
                    + many.items.capacity() * size_of::<T>()
                    + many.positions.footprint()
            }
        }
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::One(item) => core::slice::from_mut(item),
            Self::Few(items) => items,
            Self::Many(many) => &mut many.items,
        }
    }

    fn position(&self, key: u32) -> Option<usize> {
        match self {
            Self::Many(many) => many.positions.get(&key).map(|&at| at as usize),
            _ => self.as_slice().iter().position(|item| item.key() == key),
        }
    }
}

impl<T: Keyed> Many<T> {
    fn new(seed: u64, items: Vec<T>) -> Self {
        let mut positions = Map::new(seed);
        for (at, item) in items.iter().enumerate() {
            positions.insert(item.key(), at as u32);
        }
        Self { items, positions }
    }
}

/// Removes one item and, after a burst, memory.
fn take<T>(items: &mut Vec<T>, at: usize) -> T {
    let removed = items.swap_remove(at);
    if items.capacity() > 8 && items.len() < items.capacity() / 4 {
        items.shrink_to(items.len() * 2);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeMap;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Item(u32, u32);

    impl Keyed for Item {
        fn key(&self) -> u32 {
            self.0
        }
    }

    #[test]
    fn a_list_is_no_larger_than_a_vec() {
        assert_eq!(size_of::<List<Item>>(), size_of::<Vec<Item>>());
    }

    #[test]
    fn memory_returns_when_items_leave() {
        let mut list = List::default();
        for key in 0..1000 {
            list.insert(1, Item(key, key));
        }
        let full = list.footprint();
        for key in 3..1000 {
            list.remove(key);
        }
        assert!(list.footprint() < full / 10, "{} of {full}", list.footprint());
        list.remove(0);
        list.remove(1);
        assert_eq!(list.footprint(), 0);
        assert_eq!(list.as_slice(), [Item(2, 2)]);
    }

    quickcheck! {
        fn a_list_does_what_a_map_does(steps: Vec<(bool, u8, u32)>) -> bool {
            let mut list = List::default();
            let mut map = BTreeMap::new();
            // Grown first, so that all three forms are met.
            let grow = (0..40u32).map(|key| (true, key as u8, key));
            let shrink = (0..36u8).map(|key| (false, key, 0));
            grow.chain(steps).chain(shrink).all(|(insert, key, value)| {
                let key = u32::from(key % 48);
                let same = if insert {
                    list.insert(3, Item(key, value)).map(|old| old.1) == map.insert(key, value)
                } else {
                    list.remove(key).map(|old| old.1) == map.remove(&key)
                };
                let mut items: Vec<_> = list.as_slice().iter().map(|i| (i.0, i.1)).collect();
                items.sort_unstable();
                same && items.into_iter().eq(map.clone())
                    && (0..48).all(|key| list.get(key).map(|i| i.1) == map.get(&key).copied())
            })
        }
    }
}
