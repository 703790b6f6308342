//! The client's end of MQTT 3.1, 3.1.1 and 5.0: one connection after another, and the session that
//! outlives them.
//!
//! The machine owns no socket and reads no clock. A driver opens a transport, says
//! [`Client::connect`], and then goes round:
//!
//! 1. take events from [`Client::poll_event`] until there is none;
//! 2. write what [`Client::transmit`] lends, say [`Client::transmitted`], and go back to 1 as long
//!    as there was something, since room to send may be what an event waited for;
//! 3. close the transport if [`Client::wants_close`] says so;
//! 4. wait until bytes arrive, or the time of [`Client::poll_timeout`] comes: read into
//!    [`Client::recv_buf`] and say [`Client::received`], or say [`Client::handle_timeout`].
//!
//! When the transport is closed, by whichever side, it says [`Client::closed`] and takes events
//! until [`Event::Closed`]; then it may connect again. Requests never wait: they are taken with a
//! [`Ticket`], or refused with a small error. Each ticket comes back in exactly one event.
//!
//! Memory is lent, see [`Storage`] and [`Fixed`], or on the heap; nothing else differs.
//!
//! ```
//! use fulmar_core::Instant;
//! use fulmar_core::client::{Client, Event, Fixed, Options};
//! use fulmar_core::codec::{Connect, Properties, Publish, Qos, Version};
//!
//! let mut memory = Fixed::<256, 256, 4, 4, 0>::new();
//! let mut client = Client::new(memory.storage(), Options::default());
//! let now = Instant::ZERO;
//! let connect = Connect {
//!     version: Version::V311,
//!     bridge: false,
//!     clean_start: true,
//!     keep_alive: 30,
//!     client_id: "a",
//!     will: None,
//!     username: None,
//!     password: None,
//!     properties: Properties::EMPTY,
//! };
//! client.connect(now, &connect).unwrap();
//! let sent = client.transmit().len();
//! client.transmitted(now, sent);
//! assert_eq!(client.receive(now, &[0x20, 2, 0, 0]), 4);
//! assert!(matches!(client.poll_event(), Some(Event::Connected { .. })));
//! let message = Publish { topic: "t", qos: Qos::AtLeastOnce, ..Publish::default() };
//! let ticket = client.publish(&message).unwrap();
//! let sent = client.transmit().len();
//! client.transmitted(now, sent);
//! client.receive(now, &[0x40, 2, 0, 1]);
//! assert!(matches!(client.poll_event(), Some(Event::Published { ticket: t, .. }) if t == ticket));
//! ```
//!
//! # Decisions
//!
//! - Messages in flight stay encoded in the memory to send, and are sent again with DUP. Topic
//!   aliases are set for QoS 0 only, so that such a message means the same on every connection.
//! - A message counts as handled when the client is called again after it was told of it; with
//!   [`Options::manual_ack`] when it is acknowledged. One that is not handled when the connection
//!   ends is told again if the server sends it again, with QoS 2 too.
//! - A message that the server must not be sent any more, since its limits changed from one
//!   connection to the next, is [`Event::Lost`], and so is each one in flight when the session
//!   ends. A clean start ends it here at once, whether the server is reached or not.

mod alias;
mod arena;
mod event;
mod handle;
mod input;
mod owed;
mod receive;
mod send;
mod server;
mod storage;
mod time;
mod transmit;

use event::Kind;
pub use event::{ConnectError, Event, Failure, Message, Options, SendError, Ticket};
pub use owed::Owed;
#[cfg(feature = "alloc")]
pub use storage::Sizes;
pub use storage::{Fixed, Memory, Slot, Storage};

use alias::Aliases;
use arena::Arena;
use input::Input;
use server::Server;
use transmit::{Again, Reply, Small, Source};

use crate::codec::{
    Connect, Disconnect, EncodeError, Packet, PacketId, Properties, Property, ProtocolError, Qos,
    ReasonCode, Version,
};
use crate::session::{Inbound, Outbound};
use crate::time::Instant;

/// SUBSCRIBE and UNSUBSCRIBE that may wait for their answer at once.
const REQUESTS: usize = 16;
/// The lowest packet identifier of a SUBSCRIBE or UNSUBSCRIBE.
const FIRST_REQUEST: u16 = u16::MAX - 15;
/// Answers that may wait to be sent at once.
const REPLIES: usize = 16;
/// Properties of CONNECT, those of the client included.
const PROPERTIES: usize = 32;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// CONNECT is on its way; CONNACK is due, or AUTH.
    Connecting,
    /// The server accepted it.
    Connected,
    /// The last packet came, or is on its way; nothing is read any more.
    Closing,
}

