//! Client machine and broker over a wire that can be cut after any number of bytes.
#![cfg(feature = "alloc")]

#[macro_use]
#[path = "../../tests/src/cites.rs"]
pub mod cites;

use std::collections::BTreeMap;

use fulmar_core::broker::{
    Boot, Broker, Command, Config, ConnId, ConnInfo, Effect, Input, Outbox, Publication, Verdict,
};
use fulmar_core::client::{Client, Event, Fixed, Options, SendError, Sizes, Storage};
use fulmar_core::codec::{Connect, Disconnect, Properties, Property, Publish, SubscriptionOptions};
use fulmar_core::{Instant, Qos, ReasonCode, Version};

/// What the client's program saw.
#[derive(Debug, Default)]
struct Seen {
    connected: u32,
    session_present: bool,
    messages: Vec<(String, Vec<u8>, Qos)>,
    published: Vec<ReasonCode>,
    subscribed: u32,
    lost: u32,
    other: Vec<String>,
}

struct Pair<'s> {
    now: Instant,
    broker: Broker,
    conn: Option<ConnId>,
    client: Client<'s>,
    seen: Seen,
    /// Bytes that may still pass, in both directions together.
    budget: usize,
    passed: usize,
}

impl<'s> Pair<'s> {
    fn new(storage: Storage<'s>, options: Options, config: Config) -> Self {
        let now = Instant::ZERO;
        let boot = Boot { now, unix_millis: 0, seed: 7, epoch: 1 };
        Self {
            now,
            broker: Broker::new(config, boot),
            conn: None,
            client: Client::new(storage, options),
            seen: Seen::default(),
            budget: usize::MAX,
            passed: 0,
        }
    }

    fn connect(&mut self, version: Version, clean_start: bool) {
        let expiry = [Property::SessionExpiryInterval(1000)];
        let properties = match version {
            Version::V5 => Properties::list(&expiry),
            _ => Properties::EMPTY,
        };
        let connect = Connect {
            version,
            bridge: false,
            clean_start,
            keep_alive: 60,
            client_id: "c",
            will: None,
            username: None,
            password: None,
            properties,
        };
        self.client.connect(self.now, &connect).expect("a free client");
        self.conn = Some(self.broker.open(self.now, ConnInfo::default()).expect("room"));
    }

    fn cut(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.broker.handle(self.now, Input::Closed { conn });
        }
        self.client.closed();
    }

    /// Lets bytes flow until nothing moves; false if the wire was cut on the way.
    fn run(&mut self) -> bool {
        loop {
            let up = self.upwards();
            let down = self.downwards();
            let events = self.events();
            if self.budget == 0 {
                self.cut();
                return false;
            }
            if !(up || down || events) {
                return true;
            }
        }
    }

    fn upwards(&mut self) -> bool {
        let Some(conn) = self.conn else { return false };
        let bytes = self.client.transmit();
        let bytes = bytes[..bytes.len().min(self.budget)].to_vec();
        if bytes.is_empty() {
            return false;
        }
        self.budget -= bytes.len();
        self.passed += bytes.len();
        self.client.transmitted(self.now, bytes.len());
        self.broker.handle(self.now, Input::Received { conn, bytes: &bytes });
        true
    }

    fn downwards(&mut self) -> bool {
        let mut moved = false;
        let mut out = Outbox::new();
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Authenticate { conn, .. } => {
                    let verdict = Verdict::Accept { data: None };
                    self.broker.handle(self.now, Input::Authenticated { conn, verdict });
                }
                Effect::Transmit(conn) => {
                    while self.broker.transmit(self.now, conn, &mut out, 4096) {}
                }
                Effect::Close { conn, .. } => {
                    panic!("{conn:?} closed by the broker: {:?}", self.seen.other)
                }
                _ => {}
            }
            moved = true;
        }
        let mut bytes: Vec<u8> = out.slices().flatten().copied().collect();
        bytes.truncate(self.budget);
        self.budget -= bytes.len();
        self.passed += bytes.len();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let room = self.client.recv_buf();
            let len = room.len().min(rest.len());
            room[..len].copy_from_slice(&rest[..len]);
            self.client.received(len);
            rest = &rest[len..];
            self.events();
        }
        moved
    }

    fn events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.client.poll_event(self.now) {
            any = true;
            match event {
                Event::Connected { session_present, reason, .. } => {
                    assert_eq!(reason, ReasonCode::Success);
                    self.seen.connected += 1;
                    self.seen.session_present = session_present;
                }
                Event::Message(m) => {
                    self.seen.messages.push((m.topic.into(), m.payload.to_vec(), m.qos));
                }
                Event::Published { reason, .. } => self.seen.published.push(reason),
                Event::Subscribed { reasons, .. } => {
                    assert!(reasons.iter().all(|reason| !reason.is_error()));
                    self.seen.subscribed += 1;
                }
                Event::Lost { .. } => self.seen.lost += 1,
                other => self.seen.other.push(format!("{other:?}")),
            }
        }
        any
    }

    fn subscribe(&mut self, filter: &str, qos: Qos) {
        let options = SubscriptionOptions { qos, ..Default::default() };
        self.client.subscribe(&[(filter, options)], Properties::EMPTY).expect("room");
    }

    fn publish(&mut self, payload: &[u8], qos: Qos) -> Result<(), SendError> {
        let publish = Publish { topic: "up/x", payload, qos, ..Default::default() };
        self.client.publish(&publish).map(|_| ())
    }

    /// A message from elsewhere for the client.
    fn send_down(&mut self, payload: &'static [u8], qos: Qos) {
        let publication = Publication {
            topic: "down/x".into(),
            payload: payload.into(),
            qos,
            ..Publication::default()
        };
        let command = Command::Publish(Box::new(publication));
        self.broker.handle(self.now, Input::Command { token: 1, command });
    }
}

