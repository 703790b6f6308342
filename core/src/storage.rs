//! Memory of a machine: borrowed from the caller, or a vector that grows.

use core::ops::{Deref, DerefMut};

/// Room for values of one type.
///
/// A microcontroller lends a slice, whose length is the capacity; with a heap the room grows as it
/// is used, and is empty before. The values in use are read and changed as a slice.
#[derive(Debug)]
pub enum Storage<'s, T> {
    /// A slice of the caller's, with the number of values in use; what stands behind these has no
    /// meaning.
    Borrowed(&'s mut [T], usize),
    /// A vector.
    #[cfg(feature = "alloc")]
    Heap(alloc::vec::Vec<T>),
}

impl<T> Storage<'_, T> {
    /// How many values fit at most: the length of a borrowed slice, `usize::MAX` on the heap.
    #[must_use]
    pub fn limit(&self) -> usize {
        match self {
            Self::Borrowed(slice, _) => slice.len(),
            #[cfg(feature = "alloc")]
            Self::Heap(_) => usize::MAX,
        }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// A borrowed slice is full; the value comes back.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        match self {
            Self::Borrowed(slice, used) => match slice.get_mut(*used) {
                Some(place) => {
                    *place = value;
                    *used += 1;
                    Ok(())
                }
                None => Err(value),
            },
            #[cfg(feature = "alloc")]
            Self::Heap(vec) => {
                vec.push(value);
                Ok(())
            }
        }
    }

    /// Puts a value before the one at `index`, or at the end where `index` is not below the length.
    /// Takes time in proportion to the values behind it.
    ///
    /// # Errors
    /// A borrowed slice is full; the value comes back.
    pub fn insert(&mut self, index: usize, value: T) -> Result<(), T> {
        let len = self.len();
        self.push(value)?;
        if index < len {
            self[index..].rotate_right(1);
        }
        Ok(())
    }
}

impl<T: Default> Storage<'_, T> {
    /// Takes the value at `index` out; those behind it move up. `None`, and no change, where there
    /// is none. Takes time in proportion to the values behind it.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        #[cfg(feature = "alloc")]
        if let Self::Heap(vec) = self {
            return (index < vec.len()).then(|| vec.remove(index));
        }
        let value = core::mem::take(self.get_mut(index)?);
        self[index..].rotate_left(1);
        self.truncate(self.len() - 1);
        Some(value)
    }

    /// Drops the values from `len` on; harmless where there are fewer.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::Borrowed(slice, used) => {
                let end = (*used).min(slice.len());
                if len < end {
                    slice[len..end].fill_with(T::default);
                    *used = len;
                }
            }
            #[cfg(feature = "alloc")]
            Self::Heap(vec) => vec.truncate(len),
        }
    }

    /// Drops all values and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }
}

#[cfg(feature = "alloc")]
impl<T> Storage<'_, T> {
    /// Drops all values and gives the vector away for use elsewhere. `None` where there is no
    /// memory to give: it is borrowed, or nothing was allocated since the last time.
    pub fn release(&mut self) -> Option<alloc::vec::Vec<T>> {
        match self {
            Self::Heap(vec) if vec.capacity() > 0 => {
                let mut vec = core::mem::take(vec);
                vec.clear();
                Some(vec)
            }
            _ => None,
        }
    }

    /// Takes a vector's memory in use; its values are dropped. Harmless, the vector is dropped,
    /// where there is memory already.
    pub fn lend(&mut self, mut memory: alloc::vec::Vec<T>) {
        if let Self::Heap(vec) = self
            && vec.capacity() == 0
        {
            memory.clear();
            *vec = memory;
        }
    }

    /// Whether there is memory: borrowed, or allocated already.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        match self {
            Self::Borrowed(..) => true,
            Self::Heap(vec) => vec.capacity() > 0,
        }
    }
}

impl<T> Deref for Storage<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Borrowed(slice, used) => &slice[..(*used).min(slice.len())],
            #[cfg(feature = "alloc")]
            Self::Heap(vec) => vec,
        }
    }
}

impl<T> DerefMut for Storage<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Borrowed(slice, used) => {
                let end = (*used).min(slice.len());
                &mut slice[..end]
            }
            #[cfg(feature = "alloc")]
            Self::Heap(vec) => vec,
        }
    }
}

