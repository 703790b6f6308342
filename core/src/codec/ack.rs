//! PUBACK, PUBREC, PUBREL and PUBCOMP: one form, four tables of reason codes.

use super::read::Reader;
use super::write::Writer;
use super::{
    EncodeError, Frame, PacketId, Properties, PropertyPacket, ProtocolError, ReasonCode, Version,
    check_flags, properties_len,
};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Of the PUBLISH it belongs to. `[MQTT-2.2.1-5]`
    pub packet_id: PacketId,
    /// [`ReasonCode::Success`] before 5.0.
    pub reason: ReasonCode,
    /// 5.0 only.
    pub properties: Properties<'a>,
}

/// The rule about the reason codes of a packet type.
const fn reason_rule(packet_type: u8) -> &'static str {
    match packet_type {
        4 => "MQTT-3.4.2-1",
        5 => "MQTT-3.5.2-1",
        6 => "MQTT-3.6.2-1",
        _ => "MQTT-3.7.2-1",
    }
}

impl<'a> Ack<'a> {
    /// One with nothing but its identifier, as nearly all are, in any version; `None` for all else.
    #[cfg(any(feature = "alloc", test))]
    #[inline]
    pub(crate) fn plain(frame: Frame<'_>) -> Option<Self> {
        let (0x40 | 0x50 | 0x62 | 0x70, &[high, low]) = (frame.first, frame.body) else {
            return None;
        };
        let packet_id = PacketId::new(u16::from_be_bytes([high, low]))?;
        let ack = Self { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY };
        frame.minimal.then_some(ack)
    }

    #[inline]
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        check_flags(version, frame)?;
        let mut reader = Reader(frame.body);
        let packet_id = reader.packet_id()?;
        let mut ack =
            Self { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY };
        if version < Version::V5 {
            reader.end()?;
            return Ok(ack);
        }
        // Reason code and properties may be left out. [U5-050]
        if reader.is_empty() {
            return Ok(ack);
        }
        let packet_type = frame.packet_type();
        ack.reason = ReasonCode::from_u8(reader.u8()?)
            .filter(|reason| reason.allowed_in(packet_type))
            .ok_or(ProtocolError::protocol(reason_rule(packet_type)))?;
        if !reader.is_empty() {
            ack.properties = Properties::read(PropertyPacket::Ack, &mut reader)?;
            reader.end()?;
        }
        Ok(ack)
    }

    pub(super) fn remaining(&self, version: Version, packet_type: u8) -> Result<u32, EncodeError> {
        let properties = properties_len(version, PropertyPacket::Ack, self.properties)?;
        if !self.reason.allowed_in(packet_type) {
            return Err(EncodeError::Inconsistent);
        }
        Ok(match self.form(version) {
            Form::Id => 2,
            Form::Reason => 3,
            Form::Full => 3 + properties,
        })
    }

    fn form(&self, version: Version) -> Form {
        if version < Version::V5 {
            Form::Id
        } else if !self.properties.is_empty() {
            Form::Full
        } else if self.reason == ReasonCode::Success {
            Form::Id
        } else {
            Form::Reason
        }
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        writer.packet_id(self.packet_id);
        let form = self.form(version);
        if form != Form::Id {
            writer.u8(self.reason as u8);
        }
        if form == Form::Full {
            self.properties.encode(writer);
        }
    }
}

/// How much is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Id,
    Reason,
    Full,
}

#[cfg(test)]
mod tests {
    use super::super::{Packet, decode};
    use super::*;

    #[test]
    fn a_plain_acknowledgement_is_what_decoding_gives() {
        let bodies: [&[u8]; 7] =
            [&[], &[0], &[0, 0], &[0, 1], &[0xff, 0xff], &[0, 1, 0], &[0, 1, 0, 0]];
        let mut plain = 0;
        for first in 0..=255 {
            for (body, minimal) in bodies.iter().flat_map(|body| [(*body, true), (*body, false)]) {
                let frame = Frame { first, minimal, body };
                let Some(ack) = Ack::plain(frame) else { continue };
                plain += 1;
                for version in [Version::V31, Version::V311, Version::V5] {
                    let packet = match first >> 4 {
                        4 => Packet::Puback(ack),
                        5 => Packet::Pubrec(ack),
                        6 => Packet::Pubrel(ack),
                        _ => Packet::Pubcomp(ack),
                    };
                    assert_eq!(decode(version, frame), Ok(packet));
                }
            }
        }
        assert_eq!(plain, 8, "four types, two identifiers");
    }
}