fn heap() -> Storage<'static> {
    Storage::heap(Sizes { rx: 4096, tx: 4096, aliases: 256 })
}

const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

#[test]
fn messages_go_both_ways_in_every_version_and_qos() {
    cites!("v5:MQTT-4.5.0-2 v4:MQTT-4.5.0-2 v4:MQTT-7.1.2-1");
    for version in ALL {
        for qos in QOS {
            let mut memory = Fixed::<256, 256, 4, 64>::new();
            for storage in [heap(), memory.storage()] {
                let mut pair = Pair::new(storage, Options::default(), Config::default());
                pair.connect(version, true);
                assert!(pair.run());
                assert_eq!(pair.publish(b"early", qos), Ok(()), "after CONNACK");
                pair.subscribe("+/x", qos);
                assert!(pair.run());
                pair.publish(b"echo", qos).expect("room");
                pair.send_down(b"news", qos);
                assert!(pair.run());
                let mut payloads: Vec<_> = pair.seen.messages.iter().map(|m| &m.1[..]).collect();
                payloads.sort_unstable();
                assert_eq!(payloads, [&b"echo"[..], b"news"], "{version:?} {qos:?}");
                assert!(pair.seen.messages.iter().all(|m| m.2 == qos));
                assert_eq!(pair.seen.published.len(), 2);
                assert_eq!((pair.client.in_flight(), pair.seen.lost), (0, 0));
                assert_eq!(pair.seen.other, [""; 0]);
            }
        }
    }
}

