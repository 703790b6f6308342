//! Several shards in one thread, with links that the test moves message by message.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fulmar_core::broker::{
    Boot, Broker, Command, Config, ConnInfo, Effect, Event, Input, Outbox, Outcome, PeerMsg, Place,
    Recording, Replay, Reply, Step, SubscriberId, Verdict,
};
use fulmar_core::codec::{
    Ack, Connect, Filters, Packet, PacketId, Properties, Property, Publish, Qos, ReasonCode,
    Subscribe, SubscriptionOptions, TopicFilters, Unsubscribe, Version, Will, decode, split,
};
use fulmar_core::{ConnId, Instant};

const KEY: u64 = 0x1234_5678;

pub(crate) const Q0: Qos = Qos::AtMostOnce;
pub(crate) const Q1: Qos = Qos::AtLeastOnce;
pub(crate) const Q2: Qos = Qos::ExactlyOnce;

/// A connection of a client on the shard that has its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    pub(crate) shard: usize,
    pub(crate) conn: ConnId,
}

/// A message as a client got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
}

/// All that came out for one connection.
#[derive(Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    /// Acknowledgements of a client that is silent.
    owed: Vec<u8>,
    pub(crate) messages: Vec<Got>,
    /// Everything else, in order.
    pub(crate) packets: Vec<(&'static str, u16, u8)>,
}

pub(crate) struct World {
    pub(crate) shards: Vec<Broker>,
    /// By sender and receiver.
    pub(crate) links: Vec<Vec<VecDeque<PeerMsg>>>,
    pub(crate) now: Instant,
    pub(crate) out: BTreeMap<Client, Out>,
    pub(crate) closed: Vec<Client>,
    pub(crate) events: Vec<Event>,
    pub(crate) replies: BTreeMap<u64, Reply>,
    pub(crate) paused: Vec<Client>,
    /// Clients that acknowledge nothing.
    pub(crate) silent: Vec<Client>,
    /// Connections that came to the wrong shard, with the shard they belong to.
    pub(crate) moving: Vec<(Client, usize)>,
    /// Bytes of all messages that crossed a link.
    pub(crate) crossed: u64,
    token: u64,
}

impl World {
    pub(crate) fn new(shards: u16) -> Self {
        Self::with(shards, Config::default())
    }

    pub(crate) fn with(shards: u16, config: Config) -> Self {
        let now = Instant::ZERO;
        let shard = |shard: u16| {
            let boot = Boot { now, unix_millis: 0, seed: 1 + u64::from(shard), epoch: 1 };
            let place = Place { shard, shards, key: KEY };
            let mut broker = Broker::shard(config.clone(), boot, place);
            broker.record(u64::MAX);
            broker
        };
        let row = || (0..shards).map(|_| VecDeque::new()).collect();
        Self {
            shards: (0..shards).map(shard).collect(),
            links: (0..shards).map(|_| row()).collect(),
            now,
            out: BTreeMap::new(),
            closed: Vec::new(),
            events: Vec::new(),
            replies: BTreeMap::new(),
            paused: Vec::new(),
            silent: Vec::new(),
            moving: Vec::new(),
            crossed: 0,
            token: 0,
        }
    }

    /// A name whose session lives on a shard.
    pub(crate) fn name(&self, shard: usize, what: &str) -> String {
        self.find(what, |place, name| usize::from(place.home(name)) == shard)
    }

    /// A topic whose retained message lives on a shard.
    pub(crate) fn topic(&self, shard: usize, what: &str) -> String {
        self.find(what, |place, name| usize::from(place.owner(name)) == shard)
    }

    fn find(&self, what: &str, fits: impl Fn(Place, &str) -> bool) -> String {
        let place = self.shards[0].place();
        let names = (0..).map(|n| format!("{what}{n}"));
        names.into_iter().find(|name| fits(place, name)).expect("there is one")
    }

    pub(crate) fn connect(&mut self, shard: usize, what: &str) -> Client {
        let name = self.name(shard, what);
        self.connect_as(Connect { clean_start: true, ..hello(&name) })
    }

    /// On the shard that has its session, with CONNACK thrown away.
    pub(crate) fn connect_as(&mut self, connect: Connect<'_>) -> Client {
        let shard = usize::from(self.shards[0].place().home(connect.client_id));
        let client = self.open(shard);
        self.send(client, &[Packet::Connect(connect)]);
        client
    }

