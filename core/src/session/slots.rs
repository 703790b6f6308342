//! The memory for messages in flight: which identifier has which slot, and in which order.

use super::outbound::State;
use crate::Storage;
use crate::codec::PacketId;

/// Identifiers kept for SUBSCRIBE and UNSUBSCRIBE, the highest ones.
pub(super) const RESERVED: u16 = 16;
/// Highest identifier of a PUBLISH.
pub(super) const LAST_ID: u16 = u16::MAX - RESERVED;
/// Slots of the first allocation.
#[cfg(feature = "alloc")]
const FIRST_SLOTS: usize = 4;

/// Memory for one message in flight; the default is unused memory, to make a slice to lend.
#[derive(Clone, Debug)]
pub struct Slot<H> {
    /// `None`: free.
    pub(super) id: Option<PacketId>,
    /// The message sent before this one.
    pub(super) before: Option<PacketId>,
    /// The message sent after this one; of a free slot, the slot that became free after it.
    pub(super) after: Option<PacketId>,
    pub(super) state: State,
    /// Not sent on this connection yet: its PUBLISH, or its PUBREL.
    pub(super) waits: bool,
    /// `None`: free, or released.
    pub(super) what: Option<H>,
}

impl<H> Slot<H> {
    /// Unused memory.
    pub const EMPTY: Self = Self {
        id: None,
        before: None,
        after: None,
        state: State::AwaitsPuback,
        waits: false,
        what: None,
    };
}

impl<H> Default for Slot<H> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// First and last of a chain of slots.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: Option<PacketId>,
    last: Option<PacketId>,
}

/// Slots, and the identifiers that have them.
///
/// The message with identifier `id` has the slot `(id - 1) % slots`; identifiers are chosen such
/// that this slot is free. Identifiers ascend, with gaps, and start again at the end. Slots are
/// chained in the order of sending.
#[derive(Debug)]
#[cfg_attr(feature = "alloc", derive(Clone))]
pub(super) struct Slots<'s, H> {
    memory: Storage<'s, Slot<H>>,
    /// In flight, in the order of sending.
    sent: Ends,
    /// Free slots, the longest free first, each named by the lowest identifier it can have.
    free: Ends,
    /// The identifier given last; 0 before the first.
    last_id: u16,
    window: u16,
}

impl<'s, H> Slots<'s, H> {
    /// None in use; values in `memory` are dropped. For `window` messages at most, 1 at least.
    pub(super) fn new(mut memory: Storage<'s, Slot<H>>, window: u16) -> Self {
        memory.clear();
        let most = u16::try_from(memory.limit()).unwrap_or(u16::MAX).min(LAST_ID);
        let window = window.max(1).min(most);
        Self { memory, sent: Ends::default(), free: Ends::default(), last_id: 0, window }
    }

    /// How many messages can be in flight at most.
    pub(super) fn window(&self) -> u16 {
        self.window
    }

    /// How many there are, free or not.
    #[cfg(all(test, feature = "alloc"))]
    pub(super) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Where they are.
    #[cfg(all(test, feature = "alloc"))]
    pub(super) fn as_ptr(&self) -> *const Slot<H> {
        self.memory.as_ptr()
    }

    /// The message sent first.
    pub(super) fn first(&self) -> Option<PacketId> {
        self.sent.first
    }

    /// The message in flight with this identifier.
    pub(super) fn get(&self, id: PacketId) -> Option<&Slot<H>> {
        self.memory.get(self.place(id)?).filter(|slot| slot.id == Some(id))
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, id: PacketId) -> Option<&mut Slot<H>> {
        self.slot_of(id).filter(|slot| slot.id == Some(id))
    }

    /// Puts a message behind those in flight, and gives its identifier. `what` comes back where
    /// there is no slot.
    pub(super) fn add(&mut self, state: State, what: H) -> Result<PacketId, H> {
        let Some(id) = self.take_id() else { return Err(what) };
        let before = self.sent.last;
        if let Some(slot) = self.slot_of(id) {
            let (id, what) = (Some(id), Some(what));
            *slot = Slot { id, before, after: None, state, waits: false, what };
        }
        match before.and_then(|last| self.get_mut(last)) {
            Some(last) => last.after = Some(id),
            None => self.sent.first = Some(id),
        }
        self.sent.last = Some(id);
        Ok(id)
    }