/// Publishes three messages each way, with the wire cut once after `cut` bytes, and reconnects.
/// Answers how many bytes passed in all.
fn story(version: Version, qos: Qos, storage: Storage<'_>, cut: usize) -> usize {
    let mut pair = Pair::new(storage, Options::default(), Config::default());
    pair.connect(version, false);
    assert!(pair.run());
    pair.subscribe("down/#", qos);
    assert!(pair.run());
    let before = pair.passed;
    pair.budget = cut;
    let up: [&[u8]; 3] = [b"one", b"two", b"three"];
    for payload in up {
        pair.publish(payload, qos).expect("room");
    }
    for payload in [&b"1"[..], b"2", b"3"] {
        pair.send_down(payload, qos);
    }
    let mut up_seen = pair.run();
    pair.budget = usize::MAX;
    while !up_seen {
        pair.connect(version, false);
        up_seen = pair.run();
        assert!(pair.seen.session_present || version == Version::V31, "session at cut {cut}");
    }
    let context = format!("{version:?} {qos:?} cut after {cut}");
    assert_eq!(pair.client.in_flight(), 0, "{context}");
    assert_eq!(
        pair.seen.published,
        [ReasonCode::NoMatchingSubscribers; 3].map(|reason| {
            match (version, qos) {
                // The code of QoS 2 came with PUBREC; PUBCOMP says that it is over.
                (Version::V5, Qos::AtLeastOnce) => reason,
                _ => ReasonCode::Success,
            }
        }),
        "{context}"
    );
    let mut count: BTreeMap<&[u8], u32> = BTreeMap::new();
    let mut order = Vec::new();
    for (_, payload, _) in &pair.seen.messages {
        let times = count.entry(payload).or_default();
        *times += 1;
        if *times == 1 {
            order.push(&payload[..]);
        }
    }
    assert_eq!(order, [b"1", b"2", b"3"], "{context}");
    if qos == Qos::ExactlyOnce {
        assert!(count.values().all(|times| *times == 1), "{context}: {count:?}");
    }
    assert_eq!(pair.seen.other, [""; 0], "{context}");
    let stats = pair.broker.stats();
    assert!(stats.messages_received[qos as usize] >= 3, "{context}");
    assert_eq!(stats.queued, 0, "{context}");
    pair.passed - before
}

#[test]
fn a_cut_after_any_byte_loses_nothing_and_doubles_no_qos_2_message() {
    cites!(
        "v5:MQTT-4.4.0-1 v5:MQTT-4.3.3-10 v5:MQTT-4.6.0-1 v5:MQTT-4.6.0-5 v4:MQTT-4.4.0-1
         v4:MQTT-4.3.3-1 v4:MQTT-4.3.3-2 v4:MQTT-4.6.0-6"
    );
    for version in ALL {
        for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let whole = story(version, qos, heap(), usize::MAX);
            for cut in 1..whole {
                story(version, qos, heap(), cut);
            }
            for cut in (1..whole).step_by(3) {
                let mut memory = Fixed::<128, 192, 4, 0>::new();
                story(version, qos, memory.storage(), cut);
            }
        }
    }
}

#[test]
fn a_session_the_server_lost_is_lost_for_the_client_too() {
    cites!("v5:MQTT-3.2.2-5");
    let mut pair = Pair::new(heap(), Options::default(), Config::default());
    pair.connect(Version::V5, false);
    assert!(pair.run());
    pair.publish(b"x", Qos::AtLeastOnce).expect("room");
    pair.publish(b"y", Qos::ExactlyOnce).expect("room");
    pair.cut();
    // Another broker, which knows nothing.
    let boot = Boot { now: pair.now, unix_millis: 0, seed: 8, epoch: 2 };
    pair.broker = Broker::new(Config::default(), boot);
    pair.connect(Version::V5, false);
    assert!(pair.run());
    assert_eq!((pair.seen.lost, pair.client.in_flight()), (2, 0));
    pair.publish(b"z", Qos::AtLeastOnce).expect("a new session");
    assert!(pair.run());
    assert_eq!(pair.seen.published.len(), 1);
}

#[test]
fn a_client_with_little_memory_refuses_and_goes_on_when_there_is_room() {
    let mut memory = Fixed::<128, 320, 2, 0>::new();
    let mut pair = Pair::new(memory.storage(), Options::default(), Config::default());
    assert_eq!(pair.publish(b"x", Qos::AtMostOnce), Err(SendError::State));
    pair.connect(Version::V5, true);
    assert!(pair.run());
    assert_eq!(pair.publish(b"1", Qos::AtLeastOnce), Ok(()));
    assert_eq!(pair.publish(b"2", Qos::ExactlyOnce), Ok(()));
    assert_eq!(pair.publish(b"3", Qos::AtLeastOnce), Err(SendError::Full), "two slots");
    assert_eq!(pair.publish(&[0; 400], Qos::AtMostOnce), Err(SendError::Full), "320 bytes");
    assert!(pair.run());
    assert_eq!(pair.publish(b"3", Qos::AtLeastOnce), Ok(()));
    assert!(pair.run());
    assert_eq!(pair.seen.published.len(), 3);
}

