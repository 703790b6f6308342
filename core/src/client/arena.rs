//! Packets to send, in the order they were made, and those kept until they are acknowledged.
//!
//! Frames stand behind each other and say themselves what they are, so nothing has to be updated
//! when they move, and a message is found by its packet identifier. The layout is
//!
//! ```text
//! | gone | kept and gone | being sent | unsent | free |
//!        first           frame  sent           end
//! ```
//!
//! A frame that is gone begins with a zero byte. Frames are moved together when the free part is
//! too short.

use super::event::SendError;
use super::storage::Memory;
use crate::codec::{Packet, PacketId, Version, header};

/// DUP in the first byte of a PUBLISH.
const DUP: u8 = 8;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sent, and not needed any more.
    Gone,
    /// PUBLISH of QoS 1 or 2.
    Kept(PacketId),
    /// PUBLISH of QoS 0.
    Qos0,
    /// SUBSCRIBE or UNSUBSCRIBE.
    Request(PacketId),
    /// Any other packet.
    Other,
}

#[derive(Debug)]
pub(super) struct Arena<'s> {
    memory: Memory<'s>,
    /// Where the first frame is that is not gone.
    first: usize,
    /// Where the frame begins that is being sent, or is the next.
    frame: usize,
    /// How far it is sent; not behind its end.
    sent: usize,
    end: usize,
}

impl<'s> Arena<'s> {
    pub(super) const fn new(memory: Memory<'s>) -> Self {
        Self { memory, first: 0, frame: 0, sent: 0, end: 0 }
    }

    /// Makes room for a frame of `len` bytes at the end.
    pub(super) fn reserve(&mut self, len: usize) -> Result<(), SendError> {
        if len > self.memory.limit() {
            return Err(SendError::TooLarge);
        }
        if self.memory.len() - self.end < len {
            self.compact();
        }
        if self.memory.ensure(self.end + len) { Ok(()) } else { Err(SendError::Full) }
    }

    /// Appends a packet of `len` bytes, for which there is room.
    pub(super) fn append(&mut self, packet: &Packet<'_>, version: Version, len: usize) {
        let end = self.end + len;
        packet.encode(version, &mut self.memory[self.end..end]);
        self.end = end;
    }

