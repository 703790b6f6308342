//! What a client tells, and what it refuses.

use core::time::Duration;

use crate::codec::{EncodeError, Properties, ProtocolError, Qos, ReasonCode, ReasonCodes};
use crate::topic::TopicError;

/// Choices and limits of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Messages of QoS 1 and 2 are acknowledged by [`Client::ack`](super::Client::ack), not when
    /// the next event is asked for. No.
    pub manual_ack: bool,
    /// Messages of QoS 1 and 2 in flight to the server at most, beside what memory and server
    /// allow. 64.
    pub window: u16,
    /// Messages of QoS 1 and 2 received and not acknowledged at most, beside what memory allows:
    /// the Receive Maximum announced to a 5.0 server. A server of an older version has to wait,
    /// since nothing more is parsed. 64.
    pub receive_maximum: u16,
    /// Messages of QoS 2 received and not released by the server at most, beside what memory
    /// allows. The connection fails beyond, which a 5.0 server can avoid. 1,024.
    pub max_await_rel: u16,
    /// Topic aliases that the server may set at most, beside what memory allows. 16.
    pub topic_alias_maximum: u16,
    /// Topic aliases set towards the server, at most what it allows, given memory. 16.
    pub topic_alias_out: u16,
    /// The server may have a session of before this machine, in a process that is gone say. No: a
    /// 5.0 server that claims to have one is not believed. `[MQTT-3.2.2-4]`
    pub foreign_session: bool,
    /// Time for the server to answer CONNECT, and each AUTH before CONNACK. 10 s.
    pub connect_timeout: Duration,
    /// Time for the server to answer PINGREQ, or to send anything else. 10 s.
    pub ping_timeout: Duration,
    /// Time to send what is left before the transport is closed. 5 s.
    pub close_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            manual_ack: false,
            window: 64,
            receive_maximum: 64,
            max_await_rel: 1_024,
            topic_alias_maximum: 16,
            topic_alias_out: 16,
            foreign_session: false,
            connect_timeout: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// Names a request of the application, or a message that it is to acknowledge.
///
/// It consists of the number of the connection or, for what is published with QoS 1 and 2, of the
/// session, and of a number within it. The ticket of a message that arrived is not used again, so
/// that a late acknowledgement meets no other message; that of a message published with QoS 1 or 2
/// is its packet identifier, and may be used again when its completion was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub(super) epoch: u32,
    pub(super) number: u32,
}

/// What a ticket is about; the highest bits of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A PUBLISH of QoS 1 or 2.
    Publish,
    /// A SUBSCRIBE or UNSUBSCRIBE.
    Request,
    /// A PUBLISH of QoS 0.
    Qos0,
    /// A message that arrived.
    Message,
}

impl Ticket {
    /// For packets that are about nothing asked for.
    pub(super) const NONE: Self = Self { epoch: 0, number: 0 };

    pub(super) const fn new(epoch: u32, kind: Kind, number: u32) -> Self {
        Self { epoch, number: (kind as u32) << 30 | number & (u32::MAX >> 2) }
    }
}

