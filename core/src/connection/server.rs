//! The server's end of one connection.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::alias::AliasesIn;
use super::input::{Size, Tail, connect_size};
use super::{Negotiated, SendError, Settings};
use crate::codec::{
    Ack, Auth, Connack, Connect, Disconnect, Frame, Level, Packet, Properties, Property,
    PropertyId, ProtocolError, Publish, ReasonCode, Subscribe, Unsubscribe, Version, decode, level,
};
use crate::time::Instant;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing but CONNECT may come. `[MQTT-3.1.0-1]`
    #[default]
    AwaitConnect,
    /// CONNECT or AUTH came and is being decided upon; nothing more is read before.
    Deciding,
    /// Enhanced authentication waits for the client: only AUTH and DISCONNECT may come.
    Authenticating,
    /// CONNACK with success was sent.
    Connected,
    /// The last packet came or went; nothing is read or sent any more.
    Closing,
}

/// What arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum Received<'c> {
    /// CONNECT. Answer with [`Connection::send`]; nothing is read before.
    Connect(Connect<'c>),
    /// PUBLISH, with its topic where it had an alias. Aliases stay among its properties. A large
    /// one comes with the memory it lies in, to be kept without copying.
    Publish(Publish<'c>, Memory<'c>),
    /// PUBACK.
    Puback(Ack<'c>),
    /// PUBREC.
    Pubrec(Ack<'c>),
    /// PUBREL.
    Pubrel(Ack<'c>),
    /// PUBCOMP.
    Pubcomp(Ack<'c>),
    /// SUBSCRIBE. Its filters are UTF-8, but not checked further.
    Subscribe(Subscribe<'c>),
    /// UNSUBSCRIBE, likewise.
    Unsubscribe(Unsubscribe<'c>),
    /// PINGREQ.
    Pingreq,
    /// DISCONNECT. The connection is closing.
    Disconnect(Disconnect<'c>),
    /// AUTH with the method of CONNECT. Answer with [`Connection::send`].
    Auth(Auth<'c>),
    /// The connection failed. What the standard wants to be said was appended to `out`; write it,
    /// then close.
    Failed(Failure),
}

/// The memory a packet lies in, where it was received for this packet alone.
///
/// That is an accident of how the bytes came: two are always equal.
#[derive(Clone, Copy, Default)]
pub struct Memory<'c>(pub(super) Option<&'c Bytes>);

impl<'c> Memory<'c> {
    /// The memory, to be kept by counting one more reference.
    #[must_use]
    pub const fn get(self) -> Option<&'c Bytes> {
        self.0
    }
}

impl PartialEq for Memory<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl core::fmt::Debug for Memory<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Memory")
    }
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client broke a rule.
    Protocol(ProtocolError),
    /// No CONNECT in time.
    ConnectTimeout,
    /// Nothing received for one and a half times the keep alive. `[MQTT-3.1.2-22]`
    KeepAliveTimeout,
}

/// The server's end of one connection. Owns no buffers while nothing is under way.
#[derive(Debug)]
pub struct Connection {
    tail: Tail,
    state: State,
}

#[derive(Debug)]
struct State {
    settings: Arc<Settings>,
    phase: Phase,
    negotiated: Negotiated,
    aliases: AliasesIn,
    /// Authentication Method of CONNECT.
    method: Option<Box<str>>,
    /// Seconds in force; 0 for none.
    keep_alive: u16,
    /// Reading is stopped by us, and so the keep alive.
    suspended: bool,
    /// A re-authentication is under way.
    reauthenticating: bool,
    /// The last packet, or the opening before CONNECT.
    heard: Instant,
}

impl Connection {
    /// A connection opened `now`.
    #[must_use]
    pub fn new(settings: Arc<Settings>, now: Instant) -> Self {
        let state = State {
            settings,
            phase: Phase::default(),
            negotiated: Negotiated::default(),
            aliases: AliasesIn::default(),
            method: None,
            keep_alive: 0,
            suspended: false,
            reauthenticating: false,
            heard: now,
        };
        Self { tail: Tail::default(), state }
    }

    /// Where the connection stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.state.phase
    }

    /// When the last packet came or, before CONNECT is accepted, when it was opened.
    pub(crate) const fn heard(&self) -> Instant {
        self.state.heard
    }

    /// What was agreed on with CONNECT.
    #[must_use]
    pub const fn negotiated(&self) -> Negotiated {
        self.state.negotiated
    }

    /// Keep alive in force, in seconds; 0 for none.
    #[must_use]
    pub const fn keep_alive(&self) -> u16 {
        self.state.keep_alive
    }

    /// The Authentication Method of CONNECT.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.state.method.as_deref()
    }

    /// Memory held for input and aliases, in bytes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let method = self.state.method.as_deref().map_or(0, str::len);
        self.tail.len() + self.state.aliases.footprint() + method
    }

    /// Bytes held of a packet that has not arrived in full.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.tail.unfinished()
    }

    /// A large packet is under way, and this is memory for more of it: instead of handing bytes
    /// over with [`Connection::next`], a driver may append them here, at most up to the capacity,
    /// then call [`Connection::filled`], and then `next` with no input. They are not copied any
    /// more then. The memory is in proportion to what has arrived.
    pub fn recv_buf(&mut self) -> Option<&mut Vec<u8>> {
        if self.state.phase == Phase::Connected { self.tail.room() } else { None }
    }

    /// Of the packet that is under way, its size in bytes as its header tells, and how many of them
    /// are missing; `None` if there is none or its header is not there yet.
    #[must_use]
    pub fn expected(&self) -> Option<(usize, usize)> {
        if self.state.phase == Phase::Connected { self.tail.expected() } else { None }
    }

    /// Bytes were appended to what [`Connection::recv_buf`] gave.
    pub fn filled(&mut self, now: Instant) {
        if self.state.phase == Phase::Connected {
            self.state.heard = now;
        }
        self.tail.grow();
    }

    /// Like bytes handed over with [`Connection::next`], with the memory they lie in. That is taken
    /// where its capacity is exactly the size of the one large packet that begins there, and so is
    /// not copied; then call `next` with no input. Any other comes back as the error, and nothing
    /// has changed.
    ///
    /// # Errors
    /// The memory, if it is not taken.
    pub fn adopt(&mut self, now: Instant, memory: Vec<u8>) -> Result<(), Vec<u8>> {
        let limit = self.state.limit() as usize;
        // A packet that must not be is refused by its first byte, not when all of it is there.
        let wrong = memory.first().is_none_or(|first| self.state.check_first(*first).is_err());
        if wrong || self.state.phase != Phase::Connected || memory.capacity() > limit {
            return Err(memory);
        }
        self.tail.adopt(memory)?;
        self.state.heard = now;
        Ok(())
    }

    /// The packet type of the packet that is under way, or else of the one that `input` begins
    /// with.
    pub(crate) fn upcoming(&self, input: &[u8]) -> Option<u8> {
        self.tail.partial().first().or(input.first()).map(|first| first >> 4)
    }

    /// The last `len` bytes of the packet under way.
    pub(crate) fn last(&self, len: usize) -> &[u8] {
        let partial = self.tail.partial();
        &partial[partial.len().saturating_sub(len)..]
    }

    /// Takes the last `len` bytes of the packet under way out again, since they must wait.
    pub(crate) fn take_last(&mut self, len: usize) -> Vec<u8> {
        let bytes = self.last(len).to_vec();
        self.tail.shorten(len);
        bytes
    }

    /// Takes one packet off `input`, or keeps the beginning of one and answers `None`.
    ///
    /// Call until `None`. Where input is left then, the connection waits for an answer to CONNECT
    /// or AUTH, or is closing: keep the rest and call again after [`Connection::send`], or throw
    /// it away. Bytes may be handed over in pieces of any size.
    pub fn next<'c, 'i: 'c>(
        &'c mut self,
        now: Instant,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Option<Received<'c>> {
        let Self { tail, state } = self;
        tail.release();
        if matches!(state.phase, Phase::Deciding | Phase::Closing)
            || input.is_empty() && !tail.is_whole()
        {
            return None;
        }
        if state.phase == Phase::Connected {
            state.heard = now;
        }
        if tail.partial().is_empty()
            && let Err(error) = state.check_first(input[0])
        {
            return Some(state.fail(error, out));
        }
        let limit = state.limit();
        if state.phase == Phase::AwaitConnect {
            match connect_size(tail.partial(), input, limit) {
                Size::Fits => {}
                Size::Unclear => {
                    tail.keep(input);
                    return None;
                }
                Size::TooLarge(version, error) => {
                    state.negotiated.version = version.unwrap_or(state.negotiated.version);
                    return Some(state.fail(error, out));
                }
            }
        }
        match tail.frame(input, limit) {
            Ok(Some(lent)) => Some(state.judge(lent.frame, lent.memory, out)),
            Ok(None) => None,
            Err(error) => Some(state.fail(error, out)),
        }
    }

    /// Appends a packet to `out`, if it may be sent now and the client accepts its size.
    ///
    /// CONNACK decides: with success the connection is open, and the Server Keep Alive among its
    /// properties is in force; with an error, and after DISCONNECT, the connection is closing.
    ///
    /// # Errors
    /// See [`SendError`]; nothing changed then.
    pub fn send(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        let state = &mut self.state;
        let phase = match (packet, state.phase) {
            (Packet::Connack(connack), Phase::Deciding | Phase::Authenticating) => {
                if connack.reason.is_error() { Phase::Closing } else { Phase::Connected }
            }
            (Packet::Auth(_), Phase::Deciding) => Phase::Authenticating,
            (Packet::Disconnect(_), Phase::Connected) => Phase::Closing,
            (_, Phase::Connected) => Phase::Connected,
            _ => return Err(SendError::Phase),
        };
        state.negotiated.send(packet, out)?;
        if let Packet::Connack(connack) = packet
            && phase == Phase::Connected
        {
            state.heard = now;
            if let Some(Property::ServerKeepAlive(secs)) =
                connack.properties.find(PropertyId::ServerKeepAlive)
            {
                state.keep_alive = secs;
            }
        }
        if matches!(packet, Packet::Auth(auth) if auth.reason == ReasonCode::Success) {
            state.reauthenticating = false;
        }
        state.phase = phase;
        Ok(())
    }

    /// The server closes: appends DISCONNECT, or CONNACK while that is still owed, to a 5.0
    /// client; nothing is read or sent afterwards. Harmless when already closing.
    pub fn close(&mut self, reason: ReasonCode, out: &mut Vec<u8>) {
        self.state.close(reason, None, out);
    }

    /// Lets go of the memory of the packet that was given out last, if it had its own, as the next
    /// call of [`Connection::next`] would.
    pub(crate) fn release(&mut self) {
        self.tail.release();
    }

    /// Throws away what arrived of a packet, since the rest is not wanted any more.
    pub fn discard(&mut self) {
        self.tail = Tail::default();
    }

    /// The driver stops or resumes reading; the keep alive stands still meanwhile. The time for
    /// CONNECT does not.
    pub fn suspend(&mut self, now: Instant, on: bool) {
        self.state.suspended = on;
        if self.state.phase == Phase::Connected {
            self.state.heard = now;
        }
    }

    /// When to call [`Connection::handle_timeout`]; changes with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = &self.state;
        match state.phase {
            Phase::AwaitConnect | Phase::Deciding | Phase::Authenticating => {
                Some(state.heard + state.settings.connect_timeout)
            }
            Phase::Connected if defect!("keep_alive_ignored") => None,
            Phase::Connected if state.keep_alive > 0 && !state.suspended => {
                // One and a half times, in microseconds. [MQTT-3.1.2-22]
                let micros = u64::from(state.keep_alive) * 1_500_000;
                Some(Instant::from_micros(state.heard.as_micros().saturating_add(micros)))
            }
            Phase::Connected | Phase::Closing => None,
        }
    }

    /// The time has come, or not yet: then nothing happens.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Failure> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let connected = self.state.phase == Phase::Connected;
        self.state.close(ReasonCode::KeepAliveTimeout, None, out);
        Some(if connected { Failure::KeepAliveTimeout } else { Failure::ConnectTimeout })
    }
}

