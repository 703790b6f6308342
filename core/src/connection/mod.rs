//! One byte stream of one client: framing, phases, keep alive, topic aliases and limits.
//!
//! [`server::Connection`] enforces all that needs no session, and is useful without the broker:
//! for proxies, gateways, load generators and test peers.

mod alias;
mod input;
mod judge;
pub mod server;

use alloc::vec::Vec;
use core::time::Duration;

pub(crate) use alias::{Alias, AliasesOut};

use crate::codec::{
    Ack, Auth, Connack, Connect, Disconnect, EncodeError, Packet, Properties, Property, Qos,
    ReasonCode, Suback, Unsuback, Version,
};

/// What a server allows on its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time from the opening of a connection to the end of its CONNECT.
    pub connect_timeout: Duration,
    /// Largest packet in bytes before CONNECT is accepted.
    pub max_connect_size: u32,
    /// Largest packet in bytes after that.
    pub max_packet_size: u32,
    /// Topic aliases a client may set.
    pub max_topic_alias: u16,
    /// Highest QoS of a client's PUBLISH.
    pub max_qos: Qos,
    /// Whether a client's PUBLISH may have RETAIN set.
    pub retain_available: bool,
}

/// What the two sides agreed on with CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The protocol version.
    pub version: Version,
    /// Largest packet in bytes that the client accepts.
    pub max_packet_size: u32,
    /// Topic aliases that the client accepts.
    pub max_topic_alias: u16,
    /// Unacknowledged QoS 1 and 2 messages that the client accepts.
    pub receive_maximum: u16,
    /// Whether the client wants Reason Strings and User Properties on all packets.
    pub problem_information: bool,
    /// Whether the client asked for Response Information.
    pub response_information: bool,
    /// The Session Expiry Interval of CONNECT, in seconds; for an older version what its Clean
    /// Session means. `None` if absent.
    pub session_expiry: Option<u32>,
}

impl Default for Negotiated {
    fn default() -> Self {
        Self {
            version: Version::V311,
            max_packet_size: u32::MAX,
            max_topic_alias: 0,
            receive_maximum: u16::MAX,
            problem_information: true,
            response_information: false,
            session_expiry: None,
        }
    }
}

/// A packet was not sent; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The packet must not be sent in this phase of the connection.
    Phase,
    /// The packet is larger than the client accepts. `[MQTT-3.1.2-24]`
    TooLarge,
    /// The packet cannot be encoded.
    Encode(EncodeError),
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Phase => f.write_str("not in this phase of the connection"),
            Self::TooLarge => f.write_str("larger than the client accepts"),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SendError {}

impl Negotiated {
    /// What a CONNECT says about the client's side.
    #[must_use]
    pub fn of(connect: &Connect<'_>) -> Self {
        let mut negotiated = Self { version: connect.version, ..Self::default() };
        if connect.version < Version::V5 {
            negotiated.session_expiry = Some(if connect.clean_start { 0 } else { u32::MAX });
        }
        for property in connect.properties.iter() {
            match property {
                Property::MaximumPacketSize(size) => negotiated.max_packet_size = size,
                Property::TopicAliasMaximum(max) => negotiated.max_topic_alias = max,
                Property::ReceiveMaximum(max) => negotiated.receive_maximum = max,
                Property::RequestProblemInformation(on) => negotiated.problem_information = on,
                Property::RequestResponseInformation(on) => negotiated.response_information = on,
                Property::SessionExpiryInterval(secs) => negotiated.session_expiry = Some(secs),
                _ => {}
            }
        }
        negotiated
    }

    /// Appends a packet to `out`, without Reason String and User Properties where the client does
    /// not want them or they would make it too large.
    ///
    /// # Errors
    /// When the packet cannot be encoded or is larger than the client accepts; `out` is unchanged.
    pub fn send(&self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), SendError> {
        if let Some(short) = short(packet)
            && self.max_packet_size as usize >= short.len()
        {
            out.extend_from_slice(&short);
            return Ok(());
        }
        // [MQTT-3.1.2-29]: only these three may explain themselves to a client that did not ask.
        let explains = self.problem_information
            || matches!(packet, Packet::Publish(_) | Packet::Connack(_) | Packet::Disconnect(_));
        if explains && self.append(packet, out).is_ok() {
            return Ok(());
        }
        let kept: heapless::Vec<Property<'_>, 20> = properties(packet)
            .iter()
            .filter(|p| !matches!(p, Property::ReasonString(_) | Property::UserProperty(..)))
            .take(20)
            .collect();
        self.append(&with_properties(packet, Properties::list(&kept)), out)
    }

    fn append(&self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), SendError> {
        let len = packet.encoded_len(self.version).map_err(SendError::Encode)?;
        if len > self.max_packet_size {
            return Err(SendError::TooLarge);
        }
        let start = out.len();
        out.resize(start + len as usize, 0);
        packet.encode(self.version, &mut out[start..]);
        Ok(())
    }
}

/// An acknowledgement as it mostly is, the same in all versions: without measuring it first.
#[inline]
fn short(packet: &Packet<'_>) -> Option<[u8; 4]> {
    let (first, ack) = match packet {
        Packet::Puback(ack) => (0x40, ack),
        Packet::Pubrec(ack) => (0x50, ack),
        Packet::Pubrel(ack) => (0x62, ack),
        Packet::Pubcomp(ack) => (0x70, ack),
        _ => return None,
    };
    let [high, low] = ack.packet_id.get().to_be_bytes();
    let plain = ack.reason == ReasonCode::Success && ack.properties.is_empty();
    plain.then_some([first, 2, high, low])
}

fn properties<'a>(packet: &Packet<'a>) -> Properties<'a> {
    match packet {
        Packet::Connack(p) => p.properties,
        Packet::Puback(p) | Packet::Pubrec(p) | Packet::Pubrel(p) | Packet::Pubcomp(p) => {
            p.properties
        }
        Packet::Suback(p) => p.properties,
        Packet::Unsuback(p) => p.properties,
        Packet::Disconnect(p) => p.properties,
        Packet::Auth(p) => p.properties,
        _ => Properties::EMPTY,
    }
}

fn with_properties<'a>(packet: &Packet<'a>, properties: Properties<'a>) -> Packet<'a> {
    let ack = |p: &Ack<'a>| Ack { properties, ..*p };
    match packet {
        Packet::Connack(p) => Packet::Connack(Connack { properties, ..*p }),
        Packet::Puback(p) => Packet::Puback(ack(p)),
        Packet::Pubrec(p) => Packet::Pubrec(ack(p)),
        Packet::Pubrel(p) => Packet::Pubrel(ack(p)),
        Packet::Pubcomp(p) => Packet::Pubcomp(ack(p)),
        Packet::Suback(p) => Packet::Suback(Suback { properties, ..*p }),
        Packet::Unsuback(p) => Packet::Unsuback(Unsuback { properties, ..*p }),
        Packet::Disconnect(p) => Packet::Disconnect(Disconnect { properties, ..*p }),
        Packet::Auth(p) => Packet::Auth(Auth { properties, ..*p }),
        other => other.clone(),
    }
}
