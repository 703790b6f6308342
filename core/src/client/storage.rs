//! Memory of a client: lent by the caller, ready-made, or on the heap.

use core::ops::{Deref, DerefMut};

use super::owed::Owed;
use crate::session::Held;

/// Memory for one QoS 1 or 2 message in flight.
pub type Slot = crate::session::Slot<()>;

/// Bytes of the first allocation, if the limit is not below.
#[cfg(feature = "alloc")]
const FIRST: usize = 1024;

/// Bytes with a limit: a slice of the caller's, or a vector that grows as it is needed and stays.
#[derive(Debug)]
pub struct Memory<'s> {
    /// All of it is in use.
    bytes: crate::Storage<'s, u8>,
    limit: usize,
}

impl Memory<'_> {
    /// Memory on the heap, of `limit` bytes at most. Nothing is allocated yet.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn heap(limit: usize) -> Self {
        Self { bytes: crate::Storage::default(), limit }
    }

    /// How many bytes there can be at most.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Makes sure that there are `len` bytes; false if there cannot be so many.
    pub(super) fn ensure(&mut self, len: usize) -> bool {
        match &mut self.bytes {
            #[cfg(feature = "alloc")]
            crate::Storage::Heap(vec) if vec.len() < len && len <= self.limit => {
                vec.resize(len.max(FIRST).max(vec.len() * 2).min(self.limit), 0);
            }
            _ => {}
        }
        len <= self.bytes.len()
    }
}

impl<'s> From<&'s mut [u8]> for Memory<'s> {
    /// The whole slice.
    fn from(slice: &'s mut [u8]) -> Self {
        let limit = slice.len();
        Self { bytes: crate::Storage::Borrowed(slice, limit), limit }
    }
}

impl Deref for Memory<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Memory<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// All the memory of a client.
#[derive(Debug)]
pub struct Storage<'s> {
    /// What is received, one packet at least: its size is the Maximum Packet Size announced to a
    /// 5.0 server. CONNECT waits here until it is sent, and AUTH.
    pub rx: Memory<'s>,
    /// Packets to send, and messages of QoS 1 and 2 until they are acknowledged.
    pub tx: Memory<'s>,
    /// One for each message of QoS 1 or 2 in flight to the server.
    pub slots: crate::Storage<'s, Slot>,
    /// One for each message of QoS 2 received and not released by the server.
    pub held: crate::Storage<'s, Held>,
    /// One for each message of QoS 1 or 2 received and not acknowledged.
    pub owed: crate::Storage<'s, Owed>,
    /// Topics that the server set an alias for. It is allowed one alias for each 256 bytes; the
    /// connection fails where its topics are longer than that together.
    pub aliases_in: Memory<'s>,
    /// Topics that an alias was set for. Without memory none is set.
    pub aliases_out: Memory<'s>,
}

/// Limits of memory on the heap, in bytes.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// For what is received: the largest packet accepted. 256 KiB.
    pub rx: usize,
    /// For what is sent and in flight. 256 KiB.
    pub tx: usize,
    /// For topics with an alias, in each direction. 4 KiB.
    pub aliases: usize,
}

#[cfg(feature = "alloc")]
impl Default for Sizes {
    fn default() -> Self {
        Self { rx: 256 * 1024, tx: 256 * 1024, aliases: 4 * 1024 }
    }
}

impl Storage<'_> {
    /// Memory on the heap, allocated as it is needed.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn heap(sizes: Sizes) -> Self {
        Self {
            rx: Memory::heap(sizes.rx),
            tx: Memory::heap(sizes.tx),
            slots: crate::Storage::default(),
            held: crate::Storage::default(),
            owed: crate::Storage::default(),
            aliases_in: Memory::heap(sizes.aliases),
            aliases_out: Memory::heap(sizes.aliases),
        }
    }
}

/// Ready-made memory of fixed size: `RX` and `TX` bytes to receive and send, `WINDOW` messages in
/// flight to the server, `RECEIVE` from it, `ALIASES` bytes of topics in each direction.
#[derive(Debug, Default)]
pub struct Fixed<
    const RX: usize,
    const TX: usize,
    const WINDOW: usize,
    const RECEIVE: usize,
    const ALIASES: usize,
> {
    rx: heapless::Vec<u8, RX>,
    tx: heapless::Vec<u8, TX>,
    slots: heapless::Vec<Slot, WINDOW>,
    held: heapless::Vec<Held, RECEIVE>,
    owed: heapless::Vec<Owed, RECEIVE>,
    aliases_in: heapless::Vec<u8, ALIASES>,
    aliases_out: heapless::Vec<u8, ALIASES>,
}

impl<
    const RX: usize,
    const TX: usize,
    const WINDOW: usize,
    const RECEIVE: usize,
    const ALIASES: usize,
> Fixed<RX, TX, WINDOW, RECEIVE, ALIASES>
{
    /// Unused memory; `const`, so that it can be a static without a copy on the stack.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rx: heapless::Vec::new(),
            tx: heapless::Vec::new(),
            slots: heapless::Vec::new(),
            held: heapless::Vec::new(),
            owed: heapless::Vec::new(),
            aliases_in: heapless::Vec::new(),
            aliases_out: heapless::Vec::new(),
        }
    }

    /// Lends all of it to a client. What an earlier client left here has no meaning.
    pub fn storage(&mut self) -> Storage<'_> {
        Storage {
            rx: full(&mut self.rx).into(),
            tx: full(&mut self.tx).into(),
            slots: full(&mut self.slots).into(),
            held: full(&mut self.held).into(),
            owed: full(&mut self.owed).into(),
            aliases_in: full(&mut self.aliases_in).into(),
            aliases_out: full(&mut self.aliases_out).into(),
        }
    }
}

/// The whole capacity as a slice.
fn full<T: Clone + Default, const N: usize>(vec: &mut heapless::Vec<T, N>) -> &mut [T] {
    // The capacity is not exceeded, so that this cannot fail.
    let _ = vec.resize_default(N);
    vec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_memory_is_lent_in_full() {
        let mut fixed = Fixed::<16, 32, 3, 4, 5>::new();
        let storage = fixed.storage();
        assert_eq!((storage.rx.len(), storage.tx.limit()), (16, 32));
        assert_eq!((storage.slots.limit(), storage.held.limit(), storage.owed.limit()), (3, 4, 4));
        assert_eq!((storage.aliases_in.len(), storage.aliases_out.len()), (5, 5));
    }

    #[test]
    fn borrowed_memory_does_not_grow() {
        let mut bytes = [0; 8];
        let mut memory = Memory::from(&mut bytes[..]);
        assert!(memory.ensure(8) && !memory.ensure(9));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn heap_memory_grows_up_to_its_limit() {
        let mut memory = Memory::heap(1500);
        assert_eq!((memory.len(), memory.limit()), (0, 1500));
        assert!(memory.ensure(1));
        assert_eq!(memory.len(), FIRST);
        assert!(!memory.ensure(1501));
        assert_eq!(memory.len(), FIRST);
        assert!(memory.ensure(FIRST + 1));
        assert_eq!(memory.len(), 1500);
    }
}