    /// A client that subscribes and goes, whose session stays; gives its name.
    pub(crate) fn leave_session(&mut self, shard: usize, what: &str, text: &str) -> String {
        let stays = [Property::SessionExpiryInterval(1000)];
        let name = self.name(shard, what);
        let properties = Properties::list(&stays);
        let client = self.connect_as(Connect { properties, ..hello(&name) });
        self.send(client, &[subscribe(&filter(text, Q1))]);
        self.settle();
        self.hang_up(client);
        name
    }

    pub(crate) fn open(&mut self, shard: usize) -> Client {
        let conn = self.shards[shard].open(self.now, ConnInfo::default()).expect("room");
        let client = Client { shard, conn };
        self.out.insert(client, Out::default());
        client
    }

    /// Sends packets of 5.0, and does what the shard does at once; links stand still.
    pub(crate) fn send(&mut self, client: Client, packets: &[Packet<'_>]) {
        let mut bytes = Vec::new();
        for packet in packets {
            packet.append(Version::V5, &mut bytes).expect("a packet that can be sent");
        }
        self.send_bytes(client, &bytes);
    }

    pub(crate) fn send_bytes(&mut self, client: Client, bytes: &[u8]) {
        let input = Input::Received { conn: client.conn, bytes };
        self.shards[client.shard].handle(self.now, input);
        self.turn(client.shard);
    }

    /// A silent client acknowledges what it has; false if that is nothing.
    pub(crate) fn acknowledge(&mut self, client: Client) -> bool {
        let owed = self.out.get_mut(&client).map(|out| std::mem::take(&mut out.owed));
        let owed = owed.unwrap_or_default();
        self.send_bytes(client, &owed);
        !owed.is_empty()
    }

    pub(crate) fn hang_up(&mut self, client: Client) {
        let input = Input::Closed { conn: client.conn };
        self.shards[client.shard].handle(self.now, input);
        self.turn(client.shard);
    }

    pub(crate) fn command(&mut self, shard: usize, command: Command) -> u64 {
        self.token += 1;
        let token = self.token;
        self.shards[shard].handle(self.now, Input::Command { token, command });
        self.turn(shard);
        token
    }

    /// Everything a shard does by itself; what it says to others is put on the links.
    pub(crate) fn turn(&mut self, shard: usize) {
        loop {
            self.effects(shard);
            let due = self.shards[shard].poll_timeout().is_some_and(|at| at <= self.now);
            if !due {
                break;
            }
            self.shards[shard].handle(self.now, Input::Timeout);
        }
        let waiting = self.shards[shard].peers_waiting();
        assert_eq!(waiting & 1 << shard, 0, "a shard speaks to itself");
        for to in (0..self.shards.len()).filter(|to| waiting & 1 << to != 0) {
            let mut messages = Vec::new();
            self.shards[shard].take_peer_messages(to as u16, &mut messages);
            self.links[shard][to].extend(messages);
        }
        assert_eq!(self.shards[shard].peers_waiting(), 0, "nothing waits after it was fetched");
    }

    fn effects(&mut self, shard: usize) {
        while let Some(effect) = self.shards[shard].poll_effect() {
            let of = |conn| Client { shard, conn };
            match effect {
                Effect::Transmit(conn) => self.pull(of(conn)),
                Effect::Authenticate { conn, .. } => {
                    let verdict = Verdict::Accept { data: None };
                    let input = Input::Authenticated { conn, verdict };
                    self.shards[shard].handle(self.now, input);
                }
                Effect::Close { conn, .. } => self.closed.push(of(conn)),
                Effect::Reading { conn, on: true } => {
                    self.paused.retain(|client| *client != of(conn));
                }
                Effect::Reading { conn, on: false } => self.paused.push(of(conn)),
                Effect::Handover { conn, to } => self.moving.push((of(conn), usize::from(to))),
                Effect::Available(_) => {}
                Effect::Reply { token, reply } => {
                    self.replies.insert(token, *reply);
                }
                Effect::Event(event) => self.events.push(event),
            }
        }
    }

    fn pull(&mut self, client: Client) {
        let mut outbox = Outbox::new();
        let broker = &mut self.shards[client.shard];
        let mut more = true;
        let out = self.out.entry(client).or_default();
        while more {
            more = broker.transmit(self.now, client.conn, &mut outbox, 8192);
            outbox.slices().for_each(|slice| out.bytes.extend_from_slice(slice));
            outbox.clear();
        }
        let acks = out.read();
        if self.silent.contains(&client) {
            out.owed.extend(acks);
        } else if !acks.is_empty() {
            let input = Input::Received { conn: client.conn, bytes: &acks };
            self.shards[client.shard].handle(self.now, input);
        }
    }

    /// Delivers the first message of a link; false if there is none.
    pub(crate) fn step(&mut self, from: usize, to: usize) -> bool {
        let Some(msg) = self.links[from][to].pop_front() else { return false };
        let mut bytes = Vec::new();
        msg.encode(&mut bytes);
        self.crossed += bytes.len() as u64;
        let msg = PeerMsg::decode(&bytes).expect("what a shard says can be read");
        self.shards[to].peer_message(self.now, from as u16, msg);
        self.turn(to);
        true
    }

    /// The links that have something.
    pub(crate) fn busy(&self) -> Vec<(usize, usize)> {
        let all = (0..self.shards.len()).flat_map(|a| (0..self.shards.len()).map(move |b| (a, b)));
        all.filter(|(a, b)| !self.links[*a][*b].is_empty()).collect()
    }

    /// Delivers everything; then nothing may wait.
    pub(crate) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the shards never come to rest");
            let busy = self.busy();
            if busy.is_empty() && !self.beat() {
                break;
            }
            for (from, to) in busy {
                self.step(from, to);
            }
        }
        self.check_settled();
    }

    /// Has the next beat come, if there is one: with it credit comes back where memory is short.
    pub(crate) fn beat(&mut self) -> bool {
        let soon = self.now + Duration::from_millis(100);
        let all = self.shards.iter().filter_map(Broker::poll_timeout);
        let Some(next) = all.filter(|at| *at <= soon).min() else { return false };
        self.now = self.now.max(next);
        (0..self.shards.len()).for_each(|shard| self.turn(shard));
        true
    }

    /// Whatever order it came in: nobody waits for anybody.
    pub(crate) fn check_settled(&self) {
        assert!(self.busy().is_empty());
        #[cfg(feature = "fuzzing")]
        for (shard, broker) in self.shards.iter().enumerate() {
            broker.check();
            assert!(broker.is_settled(), "shard {shard} waits for ever");
        }
    }

    /// Delivers all on the links from and to one shard only.
    pub(crate) fn settle_between(&mut self, a: usize, b: usize) {
        while self.step(a, b) || self.step(b, a) {}
    }

    /// What each shard recorded.
    pub(crate) fn recordings(&mut self) -> Vec<Vec<u8>> {
        let recorded = |broker: &mut Broker| {
            let mut bytes = Vec::new();
            assert_eq!(broker.recorded(&mut bytes), Recording::On);
            bytes
        };
        self.shards.iter_mut().map(recorded).collect()
    }

    /// Payloads that came since the last time.
    pub(crate) fn payloads(&mut self, client: Client) -> Vec<String> {
        let out = self.out.entry(client).or_default();
        out.messages.drain(..).map(|got| got.payload).collect()
    }

    pub(crate) fn messages(&mut self, client: Client) -> Vec<Got> {
        std::mem::take(&mut self.out.entry(client).or_default().messages)
    }

    /// Packets that are no messages and came since the last time, by name.
    pub(crate) fn answers(&mut self, client: Client) -> Vec<&'static str> {
        let out = self.out.entry(client).or_default();
        out.packets.drain(..).map(|(name, ..)| name).collect()
    }

    pub(crate) fn take(&mut self, shard: usize, subscriber: SubscriberId) -> Vec<String> {
        let broker = &mut self.shards[shard];
        let take = || broker.take(self.now, subscriber);
        let payloads = std::iter::from_fn(take).map(|delivery| delivery.payload);
        payloads.map(|payload| String::from_utf8_lossy(&payload).into_owned()).collect()
    }
}

