//! Bytes in, events out.

use super::event::{Event, Failure, Message, Ticket};
use super::{Client, Phase, Unacked};
use crate::codec::{
    Ack, Connack, Frame, Packet, PacketId, Properties, Property, PropertyId, ProtocolError,
    Publish, Qos, ReasonCode, Version, decode, split,
};
use crate::session::{Acked, Recd, Verdict};
use crate::time::Instant;

/// What a frame came to.
enum Outcome {
    /// Nothing to tell.
    Nothing,
    /// Told by the frame itself, lent.
    Lend,
    /// A completion.
    Published(PacketId, ReasonCode),
    /// No memory for the answer: the frame waits.
    Wait,
}

impl Client<'_> {
    /// Free memory to read the socket into; empty while events wait to be polled, or when a packet
    /// is larger than the memory, which fails the connection.
    pub fn recv_buf(&mut self) -> &mut [u8] {
        let unread = self.unread.clone();
        self.rx.copy_within(unread.clone(), 0);
        self.unread = 0..unread.len();
        self.lent = 0..0;
        let end = self.unread.end;
        &mut self.rx[end..]
    }

    /// `len` bytes were read into [`Client::recv_buf`].
    pub fn received(&mut self, len: usize) {
        self.unread.end = self.rx.len().min(self.unread.end + len);
    }

    /// The next event, lent until the next call of any kind. `None`: nothing more for now.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event<'_>> {
        if !self.options.manual_ack
            && let Some(last) = self.unacked.back_mut()
        {
            // The program has come back from it.
            last.ready = true;
        }
        self.send_acks();
        self.lent = 0..0;
        if let Some(event) = self.notice() {
            return Some(event);
        }
        loop {
            let frame = match self.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.violated(error);
                    break;
                }
            };
            let before = self.unread.start;
            self.unread.start = frame.end;
            match self.take(now, frame.clone()) {
                Ok(Outcome::Nothing) => {}
                Ok(Outcome::Lend) => {
                    self.lent = frame;
                    return self.lend();
                }
                Ok(Outcome::Published(id, reason)) => {
                    let ticket = Ticket::of(self.session_epoch, id);
                    return Some(Event::Published { ticket, reason });
                }
                Ok(Outcome::Wait) => {
                    self.unread.start = before;
                    return None;
                }
                Err(error) => {
                    self.violated(error);
                    break;
                }
            }
        }
        self.failure.take().map(Event::Failed)
    }

    /// Events that no frame brings.
    fn notice(&mut self) -> Option<Event<'static>> {
        if let Some(ticket) = self.lost.pop_front() {
            return Some(Event::Lost { ticket });
        }
        if self.discarding {
            let next = self.outbound.drain().next();
            match next {
                Some((id, ..)) => {
                    let ticket = Ticket::of(self.session_epoch, id);
                    return Some(Event::Lost { ticket });
                }
                None => {
                    self.discarding = false;
                    self.session_epoch = self.session_epoch.wrapping_add(1);
                }
            }
        }
        if let Some((ticket, at)) = self.plain.front().copied()
            && self.bytes_sent >= at
        {
            self.plain.pop_front();
            return Some(Event::Published { ticket, reason: ReasonCode::Success });
        }
        None
    }

    /// Where the next whole frame lies.
    fn next_frame(&self) -> Result<Option<core::ops::Range<usize>>, ProtocolError> {
        if !matches!(self.phase, Phase::Connecting | Phase::Connected) {
            return Ok(None);
        }
        let max = u32::try_from(self.rx.len()).unwrap_or(u32::MAX);
        let found = split(&self.rx[self.unread.clone()], max)?;
        Ok(found.map(|(_, used)| self.unread.start..self.unread.start + used))
    }

    fn frame(&self, at: core::ops::Range<usize>) -> Option<Frame<'_>> {
        split(&self.rx[at], u32::MAX).ok().flatten().map(|(frame, _)| frame)
    }

    /// Handles a frame, all but telling of it.
    fn take(
        &mut self,
        now: Instant,
        at: core::ops::Range<usize>,
    ) -> Result<Outcome, ProtocolError> {
        let old = self.is_old();
        let Some((frame, _)) = split(&self.rx[at], u32::MAX)? else {
            return Ok(Outcome::Nothing);
        };
        let packet = decode(self.version, frame)?;
        if self.phase == Phase::Connecting
            && !matches!(packet, Packet::Connack(_) | Packet::Auth(_))
        {
            // [MQTT-3.2.0-1]
            return Err(ProtocolError::protocol("MQTT-3.2.0-1"));
        }
        // What is to be answered must not borrow from the buffer.
        match packet {
            Packet::Connack(connack) => {
                let facts = Facts::of(&connack);
                self.connack(now, facts)
            }
            Packet::Publish(publish) => {
                let (id, qos) = (publish.packet_id, publish.qos);
                set_alias(&mut self.aliases, &publish)?;
                self.publish_in(id, qos)
            }
            Packet::Puback(Ack { packet_id, reason, .. }) => self.puback(packet_id, reason),
            Packet::Pubrec(Ack { packet_id, reason, .. }) => self.pubrec(packet_id, reason),
            Packet::Pubrel(Ack { packet_id, .. }) => Ok(self.pubrel(packet_id)),
            Packet::Pubcomp(Ack { packet_id, reason, .. }) => self.pubcomp(packet_id, reason),
            Packet::Suback(suback) => {
                let id = suback.packet_id;
                Ok(self.answered(id, true))
            }
            Packet::Unsuback(unsuback) => {
                let id = unsuback.packet_id;
                Ok(self.answered(id, false))
            }
            Packet::Pingresp => {
                self.pinged = None;
                Ok(Outcome::Nothing)
            }
            Packet::Disconnect(_) if !old => {
                self.phase = Phase::Closing;
                Ok(Outcome::Lend)
            }
            Packet::Auth(_) => Ok(Outcome::Lend),
            _ => Err(ProtocolError::protocol("MQTT-4.13.1-1")),
        }
    }

    fn connack(&mut self, now: Instant, facts: Facts) -> Result<Outcome, ProtocolError> {
        if self.phase != Phase::Connecting {
            return Err(ProtocolError::protocol("MQTT-3.2.0-2"));
        }
        if facts.reason.is_error() {
            self.phase = Phase::Closing;
            return Ok(Outcome::Lend);
        }
        let known = self.has_session && !self.clean_start;
        if facts.session_present && !known {
            return Err(ProtocolError::protocol("MQTT-3.2.2-4"));
        }
        // A server of 3.1 cannot say whether it has the session: ours is taken up.
        let kept = facts.session_present || self.version == Version::V31 && known;
        if !kept {
            // [MQTT-3.2.2-5]
            self.discard();
        }
        self.server = facts.server;
        // [MQTT-3.1.2-21]
        self.keep_alive = facts.keep_alive.unwrap_or(self.keep_alive);
        self.phase = Phase::Connected;
        self.has_session = true;
        self.last_sent = now;
        self.outbound.limit(facts.receive_maximum);
        self.outbound.resume();
        self.inbound.reconnect();
        let receive_maximum = match self.version {
            Version::V5 => self.options.receive_maximum,
            _ => u16::MAX,
        };
        self.inbound.limit(receive_maximum, u16::MAX);
        self.resending = kept && !self.outbound.is_empty();
        if self.tx.unsent().is_empty() {
            self.send_again();
        }
        Ok(Outcome::Lend)
    }

    fn publish_in(&mut self, id: Option<PacketId>, qos: Qos) -> Result<Outcome, ProtocolError> {
        let Some(id) = id else { return Ok(Outcome::Lend) };
        if self.unacked.is_full() {
            return Ok(Outcome::Wait);
        }
        let ready = match self.inbound.publish(id, qos) {
            Verdict::New => false,
            Verdict::Repeat if self.unacked.iter().any(|one| one.id == id) => {
                // Its answer is still to come.
                return Ok(Outcome::Nothing);
            }
            Verdict::Repeat => true,
            Verdict::OverQuota => {
                return Err(ProtocolError::new(ReasonCode::ReceiveMaximumExceeded, "MQTT-3.3.4-9"));
            }
            Verdict::Full => {
                return Err(ProtocolError::new(ReasonCode::QuotaExceeded, "MQTT-4.3.3-8"));
            }
        };
        // There was room.
        let _ = self.unacked.push_back(Unacked { id, qos, ready });
        if ready {
            self.send_acks();
            return Ok(Outcome::Nothing);
        }
        Ok(Outcome::Lend)
    }

    fn puback(&mut self, id: PacketId, reason: ReasonCode) -> Result<Outcome, ProtocolError> {
        if self.is_on_its_way(id) {
            return Err(ProtocolError::protocol("MQTT-4.3.2-4"));
        }
        match self.outbound.puback(id) {
            Acked::Done(_) => Ok(self.completed(id, reason)),
            Acked::Unknown => Ok(Outcome::Nothing),
            Acked::WrongType => Err(ProtocolError::protocol("MQTT-4.3.3-8")),
        }
    }

    fn pubrec(&mut self, id: PacketId, reason: ReasonCode) -> Result<Outcome, ProtocolError> {
        if self.is_on_its_way(id) {
            return Err(ProtocolError::protocol("MQTT-4.3.3-8"));
        }
        // The answer first: without room for it the PUBREC waits.
        let properties = Properties::EMPTY;
        let release = |reason| Packet::Pubrel(Ack { packet_id: id, reason, properties });
        if !self.tx.room(5, &mut self.outbound) {
            return Ok(Outcome::Wait);
        }
        let answer = match self.outbound.pubrec(id, reason.is_error()) {
            Recd::Release(_) | Recd::Again => release(ReasonCode::Success),
            Recd::Failed(_) => return Ok(self.completed(id, reason)),
            Recd::Unknown if reason.is_error() => return Ok(Outcome::Nothing),
            Recd::Unknown if self.is_old() => release(ReasonCode::Success),
            Recd::Unknown => release(ReasonCode::PacketIdentifierNotFound),
            Recd::WrongType => return Err(ProtocolError::protocol("MQTT-4.3.2-4")),
        };
        // [MQTT-4.6.0-4]: in the order of the PUBRECs.
        let _ = self.queue(&answer);
        Ok(Outcome::Nothing)
    }

    fn pubrel(&mut self, id: PacketId) -> Outcome {
        if !self.tx.room(5, &mut self.outbound) {
            return Outcome::Wait;
        }
        let known = self.inbound.pubrel(id);
        let reason = match known || self.is_old() {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        let properties = Properties::EMPTY;
        let _ = self.queue(&Packet::Pubcomp(Ack { packet_id: id, reason, properties }));
        self.inbound.pubcomp_sent(id);
        Outcome::Nothing
    }

    fn pubcomp(&mut self, id: PacketId, reason: ReasonCode) -> Result<Outcome, ProtocolError> {
        match self.outbound.pubcomp(id) {
            // The server had it all, and forgot it when its PUBCOMP got lost. [U5-052]
            Acked::Done(()) if reason == ReasonCode::PacketIdentifierNotFound => {
                Ok(self.completed(id, ReasonCode::Success))
            }
            Acked::Done(()) => Ok(self.completed(id, reason)),
            Acked::Unknown => Ok(Outcome::Nothing),
            Acked::WrongType => Err(ProtocolError::protocol("MQTT-4.3.3-11")),
        }
    }

    /// A message is through; the window may let another be sent again.
    fn completed(&mut self, id: PacketId, reason: ReasonCode) -> Outcome {
        if self.again.is_none() && self.tx.unsent().is_empty() {
            self.send_again();
        }
        Outcome::Published(id, reason)
    }

    /// SUBACK or UNSUBACK: one that nobody asked for is ignored.
    fn answered(&mut self, id: PacketId, subscribe: bool) -> Outcome {
        let place = self.requests.iter().position(|one| one.id == id && one.subscribe == subscribe);
        let Some(place) = place else { return Outcome::Nothing };
        self.requests.swap_remove(place);
        self.outbound.release(id);
        Outcome::Lend
    }

    /// The event of the frame that was taken last.
    fn lend(&self) -> Option<Event<'_>> {
        let epoch = self.connection_epoch;
        let packet = decode(self.version, self.frame(self.lent.clone())?).ok()?;
        Some(match packet {
            Packet::Connack(connack) => Event::Connected {
                session_present: connack.session_present,
                reason: connack.reason,
                properties: connack.properties,
            },
            Packet::Publish(publish) => {
                let topic = match alias_of(&publish) {
                    Some(alias) if publish.topic.is_empty() => self.aliases.get(alias).ok()?,
                    _ => publish.topic,
                };
                Event::Message(Message {
                    topic,
                    payload: publish.payload,
                    qos: publish.qos,
                    retain: publish.retain,
                    dup: publish.dup,
                    properties: publish.properties,
                    ticket: publish.packet_id.map(|id| Ticket::of(epoch, id)),
                })
            }
            Packet::Suback(suback) => Event::Subscribed {
                ticket: Ticket::of(epoch, suback.packet_id),
                reasons: suback.reasons,
                properties: suback.properties,
            },
            Packet::Unsuback(unsuback) => Event::Unsubscribed {
                ticket: Ticket::of(epoch, unsuback.packet_id),
                reasons: unsuback.reasons,
                properties: unsuback.properties,
            },
            Packet::Disconnect(disconnect) => {
                Event::Disconnected { reason: disconnect.reason, properties: disconnect.properties }
            }
            Packet::Auth(auth) => Event::Auth { reason: auth.reason, properties: auth.properties },
            _ => Event::Failed(Failure::Protocol(ProtocolError::protocol("MQTT-4.13.1-1"))),
        })
    }
}

