//! Writing into memory of the right size; the lengths were checked before.

use super::{EncodeError, PacketId};

/// Bytes of a Variable Byte Integer.
#[inline]
pub(super) const fn vbi_len(value: u32) -> u32 {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Bytes of a string or binary field with its length.
pub(super) fn binary_len(bytes: &[u8]) -> Result<u32, EncodeError> {
    match u16::try_from(bytes.len()) {
        Ok(len) => Ok(2 + u32::from(len)),
        Err(_) => Err(EncodeError::TooLong),
    }
}

/// The rest of the memory to fill.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut [u8]);

impl Writer<'_> {
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let (now, later) = core::mem::take(&mut self.0).split_at_mut(bytes.len());
        now.copy_from_slice(bytes);
        self.0 = later;
    }

    #[inline]
    pub(super) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    #[inline]
    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    #[inline]
    pub(super) fn vbi(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    #[inline]
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        self.u16(bytes.len() as u16);
        self.bytes(bytes);
    }

    #[inline]
    pub(super) fn packet_id(&mut self, id: PacketId) {
        self.u16(id.get());
    }
}
