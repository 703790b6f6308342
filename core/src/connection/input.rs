//! Frames out of a byte stream, parsed where they lie; only an incomplete one is copied.

use alloc::vec::Vec;

use bytes::Bytes;

use super::server::Memory;
use crate::codec::{Frame, Level, ProtocolError, ReasonCode, Version, header, level, split};

/// Memory reserved at most on the word of a header alone, in bytes.
const TRUST: usize = 16 * 1024;
/// A frame of which this part is there may have all its memory at once.
const TRUST_FACTOR: usize = 16;
/// A frame of which so many bytes are there has memory for more of them, for the driver to read
/// into; and so many bytes must be missing.
const LARGE: usize = if cfg!(fuzzing) { 16 } else { 4 * 1024 };
/// Memory added at once at most, so that one read is not too long.
const STEP: usize = 1024 * 1024;

/// The beginning of a frame whose rest has not arrived. Owns memory only while there is one.
#[derive(Debug)]
pub(super) enum Tail {
    /// What is there, maybe nothing.
    Part(Vec<u8>),
    /// The frame is whole and was lent; its memory goes with the next call.
    Whole(Bytes),
}

impl Default for Tail {
    fn default() -> Self {
        Self::Part(Vec::new())
    }
}

impl Tail {
    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Part(bytes) => bytes.capacity(),
            Self::Whole(bytes) => bytes.len(),
        }
    }

    /// Bytes held for a frame that is not whole.
    pub(super) fn unfinished(&self) -> usize {
        match self {
            Self::Part(bytes) => bytes.capacity(),
            Self::Whole(_) => 0,
        }
    }

    /// Takes the next frame of at most `limit` bytes off `input`, or keeps what there is of it.
    pub(super) fn frame<'c, 'i: 'c>(
        &'c mut self,
        input: &mut &'i [u8],
        limit: u32,
    ) -> Result<Option<Lent<'c>>, ProtocolError> {
        let bytes = self.part();
        if bytes.is_empty() {
            if let Some((frame, used)) = split(input, limit)? {
                *input = &input[used..];
                return Ok(Some(Lent { frame, memory: Memory::default() }));
            }
            if let Some(header) = header(input)?
                && header.total() as usize <= input.len() * TRUST_FACTOR
            {
                bytes.reserve_exact(header.total() as usize);
            }
            bytes.extend_from_slice(input);
            *input = &[];
            self.grow();
            return Ok(None);
        }
        let header = loop {
            if let Some(header) = header(bytes)? {
                break header;
            }
            let Some((first, rest)) = input.split_first() else { return Ok(None) };
            bytes.push(*first);
            *input = rest;
        };
        if header.total() > limit {
            return Err(ProtocolError::new(ReasonCode::PacketTooLarge, "MQTT-3.2.2-15"));
        }
        let missing = (header.total() as usize).saturating_sub(bytes.len());
        let (now, later) = input.split_at(missing.min(input.len()));
        // A peer that only claims a large frame shall not make us reserve it.
        if bytes.capacity() - bytes.len() < now.len() {
            let room = bytes.len().max(TRUST).min(missing);
            bytes.reserve_exact(room.max(now.len()));
        }
        bytes.extend_from_slice(now);
        *input = later;
        if now.len() < missing {
            self.grow();
            return Ok(None);
        }
        let whole = Bytes::from(core::mem::take(bytes));
        *self = Self::Whole(whole);
        let Self::Whole(memory) = self else { return Ok(None) };
        let frame = Frame {
            first: header.first,
            minimal: header.minimal,
            body: &memory[usize::from(header.header_len)..],
        };
        Ok(Some(Lent { frame, memory: Memory(Some(memory)) }))
    }

    /// Whether all of a frame is there, and not lent yet.
    pub(super) fn is_whole(&self) -> bool {
        let bytes = self.partial();
        matches!(header(bytes), Ok(Some(header)) if header.total() as usize <= bytes.len())
    }

    /// Size of the frame under way, and what is missing of it, if that is known.
    pub(super) fn expected(&self) -> Option<(usize, usize)> {
        let bytes = self.partial();
        let total = header(bytes).ok()??.total() as usize;
        Some((total, total.saturating_sub(bytes.len())))
    }

    /// Memory for more of a large frame: to be appended to, up to its capacity.
    pub(super) fn room(&mut self) -> Option<&mut Vec<u8>> {
        let Self::Part(bytes) = self else { return None };
        if bytes.len() < LARGE || bytes.capacity() - bytes.len() < LARGE {
            return None;
        }
        let total = header(bytes).ok()??.total() as usize;
        // What follows the frame does not belong here.
        (bytes.capacity() <= total).then_some(bytes)
    }

    /// Gives a large frame memory for more of it, in proportion to what is there; the same however
    /// that came.
    pub(super) fn grow(&mut self) {
        let bytes = self.part();
        if bytes.len() < LARGE || bytes.capacity() > bytes.len() {
            return;
        }
        if let Ok(Some(header)) = header(bytes) {
            let missing = (header.total() as usize).saturating_sub(bytes.len());
            bytes.reserve_exact(missing.min(bytes.len() * (TRUST_FACTOR - 1)).min(STEP));
        }
    }

    /// Takes memory that is as large as the frame whose beginning, or all, lies in it; gives any
    /// other back. It ends as if the bytes had come otherwise.
    pub(super) fn adopt(&mut self, memory: Vec<u8>) -> Result<(), Vec<u8>> {
        let part = self.part();
        let total = match header(&memory) {
            Ok(Some(header)) => header.total() as usize,
            _ => return Err(memory),
        };
        let trusted = memory.len() >= LARGE && total <= memory.len() * TRUST_FACTOR;
        if !part.is_empty() || !trusted || total != memory.capacity() {
            return Err(memory);
        }
        *part = memory;
        Ok(())
    }

    /// Keeps the input without judging it.
    pub(super) fn keep(&mut self, input: &mut &[u8]) {
        self.part().extend_from_slice(input);
        *input = &[];
    }

    /// Forgets the last bytes of a frame under way.
    pub(super) fn shorten(&mut self, by: usize) {
        let bytes = self.part();
        bytes.truncate(bytes.len().saturating_sub(by));
    }

    /// Forgets a frame that was lent.
    pub(super) fn release(&mut self) {
        self.part();
    }

    fn part(&mut self) -> &mut Vec<u8> {
        loop {
            match self {
                Self::Part(bytes) => return bytes,
                Self::Whole(_) => *self = Self::default(),
            }
        }
    }

    /// What is there of the frame under way.
    pub(super) fn partial(&self) -> &[u8] {
        match self {
            Self::Part(bytes) => bytes,
            Self::Whole(_) => &[],
        }
    }
}

