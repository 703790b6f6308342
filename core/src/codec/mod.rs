//! Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! [`split`] takes one packet off a byte stream, [`decode`] gives a view of it that borrows all
//! from the bytes. To send, ask [`Packet::encoded_len`], the only place where encoding can fail,
//! then [`Packet::encode`] into memory of that length.
//!
//! ```
//! use fulmar_core::codec::{Packet, Version, decode, split};
//!
//! let bytes = [0x30, 6, 0, 1, b't', b'h', b'i', b'!', 0xc0, 0];
//! let (frame, used) = split(&bytes, 1024).unwrap().unwrap();
//! let Packet::Publish(publish) = decode(Version::V311, frame).unwrap() else { panic!() };
//! assert_eq!((publish.topic, publish.payload, used), ("t", &b"hi!"[..], 8));
//! ```

mod ack;
mod connect;
mod control;
mod display;
mod error;
mod frame;
mod peek;
mod property;
mod publish;
mod read;
mod reason;
mod subscribe;
mod write;

use core::num::NonZeroU16;

pub use ack::Ack;
pub use connect::{Connack, Connect, Level, Will, level};
pub use control::{Auth, Disconnect};
pub use display::Display;
pub use error::{EncodeError, ProtocolError};
pub use frame::{Frame, Header, header, split};
pub use peek::{Peek, peek_connect};
pub use property::{Properties, Property, PropertyId, PropertyPacket};
pub use publish::Publish;
pub use reason::ReasonCode;
pub use subscribe::{
    Filters, ReasonCodes, RetainHandling, Suback, Subscribe, SubscriptionOptions, TopicFilters,
    Unsuback, Unsubscribe,
};

use write::{Writer, vbi_len};

/// Largest Remaining Length.
pub(crate) const MAX_REMAINING: u32 = 268_435_455;

/// A Packet Identifier; never zero.
pub type PacketId = NonZeroU16;

/// The protocol versions, with their level on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`).
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

