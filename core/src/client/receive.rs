//! From received bytes to events.

use super::event::{Event, Failure, Message, Ticket};
use super::{Client, FIRST_REQUEST, Phase};
use crate::codec::{
    Frame, Packet, PacketId, Properties, Property, PropertyId, ProtocolError, Publish, ReasonCode,
    Version,
};
use crate::time::Instant;

/// What is to be told, without what it borrows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// What the packet that begins here says, with the ticket it is about.
    Packet(usize, Ticket),
    /// A message of QoS 0 went to the transport.
    Sent(Ticket),
    Lost(Ticket),
    Failed(Failure),
    Closed,
}

/// What a packet led to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flow {
    /// It is done.
    Next,
    /// It is done, and to be told of with this ticket.
    Tell(Ticket),
    /// Something is to be told before it.
    Before(Told),
    /// There is no packet, or no room for what it asks for.
    Wait,
}

impl Client<'_> {
    /// Room for bytes from the transport, to be followed by [`received`](Self::received). Empty
    /// while there is no connection, or no room before an event is taken or bytes are transmitted:
    /// then do not read, since zero bytes read look like the end of the stream.
    pub fn recv_buf(&mut self) -> &mut [u8] {
        if self.gone || self.phase == Phase::Idle {
            return &mut [];
        }
        if self.phase == Phase::Closing {
            self.input.drop_received();
        }
        self.input.buffer()
    }

    /// `n` bytes were read into [`recv_buf`](Self::recv_buf). When closing they are thrown away.
    pub fn received(&mut self, now: Instant, n: usize) {
        self.clock = self.clock.max(now);
        if n > 0 && !self.gone && matches!(self.phase, Phase::Connecting | Phase::Connected) {
            self.heard = self.clock;
            self.input.filled(n);
        }
    }

    /// Copies bytes that arrived into [`recv_buf`](Self::recv_buf), and says how many there was
    /// room for. For drivers that read into memory of their own.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let room = self.recv_buf();
            let n = room.len().min(bytes.len() - taken);
            if n == 0 {
                break;
            }
            room[..n].copy_from_slice(&bytes[taken..taken + n]);
            self.received(now, n);
            taken += n;
        }
        taken
    }

    /// The next event, until `None`. A message told before counts as handled, unless
    /// [`manual_ack`](super::Options::manual_ack) is set.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        let told = self.next_told()?;
        Some(self.lend(told))
    }

    fn next_told(&mut self) -> Option<Told> {
        self.handled();
        loop {
            if let Some(failure) = self.failure.take() {
                return Some(Told::Failed(failure));
            }
            if self.discards {
                match self.lose_next() {
                    Some(lost) => return Some(lost),
                    None => self.end_session(),
                }
            }
            let [_, sent, told] = self.qos0;
            if told != sent {
                self.qos0[2] = told.wrapping_add(1);
                return Some(Told::Sent(self.qos0_ticket(self.qos0[2])));
            }
            if !matches!(self.phase, Phase::Connecting | Phase::Connected) {
                return self.wind_up();
            }
            let (at, len, flow) = self.step();
            match flow {
                Flow::Before(told) => return Some(told),
                Flow::Wait => return self.wind_up(),
                // After a failure nothing of the input is left.
                _ if self.failure.is_some() => {}
                Flow::Next => self.input.consume(len),
                Flow::Tell(ticket) => {
                    self.input.consume(len);
                    return Some(Told::Packet(at, ticket));
                }
            }
        }
    }

    /// The application came back after the message told last.
    pub(super) fn handled(&mut self) {
        if !self.options.manual_ack
            && let Some(last) = self.owed.last_mut()
        {
            last.answer = last.answer.or(Some(ReasonCode::Success));
        }
    }

    /// Looks at the next packet: where it is, how long, what it led to.
    fn step(&mut self) -> (usize, usize, Flow) {
        let (at, len, got) = match self.input.frame() {
            Ok(None) => return (0, 0, Flow::Wait),
            Ok(Some((frame, at, len))) => (at, len, self.got(frame)),
            Err(error) => (0, 0, Err(error)),
        };
        let flow = match got {
            Ok(got) => self.handle(got, at),
            Err(error) => Err(error),
        };
        let flow = flow.unwrap_or_else(|error| {
            self.fail(error);
            Flow::Next
        });
        (at, len, flow)
    }

    fn got(&self, frame: Frame<'_>) -> Result<Got, ProtocolError> {
        let packet = crate::codec::decode(self.version, frame)?;
        if !self.problems && tells_problem(&packet) {
            return Err(ProtocolError::protocol("MQTT-3.1.2-29"));
        }
        Ok(Got::of(&packet))
    }

    /// The transport is closed and nothing is left to parse: what will not be answered any more,
    /// then the end.
    fn wind_up(&mut self) -> Option<Told> {
        if !self.gone {
            return None;
        }
        let requests = (FIRST_REQUEST..=u16::MAX).filter_map(PacketId::new);
        for id in requests {
            if self.outbound.release(id) && !defect!("client_request_lost") {
                return Some(Told::Lost(self.request_ticket(id)));
            }
        }
        let [taken, sent, _] = self.qos0;
        if taken != sent {
            let next = sent.wrapping_add(1);
            (self.qos0[1], self.qos0[2]) = (next, next);
            return Some(Told::Lost(self.qos0_ticket(next)));
        }
        if self.ends {
            if let Some(lost) = self.lose_next() {
                return Some(lost);
            }
            self.end_session();
        }
        self.phase = Phase::Idle;
        self.gone = false;
        Some(Told::Closed)
    }

    /// Takes the message out that is in flight for longest.
    pub(super) fn lose_next(&mut self) -> Option<Told> {
        let (id, ..) = self.outbound.drain().next()?;
        self.forget(id);
        Some(Told::Lost(self.ticket(id)))
    }

    fn lend(&self, told: Told) -> Event<'_> {
        let (at, ticket) = match told {
            Told::Packet(at, ticket) => (at, ticket),
            Told::Sent(ticket) => {
                let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
                return Event::Published { ticket, reason, properties };
            }
            Told::Lost(ticket) => return Event::Lost { ticket },
            Told::Failed(failure) => return Event::Failed(failure),
            Told::Closed => return Event::Closed,
        };
        match self.input.packet(self.version, at) {
            Some(Packet::Connack(p)) if p.reason.is_error() => {
                Event::Refused { reason: p.reason, properties: p.properties }
            }
            Some(Packet::Connack(p)) => Event::Connected {
                session_present: self.session_present,
                keep_alive: self.keep_alive,
                properties: p.properties,
            },
            Some(Packet::Publish(p)) => Event::Message(self.message(&p, ticket)),
            Some(Packet::Puback(p) | Packet::Pubrec(p)) => {
                Event::Published { ticket, reason: p.reason, properties: p.properties }
            }
            // The server has it since its PUBREC. That it forgot the identifier since is no error
            // after an interruption. [U5-052]
            Some(Packet::Pubcomp(p)) => {
                Event::Published { ticket, reason: ReasonCode::Success, properties: p.properties }
            }
            Some(Packet::Suback(p)) => {
                Event::Subscribed { ticket, reasons: p.reasons, properties: p.properties }
            }
            Some(Packet::Unsuback(p)) => {
                Event::Unsubscribed { ticket, reasons: p.reasons, properties: p.properties }
            }
            Some(Packet::Auth(p)) => Event::Auth { reason: p.reason, properties: p.properties },
            Some(Packet::Disconnect(p)) => {
                Event::Disconnected { reason: p.reason, properties: p.properties }
            }
            // It was looked at a moment ago, and is one of these.
            _ => Event::Failed(Failure::Protocol(ProtocolError::malformed("U5-001"))),
        }
    }

    fn message<'c>(&'c self, publish: &Publish<'c>, ticket: Ticket) -> Message<'c> {
        let topic = match publish.properties.find(PropertyId::TopicAlias) {
            Some(Property::TopicAlias(alias)) if publish.topic.is_empty() => {
                self.aliases_in.topic(alias).unwrap_or_default()
            }
            _ => publish.topic,
        };
        Message {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties: publish.properties,
            ticket,
        }
    }

    /// Remembers an alias that the PUBLISH at `at` sets, or checks the one it uses.
    pub(super) fn resolve(&mut self, at: usize, alias: u16) -> Result<(), ProtocolError> {
        // [U5-044] [MQTT-3.3.2-10]
        if alias > self.allowed_aliases() {
            return Err(ProtocolError::new(ReasonCode::TopicAliasInvalid, "U5-044"));
        }
        let Some(Packet::Publish(publish)) = self.input.packet(Version::V5, at) else {
            return Ok(());
        };
        if publish.topic.is_empty() {
            let known = self.aliases_in.topic(alias).is_some();
            return if known { Ok(()) } else { Err(ProtocolError::protocol("U5-045")) };
        }
        // [U5-046]
        if self.aliases_in.topic(alias) == Some(publish.topic)
            || self.aliases_in.set(alias, publish.topic)
        {
            return Ok(());
        }
        Err(ProtocolError::new(ReasonCode::QuotaExceeded, "MQTT-3.3.2-10"))
    }
}