impl<'s, T> From<&'s mut [T]> for Storage<'s, T> {
    /// Borrowed memory with no value in use.
    fn from(slice: &'s mut [T]) -> Self {
        Self::Borrowed(slice, 0)
    }
}

#[cfg(feature = "alloc")]
impl<T> From<alloc::vec::Vec<T>> for Storage<'_, T> {
    /// Heap memory with the vector's values in use.
    fn from(vec: alloc::vec::Vec<T>) -> Self {
        Self::Heap(vec)
    }
}

#[cfg(feature = "alloc")]
impl<T> Default for Storage<'_, T> {
    /// Heap memory; nothing is allocated yet.
    fn default() -> Self {
        Self::Heap(alloc::vec::Vec::new())
    }
}

#[cfg(feature = "alloc")]
impl<T: Clone> Clone for Storage<'_, T> {
    /// A copy of the values in use, on the heap even where the original is borrowed.
    fn clone(&self) -> Self {
        Self::Heap(self.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_borrowed_slice_is_full_at_its_length_and_gives_the_value_back() {
        let mut memory = [0; 2];
        let mut storage = Storage::from(&mut memory[..]);
        assert_eq!((storage.limit(), storage.len()), (2, 0));
        assert_eq!([storage.push(1), storage.push(2), storage.push(3)], [Ok(()), Ok(()), Err(3)]);
        assert_eq!(storage.insert(0, 4), Err(4));
        assert_eq!(*storage, [1, 2]);
    }

    fn insert_and_remove(mut storage: Storage<'_, u8>) {
        for (index, value) in [(0, 5), (0, 3), (1, 4), (9, 6)] {
            assert_eq!(storage.insert(index, value), Ok(()));
        }
        assert_eq!(*storage, [3, 4, 5, 6]);
        assert_eq!(storage.remove(1), Some(4));
        assert_eq!(storage.remove(3), None);
        assert_eq!(*storage, [3, 5, 6]);
        storage.truncate(9);
        storage.truncate(1);
        assert_eq!(*storage, [3]);
        storage.clear();
        assert!(storage.is_empty());
    }

    #[test]
    fn values_are_inserted_and_removed_in_place() {
        insert_and_remove(Storage::from(&mut [0; 8][..]));
        #[cfg(feature = "alloc")]
        insert_and_remove(Storage::default());
    }

    #[test]
    fn removed_values_are_dropped_at_once_in_borrowed_memory_too() {
        let value = Rc::new(());
        let mut memory = [const { None }; 3];
        let mut storage = Storage::from(&mut memory[..]);
        for _ in 0..3 {
            assert!(storage.push(Some(value.clone())).is_ok());
        }
        assert!(storage.remove(0).is_some());
        assert_eq!(Rc::strong_count(&value), 3);
        storage.clear();
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn a_wrong_count_beside_a_borrowed_slice_is_harmless() {
        let mut memory = [1, 2];
        let mut storage = Storage::Borrowed(&mut memory, 9);
        assert_eq!(*storage, [1, 2]);
        assert_eq!(storage.push(3), Err(3));
        assert_eq!(storage.remove(0), Some(1));
        assert_eq!(*storage, [2]);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn heap_memory_goes_away_and_comes_back() {
        let mut storage = Storage::default();
        assert!(!storage.has_memory());
        assert_eq!(storage.release(), None);
        assert_eq!(storage.push(1), Ok(()));
        let memory = storage.release().unwrap();
        assert!(memory.is_empty() && memory.capacity() > 0);
        assert!(storage.is_empty() && !storage.has_memory());
        storage.lend(memory);
        assert!(storage.has_memory() && storage.is_empty());
        assert_eq!(storage.push(2), Ok(()));
        storage.lend(std::vec![7, 8, 9]);
        assert_eq!(*storage, [2]);
        let mut slice = [0];
        assert_eq!(Storage::from(&mut slice[..]).release(), None);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_copy_has_the_values_in_use() {
        let mut memory = [1, 2, 3];
        let mut copy = Storage::Borrowed(&mut memory, 2).clone();
        assert_eq!(copy.push(9), Ok(()));
        assert_eq!(*copy, [1, 2, 9]);
        assert_eq!(memory, [1, 2, 3]);
    }
}
