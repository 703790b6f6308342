//! What a program asks for, and the bytes that come of it.

use super::arena::Span;
use super::event::{SendError, Ticket};
use super::{Again, Client, Phase, Request};
use crate::codec::{
    Ack, Auth, EncodeError, Filters, Packet, Properties, Property, PropertyId, Publish, Qos,
    ReasonCode, Subscribe, SubscriptionOptions, TopicFilters, Unsubscribe, Version,
};
use crate::session::Resend;
use crate::time::Instant;

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::TooLong => Self::TooLarge,
            _ => Self::Invalid,
        }
    }
}

impl Client<'_> {
    /// Publishes a message. `dup` and `packet_id` of the argument are not looked at. Its completion
    /// is told as [`Event::Published`](super::Event::Published) with the ticket.
    ///
    /// A message of QoS 1 or 2 stays in memory until it is acknowledged and is sent again on the
    /// next connection; it cannot have a topic alias, which would mean nothing there.
    ///
    /// # Errors
    /// See [`SendError`]; nothing changed then.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Result<Ticket, SendError> {
        if self.phase != Phase::Connected {
            return Err(SendError::State);
        }
        self.check_publish(publish)?;
        let plain = publish.qos == Qos::AtMostOnce;
        let no_room = if plain { self.plain.is_full() } else { !self.outbound.room() };
        if no_room || self.discarding {
            return Err(SendError::Full);
        }
        // Any identifier has the same length.
        let packet_id = (!plain).then_some(crate::PacketId::MIN);
        let mut publish = Publish { dup: false, packet_id, ..*publish };
        let len = Packet::Publish(publish).encoded_len(self.version)?;
        if len > self.server.max_packet_size {
            return Err(SendError::TooLarge);
        }
        let len = len as usize;
        if !self.tx.room(len + self.reserve, &mut self.outbound) {
            return Err(SendError::Full);
        }
        let (span, bytes) = self.tx.take(len);
        let ticket = if plain {
            self.plain_number = self.plain_number.wrapping_add(1) | 1 << 16;
            Ticket { epoch: self.connection_epoch, number: self.plain_number }
        } else {
            match self.outbound.begin(publish.qos, span) {
                Ok(id) => {
                    publish.packet_id = Some(id);
                    Ticket::of(self.session_epoch, id)
                }
                Err(_) => {
                    self.tx.untake(span);
                    return Err(SendError::Full);
                }
            }
        };
        Packet::Publish(publish).encode(self.version, bytes);
        self.bytes_queued += len as u64;
        if plain {
            // There was room.
            let _ = self.plain.push_back((ticket, self.bytes_queued));
        }
        Ok(ticket)
    }

    fn check_publish(&self, publish: &Publish<'_>) -> Result<(), SendError> {
        if publish.qos > self.server.max_qos || publish.retain && !self.server.retain {
            return Err(SendError::NotSupported);
        }
        if publish.properties.find(PropertyId::SubscriptionIdentifier).is_some() {
            // [MQTT-3.3.4-6]
            return Err(SendError::Invalid);
        }
        match publish.properties.find(PropertyId::TopicAlias) {
            Some(Property::TopicAlias(alias)) => {
                // [MQTT-3.2.2-17]
                let allowed = alias <= self.server.max_topic_alias;
                let plain = publish.qos == Qos::AtMostOnce;
                if allowed && plain { Ok(()) } else { Err(SendError::NotSupported) }
            }
            _ => Ok(()),
        }
    }

    /// Subscribes. Its completion is told as [`Event::Subscribed`](super::Event::Subscribed).
    ///
    /// # Errors
    /// See [`SendError`]; 16 of SUBSCRIBE and UNSUBSCRIBE may be under way.
    pub fn subscribe(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<Ticket, SendError> {
        self.request(true, |packet_id| {
            Packet::Subscribe(Subscribe { packet_id, properties, filters: Filters::list(filters) })
        })
    }

    /// Unsubscribes. Its completion is told as [`Event::Unsubscribed`](super::Event::Unsubscribed).
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn unsubscribe(
        &mut self,
        filters: &[&str],
        properties: Properties<'_>,
    ) -> Result<Ticket, SendError> {
        self.request(false, |packet_id| {
            let filters = TopicFilters::list(filters);
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters })
        })
    }

    fn request<'p>(
        &mut self,
        subscribe: bool,
        packet: impl FnOnce(crate::PacketId) -> Packet<'p>,
    ) -> Result<Ticket, SendError> {
        if self.phase != Phase::Connected {
            return Err(SendError::State);
        }
        if self.requests.is_full() {
            return Err(SendError::Full);
        }
        let id = self.outbound.reserve().map_err(|_| SendError::Full)?;
        if let Err(error) = self.queue(&packet(id)) {
            self.outbound.release(id);
            return Err(error);
        }
        let _ = self.requests.push(Request { id, subscribe });
        Ok(Ticket::of(self.connection_epoch, id))
    }

    /// Sends AUTH: the next step of enhanced authentication, or Re-authenticate. Its properties
    /// carry the Authentication Method of CONNECT. `[MQTT-4.12.0-3]`
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn auth(&mut self, auth: &Auth<'_>) -> Result<(), SendError> {
        let allowed = match self.phase {
            Phase::Connecting => auth.reason == ReasonCode::ContinueAuthentication,
            Phase::Connected => auth.reason != ReasonCode::Success,
            _ => false,
        };
        if !allowed {
            return Err(SendError::State);
        }
        self.queue(&Packet::Auth(*auth)).map(|_| ())
    }

    /// Acknowledges a message, with [`Options::manual_ack`](super::Options::manual_ack). The server
    /// is told in the order in which the messages came `[MQTT-4.6.0-2]` `[MQTT-4.6.0-3]`. A ticket
    /// of another connection, or one that was acknowledged, does nothing.
    pub fn ack(&mut self, ticket: Ticket) {
        if ticket.epoch != self.connection_epoch || self.phase != Phase::Connected {
            return;
        }
        let id = ticket.packet_id();
        if let Some(one) = self.unacked.iter_mut().find(|one| !one.ready && Some(one.id) == id) {
            one.ready = true;
        }
        self.send_acks();
    }

    /// Sends acknowledgements that are due, as long as there is memory for them.
    pub(super) fn send_acks(&mut self) {
        while let Some(first) = self.unacked.front().copied().filter(|first| first.ready) {
            let properties = Properties::EMPTY;
            let ack = Ack { packet_id: first.id, reason: ReasonCode::Success, properties };
            let packet = match first.qos {
                Qos::ExactlyOnce => Packet::Pubrec(ack),
                _ => Packet::Puback(ack),
            };
            if self.queue(&packet).is_err() {
                return;
            }
            if first.qos == Qos::AtLeastOnce {
                self.inbound.puback_sent();
            }
            self.unacked.pop_front();
        }
    }

    /// Encodes a packet that is not kept, and says its length.
    pub(super) fn queue(&mut self, packet: &Packet<'_>) -> Result<usize, SendError> {
        let len = packet.encoded_len(self.version)?;
        if len > self.server.max_packet_size {
            return Err(SendError::TooLarge);
        }
        let len = len as usize;
        if !self.tx.room(len, &mut self.outbound) {
            return Err(SendError::Full);
        }
        let (_, bytes) = self.tx.take(len);
        packet.encode(self.version, bytes);
        self.bytes_queued += len as u64;
        Ok(len)
    }

    /// The next bytes for the socket; empty when there is nothing to send.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        match &self.again {
            Some(Again::Publish(id, sent)) => match self.outbound.get(*id) {
                Some(span) => &self.tx.frame(*span)[*sent..],
                None => &[],
            },
            Some(Again::Pubrel(bytes, sent)) => &bytes[*sent..],
            None => self.tx.unsent(),
        }
    }

    /// The first `len` bytes of [`Client::transmit`] were written.
    pub fn transmitted(&mut self, now: Instant, len: usize) {
        if len > 0 && self.phase != Phase::Connecting {
            self.last_sent = now;
        }
        let left = self.transmit().len().saturating_sub(len);
        match &mut self.again {
            Some(Again::Publish(_, sent) | Again::Pubrel(_, sent)) => {
                *sent += len;
                if left == 0 {
                    self.send_again();
                }
            }
            None => {
                self.tx.sent(len);
                self.bytes_sent = self.bytes_queued.min(self.bytes_sent + len as u64);
            }
        }
    }

    /// Chooses the next packet to be sent again. `[MQTT-4.4.0-1]`
    pub(super) fn send_again(&mut self) {
        self.again = None;
        if !self.resending || self.phase != Phase::Connected {
            return;
        }
        match self.outbound.next_resend() {
            Some(Resend::Publish { id, what, .. }) => {
                let span: Span = *what;
                self.tx.set_dup(span);
                self.again = Some(Again::Publish(id, 0));
            }
            Some(Resend::Pubrel { id }) => {
                let [high, low] = id.get().to_be_bytes();
                self.again = Some(Again::Pubrel([0x62, 2, high, low], 0));
            }
            None => self.resending = self.outbound.resends(),
        }
    }

    /// Whether this identifier is only partly sent again, so that nobody can have answered it.
    pub(super) fn is_on_its_way(&self, id: crate::PacketId) -> bool {
        matches!(self.again, Some(Again::Publish(again, _)) if again == id)
    }

    pub(super) fn is_old(&self) -> bool {
        self.version < Version::V5
    }
}
