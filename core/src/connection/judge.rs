//! What a packet means in the phase in which it comes, and what is said when it breaks a rule.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::alias::AliasesIn;
use super::server::{Failure, Memory, Phase, Received};
use super::{Negotiated, Settings};
use crate::codec::{
    Ack, Auth, Connack, Disconnect, Frame, Level, Packet, Properties, Property, PropertyId,
    ProtocolError, Publish, ReasonCode, Version, decode, decode_publish, level,
};
use crate::time::Instant;

/// A connection without the bytes that are under way.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) phase: Phase,
    pub(super) negotiated: Negotiated,
    pub(super) aliases: AliasesIn,
    /// Authentication Method of CONNECT.
    pub(super) method: Option<Box<str>>,
    /// Seconds in force; 0 for none.
    pub(super) keep_alive: u16,
    /// Reading is stopped by us, and so the keep alive.
    pub(super) suspended: bool,
    /// A re-authentication is under way.
    pub(super) reauthenticating: bool,
    /// The last packet, or the opening before CONNECT.
    pub(super) heard: Instant,
}

impl State {
    #[inline]
    pub(super) fn limit(&self) -> u32 {
        match self.phase {
            Phase::Connected => self.settings.max_packet_size,
            _ => self.settings.max_connect_size,
        }
    }

    /// Refuses by the first byte what need not be read to its end.
    #[inline]
    pub(super) fn check_first(&self, first: u8) -> Result<(), ProtocolError> {
        match (self.phase, first >> 4) {
            (_, 0) => Err(ProtocolError::malformed("U5-004")),
            (Phase::AwaitConnect, kind) if kind != 1 => {
                Err(ProtocolError::protocol("MQTT-3.1.0-1"))
            }
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn judge<'c>(
        &'c mut self,
        frame: Frame<'c>,
        memory: Memory<'c>,
        out: &mut Vec<u8>,
    ) -> Received<'c> {
        if self.phase == Phase::AwaitConnect {
            return self.judge_connect(frame, out);
        }
        if self.phase == Phase::Connected {
            if frame.packet_type() == 3 {
                return match decode_publish(self.negotiated.version, frame) {
                    Ok(publish) => self.judge_publish(publish, memory, out),
                    Err(error) => self.fail(error, out),
                };
            }
            if let Some(ack) = Ack::plain(frame) {
                return match frame.packet_type() {
                    4 => Received::Puback(ack),
                    5 => Received::Pubrec(ack),
                    6 => Received::Pubrel(ack),
                    _ => Received::Pubcomp(ack),
                };
            }
        }
        let packet = match decode(self.negotiated.version, frame) {
            Ok(packet) => packet,
            Err(error) => return self.fail(error, out),
        };
        if self.phase == Phase::Authenticating
            && !matches!(packet, Packet::Auth(_) | Packet::Disconnect(_))
        {
            return self.fail(ProtocolError::protocol("MQTT-3.1.2-30"), out);
        }
        match packet {
            Packet::Publish(publish) => self.judge_publish(publish, memory, out),
            Packet::Puback(ack) => Received::Puback(ack),
            Packet::Pubrec(ack) => Received::Pubrec(ack),
            Packet::Pubrel(ack) => Received::Pubrel(ack),
            Packet::Pubcomp(ack) => Received::Pubcomp(ack),
            Packet::Subscribe(subscribe) => Received::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => Received::Unsubscribe(unsubscribe),
            Packet::Pingreq => Received::Pingreq,
            Packet::Disconnect(disconnect) => {
                // A server may not be told that it is the server. [MQTT-3.14.2-1]
                if !disconnect.reason.sent_by_client() {
                    return self.fail(ProtocolError::protocol("MQTT-3.14.2-1"), out);
                }
                // A session that was to end with the connection cannot be given a longer life, and
                // the packet is no valid DISCONNECT: the will is published. [U5-066]
                let zero = self.negotiated.session_expiry.unwrap_or(0) == 0;
                let expiry = disconnect.properties.find(PropertyId::SessionExpiryInterval);
                if zero && matches!(expiry, Some(Property::SessionExpiryInterval(1..))) {
                    return self.fail(ProtocolError::protocol("U5-066"), out);
                }
                self.phase = Phase::Closing;
                Received::Disconnect(disconnect)
            }
            Packet::Auth(auth) => self.judge_auth(auth, out),
            Packet::Connect(_) => self.fail(ProtocolError::protocol("MQTT-3.1.0-2"), out),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                self.fail(ProtocolError::protocol("MQTT-4.13.1-1"), out)
            }
        }
    }

    fn judge_connect<'c>(&'c mut self, frame: Frame<'c>, out: &mut Vec<u8>) -> Received<'c> {
        let refusal: &[u8] = match level(frame.body) {
            Ok(Level::Supported { version, .. }) => {
                self.negotiated.version = version;
                match decode(version, frame) {
                    Ok(Packet::Connect(connect)) => {
                        self.negotiated = Negotiated::of(&connect);
                        self.keep_alive = connect.keep_alive;
                        self.method =
                            match connect.properties.find(PropertyId::AuthenticationMethod) {
                                Some(Property::AuthenticationMethod(method)) => Some(method.into()),
                                _ => None,
                            };
                        self.phase = Phase::Deciding;
                        return Received::Connect(connect);
                    }
                    Ok(_) => {
                        return self.fail(ProtocolError::protocol("MQTT-3.1.0-1"), out);
                    }
                    Err(error) => return self.fail(error, out),
                }
            }
            Ok(Level::RefusedV3) => &[0x20, 2, 0, 1],
            Ok(Level::RefusedV5) => &[0x20, 3, 0, 0x84, 0],
            Err(_) => &[],
        };
        out.extend_from_slice(refusal);
        self.phase = Phase::Closing;
        let rule = if refusal.is_empty() { "MQTT-3.1.2-1" } else { "MQTT-3.1.2-2" };
        Received::Failed(Failure::Protocol(ProtocolError::new(
            ReasonCode::UnsupportedProtocolVersion,
            rule,
        )))
    }

    fn judge_publish<'c>(
        &'c mut self,
        publish: Publish<'c>,
        memory: Memory<'c>,
        out: &mut Vec<u8>,
    ) -> Received<'c> {
        let error = if publish.qos > self.settings.max_qos {
            ProtocolError::new(ReasonCode::QosNotSupported, "MQTT-3.2.2-11")
        } else if publish.retain && !self.settings.retain_available {
            ProtocolError::new(ReasonCode::RetainNotSupported, "MQTT-3.2.2-14")
        } else if publish.properties.is_empty() {
            return Received::Publish(publish, memory);
        } else if publish.properties.find(PropertyId::SubscriptionIdentifier).is_some() {
            ProtocolError::protocol("MQTT-3.3.4-6")
        } else {
            let Self { aliases, settings, phase, negotiated, .. } = self;
            match aliases.resolve(publish, settings.max_topic_alias) {
                Ok(publish) => return Received::Publish(publish, memory),
                Err(error) => {
                    return close_failed(phase, negotiated, error, out);
                }
            }
        };
        self.fail(error, out)
    }

    fn judge_auth<'c>(&mut self, auth: Auth<'c>, out: &mut Vec<u8>) -> Received<'c> {
        let method = match auth.properties.find(PropertyId::AuthenticationMethod) {
            Some(Property::AuthenticationMethod(method)) => Some(method),
            _ => None,
        };
        let expected = match self.phase {
            Phase::Authenticating => ReasonCode::ContinueAuthentication,
            _ if self.reauthenticating && auth.reason == ReasonCode::ContinueAuthentication => {
                auth.reason
            }
            _ => ReasonCode::Reauthenticate,
        };
        let rule = if self.method.is_none() {
            "MQTT-4.12.0-7"
        } else if method.is_none() {
            "U5-068"
        } else if method != self.method.as_deref() {
            "MQTT-4.12.0-5"
        } else if auth.reason != expected {
            "MQTT-3.15.2-1"
        } else {
            match self.phase {
                Phase::Authenticating => self.phase = Phase::Deciding,
                _ => self.reauthenticating = true,
            }
            return Received::Auth(auth);
        };
        self.fail(ProtocolError::protocol(rule), out)
    }

    pub(super) fn fail<'c>(&mut self, error: ProtocolError, out: &mut Vec<u8>) -> Received<'c> {
        close_failed(&mut self.phase, &self.negotiated, error, out)
    }

    pub(super) fn close(&mut self, reason: ReasonCode, why: Option<&str>, out: &mut Vec<u8>) {
        close(&mut self.phase, &self.negotiated, reason, why, out);
    }
}

