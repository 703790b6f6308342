//! A broker without sockets: bytes go in by hand, and what comes out is kept or thrown away.

use fulmar_core::broker::{Boot, Broker, Config, ConnId, ConnInfo, Effect, Input, Outbox, Verdict};
use fulmar_core::{Instant, Version};

use crate::packet;

/// How many bytes are pulled at once, as a driver begins.
const BUDGET: usize = 8 * 1024;

/// A broker whose clients take everything at once.
pub struct Shard {
    broker: Broker,
    now: Instant,
    outbox: Outbox,
    sent: u64,
}

impl Shard {
    /// A broker with this configuration at [`Instant::ZERO`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        let now = Instant::ZERO;
        let boot = Boot { now, unix_millis: 0, seed: 1, epoch: 1 };
        let broker = Broker::new(config, boot);
        Self { broker, now, outbox: Outbox::new(), sent: 0 }
    }

    /// Connects a client with a clean session.
    ///
    /// # Panics
    ///
    /// If the broker refuses the connection.
    pub fn connect(&mut self, version: Version, client_id: &str) -> ConnId {
        let conn = self.open();
        self.receive(conn, &packet::connect(version, client_id, true));
        conn
    }

    /// A connection on which nothing came yet.
    ///
    /// # Panics
    ///
    /// If the broker refuses it.
    pub fn open(&mut self) -> ConnId {
        self.broker.open(self.now, ConnInfo::default()).expect("a free connection")
    }

    /// The transport of `conn` is gone.
    ///
    /// # Panics
    ///
    /// As [`Shard::receive`].
    pub fn closed(&mut self, conn: ConnId) {
        self.broker.handle(self.now, Input::Closed { conn });
        self.settle(|_, _| {});
    }

    /// Hands over what `conn` sent, and does what the broker asks for until it asks no more: every
    /// client is accepted, and bytes for clients are pulled, counted and thrown away.
    ///
    /// # Panics
    ///
    /// If the broker closes a connection: clients here break no rules.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.receive_with(conn, bytes, |_, _| {});
    }

    /// The same, and shows to `seen` the bytes for each connection, piece by piece.
    ///
    /// # Panics
    ///
    /// As [`Shard::receive`].
    pub fn receive_with(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        mut seen: impl FnMut(ConnId, &[u8]),
    ) {
        self.broker.handle(self.now, Input::Received { conn, bytes });
        self.settle(&mut seen);
    }

    /// Does what the broker asks for until it asks no more.
    fn settle(&mut self, mut seen: impl FnMut(ConnId, &[u8])) {
        loop {
            while let Some(effect) = self.broker.poll_effect() {
                match effect {
                    Effect::Authenticate { conn, .. } => {
                        let verdict = Verdict::Accept { data: None };
                        self.broker.handle(self.now, Input::Authenticated { conn, verdict });
                    }
                    Effect::Transmit(conn) => self.pull(conn, &mut seen),
                    Effect::Handover { .. } => unreachable!("one shard"),
                    Effect::Close { .. } => panic!("the broker closes a connection: {effect:?}"),
                    Effect::Reading { .. }
                    | Effect::Available(_)
                    | Effect::Reply { .. }
                    | Effect::Event(_) => {}
                }
            }
            // Work that did not fit into one call waits for the next.
            if self.broker.poll_timeout().is_none_or(|at| at > self.now) {
                break;
            }
            self.broker.handle(self.now, Input::Timeout);
        }
    }

    /// Bytes sent to all clients so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    fn pull(&mut self, conn: ConnId, seen: &mut impl FnMut(ConnId, &[u8])) {
        let mut more = true;
        while more {
            more = self.broker.transmit(self.now, conn, &mut self.outbox, BUDGET);
            self.sent += self.outbox.len() as u64;
            for piece in self.outbox.slices() {
                seen(conn, piece);
            }
            self.outbox.clear();
        }
    }
}
