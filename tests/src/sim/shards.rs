//! Several shards in one thread: the links between them, which connection is on which, sums.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fulmar_core::Instant;
use fulmar_core::broker::{
    Boot, Broker, Config, ConnId, ConnInfo, OpenError, PeerMsg, Place, Stats,
};
use fulmar_core::topic::matches;

use super::oracle::{Call, Figures};
use super::peer::{Peer, Stage, name};
use super::rng::Rng;
use super::world::World;

/// One direction between two shards: messages keep their order, each takes its time.
#[derive(Default)]
struct Lane {
    /// Microseconds that each message takes, and at most so many more.
    least: u64,
    more: u64,
    under_way: VecDeque<(Instant, PeerMsg)>,
}

/// The shards and what is between them.
pub(super) struct Shards {
    pub(super) brokers: Vec<Broker>,
    lanes: Vec<Vec<Lane>>,
    /// The shard of each connection.
    conns: BTreeMap<ConnId, usize>,
    delays: Rng,
    /// What clients do only where there are several.
    company: Rng,
}

impl Shards {
    /// One shard draws nothing beside.
    pub(super) fn new(config: &Config, boot: Boot, shards: u16) -> Self {
        let mut delays = Rng::new(boot.seed);
        let key = delays.next();
        let shard = |shard| {
            let boot = Boot { seed: boot.seed ^ u64::from(shard), ..boot };
            match shards {
                1 => Broker::new(config.clone(), boot),
                _ => Broker::shard(config.clone(), boot, Place { shard, shards, key }),
            }
        };
        let brokers: Vec<Broker> = (0..shards).map(shard).collect();
        let mut lane = || {
            let least = *delays.pick(&[0, 10, 500, 5_000]);
            let more = *delays.pick(&[0, 10, 1_000, 20_000]);
            Lane { least, more, under_way: VecDeque::new() }
        };
        let mut row = || (0..shards).map(|_| lane()).collect();
        let lanes = (0..shards).map(|_| row()).collect();
        let company = Rng::new(boot.seed ^ 0xc09);
        Self { brokers, lanes, conns: BTreeMap::new(), delays, company }
    }

    /// Clients that one shard has at most, of so many.
    pub(super) fn most_at_home(boot: Boot, shards: u16, clients: usize) -> usize {
        let place = Place { shard: 0, shards, key: Rng::new(boot.seed).next() };
        let mut homes = vec![0; usize::from(shards)];
        (0..clients).for_each(|n| homes[usize::from(place.home(&name(n)))] += 1);
        homes.into_iter().max().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.brokers.len()
    }

    pub(super) fn home(&self, client_id: &str) -> usize {
        usize::from(self.brokers[0].place().home(client_id))
    }

    /// The shard a connection is on.
    pub(super) fn of(&mut self, conn: ConnId) -> &mut Broker {
        let shard = self.conns.get(&conn).copied().unwrap_or(0);
        &mut self.brokers[shard]
    }

    pub(super) fn open(
        &mut self,
        now: Instant,
        shard: usize,
        info: ConnInfo,
    ) -> Result<ConnId, OpenError> {
        let conn = self.brokers[shard].open(now, info)?;
        if self.len() > 1 {
            self.conns.insert(conn, shard);
        }
        Ok(conn)
    }

    /// The sum of all.
    pub(super) fn stats(&self) -> Stats {
        let mut sum = self.brokers[0].stats();
        self.brokers[1..].iter().for_each(|broker| sum.add(&broker.stats()));
        sum
    }

