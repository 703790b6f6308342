//! Clients and a broker over a wire that is cut after every single packet: QoS 2 arrives exactly
//! once, QoS 1 at least once, and every ticket comes back once.
#![cfg(feature = "alloc")]

#[macro_use]
#[path = "../../tests/src/cites.rs"]
pub mod cites;

use std::collections::{BTreeMap, VecDeque};

use fulmar_core::Instant;
use fulmar_core::broker::{Boot, Broker, Config, ConnId, ConnInfo, Effect, Input, Outbox, Verdict};
use fulmar_core::client::{Client, Event, Fixed, Options, SendError, Sizes, Storage, Ticket};
use fulmar_core::codec::{
    Connect, Disconnect, Properties, Property, Publish, Qos, ReasonCode, SubscriptionOptions,
    Version, split,
};

/// Memory of one client.
type Memory = Fixed<512, 256, 3, 8, 512>;

const NOW: Instant = Instant::ZERO;
/// Messages published in each run.
const MESSAGES: usize = 6;

/// A client with its wire and what its application knows.
struct Peer<'s> {
    client: Client<'s>,
    connect: Connect<'static>,
    conn: Option<ConnId>,
    /// Bytes that are on their way.
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    /// Packets that arrived, in either direction, on any connection.
    packets: usize,
    /// The wire is cut when so many have.
    cuts: VecDeque<usize>,
    /// Bytes that the wire takes at once.
    piece: usize,
    connected: bool,
    connected_once: bool,
    /// Of the subscriber.
    filter: Option<&'static str>,
    subscribed: bool,
    subscribing: Option<Ticket>,
    got: Vec<(String, Qos)>,
    /// Of the publisher: the tickets not come back, and how many did.
    to_publish: VecDeque<(String, Qos)>,
    waiting: BTreeMap<Ticket, String>,
    published: usize,
}

impl<'s> Peer<'s> {
    fn new(storage: Storage<'s>, connect: Connect<'static>, cuts: &[usize]) -> Self {
        Self {
            client: Client::new(storage, Options::default()),
            connect,
            conn: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            packets: 0,
            cuts: cuts.iter().copied().collect(),
            piece: usize::MAX,
            connected: false,
            connected_once: false,
            filter: None,
            subscribed: false,
            subscribing: None,
            got: Vec::new(),
            to_publish: VecDeque::new(),
            waiting: BTreeMap::new(),
            published: 0,
        }
    }

    fn open(&mut self, broker: &mut Broker) {
        // What a 5.0 client does that has no session yet: the server shall have none either.
        let fresh = self.connect.version == Version::V5 && !self.connected_once;
        let connect = Connect { clean_start: fresh || self.connect.clean_start, ..self.connect };
        self.client.connect(NOW, &connect).unwrap();
        self.conn = Some(broker.open(NOW, ConnInfo::default()).unwrap());
    }

    /// The wire breaks; what is on its way is gone.
    fn cut(&mut self, broker: &mut Broker) {
        if let Some(conn) = self.conn.take() {
            broker.handle(NOW, Input::Closed { conn });
        }
        self.up.clear();
        self.down.clear();
        self.client.closed(NOW);
        self.connected = false;
    }

    /// One packet arrived; answers whether the wire broke because of it.
    fn arrived(&mut self, broker: &mut Broker) -> bool {
        self.packets += 1;
        let now = self.cuts.front().is_some_and(|cut| *cut <= self.packets);
        if now {
            self.cuts.pop_front();
            self.cut(broker);
        }
        now
    }

    /// Carries what there is, packet by packet; answers whether anything moved.
    fn carry(&mut self, broker: &mut Broker) -> bool {
        let mut moved = false;
        loop {
            let lent = self.client.transmit();
            let n = lent.len().min(self.piece);
            self.up.extend(&lent[..n]);
            self.client.transmitted(NOW, n);
            moved |= n > 0;
            // In small pieces, something is still to be sent when the wire is cut.
            if n == 0 || self.piece < usize::MAX {
                break;
            }
        }
        while let (Some(packet), Some(conn)) = (take_packet(&mut self.up), self.conn) {
            broker.handle(NOW, Input::Received { conn, bytes: &packet });
            moved = true;
            if self.arrived(broker) {
                return true;
            }
        }
        while let Some(packet) = take_packet(&mut self.down) {
            assert_eq!(self.client.receive(NOW, &packet), packet.len());
            self.events();
            moved = true;
            if self.arrived(broker) {
                return true;
            }
        }
        moved
    }

