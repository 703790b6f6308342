//! Any division of the input into pieces gives the same result.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_core::broker::{Config, ConnInfo, Effect, Event, Input, Outbox, Verdict};
use fulmar_core::codec::{
    Auth, Connack, Connect, Disconnect, Packet, Properties, Property, Publish, Qos, ReasonCode,
    SubscriptionOptions, TopicFilters, Unsubscribe, Version,
};
use fulmar_core::connection::Settings;
use fulmar_core::connection::server::{Connection, Received};
use fulmar_core::{ConnId, Instant};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::harness::*;

/// A client's bytes: packets in any order, most of them allowed, some changed.
#[derive(Clone, Debug)]
struct Stream {
    bytes: Vec<u8>,
    /// Where it is cut.
    pieces: Vec<u8>,
}

const TOPICS: [&str; 6] = ["a", "a/b", "$SYS/x", "", "a/+", "long/topic/of/many/levels"];
const FILTERS: [&str; 6] = ["#", "a/+", "$share/g/a", "$share//x", "a/#/b", "a"];
const SIZES: [usize; 4] = [0, 5, 300, 5_000];

fn pick<T: Copy>(g: &mut Gen, choices: &[T]) -> T {
    *g.choose(choices).expect("a choice")
}

fn chance(g: &mut Gen, one_in: u8) -> bool {
    u8::arbitrary(g) % one_in == 0
}

fn connect(g: &mut Gen, version: Version) -> Vec<u8> {
    let payload = vec![b'w'; pick(g, &SIZES)];
    let mut properties = Vec::new();
    if version == V5 {
        properties.push(Property::SessionExpiryInterval(pick(g, &[0, 7])));
        if chance(g, 4) {
            properties.push(Property::AuthenticationMethod("m"));
        }
        if chance(g, 4) {
            properties.push(Property::MaximumPacketSize(pick(g, &[3, 60, 1_000])));
        }
        if chance(g, 2) {
            properties.push(Property::TopicAliasMaximum(2));
        }
    }
    let connect = Connect {
        clean_start: bool::arbitrary(g),
        keep_alive: u16::arbitrary(g),
        will: chance(g, 2).then(|| will("a", &payload, Properties::EMPTY)),
        username: chance(g, 2).then_some("user"),
        properties: Properties::list(&properties),
        ..hello(version, pick(g, &["", "one", "watcher"]))
    };
    bytes(version, &[Packet::Connect(connect)])
}

fn message(g: &mut Gen, version: Version) -> Vec<u8> {
    let qos = pick(g, &[Q0, Q1, Q2]);
    let payload = vec![b'p'; pick(g, &SIZES)];
    let mut properties = Vec::new();
    if version == V5 && chance(g, 2) {
        properties.push(Property::TopicAlias(pick(g, &[1, 2, 9])));
    }
    if version == V5 && chance(g, 3) {
        properties.push(Property::UserProperty("name", "value"));
    }
    let publish = Publish {
        dup: qos > Q0 && chance(g, 4),
        qos,
        retain: chance(g, 4),
        topic: pick(g, &TOPICS),
        packet_id: (qos > Q0).then(|| id(pick(g, &[1, 2, 3]))),
        properties: Properties::list(&properties),
        payload: &payload,
    };
    let packet = Packet::Publish(publish);
    let mut bytes = Vec::new();
    match packet.append(version, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => self::bytes(version, &[publish_plain(qos)]),
    }
}

fn publish_plain(qos: Qos) -> Packet<'static> {
    publish("a", b"plain", qos, if qos == Q0 { 0 } else { 1 })
}