    /// All that was never sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.memory[self.sent..self.end]
    }

    /// The rest of a frame that is sent in part.
    pub(super) fn rest(&self) -> &[u8] {
        if self.sent == self.frame {
            return &[];
        }
        &self.memory[self.sent..self.frame + self.look(self.frame).0]
    }

    /// `n` more bytes of [`unsent`](Self::unsent) were sent. Answers how many PUBLISH of QoS 0 were
    /// completed; a PUBLISH of QoS 1 or 2 stays where `keep` says so, with DUP set from its first
    /// byte on.
    pub(super) fn advance(&mut self, n: usize, keep: impl Fn(PacketId) -> bool) -> u32 {
        let mut qos0 = 0;
        self.sent = self.end.min(self.sent + n);
        while self.frame < self.sent {
            let (len, kind) = self.look(self.frame);
            let next = self.frame + len;
            if let Kind::Kept(_) = kind {
                self.memory[self.frame] |= DUP;
            }
            if next > self.sent {
                break;
            }
            match kind {
                Kind::Kept(id) if keep(id) => {}
                _ => self.memory[self.frame] = 0,
            }
            qos0 += u32::from(kind == Kind::Qos0);
            self.frame = next;
        }
        self.skip_gone();
        qos0
    }

    /// The PUBLISH with this identifier, to be sent once more.
    pub(super) fn kept(&self, id: PacketId) -> &[u8] {
        self.find(id).map_or(&[], |(at, len)| &self.memory[at..at + len])
    }

    /// The PUBLISH with this identifier is on its way: its next copy has DUP set.
    /// `[MQTT-3.3.1-1]`
    pub(super) fn mark(&mut self, id: PacketId) {
        if let Some((at, _)) = self.find(id) {
            self.memory[at] |= DUP;
        }
    }

    /// Whether a packet with this identifier, to be answered, is here and no byte of it was sent.
    pub(super) fn waits(&self, id: PacketId) -> bool {
        let mut at = self.frame;
        while at < self.end {
            let (len, kind) = self.look(at);
            if at >= self.sent && matches!(kind, Kind::Kept(it) | Kind::Request(it) if it == id) {
                return true;
            }
            at += len;
        }
        false
    }

    /// The PUBLISH with this identifier is not needed any more. One that is on its way or still to
    /// be sent is sent all the same, since the stream has begun or may have.
    pub(super) fn remove(&mut self, id: PacketId) {
        if let Some((at, _)) = self.find(id)
            && at < self.frame
        {
            self.memory[at] = 0;
            self.skip_gone();
        }
    }

    /// Whether there is a PUBLISH of QoS 1 or 2 for which `such` is true of its bytes: the first
    /// one's identifier.
    pub(super) fn first_such(&self, such: impl Fn(&[u8]) -> bool) -> Option<PacketId> {
        let mut at = self.first;
        while at < self.end {
            let (len, kind) = self.look(at);
            if let Kind::Kept(id) = kind
                && such(&self.memory[at..at + len])
            {
                return Some(id);
            }
            at += len;
        }
        None
    }

    /// The connection is over: only PUBLISH for which `keep` is true are left, all of them to be
    /// sent again.
    pub(super) fn restart(&mut self, keep: impl Fn(PacketId) -> bool) {
        let mut at = self.first;
        while at < self.end {
            let (len, kind) = self.look(at);
            if !matches!(kind, Kind::Kept(id) if keep(id)) {
                self.memory[at] = 0;
            }
            at += len;
        }
        (self.frame, self.sent) = (self.end, self.end);
        self.skip_gone();
    }

    /// Length and kind of the frame at `at`, which was written here.
    fn look(&self, at: usize) -> (usize, Kind) {
        let bytes = &self.memory[at..self.end];
        let Ok(Some(header)) = header(bytes) else { return (bytes.len(), Kind::Gone) };
        let kind = match header.first {
            0 => Kind::Gone,
            first if matches!(first >> 4, 8 | 10) => {
                packet_id(&bytes[usize::from(header.header_len)..])
                    .map_or(Kind::Gone, Kind::Request)
            }
            first if first >> 4 != 3 => Kind::Other,
            first if first & 6 == 0 => Kind::Qos0,
            _ => published(&bytes[usize::from(header.header_len)..]).map_or(Kind::Gone, Kind::Kept),
        };
        (header.total() as usize, kind)
    }

    fn find(&self, id: PacketId) -> Option<(usize, usize)> {
        let mut at = self.first;
        while at < self.end {
            let (len, kind) = self.look(at);
            if kind == Kind::Kept(id) {
                return Some((at, len));
            }
            at += len;
        }
        None
    }

    fn skip_gone(&mut self) {
        while self.first < self.frame {
            let (len, kind) = self.look(self.first);
            if kind != Kind::Gone {
                return;
            }
            self.first += len;
        }
        if self.first == self.end {
            (self.first, self.frame, self.sent, self.end) = (0, 0, 0, 0);
        }
    }

    /// Moves what is needed to the front.
    fn compact(&mut self) {
        let (mut at, mut to) = (self.first, 0);
        while at < self.frame {
            let (len, kind) = self.look(at);
            if kind != Kind::Gone {
                self.memory.copy_within(at..at + len, to);
                to += len;
            }
            at += len;
        }
        self.memory.copy_within(self.frame..self.end, to);
        let by = self.frame - to;
        self.first = 0;
        self.frame -= by;
        self.sent -= by;
        self.end -= by;
    }
}

/// The identifier behind the topic.
fn published(body: &[u8]) -> Option<PacketId> {
    let (topic, rest) = body.split_first_chunk()?;
    packet_id(rest.get(usize::from(u16::from_be_bytes(*topic))..)?)
}

