//! One packet as bytes: fixed header and Remaining Length.

use super::{ProtocolError, ReasonCode};

/// A fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Packet type and flags.
    pub first: u8,
    /// Bytes of the header, 2 to 5.
    pub header_len: u8,
    /// Remaining Length: bytes that follow the header.
    pub remaining: u32,
    /// Whether the Remaining Length has the fewest bytes possible, as 5.0 demands.
    pub minimal: bool,
}

impl Header {
    /// Bytes of the whole packet.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.header_len as u32 + self.remaining
    }
}

/// One packet as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first: u8,
    /// Whether the Remaining Length has the fewest bytes possible.
    pub minimal: bool,
    /// All after the fixed header.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// The packet type, 0 to 15.
    #[must_use]
    pub const fn packet_type(&self) -> u8 {
        self.first >> 4
    }

    /// The four flag bits.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.first & 0x0f
    }
}

/// Reads a fixed header; `None` while bytes are missing.
///
/// # Errors
/// A fifth length byte is malformed as soon as the fourth says that it follows. `[U5-003]`
#[inline]
pub fn header(input: &[u8]) -> Result<Option<Header>, ProtocolError> {
    let Some((first, rest)) = input.split_first() else { return Ok(None) };
    let mut remaining = 0;
    for (i, byte) in (0u8..4).zip(rest) {
        remaining |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let minimal = i == 0 || *byte != 0;
            return Ok(Some(Header { first: *first, header_len: i + 2, remaining, minimal }));
        }
    }
    if rest.len() >= 4 { Err(ProtocolError::malformed("U5-003")) } else { Ok(None) }
}

/// Splits one whole packet off `input`, and says how many bytes it took; `None` while bytes are
/// missing.
///
/// # Errors
/// A malformed Remaining Length, or a packet of more than `max` bytes in all, before its body is
/// there. `[MQTT-3.2.2-15]`
#[inline]
pub fn split(input: &[u8], max: u32) -> Result<Option<(Frame<'_>, usize)>, ProtocolError> {
    let Some(header) = header(input)? else { return Ok(None) };
    if header.total() > max {
        return Err(ProtocolError::new(ReasonCode::PacketTooLarge, "MQTT-3.2.2-15"));
    }
    let total = header.total() as usize;
    let Some(body) = input.get(usize::from(header.header_len)..total) else { return Ok(None) };
    Ok(Some((Frame { first: header.first, minimal: header.minimal, body }, total)))
}
