//! Several shards with links between them, and their clients.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};

use super::op::{Setup, Spec};
use super::packet;
use super::transport::Transport;
use crate::broker::{
    Boot, Broker, Command, Config, ConnId, ConnInfo, Effect, HandedOver, Input, Outbox, PeerMsg,
    Place, Publication, Verdict,
};
use crate::codec::ReasonCode;
use crate::time::Instant;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A transport is opened on a shard.
    Open { shard: u8 },
    /// A client sends a packet.
    Send { peer: u8, packet: Spec },
    /// The transport is gone.
    Cut { peer: u8 },
    /// A client stops or resumes to read.
    Stall { peer: u8, on: bool },
    /// So many messages arrive on a link.
    Carry { link: u8, count: u8 },
    /// Time passes: so many milliseconds.
    Advance { millis: u32 },
    /// The program publishes.
    Publish { shard: u8, topic: u8, flags: u8 },
    /// A client is thrown out.
    Disconnect { client: u8, end_session: bool },
}

impl Arbitrary<'_> for Op {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? % 32 {
            0 | 1 => Self::Open { shard: u.arbitrary()? },
            2..=15 => Self::Send { peer: u.arbitrary()?, packet: u.arbitrary()? },
            16 => Self::Cut { peer: u.arbitrary()? },
            17 => Self::Stall { peer: u.arbitrary()?, on: u.arbitrary()? },
            18..=27 => Self::Carry { link: u.arbitrary()?, count: u.arbitrary()? },
            28 => Self::Advance { millis: *u.choose(&[1, 100, 3000, 45_000, 4_000_000])? },
            29 | 30 => Self::Publish {
                shard: u.arbitrary()?,
                topic: u.arbitrary()?,
                flags: u.arbitrary()?,
            },
            _ => Self::Disconnect { client: u.arbitrary()?, end_session: u.arbitrary()? },
        })
    }
}

/// A connection and the shard that has it.
struct Peer {
    shard: usize,
    transport: Transport,
}

pub(super) struct World {
    shards: Vec<Broker>,
    /// By sender and receiver.
    links: Vec<Vec<VecDeque<PeerMsg>>>,
    config: Config,
    now: Instant,
    peers: Vec<Peer>,
    tokens: BTreeSet<u64>,
    next_token: u64,
    outbox: Outbox,
}

impl World {
    pub(super) fn new(setup: &Setup, shards: u16) -> Self {
        let now = Instant::from_micros(1_000_000);
        let shard = |shard: u16| {
            let boot = Boot { now, unix_millis: 0, seed: 1 + u64::from(shard), epoch: 1 };
            let place = Place { shard, shards, key: 7 };
            let mut broker = Broker::shard(setup.config.clone(), boot, place);
            broker.record(u64::MAX);
            broker
        };
        let row = || (0..shards).map(|_| VecDeque::new()).collect();
        Self {
            shards: (0..shards).map(shard).collect(),
            links: (0..shards).map(|_| row()).collect(),
            config: setup.config.clone(),
            now,
            peers: Vec::new(),
            tokens: BTreeSet::new(),
            next_token: 0,
            outbox: Outbox::new(),
        }
    }

    /// Does one operation, and all that the shards do by themselves.
    pub(super) fn apply(&mut self, op: &Op) {
        let count = self.shards.len();
        match op {
            Op::Open { shard } => self.open(usize::from(*shard) % count),
            Op::Send { peer, packet } => {
                if self.peers.is_empty() {
                    self.open(usize::from(*peer) % count);
                }
                self.with(*peer, |world, at| {
                    let bytes = packet::bytes(*packet, &world.peers[at].transport.wire);
                    world.deliver(at, &bytes);
                });
            }
            Op::Cut { peer } => self.with(*peer, Self::cut),
            Op::Stall { peer, on } => self.with(*peer, |world, at| world.stall(at, *on)),
            Op::Carry { link, count: most } => {
                let (from, to) = (usize::from(*link) / 8 % count, usize::from(*link) % count);
                for _ in 0..*most {
                    if !self.carry(from, to) {
                        break;
                    }
                }
            }
            Op::Advance { millis } => self.advance((*millis).into()),
            Op::Publish { shard, topic, flags } => {
                let publication = Publication {
                    topic: packet::topic(*topic).to_string(),
                    payload: packet::payload(*flags).into(),
                    qos: packet::qos(*flags),
                    retain: flags & 4 != 0,
                    ..Publication::default()
                };
                let command = Command::Publish(Box::new(publication));
                self.order(usize::from(*shard) % count, command);
            }
            Op::Disconnect { client, end_session } => {
                let client_id = packet::client(*client).to_string();
                let home = usize::from(self.shards[0].place().home(&client_id));
                let (reason, end_session) = (ReasonCode::AdministrativeAction, *end_session);
                self.order(home, Command::Disconnect { client_id, reason, end_session });
            }
        }
        self.settle();
        self.check();
    }

