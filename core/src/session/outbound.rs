//! The sender of QoS 1 and 2 messages.

use crate::Storage;
use crate::codec::{PacketId, Qos};

/// Identifiers kept for SUBSCRIBE and UNSUBSCRIBE, the highest ones.
const RESERVED: u16 = 16;
/// Highest identifier of a PUBLISH.
const LAST_ID: u16 = u16::MAX - RESERVED;
/// Slots of the first allocation.
#[cfg(feature = "alloc")]
const FIRST_SLOTS: usize = 4;

/// There is no room for another packet now; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no room for another packet in flight")
    }
}

impl core::error::Error for Full {}

/// Which packet the peer owes for a message in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// QoS 1, PUBLISH sent. `[MQTT-4.3.2-3]`
    #[default]
    AwaitsPuback,
    /// QoS 2, PUBLISH sent. `[MQTT-4.3.3-3]`
    AwaitsPubrec,
    /// QoS 2, PUBREL sent; the PUBLISH is never sent again. `[MQTT-4.3.3-5]` `[MQTT-4.3.3-6]`
    AwaitsPubcomp,
}

impl State {
    /// The QoS of the message.
    #[must_use]
    pub const fn qos(self) -> Qos {
        match self {
            Self::AwaitsPuback => Qos::AtLeastOnce,
            Self::AwaitsPubrec | Self::AwaitsPubcomp => Qos::ExactlyOnce,
        }
    }
}

/// What a PUBACK or PUBCOMP did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked<T> {
    /// The message is delivered; its identifier and its place are free.
    Done(T),
    /// Nothing in flight has this identifier; to be ignored.
    Unknown,
    /// Another packet was due for this identifier; nothing changed.
    WrongType,
}

/// What a PUBREC did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recd<H> {
    /// The peer has the message: answer with PUBREL.
    Release(H),
    /// A repeated PUBREC: answer with PUBREL again.
    Again,
    /// The peer refused the message; its identifier and its place are free, and there is no
    /// answer. `None` where the message was released before.
    Failed(Option<H>),
    /// Nothing in flight has this identifier; 5.0 answers PUBREL with Packet Identifier not found.
    Unknown,
    /// Another packet was due for this identifier; nothing changed.
    WrongType,
}

/// A packet to send again on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend<'a, H> {
    /// The PUBLISH, with its identifier and DUP set. `[MQTT-3.3.1-1]`
    Publish {
        /// Its identifier.
        id: PacketId,
        /// Its QoS, 1 or 2.
        qos: Qos,
        /// What [`Outbound::begin`] was given.
        what: &'a H,
    },
    /// The PUBREL.
    Pubrel {
        /// Its identifier.
        id: PacketId,
    },
}

/// Memory for one message in flight; the default is unused memory, to make a slice to lend.
#[derive(Clone, Debug)]
pub struct Slot<H> {
    /// `None`: free.
    id: Option<PacketId>,
    /// The message sent before this one.
    before: Option<PacketId>,
    /// The message sent after this one; of a free slot, the slot that became free after it.
    after: Option<PacketId>,
    state: State,
    /// Not sent on this connection yet: its PUBLISH, or its PUBREL.
    waits: bool,
    /// `None`: free, or released.
    what: Option<H>,
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

/// The sending half of a session: packet identifiers, the window, and what is in flight.
///
/// `H` is what a PUBLISH is made of when it has to be sent again.
///
/// The message with identifier `id` has the slot `(id - 1) % slots`; identifiers are chosen such
/// that this slot is free. So every call but [`resume`](Self::resume) takes constant time, whatever
/// order the peer acknowledges in; one call of many adds the time to double the slots. Slots
/// are chained in the order of sending. Identifiers ascend, with gaps, and start again at the end.
///
/// Identifiers up to 65,519 are for PUBLISH, the 16 above for SUBSCRIBE and UNSUBSCRIBE, so neither
/// can take one in use by the other.
#[derive(Debug)]
#[cfg_attr(feature = "alloc", derive(Clone))]
pub struct Outbound<'s, H> {
    slots: Storage<'s, Slot<H>>,
    /// In flight, in the order of sending.
    sent: Ends,
    /// Free slots, the longest free first, each named by the lowest identifier it can have.
    free: Ends,
    /// The identifier given last; 0 before the first.
    last_id: u16,
    window: u16,
    /// What the peer of this connection accepts, never above `window`.
    limit: u16,
    in_flight: u16,
    /// How many in flight count towards `limit`: all but those with a PUBLISH still to be resent.
    used: u16,
    /// How many PUBLISH and PUBREL are still to be resent.
    publishes: u16,
    pubrels: u16,
    /// No PUBLISH before this one is still to be resent, and no PUBREL before that one. PUBRELs
    /// may overtake PUBLISHes that the limit holds back, so there are two.
    publish_from: Option<PacketId>,
    pubrel_from: Option<PacketId>,
    /// One bit for each identifier above `LAST_ID` in use, and the one to try first.
    reserved: u16,
    reserve_from: u16,
}

