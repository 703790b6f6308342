//! A driver without sockets, and a network of queues between the broker and its clients.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use fulmar_core::broker::{
    Boot, Broker, ClientInfo, Command, ConnId, ConnInfo, Connected, DisconnectReason, Disconnected,
    Effect, Event, Input, Outbox, Reply, Verdict,
};
use fulmar_core::{Instant, ReasonCode};

use super::oracle::{Call, Oracle, Violation};
use super::peer::{Peer, Stage};
use super::plan::{Plan, shards};
use super::reading::Reads;
use super::rng::Rng;
use super::shards::Shards;
use super::show;

/// Calls of a run at most: some fifty times as many as most runs need.
const MOST_CALLS: u64 = 200_000;

/// A connection as the driver and the network see it.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) peer: usize,
    remote: Option<SocketAddr>,
    pub(super) to_broker: VecDeque<u8>,
    pub(super) to_client: VecDeque<u8>,
    /// `Transmit` was said, and not answered with "nothing more".
    pub(super) want: bool,
    pub(super) paused: bool,
    /// The broker waits for the driver's decision.
    pub(super) asks: bool,
    /// The broker closes it; the driver gives up by then.
    closing: Option<Instant>,
    /// The number of its acceptance: one call may accept several that waited for each other.
    pub(super) accepted: u64,
    /// The client's sending half is closed.
    pub(super) half: bool,
    /// The client is gone, with all that was under way.
    pub(super) gone: bool,
}