    fn events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Connected { session_present, .. } => {
                    self.connected = true;
                    self.connected_once = true;
                    self.subscribed &= session_present;
                }
                Event::Message(message) => {
                    self.got.push((message.topic.to_string(), message.qos));
                }
                Event::Published { ticket, reason, .. } => {
                    assert!(!reason.is_error(), "{reason}");
                    assert!(self.waiting.remove(&ticket).is_some(), "told twice");
                    self.published += 1;
                }
                Event::Subscribed { ticket, .. } => {
                    assert_eq!(self.subscribing.take(), Some(ticket));
                    self.subscribed = true;
                }
                Event::Lost { ticket } if self.subscribing == Some(ticket) => {
                    self.subscribing = None;
                }
                Event::Lost { ticket } => {
                    let topic = self.waiting.remove(&ticket).expect("told twice");
                    assert!(topic.starts_with("0/"), "{topic} was lost in a kept session");
                    self.published += 1;
                }
                Event::Closed => self.connected = false,
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the application wants next; answers whether it could.
    fn work(&mut self, may_publish: bool) -> bool {
        if !self.connected {
            return false;
        }
        if let Some(filter) = self.filter
            && !self.subscribed
            && self.subscribing.is_none()
        {
            let options = SubscriptionOptions { qos: Qos::ExactlyOnce, ..Default::default() };
            let ticket = self.client.subscribe(&[(filter, options)], Properties::EMPTY).unwrap();
            self.subscribing = Some(ticket);
            return true;
        }
        let Some((topic, qos)) = self.to_publish.front().filter(|_| may_publish) else {
            return false;
        };
        let publish = Publish { topic, qos: *qos, payload: b"payload", ..Publish::default() };
        match self.client.publish(&publish) {
            Ok(ticket) => {
                let (topic, _) = self.to_publish.pop_front().unwrap();
                assert_eq!(self.waiting.insert(ticket, topic), None);
                true
            }
            Err(SendError::Full) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes one whole packet off the front.
fn take_packet(bytes: &mut VecDeque<u8>) -> Option<Vec<u8>> {
    let (_, used) = split(bytes.make_contiguous(), u32::MAX).unwrap()?;
    Some(bytes.drain(..used).collect())
}

/// Does what the broker asks for.
fn effects(broker: &mut Broker, peers: &mut [Peer<'_>]) -> bool {
    let mut any = false;
    while let Some(effect) = broker.poll_effect() {
        any = true;
        match effect {
            Effect::Authenticate { conn, .. } => {
                let verdict = Verdict::Accept { data: None };
                broker.handle(NOW, Input::Authenticated { conn, verdict });
            }
            Effect::Transmit(conn) => {
                let mut out = Outbox::new();
                while broker.transmit(NOW, conn, &mut out, 1 << 16) {}
                if let Some(peer) = peers.iter_mut().find(|peer| peer.conn == Some(conn)) {
                    out.slices().for_each(|slice| peer.down.extend(slice));
                }
            }
            Effect::Close { conn, .. } => {
                assert!(peers.iter().all(|peer| peer.conn != Some(conn)), "the broker closed");
            }
            _ => {}
        }
    }
    any
}

fn connect(version: Version, client_id: &'static str) -> Connect<'static> {
    let properties = match version {
        Version::V5 => Properties::list(&[Property::SessionExpiryInterval(1000)]),
        _ => Properties::EMPTY,
    };
    Connect {
        version,
        bridge: false,
        clean_start: false,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties,
    }
}

/// One run, with cuts of the publisher's or the subscriber's wire. Answers how many packets that
/// wire carried.
fn run(case: Case, cuts: &[usize]) -> usize {
    let Case { version, fixed, cut_publisher, piece } = case;
    let boot = Boot { now: NOW, unix_millis: 0, seed: 1, epoch: 1 };
    let config = Config { max_inflight: 4, receive_maximum: 4, ..Config::default() };
    let mut broker = Broker::new(config, boot);
    let mut memories = [Memory::new(), Memory::new()];
    let sizes = Sizes { rx: 512, tx: 256, aliases: 512 };
    let none: &[usize] = &[];
    let storages = memories.each_mut().map(|memory| match fixed {
        true => memory.storage(),
        false => Storage::heap(sizes),
    });
    let [first, second] = storages;
    let (publisher_cuts, subscriber_cuts) = if cut_publisher { (cuts, none) } else { (none, cuts) };
    let mut peers = [
        Peer::new(first, connect(version, "p"), publisher_cuts),
        Peer::new(second, connect(version, "s"), subscriber_cuts),
    ];
    peers[1].filter = Some("#");
    peers.iter_mut().for_each(|peer| peer.piece = piece);
    for number in 0..MESSAGES {
        let qos = Qos::from_bits((number % 3) as u8).unwrap();
        peers[0].to_publish.push_back((format!("{}/{number}", qos as u8), qos));
    }
    // Virtual time stands still, so what goes on for ever would be seen here.
    for _ in 0..10_000 {
        let mut moved = false;
        for index in 0..2 {
            let ready = peers[1].subscribed;
            let peer = &mut peers[index];
            peer.events();
            if peer.conn.is_none() {
                peer.open(&mut broker);
                moved = true;
            }
            while peer.work(ready) {
                moved = true;
            }
            moved |= peer.carry(&mut broker);
            moved |= effects(&mut broker, &mut peers);
        }
        while broker.poll_timeout() == Some(Instant::ZERO) {
            broker.handle(NOW, Input::Timeout);
            moved |= effects(&mut broker, &mut peers);
        }
        if !moved {
            break;
        }
    }
    check(&peers, &format!("{case:?} {cuts:?}"));
    peers[usize::from(!cut_publisher)].packets
}

fn check(peers: &[Peer<'_>; 2], case: &str) {
    let [publisher, subscriber] = peers;
    assert_eq!(publisher.published, MESSAGES, "{case}");
    assert!(publisher.to_publish.is_empty() && publisher.waiting.is_empty(), "{case}");
    assert_eq!(publisher.client.in_flight(), 0, "{case}");
    for number in 0..MESSAGES {
        let qos = Qos::from_bits((number % 3) as u8).unwrap();
        let message = (format!("{}/{number}", qos as u8), qos);
        let count = subscriber.got.iter().filter(|got| **got == message).count();
        match qos {
            Qos::AtMostOnce => assert!(count <= 1, "{case}: {message:?} came {count} times"),
            Qos::AtLeastOnce => assert!(count >= 1, "{case}: {message:?} did not come"),
            Qos::ExactlyOnce => assert_eq!(count, 1, "{case}: {message:?} came {count} times"),
        }
    }
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut first: Vec<_> = Vec::new();
        for got in subscriber.got.iter().filter(|got| got.1 == qos) {
            if !first.contains(&got) {
                first.push(got);
            }
        }
        assert!(first.is_sorted(), "{case}: {first:?}");
    }
}

/// What may differ.
#[derive(Clone, Copy, Debug)]
struct Case {
    version: Version,
    /// The clients' memory is borrowed.
    fixed: bool,
    cut_publisher: bool,
    /// Bytes that the wire takes at once.
    piece: usize,
}

fn cases() -> impl Iterator<Item = Case> {
    let versions = [Version::V31, Version::V311, Version::V5].into_iter();
    versions.flat_map(|version| {
        (0..8).map(move |bits| Case {
            version,
            fixed: bits & 1 == 0,
            cut_publisher: bits & 2 == 0,
            piece: if bits & 4 == 0 { usize::MAX } else { 5 },
        })
    })
}

#[test]
fn without_a_cut_every_message_arrives_once() {
    cites!("v5:MQTT-4.5.0-2 v4:MQTT-4.5.0-2 v4:MQTT-7.1.2-1");
    for case in cases() {
        let packets = run(case, &[]);
        // CONNECT and CONNACK, and for each QoS what belongs to it.
        let least = 2 + (1 + 2 + 4) * MESSAGES / 3;
        assert!(packets >= least, "{packets} packets only");
    }
}

#[test]
fn a_cut_after_any_packet_loses_and_repeats_nothing() {
    cites!(
        "v5:MQTT-4.4.0-1 v5:MQTT-4.3.3-10 v5:MQTT-4.6.0-1 v5:MQTT-4.6.0-5 v4:MQTT-4.4.0-1
         v4:MQTT-4.3.3-1 v4:MQTT-4.3.3-2 v4:MQTT-4.6.0-6"
    );
    for case in cases() {
        let packets = run(case, &[]);
        for cut in 1..=packets {
            run(case, &[cut]);
        }
    }
}

#[test]
fn two_cuts_after_any_packets_lose_and_repeat_nothing() {
    for case in cases() {
        let packets = run(case, &[]);
        for first in 1..=packets {
            for second in first + 1..=run(case, &[first]) {
                run(case, &[first, second]);
            }
        }
    }
}

#[test]
fn a_session_goes_over_many_cuts_close_together() {
    for case in cases() {
        for every in 3..12 {
            let cuts: Vec<_> = (1..20).map(|count| count * every).collect();
            run(case, &cuts);
        }
    }
}

#[test]
fn a_client_says_goodbye_and_the_broker_is_left_with_nothing() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let boot = Boot { now: NOW, unix_millis: 0, seed: 1, epoch: 1 };
        let mut broker = Broker::new(Config::default(), boot);
        let connect = connect(version, "c");
        let mut peers = [Peer::new(Storage::heap(Sizes::default()), connect, &[])];
        peers[0].connect.clean_start = version < Version::V5;
        peers[0].open(&mut broker);
        while peers[0].carry(&mut broker) | effects(&mut broker, &mut peers) {}
        assert!(peers[0].client.is_connected());
        let properties = match version {
            Version::V5 => Properties::list(&[Property::SessionExpiryInterval(0)]),
            _ => Properties::EMPTY,
        };
        let last = Disconnect { reason: ReasonCode::Success, properties };
        peers[0].client.disconnect(NOW, &last).unwrap();
        let conn = peers[0].conn.unwrap();
        let bytes = peers[0].client.transmit().to_vec();
        peers[0].client.transmitted(NOW, bytes.len());
        assert!(peers[0].client.wants_close());
        broker.handle(NOW, Input::Received { conn, bytes: &bytes });
        broker.handle(NOW, Input::Closed { conn });
        assert_eq!((broker.stats().connections, broker.stats().sessions), (0, 0));
    }
}
