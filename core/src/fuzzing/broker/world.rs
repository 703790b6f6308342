//! A broker with its driver and its clients, in one place.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::SocketAddr;

use bytes::Bytes;

use super::op::{Decision, Op, Setup, Spec, Wish};
use super::packet;
use super::transport::Transport;
use crate::broker::{
    Boot, Broker, Command, Config, ConnId, ConnInfo, Effect, Event, Input, Outbox, Publication,
    Reply, SubscriberId, Verdict,
};
use crate::codec::ReasonCode;
use crate::time::Instant;

/// One connection, and what was told of it.
struct Peer {
    transport: Transport,
    accepted: bool,
    ended: bool,
}

/// A local subscriber.
struct Local {
    id: SubscriberId,
    available: bool,
}

pub(super) struct World {
    broker: Broker,
    config: Config,
    now: Instant,
    peers: Vec<Peer>,
    locals: Vec<Local>,
    tokens: BTreeSet<u64>,
    next_token: u64,
    decision: Decision,
    /// PUBLISH packets and bytes that clients saw, of connections that are gone.
    published: [u64; 3],
    bytes: u64,
    /// Connections that are reported closed, and whose end was not told: what came before a long
    /// delivery was done is handled first.
    gone: Vec<ConnId>,
    recording: Option<Vec<u8>>,
    outbox: Outbox,
}

impl World {
    pub(super) fn new(setup: &Setup) -> Self {
        let now = Instant::from_micros(1_000_000);
        let boot = Boot { now, unix_millis: 0, seed: 1, epoch: 1 };
        let mut broker = Broker::new(setup.config.clone(), boot);
        if setup.record {
            broker.record(u64::MAX);
        }
        Self {
            broker,
            config: setup.config.clone(),
            now,
            peers: Vec::new(),
            locals: Vec::new(),
            tokens: BTreeSet::new(),
            next_token: 0,
            decision: Decision::Accept,
            published: [0; 3],
            bytes: 0,
            gone: Vec::new(),
            recording: setup.record.then(Vec::new),
            outbox: Outbox::new(),
        }
    }

