//! Two shards as one broker, without sockets and threads: what one says to the other is carried at
//! once.

use fulmar_core::broker::{
    Boot, Broker, Config, ConnId, ConnInfo, Effect, Input, Outbox, PeerMsg, Place, Verdict,
};
use fulmar_core::{Instant, Version};

use crate::packet;

/// How many bytes are pulled at once, as a driver begins.
const BUDGET: usize = 8 * 1024;
const SHARDS: u16 = 2;

/// A broker of two shards, whose clients take everything at once.
pub struct Crossing {
    shards: Vec<Broker>,
    now: Instant,
    outbox: Outbox,
    batch: Vec<PeerMsg>,
    sent: u64,
}

impl Crossing {
    /// A broker with this configuration for both shards together, at [`Instant::ZERO`].
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let now = Instant::ZERO;
        let boot = Boot { now, unix_millis: 0, seed: 1, epoch: 1 };
        let place = |shard| Place { shard, shards: SHARDS, key: 1 };
        let shard = |shard| Broker::shard(config.clone().of_one(SHARDS), boot, place(shard));
        let shards = (0..SHARDS).map(shard).collect();
        Self { shards, now, outbox: Outbox::new(), batch: Vec::new(), sent: 0 }
    }

    /// Connects a client with a clean session to a shard. Its identifier begins with `name`, and
    /// goes on as it must to belong there.
    ///
    /// # Panics
    ///
    /// If the shard refuses the connection.
    pub fn connect(&mut self, shard: u16, version: Version, name: &str) -> ConnId {
        let place = self.shards[0].place();
        let mut ids = (0..).map(|number| format!("{name} {number}"));
        let id = ids.find(|id| place.home(id) == shard).expect("there is one");
        let conn = self.shards[usize::from(shard)].open(self.now, ConnInfo::default());
        let conn = conn.expect("a free connection");
        self.receive(shard, conn, &packet::connect(version, &id, true), |_, _| {});
        conn
    }

    /// Hands over what `conn` sent to its shard, and does what both ask for until they ask no more;
    /// shows to `seen` the bytes for each connection, piece by piece.
    ///
    /// # Panics
    ///
    /// If a shard closes a connection: clients here break no rules.
    pub fn receive(
        &mut self,
        shard: u16,
        conn: ConnId,
        bytes: &[u8],
        mut seen: impl FnMut(ConnId, &[u8]),
    ) {
        self.shards[usize::from(shard)].handle(self.now, Input::Received { conn, bytes });
        let mut moved = true;
        while moved {
            moved = false;
            for at in 0..SHARDS {
                moved |= self.settle(at.into(), &mut seen);
                moved |= self.carry(at, 1 - at);
            }
        }
    }

    /// Bytes sent to all clients so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Does what a shard asks for; false if that is nothing.
    fn settle(&mut self, at: usize, seen: &mut impl FnMut(ConnId, &[u8])) -> bool {
        let mut moved = false;
        while let Some(effect) = self.shards[at].poll_effect() {
            moved = true;
            match effect {
                Effect::Authenticate { conn, .. } => {
                    let verdict = Verdict::Accept { data: None };
                    self.shards[at].handle(self.now, Input::Authenticated { conn, verdict });
                }
                Effect::Transmit(conn) => self.pull(at, conn, seen),
                Effect::Close { .. } | Effect::Handover { .. } => panic!("not here: {effect:?}"),
                Effect::Reading { .. }
                | Effect::Available(_)
                | Effect::Reply { .. }
                | Effect::Event(_) => {}
            }
        }
        // Work that did not fit into one call waits for the next.
        if self.shards[at].poll_timeout().is_some_and(|due| due <= self.now) {
            self.shards[at].handle(self.now, Input::Timeout);
            moved = true;
        }
        moved
    }

    /// Carries what one shard has for another; false if that is nothing.
    fn carry(&mut self, from: u16, to: u16) -> bool {
        if self.shards[usize::from(from)].peers_waiting() == 0 {
            return false;
        }
        self.shards[usize::from(from)].take_peer_messages(to, &mut self.batch);
        for msg in self.batch.drain(..) {
            self.shards[usize::from(to)].peer_message(self.now, from, msg);
        }
        true
    }

    fn pull(&mut self, at: usize, conn: ConnId, seen: &mut impl FnMut(ConnId, &[u8])) {
        let mut more = true;
        while more {
            more = self.shards[at].transmit(self.now, conn, &mut self.outbox, BUDGET);
            self.sent += self.outbox.len() as u64;
            for piece in self.outbox.slices() {
                seen(conn, piece);
            }
            self.outbox.clear();
        }
    }
}
