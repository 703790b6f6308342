//! Values under small numbers that are used again after removal.

use alloc::vec::Vec;
use core::mem;
use core::ops::{Index, IndexMut};

/// Values from which on there is room for an eighth more, rather than for as many again: up to half
/// of the memory of a million filters would not be used.
const LARGE: usize = 1024;

/// A slab; all operations take constant time. Indexing with a number that is not in use gives an
/// empty value or panics, so only numbers from [`Slab::insert`] may be used.
#[derive(Default)]
pub(super) struct Slab<T> {
    slots: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    /// Keeps `value` and gives its number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = value;
            return number;
        }
        if self.slots.len() == self.slots.capacity() && self.slots.len() >= LARGE {
            self.slots.reserve_exact(self.slots.len() / 8);
        }
        self.slots.push(value);
        (self.slots.len() - 1) as u32
    }

    /// Takes the value of `number` out; the number becomes free.
    pub(super) fn remove(&mut self, number: u32) -> T {
        let value = mem::take(&mut self[number]);
        self.free.push(number);
        // Memory returns after a burst.
        if self.len() == 0 {
            *self = Self { slots: Vec::new(), free: Vec::new() };
        }
        value
    }

    /// The value in slot `number`, if there is such a slot; an empty value if it is free.
    pub(super) fn slot(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)
    }

    /// As [`Slab::slot`], to be changed.
    pub(super) fn slot_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)
    }

    /// Values kept.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Memory held, in bytes, without what the values own.
    pub(super) fn footprint(&self) -> usize {
        self.slots.capacity() * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        &self.slots[number as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.slots[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_slab_has_little_room_that_is_not_used() {
        let mut slab = Slab::default();
        for value in 0..100_000u64 {
            slab.insert(value);
            let used = slab.len().max(4) * size_of::<u64>();
            let most = if slab.len() > LARGE { used / 8 * 9 } else { used * 2 };
            assert!(slab.footprint() <= most, "{} values", slab.len());
        }
    }

    #[test]
    fn numbers_are_used_again_and_memory_returns_when_empty() {
        let mut slab = Slab::default();
        assert_eq!((slab.insert('a'), slab.insert('b')), (0, 1));
        assert_eq!(slab.remove(0), 'a');
        assert_eq!(slab.insert('c'), 0);
        assert_eq!((slab[0], slab[1], slab.len()), ('c', 'b', 2));
        slab.remove(1);
        assert!(slab.footprint() > 0);
        slab.remove(0);
        assert_eq!((slab.len(), slab.footprint()), (0, 0));
        assert_eq!(slab.slot(0), None);
    }
}