/// Every story is recorded, too: each shard does again what it did, without the others.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for (shard, recording) in self.recordings().iter().enumerate() {
            // Otherwise the story looked at it.
            if recording.starts_with(b"FULMARR") {
                assert_eq!(replay(recording, &mut |_| {}), Outcome::Same, "shard {shard}");
            }
        }
    }
}

/// Runs a recording again to its end, or to where it comes out otherwise, and shows its steps.
pub(crate) fn replay(recording: &[u8], seen: &mut dyn FnMut(&Step<'_>)) -> Outcome {
    let mut replay = Replay::new(recording).expect("a recording");
    loop {
        let outcome = replay.step(&mut |_, step| seen(step));
        if outcome != Outcome::More {
            return outcome;
        }
    }
}

impl Out {
    /// Takes whole packets off the bytes; gives the acknowledgements a client owes.
    fn read(&mut self) -> Vec<u8> {
        let mut acks = Vec::new();
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = &bytes[..];
        while let Some((frame, used)) = split(rest, u32::MAX).expect("a header") {
            rest = &rest[used..];
            let packet = decode(Version::V5, frame).expect("a packet");
            let answer = match &packet {
                Packet::Publish(publish) => {
                    self.messages.push(Got {
                        topic: publish.topic.to_string(),
                        payload: String::from_utf8_lossy(publish.payload).into_owned(),
                        qos: publish.qos,
                        retain: publish.retain,
                    });
                    publish.packet_id.map(|id| match publish.qos {
                        Qos::ExactlyOnce => Packet::Pubrec(ack(id)),
                        _ => Packet::Puback(ack(id)),
                    })
                }
                Packet::Pubrel(released) => Some(Packet::Pubcomp(ack(released.packet_id))),
                other => {
                    self.packets.push(named(other));
                    None
                }
            };
            if let Some(answer) = answer {
                answer.append(Version::V5, &mut acks).expect("an acknowledgement");
            }
        }
        self.bytes = rest.to_vec();
        acks
    }
}

fn named(packet: &Packet<'_>) -> (&'static str, u16, u8) {
    let first = |codes: &mut dyn Iterator<Item = ReasonCode>| codes.next().map_or(0, |c| c as u8);
    match packet {
        Packet::Connack(p) => ("CONNACK", 0, p.reason as u8),
        Packet::Puback(p) => ("PUBACK", p.packet_id.get(), p.reason as u8),
        Packet::Pubrec(p) => ("PUBREC", p.packet_id.get(), p.reason as u8),
        Packet::Pubcomp(p) => ("PUBCOMP", p.packet_id.get(), p.reason as u8),
        Packet::Suback(p) => ("SUBACK", p.packet_id.get(), first(&mut p.reasons.iter())),
        Packet::Unsuback(p) => ("UNSUBACK", p.packet_id.get(), first(&mut p.reasons.iter())),
        Packet::Disconnect(p) => ("DISCONNECT", 0, p.reason as u8),
        _ => ("other", 0, 0),
    }
}

pub(crate) fn ack(packet_id: PacketId) -> Ack<'static> {
    Ack { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
}

pub(crate) fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

pub(crate) fn hello(client_id: &str) -> Connect<'_> {
    Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

pub(crate) fn will<'a>(topic: &'a str, payload: &'a [u8], retain: bool) -> Option<Will<'a>> {
    Some(Will { qos: Qos::AtMostOnce, retain, topic, payload, properties: Properties::EMPTY })
}

pub(crate) fn publish<'a>(topic: &'a str, payload: &'a str, qos: Qos, at: u16) -> Packet<'a> {
    let payload = payload.as_bytes();
    Packet::Publish(Publish { qos, topic, packet_id: PacketId::new(at), payload, ..<_>::default() })
}

pub(crate) fn retained<'a>(topic: &'a str, payload: &'a str, qos: Qos, at: u16) -> Packet<'a> {
    let Packet::Publish(publish) = publish(topic, payload, qos, at) else { unreachable!() };
    Packet::Publish(Publish { retain: true, ..publish })
}

pub(crate) type FilterList<'a> = [(&'a str, SubscriptionOptions); 1];

pub(crate) fn filter(filter: &str, qos: Qos) -> FilterList<'_> {
    [(filter, SubscriptionOptions { qos, ..SubscriptionOptions::default() })]
}

pub(crate) fn subscribe<'a>(list: &'a FilterList<'a>) -> Packet<'a> {
    let (packet_id, properties) = (id(1), Properties::EMPTY);
    Packet::Subscribe(Subscribe { packet_id, properties, filters: Filters::list(list) })
}

pub(crate) fn unsubscribe<'a>(list: &'a [&'a str; 1]) -> Packet<'a> {
    let (packet_id, properties) = (id(2), Properties::EMPTY);
    Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: TopicFilters::list(list) })
}

/// A client with one subscription that all shards know of.
pub(crate) fn subscriber(
    world: &mut World,
    shard: usize,
    what: &str,
    text: &str,
    qos: Qos,
) -> Client {
    let client = world.connect(shard, what);
    world.send(client, &[subscribe(&filter(text, qos))]);
    world.settle();
    world.answers(client);
    client
}