fn packet_id(bytes: &[u8]) -> Option<PacketId> {
    PacketId::new(u16::from_be_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Publish, Qos};
    use std::vec::Vec;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn publish(number: u16) -> Packet<'static> {
        let (qos, packet_id) = match number {
            0 => (Qos::AtMostOnce, None),
            _ => (Qos::AtLeastOnce, Some(id(number))),
        };
        Packet::Publish(Publish { qos, packet_id, topic: "t", ..Publish::default() })
    }

    fn add(arena: &mut Arena<'_>, packet: &Packet<'_>) -> Result<(), SendError> {
        let len = packet.encoded_len(Version::V311).unwrap() as usize;
        arena.reserve(len)?;
        arena.append(packet, Version::V311, len);
        Ok(())
    }

    fn kept(arena: &Arena<'_>) -> Vec<(usize, u8)> {
        (1..9)
            .map(|number| arena.kept(id(number)))
            .map(|frame| (frame.len(), *frame.first().unwrap_or(&0)))
            .collect()
    }

    #[test]
    fn messages_stay_with_dup_and_all_else_goes_when_sent() {
        let mut memory = [0; 40];
        let mut arena = Arena::new(Memory::from(&mut memory[..]));
        for packet in [publish(0), publish(1), Packet::Pingreq, publish(2)] {
            assert_eq!(add(&mut arena, &packet), Ok(()));
        }
        assert_eq!(arena.unsent().len(), 5 + 7 + 2 + 7);
        assert_eq!(arena.advance(4, |_| true), 0);
        assert_eq!((arena.rest().len(), arena.first), (1, 0));
        assert_eq!(arena.advance(1, |_| true), 1);
        assert_eq!((arena.rest().len(), arena.first), (0, 5));
        assert_eq!(arena.kept(id(1))[0], 0x32);
        assert_eq!(arena.advance(1, |_| true), 0);
        assert_eq!((arena.rest().len(), arena.kept(id(1))[0]), (6, 0x3a));
        assert_eq!(arena.advance(99, |_| true), 0);
        assert!(arena.unsent().is_empty());
        arena.remove(id(1));
        arena.remove(id(3));
        assert_eq!(kept(&arena)[..2], [(0, 0), (7, 0x3a)]);
        arena.remove(id(2));
        assert_eq!((arena.first, arena.end), (0, 0));
    }

    #[test]
    fn frames_are_moved_together_when_the_tail_is_short() {
        let mut memory = [0; 23];
        let mut arena = Arena::new(Memory::from(&mut memory[..]));
        for number in [1, 2, 3] {
            assert_eq!(add(&mut arena, &publish(number)), Ok(()));
        }
        assert_eq!(add(&mut arena, &publish(4)), Err(SendError::Full));
        arena.advance(15, |_| true);
        assert_eq!(add(&mut arena, &publish(4)), Err(SendError::Full));
        arena.remove(id(1));
        assert_eq!(add(&mut arena, &publish(4)), Ok(()));
        assert_eq!(arena.unsent().len(), 6 + 7);
        assert_eq!(arena.rest().len(), 6);
        arena.advance(13, |_| true);
        assert_eq!(kept(&arena)[..5], [(0, 0), (7, 0x3a), (7, 0x3a), (7, 0x3a), (0, 0)]);
        let large = Publish { topic: "t", payload: &[0; 20], ..Publish::default() };
        assert_eq!(add(&mut arena, &Packet::Publish(large)), Err(SendError::TooLarge));
    }

    #[test]
    fn a_message_acknowledged_before_it_is_sent_goes_when_it_is() {
        let mut memory = [0; 40];
        let mut arena = Arena::new(Memory::from(&mut memory[..]));
        for number in [1, 2] {
            assert_eq!(add(&mut arena, &publish(number)), Ok(()));
        }
        arena.advance(3, |_| true);
        arena.remove(id(1));
        arena.remove(id(2));
        assert_eq!(arena.unsent().len(), 11);
        arena.advance(11, |kept| kept == id(2));
        assert_eq!(kept(&arena)[..2], [(0, 0), (7, 0x3a)]);
    }

    #[test]
    fn a_new_connection_finds_messages_only_and_no_dup_where_nothing_was_sent() {
        let mut memory = [0; 60];
        let mut arena = Arena::new(Memory::from(&mut memory[..]));
        for packet in [
            publish(1),
            publish(0),
            publish(2),
            Packet::Pingreq,
            publish(3),
            publish(0),
            publish(4),
        ] {
            assert_eq!(add(&mut arena, &packet), Ok(()));
        }
        arena.advance(13, |_| true);
        arena.restart(|kept| kept != id(4));
        assert_eq!(kept(&arena)[..4], [(7, 0x3a), (7, 0x3a), (7, 0x32), (0, 0)]);
        assert!(arena.unsent().is_empty() && arena.rest().is_empty());
        assert_eq!(arena.first_such(|frame| frame[0] & DUP == 0), Some(id(3)));
        arena.mark(id(3));
        assert_eq!(arena.first_such(|frame| frame[0] & DUP == 0), None);
    }
}