/// A SUBSCRIBE or UNSUBSCRIBE whose answer is due.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    subscribe: bool,
    filters: u16,
    /// Names it on this connection.
    number: u32,
}

/// A client: one session, one connection at a time. See the [module](self).
#[derive(Debug)]
pub struct Client<'s> {
    options: Options,
    input: Input<'s>,
    arena: Arena<'s>,
    outbound: Outbound<'s, ()>,
    inbound: Inbound<'s>,
    owed: crate::Storage<'s, Owed>,
    aliases_in: Aliases<'s>,
    aliases_out: Aliases<'s>,
    /// Messages received and not acknowledged at most.
    receive_maximum: u16,
    max_await_rel: u16,
    phase: Phase,
    /// The transport is closed.
    gone: bool,
    /// When closing: what was asked for before is sent first.
    flush: bool,
    /// When closing: nothing more is sent.
    cut: bool,
    /// What is to be told first.
    failure: Option<Failure>,
    version: Version,
    server: Server,
    clean_start: bool,
    /// There is a session, as far as this side knows.
    session: bool,
    /// The session ends with the connection.
    ends: bool,
    /// The connection starts clean, and the session of before is not thrown away yet.
    discards: bool,
    /// The last CONNACK said so, or is taken to have.
    session_present: bool,
    /// Seconds of the Session Expiry Interval of CONNECT.
    expiry: u32,
    /// Fingerprint of the Authentication Method of CONNECT.
    method: Option<u64>,
    /// The server may say with each packet why and what else. `[MQTT-3.1.2-29]`
    problems: bool,
    /// The server asked for authentication data, or a re-authentication is under way.
    authenticating: bool,
    /// Number of the connection.
    epoch: u32,
    /// Number of the session.
    session_epoch: u32,
    /// Number of the message received last on this connection.
    messages: u32,
    /// How many PUBLISH of QoS 0 were taken, sent and told.
    qos0: [u32; 3],
    /// How many SUBSCRIBE and UNSUBSCRIBE were taken on this connection.
    asked: u32,
    requests: [Request; REQUESTS],
    replies: heapless::Deque<Reply, REPLIES>,
    control: Small<128>,
    goodbye: Small<64>,
    again: Option<Again>,
    source: Source,
    /// Seconds in force; 0 for none.
    keep_alive: u16,
    /// The latest time that was told.
    clock: Instant,
    /// When an answer of the server began to be due, or the closing began.
    since: Instant,
    heard: Instant,
    spoken: Instant,
    ping_due: bool,
    /// Since when a PINGRESP is due.
    awaits_pong: Option<Instant>,
}

impl<'s> Client<'s> {
    /// A client without session. Values in `storage` have no meaning.
    #[must_use]
    pub fn new(storage: Storage<'s>, options: Options) -> Self {
        let Storage { rx, tx, slots, held, mut owed, aliases_in, aliases_out } = storage;
        owed.clear();
        let at_most =
            |limit: usize, wanted: u16| u16::try_from(limit).unwrap_or(u16::MAX).min(wanted).max(1);
        let max_await_rel = at_most(held.limit(), options.max_await_rel);
        let receive_maximum = at_most(owed.limit(), options.receive_maximum).min(max_await_rel);
        Self {
            options,
            input: Input::new(rx),
            arena: Arena::new(tx),
            outbound: Outbound::new(slots, options.window),
            inbound: Inbound::new(held, receive_maximum, max_await_rel),
            owed,
            aliases_in: Aliases::new(aliases_in),
            aliases_out: Aliases::new(aliases_out),
            receive_maximum,
            max_await_rel,
            phase: Phase::Idle,
            gone: false,
            flush: false,
            cut: false,
            failure: None,
            version: Version::V311,
            server: Server::default(),
            clean_start: false,
            session: false,
            ends: false,
            discards: false,
            session_present: false,
            expiry: 0,
            method: None,
            problems: true,
            authenticating: false,
            epoch: 0,
            session_epoch: 1,
            messages: 0,
            qos0: [0; 3],
            asked: 0,
            requests: [Request::default(); REQUESTS],
            replies: heapless::Deque::new(),
            control: Small::default(),
            goodbye: Small::default(),
            again: None,
            source: Source::Nothing,
            keep_alive: 0,
            clock: Instant::ZERO,
            since: Instant::ZERO,
            heard: Instant::ZERO,
            spoken: Instant::ZERO,
            ping_due: false,
            awaits_pong: None,
        }
    }