/// What happened. Lent: it borrows memory of the client until its next call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The server accepted the connection.
    Connected {
        /// The server has the session, and what was in flight is being sent again. Otherwise there
        /// are no subscriptions. Before 3.1.1 a server does not tell: true where the session was
        /// to be kept and was connected before.
        session_present: bool,
        /// The keep alive in force, in seconds; 0 for none.
        keep_alive: u16,
        /// Of CONNACK.
        properties: Properties<'a>,
    },
    /// The server refused the connection.
    Refused {
        /// Why.
        reason: ReasonCode,
        /// Of CONNACK.
        properties: Properties<'a>,
    },
    /// The server wants more authentication data, or says that the re-authentication is done.
    Auth {
        /// Continue authentication, to be answered with [`Client::auth`](super::Client::auth), or
        /// Success.
        reason: ReasonCode,
        /// Of AUTH.
        properties: Properties<'a>,
    },
    /// A message arrived.
    Message(Message<'a>),
    /// A message was delivered to the server or, with an error, refused by it. With QoS 0: handed
    /// to the transport.
    Published {
        /// What [`Client::publish`](super::Client::publish) answered.
        ticket: Ticket,
        /// What the server says of it; Success before 5.0, and with PUBCOMP.
        reason: ReasonCode,
        /// Of PUBACK, PUBREC or PUBCOMP.
        properties: Properties<'a>,
    },
    /// The server answered SUBSCRIBE.
    Subscribed {
        /// What [`Client::subscribe`](super::Client::subscribe) answered.
        ticket: Ticket,
        /// One for each filter, in order: the QoS granted, or why not.
        reasons: ReasonCodes<'a>,
        /// Of SUBACK.
        properties: Properties<'a>,
    },
    /// The server answered UNSUBSCRIBE.
    Unsubscribed {
        /// What [`Client::unsubscribe`](super::Client::unsubscribe) answered.
        ticket: Ticket,
        /// One for each filter, in order; none before 5.0.
        reasons: ReasonCodes<'a>,
        /// Of UNSUBACK.
        properties: Properties<'a>,
    },
    /// A request will not be completed: its connection or session is gone, or the server does not
    /// take such a message any more. A message may have been delivered or not.
    Lost {
        /// What the request was answered with.
        ticket: Ticket,
    },
    /// The server sent DISCONNECT.
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// Of DISCONNECT.
        properties: Properties<'a>,
    },
    /// The connection failed; the server is told why where it can be.
    Failed(Failure),
    /// The connection has come to its end; [`Client::connect`](super::Client::connect) may be
    /// called. The last event of each connection.
    Closed,
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Topic Name, in full where it came as an alias.
    pub topic: &'a str,
    /// Application message.
    pub payload: &'a [u8],
    /// Quality of Service.
    pub qos: Qos,
    /// RETAIN.
    pub retain: bool,
    /// The server sends it again. With QoS 1 it may have been told before; with QoS 2 only if it
    /// was not handled then.
    pub dup: bool,
    /// 5.0 only.
    pub properties: Properties<'a>,
    /// For [`Client::ack`](super::Client::ack); of no use with QoS 0.
    pub ticket: Ticket,
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The server broke a rule, or sent more than there is memory for.
    Protocol(ProtocolError),
    /// CONNECT or AUTH was not answered in time.
    ConnectTimeout,
    /// PINGREQ was not answered in time, and nothing else came.
    KeepAliveTimeout,
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::ConnectTimeout => f.write_str("no answer to CONNECT"),
            Self::KeepAliveTimeout => f.write_str("no answer to PINGREQ"),
        }
    }
}

impl core::error::Error for Failure {}

/// A connection cannot be begun; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection before has not come to its end: close the transport, say
    /// [`Client::closed`](super::Client::closed), and take events until [`Event::Closed`].
    Busy,
    /// CONNECT does not fit into the memory to receive.
    TooLarge,
    /// Messages in flight were made for another version, and the session is to be kept.
    Version,
    /// CONNECT cannot be encoded, or names a property that the client sets itself.
    Encode(EncodeError),
}

impl core::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Busy => f.write_str("the connection before is not over"),
            Self::TooLarge => f.write_str("no memory for CONNECT"),
            Self::Version => f.write_str("messages of another version are in flight"),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConnectError {}

/// A request was not taken; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now: the memory to send, the window, the server's Receive Maximum or the
    /// packet identifiers are used up, or messages of before wait to be sent again. Ask again when
    /// bytes were transmitted or an event came.
    Full,
    /// There is no connection that the server has accepted.
    NotConnected,
    /// There will never be room, or the server does not take so large a packet.
    /// `[MQTT-3.2.2-15]`
    TooLarge,
    /// The server does not offer this: a QoS, RETAIN, a kind of subscription, or this step of an
    /// authentication.
    NotSupported,
    /// A Topic Filter is not well-formed.
    Filter(TopicError),
    /// The packet cannot be encoded.
    Encode(EncodeError),
}

impl From<EncodeError> for SendError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("no room now"),
            Self::NotConnected => f.write_str("not connected"),
            Self::TooLarge => f.write_str("larger than memory or server allow"),
            Self::NotSupported => f.write_str("not offered by the server"),
            Self::Filter(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SendError {}
