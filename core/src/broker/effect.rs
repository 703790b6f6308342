//! What the broker asks its driver to do, and what it tells.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{ConnId, Reply, SubscriberId};
use crate::codec::{Qos, ReasonCode, Version};
use crate::time::Instant;

/// What the driver must do. Exhaustive: a driver that misses one does not compile.
#[derive(Debug)]
pub enum Effect {
    /// The connection has bytes: call [`Broker::transmit`](super::Broker::transmit) when its socket
    /// can take them. Said once, until `transmit` has answered that nothing more waits.
    Transmit(ConnId),
    /// Stop or resume reading this socket.
    Reading {
        /// Which connection.
        conn: ConnId,
        /// Whether to read.
        on: bool,
    },
    /// Write what `transmit` still yields, close the sending half, read and discard until the peer
    /// closes too, abort at `by`; then report [`Input::Closed`](super::Input::Closed).
    Close {
        /// Which connection.
        conn: ConnId,
        /// When to give up.
        by: Instant,
    },
    /// The connection belongs to another shard, which has the session of its client: take it back
    /// with [`Broker::hand_over`](super::Broker::hand_over), open it there and hand over what that
    /// gave before anything else. Comes before its CONNACK, and never with one shard.
    Handover {
        /// Which connection.
        conn: ConnId,
        /// Number of the other shard.
        to: u16,
    },
    /// Decide about this client and answer with
    /// [`Input::Authenticated`](super::Input::Authenticated). Nothing else of the connection is
    /// processed before.
    Authenticate {
        /// Which connection.
        conn: ConnId,
        /// What it presents.
        request: Box<AuthRequest>,
    },
    /// Messages wait for a local subscriber: call
    /// [`Broker::take`](super::Broker::take) until it answers `None`. Said once, until then.
    Available(SubscriberId),
    /// The answer to a command.
    Reply {
        /// The token of the command.
        token: u64,
        /// The answer.
        reply: Box<Reply>,
    },
    /// Something worth telling a person, a log or a metric. May be thrown away.
    Event(Event),
}

/// What a client presents with CONNECT or AUTH.
///
/// `Debug` shows neither password nor authentication data.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// The Client Identifier it asks for, empty where it leaves the choice to the broker; with
    /// [`AuthStep::Reauthenticate`] the one it has.
    pub client_id: String,
    /// The User Name.
    pub username: Option<String>,
    /// The Password.
    pub password: Option<Vec<u8>>,
    /// The Authentication Method of enhanced authentication (5.0).
    pub method: Option<String>,
    /// The Authentication Data of this step.
    pub data: Option<Vec<u8>>,
    /// CONNECT, the next step, or a re-authentication of an accepted client.
    pub step: AuthStep,
    /// The client's protocol version.
    pub version: Version,
}

impl core::fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AuthRequest")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("method", &self.method)
            .field("step", &self.step)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Which packet led to an [`AuthRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStep {
    /// CONNECT.
    Connect,
    /// AUTH with Continue authentication.
    Continue,
    /// AUTH with Re-authenticate.
    Reauthenticate,
}

/// The answer to an [`AuthRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client may go on.
    Accept {
        /// Authentication Data for CONNACK or the final AUTH (5.0 with a method).
        data: Option<Bytes>,
    },
    /// Send AUTH with Continue authentication and wait for the client's next step.
    Continue {
        /// Authentication Data for it.
        data: Option<Bytes>,
    },
    /// Refuse with this reason, which must be one of CONNACK's.
    Refuse(ReasonCode),
}

/// Something that happened, for logs, metrics and hooks.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client was accepted.
    Connected(Box<Connected>),
    /// A connection ended, before or after it was accepted.
    Disconnected(Box<Disconnected>),
    /// A session was thrown away with all it held.
    SessionEnded {
        /// Whose.
        client_id: Arc<str>,
        /// Why.
        why: SessionEnd,
    },
    /// A will was published.
    WillPublished {
        /// Whose.
        client_id: Arc<str>,
    },
    /// Messages did not reach this client.
    Dropped {
        /// The receiver; or the group, by its full text (`$share/..`), of a copy that was not
        /// passed on to the shard of a member; or the publisher where the message reached nobody.
        client_id: Arc<str>,
        /// QoS of the lost copies.
        qos: Qos,
        /// Why.
        why: DropReason,
        /// How many.
        count: u32,
    },
    /// The memory budget passed a threshold, upwards or downwards.
    Pressure {
        /// Bytes held.
        used: u64,
        /// The budget in bytes.
        budget: u64,
        /// Whether publishers are slowed down from now on.
        on: bool,
    },
}

/// See [`Event::Connected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The connection.
    pub conn: ConnId,
    /// The effective Client Identifier.
    pub client_id: Arc<str>,
    /// Protocol version.
    pub version: Version,
    /// Whether the client asked for a clean start.
    pub clean_start: bool,
    /// Whether a session was resumed.
    pub session_present: bool,
    /// The keep alive in force, in seconds; 0 for none.
    pub keep_alive: u16,
}

/// See [`Event::Disconnected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnected {
    /// The connection.
    pub conn: ConnId,
    /// The client, if it got as far as to be accepted.
    pub client_id: Option<Arc<str>>,
    /// Why.
    pub why: DisconnectReason,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The client sent DISCONNECT with this reason.
    Client(ReasonCode),
    /// The client closed the transport, or it broke.
    Transport,
    /// The client broke a rule of the standard.
    Protocol(crate::codec::ProtocolError),
    /// No CONNECT within the time allowed.
    ConnectTimeout,
    /// Nothing received within one and a half times the keep alive.
    KeepAliveTimeout,
    /// CONNECT was refused with this reason.
    Refused(ReasonCode),
    /// A new connection took the session over.
    TakenOver,
    /// An operator or embedding program asked for it.
    Administrative,
    /// The broker stops.
    ShuttingDown,
    /// The client does not read what it is sent.
    SlowConsumer,
    /// The client's session queue is full and `queue_full` is `disconnect`.
    QueueFull,
    /// No memory left for what the client sends.
    OutOfBudget,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The connection ended and the session was not to outlive it.
    Closed,
    /// The Session Expiry Interval passed.
    Expired,
    /// The client started clean.
    CleanStart,
}

/// Why a message did not reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum DropReason {
    /// The session's queue was full.
    QueueFull,
    /// The Message Expiry Interval passed.
    Expired,
    /// Larger than the client's Maximum Packet Size.
    TooLarge,
    /// The session ended before.
    SessionEnded,
    /// QoS 0 for a client that is offline, with `queue_qos0_messages` off.
    Offline,
    /// The memory budget was used up.
    OutOfBudget,
    /// The retained store was full: delivered, but not retained.
    RetainedFull,
    /// Nobody may publish to its topic.
    Refused,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::QueueFull,
        Self::Expired,
        Self::TooLarge,
        Self::SessionEnded,
        Self::Offline,
        Self::OutOfBudget,
        Self::RetainedFull,
        Self::Refused,
    ];
}
