//! What a driver tells the broker.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::effect::Verdict;
use super::message::MessageId;
use super::stats::Stats;
use super::{ConnId, SubscriberId};
use crate::codec::{Qos, ReasonCode, Version};
use crate::time::Instant;

/// Something that happened. Exhaustive.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Bytes arrived, in order. The driver may hand over any number at a time.
    Received {
        /// From where.
        conn: ConnId,
        /// What.
        bytes: &'a [u8],
    },
    /// The transport is gone. Said exactly once for every connection opened, whoever closed it.
    /// What came before, and waits for a long delivery or another shard, is handled still: until
    /// [`Event::Disconnected`](super::Event) effects may name the connection, and have no effect.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// The answer to [`Effect::Authenticate`](super::Effect::Authenticate). Ignored if late.
    Authenticated {
        /// Which connection.
        conn: ConnId,
        /// The decision.
        verdict: Verdict,
    },
    /// The time of [`Broker::poll_timeout`](super::Broker::poll_timeout) has come. Early calls are
    /// harmless.
    Timeout,
    /// An embedding program wants something; the answer comes as
    /// [`Effect::Reply`](super::Effect::Reply) with the same token.
    Command {
        /// Chosen by the caller.
        token: u64,
        /// What it wants.
        command: Command,
    },
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnInfo {
    /// Address of the peer, where the transport has one.
    pub remote: Option<SocketAddr>,
    /// Address it connected to.
    pub local: Option<SocketAddr>,
}

/// Why [`Broker::open`](super::Broker::open) refused a connection; close the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// `max_connections` are open.
    TooManyConnections,
    /// `max_unauthenticated` connections wait to be accepted.
    TooManyUnauthenticated,
    /// `max_unauthenticated_per_address` of them are from this address.
    TooManyFromAddress,
    /// The broker stops.
    ShuttingDown,
}

/// What an embedding program can ask for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Publish a message. Answered with [`Reply::Published`] or [`Reply::Refused`].
    Publish(Box<Publication>),
    /// Receive messages inside the program. Answered with [`Reply::Subscribed`] or
    /// [`Reply::Refused`]; from then on [`Effect::Available`](super::Effect::Available) tells of
    /// messages. It is carried out at once, also while SUBSCRIBE of clients has to wait for other
    /// shards: its subscriptions are limited and charged as a client's, and where very many
    /// questions are under way other shards give retained messages only as they are taken.
    Subscribe {
        /// The Topic Filters, each with the QoS wanted. A shared filter is allowed.
        filters: Vec<(String, Qos)>,
        /// Messages that may wait for the program; more are dropped as `queue_full` says, and
        /// counted.
        queue: u32,
    },
    /// End a subscription made by [`Command::Subscribe`]. Answered with [`Reply::Done`].
    Unsubscribe(SubscriberId),
    /// A page of the sessions, connected or not. Answered with [`Reply::Clients`].
    Clients {
        /// Continue after the client with this serial number; 0 to begin.
        after: u64,
        /// At most so many; 1,000 are given at most.
        limit: u32,
    },
    /// Disconnect a client, and throw its session away if wanted. Answered with [`Reply::Done`],
    /// or [`Reply::Refused`] if there is no such client.
    Disconnect {
        /// Which.
        client_id: String,
        /// Reason for a 5.0 client's DISCONNECT, [`ReasonCode::AdministrativeAction`] as a rule.
        reason: ReasonCode,
        /// Whether the session goes too.
        end_session: bool,
    },
    /// Figures. Answered with [`Reply::Stats`].
    Stats,
    /// Accept nothing more and close every connection, 5.0 clients with Server shutting down.
    /// Answered with [`Reply::Done`] when each has been told to close.
    Shutdown,
}

/// A message to publish from inside the program.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of Service.
    pub qos: Qos,
    /// Whether it is stored as the topic's retained message; empty clears it.
    pub retain: bool,
    /// Message Expiry Interval in seconds.
    pub expiry: Option<u32>,
    /// Payload Format Indicator: the payload is UTF-8.
    pub utf8: bool,
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User Properties, in order.
    pub user_properties: Vec<(String, String)>,
}

impl Publication {
    /// Whether it takes the topic's retained message away, which sets memory free.
    pub(super) fn clears(&self) -> bool {
        self.retain && self.payload.is_empty()
    }
}

/// The answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// The message was taken; so many sessions were to receive it.
    Published {
        /// Number of matching sessions.
        receivers: u32,
    },
    /// The subscription stands.
    Subscribed(SubscriberId),
    /// A page of clients.
    Clients {
        /// In order of their serial numbers.
        clients: Vec<ClientInfo>,
        /// Pass as `after` for the next page; `None` when this was the last.
        next: Option<u64>,
    },
    /// The figures.
    Stats(Box<Stats>),
    /// Carried out.
    Done,
    /// Not carried out.
    Refused(ReasonCode),
}

/// A session and, where it is connected, its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Grows with each session made; the order of listings.
    pub serial: u64,
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// Whether it is connected.
    pub connected: bool,
    /// Version of its newest connection.
    pub version: Version,
    /// User Name of its newest connection.
    pub username: Option<String>,
    /// Address of the peer, while connected.
    pub remote: Option<SocketAddr>,
    /// Keep alive in force, in seconds.
    pub keep_alive: u16,
    /// Clean Start or Clean Session of its newest connection.
    pub clean_start: bool,
    /// Seconds the session outlives its connection; `u32::MAX` for ever.
    pub session_expiry: u32,
    /// When it connected last.
    pub connected_at: Instant,
    /// When it disconnected last.
    pub disconnected_at: Option<Instant>,
    /// Number of subscriptions.
    pub subscriptions: u32,
    /// Messages waiting in its queue.
    pub queued: u32,
    /// Their size in bytes.
    pub queued_bytes: u64,
    /// Messages sent and not acknowledged.
    pub in_flight: u32,
    /// QoS 2 identifiers received and not released.
    pub await_rel: u32,
    /// PUBLISH packets sent to it, by QoS.
    pub delivered: [u64; 3],
    /// Messages lost on the way to it, by QoS.
    pub dropped: [u64; 3],
}

/// A message taken by a local subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Names the message among all that were ever published.
    pub id: MessageId,
    /// Client Identifier of the publisher; `None` for an embedding program.
    pub publisher: Option<Arc<str>>,
    /// Topic Name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// QoS of the copy.
    pub qos: Qos,
    /// Whether it was sent because of the subscription, or Retain As Published.
    pub retain: bool,
    /// User Properties, in order.
    pub user_properties: Vec<(String, String)>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// Seconds until it expires.
    pub expiry: Option<u32>,
}
