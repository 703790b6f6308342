//! The sender of QoS 1 and 2 messages.

use super::slots::{LAST_ID, RESERVED, Slot, Slots};
use crate::Storage;
use crate::codec::{PacketId, Qos};

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

/// The sending half of a session: packet identifiers, the window, and what is in flight.
///
/// `H` is what a PUBLISH is made of when it has to be sent again.
///
/// Every call but [`resume`](Self::resume) takes constant time, whatever order the peer
/// acknowledges in; one call of many adds the time to double the slots. Identifiers ascend, with
/// gaps, and start again at the end.
///
/// Identifiers up to 65,519 are for PUBLISH, the 16 above for SUBSCRIBE and UNSUBSCRIBE, so neither
/// can take one in use by the other.
#[derive(Debug)]
#[cfg_attr(feature = "alloc", derive(Clone))]
pub struct Outbound<'s, H> {
    slots: Slots<'s, H>,
    /// What the peer of this connection accepts, never above the window.
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
    pub fn new(storage: Storage<'s, Slot<H>>, window: u16) -> Self {
        let slots = Slots::new(storage, window);
        let limit = slots.window();
        Self {
            slots,
            limit,
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
            _ if defect!("receive_maximum_exceeded") => self.window(),
            maximum => maximum.max(1).min(self.window()),
        };
    }

    /// A new connection takes the session up: everything in flight is to be sent again, and the
    /// send quota starts afresh `[U5-073]`. Released messages count towards the Receive Maximum
    /// until their PUBCOMP comes `[MQTT-3.3.4-9]`. Identifiers of SUBSCRIBE and UNSUBSCRIBE are
    /// free: these are not session state. Takes time in proportion to what is in flight.
    pub fn resume(&mut self) {
        (self.publishes, self.pubrels) = (0, 0);
        let mut at = self.slots.first();
        while let Some(slot) = at.and_then(|id| self.slots.get_mut(id)) {
            at = slot.after;
            slot.waits = true;
            match slot.state {
                State::AwaitsPubcomp => self.pubrels += 1,
                _ => self.publishes += 1,
            }
        }
        self.used = self.pubrels;
        self.publish_from = self.slots.first();
        self.pubrel_from = self.slots.first();
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
        let slot = self.slots.get(id)?;
        Some(match &slot.what {
            Some(what) => Resend::Publish { id, qos: slot.state.qos(), what },
            None => Resend::Pubrel { id },
        })
    }

    /// Whether [`begin`](Self::begin) would succeed: the window and the send quota have room, and
    /// no PUBLISH waits to be resent, which has to go first.
    #[must_use]
    pub fn room(&self) -> bool {
        self.publishes == 0 && self.quota() > 0 && self.in_flight < self.window()
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
        let state = match qos {
            Qos::ExactlyOnce => State::AwaitsPubrec,
            _ => State::AwaitsPuback,
        };
        let id = self.slots.add(state, what).map_err(|what| (Full, what))?;
        self.in_flight += 1;
        self.used += 1;
        Ok(id)
    }

    /// The PUBLISH of this identifier cannot be sent after all, on this connection or any: frees
    /// it and gives back what it was made of. For a PUBLISH that turns out to be larger than the
    /// peer accepts `[MQTT-3.1.2-25]`, new or to be resent. `None`, and no change, where nothing
    /// has this identifier or the message is released.
    pub fn cancel(&mut self, id: PacketId) -> Option<H> {
        self.slots.get(id)?.what.as_ref()?;
        self.remove(id)
    }

    /// A PUBACK came, with any reason code: ends a QoS 1 message. `[MQTT-4.4.0-2]`
    pub fn puback(&mut self, id: PacketId) -> Acked<H> {
        match self.slots.get(id).map(|slot| slot.state) {
            None => Acked::Unknown,
            Some(State::AwaitsPuback) => self.remove(id).map_or(Acked::Unknown, Acked::Done),
            Some(_) => Acked::WrongType,
        }
    }

    /// A PUBREC came; `failed` if its reason code is 0x80 or above. Otherwise PUBREL is the answer,
    /// and again for each repeated PUBREC `[MQTT-4.3.3-4]`; the identifier and the send quota stay
    /// taken until PUBCOMP.
    pub fn pubrec(&mut self, id: PacketId, failed: bool) -> Recd<H> {
        let Some(slot) = self.slots.get_mut(id) else { return Recd::Unknown };
        if slot.state == State::AwaitsPuback {
            return Recd::WrongType;
        }
        if failed {
            return Recd::Failed(self.remove(id));
        }
        self.on_the_wire(id);
        let Some(slot) = self.slots.get_mut(id) else { return Recd::Unknown };
        slot.state = State::AwaitsPubcomp;
        slot.what.take().map_or(Recd::Again, Recd::Release)
    }

    /// A PUBCOMP came, with any reason code: ends a released QoS 2 message.
    pub fn pubcomp(&mut self, id: PacketId) -> Acked<()> {
        match self.slots.get(id).map(|slot| slot.state) {
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
            let id = self.slots.first()?;
            let state = self.slots.get(id)?.state;
            Some((id, state, self.remove(id)))
        })
    }

    /// What is in flight, in the order of sending; the message with it where it is not released.
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, State, Option<&H>)> {
        let mut at = self.slots.first();
        core::iter::from_fn(move || {
            let id = at?;
            let slot = self.slots.get(id)?;
            at = slot.after;
            Some((id, slot.state, slot.what.as_ref()))
        })
    }

    /// What the PUBLISH in flight with this identifier is made of; `None` where there is none or
    /// it is released.
    #[must_use]
    pub fn get(&self, id: PacketId) -> Option<&H> {
        self.slots.get(id)?.what.as_ref()
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
        self.slots.window()
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
            at = from.and_then(|id| self.slots.get(id)?.after).or(from);
        }
        loop {
            let slot = self.slots.get(at?)?;
            if slot.waits && such(slot.state) {
                return at;
            }
            at = slot.after;
        }
    }

    /// The packet of this message is sent on this connection, or need not be any more.
    fn on_the_wire(&mut self, id: PacketId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
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
        let slot = self.slots.remove(id)?;
        self.in_flight -= 1;
        if !(defect!("quota_leaked") && slot.state == State::AwaitsPubcomp) {
            self.used -= 1;
        }
        for from in [&mut self.publish_from, &mut self.pubrel_from] {
            if *from == Some(id) {
                *from = slot.after;
            }
        }
        slot.what
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
        self.slots.release()
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
mod tests;
