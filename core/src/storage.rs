//! Memory of a machine: borrowed from the caller, or a vector that grows.

/// Room for values of one type.
///
/// A microcontroller lends a slice, whose length is the capacity; with a heap the room grows as it
/// is used, and is empty before.
#[derive(Debug)]
pub enum Storage<'s, T> {
    /// A slice of the caller's, with the number of values in use.
    Borrowed(&'s mut [T], usize),
    /// A vector.
    #[cfg(feature = "alloc")]
    Heap(alloc::vec::Vec<T>),
}
