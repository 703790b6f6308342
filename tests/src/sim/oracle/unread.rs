//! What the broker has read of what it was given. With one shard that is all of it. With several a
//! connection may wait for other shards, and what it had brought goes down with it: so there are
//! bounds, that meet at rest but for what went down.

use fulmar_core::Qos;
use fulmar_core::broker::{ConnId, DisconnectReason, Disconnected, Stats};

use super::{Oracle, Wire};

/// A packet that may wait.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) kind: u8,
    pub(super) id: u16,
    /// Of a message, and the length of its payload.
    pub(super) qos: Option<Qos>,
    pub(super) payload: usize,
}

/// How many packets there are, by type, and messages by QoS.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    packets: [u64; 16],
    messages: [u64; 3],
}

impl Sums {
    fn add(&mut self, unread: &Unread) {
        self.packets[usize::from(unread.kind)] += 1;
        unread.qos.into_iter().for_each(|qos| self.messages[qos as usize] += 1);
    }
}

impl Oracle {
    /// A packet that counts was handed over.
    pub(super) fn waits_perhaps(&mut self, conn: ConnId, unread: Unread) {
        if self.many
            && let Some(wire) = self.wires.get_mut(&conn)
        {
            wire.unread.push_back(unread);
        }
    }

    /// Messages that may wait on connections of a shard: lengths of their payloads.
    pub(super) fn waiting_at(&self, shard: usize) -> impl Iterator<Item = usize> {
        let here = self.wires.values().filter(move |wire| wire.shard == shard);
        let unread = here.flat_map(|wire| &wire.unread);
        unread.filter(|unread| unread.qos.is_some()).map(|unread| unread.payload)
    }

    /// All effects of a call were shown: who is read has nothing that waits.
    pub(super) fn settle_unread(&mut self) {
        let read = self.wires.values_mut().filter(|wire| !wire.suspended);
        read.for_each(|wire| wire.unread.clear());
    }

    /// At rest nobody has.
    pub(super) fn settle_all_unread(&mut self) {
        self.wires.values_mut().for_each(|wire| wire.unread.clear());
    }

    /// A connection ended. Up to what the client ended it with, well or badly, all was read, and
    /// all of one whose transport went while it waited.
    pub(super) fn unread_at_end(&mut self, event: &Disconnected) {
        let Some(wire) = self.wires.get_mut(&event.conn) else { return };
        let read = match event.why {
            DisconnectReason::Client(_) | DisconnectReason::Protocol(_) => true,
            DisconnectReason::Transport => wire.gone,
            _ => false,
        };
        let unread = std::mem::take(&mut wire.unread);
        unread.iter().filter(|_| !read).for_each(|packet| self.counts.unsure.add(packet));
    }

    /// Figures of what was received: at most what was handed over, at least what was surely read.
    pub(super) fn wrong_received(&self, stats: &Stats) -> Option<String> {
        let mut waits = self.counts.unsure;
        self.wires.values().flat_map(|wire| &wire.unread).for_each(|packet| waits.add(packet));
        let within = |told: &[u64], known: &[u64], waits: &[u64]| {
            let both = known.iter().zip(waits);
            told.iter()
                .zip(both)
                .all(|(told, (known, waits))| told <= known && told + waits >= *known)
        };
        let (packets, messages) = (&self.counts.packets_in, &self.counts.messages_in);
        if !within(&stats.packets_received, packets, &waits.packets) {
            let (told, waits) = (stats.packets_received, waits.packets);
            return Some(format!("packets received: {told:?} of {packets:?}, {waits:?} may wait"));
        }
        if !within(&stats.messages_received, messages, &waits.messages) {
            let (told, waits) = (stats.messages_received, waits.messages);
            return Some(format!(
                "messages received: {told:?} of {messages:?}, {waits:?} may wait"
            ));
        }
        None
    }
}

impl Wire {
    /// An answer was sent: what it is for was read, and all before it. Where identifiers are not
    /// used again before they are answered.
    pub(super) fn has_read(&mut self, kind: u8, id: u16) {
        let (of, qos) = match kind {
            4 => (3, Some(Qos::AtLeastOnce)),
            5 => (3, Some(Qos::ExactlyOnce)),
            9 | 11 => (kind - 1, None),
            _ => return,
        };
        let answered = |unread: &Unread| (unread.kind, unread.id, unread.qos) == (of, id, qos);
        if let Some(at) = self.unread.iter().position(answered) {
            self.unread.drain(..=at);
        }
    }
}
