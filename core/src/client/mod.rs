//! The client's end: one connection after the other, and the session that outlives them.
//!
//! The machine never waits. What is asked for is encoded at once or refused with a small error;
//! events are polled, and lent until the next call; bytes for the socket are looked at and then
//! marked as sent.
//!
//! A driver does four things: reads into [`Client::recv_buf`] and says [`Client::received`];
//! writes [`Client::transmit`] and says [`Client::transmitted`]; polls events; and calls
//! [`Client::handle_timeout`] at [`Client::poll_timeout`].

mod aliases;
mod arena;
mod event;
mod receive;
mod send;
mod storage;

use core::time::Duration;

pub use event::{Event, Failure, Message, SendError, Ticket};
#[cfg(feature = "alloc")]
pub use storage::Sizes;
pub use storage::{Fixed, InFlight, Storage};

use crate::codec::{
    Connect, Disconnect, Packet, PacketId, Properties, Property, ProtocolError, Qos, ReasonCode,
    Version,
};
use crate::session::{Inbound, Outbound};
use crate::time::Instant;
use aliases::Aliases;
use arena::{Arena, Span};

/// Messages an application may hold unacknowledged, at most.
const UNACKED: usize = 32;
/// QoS 0 messages that may wait to be sent.
const PLAIN: usize = 32;
/// Bytes kept free for acknowledgements and PINGREQ.
const RESERVE: usize = 64;
/// SUBSCRIBE and UNSUBSCRIBE that may be under way.
const REQUESTS: usize = 16;

/// Choices of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Messages are acknowledged by [`Client::ack`] instead of when the next event is asked for.
    pub manual_ack: bool,
    /// Messages received and not acknowledged, at most 32; told to a 5.0 server as Receive
    /// Maximum. This is what slows a server down.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages in flight, at most what the storage has room for.
    pub window: u16,
    /// From CONNECT to CONNACK.
    pub connect_timeout: Duration,
}

impl Default for Options {
    /// Automatic acknowledgement, 32 messages each way, 10 s to connect.
    fn default() -> Self {
        Self {
            manual_ack: false,
            receive_maximum: UNACKED as u16,
            window: UNACKED as u16,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// No connection.
    #[default]
    Idle,
    /// CONNECT is on its way.
    Connecting,
    Connected,
    /// DISCONNECT is on its way, or came; nothing more is received.
    Closing,
}

/// What the server said about itself in CONNACK.
#[derive(Clone, Copy, Debug)]
struct Server {
    max_packet_size: u32,
    max_qos: Qos,
    retain: bool,
    max_topic_alias: u16,
}

impl Default for Server {
    fn default() -> Self {
        let max_qos = Qos::ExactlyOnce;
        Self { max_packet_size: u32::MAX, max_qos, retain: true, max_topic_alias: 0 }
    }
}

/// A message received and not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Unacked {
    id: PacketId,
    qos: Qos,
    ready: bool,
}

/// What is being sent again.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// A PUBLISH, of which so many bytes are sent.
    Publish(PacketId, usize),
    /// A PUBREL, likewise.
    Pubrel([u8; 4], usize),
}

/// A SUBSCRIBE or UNSUBSCRIBE under way.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: PacketId,
    subscribe: bool,
}

/// A client of MQTT 3.1, 3.1.1 or 5.0.
#[derive(Debug)]
pub struct Client<'s> {
    options: Options,
    version: Version,
    phase: Phase,
    server: Server,
    rx: crate::Storage<'s, u8>,
    /// Received and not taken.
    unread: core::ops::Range<usize>,
    /// The frame lent last.
    lent: core::ops::Range<usize>,
    tx: Arena<'s>,
    outbound: Outbound<'s, Span>,
    inbound: Inbound<'s>,
    aliases: Aliases<'s>,
    unacked: heapless::Deque<Unacked, UNACKED>,
    /// QoS 0 messages, with the number of bytes sent when they are gone.
    plain: heapless::Deque<(Ticket, u64), PLAIN>,
    requests: heapless::Vec<Request, REQUESTS>,
    /// SUBSCRIBE and UNSUBSCRIBE of a connection that ended.
    lost: heapless::Deque<Ticket, REQUESTS>,
    again: Option<Again>,
    resending: bool,
    /// The session is gone and what was in flight is to be told as lost.
    discarding: bool,
    /// The server may have a session of ours.
    has_session: bool,
    /// CONNECT had Clean Start.
    clean_start: bool,
    connection_epoch: u32,
    session_epoch: u32,
    plain_number: u32,
    bytes_queued: u64,
    bytes_sent: u64,
    /// Seconds; 0 for none.
    keep_alive: u16,
    last_sent: Instant,
    /// When PINGREQ went out that was not answered.
    pinged: Option<Instant>,
    failure: Option<Failure>,
    /// Bytes that messages in flight leave free, so that the next CONNECT always fits.
    reserve: usize,
}

