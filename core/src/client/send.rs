//! What the application asks for.

use super::event::SendError;
use super::{Client, FIRST_REQUEST, Kind, PROPERTIES, Phase, Request, Ticket, server};
use crate::codec::{
    Auth, EncodeError, Filters, Packet, PacketId, Properties, Property, PropertyId, Publish, Qos,
    ReasonCode, Subscribe, SubscriptionOptions, TopicFilters, Unsubscribe, Version,
};
use crate::topic::{TopicFilter, split_share};

/// Topics that are not longer are not worth an alias.
const SHORT_TOPIC: usize = 2;

impl Client<'_> {
    /// Takes a message to be sent. Its `dup` and `packet_id` are set by the client, and topic
    /// aliases too. The answer comes as [`Event::Published`](super::Event::Published) or
    /// [`Event::Lost`](super::Event::Lost).
    ///
    /// # Errors
    /// See [`SendError`]; nothing changed then.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Result<Ticket, SendError> {
        self.check_connected()?;
        // [MQTT-3.2.2-11] [MQTT-3.2.2-14]
        if publish.qos > self.server.max_qos || publish.retain && !self.server.retain {
            return Err(SendError::NotSupported);
        }
        // [MQTT-3.3.4-6]
        let own = [PropertyId::TopicAlias, PropertyId::SubscriptionIdentifier];
        if own.iter().any(|id| publish.properties.find(*id).is_some()) {
            return Err(SendError::Encode(EncodeError::Property));
        }
        if publish.qos == Qos::AtMostOnce {
            return self.publish_qos0(publish);
        }
        let sized = Publish { dup: false, packet_id: Some(PacketId::MIN), ..*publish };
        let len = self.fit(&Packet::Publish(sized))?;
        if !self.outbound.room() {
            return Err(SendError::Full);
        }
        self.arena.reserve(len)?;
        let id = self.outbound.begin(publish.qos, ()).map_err(|_| SendError::Full)?;
        let packet = Packet::Publish(Publish { packet_id: Some(id), ..sized });
        self.arena.append(&packet, self.version, len);
        Ok(self.ticket(id))
    }

    fn publish_qos0(&mut self, publish: &Publish<'_>) -> Result<Ticket, SendError> {
        let plain = Publish { dup: false, packet_id: None, ..*publish };
        if !self.publish_aliased(&plain) {
            let packet = Packet::Publish(plain);
            let len = self.fit(&packet)?;
            self.arena.reserve(len)?;
            self.arena.append(&packet, self.version, len);
        }
        self.qos0[0] = self.qos0[0].wrapping_add(1);
        Ok(self.qos0_ticket(self.qos0[0]))
    }

    /// Sends a message with a topic alias, known or new; false, and no change, where there is none
    /// for it or something does not fit. `[MQTT-3.2.2-17]` `[MQTT-3.2.2-18]`
    fn publish_aliased(&mut self, plain: &Publish<'_>) -> bool {
        let max = self.server.aliases.min(self.options.topic_alias_out);
        if max == 0 || plain.topic.len() <= SHORT_TOPIC {
            return false;
        }
        let known = self.aliases_out.alias(plain.topic);
        let alias = known.unwrap_or(self.aliases_out.count().saturating_add(1));
        let mut list = heapless::Vec::<Property<'_>, PROPERTIES>::new();
        let mut properties = plain.properties.iter().chain([Property::TopicAlias(alias)]);
        if alias > max || !properties.all(|property| list.push(property).is_ok()) {
            return false;
        }
        let topic = if known.is_some() { "" } else { plain.topic };
        let packet =
            Packet::Publish(Publish { topic, properties: Properties::list(&list), ..*plain });
        let Ok(len) = self.fit(&packet) else { return false };
        // The mapping stands only if its packet is sent.
        if self.arena.reserve(len).is_err()
            || known.is_none() && !self.aliases_out.set(alias, plain.topic)
        {
            return false;
        }
        self.arena.append(&packet, self.version, len);
        true
    }

    /// Takes a SUBSCRIBE. Before 5.0 the options are the QoS alone, and there are no properties.
    /// At most 16 of it and UNSUBSCRIBE wait for their answer, which comes as
    /// [`Event::Subscribed`](super::Event::Subscribed) or [`Event::Lost`](super::Event::Lost).
    ///
    /// # Errors
    /// See [`SendError`]; nothing changed then.
    pub fn subscribe(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<Ticket, SendError> {
        self.check_connected()?;
        for (filter, _) in filters {
            self.check_filter(filter)?;
        }
        // [U5-033]
        if !self.server.identifiers && properties.find(PropertyId::SubscriptionIdentifier).is_some()
        {
            return Err(SendError::NotSupported);
        }
        let list = Filters::list(filters);
        self.request(true, filters.len(), |packet_id| {
            Packet::Subscribe(Subscribe { packet_id, properties, filters: list })
        })
    }

    /// Takes an UNSUBSCRIBE. At most 16 of it and SUBSCRIBE wait for their answer, which comes as
    /// [`Event::Unsubscribed`](super::Event::Unsubscribed) or
    /// [`Event::Lost`](super::Event::Lost).
    ///
    /// # Errors
    /// See [`SendError`]; nothing changed then.
    pub fn unsubscribe(
        &mut self,
        filters: &[&str],
        properties: Properties<'_>,
    ) -> Result<Ticket, SendError> {
        self.check_connected()?;
        for filter in filters {
            TopicFilter::new(filter, u16::MAX).map_err(SendError::Filter)?;
        }
        let list = TopicFilters::list(filters);
        self.request(false, filters.len(), |packet_id| {
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: list })
        })
    }

    fn request<'a>(
        &mut self,
        subscribe: bool,
        filters: usize,
        packet: impl Fn(PacketId) -> Packet<'a>,
    ) -> Result<Ticket, SendError> {
        let filters = u16::try_from(filters).map_err(|_| SendError::TooLarge)?;
        let len = self.fit(&packet(PacketId::MIN))?;
        self.arena.reserve(len)?;
        let id = self.outbound.reserve().map_err(|_| SendError::Full)?;
        self.arena.append(&packet(id), self.version, len);
        if let Some(request) = self.requests.get_mut(usize::from(id.get() - FIRST_REQUEST)) {
            self.asked = self.asked.wrapping_add(1);
            *request = Request { subscribe, filters, number: self.asked };
        }
        Ok(self.request_ticket(id))
    }

    /// Sends authentication data: the answer to [`Event::Auth`](super::Event::Auth), or the
    /// beginning of a re-authentication, with the method of CONNECT. `[MQTT-4.12.0-3]`
    /// `[MQTT-4.12.1-1]`
    ///
    /// # Errors
    /// [`SendError::NotSupported`] where no such AUTH is due; [`SendError::Full`] where the memory
    /// to receive has no room for it; and as elsewhere. Nothing changed then.
    pub fn auth(&mut self, auth: &Auth<'_>) -> Result<(), SendError> {
        if self.gone || !matches!(self.phase, Phase::Connecting | Phase::Connected) {
            return Err(SendError::NotConnected);
        }
        let due = match self.phase {
            Phase::Connected if !self.authenticating => ReasonCode::Reauthenticate,
            _ => ReasonCode::ContinueAuthentication,
        };
        // [MQTT-4.12.0-5] [MQTT-4.12.0-7]
        if self.method.is_none()
            || self.method != server::method(auth.properties)
            || auth.reason != due
            || self.phase == Phase::Connecting && !self.authenticating
        {
            return Err(SendError::NotSupported);
        }
        let packet = Packet::Auth(*auth);
        self.fit(&packet)?;
        self.input.set_aside(&packet, self.version)?;
        // In a connection the exchange goes on until the server says Success; before, each AUTH
        // answers one of the server.
        self.authenticating = self.phase == Phase::Connected;
        Ok(())
    }

    /// The message is handled and may be acknowledged, in the order of receipt `[MQTT-4.6.0-2]`
    /// `[MQTT-4.6.0-3]`. Harmless, nothing happens, where the ticket is of an earlier connection
    /// or was acknowledged before, or the message has QoS 0.
    pub fn ack(&mut self, ticket: Ticket) {
        self.answer(ticket, ReasonCode::Success);
    }

    /// As [`ack`](Self::ack), with a reason code of PUBACK and PUBREC: an error tells a 5.0 server
    /// that the message is not wanted. Another code counts as Success, and so does every code
    /// before 5.0.
    pub fn refuse(&mut self, ticket: Ticket, reason: ReasonCode) {
        let told = self.version == Version::V5 && reason.allowed_in(4);
        self.answer(ticket, if told { reason } else { ReasonCode::Success });
    }

    fn answer(&mut self, ticket: Ticket, reason: ReasonCode) {
        let epoch = self.epoch;
        let waits = |owed: &&mut super::Owed| {
            ticket == Ticket::new(epoch, Kind::Message, owed.number) && owed.answer.is_none()
        };
        if let Some(owed) = self.owed.iter_mut().find(waits) {
            owed.answer = Some(reason);
        }
    }

    fn check_connected(&self) -> Result<(), SendError> {
        if self.is_connected() { Ok(()) } else { Err(SendError::NotConnected) }
    }

    /// Length of a packet, if the server takes it. `[MQTT-3.2.2-15]`
    fn fit(&self, packet: &Packet<'_>) -> Result<usize, SendError> {
        let len = packet.encoded_len(self.version)?;
        if len > self.server.max_packet_size {
            return Err(SendError::TooLarge);
        }
        Ok(len as usize)
    }

    fn check_filter(&self, filter: &str) -> Result<(), SendError> {
        let checked = TopicFilter::new(filter, u16::MAX).map_err(SendError::Filter)?;
        let shared = split_share(filter).map_err(SendError::Filter)?.is_some();
        // [U5-032] [U5-034]
        if checked.has_wildcard() && !self.server.wildcards || shared && !self.server.shared {
            return Err(SendError::NotSupported);
        }
        Ok(())
    }
}