/// Whether there is a Reason String or a User Property where these have to be asked for.
fn tells_problem(packet: &Packet<'_>) -> bool {
    let properties = match packet {
        Packet::Puback(p) | Packet::Pubrec(p) | Packet::Pubrel(p) | Packet::Pubcomp(p) => {
            p.properties
        }
        Packet::Suback(p) => p.properties,
        Packet::Unsuback(p) => p.properties,
        Packet::Auth(p) => p.properties,
        _ => return false,
    };
    super::server::has_problem(properties)
}

/// What is needed of a packet to handle it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Got {
    Connack {
        reason: ReasonCode,
        session_present: bool,
        server: super::Server,
    },
    Publish {
        id: Option<PacketId>,
        qos: crate::Qos,
        alias: Option<u16>,
    },
    Puback(PacketId),
    Pubrec(PacketId, bool),
    Pubrel(PacketId),
    Pubcomp(PacketId),
    Answer {
        subscribe: bool,
        id: PacketId,
        reasons: usize,
    },
    Pingresp,
    Disconnect {
        server: bool,
    },
    Auth {
        reason: ReasonCode,
        method: Option<u64>,
    },
    /// What only a client may send.
    Client,
}

impl Got {
    fn of(packet: &Packet<'_>) -> Self {
        match packet {
            Packet::Connack(p) => Self::Connack {
                reason: p.reason,
                session_present: p.session_present,
                server: super::Server::of(p),
            },
            Packet::Publish(p) => Self::Publish {
                id: p.packet_id,
                qos: p.qos,
                alias: match p.properties.find(PropertyId::TopicAlias) {
                    Some(Property::TopicAlias(alias)) => Some(alias),
                    _ => None,
                },
            },
            Packet::Puback(p) => Self::Puback(p.packet_id),
            Packet::Pubrec(p) => Self::Pubrec(p.packet_id, p.reason.is_error()),
            Packet::Pubrel(p) => Self::Pubrel(p.packet_id),
            Packet::Pubcomp(p) => Self::Pubcomp(p.packet_id),
            Packet::Suback(p) => {
                Self::Answer { subscribe: true, id: p.packet_id, reasons: p.reasons.len() }
            }
            Packet::Unsuback(p) => {
                Self::Answer { subscribe: false, id: p.packet_id, reasons: p.reasons.len() }
            }
            Packet::Pingresp => Self::Pingresp,
            // [MQTT-3.14.2-2]
            Packet::Disconnect(p) => Self::Disconnect {
                server: p.reason != ReasonCode::DisconnectWithWill
                    && super::server::expiry(p.properties).is_none(),
            },
            Packet::Auth(p) => {
                Self::Auth { reason: p.reason, method: super::server::method(p.properties) }
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq => Self::Client,
        }
    }
}