    /// A transport was opened: begins a connection on it. A clean start ends the session there
    /// was: what is in flight is [`Event::Lost`] before all else. `[MQTT-3.1.2-4]`
    ///
    /// The client adds Receive Maximum, Maximum Packet Size and Topic Alias Maximum to the
    /// properties of a 5.0 CONNECT itself.
    ///
    /// # Errors
    /// See [`ConnectError`]; nothing changed then.
    pub fn connect(&mut self, now: Instant, connect: &Connect<'_>) -> Result<(), ConnectError> {
        if self.phase != Phase::Idle {
            return Err(ConnectError::Busy);
        }
        let version = connect.version;
        let other = (version == Version::V5) != (self.version == Version::V5);
        let kept = self.outbound.iter().any(|(_, _, publish)| publish.is_some());
        if other && !connect.clean_start && kept {
            return Err(ConnectError::Version);
        }
        // [v4:MQTT-3.1.3-7]; 3.1 has no identifier without characters at all.
        if connect.client_id.is_empty()
            && (version == Version::V31 || version == Version::V311 && !connect.clean_start)
        {
            return Err(ConnectError::Encode(EncodeError::Inconsistent));
        }
        let mut properties = heapless::Vec::<Property<'_>, PROPERTIES>::new();
        self.announce(connect, &mut properties).map_err(ConnectError::Encode)?;
        let packet =
            Packet::Connect(Connect { properties: Properties::list(&properties), ..*connect });
        self.input.clear();
        self.input.set_aside(&packet, version).map_err(|error| match error {
            SendError::Encode(error) => ConnectError::Encode(error),
            _ => ConnectError::TooLarge,
        })?;
        self.begin(now, connect);
        Ok(())
    }