    fn with(&mut self, peer: u8, act: impl FnOnce(&mut Self, usize)) {
        if !self.peers.is_empty() {
            act(self, usize::from(peer) % self.peers.len());
        }
    }

    /// Where a connection stands; nowhere if its transport is gone, but not all that it brought is
    /// handled.
    fn at(&self, shard: usize, id: ConnId) -> Option<usize> {
        self.peers.iter().position(|peer| (peer.shard, peer.transport.id) == (shard, id))
    }

    fn open(&mut self, shard: usize) {
        let Ok(id) = self.shards[shard].open(self.now, ConnInfo::default()) else { return };
        let transport = Transport::new(id, self.config.max_inflight);
        self.peers.push(Peer { shard, transport });
    }

    fn order(&mut self, shard: usize, command: Command) {
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token);
        self.shards[shard].handle(self.now, Input::Command { token, command });
    }

    fn deliver(&mut self, at: usize, bytes: &[u8]) {
        let Peer { shard, transport } = &mut self.peers[at];
        transport.deliver(&mut self.shards[*shard], self.now, bytes);
    }

    fn read(&mut self, at: usize) {
        let Peer { shard, transport } = &mut self.peers[at];
        transport.read(&mut self.shards[*shard], self.now);
    }

    fn cut(&mut self, at: usize) {
        let Peer { shard, transport } = self.peers.remove(at);
        self.shards[shard].handle(self.now, Input::Closed { conn: transport.id });
        self.settle();
    }

    fn stall(&mut self, at: usize, on: bool) {
        let transport = &mut self.peers[at].transport;
        transport.stalled = on;
        if transport.said && !on {
            self.pull_all(at);
        }
    }

    fn pull_all(&mut self, at: usize) {
        let Peer { shard, transport } = &mut self.peers[at];
        transport.pull_all(&mut self.shards[*shard], self.now, &mut self.outbox);
    }

    /// Delivers the first message of a link, in its form as bytes; false if there is none.
    fn carry(&mut self, from: usize, to: usize) -> bool {
        let Some(msg) = self.links[from][to].pop_front() else { return false };
        let mut bytes = Vec::new();
        msg.encode(&mut bytes);
        let msg = PeerMsg::decode(&bytes).expect("what a shard says can be read");
        self.shards[to].peer_message(self.now, from as u16, msg);
        self.settle();
        true
    }

    fn advance(&mut self, millis: u64) {
        self.now = Instant::from_micros(self.now.as_micros() + millis * 1000);
        self.settle();
        let now = self.now;
        let late = |peer: &Peer| peer.transport.closing.is_some_and(|by| by <= now);
        while let Some(at) = self.peers.iter().position(late) {
            self.cut(at);
        }
    }

    /// Does what the shards ask for and what is due, until there is nothing.
    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "never at rest");
            let mut moved = false;
            for shard in 0..self.shards.len() {
                while let Some(effect) = self.shards[shard].poll_effect() {
                    self.effect(shard, effect);
                    moved = true;
                }
                if self.shards[shard].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.shards[shard].handle(self.now, Input::Timeout);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        for from in 0..self.shards.len() {
            let waiting = self.shards[from].peers_waiting();
            for to in (0..self.shards.len()).filter(|to| waiting & 1 << to != 0) {
                let mut batch = Vec::new();
                self.shards[from].take_peer_messages(to as u16, &mut batch);
                self.links[from][to].extend(batch);
            }
        }
    }

    fn effect(&mut self, shard: usize, effect: Effect) {
        match effect {
            Effect::Transmit(id) => {
                let Some(at) = self.at(shard, id) else { return };
                let transport = &mut self.peers[at].transport;
                transport.said = true;
                if !transport.stalled {
                    self.pull_all(at);
                }
            }
            Effect::Reading { conn, on } => {
                let Some(at) = self.at(shard, conn) else { return };
                self.peers[at].transport.reading = on;
                self.read(at);
            }
            Effect::Close { conn, by } => {
                let Some(at) = self.at(shard, conn) else { return };
                let transport = &mut self.peers[at].transport;
                assert_eq!(transport.closing, None, "closed twice");
                transport.closing = Some(by);
            }
            Effect::Authenticate { conn, .. } => {
                let verdict = Verdict::Accept { data: None };
                self.shards[shard].handle(self.now, Input::Authenticated { conn, verdict });
            }
            Effect::Handover { conn, to } => self.hand_over(shard, conn, to.into()),
            Effect::Available(_) => unreachable!("nobody subscribes here"),
            Effect::Reply { token, .. } => {
                assert!(self.tokens.remove(&token), "an answer to no command");
            }
            Effect::Event(_) => {}
        }
    }

    fn hand_over(&mut self, shard: usize, conn: ConnId, to: usize) {
        let moved = self.shards[shard].hand_over(self.now, conn);
        let Some(at) = self.at(shard, conn) else {
            assert_eq!(moved, None, "what is gone cannot be handed over");
            return;
        };
        let HandedOver { opened, bytes } = moved.expect("it was asked for");
        match self.shards[to].open(opened, ConnInfo::default()) {
            Ok(id) => {
                let peer = &mut self.peers[at];
                peer.shard = to;
                let transport = &mut peer.transport;
                (transport.id, transport.reading) = (id, true);
                let rest = core::mem::take(&mut transport.inbox);
                transport.inbox = [bytes, rest].concat();
                self.read(at);
            }
            Err(_) => {
                self.peers.remove(at);
            }
        }
    }

    fn check(&self) {
        for broker in &self.shards {
            broker.check();
            let (stats, config) = (broker.stats(), &self.config);
            assert!(stats.sessions <= u64::from(config.max_sessions));
            assert!(stats.retained <= u64::from(config.max_retained));
            assert!(stats.retained_bytes <= config.max_retained_bytes);
        }
    }

    /// Has the next beat come, if there is one: with it credit comes back where memory is short.
    fn beat(&mut self) -> bool {
        let soon = self.now + Duration::from_millis(100);
        let all = self.shards.iter().filter_map(Broker::poll_timeout);
        let Some(next) = all.filter(|at| *at <= soon).min() else { return false };
        self.now = self.now.max(next);
        self.settle();
        true
    }

    /// All that is on the links arrives; then nobody may wait for another shard.
    fn calm(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "the shards never come to rest");
            let all = 0..self.shards.len();
            let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
            let mut moved = false;
            for (from, to) in pairs {
                moved |= self.carry(from, to);
            }
            if !moved && !self.beat() {
                break;
            }
        }
        assert!(self.shards.iter().all(Broker::is_settled), "a shard waits for ever");
        assert!(self.tokens.is_empty(), "a command without an answer");
    }

    /// Everybody leaves, time passes, and nothing is left. What each shard recorded is done again,
    /// without the others, and must come out the same.
    pub(super) fn end(mut self) {
        for at in 0..self.peers.len() {
            self.stall(at, false);
            self.settle();
        }
        self.calm();
        while !self.peers.is_empty() {
            self.cut(0);
        }
        self.calm();
        // Sessions live for an hour at most.
        self.advance(4_000_000);
        self.calm();
        self.advance(4_000_000);
        self.calm();
        self.check();
        for broker in &self.shards {
            let stats = broker.stats();
            let left = (stats.connections, stats.sessions, stats.subscriptions, stats.queued);
            assert_eq!(left, (0, 0, 0, 0));
        }
        for broker in &mut self.shards {
            let mut recording = Vec::new();
            broker.recorded(&mut recording);
            super::replay(&recording);
        }
    }
}
