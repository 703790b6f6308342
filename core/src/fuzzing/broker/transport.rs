//! What a driver does with one connection, and the client at its other end.

use alloc::vec::Vec;

use crate::broker::{Broker, ConnId, Input, Outbox};
use crate::fuzzing::wire::Wire;
use crate::time::Instant;

/// Bytes pulled at once.
const PULL: usize = 300;

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

    /// Hands over what has arrived.
    pub(super) fn read(&mut self, broker: &mut Broker, now: Instant) {
        if self.reading && !self.inbox.is_empty() {
            let (conn, bytes) = (self.id, core::mem::take(&mut self.inbox));
            broker.handle(now, Input::Received { conn, bytes: &bytes });
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