/// What CONNACK says, without what it borrows.
struct Facts {
    session_present: bool,
    reason: ReasonCode,
    receive_maximum: u16,
    keep_alive: Option<u16>,
    server: super::Server,
}

impl Facts {
    fn of(connack: &Connack<'_>) -> Self {
        let mut facts = Self {
            session_present: connack.session_present,
            reason: connack.reason,
            receive_maximum: u16::MAX,
            keep_alive: None,
            server: super::Server::default(),
        };
        let server = &mut facts.server;
        for property in connack.properties.iter() {
            match property {
                Property::ReceiveMaximum(max) => facts.receive_maximum = max,
                Property::ServerKeepAlive(secs) => facts.keep_alive = Some(secs),
                Property::MaximumPacketSize(max) => server.max_packet_size = max,
                Property::MaximumQos(bits) => {
                    server.max_qos = Qos::from_bits(bits).unwrap_or(Qos::ExactlyOnce);
                }
                Property::RetainAvailable(on) => server.retain = on,
                Property::TopicAliasMaximum(max) => server.max_topic_alias = max,
                _ => {}
            }
        }
        facts
    }
}

fn alias_of(publish: &Publish<'_>) -> Option<u16> {
    match publish.properties.find(PropertyId::TopicAlias) {
        Some(Property::TopicAlias(alias)) => Some(alias),
        _ => None,
    }
}

/// Remembers a new mapping, and checks one that is used.
fn set_alias(aliases: &mut super::Aliases<'_>, publish: &Publish<'_>) -> Result<(), ProtocolError> {
    match alias_of(publish) {
        None => Ok(()),
        Some(alias) if publish.topic.is_empty() => aliases.get(alias).map(|_| ()),
        Some(alias) => aliases.set(alias, publish.topic),
    }
}