    /// Takes a message out; its slot is free.
    pub(super) fn remove(&mut self, id: PacketId) -> Option<Slot<H>> {
        let slot = core::mem::take(self.get_mut(id)?);
        match slot.before.and_then(|before| self.get_mut(before)) {
            Some(before) => before.after = slot.after,
            None => self.sent.first = slot.after,
        }
        match slot.after.and_then(|after| self.get_mut(after)) {
            Some(after) => after.before = slot.before,
            None => self.sent.last = slot.before,
        }
        if let Some(place) = self.place(id) {
            self.push_free(place);
        }
        Some(slot)
    }

    /// An identifier whose slot is free: the first after the last one that has the slot which is
    /// free for longest. For a peer that acknowledges in order they are consecutive.
    fn take_id(&mut self) -> Option<PacketId> {
        if self.free.first.is_none() {
            self.grow();
        }
        let name = self.free.first?;
        let slot = self.slot_of(name)?;
        self.free.first = slot.after.take();
        let (place, len) = (self.place(name)?, self.memory.len());
        let last = usize::from(self.last_id);
        let ahead = (place + len - last % len) % len;
        let id = u16::try_from(last + 1 + ahead).ok().filter(|id| *id <= LAST_ID);
        let id = id.and_then(PacketId::new).unwrap_or(name);
        self.last_id = id.get();
        Some(id)
    }

    /// Adds slots, when none is free. Messages keep their slot or move to a new one: identifiers
    /// that differ modulo the old length differ modulo twice that, and below 65,520 anyway.
    fn grow(&mut self) {
        let old = self.memory.len();
        let most = usize::from(LAST_ID);
        let new = match &self.memory {
            Storage::Borrowed(memory, _) => memory.len().min(most),
            #[cfg(feature = "alloc")]
            Storage::Heap(_) => {
                let most = usize::from(self.window).next_power_of_two().min(most);
                (old * 2).max(FIRST_SLOTS).min(most)
            }
        };
        while self.memory.len() < new && self.memory.push(Slot::EMPTY).is_ok() {}
        for place in 0..old {
            if let Some(to) = self.memory[place].id.and_then(|id| self.place(id)) {
                self.memory.swap(place, to);
            }
        }
        let next = usize::from(self.last_id);
        for place in (next..next + new).map(|number| number % new) {
            if self.memory[place].id.is_none() {
                self.push_free(place);
            }
        }
    }

    fn push_free(&mut self, place: usize) {
        let name = u16::try_from(place + 1).ok().and_then(PacketId::new);
        match self.free.first.and(self.free.last).and_then(|last| self.slot_of(last)) {
            Some(last) => last.after = name,
            None => self.free.first = name,
        }
        self.free.last = name;
    }

    /// Where the slot of an identifier is; `None` while there are no slots.
    fn place(&self, id: PacketId) -> Option<usize> {
        (usize::from(id.get()) - 1).checked_rem(self.memory.len())
    }

    /// The slot of an identifier, whoever has it.
    fn slot_of(&mut self, id: PacketId) -> Option<&mut Slot<H>> {
        let place = self.place(id)?;
        self.memory.get_mut(place)
    }
}

#[cfg(feature = "alloc")]
impl<H> Slots<'_, H> {
    /// Gives the memory away, empty, if there is any; nothing may be in flight.
    pub(super) fn release(&mut self) -> Option<alloc::vec::Vec<Slot<H>>> {
        let memory = self.memory.release()?;
        self.free = Ends::default();
        Some(memory)
    }

    /// Takes memory in use, unless there is some.
    pub(super) fn lend(&mut self, memory: alloc::vec::Vec<Slot<H>>) {
        self.memory.lend(memory);
    }

    /// Whether there is memory to start with.
    pub(super) fn has_memory(&self) -> bool {
        self.memory.has_memory()
    }
}
