//! Bytes for the transport.

use super::{Client, Phase};
use crate::codec::{
    Ack, Disconnect, Packet, PacketId, Properties, Property, Qos, ReasonCode, Version,
};
use crate::session::Resend;
use crate::time::Instant;

/// Bytes of the longest acknowledgement made here, one without properties.
pub(super) const MAX_ACK: u32 = 5;
/// Bytes of DISCONNECT with a Session Expiry Interval.
const PROPERTIES: usize = 8;

/// An answer that waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    /// PUBREL.
    Release(PacketId, ReasonCode),
    /// PUBCOMP.
    Complete(PacketId, ReasonCode),
}

/// A message of before this connection that is being sent again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) id: PacketId,
    /// How many of its bytes are sent.
    sent: usize,
}

/// What was lent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Nothing,
    /// CONNECT or AUTH.
    Aside,
    /// Acknowledgements and PINGREQ.
    Control,
    /// A message of before.
    Again,
    /// What was asked for, in order.
    Arena,
    /// What is left of the packet under way, in the same place.
    Rest,
    /// DISCONNECT.
    Goodbye,
}

/// A few small packets on their way.
#[derive(Debug, Default)]
pub(super) struct Small<const N: usize> {
    bytes: heapless::Vec<u8, N>,
    sent: usize,
}

impl<const N: usize> Small<N> {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn advance(&mut self, n: usize) {
        self.sent = self.bytes.len().min(self.sent + n);
        if self.sent == self.bytes.len() {
            *self = Self::default();
        }
    }

    fn has_room(&self) -> bool {
        N - self.bytes.len() >= MAX_ACK as usize
    }

    /// Appends a packet; false where it cannot be encoded or does not fit.
    fn push(&mut self, packet: &Packet<'_>, version: Version) -> bool {
        let Ok(len) = packet.encoded_len(version) else { return false };
        let start = self.bytes.len();
        if self.bytes.resize_default(start + len as usize).is_err() {
            return false;
        }
        packet.encode(version, &mut self.bytes[start..]);
        true
    }

    /// Appends DISCONNECT with as much of it as the server and the room allow.
    pub(super) fn disconnect(&mut self, last: &Disconnect<'_>, version: Version, max: u32) {
        let mut wanted = *last;
        if version < Version::V5 {
            wanted.properties = Properties::EMPTY;
        }
        let needed: heapless::Vec<Property<'_>, PROPERTIES> = wanted
            .properties
            .iter()
            .filter(|p| !matches!(p, Property::ReasonString(_) | Property::UserProperty(..)))
            .take(PROPERTIES)
            .collect();
        let plain = Disconnect { properties: Properties::list(&needed), ..wanted };
        for last in [wanted, plain] {
            let packet = Packet::Disconnect(last);
            if packet.encoded_len(version).is_ok_and(|len| len <= max)
                && self.push(&packet, version)
            {
                return;
            }
        }
    }
}