    /// How far each is used up.
    pub(super) fn figures(&self) -> impl Iterator<Item = Figures> {
        self.brokers.iter().map(|broker| {
            let Stats { retained, retained_bytes, used_bytes: used, .. } = broker.stats();
            Figures { retained, retained_bytes, used }
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.brokers.iter().filter_map(Broker::poll_timeout).min()
    }

    /// What the shards have to say to each other goes on its way.
    pub(super) fn collect(&mut self, now: Instant) {
        for from in 0..self.len() {
            let waiting = self.brokers[from].peers_waiting();
            for to in (0..self.len()).filter(|to| waiting & 1 << to != 0) {
                let mut messages = Vec::new();
                self.brokers[from].take_peer_messages(to as u16, &mut messages);
                let lane = &mut self.lanes[from][to];
                for msg in messages {
                    let last = lane.under_way.back().map_or(Instant::ZERO, |(at, _)| *at);
                    let micros = lane.least + self.delays.range(0, lane.more);
                    let at = last.max(now + Duration::from_micros(micros));
                    lane.under_way.push_back((at, msg));
                }
            }
        }
    }

    /// When the next message arrives, if one is under way.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let lanes = self.lanes.iter().flatten();
        lanes.filter_map(|lane| lane.under_way.front()).map(|(at, _)| *at).min()
    }

    /// Messages that have arrived, as pairs of shards, each once.
    fn arrived(&self, now: Instant) -> Vec<(usize, usize)> {
        let all = (0..self.len()).flat_map(|a| (0..self.len()).map(move |b| (a, b)));
        let first = |(a, b): &(usize, usize)| self.lanes[*a][*b].under_way.front();
        all.filter(|pair| first(pair).is_some_and(|(at, _)| *at <= now)).collect()
    }
}

impl World {
    /// Delivers one message between two shards that has arrived. False if there is none.
    pub(super) fn carry_between(&mut self) -> bool {
        let arrived = self.shards.arrived(self.now);
        if arrived.is_empty() {
            return false;
        }
        let (from, to) = *self.rng.pick(&arrived);
        let Some((_, msg)) = self.shards.lanes[from][to].under_way.pop_front() else {
            return false;
        };
        self.note(|| format!("{from} -> {to} {msg:?}"));
        // In its form as bytes, too.
        let mut bytes = Vec::new();
        msg.encode(&mut bytes);
        self.begin(Call::Peer);
        self.oracle.charge_peer(bytes.len());
        match PeerMsg::decode(&bytes) {
            Some(msg) => self.shards.brokers[to].peer_message(self.now, from as u16, msg),
            None => self.oracle.complain("peers", &format!("cannot be read: {bytes:?}")),
        }
        self.effects();
        self.end();
        true
    }

    /// SUBACK was sent on a connection: somebody on another shard publishes at that very moment
    /// what was subscribed to, mostly, and that must arrive.
    pub(super) fn greet(&mut self, conn: ConnId) {
        let stood = self.oracle.take_stood();
        let here = self.shards.conns.get(&conn).copied();
        if self.shards.len() == 1 || self.calm {
            return;
        }
        for filter in stood {
            let topics: Vec<&'static str> =
                self.plan.topics.iter().copied().filter(|topic| matches(&filter, topic)).collect();
            let far = |peer: &Peer| Some(self.shards.home(&peer.id)) != here;
            let others: Vec<usize> = (0..self.peers.len())
                .filter(|n| self.peers[*n].stage == Stage::On && far(&self.peers[*n]))
                .collect();
            if topics.is_empty() || others.is_empty() || self.rng.chance(200) {
                continue;
            }
            let (number, topic) = (*self.rng.pick(&others), *self.rng.pick(&topics));
            self.key += 1;
            let (rng, plan) = (&mut self.rng, &self.plan);
            let peer = &mut self.peers[number];
            let bytes = peer.publish_to(rng, plan, self.now, self.key, Some(topic));
            let theirs = peer.link;
            self.hear(number, 0);
            self.send(number, &bytes);
            if let Some(theirs) = theirs {
                self.carry_in(theirs, usize::MAX);
            }
        }
    }

    /// Two clients at home on one shard sometimes subscribe at the same moment to the same filter,
    /// mostly one that is new to the others: the second one must wait as long as the first.
    pub(super) fn subscribe_together(&mut self, number: usize) {
        if self.shards.len() == 1 || !self.shards.company.chance(60) {
            return;
        }
        let topic = *self.shards.company.pick(&self.plan.topics);
        let filter = variant(&mut self.shards.company, topic);
        let home = |n: usize| self.shards.home(&self.peers[n].id);
        let near = |n: &usize| self.peers[*n].stage == Stage::On && home(*n) == home(number);
        let all = (number..self.peers.len()).chain(0..number);
        let both: Vec<usize> = all.filter(near).take(2).collect();
        for number in both {
            let bytes = self.peers[number].subscribe_live(self.now, &filter);
            self.hear(number, 0);
            self.send(number, &bytes);
            if let Some(conn) = self.peers[number].link {
                self.carry_in(conn, usize::MAX);
            }
        }
    }

    /// At rest nobody waits for another shard.
    pub(super) fn check_peers(&mut self) {
        let idle = |broker: &Broker| broker.is_settled();
        if let Some(shard) = self.shards.brokers.iter().position(|broker| !idle(broker)) {
            self.oracle.complain("peers", &format!("shard {shard} waits for ever"));
        }
    }
}

/// A filter that matches the topic, one of many.
fn variant(rng: &mut Rng, topic: &str) -> String {
    let level = |level| if !topic.starts_with('$') && rng.chance(400) { "+" } else { level };
    let filter = topic.split('/').map(level).collect::<Vec<&str>>().join("/");
    if rng.chance(300) { filter + "/#" } else { filter }
}