impl State {
    fn limit(&self) -> u32 {
        match self.phase {
            Phase::Connected => self.settings.max_packet_size,
            _ => self.settings.max_connect_size,
        }
    }

    /// Refuses by the first byte what need not be read to its end.
    fn check_first(&self, first: u8) -> Result<(), ProtocolError> {
        match (self.phase, first >> 4) {
            (_, 0) => Err(ProtocolError::malformed("U5-004")),
            (Phase::AwaitConnect, kind) if kind != 1 => {
                Err(ProtocolError::protocol("MQTT-3.1.0-1"))
            }
            _ => Ok(()),
        }
    }

    fn judge<'c>(
        &'c mut self,
        frame: Frame<'c>,
        memory: Memory<'c>,
        out: &mut Vec<u8>,
    ) -> Received<'c> {
        if self.phase == Phase::AwaitConnect {
            return self.judge_connect(frame, out);
        }
        if self.phase == Phase::Connected
            && let Some(ack) = Ack::plain(frame)
        {
            return match frame.packet_type() {
                4 => Received::Puback(ack),
                5 => Received::Pubrec(ack),
                6 => Received::Pubrel(ack),
                _ => Received::Pubcomp(ack),
            };
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

    fn fail<'c>(&mut self, error: ProtocolError, out: &mut Vec<u8>) -> Received<'c> {
        close_failed(&mut self.phase, &self.negotiated, error, out)
    }

    fn close(&mut self, reason: ReasonCode, why: Option<&str>, out: &mut Vec<u8>) {
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
