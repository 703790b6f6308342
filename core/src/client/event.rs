//! What a client tells its program.

use crate::codec::{PacketId, Properties, ProtocolError, Qos, ReasonCode, ReasonCodes};

/// Names something under way, so that its completion can be told from every other.
///
/// Of a PUBLISH it is valid for the session, across connections, until its completion; of all
/// else for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Number of the session or connection.
    pub(super) epoch: u32,
    /// Packet Identifier, or above 65,535 the number of a QoS 0 message.
    pub(super) number: u32,
}

impl Ticket {
    pub(super) fn of(epoch: u32, id: PacketId) -> Self {
        Self { epoch, number: u32::from(id.get()) }
    }

    /// The Packet Identifier; `None` with QoS 0.
    #[must_use]
    pub fn packet_id(&self) -> Option<PacketId> {
        u16::try_from(self.number).ok().and_then(PacketId::new)
    }
}

/// A message of the server, lent until the next event.
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'c> {
    /// Topic Name, also where it came as an alias.
    pub topic: &'c str,
    /// Application message.
    pub payload: &'c [u8],
    /// Quality of Service.
    pub qos: Qos,
    /// RETAIN.
    pub retain: bool,
    /// The server repeats it, which does not say whether it came before.
    pub dup: bool,
    /// Properties, 5.0 only.
    pub properties: Properties<'c>,
    /// For [`Client::ack`](super::Client::ack); `None` with QoS 0.
    pub ticket: Option<Ticket>,
}

/// Something that happened. What it borrows is lent until the next call.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'c> {
    /// The server answered CONNECT. With an error the connection is to be closed.
    Connected {
        /// Whether the server had kept the session.
        session_present: bool,
        /// Success, or why not.
        reason: ReasonCode,
        /// Of CONNACK.
        properties: Properties<'c>,
    },
    /// A message. It is acknowledged when the next event is asked for, or by
    /// [`Client::ack`](super::Client::ack) with [`Options::manual_ack`](super::Options).
    Message(Message<'c>),
    /// A PUBLISH is complete: QoS 0 was handed over for sending, QoS 1 was acknowledged, QoS 2
    /// went through all its steps or was refused.
    Published {
        /// Of the PUBLISH.
        ticket: Ticket,
        /// Success, or the code of the server.
        reason: ReasonCode,
    },
    /// SUBACK.
    Subscribed {
        /// Of the SUBSCRIBE.
        ticket: Ticket,
        /// One for each filter.
        reasons: ReasonCodes<'c>,
        /// Of SUBACK.
        properties: Properties<'c>,
    },
    /// UNSUBACK.
    Unsubscribed {
        /// Of the UNSUBSCRIBE.
        ticket: Ticket,
        /// One for each filter; none before 5.0.
        reasons: ReasonCodes<'c>,
        /// Of UNSUBACK.
        properties: Properties<'c>,
    },
    /// AUTH; answer with [`Client::auth`](super::Client::auth).
    Auth {
        /// Success or Continue authentication.
        reason: ReasonCode,
        /// With method and data.
        properties: Properties<'c>,
    },
    /// The connection or the session ended before this was complete: it may have reached the
    /// server or not.
    Lost {
        /// Of what was under way.
        ticket: Ticket,
    },
    /// The server sent DISCONNECT.
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// Of DISCONNECT.
        properties: Properties<'c>,
    },
    /// The connection failed and is to be closed.
    Failed(Failure),
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The server broke a rule.
    Protocol(ProtocolError),
    /// No CONNACK in time.
    ConnectTimeout,
    /// No PINGRESP in time.
    KeepAliveTimeout,
}

/// What was asked for is not possible now; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// No room: of memory, of the window, or of the server's Receive Maximum. Try again after an
    /// event or after bytes were sent.
    Full,
    /// Not connected, or already connected.
    State,
    /// Larger than the server accepts, or than the memory for sending.
    TooLarge,
    /// The server does not support this QoS, RETAIN or topic alias. `[MQTT-3.2.2-11]`
    NotSupported,
    /// The packet breaks a rule of the standard.
    Invalid,
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "no room for more now",
            Self::State => "not possible in this state of the connection",
            Self::TooLarge => "larger than the server or the memory allows",
            Self::NotSupported => "not supported by the server",
            Self::Invalid => "not allowed by the standard",
        })
    }
}

impl core::error::Error for SendError {}
