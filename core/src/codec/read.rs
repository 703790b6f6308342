//! Reading the primitive types; each call hands back what is left.

use super::{PacketId, ProtocolError, ReasonCode, is_topic_name};

/// The unread rest of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

type Read<T> = Result<T, ProtocolError>;

/// The packet ends too early.
const SHORT: ProtocolError = ProtocolError::malformed("U5-001");

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn bytes(&mut self, len: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Read<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A Variable Byte Integer in its shortest form. `[MQTT-1.5.5-1]`
    #[inline]
    pub(super) fn vbi(&mut self) -> Read<u32> {
        let mut value = 0;
        for i in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                if i > 0 && byte == 0 {
                    return Err(ProtocolError::malformed("MQTT-1.5.5-1"));
                }
                return Ok(value);
            }
        }
        Err(ProtocolError::malformed("U5-003"))
    }

    #[inline]
    pub(super) fn binary(&mut self) -> Read<&'a [u8]> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// Well-formed UTF-8. `[MQTT-1.5.4-1]`
    #[inline]
    fn text(&mut self) -> Read<&'a str> {
        let bytes = self.binary()?;
        core::str::from_utf8(bytes).map_err(|_| ProtocolError::malformed("MQTT-1.5.4-1"))
    }

    /// A string, which has no U+0000. `[MQTT-1.5.4-2]`
    #[inline]
    pub(super) fn string(&mut self) -> Read<&'a str> {
        let text = self.text()?;
        if text.as_bytes().contains(&0) {
            return Err(ProtocolError::malformed("MQTT-1.5.4-2"));
        }
        Ok(text)
    }

    /// A Topic Name: a string without wildcards, which may be empty. One pass finds both faults;
    /// `wildcard` is the rule against the second.
    #[inline]
    pub(super) fn topic_name(&mut self, wildcard: &'static str) -> Read<&'a str> {
        let text = self.text()?;
        if is_topic_name(text) {
            Ok(text)
        } else if text.as_bytes().contains(&0) {
            Err(ProtocolError::malformed("MQTT-1.5.4-2"))
        } else {
            Err(ProtocolError::new(ReasonCode::TopicNameInvalid, wildcard))
        }
    }

    /// A Packet Identifier, which is never zero. `[MQTT-2.2.1-3]`
    #[inline]
    pub(super) fn packet_id(&mut self) -> Read<PacketId> {
        PacketId::new(self.u16()?).ok_or(ProtocolError::protocol("MQTT-2.2.1-3"))
    }

    /// Nothing may be left. `[U5-001]` `[U311-007]`
    #[inline]
    pub(super) fn end(&self) -> Read<()> {
        if self.is_empty() { Ok(()) } else { Err(ProtocolError::malformed("U5-001")) }
    }
}