/// Broker, oracle, clients and what is between them.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) shards: Shards,
    pub(super) oracle: Oracle,
    pub(super) peers: Vec<Peer>,
    pub(super) links: BTreeMap<ConnId, Link>,
    pub(super) reads: Reads,
    /// Of whom more was read than is handed over; one within the reading of another.
    pub(super) reading: Vec<ConnId>,
    pub(super) outbox: Outbox,
    /// The number of the last message.
    pub(super) key: u64,
    token: u64,
    /// Commands of several shards that are not answered, with the shard and the key of the
    /// message, if it is one that has a number.
    pub(super) asked: BTreeMap<u64, (usize, u64)>,
    /// Clients accepted so far.
    accepted: u64,
    /// Connections to be handed over.
    moving: Vec<(ConnId, usize)>,
    /// Calls to the broker.
    pub(super) calls: u64,
    /// Lines that tell what happened, where they are wanted.
    pub(super) trace: Option<Vec<String>>,
    pub(super) calm: bool,
}

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut plan = Plan::draw(&mut rng, shards(seed));
        plan.enlarge(seed);
        let now = Instant::from_micros(rng.below(1_000_000));
        let boot = Boot { now, unix_millis: 0, seed: rng.next(), epoch: 1 };
        // Everybody has to find room in the end.
        let most = Shards::most_at_home(boot, plan.shards, plan.clients) as u32 + 1;
        plan.config.max_connections = plan.config.max_connections.max(most);
        let mut peer = |number| {
            let peer = Peer::new(number, number < plan.rude, *rng.pick(&plan.versions));
            let ours = number >= plan.clients - plan.ours;
            if ours { peer.with_machine(&mut rng) } else { peer }
        };
        let peers = (0..plan.clients).map(&mut peer).collect();
        let all = Shards::new(&plan.config, boot, plan.shards);
        Self {
            oracle: Oracle::new(plan.config.clone(), all.brokers[0].place()),
            shards: all,
            rng,
            now,
            peers,
            links: BTreeMap::new(),
            reads: Reads::new(seed),
            reading: Vec::new(),
            outbox: Outbox::new(),
            key: 0,
            token: 0,
            asked: BTreeMap::new(),
            accepted: 0,
            moving: Vec::new(),
            calls: 0,
            trace: trace.then(Vec::new),
            calm: false,
            plan,
        }
    }

    pub(super) fn found(&self) -> Option<Violation> {
        self.oracle.found().cloned()
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12} {}", self.now.as_micros(), line()));
        }
    }

    /// Whether the next message must be refused for want of memory, which is known of one shard.
    fn is_full(&self) -> bool {
        let budget = self.plan.config.shard_budget;
        self.shards.len() == 1
            && self.plan.tight
            && self.shards.stats().used_bytes > budget / 100 * 95
    }

    pub(super) fn begin(&mut self, call: Call) {
        self.calls += 1;
        if self.calls > MOST_CALLS {
            self.oracle.complain("calls", "no end: broker and clients go on for ever");
        }
        let full = self.is_full();
        self.oracle.begin(self.now, call, full);
        self.look(true);
    }

    /// Shows the oracle how far each of several shards is used up.
    fn look(&mut self, before: bool) {
        if self.shards.len() > 1 {
            self.oracle.look(self.shards.figures(), before);
        }
    }

    /// Takes the effects of a call, shows them to the oracle and remembers what is to be done.
    pub(super) fn effects(&mut self) -> Option<Reply> {
        let mut answer = None;
        self.look(false);
        for shard in 0..self.shards.len() {
            self.oracle.turn_to(shard);
            answer = self.effects_of(shard).or(answer);
        }
        self.shards.collect(self.now);
        answer
    }

    fn effects_of(&mut self, shard: usize) -> Option<Reply> {
        let broker = &mut self.shards.brokers[shard];
        let effects: Vec<Effect> = std::iter::from_fn(|| broker.poll_effect()).collect();
        let mut answer = None;
        for at in 0..effects.len() {
            let effect = &effects[at];
            self.note(|| match effect {
                Effect::Event(event) => format!("  {event:?}"),
                Effect::Transmit(conn) => format!("  Transmit {}", name(*conn)),
                Effect::Reply { .. } => "  Reply".to_string(),
                other => format!("  {other:?}"),
            });
            self.oracle.effect(effect, effects.get(at + 1));
            match effect {
                Effect::Transmit(conn) => self.link(*conn, |link| link.want = true),
                Effect::Reading { conn, on } => self.link(*conn, |link| link.paused = !on),
                Effect::Authenticate { conn, .. } => self.link(*conn, |link| link.asks = true),
                Effect::Close { conn, by } => {
                    self.link(*conn, |link| (link.closing, link.asks) = (Some(*by), false));
                }
                Effect::Event(Event::Connected(connected)) => self.accepted(connected),
                Effect::Event(Event::Disconnected(ended)) => self.check_end(ended),
                Effect::Reply { token, reply } => match self.asked.remove(token) {
                    Some((asked, key)) if key > 0 => {
                        self.oracle.settle_command(key, asked, reply);
                    }
                    None if *token == self.token => answer = Some((**reply).clone()),
                    _ => {}
                },
                Effect::Handover { conn, to } => self.moving.push((*conn, usize::from(*to))),
                _ => {}
            }
        }
        answer
    }

    /// The client machine breaks no rule.
    fn check_end(&mut self, ended: &Disconnected) {
        let DisconnectReason::Protocol(error) = &ended.why else { return };
        let link = self.links.get(&ended.conn);
        if let Some(peer) = link.map(|link| &self.peers[link.peer])
            && peer.ours.is_some()
        {
            let what = format!("{} broke a rule: {error}", peer.id);
            self.oracle.complain("client machine", &what);
        }
    }

    fn accepted(&mut self, connected: &Connected) {
        self.accepted += 1;
        let number = self.accepted;
        self.link(connected.conn, |link| link.accepted = number);
        if !connected.session_present
            && let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == *connected.client_id)
        {
            peer.reborn.push(number);
        }
    }

    pub(super) fn link(&mut self, conn: ConnId, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(&conn) {
            change(link);
        }
    }

    pub(super) fn end(&mut self) {
        let next = self.shards.poll_timeout();
        self.oracle.end(next);
        self.move_on();
    }

    /// Connections that belong to other shards go there, unless more of them may have been read.
    pub(super) fn move_on(&mut self) {
        while self.reading.is_empty()
            && self.found().is_none()
            && let Some((conn, to)) = self.moving.pop()
        {
            self.hand_over(conn, to);
        }
    }

    /// A connection goes to another shard, with what it brought.
    fn hand_over(&mut self, conn: ConnId, to: usize) {
        let Some(link) = self.links.get(&conn) else { return };
        let info = ConnInfo { remote: link.remote, local: None };
        let Some(moved) = self.shards.of(conn).hand_over(self.now, conn) else { return };
        let opened = self.shards.open(moved.opened, to, info);
        let address = info.remote.map(|remote| remote.ip());
        self.oracle.refused_open(to, address, opened.err());
        let Ok(new) = opened else {
            self.note(|| format!("{} finds no room on shard {to}: {opened:?}", name(conn)));
            return self.turn_away(conn);
        };
        self.note(|| format!("{} is {} now", name(conn), name(new)));
        self.oracle.moved(conn, new, to);
        if let Some(link) = self.links.remove(&conn) {
            let peer = &mut self.peers[link.peer];
            peer.link = if peer.link == Some(conn) { Some(new) } else { peer.link };
            self.links.insert(new, link);
        }
        self.begin(Call::Received(new));
        self.oracle.brought(new, &moved.bytes);
        self.shards.of(new).handle(self.now, Input::Received { conn: new, bytes: &moved.bytes });
        self.effects();
        self.end();
    }

    /// A connection that another shard has no room for: the driver closes it without a word.
    fn turn_away(&mut self, conn: ConnId) {
        self.oracle.turned_away(conn);
        if let Some(link) = self.links.remove(&conn)
            && self.peers[link.peer].link == Some(conn)
        {
            self.lose(link.peer);
        }
    }

    /// A client opens a connection and sends CONNECT. False if the broker has no room.
    pub(super) fn connect(&mut self, peer: usize) -> bool {
        let remote = (!peer.is_multiple_of(3))
            .then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, peer as u8 & 1)), 1883));
        let address = remote.map(|remote| remote.ip());
        self.begin(Call::Command);
        let mut shard = 0;
        if self.shards.len() > 1 {
            let home = self.shards.home(&self.peers[peer].id);
            let any = self.rng.index(self.shards.len());
            shard = if self.rng.chance(500) { home } else { any };
        }
        let opened = self.shards.open(self.now, shard, ConnInfo { remote, local: None });
        self.note(|| match opened {
            Ok(conn) => format!("c{peer} opens {}", name(conn)),
            Err(error) => format!("c{peer} is refused, {error:?}"),
        });
        self.oracle.refused_open(shard, address, opened.err());
        if let Ok(conn) = opened {
            self.oracle.opened(conn, address, shard);
        }
        self.effects();
        self.end();
        let Ok(conn) = opened else { return false };
        self.key += 1;
        if self.peers[peer].ours.is_some() {
            self.lose(peer);
        }
        let (now, key, calm) = (self.now, self.key, self.calm);
        let bytes = self.peers[peer].connect(&mut self.rng, &self.plan, now, key, calm);
        let bytes = self.hurry(peer, bytes);
        self.links.insert(conn, Link { peer, remote, ..Link::default() });
        self.peers[peer].link = Some(conn);
        self.send(peer, &bytes);
        true
    }

    /// A client hands bytes to its network.
    pub(super) fn send(&mut self, peer: usize, bytes: &[u8]) {
        let now = self.now;
        let Some(conn) = self.peers[peer].link.filter(|_| !bytes.is_empty()) else { return };
        self.peers[peer].spoke = now;
        let version = self.peers[peer].version;
        self.note(|| format!("c{peer} sends{}", show::packets(version, bytes)));
        self.link(conn, |link| {
            if !link.half && !link.gone {
                link.to_broker.extend(bytes);
            }
        });
    }

    /// Tells the broker that a connection is gone, if it is. True if so.
    pub(super) fn hang_up(&mut self, conn: ConnId) -> bool {
        let now = self.now;
        let Some(link) = self.links.get_mut(&conn) else { return false };
        let drained = link.to_broker.is_empty() || link.closing.is_some();
        let said = link.closing.is_some() && !link.want && link.to_client.is_empty();
        let late = link.closing.is_some_and(|by| by <= now);
        if !(link.gone || link.half && drained || said || late) {
            return false;
        }
        let (peer, link) = (link.peer, self.links.remove(&conn));
        if let Some(link) = link
            && !link.gone
        {
            let rest: Vec<u8> = link.to_client.into_iter().collect();
            self.deliver(peer, conn, link.accepted, &rest);
        }
        self.begin(Call::Closed(conn));
        self.note(|| format!("{} closed", name(conn)));
        self.shards.of(conn).handle(self.now, Input::Closed { conn });
        self.effects();
        self.oracle.closed(conn);
        self.end();
        if self.peers[peer].link == Some(conn) {
            self.lose(peer);
        }
        true
    }

    /// A client notices that it has no connection any more.
    fn lose(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        peer.link = None;
        if let Some(ours) = &mut peer.ours {
            ours.lose(self.now);
            self.hear(number, 0);
        }
        let peer = &mut self.peers[number];
        if peer.stage != Stage::GivenUp {
            peer.stage = Stage::Away;
        }
        peer.acks.clear();
    }

    /// A client lets go of its connection: it vanishes, or only its sending half is closed.
    pub(super) fn drop_link(&mut self, peer: usize, half: bool) {
        let Some(conn) = self.peers[peer].link else { return };
        self.note(|| format!("c{peer} drops {}, half {half}", name(conn)));
        self.link(conn, |link| {
            if half {
                link.half = true;
            } else {
                link.gone = true;
                link.to_broker.clear();
                link.to_client.clear();
            }
        });
        if !half {
            self.lose(peer);
        }
    }

    /// The client's other connections vanish.
    pub(super) fn drop_old_links(&mut self) {
        let peers = &self.peers;
        for (conn, link) in &mut self.links {
            link.gone |= peers[link.peer].link != Some(*conn);
        }
    }

    /// Answers a question of the broker, if it has one. True if so.
    pub(super) fn decide(&mut self, conn: ConnId, refuse: bool) -> bool {
        let Some(link) = self.links.get_mut(&conn).filter(|link| link.asks) else { return false };
        link.asks = false;
        self.begin(Call::Decided(conn));
        let verdict = match refuse {
            true => Verdict::Refuse(ReasonCode::NotAuthorized),
            false => Verdict::Accept { data: None },
        };
        self.note(|| format!("{} {verdict:?}", name(conn)));
        if refuse {
            self.oracle.refuse(conn);
        }
        self.shards.of(conn).handle(self.now, Input::Authenticated { conn, verdict });
        self.effects();
        self.end();
        true
    }

    /// Calls the broker as if its time had come.
    pub(super) fn fire(&mut self) {
        self.begin(Call::Timeout);
        self.note(|| "timeout".to_string());
        for broker in &mut self.shards.brokers {
            broker.handle(self.now, Input::Timeout);
        }
        self.effects();
        self.oracle.expire_retained();
        self.end();
    }

    /// Whether a deadline of the broker has come.
    pub(super) fn is_due(&self) -> bool {
        self.shards.poll_timeout().is_some_and(|at| at <= self.now)
    }

    /// Asks a shard for something. `prepare` tells the oracle.
    pub(super) fn command(
        &mut self,
        shard: usize,
        command: Command,
        prepare: impl FnOnce(&mut Oracle),
    ) -> Option<Reply> {
        self.token += 1;
        self.begin(Call::Command);
        self.note(|| format!("{command:?}"));
        prepare(&mut self.oracle);
        let key = match &command {
            Command::Publish(publication) => Oracle::key(&publication.payload),
            _ => 0,
        };
        let input = Input::Command { token: self.token, command };
        self.shards.brokers[shard].handle(self.now, input);
        let reply = self.effects();
        self.end();
        if reply.is_none() && self.shards.len() > 1 {
            self.asked.insert(self.token, (shard, key));
        } else if reply.is_none() {
            self.oracle.complain("commands", "no answer");
        }
        reply
    }

    /// Compares the lists of the broker with the oracle's, at rest or at any time.
    pub(super) fn audit(&mut self, rest: bool) {
        let mut clients: Vec<ClientInfo> = Vec::new();
        for shard in 0..self.shards.len() {
            let reply = self.command(shard, Command::Clients { after: 0, limit: 100 }, |_| {});
            if let Some(Reply::Clients { clients: more, .. }) = reply {
                clients.extend(more);
            }
        }
        let stats = self.shards.stats();
        self.oracle.check_stats(&stats);
        for (shard, broker) in self.shards.brokers.iter().enumerate() {
            self.oracle.check_shard(shard, &broker.stats());
        }
        self.oracle.check_clients(&clients, &stats, rest);
    }

    /// Has the broker compare its accounts with what it has.
    pub(super) fn recount(&mut self) {
        if self.found().is_some() {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
            self.shards.brokers.iter().for_each(Broker::check);
        })) {
            self.oracle.complain("recount", &super::text_of(&*panic));
        }
    }

    /// Connections, in order.
    pub(super) fn conns(&self) -> Vec<ConnId> {
        self.links.keys().copied().collect()
    }
}

/// A connection as a number.
pub(super) fn name(conn: ConnId) -> String {
    let text = format!("{conn:?}");
    let digits = |c: char| c.is_ascii_digit();
    let numbers: Vec<&str> = text.split(|c| !digits(c)).filter(|part| !part.is_empty()).collect();
    format!("#{}", numbers.join("."))
}