fn packet(g: &mut Gen, version: Version) -> Vec<u8> {
    let number = id(pick(g, &[1, 2, 3]));
    let properties = Properties::EMPTY;
    match u8::arbitrary(g) % 16 {
        0..5 => message(g, version),
        5 => bytes(version, &[Packet::Pubrel(ack(number))]),
        6 => bytes(version, &[Packet::Puback(ack(number))]),
        7 => bytes(version, &[Packet::Pubrec(ack(number))]),
        8 => bytes(version, &[Packet::Pubcomp(ack(number))]),
        9..12 => {
            let text = pick(g, &FILTERS);
            let plain = SubscriptionOptions { qos: pick(g, &[Q0, Q1, Q2]), ..Default::default() };
            bytes(version, &[subscribe(&[(text, plain)])])
        }
        12 => {
            let filters = [pick(g, &FILTERS)];
            let filters = TopicFilters::list(&filters);
            let packet_id = number;
            bytes(version, &[Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters })])
        }
        13 if version == V5 => {
            let method = [Property::AuthenticationMethod("m")];
            let reason = pick(g, &[ReasonCode::ContinueAuthentication, ReasonCode::Reauthenticate]);
            let properties = Properties::list(&method);
            bytes(version, &[Packet::Auth(Auth { reason, properties })])
        }
        14 if chance(g, 4) => {
            let reason = ReasonCode::Success;
            bytes(version, &[Packet::Disconnect(Disconnect { reason, properties })])
        }
        15 if chance(g, 8) => connect(g, version),
        _ => bytes(version, &[Packet::Pingreq]),
    }
}

impl Arbitrary for Stream {
    fn arbitrary(g: &mut Gen) -> Self {
        let version = pick(g, &[V31, V311, V5]);
        let mut bytes = connect(g, version);
        for _ in 0..usize::arbitrary(g) % 20 {
            bytes.extend(packet(g, version));
        }
        if chance(g, 2) {
            for _ in 0..1 + u8::arbitrary(g) % 3 {
                // Mostly near the beginning, where the lengths are.
                let near = if chance(g, 2) { bytes.len().min(40) } else { bytes.len() };
                let at = usize::arbitrary(g) % near;
                bytes[at] = u8::arbitrary(g);
            }
        }
        Self { bytes, pieces: Vec::arbitrary(g) }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let whole = self.clone();
        Box::new(whole.bytes.clone().shrink().map(move |bytes| Self { bytes, ..whole.clone() }))
    }
}

impl Stream {
    fn divisions(&self) -> [Vec<&[u8]>; 3] {
        let mut random = Vec::new();
        let mut rest = &self.bytes[..];
        for piece in &self.pieces {
            let (now, later) = rest.split_at(usize::from(*piece).min(rest.len()));
            random.push(now);
            rest = later;
        }
        random.push(rest);
        [vec![&self.bytes], self.bytes.chunks(1).collect(), random]
    }
}

/// What a connection makes of the pieces: all it receives, and all it sends.
fn connection(pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let settings = Settings {
        connect_timeout: core::time::Duration::from_secs(5),
        max_connect_size: 400,
        max_packet_size: 4_000,
        max_topic_alias: 2,
        max_qos: Qos::ExactlyOnce,
        retain_available: true,
    };
    let now = Instant::ZERO;
    let mut connection = Connection::new(Arc::new(settings), now);
    let (mut log, mut out) = (Vec::new(), Vec::new());
    // What was not read since the connection waited for an answer.
    let mut unread = Vec::new();
    for piece in pieces {
        unread.extend_from_slice(piece);
        let all = std::mem::take(&mut unread);
        let mut input = &all[..];
        while let Some(received) = connection.next(now, &mut input, &mut out) {
            log.push(format!("{received:?}"));
            let method = match &received {
                Received::Connect(connect) => !connect.properties.is_empty(),
                Received::Auth(_) => true,
                _ => continue,
            };
            let step = matches!(received, Received::Connect(_)) && method;
            let method = connection.method().map(String::from);
            let list = method.as_deref().map(Property::AuthenticationMethod);
            let properties = list
                .as_ref()
                .map_or(Properties::EMPTY, |method| Properties::list(std::slice::from_ref(method)));
            let reason = ReasonCode::ContinueAuthentication;
            let auth = Packet::Auth(Auth { reason, properties });
            if step && list.is_some() && connection.send(now, &auth, &mut out).is_ok() {
                continue;
            }
            let (session_present, reason) = (false, ReasonCode::Success);
            let connack =
                Packet::Connack(Connack { session_present, reason, properties: Properties::EMPTY });
            let _ = connection.send(now, &connack, &mut out);
        }
        unread.extend_from_slice(input);
    }
    log.push(format!("{:?}", connection.phase()));
    (log, out)
}