impl<'s, H> Outbound<'s, H> {
    /// A half with nothing in flight. `window` is the number of messages that may be in flight at
    /// most, on any connection; 0 is taken as 1, and it is never more than 65,519 or the length of
    /// borrowed memory. Values in `storage` are dropped. On the heap, memory is allocated when it
    /// is needed, for the next power of two above `window` at most.
    #[must_use]
    pub fn new(mut storage: Storage<'s, Slot<H>>, window: u16) -> Self {
        storage.clear();
        let most = u16::try_from(storage.limit()).unwrap_or(u16::MAX).min(LAST_ID);
        let window = window.max(1).min(most);
        Self {
            slots: storage,
            sent: Ends::default(),
            free: Ends::default(),
            last_id: 0,
            window,
            limit: window,
            in_flight: 0,
            used: 0,
            publishes: 0,
            pubrels: 0,
            publish_from: None,
            pubrel_from: None,
            reserved: 0,
            reserve_from: 0,
        }
    }

    /// Sets the Receive Maximum of the peer, for this connection; 0 is taken as 1. Without it the
    /// limit is the window. May come before or after [`resume`](Self::resume).
    pub fn limit(&mut self, receive_maximum: u16) {
        self.limit = match receive_maximum {
            _ if defect!("receive_maximum_exceeded") => self.window,
            maximum => maximum.max(1).min(self.window),
        };
    }

    /// A new connection takes the session up: everything in flight is to be sent again, and the
    /// send quota starts afresh `[U5-073]`. Released messages count towards the Receive Maximum
    /// until their PUBCOMP comes `[MQTT-3.3.4-9]`. Identifiers of SUBSCRIBE and UNSUBSCRIBE are
    /// free: these are not session state. Takes time in proportion to what is in flight.
    pub fn resume(&mut self) {
        (self.publishes, self.pubrels) = (0, 0);
        let mut at = self.sent.first;
        while let Some(slot) = at.and_then(|id| self.slot_mut(id)) {
            at = slot.after;
            slot.waits = true;
            match slot.state {
                State::AwaitsPubcomp => self.pubrels += 1,
                _ => self.publishes += 1,
            }
        }
        self.used = self.pubrels;
        self.publish_from = self.sent.first;
        self.pubrel_from = self.sent.first;
        self.reserved = 0;
    }