    /// Does one operation, and all that follows from it.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Open { address } => self.open(*address),
            Op::Send { peer, packet, split } => self.send(*peer, *packet, *split),
            Op::Raw { peer, bytes } => self.with(*peer, |world, at| world.deliver(at, bytes)),
            Op::Cut { peer } => self.with(*peer, Self::cut),
            Op::Stall { peer, on } => self.with(*peer, |world, at| world.stall(at, *on)),
            Op::Transmit { peer, budget } => {
                self.with(*peer, |world, at| world.pull(at, usize::from(*budget) * 8));
            }
            Op::Decide { how } => self.decision = *how,
            Op::Verdict { peer, how } => self.with(*peer, |world, at| world.decide(at, *how)),
            Op::Advance { millis } => self.advance((*millis).into()),
            Op::Timeout => self.handle(Input::Timeout),
            Op::Command(wish) => self.command(*wish),
            Op::Take { subscriber, most } => self.take(*subscriber, *most),
        }
        self.settle();
        self.check();
    }

    fn with(&mut self, peer: u8, act: impl FnOnce(&mut Self, usize)) {
        if !self.peers.is_empty() {
            act(self, usize::from(peer) % self.peers.len());
        }
    }

    fn at(&self, id: ConnId) -> usize {
        let found = self.peers.iter().position(|peer| peer.transport.id == id);
        found.unwrap_or_else(|| panic!("{id:?} is not open"))
    }

    fn handle(&mut self, input: Input<'_>) {
        self.broker.handle(self.now, input);
    }

    fn open(&mut self, address: bool) {
        let remote = SocketAddr::from(([10, 0, 0, u8::from(address)], 1));
        let info = ConnInfo { remote: Some(remote), local: None };
        let result = self.broker.open(self.now, info);
        let Ok(id) = result else { return };
        let other = |open: ConnId| open != id && open.index() != id.index();
        assert!(self.peers.iter().all(|peer| other(peer.transport.id)));
        let transport = Transport::new(id, self.config.max_inflight);
        self.peers.push(Peer { transport, accepted: false, ended: false });
    }

    fn send(&mut self, peer: u8, spec: Spec, split: u8) {
        if self.peers.is_empty() {
            self.open(false);
        }
        self.with(peer, |world, at| {
            let bytes = packet::bytes(spec, &world.peers[at].transport.wire);
            let (first, second) = bytes.split_at(bytes.len().min(usize::from(split >> 3)));
            let id = world.peers[at].transport.id;
            world.deliver(at, first);
            world.settle();
            if let Some(at) = world.peers.iter().position(|peer| peer.transport.id == id) {
                world.deliver(at, second);
            }
        });
    }

    fn deliver(&mut self, at: usize, bytes: &[u8]) {
        self.peers[at].transport.deliver(&mut self.broker, self.now, bytes);
    }

    /// The transport is gone.
    fn cut(&mut self, at: usize) {
        let Peer { transport, ended, .. } = self.peers.remove(at);
        let conn = transport.id;
        for (sum, count) in self.published.iter_mut().zip(transport.wire.published) {
            *sum += count;
        }
        if !ended {
            self.gone.push(conn);
        }
        self.handle(Input::Closed { conn });
        self.settle();
    }

    fn stall(&mut self, at: usize, on: bool) {
        let transport = &mut self.peers[at].transport;
        transport.stalled = on;
        if transport.said && !on {
            self.pull_all(at);
        }
    }

    /// Pulls bytes once.
    fn pull(&mut self, at: usize, budget: usize) {
        let transport = &mut self.peers[at].transport;
        self.bytes += transport.pull(&mut self.broker, self.now, &mut self.outbox, budget);
    }

    fn pull_all(&mut self, at: usize) {
        let transport = &mut self.peers[at].transport;
        self.bytes += transport.pull_all(&mut self.broker, self.now, &mut self.outbox);
    }

    fn decide(&mut self, at: usize, how: Decision) {
        let data = Some(Bytes::from_static(b"data"));
        let verdict = match how {
            Decision::Accept => Verdict::Accept { data: None },
            Decision::AcceptData => Verdict::Accept { data },
            Decision::Continue => Verdict::Continue { data },
            Decision::Refuse => Verdict::Refuse(ReasonCode::NotAuthorized),
            Decision::Later => return,
        };
        let conn = self.peers[at].transport.id;
        self.handle(Input::Authenticated { conn, verdict });
    }

    fn advance(&mut self, millis: u64) {
        self.now = Instant::from_micros(self.now.as_micros() + millis * 1000);
        let mut calls = 0;
        while self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.handle(Input::Timeout);
            self.settle();
            calls += 1;
            assert!(calls < 10_000, "never at rest");
        }
        assert_eq!(self.gone, [], "no word of the end");
        let now = self.now;
        let late = |peer: &Peer| peer.transport.closing.is_some_and(|by| by <= now);
        while let Some(at) = self.peers.iter().position(late) {
            self.cut(at);
        }
    }

    fn command(&mut self, wish: Wish) {
        let command = match wish {
            Wish::Publish { topic, flags, size } => Command::Publish(Box::new(Publication {
                topic: packet::topic(topic).to_string(),
                payload: packet::payload(size).into(),
                qos: packet::qos(flags),
                retain: flags & 4 != 0,
                expiry: (flags & 8 != 0).then_some(u32::from(flags >> 5)),
                ..Publication::default()
            })),
            Wish::Subscribe { first, second, queue } => {
                let pair = |choice| (packet::filter(choice).to_string(), packet::qos(choice >> 4));
                let filters = [pair(first), pair(second)].to_vec();
                Command::Subscribe { filters, queue: queue.into() }
            }
            Wish::Unsubscribe { subscriber } => {
                if self.locals.is_empty() {
                    return;
                }
                let at = usize::from(subscriber) % self.locals.len();
                Command::Unsubscribe(self.locals.remove(at).id)
            }
            Wish::Clients { after, limit } => {
                Command::Clients { after: after.into(), limit: u32::from(limit % 4) }
            }
            Wish::Disconnect { client, end_session } => {
                let client_id = packet::client(client).to_string();
                let reason = ReasonCode::AdministrativeAction;
                Command::Disconnect { client_id, reason, end_session }
            }
            Wish::Stats => Command::Stats,
            Wish::Shutdown => Command::Shutdown,
        };
        self.order(command);
    }

    fn order(&mut self, command: Command) {
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(token);
        self.handle(Input::Command { token, command });
        self.settle();
        assert!(self.tokens.is_empty(), "a command without an answer");
    }

    fn take(&mut self, subscriber: u8, most: u8) {
        if self.locals.is_empty() {
            return;
        }
        let at = usize::from(subscriber) % self.locals.len();
        for _ in 0..most {
            let delivery = self.broker.take(self.now, self.locals[at].id);
            if delivery.is_none() {
                self.locals[at].available = false;
                return;
            }
        }
    }

    /// Does what the broker asks for, until it asks no more.
    fn settle(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Transmit(conn)
                | Effect::Reading { conn, .. }
                | Effect::Authenticate { conn, .. }
                    if self.gone.contains(&conn) => {}
                Effect::Transmit(id) => {
                    let at = self.at(id);
                    let transport = &mut self.peers[at].transport;
                    assert!(!transport.said, "told twice of bytes");
                    transport.said = true;
                    if !transport.stalled {
                        self.pull_all(at);
                    }
                }
                Effect::Reading { conn, on } => {
                    let at = self.at(conn);
                    let transport = &mut self.peers[at].transport;
                    assert_ne!(transport.reading, on, "told twice of reading");
                    transport.reading = on;
                    transport.read(&mut self.broker, self.now);
                }
                Effect::Close { conn, by } => {
                    let at = self.at(conn);
                    let transport = &mut self.peers[at].transport;
                    assert_eq!(transport.closing, None, "closed twice");
                    assert!(by > self.now);
                    transport.closing = Some(by);
                }
                Effect::Authenticate { conn, .. } => self.decide(self.at(conn), self.decision),
                Effect::Handover { .. } => unreachable!("one shard"),
                Effect::Available(id) => {
                    let local = self.locals.iter_mut().find(|local| local.id == id);
                    let local = local.expect("a subscriber that is known");
                    assert!(!local.available, "told twice of messages");
                    local.available = true;
                }
                Effect::Reply { token, reply } => {
                    assert!(self.tokens.remove(&token), "an answer to no command");
                    if let Reply::Subscribed(id) = *reply {
                        self.locals.push(Local { id, available: false });
                    }
                }
                Effect::Event(event) => self.event(&event),
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Connected(connected) => {
                let at = self.at(connected.conn);
                let peer = &mut self.peers[at];
                assert!(!peer.accepted && !peer.ended, "connected twice");
                peer.accepted = true;
            }
            Event::Disconnected(disconnected) => {
                match self.gone.iter().position(|id| *id == disconnected.conn) {
                    Some(at) => {
                        self.gone.remove(at);
                    }
                    None => {
                        let at = self.at(disconnected.conn);
                        let ended = core::mem::replace(&mut self.peers[at].ended, true);
                        assert!(!ended, "ended twice");
                    }
                }
            }
            _ => {}
        }
    }

    fn check(&self) {
        self.broker.check();
        let (stats, config) = (self.broker.stats(), &self.config);
        assert_eq!(stats.connections, (self.peers.len() + self.gone.len()) as u64);
        assert!(stats.connections <= u64::from(config.max_connections));
        assert!(stats.unauthenticated <= u64::from(config.max_unauthenticated));
        assert!(stats.sessions <= u64::from(config.max_sessions));
        assert!(stats.retained <= u64::from(config.max_retained));
        assert!(stats.retained_bytes <= config.max_retained_bytes);
        let mut published = self.published;
        for peer in &self.peers {
            let counts = peer.transport.wire.published;
            published.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        assert_eq!(stats.messages_sent, published);
        assert_eq!(stats.bytes_sent_total, self.bytes);
        let dropped: u64 = stats.messages_dropped.iter().sum();
        assert_eq!(dropped, stats.dropped_by_qos.iter().sum::<u64>());
    }

    /// Everybody leaves, time passes, and nothing is left. Where it was recorded, all is done
    /// again and must come out the same.
    pub(super) fn end(mut self) -> Option<Vec<u8>> {
        for at in 0..self.peers.len() {
            self.stall(at, false);
            self.settle();
        }
        while !self.peers.is_empty() {
            self.cut(0);
        }
        while let Some(local) = self.locals.pop() {
            self.order(Command::Unsubscribe(local.id));
        }
        // Sessions live for an hour at most.
        self.advance(4_000_000);
        self.check();
        for topic in packet::topics() {
            let publication =
                Publication { topic: topic.to_string(), retain: true, ..Publication::default() };
            self.order(Command::Publish(Box::new(publication)));
        }
        while let Some(at) = self.broker.poll_timeout() {
            let millis = at.since(self.now).as_millis() as u64 + 1;
            self.advance(millis);
        }
        let stats = self.broker.stats();
        let left = (stats.connections, stats.sessions, stats.subscriptions, stats.queued);
        assert_eq!(left, (0, 0, 0, 0));
        // Retained messages that fill the budget cannot be cleared by messages.
        if stats.retained == 0 {
            assert_eq!(stats.retained_bytes, 0);
        }
        let mut recording = self.recording.take()?;
        self.broker.recorded(&mut recording);
        super::replay(&recording);
        Some(recording)
    }
}