impl<'s> Client<'s> {
    /// A client without a connection.
    #[must_use]
    pub fn new(storage: Storage<'s>, options: Options) -> Self {
        let receive_maximum = options.receive_maximum.clamp(1, UNACKED as u16);
        let options = Options { receive_maximum, ..options };
        Self {
            options,
            version: Version::V5,
            phase: Phase::Idle,
            server: Server::default(),
            rx: storage.rx,
            unread: 0..0,
            lent: 0..0,
            tx: Arena::new(storage.tx),
            outbound: Outbound::new(storage.slots, options.window),
            inbound: Inbound::new(storage.held, u16::MAX, u16::MAX),
            aliases: Aliases::new(storage.aliases),
            unacked: heapless::Deque::new(),
            plain: heapless::Deque::new(),
            requests: heapless::Vec::new(),
            lost: heapless::Deque::new(),
            again: None,
            resending: false,
            discarding: false,
            has_session: false,
            clean_start: true,
            connection_epoch: 0,
            session_epoch: 0,
            plain_number: 0,
            bytes_queued: 0,
            bytes_sent: 0,
            keep_alive: 0,
            last_sent: Instant::ZERO,
            pinged: None,
            failure: None,
            reserve: 0,
        }
    }

    /// Whether the server has accepted the connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether the transport is to be closed once [`Client::transmit`] is empty.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// QoS 1 and 2 messages in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.outbound.in_flight()
    }

    /// A transport is open: queues CONNECT. In 5.0 Receive Maximum, Maximum Packet Size and Topic
    /// Alias Maximum are added as the client's memory has it, where the caller names none.
    ///
    /// # Errors
    /// [`SendError::State`] while there is a connection, [`SendError::Full`] while events of a lost
    /// session wait, [`SendError::Invalid`] for what the standard forbids, or too many properties.
    pub fn connect(&mut self, now: Instant, connect: &Connect<'_>) -> Result<(), SendError> {
        if self.phase != Phase::Idle {
            return Err(SendError::State);
        }
        if self.discarding || !self.lost.is_empty() {
            return Err(SendError::Full);
        }
        let mut list: heapless::Vec<Property<'_>, 24> = heapless::Vec::new();
        if connect.version == Version::V5 {
            self.limits(connect.properties, &mut list)?;
        }
        let packet = Connect { properties: Properties::list(&list), ..*connect };
        self.tx.restart(&mut self.outbound);
        self.version = connect.version;
        self.server = Server::default();
        self.reserve = self.queue(&Packet::Connect(packet))? + RESERVE;
        self.clean_start = connect.clean_start;
        self.keep_alive = connect.keep_alive;
        self.phase = Phase::Connecting;
        self.connection_epoch = self.connection_epoch.wrapping_add(1);
        self.unread = 0..0;
        self.lent = 0..0;
        self.last_sent = now;
        self.pinged = None;
        self.aliases.clear();
        if connect.clean_start {
            // [MQTT-3.1.2-4]
            self.discard();
        }
        Ok(())
    }

    /// The caller's properties, and what the memory allows where they do not say.
    fn limits<'p>(
        &self,
        properties: Properties<'p>,
        list: &mut heapless::Vec<Property<'p>, 24>,
    ) -> Result<(), SendError> {
        let size = u32::try_from(self.rx.len()).unwrap_or(u32::MAX);
        let (mut receive, mut packet, mut alias) = (true, true, self.aliases.maximum() > 0);
        for property in properties.iter() {
            let property = match property {
                Property::ReceiveMaximum(max) => {
                    receive = false;
                    Property::ReceiveMaximum(max.min(self.options.receive_maximum))
                }
                Property::MaximumPacketSize(max) => {
                    packet = false;
                    Property::MaximumPacketSize(max.min(size))
                }
                Property::TopicAliasMaximum(max) => {
                    alias = false;
                    Property::TopicAliasMaximum(max.min(self.aliases.maximum()))
                }
                other => other,
            };
            list.push(property).map_err(|_| SendError::Invalid)?;
        }
        let own = [
            receive.then_some(Property::ReceiveMaximum(self.options.receive_maximum)),
            packet.then_some(Property::MaximumPacketSize(size)),
            alias.then_some(Property::TopicAliasMaximum(self.aliases.maximum())),
        ];
        for property in own.into_iter().flatten() {
            list.push(property).map_err(|_| SendError::Invalid)?;
        }
        Ok(())
    }

    /// Queues DISCONNECT; close the transport when it is sent. Nothing more is received.
    ///
    /// # Errors
    /// [`SendError::State`] without a connection, [`SendError::Full`] or [`SendError::Invalid`].
    pub fn disconnect(&mut self, disconnect: &Disconnect<'_>) -> Result<(), SendError> {
        if !matches!(self.phase, Phase::Connecting | Phase::Connected) {
            return Err(SendError::State);
        }
        self.queue(&Packet::Disconnect(*disconnect))?;
        self.phase = Phase::Closing;
        Ok(())
    }

    /// The transport is gone. The session stays, for the next [`Client::connect`]; what belonged to
    /// the connection alone is told as [`Event::Lost`].
    pub fn closed(&mut self) {
        let epoch = self.connection_epoch;
        for request in core::mem::take(&mut self.requests) {
            // As many as there can be requests, and none is left from before.
            let _ = self.lost.push_back(Ticket::of(epoch, request.id));
        }
        self.phase = Phase::Idle;
        self.unacked.clear();
        self.plain.clear();
        self.again = None;
        self.resending = false;
        self.unread = 0..0;
        self.lent = 0..0;
        self.bytes_queued = self.bytes_sent;
        self.tx.restart(&mut self.outbound);
    }

    /// Throws the session away.
    fn discard(&mut self) {
        self.discarding = !self.outbound.is_empty();
        loop {
            let first = self.inbound.iter().next();
            let Some(id) = first else { break };
            self.inbound.refuse(id);
        }
        self.has_session = false;
        if !self.discarding {
            self.session_epoch = self.session_epoch.wrapping_add(1);
        }
    }

    /// When to call [`Client::handle_timeout`]; may change with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let keep_alive = Duration::from_secs(self.keep_alive.into());
        match self.phase {
            Phase::Connecting => Some(self.last_sent + self.options.connect_timeout),
            Phase::Connected if self.keep_alive > 0 => {
                Some(self.pinged.unwrap_or(self.last_sent) + keep_alive)
            }
            _ => None,
        }
    }

    /// The time has come, or not yet: then nothing happens. Sends PINGREQ `[MQTT-3.1.2-20]`, or
    /// finds that the server is silent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.phase == Phase::Connecting {
            self.fail(Failure::ConnectTimeout);
        } else if self.pinged.is_some() {
            self.fail(Failure::KeepAliveTimeout);
        } else if self.queue(&Packet::Pingreq).is_ok() {
            self.pinged = Some(now);
        } else {
            // No memory for two bytes: what fills it is being sent, which serves as well.
            self.last_sent = now;
        }
    }

    /// The connection is of no use any more; a 5.0 server is told why.
    fn fail(&mut self, failure: Failure) {
        if self.phase == Phase::Closing {
            return;
        }
        if let (Phase::Connected, Failure::Protocol(error), Version::V5) =
            (self.phase, failure, self.version)
        {
            let reason = match error.reason {
                reason if reason.sent_by_client() => reason,
                _ => ReasonCode::ProtocolError,
            };
            let properties = Properties::EMPTY;
            let _ = self.queue(&Packet::Disconnect(Disconnect { reason, properties }));
        }
        self.failure = Some(failure);
        self.phase = Phase::Closing;
    }

    fn violated(&mut self, error: ProtocolError) {
        self.fail(Failure::Protocol(error));
    }
}