    /// The next packet to send again after [`resume`](Self::resume), in the order of the first
    /// sending `[MQTT-4.4.0-1]` `[MQTT-4.6.0-1]`. `None` when there is nothing to resend now: call
    /// again after an acknowledgement. A PUBLISH takes one from the send quota and waits while
    /// that is zero; a PUBREL never waits `[MQTT-3.3.4-10]`. Each comes once for each connection.
    pub fn next_resend(&mut self) -> Option<Resend<'_, H>> {
        let id = if self.publishes > 0 && self.quota() > 0 {
            let id = self.waiting(self.publish_from, |_| true);
            self.publish_from = id;
            id?
        } else if self.pubrels > 0 {
            let id = self.waiting(self.pubrel_from, |state| state == State::AwaitsPubcomp);
            self.pubrel_from = id;
            id?
        } else {
            return None;
        };
        self.on_the_wire(id);
        let slot = self.slot(id)?;
        Some(match &slot.what {
            Some(what) => Resend::Publish { id, qos: slot.state.qos(), what },
            None => Resend::Pubrel { id },
        })
    }

    /// Whether [`begin`](Self::begin) would succeed: the window and the send quota have room, and
    /// no PUBLISH waits to be resent, which has to go first.
    #[must_use]
    pub fn room(&self) -> bool {
        self.publishes == 0 && self.quota() > 0 && self.in_flight < self.window
    }

    /// A PUBLISH of QoS 1 or 2 is sent: gives it an identifier that is not in use `[MQTT-2.2.1-3]`
    /// `[MQTT-2.2.1-4]` and takes one from the send quota `[MQTT-4.9.0-2]`.
    ///
    /// # Errors
    /// There is no [`room`](Self::room); `what` comes back.
    ///
    /// # Panics
    /// In debug builds, for QoS 0, which has no identifier; otherwise taken as QoS 1.
    pub fn begin(&mut self, qos: Qos, what: H) -> Result<PacketId, (Full, H)> {
        debug_assert_ne!(qos, Qos::AtMostOnce, "a PUBLISH of QoS 0 has no identifier");
        if !self.room() {
            return Err((Full, what));
        }
        let Some(id) = self.take_id() else { return Err((Full, what)) };
        let before = self.sent.last;
        let state = match qos {
            Qos::ExactlyOnce => State::AwaitsPubrec,
            _ => State::AwaitsPuback,
        };
        if let Some(slot) = self.slot_of(id) {
            let (id, what) = (Some(id), Some(what));
            *slot = Slot { id, before, after: None, state, waits: false, what };
        }
        match before.and_then(|last| self.slot_mut(last)) {
            Some(last) => last.after = Some(id),
            None => self.sent.first = Some(id),
        }
        self.sent.last = Some(id);
        self.in_flight += 1;
        self.used += 1;
        Ok(id)
    }

    /// The PUBLISH of this identifier cannot be sent after all, on this connection or any: frees
    /// it and gives back what it was made of. For a PUBLISH that turns out to be larger than the
    /// peer accepts `[MQTT-3.1.2-25]`, new or to be resent. `None`, and no change, where nothing
    /// has this identifier or the message is released.
    pub fn cancel(&mut self, id: PacketId) -> Option<H> {
        self.slot(id)?.what.as_ref()?;
        self.remove(id)
    }

    /// A PUBACK came, with any reason code: ends a QoS 1 message. `[MQTT-4.4.0-2]`
    pub fn puback(&mut self, id: PacketId) -> Acked<H> {
        match self.slot(id).map(|slot| slot.state) {
            None => Acked::Unknown,
            Some(State::AwaitsPuback) => self.remove(id).map_or(Acked::Unknown, Acked::Done),
            Some(_) => Acked::WrongType,
        }
    }

    /// A PUBREC came; `failed` if its reason code is 0x80 or above. Otherwise PUBREL is the answer,
    /// and again for each repeated PUBREC `[MQTT-4.3.3-4]`; the identifier and the send quota stay
    /// taken until PUBCOMP.
    pub fn pubrec(&mut self, id: PacketId, failed: bool) -> Recd<H> {
        let Some(slot) = self.slot_mut(id) else { return Recd::Unknown };
        if slot.state == State::AwaitsPuback {
            return Recd::WrongType;
        }
        if failed {
            return Recd::Failed(self.remove(id));
        }
        self.on_the_wire(id);
        let Some(slot) = self.slot_mut(id) else { return Recd::Unknown };
        slot.state = State::AwaitsPubcomp;
        slot.what.take().map_or(Recd::Again, Recd::Release)
    }

    /// A PUBCOMP came, with any reason code: ends a released QoS 2 message.
    pub fn pubcomp(&mut self, id: PacketId) -> Acked<()> {
        match self.slot(id).map(|slot| slot.state) {
            None => Acked::Unknown,
            Some(State::AwaitsPubcomp) => {
                self.remove(id);
                Acked::Done(())
            }
            Some(_) => Acked::WrongType,
        }
    }

    /// An identifier for a SUBSCRIBE or UNSUBSCRIBE, not in use otherwise `[MQTT-2.2.1-3]`. To be
    /// given back with [`release`](Self::release).
    ///
    /// # Errors
    /// 16 are in use.
    pub fn reserve(&mut self) -> Result<PacketId, Full> {
        let bit = (0..RESERVED)
            .map(|step| (self.reserve_from + step) % RESERVED)
            .find(|bit| self.reserved & (1 << bit) == 0)
            .ok_or(Full)?;
        self.reserved |= 1 << bit;
        self.reserve_from = bit + 1;
        Ok(PacketId::MIN.saturating_add(LAST_ID + bit))
    }

    /// A SUBACK or UNSUBACK came: its identifier is free. False, and no change, where no
    /// SUBSCRIBE or UNSUBSCRIBE has it.
    pub fn release(&mut self, id: PacketId) -> bool {
        let mask = match id.get().checked_sub(LAST_ID + 1) {
            Some(bit) => 1 << bit,
            None => return false,
        };
        let known = self.reserved & mask != 0;
        self.reserved &= !mask;
        known
    }

    /// Ends the session: takes out what is in flight, in the order of sending, the message with it
    /// where it is not released. What the iterator does not come to stays.
    pub fn drain(&mut self) -> impl Iterator<Item = (PacketId, State, Option<H>)> {
        core::iter::from_fn(|| {
            let id = self.sent.first?;
            let state = self.slot(id)?.state;
            Some((id, state, self.remove(id)))
        })
    }

    /// What is in flight, in the order of sending; the message with it where it is not released.
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, State, Option<&H>)> {
        let mut at = self.sent.first;
        core::iter::from_fn(move || {
            let id = at?;
            let slot = self.slot(id)?;
            at = slot.after;
            Some((id, slot.state, slot.what.as_ref()))
        })
    }

    /// What the PUBLISH in flight with this identifier is made of; `None` where there is none or
    /// it is released.
    #[must_use]
    pub fn get(&self, id: PacketId) -> Option<&H> {
        self.slot(id)?.what.as_ref()
    }

    /// Whether packets of before this connection are still to be sent again.
    #[must_use]
    pub fn resends(&self) -> bool {
        self.publishes > 0 || self.pubrels > 0
    }

    /// How many messages are in flight, from their PUBLISH to their last acknowledgement.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.into()
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0
    }

    /// How many messages may be in flight at most, on any connection.
    #[must_use]
    pub fn window(&self) -> u16 {
        self.window
    }

    /// How many PUBLISH of QoS 1 and 2 the peer accepts now, new and resent together.
    #[must_use]
    pub fn quota(&self) -> u16 {
        self.limit.saturating_sub(self.used)
    }

    /// The first message at or after `from`, in the order of sending, that is to be resent and is
    /// in such a state.
    fn waiting(&self, from: Option<PacketId>, such: fn(State) -> bool) -> Option<PacketId> {
        let mut at = from;
        if defect!("resend_order_wrong") {
            at = from.and_then(|id| self.slot(id)?.after).or(from);
        }
        loop {
            let slot = self.slot(at?)?;
            if slot.waits && such(slot.state) {
                return at;
            }
            at = slot.after;
        }
    }

    /// The packet of this message is sent on this connection, or need not be any more.
    fn on_the_wire(&mut self, id: PacketId) {
        let Some(slot) = self.slot_mut(id) else { return };
        if !core::mem::take(&mut slot.waits) {
            return;
        }
        if slot.state == State::AwaitsPubcomp {
            self.pubrels -= 1;
        } else {
            self.publishes -= 1;
            self.used += 1;
        }
    }

    /// Takes a message out, and out of every count.
    fn remove(&mut self, id: PacketId) -> Option<H> {
        self.on_the_wire(id);
        let slot = core::mem::take(self.slot_mut(id)?);
        self.in_flight -= 1;
        if !(defect!("quota_leaked") && slot.state == State::AwaitsPubcomp) {
            self.used -= 1;
        }
        match slot.before.and_then(|before| self.slot_mut(before)) {
            Some(before) => before.after = slot.after,
            None => self.sent.first = slot.after,
        }
        match slot.after.and_then(|after| self.slot_mut(after)) {
            Some(after) => after.before = slot.before,
            None => self.sent.last = slot.before,
        }
        for from in [&mut self.publish_from, &mut self.pubrel_from] {
            if *from == Some(id) {
                *from = slot.after;
            }
        }
        if let Some(place) = self.place(id) {
            self.push_free(place);
        }
        slot.what
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
        let (place, len) = (self.place(name)?, self.slots.len());
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
        let old = self.slots.len();
        let most = usize::from(LAST_ID);
        let new = match &self.slots {
            Storage::Borrowed(memory, _) => memory.len().min(most),
            #[cfg(feature = "alloc")]
            Storage::Heap(_) => {
                let most = usize::from(self.window).next_power_of_two().min(most);
                (old * 2).max(FIRST_SLOTS).min(most)
            }
        };
        while self.slots.len() < new && self.slots.push(Slot::EMPTY).is_ok() {}
        for place in 0..old {
            if let Some(to) = self.slots[place].id.and_then(|id| self.place(id)) {
                self.slots.swap(place, to);
            }
        }
        let next = usize::from(self.last_id);
        for place in (next..next + new).map(|number| number % new) {
            if self.slots[place].id.is_none() {
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
        (usize::from(id.get()) - 1).checked_rem(self.slots.len())
    }

    /// The slot of an identifier, whoever has it.
    fn slot_of(&mut self, id: PacketId) -> Option<&mut Slot<H>> {
        let place = self.place(id)?;
        self.slots.get_mut(place)
    }

    fn slot_mut(&mut self, id: PacketId) -> Option<&mut Slot<H>> {
        self.slot_of(id).filter(|slot| slot.id == Some(id))
    }

    fn slot(&self, id: PacketId) -> Option<&Slot<H>> {
        self.slots.get(self.place(id)?).filter(|slot| slot.id == Some(id))
    }
}

#[cfg(feature = "alloc")]
impl<H> Outbound<'_, H> {
    /// Gives the memory away, empty, while nothing is in flight, so that idle sessions need none.
    /// `None`, and no change, where something is in flight or there is nothing to give.
    pub fn release_memory(&mut self) -> Option<alloc::vec::Vec<Slot<H>>> {
        if !self.is_empty() {
            return None;
        }
        let memory = self.slots.release()?;
        self.free = Ends::default();
        Some(memory)
    }

    /// Takes memory in use for what is sent next. Harmless, the vector is dropped, where
    /// [`has_memory`](Self::has_memory).
    pub fn lend_memory(&mut self, memory: alloc::vec::Vec<Slot<H>>) {
        self.slots.lend(memory);
    }

    /// Whether there is memory to start with; otherwise it will be allocated.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.slots.has_memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const ONE: Qos = Qos::AtLeastOnce;
    const TWO: Qos = Qos::ExactlyOnce;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn memory<H>(slots: usize) -> Vec<Slot<H>> {
        (0..slots).map(|_| Slot::EMPTY).collect()
    }

    /// What is sent again now: identifier and QoS, 0 for a PUBREL.
    fn resent<H>(out: &mut Outbound<'_, H>) -> Vec<(u16, u8)> {
        core::iter::from_fn(|| {
            Some(match out.next_resend()? {
                Resend::Publish { id, qos, .. } => (id.get(), qos as u8),
                Resend::Pubrel { id } => (id.get(), 0),
            })
        })
        .collect()
    }

    #[test]
    fn qos_1_ends_with_puback() {
        // [MQTT-4.3.2-1] [MQTT-4.3.2-3] [MQTT-4.4.0-2] [v4:MQTT-4.3.2-1]
        let mut memory = memory(2);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 9);
        assert_eq!(out.window(), 2, "borrowed memory bounds the window");
        assert_eq!(out.begin(ONE, "a"), Ok(id(1)));
        assert_eq!(out.begin(ONE, "b"), Ok(id(2)));
        assert_eq!(out.begin(ONE, "c"), Err((Full, "c")));
        assert_eq!(out.puback(id(2)), Acked::Done("b"));
        assert_eq!(out.puback(id(2)), Acked::Unknown);
        assert_eq!(out.begin(ONE, "c"), Ok(id(4)), "the slot of identifier 3 is in use");
        assert_eq!(out.puback(id(1)), Acked::Done("a"));
        assert_eq!(out.puback(id(4)), Acked::Done("c"));
        assert!(out.is_empty());
    }

    #[test]
    fn qos_2_holds_its_place_until_pubcomp() {
        // [MQTT-4.3.3-1] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.9.0-2] [v4:MQTT-4.3.3-1]
        let mut memory = memory(1);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 1);
        assert_eq!(out.begin(TWO, "a"), Ok(id(1)));
        assert_eq!(out.pubcomp(id(1)), Acked::WrongType);
        assert_eq!(out.pubrec(id(1), false), Recd::Release("a"));
        assert_eq!(out.pubrec(id(1), false), Recd::Again);
        assert_eq!((out.quota(), out.room(), out.in_flight()), (0, false, 1));
        assert_eq!(out.begin(TWO, "b"), Err((Full, "b")));
        assert_eq!(out.pubcomp(id(1)), Acked::Done(()));
        assert_eq!(out.pubcomp(id(1)), Acked::Unknown);
        assert_eq!(out.pubrec(id(1), false), Recd::Unknown);
        assert_eq!(out.begin(TWO, "b"), Ok(id(2)));
    }

    #[test]
    fn a_refused_message_is_free_at_once() {
        // [MQTT-4.4.0-2] [U5-006] [U5-073]
        let mut memory = memory(2);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 2);
        assert_eq!(out.begin(TWO, 'a'), Ok(id(1)));
        assert_eq!(out.begin(TWO, 'b'), Ok(id(2)));
        assert_eq!(out.pubrec(id(1), true), Recd::Failed(Some('a')));
        assert_eq!(out.pubrec(id(1), true), Recd::Unknown);
        assert_eq!(out.pubrec(id(2), false), Recd::Release('b'));
        assert_eq!(out.pubrec(id(2), true), Recd::Failed(None));
        assert_eq!((out.quota(), out.is_empty()), (2, true));
    }

    #[test]
    fn the_wrong_packet_never_frees() {
        let mut memory = memory(2);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 2);
        assert_eq!(out.begin(ONE, 'a'), Ok(id(1)));
        assert_eq!(out.begin(TWO, 'b'), Ok(id(2)));
        assert_eq!(out.pubrec(id(1), false), Recd::WrongType);
        assert_eq!(out.pubrec(id(1), true), Recd::WrongType);
        assert_eq!(out.pubcomp(id(1)), Acked::WrongType);
        assert_eq!(out.puback(id(2)), Acked::WrongType);
        assert_eq!(out.pubrec(id(2), false), Recd::Release('b'));
        assert_eq!(out.puback(id(2)), Acked::WrongType);
        assert_eq!(out.in_flight(), 2);
    }

    #[test]
    fn what_is_in_flight_is_resent_in_the_order_of_sending() {
        // [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.3.3-6] [v4:MQTT-4.4.0-1] [v4:MQTT-4.6.0-1]
        let mut memory = memory(3);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
        for (number, what) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            assert_eq!(out.begin(TWO, what), Ok(id(number)));
        }
        assert_eq!(out.pubrec(id(1), true), Recd::Failed(Some('a')));
        assert_eq!(out.begin(ONE, 'd'), Ok(id(4)));
        assert_eq!(out.pubrec(id(3), false), Recd::Release('c'));
        assert_eq!(out.next_resend(), None, "nothing is resent on the same connection");
        out.resume();
        assert!(!out.room(), "what is resent goes first");
        assert_eq!(out.next_resend(), Some(Resend::Publish { id: id(2), qos: TWO, what: &'b' }));
        assert_eq!(resent(&mut out), [(3, 0), (4, 1)]);
        out.resume();
        assert_eq!(resent(&mut out), [(2, 2), (3, 0), (4, 1)], "once for each connection");
    }

    #[test]
    fn a_smaller_receive_maximum_delays_publish_but_not_pubrel() {
        // [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1]
        let mut memory = memory(5);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 5);
        for (number, qos) in [(1, ONE), (2, ONE), (3, TWO), (4, ONE)] {
            assert_eq!(out.begin(qos, number), Ok(id(number)));
        }
        assert_eq!(out.pubrec(id(3), false), Recd::Release(3));
        out.resume();
        out.limit(2);
        assert_eq!(resent(&mut out), [(1, 1), (3, 0)], "the released message counts");
        assert_eq!(out.puback(id(1)), Acked::Done(1));
        assert_eq!(resent(&mut out), [(2, 1)]);
        assert_eq!(out.puback(id(2)), Acked::Done(2));
        assert_eq!(resent(&mut out), [(4, 1)]);
        assert_eq!((out.quota(), out.room()), (0, false));
        assert_eq!(out.pubcomp(id(3)), Acked::Done(()));
        assert_eq!((out.quota(), out.room()), (1, true));
        out.limit(u16::MAX);
        assert_eq!(out.quota(), 4, "never more than the window");
        out.limit(0);
        assert_eq!(out.quota(), 0);
    }

    #[test]
    fn quota_never_exceeds_the_limit_after_a_pubcomp_of_the_last_connection() {
        // [U5-073]
        let mut memory = memory(4);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 4);
        for number in 1..=4 {
            assert_eq!(out.begin(TWO, ()), Ok(id(number)));
            assert_eq!(out.pubrec(id(number), false), Recd::Release(()));
        }
        out.resume();
        out.limit(1);
        assert_eq!(resent(&mut out), [(1, 0), (2, 0), (3, 0), (4, 0)]);
        for number in 1..=3 {
            assert_eq!(out.pubcomp(id(number)), Acked::Done(()));
            assert!(!out.room());
        }
        assert_eq!(out.pubcomp(id(4)), Acked::Done(()));
        assert_eq!(out.quota(), 1);
    }

    #[test]
    fn acknowledgements_that_come_before_the_resend_count() {
        let mut memory = memory(3);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
        for (number, qos) in [(1, ONE), (2, TWO), (3, TWO)] {
            assert_eq!(out.begin(qos, number), Ok(id(number)));
        }
        assert_eq!(out.pubrec(id(3), false), Recd::Release(3));
        out.resume();
        assert_eq!(out.puback(id(1)), Acked::Done(1));
        assert_eq!(out.pubrec(id(2), false), Recd::Release(2));
        assert_eq!(out.pubrec(id(3), false), Recd::Again);
        assert_eq!(out.next_resend(), None, "both PUBRELs are answers already");
        assert_eq!((out.quota(), out.room()), (1, true));
    }

    #[test]
    fn a_cancelled_publish_leaves_no_trace() {
        // [MQTT-3.1.2-25]
        let mut memory = memory(2);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 2);
        assert_eq!(out.begin(ONE, 'a'), Ok(id(1)));
        assert_eq!(out.begin(TWO, 'b'), Ok(id(2)));
        assert_eq!(out.cancel(id(3)), None);
        assert_eq!(out.cancel(id(1)), Some('a'));
        assert_eq!((out.quota(), out.in_flight()), (1, 1));
        assert_eq!(out.pubrec(id(2), false), Recd::Release('b'));
        assert_eq!(out.cancel(id(2)), None, "a released message is the peer's");
        assert_eq!(out.pubcomp(id(2)), Acked::Done(()));
    }

    #[test]
    fn subscribe_takes_identifiers_no_publish_has() {
        // [MQTT-2.2.1-3] [U5-005]
        let mut memory = memory(1);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 1);
        let mut taken: Vec<_> = (0..RESERVED).map(|_| out.reserve().unwrap()).collect();
        assert_eq!(out.reserve(), Err(Full));
        taken.push(out.begin(ONE, ()).unwrap());
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 17);
        assert_eq!(out.puback(id(65_535)), Acked::Unknown);
        assert!(out.release(id(65_535)));
        assert!(!out.release(id(65_535)));
        assert!(!out.release(id(1)));
        assert_eq!(out.reserve(), Ok(id(65_535)));
        out.resume();
        assert!(!out.release(id(65_520)), "not session state");
        assert_eq!(out.in_flight(), 1);
    }

    #[test]
    fn a_session_ends_with_what_was_in_flight() {
        let mut memory = memory(3);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
        for (number, qos) in [(1, TWO), (2, ONE), (3, TWO)] {
            assert_eq!(out.begin(qos, number), Ok(id(number)));
        }
        assert_eq!(out.pubrec(id(1), false), Recd::Release(1));
        let left = [
            (id(1), State::AwaitsPubcomp, None),
            (id(2), State::AwaitsPuback, Some(2)),
            (id(3), State::AwaitsPubrec, Some(3)),
        ];
        let seen: Vec<_> = out.iter().map(|(id, state, what)| (id, state, what.copied())).collect();
        assert_eq!(seen, left);
        assert_eq!(out.drain().take(2).collect::<Vec<_>>(), left[..2]);
        assert_eq!(out.drain().collect::<Vec<_>>(), left[2..]);
        assert!(out.is_empty() && out.room());
    }

    #[test]
    fn identifiers_wrap_around_those_in_flight() {
        // [MQTT-2.2.1-4] [v4:MQTT-2.3.1-3]
        let mut memory = memory(3);
        let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
        let stuck = out.begin(TWO, 0).unwrap();
        assert_eq!(out.pubrec(stuck, false), Recd::Release(0));
        let mut previous = out.begin(ONE, 0).unwrap();
        let mut wrapped = 0;
        for number in 1..=200_000 {
            let new = out.begin(ONE, number).unwrap();
            assert!(new != stuck && new != previous && new.get() <= LAST_ID);
            wrapped += u32::from(new < previous);
            assert_eq!(out.puback(previous), Acked::Done(number - 1));
            previous = new;
        }
        assert!(wrapped >= 3);
        assert_eq!(out.pubcomp(stuck), Acked::Done(()));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn the_largest_window_uses_each_identifier_once() {
        let mut out = Outbound::new(Storage::default(), u16::MAX);
        assert_eq!(out.window(), LAST_ID);
        for number in 1..=LAST_ID {
            assert_eq!(out.begin(ONE, number), Ok(id(number)));
        }
        assert_eq!(out.begin(ONE, 0), Err((Full, 0)));
        // From the back, then every third, then a new round of those.
        for number in (60_000..=LAST_ID).rev().chain((1..60_000).step_by(3)) {
            assert_eq!(out.puback(id(number)), Acked::Done(number));
        }
        let free = usize::from(LAST_ID) - out.in_flight();
        for _ in 0..free {
            let given = out.begin(TWO, 0).unwrap();
            assert!(given.get() >= 60_000 || given.get() % 3 == 1);
        }
        assert!(!out.room());
        assert_eq!(out.drain().count(), LAST_ID.into());
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn slots_are_added_while_messages_are_in_flight() {
        let mut out = Outbound::new(Storage::default(), 100);
        for number in 0..1_001 {
            let given = out.begin(ONE, number).unwrap();
            assert_eq!(out.puback(given), Acked::Done(number));
        }
        assert_eq!(out.slots.len(), 4, "one at a time needs no more");
        for number in 0..100 {
            assert_eq!(out.begin(ONE, number), Ok(id(1_002 + number)));
        }
        assert_eq!(out.slots.len(), 128);
        out.resume();
        assert_eq!(resent(&mut out), (1_002..1_102).map(|id| (id, 1)).collect::<Vec<_>>());
        for number in (0..100).rev() {
            assert_eq!(out.puback(id(1_002 + number)), Acked::Done(number));
        }
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn an_idle_session_owns_no_memory() {
        let mut out = Outbound::new(Storage::default(), 8);
        assert!(!out.has_memory());
        assert!(out.release_memory().is_none());
        let first = out.begin(ONE, 'a').unwrap();
        assert!(out.release_memory().is_none(), "something is in flight");
        assert_eq!(out.puback(first), Acked::Done('a'));
        let memory = out.release_memory().unwrap();
        assert!(memory.is_empty() && !out.has_memory());
        let second = out.begin(ONE, 'b').unwrap();
        assert_ne!(second, first, "identifiers go on");
        assert_eq!(out.puback(second), Acked::Done('b'));
        assert!(out.release_memory().is_some());
        let (room, place) = (memory.capacity(), memory.as_ptr());
        out.lend_memory(memory);
        assert!(out.has_memory());
        assert!(out.begin(ONE, 'c').is_ok());
        assert_eq!((out.slots.len() <= room, out.slots.as_ptr()), (true, place));
    }
}
