//! The server's end of one connection.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::alias::AliasesIn;
use super::input::{Size, Tail, connect_size};
use super::judge::State;
use super::{Negotiated, SendError, Settings};
use crate::codec::{
    Ack, Auth, Connect, Disconnect, Packet, Property, PropertyId, ProtocolError, Publish,
    ReasonCode, Subscribe, Unsubscribe,
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