fn close_failed<'c>(
    phase: &mut Phase,
    negotiated: &Negotiated,
    error: ProtocolError,
    out: &mut Vec<u8>,
) -> Received<'c> {
    close(phase, negotiated, error.reason, Some(error.rule), out);
    Received::Failed(Failure::Protocol(error))
}

/// Says to a 5.0 client why, in the packet that fits the phase. `[MQTT-3.14.0-1]`
fn close(
    phase: &mut Phase,
    negotiated: &Negotiated,
    reason: ReasonCode,
    why: Option<&str>,
    out: &mut Vec<u8>,
) {
    let why = why.map(Property::ReasonString);
    let properties =
        why.as_ref().map_or(Properties::EMPTY, |p| Properties::list(core::slice::from_ref(p)));
    let last = match phase {
        // A version that is not known yet cannot be answered in.
        Phase::AwaitConnect | Phase::Deciding | Phase::Authenticating => {
            Packet::Connack(Connack { session_present: false, reason, properties })
        }
        Phase::Connected => Packet::Disconnect(Disconnect { reason, properties }),
        Phase::Closing => return,
    };
    *phase = Phase::Closing;
    let sayable = match &last {
        Packet::Connack(_) => reason.allowed_in_connack(),
        _ => true,
    };
    if negotiated.version == Version::V5 && sayable {
        // A packet that cannot be sent is no reason not to close.
        let _ = negotiated.send(&last, out);
    }
}
