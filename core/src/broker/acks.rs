//! Acknowledgements of clients for what they were sent, and PUBREL for what they sent.

use alloc::vec::Vec;

use super::receive::{Step, step};
use super::session::{HELD, Session};
use super::slots::Key;
use super::{Broker, DisconnectReason};
use crate::codec::{Ack, Packet, Properties, ProtocolError, ReasonCode, Version};
use crate::connection::Negotiated;
use crate::session::{Acked, Recd};

/// The identifier is in use for another kind of exchange; freeing it would lose a message.
fn wrong_type(rule: &'static str) -> Step {
    let error = ProtocolError::protocol(rule);
    Step::Close(DisconnectReason::Protocol(error), Some(error.reason))
}

/// An acknowledgement without properties.
pub(super) fn ack(packet_id: crate::PacketId, reason: ReasonCode) -> Ack<'static> {
    Ack { packet_id, reason, properties: Properties::EMPTY }
}

impl Broker {
    pub(super) fn puback(&mut self, key: Key, _: &Negotiated, ack: &Ack<'_>) -> Step {
        let Some(session) = self.sessions.get_mut(key) else { return Step::Next };
        match session.outbound.puback(ack.packet_id) {
            Acked::Done(copy) => {
                self.messages.give(copy.message);
                self.settled(key)
            }
            // Harmless: the answer to a repeat, say.
            Acked::Unknown => Step::Next,
            Acked::WrongType => wrong_type("MQTT-4.3.3-3"),
        }
    }

    pub(super) fn pubrec(
        &mut self,
        key: Key,
        negotiated: &Negotiated,
        received: &Ack<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(session) = self.sessions.get_mut(key) else { return Step::Next };
        let reason = match session.outbound.pubrec(received.packet_id, received.reason.is_error()) {
            // [MQTT-4.3.3-4]
            Recd::Release(copy) => {
                self.messages.give(copy.message);
                ReasonCode::Success
            }
            Recd::Again => ReasonCode::Success,
            // [MQTT-4.4.0-2]: the receiver refused it, which is the end of it.
            Recd::Failed(_) => return self.settled(key),
            Recd::Unknown if received.reason.is_error() => return Step::Next,
            Recd::Unknown => ReasonCode::PacketIdentifierNotFound,
            Recd::WrongType => return wrong_type("MQTT-4.3.2-3"),
        };
        if defect!("pubrel_dropped") {
            return Step::Next;
        }
        step(self.send(negotiated, &Packet::Pubrel(ack(received.packet_id, reason)), out))
    }

    pub(super) fn pubcomp(&mut self, key: Key, _: &Negotiated, ack: &Ack<'_>) -> Step {
        let Some(session) = self.sessions.get_mut(key) else { return Step::Next };
        match session.outbound.pubcomp(ack.packet_id) {
            Acked::Done(_) => self.settled(key),
            Acked::Unknown => Step::Next,
            Acked::WrongType => wrong_type("MQTT-4.3.3-5"),
        }
    }

    /// An identifier is free again: the window may let the next message through. What waited in the
    /// queue may have been shed meanwhile, and retained messages wait for its place.
    fn settled(&mut self, key: Key) -> Step {
        self.places = self.places.saturating_sub(1);
        let waits = |s: &Session| !s.queue.is_empty() || s.resending || !s.walks.is_empty();
        if self.sessions.get(key).is_some_and(waits) {
            self.wake(key);
        }
        Step::Next
    }

    pub(super) fn pubrel(
        &mut self,
        key: Key,
        negotiated: &Negotiated,
        received: &Ack<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(session) = self.sessions.get_mut(key) else { return Step::Next };
        let id = received.packet_id;
        // [MQTT-4.3.3-11]: always answered; an unknown one is no error.
        let before = session.inbound.awaiting();
        let reason = if session.inbound.pubrel(id) {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        session.inbound.pubcomp_sent(id);
        self.held -= (before - session.inbound.awaiting()) as u64 * HELD;
        debug_assert!(negotiated.version <= Version::V5);
        step(self.send(negotiated, &Packet::Pubcomp(ack(id, reason)), out))
    }
}