    /// The properties of CONNECT, with those that follow from memory and options.
    fn announce<'c>(
        &self,
        connect: &Connect<'c>,
        list: &mut heapless::Vec<Property<'c>, PROPERTIES>,
    ) -> Result<(), EncodeError> {
        for property in connect.properties.iter() {
            if matches!(
                property,
                Property::ReceiveMaximum(_)
                    | Property::MaximumPacketSize(_)
                    | Property::TopicAliasMaximum(_)
            ) {
                return Err(EncodeError::Property);
            }
            list.push(property).map_err(|_| EncodeError::TooLong)?;
        }
        if connect.version < Version::V5 {
            return Ok(());
        }
        let own = [
            Property::ReceiveMaximum(self.receive_maximum),
            Property::MaximumPacketSize(self.input.limit().max(1)),
            Property::TopicAliasMaximum(self.allowed_aliases()),
        ];
        list.extend_from_slice(&own).map_err(|_| EncodeError::TooLong)
    }

    /// Topic aliases that the server may set.
    fn allowed_aliases(&self) -> u16 {
        self.options.topic_alias_maximum.min(self.aliases_in.allowed())
    }

    fn begin(&mut self, now: Instant, connect: &Connect<'_>) {
        self.version = connect.version;
        self.clean_start = connect.clean_start;
        self.discards = connect.clean_start;
        self.method = server::method(connect.properties);
        self.problems = server::problems(connect.properties);
        self.expiry = server::expiry(connect.properties).unwrap_or(0);
        self.keep_alive = connect.keep_alive;
        self.server = Server::default();
        self.authenticating = false;
        // Not handled or not wanted, so to be told again where the server repeats it.
        let done = |answer: Option<ReasonCode>| answer.is_some_and(|reason| !reason.is_error());
        for owed in self.owed.iter().filter(|owed| !done(owed.answer)) {
            if let (Some(id), Qos::ExactlyOnce) = (owed.id, owed.qos) {
                self.inbound.refuse(id);
            }
        }
        self.owed.clear();
        // [MQTT-3.3.2-7]
        self.aliases_in.clear();
        self.aliases_out.clear();
        self.replies.clear();
        self.control = Small::default();
        self.goodbye = Small::default();
        self.epoch = self.epoch.wrapping_add(1);
        (self.messages, self.asked) = (0, 0);
        (self.ends, self.flush, self.cut) = (false, false, false);
        (self.clock, self.since, self.heard, self.spoken) = (now, now, now, now);
        (self.ping_due, self.awaits_pong) = (false, None);
        self.phase = Phase::Connecting;
    }

    /// Ends the connection: DISCONNECT is sent after all that was asked for on it, then
    /// [`wants_close`](Self::wants_close) answers true. Before 5.0 reason and properties are not
    /// sent. Reason String and User Properties are left out where the packet would be too large
    /// for the server or longer than 64 bytes. `[MQTT-3.14.2-3]` `[MQTT-3.14.2-4]`
    ///
    /// # Errors
    /// [`SendError::NotConnected`]; [`SendError::Encode`] where a client must not say this, as a
    /// Session Expiry Interval after none in CONNECT `[U5-066]`.
    pub fn disconnect(
        &mut self,
        now: Instant,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), SendError> {
        if self.gone || !matches!(self.phase, Phase::Connecting | Phase::Connected) {
            return Err(SendError::NotConnected);
        }
        let five = self.version == Version::V5;
        let expiry = server::expiry(disconnect.properties);
        if five {
            if !disconnect.reason.sent_by_client() || self.expiry == 0 && expiry.unwrap_or(0) > 0 {
                return Err(SendError::Encode(EncodeError::Inconsistent));
            }
            Packet::Disconnect(*disconnect).encoded_len(self.version)?;
            self.ends = expiry.map_or(self.ends, |secs| secs == 0);
        }
        self.clock = self.clock.max(now);
        // [MQTT-3.1.2-30]
        let flush = self.phase == Phase::Connected;
        self.close(Some(disconnect), flush);
        Ok(())
    }

    /// Nothing more is read, and nothing sent but `last`, and where `flush` what waits before it.
    fn close(&mut self, last: Option<&Disconnect<'_>>, flush: bool) {
        self.phase = Phase::Closing;
        self.since = self.clock;
        self.flush = flush;
        self.input.drop_received();
        if let Some(last) = last {
            self.goodbye.disconnect(last, self.version, self.server.max_packet_size);
        }
    }

    /// The server broke a rule: it is told so, if its version has words for it.
    fn fail(&mut self, error: ProtocolError) {
        self.failure = Some(Failure::Protocol(error));
        let reason = match error.reason {
            reason if reason.sent_by_client() => reason,
            _ => ReasonCode::ProtocolError,
        };
        let last = Disconnect { reason, properties: Properties::EMPTY };
        self.close((self.version == Version::V5).then_some(&last), false);
    }

    /// The transport is closed, whoever closed it. What was received before is still told, then
    /// what is lost, then [`Event::Closed`]. Harmless without a connection.
    pub fn closed(&mut self, now: Instant) {
        if self.phase == Phase::Idle || self.gone {
            return;
        }
        self.clock = self.clock.max(now);
        self.gone = true;
        self.source = Source::Nothing;
        self.again = None;
        let Self { arena, outbound, .. } = self;
        arena.restart(|id| outbound.get(id).is_some());
    }

    /// Whether the driver is to close the transport: the last packet came or went. Then say
    /// [`closed`](Self::closed).
    pub fn wants_close(&mut self) -> bool {
        self.phase == Phase::Closing && !self.gone && self.transmit().is_empty()
    }

    /// Whether the server accepted the connection and it is not closing.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected && !self.gone
    }

    /// Messages of QoS 1 and 2 that were taken and are not acknowledged in full.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.outbound.in_flight()
    }

    /// The message in flight is not needed any more: frees its frame.
    fn forget(&mut self, id: PacketId) {
        // Its bytes may be on their way.
        if self.again.is_none_or(|again| again.id != id) {
            self.arena.remove(id);
        }
    }

    /// Ends the session on this side. What is in flight is taken out before.
    fn end_session(&mut self) {
        while let Some(id) = self.inbound.iter().last() {
            self.inbound.refuse(id);
        }
        (self.session, self.discards) = (false, false);
        self.session_epoch = self.session_epoch.wrapping_add(1);
    }

    /// The ticket of a message to the server.
    fn ticket(&self, id: PacketId) -> Ticket {
        Ticket::new(self.session_epoch, Kind::Publish, id.get().into())
    }

    /// The request with this identifier.
    fn request_of(&self, id: PacketId) -> Option<&Request> {
        self.requests.get(usize::from(id.get().checked_sub(FIRST_REQUEST)?))
    }

    /// The ticket of a SUBSCRIBE or UNSUBSCRIBE.
    fn request_ticket(&self, id: PacketId) -> Ticket {
        let number = self.request_of(id).map_or(0, |request| request.number);
        Ticket::new(self.epoch, Kind::Request, number)
    }

    /// The ticket of a PUBLISH of QoS 0, which has no identifier but the count of them.
    fn qos0_ticket(&self, count: u32) -> Ticket {
        Ticket::new(self.epoch, Kind::Qos0, count)
    }
}
