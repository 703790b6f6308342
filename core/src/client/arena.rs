//! Bytes to send. Messages of QoS 1 and 2 stay where they are until they are acknowledged.

use crate::Storage;
use crate::session::Outbound;

/// A frame in the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Span {
    fn range(self) -> core::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// `sent, and kept in places | unsent | free`.
#[derive(Debug)]
pub(super) struct Arena<'s> {
    bytes: Storage<'s, u8>,
    unsent: usize,
    end: usize,
}

impl<'s> Arena<'s> {
    pub(super) fn new(bytes: Storage<'s, u8>) -> Self {
        Self { bytes, unsent: 0, end: 0 }
    }

    /// Room for `len` more bytes, after moving together what is kept.
    pub(super) fn room(&mut self, len: usize, kept: &mut Outbound<'_, Span>) -> bool {
        if self.bytes.len() - self.end >= len {
            return true;
        }
        self.compact(kept);
        self.bytes.len() - self.end >= len
    }

    /// Takes `len` bytes for a frame; [`Arena::room`] was asked before.
    pub(super) fn take(&mut self, len: usize) -> (Span, &mut [u8]) {
        let start = self.end;
        self.end += len;
        (Span { start: start as u32, len: len as u32 }, &mut self.bytes[start..start + len])
    }

    /// Gives back what was taken last.
    pub(super) fn untake(&mut self, span: Span) {
        self.end = span.start as usize;
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.unsent..self.end]
    }

    pub(super) fn sent(&mut self, len: usize) {
        self.unsent = self.end.min(self.unsent + len);
    }

    /// The bytes of a kept frame.
    pub(super) fn frame(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    /// A repeat says so. `[MQTT-3.3.1-1]`
    pub(super) fn set_dup(&mut self, span: Span) {
        self.bytes[span.start as usize] |= 8;
    }

    /// A new connection: what was not kept is gone.
    pub(super) fn restart(&mut self, kept: &mut Outbound<'_, Span>) {
        self.unsent = self.end;
        self.compact(kept);
    }

    /// Kept frames lie in the order of their sending, so that moving down never overwrites one.
    fn compact(&mut self, kept: &mut Outbound<'_, Span>) {
        let mut to = 0;
        let unsent = self.unsent;
        kept.for_each_mut(|span| {
            // Those not sent yet move with the rest of the unsent bytes.
            if (span.start as usize) < unsent {
                self.bytes.copy_within(span.range(), to);
                span.start = to as u32;
                to += span.len as usize;
            }
        });
        self.bytes.copy_within(unsent..self.end, to);
        let moved = unsent - to;
        let fence = unsent as u32;
        kept.for_each_mut(|span| {
            if span.start >= fence && moved > 0 {
                span.start -= moved as u32;
            }
        });
        self.unsent = to;
        self.end -= moved;
    }
}
