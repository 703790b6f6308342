//! Values under small numbers that carry a generation, so that a late call never meets a stranger.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Index and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// A table of boxed values; its own entries are 16 bytes each.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
    /// Generation of an index that was never in use.
    first: u32,
    /// Bits of a generation that count up; the others are those of `first`.
    mask: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0, first: 0, mask: u32::MAX }
    }
}

impl<T> Slots<T> {
    /// An empty table whose generations have `bits` bits, below those of `part`: no two parts ever
    /// have the same key.
    pub(super) fn part(part: u32, bits: u32) -> Self {
        Self { first: part << bits, mask: (1 << bits) - 1, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The key the next [`Slots::insert`] gives.
    pub(super) fn next_key(&self) -> Key {
        let index = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        let slot = self.slots.get(index as usize);
        let generation = slot.map_or(self.first, |slot| slot.generation);
        Key { index, generation }
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        let value = Some(Box::new(value));
        if self.free.pop().is_some() {
            self.slots[key.index as usize].value = value;
        } else {
            self.slots.push(Slot { generation: self.first, value });
        }
        self.len += 1;
        key
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Box<T>> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = self.first | slot.generation.wrapping_add(1) & self.mask;
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    /// Lends the value out; its key stays in use until [`Slots::put`] or [`Slots::forget`].
    pub(super) fn take(&mut self, key: Key) -> Option<Box<T>> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.take() } else { None }
    }

    /// Gives back what [`Slots::take`] lent.
    pub(super) fn put(&mut self, key: Key, value: Box<T>) {
        let place = self.slots[key.index as usize].value.replace(value);
        debug_assert!(place.is_none(), "it was lent");
        // Nothing: the look whether it is to be dropped is spared.
        core::mem::forget(place);
    }

    /// Frees the key of a value that was taken.
    pub(super) fn forget(&mut self, key: Key, value: Box<T>) {
        self.put(key, value);
        self.remove(key);
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_deref() } else { None }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_deref_mut() } else { None }
    }

    /// The key in use at an index, whatever its generation.
    pub(super) fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        Some(Key { index, generation: slot.generation })
    }

    /// The keys in use, in the order of their indices.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(index, slot)| Key { index, generation: slot.generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_value_only() {
        let mut slots = Slots::default();
        let a = slots.insert('a');
        assert_eq!(slots.remove(a).as_deref(), Some(&'a'));
        assert_eq!(slots.next_key(), Key { index: 0, generation: 1 });
        let b = slots.insert('b');
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.get_mut(b), Some(&mut 'b'));
        assert_eq!((slots.len(), slots.keys().count()), (1, 1));
    }

    #[test]
    fn parts_never_have_the_same_key_however_often_one_is_used() {
        let mut parts: Vec<Slots<()>> = (0..4).map(|part| Slots::part(part, 3)).collect();
        for (part, slots) in (0..).zip(&mut parts) {
            for round in 0..20 {
                let key = slots.insert(());
                assert_eq!(key, Key { index: 0, generation: part * 8 + round % 8 });
                assert!(slots.remove(key).is_some() && slots.get(key).is_none());
            }
        }
        // All there are for the last of the most that there may be.
        let mut last = Slots::part(63, 26);
        let key = last.insert(());
        assert_eq!(key.generation, 63 << 26);
        last.slots[0].generation = u32::MAX;
        assert!(last.remove(Key { index: 0, generation: u32::MAX }).is_some());
        assert_eq!(last.next_key(), key);
        let mut alone = Slots::default();
        alone.insert(());
        alone.slots[0].generation = u32::MAX;
        assert!(alone.remove(Key { index: 0, generation: u32::MAX }).is_some());
        assert_eq!(alone.next_key(), Key { index: 0, generation: 0 });
    }
}
