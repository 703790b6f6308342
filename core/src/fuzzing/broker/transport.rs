//! What a driver does with one connection, and the client at its other end.

use alloc::vec::Vec;

use crate::broker::{Broker, ConnId, Input, Outbox};
use crate::codec::header;
use crate::fuzzing::wire::Wire;
use crate::time::Instant;

/// Bytes pulled at once.
const PULL: usize = 300;
/// Memory that the driver has at most for one packet.
const MEMORY: usize = 64 * 1024;

pub(super) struct Transport {
    pub(super) id: ConnId,
    pub(super) wire: Wire,
    /// Bytes that the driver does not read yet.
    pub(super) inbox: Vec<u8>,
    pub(super) reading: bool,
    /// The client reads no more for now.
    pub(super) stalled: bool,
    /// `Transmit` was said and `transmit` has not answered that nothing waits.
    pub(super) said: bool,
    pub(super) closing: Option<Instant>,
}

impl Transport {
    pub(super) fn new(id: ConnId, max_inflight: u16) -> Self {
        Self {
            id,
            wire: Wire::new(max_inflight),
            inbox: Vec::new(),
            reading: true,
            stalled: false,
            said: false,
            closing: None,
        }
    }

    /// Bytes arrive; the driver hands them over while it is to read.
    pub(super) fn deliver(&mut self, broker: &mut Broker, now: Instant, bytes: &[u8]) {
        if self.closing.is_some() || bytes.is_empty() {
            return;
        }
        self.wire.send(bytes);
        self.inbox.extend_from_slice(bytes);
        self.read(broker, now);
    }

    /// Reads what has arrived, in the way that its length says: it is handed over, or read into
    /// memory that becomes a packet.
    pub(super) fn read(&mut self, broker: &mut Broker, now: Instant) {
        if !self.reading || self.inbox.is_empty() {
            return;
        }
        let (conn, inbox) = (self.id, core::mem::take(&mut self.inbox));
        let way = inbox.len() % 4;
        let mut bytes = &inbox[..];
        if way >= 2 {
            bytes = self.give(broker, now, bytes, way == 3);
        }
        while way != 0 && !bytes.is_empty() {
            let expected = broker.expected(conn);
            let Some(room) = broker.recv_buf(conn) else { break };
            let (part, rest) = bytes.split_at(bytes.len().min(room.capacity() - room.len()));
            let (total, missing) =
                expected.expect("memory for a packet of which the size is known");
            assert!(part.len() <= missing && room.len() + missing == total);
            room.extend_from_slice(part);
            broker.filled(now, conn, part.len());
            bytes = rest;
        }
        if !bytes.is_empty() {
            broker.handle(now, Input::Received { conn, bytes });
        }
    }

    /// Gives memory as large as the packet that seems to begin here, or `larger`, which must not be
    /// taken. Answers what is still to be read.
    fn give<'b>(
        &self,
        broker: &mut Broker,
        now: Instant,
        bytes: &'b [u8],
        larger: bool,
    ) -> &'b [u8] {
        let Ok(Some(header)) = header(bytes) else { return bytes };
        let capacity = MEMORY.min(header.total() as usize) + usize::from(larger);
        let mut memory = Vec::with_capacity(capacity);
        let (part, rest) = bytes.split_at(bytes.len().min(memory.capacity()));
        memory.extend_from_slice(part);
        let idle = broker.expected(self.id).is_none();
        match broker.give(now, self.id, memory) {
            Ok(()) => {
                assert!(!larger && idle, "memory of another size, or for a packet under way");
                rest
            }
            Err(memory) => {
                assert_eq!(memory, part, "it comes back as it was");
                bytes
            }
        }
    }

    /// Pulls about so many bytes once; how many there were.
    pub(super) fn pull(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        outbox: &mut Outbox,
        budget: usize,
    ) -> u64 {
        self.said = broker.transmit(now, self.id, outbox, budget);
        let bytes: Vec<u8> = outbox.slices().flatten().copied().collect();
        assert_eq!(bytes.len(), outbox.len());
        outbox.clear();
        self.wire.receive(&bytes);
        bytes.len() as u64
    }

    /// Pulls all that waits; how many bytes there were.
    pub(super) fn pull_all(
        &mut self,
        broker: &mut Broker,
        now: Instant,
        outbox: &mut Outbox,
    ) -> u64 {
        let (mut sum, mut calls) = (0, 0);
        while self.said {
            sum += self.pull(broker, now, outbox, PULL);
            calls += 1;
            assert!(calls < 100_000, "bytes without end");
        }
        sum
    }
}