#[test]
fn manual_acknowledgement_holds_the_server_back_and_keeps_the_order() {
    cites!("v5:MQTT-4.6.0-2 v5:MQTT-3.3.4-9");
    let options = Options { manual_ack: true, receive_maximum: 2, ..Options::default() };
    let mut pair = Pair::new(heap(), options, Config::default());
    pair.connect(Version::V5, true);
    assert!(pair.run());
    pair.subscribe("down/#", Qos::AtLeastOnce);
    assert!(pair.run());
    for payload in [&b"1"[..], b"2", b"3"] {
        pair.send_down(payload, Qos::AtLeastOnce);
    }
    let mut tickets = Vec::new();
    for _ in 0..4 {
        pair.upwards();
        let mut out = Outbox::new();
        while let Some(effect) = pair.broker.poll_effect() {
            if let Effect::Transmit(conn) = effect {
                pair.broker.transmit(pair.now, conn, &mut out, 4096);
            }
        }
        let bytes: Vec<u8> = out.slices().flatten().copied().collect();
        pair.client.recv_buf()[..bytes.len()].copy_from_slice(&bytes);
        pair.client.received(bytes.len());
        while let Some(event) = pair.client.poll_event(pair.now) {
            if let Event::Message(message) = event {
                tickets.extend(message.ticket);
            }
        }
    }
    assert_eq!(tickets.len(), 2, "the third waits in the broker");
    pair.client.ack(tickets[1]);
    assert!(pair.client.transmit().is_empty(), "the first was not acknowledged yet");
    pair.client.ack(tickets[0]);
    let ids = tickets.iter().map(|t| t.packet_id().expect("QoS 1").get() as u8);
    let expected: Vec<u8> = ids.flat_map(|id| [0x40, 2, 0, id]).collect();
    assert_eq!(pair.client.transmit(), expected);
    pair.client.ack(tickets[0]);
    assert_eq!(pair.client.transmit(), expected, "a second time does nothing");
    assert!(pair.run());
    assert_eq!(pair.seen.messages.len(), 1);
}

#[test]
fn silence_is_broken_by_pingreq_and_a_silent_server_given_up() {
    cites!("v4:MQTT-3.1.2-23");
    let mut pair = Pair::new(heap(), Options::default(), Config::default());
    pair.connect(Version::V311, true);
    assert!(pair.run());
    let due = pair.client.poll_timeout().expect("keep alive");
    assert_eq!(due, Instant::ZERO.after_secs(60));
    pair.client.handle_timeout(Instant::ZERO.after_secs(59));
    assert!(pair.client.transmit().is_empty(), "too early");
    pair.now = due;
    pair.client.handle_timeout(due);
    assert_eq!(pair.client.transmit(), [0xc0, 0]);
    assert!(pair.run());
    let due = pair.client.poll_timeout().expect("keep alive");
    pair.client.handle_timeout(due);
    let len = pair.client.transmit().len();
    pair.client.transmitted(due, len);
    let late = pair.client.poll_timeout().expect("PINGRESP is due");
    pair.client.handle_timeout(late);
    assert!(pair.client.is_closing());
    let event = pair.client.poll_event(late).map(|event| format!("{event:?}"));
    assert_eq!(event.as_deref(), Some("Failed(KeepAliveTimeout)"));
}

#[test]
fn disconnect_is_the_last_word() {
    cites!("v5:MQTT-3.14.4-1");
    let mut pair = Pair::new(heap(), Options::default(), Config::default());
    pair.connect(Version::V5, true);
    assert!(pair.run());
    let reason = ReasonCode::Success;
    let disconnect = Disconnect { reason, properties: Properties::EMPTY };
    pair.client.disconnect(&disconnect).expect("connected");
    assert_eq!(pair.client.disconnect(&disconnect), Err(SendError::State));
    assert_eq!(pair.publish(b"x", Qos::AtMostOnce), Err(SendError::State));
    assert_eq!(pair.client.transmit(), [0xe0, 0]);
}
