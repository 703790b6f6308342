//! PUBLISH.

use super::read::Reader;
use super::write::{Writer, binary_len};
use super::{
    EncodeError, Frame, PacketId, Properties, PropertyId, PropertyPacket, ProtocolError, Qos,
    Version, is_topic_name, properties_len, sum,
};

/// PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// A repeat of a QoS 1 or 2 message.
    pub dup: bool,
    /// Quality of Service.
    pub qos: Qos,
    /// RETAIN.
    pub retain: bool,
    /// Topic Name; empty in 5.0 where an alias stands for it.
    pub topic: &'a str,
    /// With QoS 1 and 2 only.
    pub packet_id: Option<PacketId>,
    /// 5.0 only.
    pub properties: Properties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let flags = frame.flags();
        let qos = Qos::from_bits(flags >> 1 & 3).ok_or(ProtocolError::malformed("MQTT-3.3.1-4"))?;
        let mut dup = flags & 8 != 0;
        if dup && qos == Qos::AtMostOnce {
            if version > Version::V31 {
                return Err(ProtocolError::malformed("MQTT-3.3.1-2"));
            }
            dup = false;
        }
        let mut reader = Reader(frame.body);
        let topic = reader.topic_name("MQTT-3.3.2-2")?;
        let packet_id = match qos {
            Qos::AtMostOnce => None,
            _ => Some(reader.packet_id()?),
        };
        let properties = match version {
            Version::V5 => Properties::read(PropertyPacket::Publish, &mut reader)?,
            _ => Properties::EMPTY,
        };
        if topic.is_empty() {
            if version < Version::V5 {
                return Err(ProtocolError::malformed("MQTT-4.7.3-1"));
            }
            if properties.find(PropertyId::TopicAlias).is_none() {
                return Err(ProtocolError::protocol("U5-039"));
            }
        }
        let payload = reader.0;
        Ok(Self { dup, qos, retain: flags & 1 != 0, topic, packet_id, properties, payload })
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let properties = properties_len(version, PropertyPacket::Publish, self.properties)?;
        let aliased = || self.properties.find(PropertyId::TopicAlias).is_some();
        if self.packet_id.is_some() != (self.qos > Qos::AtMostOnce)
            || self.dup && self.qos == Qos::AtMostOnce
            || !is_topic_name(self.topic)
            || self.topic.is_empty() && !aliased()
        {
            return Err(EncodeError::Inconsistent);
        }
        let payload = u32::try_from(self.payload.len()).map_err(|_| EncodeError::TooLong)?;
        let id = if self.packet_id.is_some() { 2 } else { 0 };
        Ok(sum(&[binary_len(self.topic.as_bytes())?, id, properties, payload]))
    }

    pub(super) fn flags(&self) -> u8 {
        u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain)
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        writer.binary(self.topic.as_bytes());
        if let Some(id) = self.packet_id {
            writer.packet_id(id);
        }
        if version == Version::V5 {
            self.properties.encode(writer);
        }
        writer.bytes(self.payload);
    }
}