/// A frame, and the memory it lies in where that was received for it alone.
pub(super) struct Lent<'c> {
    pub(super) frame: Frame<'c>,
    pub(super) memory: Memory<'c>,
}

/// What the beginning of a CONNECT tells of its size.
pub(super) enum Size {
    Fits,
    /// And the version to say so in, where it is one spoken here.
    TooLarge(Option<Version>, ProtocolError),
    /// Too large, and too little there to know the version.
    Unclear,
}

/// Judges a CONNECT by its first bytes, so that one that is too large need not be received.
pub(super) fn connect_size(partial: &[u8], input: &[u8], limit: u32) -> Size {
    // Fixed header, protocol name and level have 14 at most.
    let start: heapless::Vec<u8, 16> = partial.iter().chain(input).take(16).copied().collect();
    let header = match header(&start) {
        Ok(Some(header)) if header.total() > limit => header,
        _ => return Size::Fits,
    };
    let enough = start.is_full() || start.len() >= header.total() as usize;
    let version = match start.get(usize::from(header.header_len)..).map(level) {
        Some(Ok(Level::Supported { version, .. })) => Some(version),
        _ if !enough => return Size::Unclear,
        _ => None,
    };
    Size::TooLarge(version, ProtocolError::new(ReasonCode::PacketTooLarge, "MQTT-3.2.2-15"))
}