/// Quality of Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS of two bits; `None` for 3.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet, borrowed from bytes or from the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet<'a> {
    /// CONNECT.
    Connect(Connect<'a>),
    /// CONNACK.
    Connack(Connack<'a>),
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK.
    Puback(Ack<'a>),
    /// PUBREC.
    Pubrec(Ack<'a>),
    /// PUBREL.
    Pubrel(Ack<'a>),
    /// PUBCOMP.
    Pubcomp(Ack<'a>),
    /// SUBSCRIBE.
    Subscribe(Subscribe<'a>),
    /// SUBACK.
    Suback(Suback<'a>),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK.
    Unsuback(Unsuback<'a>),
    /// PINGREQ.
    Pingreq,
    /// PINGRESP.
    Pingresp,
    /// DISCONNECT.
    Disconnect(Disconnect<'a>),
    /// AUTH.
    Auth(Auth<'a>),
}

/// Parses a packet of a connection of this version; CONNECT says its own.
///
/// Directions are not judged here: a server refuses itself what only a server may send.
///
/// # Errors
/// The rule that the bytes break, with the reason code for it.
#[inline]
pub fn decode<'a>(version: Version, frame: Frame<'a>) -> Result<Packet<'a>, ProtocolError> {
    match frame.packet_type() {
        // It judges its own length, since it says its own version.
        1 => return Connect::decode(frame).map(Packet::Connect),
        3 => return decode_publish(version, frame).map(Packet::Publish),
        _ => check_length(version, frame)?,
    }
    match frame.packet_type() {
        4 => Ack::decode(version, frame).map(Packet::Puback),
        5 => Ack::decode(version, frame).map(Packet::Pubrec),
        6 => Ack::decode(version, frame).map(Packet::Pubrel),
        7 => Ack::decode(version, frame).map(Packet::Pubcomp),
        _ => decode_rare(version, frame),
    }
}

/// A PUBLISH by itself: a [`Packet`] is large, and this is the one there are most of.
#[inline]
pub(crate) fn decode_publish<'a>(
    version: Version,
    frame: Frame<'a>,
) -> Result<Publish<'a>, ProtocolError> {
    check_length(version, frame)?;
    Publish::decode(version, frame)
}

#[inline]
fn check_length(version: Version, frame: Frame<'_>) -> Result<(), ProtocolError> {
    if version == Version::V5 && !frame.minimal {
        return Err(ProtocolError::malformed("MQTT-1.5.5-1"));
    }
    Ok(())
}

fn decode_rare<'a>(version: Version, frame: Frame<'a>) -> Result<Packet<'a>, ProtocolError> {
    let five = version == Version::V5;
    match frame.packet_type() {
        2 => Connack::decode(version, frame).map(Packet::Connack),
        8 => Subscribe::decode(version, frame).map(Packet::Subscribe),
        9 => Suback::decode(version, frame).map(Packet::Suback),
        10 => Unsubscribe::decode(version, frame).map(Packet::Unsubscribe),
        11 => Unsuback::decode(version, frame).map(Packet::Unsuback),
        12 => control::decode_ping(frame).map(|()| Packet::Pingreq),
        13 => control::decode_ping(frame).map(|()| Packet::Pingresp),
        14 => Disconnect::decode(version, frame).map(Packet::Disconnect),
        15 if five => Auth::decode(frame).map(Packet::Auth),
        _ => Err(ProtocolError::malformed("U5-004")),
    }
}

/// Flags that a packet type must have. `[MQTT-2.1.3-1]`
fn check_flags(version: Version, frame: Frame<'_>) -> Result<(), ProtocolError> {
    let (expected, rule) = match frame.packet_type() {
        6 => (2, "MQTT-3.6.1-1"),
        8 => (2, "MQTT-3.8.1-1"),
        10 => (2, "MQTT-3.10.1-1"),
        14 => (0, "MQTT-3.14.1-1"),
        15 => (0, "MQTT-3.15.1-1"),
        _ => (0, "MQTT-2.1.3-1"),
    };
    // In 3.1 they are QoS and DUP, and a repeat may say so.
    let repeat = version == Version::V31 && expected == 2 && frame.flags() == 0b1010;
    if frame.flags() == expected || repeat {
        return Ok(());
    }
    Err(ProtocolError::malformed(rule))
}

impl Packet<'_> {
    /// The packet type, 1 to 15.
    #[must_use]
    pub const fn packet_type(&self) -> u8 {
        match self {
            Self::Connect(_) => 1,
            Self::Connack(_) => 2,
            Self::Publish(_) => 3,
            Self::Puback(_) => 4,
            Self::Pubrec(_) => 5,
            Self::Pubrel(_) => 6,
            Self::Pubcomp(_) => 7,
            Self::Subscribe(_) => 8,
            Self::Suback(_) => 9,
            Self::Unsubscribe(_) => 10,
            Self::Unsuback(_) => 11,
            Self::Pingreq => 12,
            Self::Pingresp => 13,
            Self::Disconnect(_) => 14,
            Self::Auth(_) => 15,
        }
    }

    /// Bytes after the fixed header.
    fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let remaining = match self {
            Self::Connect(p) => p.remaining(),
            Self::Connack(p) => p.remaining(version),
            Self::Publish(p) => p.remaining(version),
            Self::Puback(p) | Self::Pubrec(p) | Self::Pubrel(p) | Self::Pubcomp(p) => {
                p.remaining(version, self.packet_type())
            }
            Self::Subscribe(p) => p.remaining(version),
            Self::Suback(p) => p.remaining(version),
            Self::Unsubscribe(p) => p.remaining(version),
            Self::Unsuback(p) => p.remaining(version),
            Self::Pingreq | Self::Pingresp => Ok(0),
            Self::Disconnect(p) => p.remaining(version),
            Self::Auth(p) => p.remaining(version),
        }?;
        if remaining > MAX_REMAINING { Err(EncodeError::TooLong) } else { Ok(remaining) }
    }

    /// Bytes of the whole packet, fixed header included.
    ///
    /// # Errors
    /// When the packet cannot be sent: encoding fails here or not at all.
    pub fn encoded_len(&self, version: Version) -> Result<u32, EncodeError> {
        let remaining = self.remaining(version)?;
        Ok(1 + vbi_len(remaining) + remaining)
    }

    /// Writes the packet into `out`, whose length is what [`Packet::encoded_len`] answered.
    ///
    /// Nothing is checked a second time: of a packet that `encoded_len` refuses, some bytes are
    /// written that mean nothing, or it panics.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn encode(&self, version: Version, out: &mut [u8]) {
        let remaining = remaining_of(out.len());
        let mut writer = Writer(out);
        let flags = match self {
            Self::Publish(p) => p.flags(),
            Self::Pubrel(_) | Self::Subscribe(_) | Self::Unsubscribe(_) => 2,
            _ => 0,
        };
        writer.u8(self.packet_type() << 4 | flags);
        writer.vbi(remaining);
        match self {
            Self::Connect(p) => p.encode(&mut writer),
            Self::Connack(p) => p.encode(version, &mut writer),
            Self::Publish(p) => p.encode(version, &mut writer),
            Self::Puback(p) | Self::Pubrec(p) | Self::Pubrel(p) | Self::Pubcomp(p) => {
                p.encode(version, &mut writer);
            }
            Self::Subscribe(p) => p.encode(version, &mut writer),
            Self::Suback(p) => p.encode(version, &mut writer),
            Self::Unsubscribe(p) => p.encode(version, &mut writer),
            Self::Unsuback(p) => p.encode(version, &mut writer),
            Self::Pingreq | Self::Pingresp => {}
            Self::Disconnect(p) => p.encode(version, &mut writer),
            Self::Auth(p) => p.encode(&mut writer),
        }
        assert!(writer.0.is_empty(), "out is longer than encoded_len");
    }

    /// Appends the packet to a vector.
    ///
    /// # Errors
    /// As [`Packet::encoded_len`]; `out` is unchanged then.
    #[cfg(feature = "alloc")]
    pub fn append(
        &self,
        version: Version,
        out: &mut alloc::vec::Vec<u8>,
    ) -> Result<(), EncodeError> {
        let len = self.encoded_len(version)? as usize;
        let start = out.len();
        out.resize(start + len, 0);
        self.encode(version, &mut out[start..]);
        Ok(())
    }
}

/// The Remaining Length of a packet of `total` bytes; each total has one at most.
fn remaining_of(total: usize) -> u32 {
    let fits = |header: usize| {
        let remaining = u32::try_from(total.checked_sub(header)?).ok()?;
        (1 + vbi_len(remaining) as usize == header).then_some(remaining)
    };
    (2..=5).find_map(fits).expect("out has the length that encoded_len answered")
}

/// Properties that a packet of this version may have: none before 5.0.
fn properties_len(
    version: Version,
    packet: PropertyPacket,
    properties: Properties<'_>,
) -> Result<u32, EncodeError> {
    match version {
        Version::V5 => properties.encoded_len(packet),
        _ if properties.is_empty() => Ok(0),
        _ => Err(EncodeError::Inconsistent),
    }
}

/// Adds lengths; a sum too large for its type stays above the limit of the protocol.
fn sum(parts: &[u32]) -> u32 {
    parts.iter().fold(0, |sum, part| u32::saturating_add(sum, *part))
}

/// Neither wildcards nor U+0000. It looks at all bytes, several at once, instead of stopping.
#[inline]
fn is_topic_name(topic: &str) -> bool {
    !topic.bytes().fold(false, |bad, byte| bad | matches!(byte, b'+' | b'#' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_length_follows_from_the_length_of_the_packet() {
        for edge in [0, 0x80, 0x4000, 0x20_0000, MAX_REMAINING] {
            for remaining in edge.saturating_sub(3)..=(edge + 3).min(MAX_REMAINING) {
                let total = 1 + vbi_len(remaining) + remaining;
                assert_eq!(remaining_of(total as usize), remaining);
            }
        }
    }
}