impl Client<'_> {
    /// Bytes for the transport; none when there is nothing to send. Say
    /// [`transmitted`](Self::transmitted) how many of them it took, before asking again.
    pub fn transmit(&mut self) -> &[u8] {
        self.source = self.choose();
        match self.source {
            Source::Nothing => &[],
            Source::Aside => self.input.aside(),
            Source::Control => self.control.rest(),
            Source::Again => self.again.map_or(&[], |again| {
                self.arena.kept(again.id).get(again.sent..).unwrap_or_default()
            }),
            Source::Arena => self.arena.unsent(),
            Source::Rest => self.arena.rest(),
            Source::Goodbye => self.goodbye.rest(),
        }
    }

    /// The transport took `n` bytes of what [`transmit`](Self::transmit) lent last. Harmless after
    /// the connection is closed.
    pub fn transmitted(&mut self, now: Instant, n: usize) {
        self.clock = self.clock.max(now);
        if n == 0 {
            return;
        }
        self.spoken = self.clock;
        let Self { arena, outbound, .. } = self;
        match self.source {
            Source::Nothing => {}
            Source::Aside => self.input.advance(n),
            Source::Control => self.control.advance(n),
            Source::Again => self.sent_again(n),
            Source::Arena | Source::Rest => {
                let done = arena.advance(n, |id| outbound.get(id).is_some());
                self.qos0[1] = self.qos0[1].wrapping_add(done);
            }
            Source::Goodbye => self.goodbye.advance(n),
        }
    }

    fn sent_again(&mut self, n: usize) {
        let Some(Again { id, sent }) = self.again else { return };
        self.arena.mark(id);
        let sent = sent + n;
        self.again = (sent < self.arena.kept(id).len()).then_some(Again { id, sent });
        // Acknowledged meanwhile.
        if self.again.is_none() && self.outbound.get(id).is_none() {
            self.arena.remove(id);
        }
    }

    /// Where the next bytes come from. A packet under way is finished before another begins.
    fn choose(&mut self) -> Source {
        if self.gone || self.cut || self.phase == Phase::Idle {
            return Source::Nothing;
        }
        if !self.control.rest().is_empty() {
            return Source::Control;
        }
        if self.again.is_some_and(|again| again.sent > 0) {
            return Source::Again;
        }
        let going_on = self.phase == Phase::Connected || self.phase == Phase::Closing && self.flush;
        if !self.arena.rest().is_empty() {
            return if going_on { Source::Arena } else { Source::Rest };
        }
        if !self.input.aside().is_empty() {
            return Source::Aside;
        }
        if going_on {
            self.compose();
            if !self.control.rest().is_empty() {
                return Source::Control;
            }
            if self.again.is_some() {
                return Source::Again;
            }
            if !self.arena.unsent().is_empty() {
                return Source::Arena;
            }
        }
        if self.goodbye.rest().is_empty() { Source::Nothing } else { Source::Goodbye }
    }

    /// Makes the acknowledgements that are due, and PINGREQ; else finds what is to be sent again.
    /// PUBLISH and PUBREL of before come in the order of their first sending `[MQTT-4.6.0-1]`
    /// `[MQTT-4.6.0-4]`, so one at a time.
    fn compose(&mut self) {
        while self.control.has_room() && self.acknowledge() {}
        if self.again.is_some() || !self.control.rest().is_empty() {
            return;
        }
        match self.outbound.next_resend() {
            Some(Resend::Publish { id, .. }) => self.again = Some(Again { id, sent: 0 }),
            Some(Resend::Pubrel { id }) => {
                self.control.push(&Packet::Pubrel(ack(id, ReasonCode::Success)), self.version);
            }
            None => {}
        }
    }

    /// Makes one packet of those that have nothing to do with what is asked for; false if there is
    /// none.
    fn acknowledge(&mut self) -> bool {
        let packet = if let Some(owed) = self.owed.first().copied()
            && let (Some(id), Some(reason)) = (owed.id, owed.answer)
        {
            self.owed.remove(0);
            if owed.qos == Qos::ExactlyOnce {
                // [MQTT-4.3.3-9]
                if reason.is_error() {
                    self.inbound.refuse(id);
                }
                Packet::Pubrec(ack(id, reason))
            } else {
                self.inbound.puback_sent();
                Packet::Puback(ack(id, reason))
            }
        } else {
            match self.replies.pop_front() {
                Some(Reply::Release(id, reason)) => Packet::Pubrel(ack(id, reason)),
                Some(Reply::Complete(id, reason)) => {
                    self.inbound.pubcomp_sent(id);
                    Packet::Pubcomp(ack(id, reason))
                }
                None if core::mem::take(&mut self.ping_due) => Packet::Pingreq,
                None => return false,
            }
        };
        self.control.push(&packet, self.version)
    }
}

/// An acknowledgement without properties.
fn ack(packet_id: PacketId, reason: ReasonCode) -> Ack<'static> {
    Ack { packet_id, reason, properties: Properties::EMPTY }
}
