//! Memory of a client: the caller's, or on the heap.

use super::arena::Span;
use crate::Storage as Values;
use crate::session::{Held, Slot};

/// What a client keeps for a message in flight.
pub type InFlight = Slot<Span>;

/// All memory of a [`Client`](super::Client). It allocates nothing beyond.
#[derive(Debug)]
pub struct Storage<'s> {
    /// What was received and not taken. Its length is the largest packet the client accepts.
    pub rx: Values<'s, u8>,
    /// What is to be sent, and QoS 1 and 2 messages until they are acknowledged.
    pub tx: Values<'s, u8>,
    /// As many as QoS 1 and 2 messages may be in flight.
    pub slots: Values<'s, InFlight>,
    /// As many as QoS 2 messages may be received and not released.
    pub held: Values<'s, Held>,
    /// Topics behind the aliases a server sets; empty memory allows none.
    pub aliases: Values<'s, u8>,
}

impl<'s> Storage<'s> {
    /// Memory lent by the caller, all of it for the client's use.
    #[must_use]
    pub fn borrowed(
        rx: &'s mut [u8],
        tx: &'s mut [u8],
        slots: &'s mut [InFlight],
        held: &'s mut [Held],
        aliases: &'s mut [u8],
    ) -> Self {
        let whole = |bytes: &'s mut [u8]| {
            let len = bytes.len();
            Values::Borrowed(bytes, len)
        };
        Self {
            rx: whole(rx),
            tx: whole(tx),
            slots: Values::Borrowed(slots, 0),
            held: Values::Borrowed(held, 0),
            aliases: whole(aliases),
        }
    }
}

/// Sizes of memory on the heap.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes for receiving: the largest packet accepted.
    pub rx: usize,
    /// Bytes for sending and for messages in flight.
    pub tx: usize,
    /// Bytes for the topics behind aliases.
    pub aliases: usize,
}

#[cfg(feature = "alloc")]
impl Default for Sizes {
    /// 64 KiB each way, 1 KiB for aliases.
    fn default() -> Self {
        Self { rx: 64 * 1024, tx: 64 * 1024, aliases: 1024 }
    }
}

#[cfg(feature = "alloc")]
impl Storage<'static> {
    /// Memory on the heap. Slots grow as they are needed.
    #[must_use]
    pub fn heap(sizes: Sizes) -> Self {
        let bytes = |len| Values::Heap(alloc::vec![0; len]);
        Self {
            rx: bytes(sizes.rx),
            tx: bytes(sizes.tx),
            slots: Values::Heap(alloc::vec::Vec::new()),
            held: Values::Heap(alloc::vec::Vec::new()),
            aliases: bytes(sizes.aliases),
        }
    }
}

/// Ready-made memory of a fixed size, for a program without a heap: bytes each way, messages in
/// flight each way, bytes for aliases.
///
/// ```
/// use fulmar_core::client::{Client, Fixed, Options};
///
/// let mut memory = Fixed::<512, 1024, 4, 0>::new();
/// let client = Client::new(memory.storage(), Options::default());
/// assert!(!client.is_connected());
/// ```
#[derive(Debug)]
pub struct Fixed<const RX: usize, const TX: usize, const IN_FLIGHT: usize, const ALIASES: usize> {
    rx: heapless::Vec<u8, RX>,
    tx: heapless::Vec<u8, TX>,
    slots: heapless::Vec<InFlight, IN_FLIGHT>,
    held: heapless::Vec<Held, IN_FLIGHT>,
    aliases: heapless::Vec<u8, ALIASES>,
}

impl<const RX: usize, const TX: usize, const IN_FLIGHT: usize, const ALIASES: usize> Default
    for Fixed<RX, TX, IN_FLIGHT, ALIASES>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const RX: usize, const TX: usize, const IN_FLIGHT: usize, const ALIASES: usize>
    Fixed<RX, TX, IN_FLIGHT, ALIASES>
{
    /// Unused memory.
    #[must_use]
    pub fn new() -> Self {
        let mut new = Self {
            rx: heapless::Vec::new(),
            tx: heapless::Vec::new(),
            slots: heapless::Vec::new(),
            held: heapless::Vec::new(),
            aliases: heapless::Vec::new(),
        };
        // Each is filled to its own capacity, which cannot fail.
        let _ = new.rx.resize_default(RX);
        let _ = new.tx.resize_default(TX);
        let _ = new.held.resize_default(IN_FLIGHT);
        let _ = new.aliases.resize_default(ALIASES);
        while new.slots.push(Slot::EMPTY).is_ok() {}
        new
    }

    /// Lends the memory to a client.
    #[must_use]
    pub fn storage(&mut self) -> Storage<'_> {
        let Self { rx, tx, slots, held, aliases } = self;
        Storage::borrowed(rx, tx, slots, held, aliases)
    }
}