#[derive(Debug, PartialEq)]
struct Outcome {
    effects: Vec<String>,
    dropped: BTreeMap<String, u32>,
    sent: BTreeMap<ConnId, Vec<u8>>,
    stats: String,
}

/// What a broker makes of the pieces. Bytes are pulled at the end only: when they are pulled
/// decides how answers and messages take turns.
fn broker(pieces: &[&[u8]]) -> Outcome {
    let config = Config {
        max_connect_size: 400,
        max_packet_size: 4_000,
        max_msg_queue: 5,
        max_topic_alias: 2,
        ..Config::default()
    };
    let mut rig = Rig::new(config);
    let watcher = rig.connect(V5, "watcher", true);
    rig.send(watcher, V5, &[subscribe(&filter("#", Q2))]);
    rig.events.clear();
    let conn = rig.broker.open(rig.now, ConnInfo::default()).expect("a connection");
    let (mut effects, mut dropped) = (Vec::new(), BTreeMap::new());
    for piece in pieces {
        rig.broker.handle(rig.now, Input::Received { conn, bytes: piece });
        loop {
            let Some(effect) = rig.broker.poll_effect() else {
                if rig.broker.poll_timeout().is_none_or(|at| at > rig.now) {
                    break;
                }
                rig.broker.handle(rig.now, Input::Timeout);
                continue;
            };
            match effect {
                Effect::Transmit(_) | Effect::Reading { .. } => {}
                Effect::Authenticate { conn, request } => {
                    effects.push(format!("{request:?}"));
                    let connecting = request.step == fulmar_core::broker::AuthStep::Connect;
                    let verdict = match (request.method.is_some(), connecting) {
                        (true, true) => Verdict::Continue { data: None },
                        _ => Verdict::Accept { data: None },
                    };
                    rig.broker.handle(rig.now, Input::Authenticated { conn, verdict });
                }
                Effect::Event(Event::Dropped { client_id, qos, why, count }) => {
                    *dropped.entry(format!("{client_id} {qos:?} {why:?}")).or_default() += count;
                }
                effect => effects.push(format!("{effect:?}")),
            }
        }
    }
    let mut sent = BTreeMap::new();
    for conn in [conn, watcher] {
        let mut outbox = Outbox::new();
        while rig.broker.transmit(rig.now, conn, &mut outbox, 100) {}
        sent.insert(conn, outbox.slices().flatten().copied().collect());
    }
    rig.broker.handle(rig.now, Input::Closed { conn });
    while let Some(effect) = rig.broker.poll_effect() {
        if !matches!(effect, Effect::Event(Event::Dropped { .. })) {
            effects.push(format!("{effect:?}"));
        }
    }
    Outcome { effects, dropped, sent, stats: format!("{:?}", rig.broker.stats()) }
}

#[test]
fn a_connection_sees_the_same_packets_in_any_pieces() {
    fn same(stream: Stream) -> bool {
        let [whole, single, random] = stream.divisions();
        let expected = connection(&whole);
        connection(&single) == expected && connection(&random) == expected
    }
    QuickCheck::new().tests(3_000).quickcheck(same as fn(Stream) -> bool);
}

#[test]
fn a_broker_does_the_same_in_any_pieces() {
    fn same(stream: Stream) -> bool {
        let [whole, single, random] = stream.divisions();
        let expected = broker(&whole);
        broker(&single) == expected && broker(&random) == expected
    }
    QuickCheck::new().tests(3_000).quickcheck(same as fn(Stream) -> bool);
}

#[test]
fn a_connect_that_is_too_large_is_answered_in_its_version_in_any_pieces() {
    let will = will("a", &[0; 1_000], Properties::EMPTY);
    let connect = Connect { will: Some(will), ..hello(V5, "a") };
    let stream = Stream { bytes: bytes(V5, &[Packet::Connect(connect)]), pieces: vec![7] };
    for pieces in stream.divisions() {
        let (_, out) = connection(&pieces);
        assert_eq!(out[..4], [0x20, out[1], 0, 0x95]);
    }
}
