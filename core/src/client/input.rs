//! Received bytes until they are parsed, and a packet set aside until it is sent.

use super::event::SendError;
use super::storage::Memory;
use crate::codec::{Frame, Packet, ProtocolError, Version, decode, split};

/// The memory to receive: bytes not parsed yet at its front, and at its end CONNECT or AUTH. These
/// cannot stand among the packets to send, since there may be no room left between messages that
/// wait for the new connection.
#[derive(Debug)]
pub(super) struct Input<'s> {
    memory: Memory<'s>,
    start: usize,
    end: usize,
    /// What is left of the packet set aside; it ends where it stops.
    aside: usize,
    stop: usize,
}

impl<'s> Input<'s> {
    pub(super) const fn new(memory: Memory<'s>) -> Self {
        Self { memory, start: 0, end: 0, aside: 0, stop: 0 }
    }

    /// Largest packet, in bytes.
    pub(super) fn limit(&self) -> u32 {
        u32::try_from(self.memory.limit()).unwrap_or(u32::MAX)
    }

    /// Forgets everything.
    pub(super) const fn clear(&mut self) {
        (self.start, self.end, self.aside, self.stop) = (0, 0, 0, 0);
    }

    /// Forgets what was received.
    pub(super) const fn drop_received(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Room for what is received next; none while a packet set aside, or what is not parsed yet,
    /// takes it all.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        self.shift();
        if self.aside < self.stop {
            return &mut self.memory[self.end..self.aside];
        }
        if self.end == self.memory.len() {
            self.memory.ensure(self.end + 1);
        }
        &mut self.memory[self.end..]
    }

    /// `n` more bytes were written into the buffer.
    pub(super) fn filled(&mut self, n: usize) {
        let room = if self.aside < self.stop { self.aside } else { self.memory.len() };
        self.end = room.min(self.end + n);
    }

    /// The next frame, where it begins and how long it is; `None` while bytes are missing.
    pub(super) fn frame(&self) -> Result<Option<(Frame<'_>, usize, usize)>, ProtocolError> {
        let found = split(&self.memory[self.start..self.end], self.limit())?;
        Ok(found.map(|(frame, len)| (frame, self.start, len)))
    }

    /// Whether a whole frame, or what cannot become one, waits to be parsed.
    pub(super) fn has_frame(&self) -> bool {
        !matches!(self.frame(), Ok(None))
    }

    /// The next `len` bytes are parsed. They stay where they are until more is received.
    pub(super) const fn consume(&mut self, len: usize) {
        self.start += len;
    }

    /// The packet that begins at `at`, which was parsed before.
    pub(super) fn packet(&self, version: Version, at: usize) -> Option<Packet<'_>> {
        let (frame, _) = split(self.memory.get(at..self.end)?, u32::MAX).ok()??;
        decode(version, frame).ok()
    }

    /// Keeps a packet at the end of the memory until it is sent.
    pub(super) fn set_aside(
        &mut self,
        packet: &Packet<'_>,
        version: Version,
    ) -> Result<(), SendError> {
        let len = packet.encoded_len(version)? as usize;
        if len > self.memory.limit() {
            return Err(SendError::TooLarge);
        }
        self.shift();
        if self.aside < self.stop || !self.memory.ensure(self.end + len) {
            return Err(SendError::Full);
        }
        self.stop = self.memory.len();
        self.aside = self.stop - len;
        packet.encode(version, &mut self.memory[self.aside..]);
        Ok(())
    }

    /// What is left to send of a packet set aside.
    pub(super) fn aside(&self) -> &[u8] {
        &self.memory[self.aside..self.stop]
    }

    /// `n` more bytes of it were sent.
    pub(super) fn advance(&mut self, n: usize) {
        self.aside = self.stop.min(self.aside + n);
    }

    fn shift(&mut self) {
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_set_aside_does_not_meet_what_is_received() {
        let mut memory = [0; 8];
        let mut input = Input::new(Memory::from(&mut memory[..]));
        assert_eq!(input.set_aside(&Packet::Pingreq, Version::V5), Ok(()));
        assert_eq!(input.set_aside(&Packet::Pingreq, Version::V5), Err(SendError::Full));
        assert_eq!(input.buffer().len(), 6);
        input.buffer()[..3].copy_from_slice(&[0xd0, 0, 0xd0]);
        input.filled(3);
        assert_eq!(input.aside(), [0xc0, 0]);
        input.advance(1);
        assert_eq!(input.aside(), [0]);
        // What is left of it is not given away.
        assert_eq!(input.buffer().len(), 4);
        input.advance(9);
        assert_eq!(input.frame().unwrap().map(|(_, at, len)| (at, len)), Some((0, 2)));
        input.consume(2);
        assert_eq!(input.packet(Version::V5, 0), Some(Packet::Pingresp));
        assert_eq!(input.frame(), Ok(None));
        assert_eq!(input.buffer().len(), 7);
        input.filled(99);
        assert!(input.buffer().is_empty());
        assert_eq!(input.set_aside(&Packet::Pingreq, Version::V5), Err(SendError::Full));
    }
    #[test]
    fn parsed_bytes_make_room_for_a_packet_set_aside() {
        let mut memory = [0; 4];
        let mut input = Input::new(Memory::from(&mut memory[..]));
        input.buffer().copy_from_slice(&[0xd0, 0, 0xd0, 0]);
        input.filled(4);
        input.consume(2);
        assert_eq!(input.set_aside(&Packet::Pingreq, Version::V5), Ok(()));
        assert!(input.has_frame() && input.buffer().is_empty());
    }
}
