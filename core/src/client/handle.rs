//! What each packet of the server leads to.

use super::owed::Owed;
use super::receive::{Flow, Got, Told};
use super::transmit::{MAX_ACK, Reply};
use super::{Client, Kind, Phase, Server, Ticket};
use crate::codec::{PacketId, ProtocolError, Qos, ReasonCode, Version};
use crate::session::{Acked, Recd, Verdict};

type Handled = Result<Flow, ProtocolError>;

impl Client<'_> {
    /// Handles the packet that begins at `at`.
    pub(super) fn handle(&mut self, got: Got, at: usize) -> Handled {
        if self.phase == Phase::Connecting {
            return match got {
                Got::Connack { reason, session_present, server } => {
                    self.connack(reason, session_present, &server)
                }
                Got::Auth { reason, method } => self.auth_received(reason, method),
                _ => Err(ProtocolError::protocol("MQTT-3.2.0-1")),
            };
        }
        match got {
            Got::Connack { .. } => Err(ProtocolError::protocol("MQTT-3.2.0-2")),
            Got::Publish { id, qos, alias } => self.publish_received(id, qos, alias, at),
            // It cannot have what was not sent yet.
            Got::Puback(id) if self.arena.waits(id) => Err(ProtocolError::protocol("MQTT-4.3.2-4")),
            Got::Pubrec(id, _) if self.arena.waits(id) => {
                Err(ProtocolError::protocol("MQTT-4.3.3-8"))
            }
            Got::Puback(id) => match self.outbound.puback(id) {
                Acked::Done(()) => Ok(self.delivered(id)),
                Acked::Unknown => Ok(Flow::Next),
                Acked::WrongType => Err(ProtocolError::protocol("MQTT-4.3.3-3")),
            },
            Got::Pubrec(id, failed) => self.pubrec(id, failed),
            Got::Pubrel(id) => self.pubrel(id),
            Got::Pubcomp(id) => match self.outbound.pubcomp(id) {
                Acked::Done(()) if defect!("client_completion_lost") => Ok(Flow::Next),
                Acked::Done(()) => Ok(Flow::Tell(self.ticket(id))),
                Acked::Unknown => Ok(Flow::Next),
                Acked::WrongType => Err(ProtocolError::protocol("MQTT-4.3.3-5")),
            },
            Got::Answer { subscribe, id, reasons } => self.answered(subscribe, id, reasons),
            Got::Pingresp => {
                self.awaits_pong = None;
                Ok(Flow::Next)
            }
            Got::Disconnect { server } => self.disconnect_received(server),
            Got::Auth { reason, method } => self.auth_received(reason, method),
            Got::Client => Err(ProtocolError::protocol("U5-001")),
        }
    }

    fn connack(&mut self, reason: ReasonCode, session_present: bool, server: &Server) -> Handled {
        if reason.is_error() {
            return Ok(self.told_to_close());
        }
        // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        if server.method != self.method {
            return Err(ProtocolError::protocol("MQTT-4.12.0-5"));
        }
        self.server = *server;
        // It could not be answered.
        if server.max_packet_size < MAX_ACK {
            let reason = ReasonCode::ImplementationSpecificError;
            return Err(ProtocolError::new(reason, "MQTT-3.2.2-15"));
        }
        let present = match self.version {
            Version::V31 => !self.clean_start && self.session,
            _ => session_present,
        };
        if present && self.clean_start {
            return Err(ProtocolError::protocol("MQTT-3.2.2-2"));
        }
        let known = self.session || self.options.foreign_session;
        if present && !known && self.version == Version::V5 {
            return Err(ProtocolError::protocol("MQTT-3.2.2-4"));
        }
        // Told one by one, so CONNACK is looked at again until there is none left.
        if let Some(lost) = self.lose_for(present, server) {
            return Ok(Flow::Before(lost));
        }
        if !present {
            self.end_session();
        }
        self.inbound.reconnect();
        let max = if self.version == Version::V5 { self.receive_maximum } else { u16::MAX };
        self.inbound.limit(max, self.max_await_rel);
        // [MQTT-4.4.0-1] [MQTT-4.9.0-1]
        self.outbound.resume();
        self.outbound.limit(server.receive_maximum);
        // [MQTT-3.1.2-21]
        self.keep_alive = server.keep_alive.unwrap_or(self.keep_alive);
        self.session = true;
        self.session_present = present;
        self.ends = match self.version {
            Version::V5 => server.expiry.unwrap_or(self.expiry) == 0,
            _ => self.clean_start,
        };
        self.authenticating = false;
        self.phase = Phase::Connected;
        Ok(Flow::Tell(Ticket::NONE))
    }

    /// A message in flight that the server will not get: without a session none is kept
    /// `[MQTT-3.2.2-5]`, and it may not take what an earlier connection took.
    fn lose_for(&mut self, present: bool, server: &Server) -> Option<Told> {
        if !present {
            return self.lose_next();
        }
        let id = self.arena.first_such(|frame| !server.takes(frame))?;
        self.outbound.cancel(id);
        self.forget(id);
        Some(Told::Lost(self.ticket(id)))
    }

    fn publish_received(
        &mut self,
        id: Option<PacketId>,
        qos: Qos,
        alias: Option<u16>,
        at: usize,
    ) -> Handled {
        let Some(id) = id else {
            alias.map_or(Ok(()), |alias| self.resolve(at, alias))?;
            return Ok(Flow::Tell(Ticket::NONE));
        };
        // There is no room to owe an acknowledgement more, unless it is one too many anyway.
        if self.owed.len() >= usize::from(self.receive_maximum) {
            let counts = qos == Qos::AtLeastOnce || !self.inbound.holds(id);
            let full = self.inbound.open() >= u32::from(self.receive_maximum);
            if self.version < Version::V5 || !counts || !full {
                return Ok(Flow::Wait);
            }
        }
        alias.map_or(Ok(()), |alias| self.resolve(at, alias))?;
        let answer = match self.inbound.publish(id, qos) {
            Verdict::New => None,
            // Its acknowledgement is still to come.
            Verdict::Repeat if self.owes(id) => return Ok(Flow::Next),
            Verdict::Repeat if defect!("client_tells_qos_2_twice") => None,
            // [MQTT-4.3.3-10]
            Verdict::Repeat => Some(ReasonCode::Success),
            Verdict::OverQuota => {
                let reason = ReasonCode::ReceiveMaximumExceeded;
                return Err(ProtocolError::new(reason, "MQTT-3.3.4-9"));
            }
            // What the server hears first makes it send less when it comes again.
            Verdict::Full if self.speaks() => return Ok(Flow::Wait),
            Verdict::Full => {
                return Err(ProtocolError::new(ReasonCode::QuotaExceeded, "MQTT-4.3.3-8"));
            }
        };
        self.messages = self.messages.wrapping_add(1) & (u32::MAX >> 2);
        let number = self.messages;
        if self.owed.push(Owed { id: Some(id), qos, number, answer }).is_err() {
            return Err(ProtocolError::new(ReasonCode::QuotaExceeded, "MQTT-4.3.3-8"));
        }
        let ticket = Ticket::new(self.epoch, Kind::Message, number);
        Ok(if answer.is_none() { Flow::Tell(ticket) } else { Flow::Next })
    }

    /// Whether acknowledgements are on their way, or are next.
    fn speaks(&self) -> bool {
        let acknowledges = self.owed.first().is_some_and(|owed| owed.answer.is_some());
        acknowledges || !self.replies.is_empty() || !self.control.rest().is_empty()
    }

    /// Whether a PUBREC with this identifier is still to be sent.
    fn owes(&self, id: PacketId) -> bool {
        self.owed.iter().any(|owed| owed.id == Some(id) && owed.qos == Qos::ExactlyOnce)
    }

    fn pubrel(&mut self, id: PacketId) -> Handled {
        if self.replies.is_full() {
            return Ok(Flow::Wait);
        }
        // Released before we said that we have it.
        if self.owes(id) {
            return Err(ProtocolError::protocol("MQTT-4.3.3-4"));
        }
        let known = self.inbound.pubrel(id) || self.version < Version::V5;
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        Ok(self.reply(Reply::Complete(id, reason)))
    }

    fn pubrec(&mut self, id: PacketId, failed: bool) -> Handled {
        if self.replies.is_full() {
            return Ok(Flow::Wait);
        }
        match self.outbound.pubrec(id, failed) {
            Recd::Release(()) => {
                self.forget(id);
                Ok(self.reply(Reply::Release(id, ReasonCode::Success)))
            }
            Recd::Again => Ok(self.reply(Reply::Release(id, ReasonCode::Success))),
            // [MQTT-4.4.0-2]
            Recd::Failed(_) => Ok(self.delivered(id)),
            Recd::Unknown if failed => Ok(Flow::Next),
            Recd::Unknown => {
                let known = self.version < Version::V5;
                let reason =
                    if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
                Ok(self.reply(Reply::Release(id, reason)))
            }
            Recd::WrongType => Err(ProtocolError::protocol("MQTT-4.3.2-3")),
        }
    }

    /// There is room, which was seen to.
    fn reply(&mut self, reply: Reply) -> Flow {
        match self.replies.push_back(reply) {
            Ok(()) => Flow::Next,
            Err(_) => Flow::Wait,
        }
    }

    /// A message is out of flight, delivered or refused.
    fn delivered(&mut self, id: PacketId) -> Flow {
        self.forget(id);
        Flow::Tell(self.ticket(id))
    }

    fn answered(&mut self, subscribe: bool, id: PacketId, reasons: usize) -> Handled {
        let request = self
            .request_of(id)
            .filter(|request| request.subscribe == subscribe && !self.arena.waits(id))
            .ok_or(ProtocolError::protocol("MQTT-2.2.1-6"))?;
        // An UNSUBACK of before 5.0 has no reason codes.
        let counted = subscribe || self.version == Version::V5;
        if counted && usize::from(request.filters) != reasons {
            let rule = if subscribe { "MQTT-3.8.4-6" } else { "MQTT-3.11.3-1" };
            return Err(ProtocolError::protocol(rule));
        }
        if !self.outbound.release(id) {
            return Err(ProtocolError::protocol("MQTT-2.2.1-6"));
        }
        Ok(Flow::Tell(self.request_ticket(id)))
    }

    fn disconnect_received(&mut self, server: bool) -> Handled {
        // Before 5.0 a server has no DISCONNECT.
        if self.version < Version::V5 || !server {
            return Err(ProtocolError::protocol("MQTT-3.14.2-1"));
        }
        Ok(self.told_to_close())
    }

    /// The server's last packet, which stays where it is, to be told of. Nothing more is sent.
    fn told_to_close(&mut self) -> Flow {
        self.phase = Phase::Closing;
        self.cut = true;
        Flow::Tell(Ticket::NONE)
    }

    fn auth_received(&mut self, reason: ReasonCode, method: Option<u64>) -> Handled {
        // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        if self.method.is_none() || method != self.method {
            return Err(ProtocolError::protocol("MQTT-4.12.0-5"));
        }
        let expected = match (self.phase, reason) {
            (_, ReasonCode::ContinueAuthentication) => {
                self.phase == Phase::Connecting || self.authenticating
            }
            (Phase::Connected, ReasonCode::Success) => self.authenticating,
            _ => false,
        };
        if !expected {
            return Err(ProtocolError::protocol("MQTT-3.15.2-1"));
        }
        self.authenticating = reason == ReasonCode::ContinueAuthentication;
        self.since = self.clock;
        Ok(Flow::Tell(Ticket::NONE))
    }
}
