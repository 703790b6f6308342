//! How the driver reads: it hands bytes over, all at once or in pieces, between which it does what
//! the broker asks for; or it reads into memory that becomes the message. It must come to the same.

use fulmar_core::Instant;
use fulmar_core::broker::{Broker, ConnId, Input};
use fulmar_core::codec::header;

use super::oracle::Call;
use super::rng::Rng;
use super::world::{World, name};

/// Memory that the driver has at most for one packet.
const ROOM: usize = 64 * 1024;

/// Of a thousand reads, how many are handed over in pieces, and in how many pieces, about, at most.
const CUT: u32 = 300;
const PIECES: u64 = 8;
/// Of a thousand clients, how many do not wait for CONNACK.
const HURRY: u32 = 300;

/// Draws how each read is done, as if nothing were drawn for it elsewhere.
pub(super) struct Reads {
    rng: Rng,
    /// Reads into memory of the broker, and into memory that it took.
    pub(super) filled: u64,
    pub(super) given: u64,
    /// Reads that were handed over in pieces.
    pub(super) cut: u64,
    /// What was wrong with the last one.
    wrong: Option<String>,
}

impl Reads {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed ^ 0x5eed), filled: 0, given: 0, cut: 0, wrong: None }
    }

    /// The size of the pieces in which a read of so many bytes is handed over, if it is.
    fn pieces(&mut self, count: usize) -> Option<usize> {
        if count < 2 || !self.rng.chance(CUT) {
            return None;
        }
        self.cut += 1;
        Some(self.rng.range(1, count as u64 - 1).max(count as u64 / PIECES) as usize)
    }

    /// Reads some of these bytes; answers how many.
    fn read(&mut self, broker: &mut Broker, now: Instant, conn: ConnId, bytes: &[u8]) -> usize {
        let expected = broker.expected(conn);
        if self.rng.chance(500)
            && let Some(room) = broker.recv_buf(conn)
        {
            let part = bytes.len().min(room.capacity() - room.len());
            room.extend_from_slice(&bytes[..part]);
            let fits = expected.is_some_and(|(_, missing)| part <= missing);
            if !fits {
                self.wrong = Some(format!("{part} bytes of a packet, of which {expected:?}"));
            }
            broker.filled(now, conn, part);
            self.filled += 1;
            return part;
        }
        if self.rng.chance(500)
            && let Some(part) = self.give(broker, now, conn, bytes)
        {
            if expected.is_some() {
                self.wrong = Some(format!("{expected:?}, and another is taken"));
            }
            self.given += 1;
            return part;
        }
        broker.handle(now, Input::Received { conn, bytes });
        bytes.len()
    }

    /// Reads into memory as large as the packet that seems to begin here, or one byte larger, which
    /// must not be taken. Answers how many bytes, if it was.
    fn give(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        conn: ConnId,
        bytes: &[u8],
    ) -> Option<usize> {
        let total = header(bytes).ok()??.total() as usize;
        let wrong = self.rng.chance(100);
        let mut memory = Vec::with_capacity(total.min(ROOM) + usize::from(wrong));
        let part = bytes.len().min(memory.capacity());
        memory.extend_from_slice(&bytes[..part]);
        match broker.give(now, conn, memory) {
            Ok(()) if wrong || total > ROOM => {
                self.wrong = Some("memory of another size is taken".to_string());
            }
            Ok(()) => {}
            Err(memory) if memory == bytes[..part] => return None,
            Err(_) => self.wrong = Some("memory comes back changed".to_string()),
        }
        Some(part)
    }
}

impl World {
    /// Some clients do not wait for CONNACK, but send more behind CONNECT, as they may.
    pub(super) fn hurry(&mut self, peer: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        let waits = self.peers[peer].rude || self.peers[peer].ours.is_some();
        if waits || self.calm || !self.reads.rng.chance(HURRY) {
            return bytes;
        }
        for _ in 0..self.reads.rng.range(1, 4) {
            if self.reads.rng.chance(300) {
                bytes.extend([0xc0, 0]);
                continue;
            }
            self.key += 1;
            let (rng, plan, key) = (&mut self.reads.rng, &self.plan, self.key);
            bytes.extend(self.peers[peer].publish_early(rng, plan, key));
        }
        bytes
    }

    /// Moves bytes to the broker, `most` at once. True if there were any.
    pub(super) fn carry_in(&mut self, conn: ConnId, most: usize) -> bool {
        let Some(link) = self.links.get(&conn) else { return false };
        let count = most.min(link.to_broker.len());
        if count == 0 || link.paused || link.asks || self.reading.contains(&conn) {
            return false;
        }
        let mut bytes: Vec<u8> = link.to_broker.iter().take(count).copied().collect();
        if self.plan.tight {
            bytes.truncate(self.oracle.cut(conn, &bytes));
        }
        if let Some(size) = self.reads.pieces(bytes.len()) {
            self.carry_pieces(conn, &bytes, size);
            return true;
        }
        self.begin(Call::Received(conn));
        let count = self.reads.read(self.shards.of(conn), self.now, conn, &bytes);
        bytes.truncate(count);
        if let Some(link) = self.links.get_mut(&conn) {
            link.to_broker.drain(..count);
        }
        if let Some(wrong) = self.reads.wrong.take() {
            self.oracle.complain("reads", &wrong);
        }
        self.note(|| format!("{} received {count} bytes", name(conn)));
        self.oracle.received(conn, &bytes);
        self.effects();
        self.end();
        true
    }

    /// The driver has read all of this, and hands it over piece by piece, whatever the broker says
    /// meanwhile: it may have paused the connection, closed it or given it away. That goes to
    /// another shard when nothing of what was read is left.
    fn carry_pieces(&mut self, conn: ConnId, bytes: &[u8], size: usize) {
        self.reading.push(conn);
        if let Some(link) = self.links.get_mut(&conn) {
            link.to_broker.drain(..bytes.len());
        }
        for (nth, bytes) in bytes.chunks(size).enumerate() {
            if nth > 0 {
                self.between_pieces(conn);
            }
            self.begin(Call::Received(conn));
            self.shards.of(conn).handle(self.now, Input::Received { conn, bytes });
            self.note(|| format!("{} received {} bytes, a piece", name(conn), bytes.len()));
            self.oracle.received(conn, bytes);
            self.effects();
            self.end();
        }
        self.reading.pop();
        self.move_on();
    }

    /// Decides about the client, perhaps, and writes to some.
    fn between_pieces(&mut self, conn: ConnId) {
        if self.reads.rng.chance(500) {
            self.decide(conn, false);
        }
        for other in self.conns() {
            if self.reads.rng.chance(200) {
                let budget = self.reads.rng.range(1, self.plan.budget.max(1)) as usize;
                self.pull(other, budget, false);
            }
        }
    }
}
