//! What the standards demand of clients, shown on the client machine: the server is played by hand,
//! with bytes written here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fulmar_core::client::{Client, Event, Failure, Options, SendError, Sizes, Storage, Ticket};
use fulmar_core::codec::{
    Auth, Connect, Disconnect, EncodeError, Properties, Property, Publish, SubscriptionOptions,
    Will,
};
use fulmar_core::{Instant, Qos, ReasonCode, Version};
use fulmar_tests::{cites, packet};

const STRICT: [Version; 2] = [Version::V311, Version::V5];
const BOTH: [Qos; 2] = [Qos::AtLeastOnce, Qos::ExactlyOnce];

fn connect(version: Version, clean_start: bool) -> Connect<'static> {
    let properties = Properties::EMPTY;
    let (will, username, password) = (None, None, None);
    let (bridge, keep_alive, client_id) = (false, 0, "c");
    Connect {
        version,
        bridge,
        clean_start,
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    }
}

/// CONNECT of a session that outlives its connection.
fn keeping(version: Version) -> Connect<'static> {
    let properties = match version {
        Version::V5 => Properties::list(&[Property::SessionExpiryInterval(100)]),
        _ => Properties::EMPTY,
    };
    Connect { properties, ..connect(version, false) }
}

fn message(qos: Qos) -> Publish<'static> {
    let properties = Properties::EMPTY;
    let (dup, retain, packet_id) = (false, false, None);
    Publish { dup, qos, retain, topic: "t", packet_id, properties, payload: b"x" }
}

/// CONNACK with success and these properties.
fn connack(version: Version, present: bool, properties: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::from(present), 0];
    if version == Version::V5 {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    packet::frame(0x20, &body)
}

fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// A client, the time, and a server that says what it is told to say.
struct Scene {
    client: Client<'static>,
    now: Instant,
    /// The identifiers of what was asked for, 0 for QoS 0.
    ids: BTreeMap<Ticket, u16>,
}

impl Scene {
    fn new(options: Options) -> Self {
        let storage = Storage::heap(Sizes { rx: 4096, tx: 4096, aliases: 4096 });
        let client = Client::new(storage, options);
        Self { client, now: Instant::ZERO, ids: BTreeMap::new() }
    }

    /// A client that starts clean and is connected.
    fn connected(version: Version, properties: &[u8]) -> Self {
        let mut scene = Self::new(Options::default());
        scene.join(&connect(version, true), false, properties);
        scene
    }

    fn join(&mut self, connect: &Connect<'_>, present: bool, properties: &[u8]) {
        self.client.connect(self.now, connect).expect("CONNECT");
        self.sent();
        self.hear(&connack(connect.version, present, properties));
        assert_eq!(self.told(), [format!("connected {present}")]);
    }

    fn hear(&mut self, bytes: &[u8]) {
        assert_eq!(self.client.receive(self.now, bytes), bytes.len());
    }

    /// The transport is gone: what is told of that.
    fn cut(&mut self) -> Vec<String> {
        self.client.closed(self.now);
        let mut told = self.told();
        assert_eq!(told.pop().as_deref(), Some("closed"));
        told
    }

    /// The next event in a few words.
    fn next(&mut self) -> Option<String> {
        Some(match self.client.poll_event()? {
            Event::Connected { session_present, .. } => format!("connected {session_present}"),
            Event::Message(message) => {
                format!("message {} {}", message.topic, String::from_utf8_lossy(message.payload))
            }
            Event::Published { ticket, .. } => format!("published {}", self.ids[&ticket]),
            Event::Lost { ticket } => format!("lost {}", self.ids[&ticket]),
            Event::Auth { reason, .. } => format!("auth {reason:?}"),
            Event::Subscribed { .. } => "subscribed".to_owned(),
            Event::Failed(Failure::Protocol(error)) => format!("failed {}", error.rule),
            Event::Closed => "closed".to_owned(),
            event => format!("{event:?}"),
        })
    }

    /// All events there are.
    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// All bytes that are to be sent.
    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while !self.client.transmit().is_empty() {
            let bytes = self.client.transmit().to_vec();
            self.client.transmitted(self.now, bytes.len());
            sent.extend(bytes);
        }
        sent
    }

    /// The same, one entry for each packet: its first byte and, of acknowledgements, SUBSCRIBE and
    /// QoS 1 and 2 messages to `t`, the identifier.
    fn packets(&mut self) -> Vec<(u8, u16)> {
        let sent = self.sent();
        let (mut rest, mut packets) = (&sent[..], Vec::new());
        while let [first, length, ..] = *rest {
            let body = &rest[2..2 + usize::from(length)];
            let at = if first >> 4 == 3 { 3 } else { 0 };
            let has_id = first >> 4 != 3 || first & 6 != 0;
            let id = body.get(at..at + 2).filter(|_| has_id);
            packets.push((first, id.map_or(0, |id| u16::from_be_bytes([id[0], id[1]]))));
            rest = &rest[2 + body.len()..];
        }
        packets
    }

    /// Publishes and sends; answers the identifier.
    fn publish(&mut self, qos: Qos) -> u16 {
        let ticket = self.client.publish(&message(qos)).expect("PUBLISH");
        self.sent_as(ticket)
    }

    fn subscribe(&mut self) -> u16 {
        let filters = [("t", SubscriptionOptions::default())];
        let ticket = self.client.subscribe(&filters, Properties::EMPTY).expect("SUBSCRIBE");
        self.sent_as(ticket)
    }

    fn sent_as(&mut self, ticket: Ticket) -> u16 {
        let (_, id) = *self.packets().last().expect("what was asked for is sent");
        self.ids.insert(ticket, id);
        if id == 0 {
            assert_eq!(self.told(), ["published 0"]);
        }
        id
    }
}

#[test]
fn connect_is_what_the_standard_describes() {
    cites!(
        "v5:MQTT-3.1.0-1 v5:MQTT-3.1.2-1 v5:MQTT-3.1.2-9 v5:MQTT-3.1.2-11 v5:MQTT-3.1.2-13
         v5:MQTT-3.1.2-16 v5:MQTT-3.1.2-17 v5:MQTT-3.1.2-18 v5:MQTT-3.1.2-19 v5:MQTT-3.1.3-1
         v5:MQTT-3.1.3-3 v4:MQTT-3.1.0-1 v4:MQTT-3.1.2-9 v4:MQTT-3.1.2-11 v4:MQTT-3.1.2-13
         v4:MQTT-3.1.2-15 v4:MQTT-3.1.2-18 v4:MQTT-3.1.2-19 v4:MQTT-3.1.2-20 v4:MQTT-3.1.2-21
         v4:MQTT-3.1.3-1 v4:MQTT-3.1.3-3"
    );
    let own = [0x21, 0, 64, 0x27, 0, 0, 0x10, 0, 0x22, 0, 16];
    for version in STRICT {
        let five = version == Version::V5;
        let mut scene = Scene::new(Options::default());
        assert_eq!(scene.client.publish(&message(Qos::AtMostOnce)), Err(SendError::NotConnected));
        scene.client.connect(scene.now, &connect(version, true)).expect("CONNECT");
        let mut body = b"\x00\x04MQTT".to_vec();
        body.extend([version as u8, 2, 0, 0]);
        if five {
            body.push(own.len() as u8);
            body.extend(own);
        }
        packet::string(&mut body, "c");
        assert_eq!(scene.sent(), packet::frame(0x10, &body));

        let properties = Properties::EMPTY;
        let (topic, payload) = ("w", &b"gone"[..]);
        let will = Will { qos: Qos::ExactlyOnce, retain: true, topic, payload, properties };
        let full = Connect {
            will: Some(will),
            username: Some("user"),
            password: Some(b"pass"),
            keep_alive: 258,
            ..connect(version, false)
        };
        let mut scene = Scene::new(Options::default());
        scene.client.connect(scene.now, &full).expect("CONNECT");
        let mut body = b"\x00\x04MQTT".to_vec();
        body.extend([version as u8, 0xF4, 1, 2]);
        if five {
            body.push(own.len() as u8);
            body.extend(own);
        }
        packet::string(&mut body, "c");
        if five {
            body.push(0);
        }
        for field in ["w", "gone", "user", "pass"] {
            packet::string(&mut body, field);
        }
        assert_eq!(scene.sent(), packet::frame(0x10, &body));
    }
}

#[test]
fn only_auth_and_disconnect_are_sent_before_connack() {
    cites!("v5:MQTT-3.1.2-30 v5:MQTT-4.12.0-3 v5:MQTT-4.12.0-5 v5:MQTT-4.12.0-7");
    let mut scene = Scene::new(Options::default());
    let method = Property::AuthenticationMethod("m");
    let list = [method];
    let properties = Properties::list(&list);
    scene
        .client
        .connect(scene.now, &Connect { properties, ..connect(Version::V5, true) })
        .expect("CONNECT");
    scene.sent();
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        assert_eq!(scene.client.publish(&message(qos)), Err(SendError::NotConnected));
    }
    let filters = [("t", SubscriptionOptions::default())];
    assert_eq!(scene.client.subscribe(&filters, Properties::EMPTY), Err(SendError::NotConnected));
    assert_eq!(scene.client.unsubscribe(&["t"], Properties::EMPTY), Err(SendError::NotConnected));
    scene.hear(b"\xF0\x06\x18\x04\x15\x00\x01m");
    assert_eq!(scene.told(), ["auth ContinueAuthentication"]);
    let wrong = Auth { reason: ReasonCode::Reauthenticate, properties };
    assert_eq!(scene.client.auth(&wrong), Err(SendError::NotSupported));
    let auth = Auth { reason: ReasonCode::ContinueAuthentication, properties };
    scene.client.auth(&auth).expect("AUTH");
    assert_eq!(scene.sent(), b"\xF0\x06\x18\x04\x15\x00\x01m");
    // Without a method in CONNECT there is none to speak of.
    let mut scene = Scene::connected(Version::V5, &[]);
    for reason in [ReasonCode::ContinueAuthentication, ReasonCode::Reauthenticate] {
        for properties in [properties, Properties::EMPTY] {
            let auth = Auth { reason, properties };
            assert!(scene.client.auth(&auth).is_err());
        }
    }
    assert_eq!(scene.sent(), []);
}

#[test]
fn a_silent_client_sends_pingreq_within_its_keep_alive() {
    cites!("v5:MQTT-3.1.2-20 v4:MQTT-3.1.2-23");
    for version in STRICT {
        let mut scene = Scene::new(Options::default());
        scene.join(&Connect { keep_alive: 10, ..connect(version, true) }, false, &[]);
        for _ in 0..3 {
            let due = scene.client.poll_timeout().expect("a keep alive");
            assert_eq!(due, scene.now + Duration::from_secs(10));
            scene.now = due;
            scene.client.handle_timeout(due);
            assert_eq!(scene.sent(), [0xC0, 0]);
            scene.hear(&[0xD0, 0]);
            assert!(scene.told().is_empty());
        }
        // Another packet serves as well.
        scene.now = scene.now + Duration::from_secs(6);
        scene.publish(Qos::AtMostOnce);
        let due = scene.client.poll_timeout().expect("a keep alive");
        assert_eq!(due, scene.now + Duration::from_secs(10));
    }
}

#[test]
fn the_keep_alive_of_the_server_replaces_that_of_the_client() {
    cites!("v5:MQTT-3.1.2-21 v5:MQTT-3.2.2-21");
    for (own, told, due) in [(60, 7, Some(7)), (0, 7, Some(7)), (60, 0, None)] {
        let mut scene = Scene::new(Options::default());
        let connect = Connect { keep_alive: own, ..connect(Version::V5, true) };
        scene.join(&connect, false, &[0x13, 0, told]);
        let due = due.map(|secs| scene.now + Duration::from_secs(secs));
        assert_eq!(scene.client.poll_timeout(), due);
    }
}

#[test]
fn a_session_that_the_client_does_not_have_ends_the_connection() {
    cites!("v5:MQTT-3.2.2-4");
    for clean_start in [false, true] {
        let mut scene = Scene::new(Options::default());
        scene.client.connect(scene.now, &connect(Version::V5, clean_start)).expect("CONNECT");
        scene.sent();
        scene.hear(&connack(Version::V5, true, &[]));
        let rule = if clean_start { "MQTT-3.2.2-2" } else { "MQTT-3.2.2-4" };
        assert_eq!(scene.told(), [format!("failed {rule}")]);
        assert_eq!(scene.packets(), [(0xE0, 0)]);
        assert!(scene.client.wants_close() && !scene.client.is_connected());
    }
}

#[test]
fn a_session_that_the_server_does_not_have_is_thrown_away() {
    cites!("v5:MQTT-3.2.2-5 v5:MQTT-3.1.2-4 v4:MQTT-3.1.2-6");
    for version in STRICT {
        for clean_start in [false, true] {
            let mut scene = Scene::new(Options::default());
            scene.join(&keeping(version), false, &[]);
            let ids = [scene.publish(Qos::AtLeastOnce), scene.publish(Qos::ExactlyOnce)];
            scene.sent();
            // A QoS 2 message of the server that was not released belongs to the session too.
            scene.hear(&packet::publish(version, "t", b"old", Qos::ExactlyOnce, 9));
            assert_eq!(scene.told(), ["message t old"]);
            assert!(scene.cut().is_empty());
            let lost = ids.map(|id| format!("lost {id}"));
            scene
                .client
                .connect(scene.now, &Connect { clean_start, ..keeping(version) })
                .expect("CONNECT");
            scene.sent();
            scene.hear(&connack(version, false, &[]));
            let mut told = scene.told();
            told.retain(|event| event != "connected false");
            assert_eq!(told, lost);
            assert_eq!(scene.sent(), [], "nothing is sent again");
            scene.hear(&packet::publish(version, "t", b"new", Qos::ExactlyOnce, 9));
            assert_eq!(scene.told(), ["message t new"], "no repetition");
        }
    }
}

#[test]
fn what_was_not_acknowledged_is_sent_again_in_its_order() {
    cites!(
        "v5:MQTT-4.6.0-1 v5:MQTT-4.4.0-1 v5:MQTT-3.3.1-1 v5:MQTT-4.3.3-6 v5:MQTT-3.1.2-23
         v4:MQTT-4.6.0-1 v4:MQTT-4.4.0-1 v4:MQTT-3.3.1-1 v4:MQTT-2.3.1-3 v4:MQTT-3.1.2-4
         v4:MQTT-4.1.0-1"
    );
    let (one, two) = (Qos::AtLeastOnce, Qos::ExactlyOnce);
    for version in STRICT {
        let mut scene = Scene::new(Options::default());
        scene.join(&keeping(version), false, &[]);
        let ids = [one, two, one, two, one].map(|qos| scene.publish(qos));
        scene.sent();
        scene.hear(&ack(0x40, ids[0]));
        scene.hear(&ack(0x50, ids[3]));
        assert_eq!(scene.told(), [format!("published {}", ids[0])]);
        assert_eq!(scene.packets(), [(0x62, ids[3])]);
        for _ in 0..2 {
            assert!(scene.cut().is_empty());
            scene.client.connect(scene.now, &keeping(version)).expect("CONNECT");
            scene.sent();
            scene.hear(&connack(version, true, &[]));
            assert_eq!(scene.told(), ["connected true"]);
            let again = [(0x3C, ids[1]), (0x3A, ids[2]), (0x62, ids[3]), (0x3A, ids[4])];
            assert_eq!(scene.packets(), again);
        }
        // The identifiers are in use until the last acknowledgement.
        let others = [scene.publish(one), scene.publish(two), scene.subscribe()];
        assert_eq!(scene.packets(), []);
        assert!(others.iter().all(|id| !ids[1..].contains(id)), "{others:?} and {ids:?}");
        scene.hear(&ack(0x70, ids[3]));
        assert_eq!(scene.told(), [format!("published {}", ids[3])]);
    }
}

#[test]
fn identifiers_are_never_0_and_not_in_use() {
    cites!(
        "v5:MQTT-2.2.1-3 v5:MQTT-4.3.2-1 v5:MQTT-4.3.3-1 U5-005 v4:MQTT-2.3.1-1 v4:MQTT-2.3.1-2
         v4:MQTT-4.3.2-1 v4:MQTT-4.3.3-1"
    );
    for version in STRICT {
        let mut scene = Scene::connected(version, &[]);
        let held = [scene.publish(Qos::AtLeastOnce), scene.publish(Qos::ExactlyOnce)];
        let used = [held[0], held[1], scene.subscribe(), scene.subscribe()];
        assert_eq!(BTreeSet::from(used).len(), used.len(), "{used:?}");
        scene.sent();
        for _ in 0..70_000 {
            let id = scene.publish(Qos::AtLeastOnce);
            assert!(id != 0 && !used.contains(&id), "{id} is in use");
            scene.sent();
            scene.hear(&ack(0x40, id));
            assert_eq!(scene.told().len(), 1);
        }
    }
}

#[test]
fn messages_are_acknowledged_in_the_order_they_came() {
    cites!(
        "v5:MQTT-4.6.0-2 v5:MQTT-4.6.0-3 v5:MQTT-4.6.0-4 v4:MQTT-4.6.0-2 v4:MQTT-4.6.0-3
         v4:MQTT-4.6.0-4"
    );
    let manual = Options { manual_ack: true, ..Options::default() };
    for version in STRICT {
        for (qos, first) in BOTH.into_iter().zip([0x40, 0x50]) {
            let mut scene = Scene::new(manual);
            scene.join(&connect(version, true), false, &[]);
            let mut tickets = Vec::new();
            for id in [7, 3, 9] {
                scene.hear(&packet::publish(version, "t", b"x", qos, id));
                match scene.client.poll_event() {
                    Some(Event::Message(message)) => tickets.push(message.ticket),
                    other => panic!("{other:?}"),
                }
            }
            // The program is ready with them in another order.
            scene.client.ack(tickets[2]);
            scene.client.ack(tickets[1]);
            assert_eq!(scene.packets(), []);
            scene.client.ack(tickets[0]);
            assert_eq!(scene.packets(), [(first, 7), (first, 3), (first, 9)]);
        }
        let mut scene = Scene::connected(version, &[]);
        let ids = [(); 3].map(|()| scene.publish(Qos::ExactlyOnce));
        scene.sent();
        for id in [ids[2], ids[0], ids[1]] {
            scene.hear(&ack(0x50, id));
        }
        assert!(scene.told().is_empty());
        assert_eq!(scene.packets(), [(0x62, ids[2]), (0x62, ids[0]), (0x62, ids[1])]);
    }
}

#[test]
fn every_message_is_acknowledged_by_its_qos() {
    cites!(
        "v5:MQTT-4.5.0-2 v5:MQTT-3.3.4-1 v5:MQTT-4.3.2-4 v5:MQTT-4.3.3-8 v5:MQTT-4.3.3-10
         v5:MQTT-4.3.3-11 v4:MQTT-4.5.0-2 v4:MQTT-3.3.4-1 v4:MQTT-4.3.2-2 v4:MQTT-4.3.3-2"
    );
    for version in STRICT {
        let mut scene = Scene::connected(version, &[]);
        for (qos, id, answer) in [
            (Qos::AtMostOnce, 0, &[][..]),
            (Qos::AtLeastOnce, 1, &[(0x40, 1)]),
            (Qos::ExactlyOnce, 2, &[(0x50, 2)]),
        ] {
            scene.hear(&packet::publish(version, "t", b"x", qos, id));
            assert_eq!(scene.told(), ["message t x"]);
            assert_eq!(scene.packets(), answer);
        }
        let mut again = packet::publish(version, "t", b"x", Qos::ExactlyOnce, 2);
        again[0] |= 8;
        scene.hear(&again);
        assert!(scene.told().is_empty(), "it was delivered before");
        assert_eq!(scene.packets(), [(0x50, 2)]);
        scene.hear(&ack(0x62, 2));
        assert!(scene.told().is_empty());
        assert_eq!(scene.packets(), [(0x70, 2)]);
    }
}

/// PUBLISH of 5.0 at QoS 0 with a topic alias.
fn aliased(topic: &str, alias: u16) -> Vec<u8> {
    let mut body = Vec::new();
    packet::string(&mut body, topic);
    body.extend([3, 0x23]);
    body.extend(alias.to_be_bytes());
    packet::frame(0x30, &body)
}

#[test]
fn aliases_up_to_the_announced_maximum_are_accepted() {
    cites!("v5:MQTT-3.3.2-10 v5:MQTT-3.3.2-7 U5-045 U5-046");
    let mut scene = Scene::connected(Version::V5, &[]);
    for alias in 1..=16 {
        scene.hear(&aliased(&format!("t{alias}"), alias));
        scene.hear(&aliased("", alias));
        assert_eq!(scene.told(), [format!("message t{alias} "), format!("message t{alias} ")]);
    }
    scene.hear(&aliased("new", 3));
    scene.hear(&aliased("", 3));
    assert_eq!(scene.told(), ["message new ", "message new "]);
    scene.hear(&aliased("t", 17));
    assert_eq!(scene.told(), ["failed U5-044"]);
    assert_eq!(scene.sent(), [0xE0, 1, 0x94]);
    assert!(scene.client.wants_close());
    assert!(scene.cut().is_empty());
    scene.join(&connect(Version::V5, true), false, &[]);
    scene.hear(&aliased("", 3)); // of the connection before
    assert_eq!(scene.told(), ["failed U5-045"]);
}

#[test]
fn a_full_window_of_the_server_holds_back_nothing_but_publish() {
    cites!("v5:MQTT-3.3.4-7 v5:MQTT-3.3.4-8 v5:MQTT-4.9.0-2 v5:MQTT-4.9.0-3 U5-073");
    let mut scene = Scene::connected(Version::V5, &[0x21, 0, 2]);
    let ids = BOTH.map(|qos| scene.publish(qos));
    for qos in BOTH {
        assert_eq!(scene.client.publish(&message(qos)), Err(SendError::Full));
    }
    // Both see to it that they are sent.
    assert_eq!(scene.publish(Qos::AtMostOnce), 0);
    assert_ne!(scene.subscribe(), 0);
    scene.hear(&packet::publish(Version::V5, "t", b"x", Qos::AtLeastOnce, 5));
    assert_eq!(scene.told(), ["message t x"]);
    assert_eq!(scene.packets(), [(0x40, 5)]);
    scene.hear(&ack(0x50, ids[1]));
    scene.told();
    assert_eq!(scene.packets(), [(0x62, ids[1])], "PUBREL is not held back");
    assert_eq!(scene.client.publish(&message(BOTH[0])), Err(SendError::Full));
    scene.hear(&ack(0x70, ids[1]));
    scene.told();
    scene.publish(BOTH[0]);
    assert_eq!(scene.client.publish(&message(BOTH[0])), Err(SendError::Full));
}

#[test]
fn nothing_follows_disconnect() {
    cites!("v5:MQTT-3.14.4-1 v5:MQTT-3.14.4-2 v4:MQTT-3.14.4-1 v4:MQTT-3.14.4-2");
    for version in STRICT {
        let mut scene = Scene::connected(version, &[]);
        let properties = Properties::EMPTY;
        let disconnect = Disconnect { reason: ReasonCode::Success, properties };
        scene.client.disconnect(scene.now, &disconnect).expect("DISCONNECT");
        assert_eq!(scene.sent(), [0xE0, 0]);
        assert!(scene.client.wants_close(), "the driver closes the transport");
        assert_eq!(scene.client.publish(&message(Qos::AtMostOnce)), Err(SendError::NotConnected));
        scene.hear(&packet::publish(version, "t", b"x", Qos::AtLeastOnce, 1));
        scene.told();
        scene.client.handle_timeout(scene.now + Duration::from_secs(100_000));
        assert_eq!(scene.sent(), []);
    }
}

#[test]
fn the_limits_of_the_server_are_kept() {
    cites!(
        "v5:MQTT-3.2.2-11 v5:MQTT-3.2.2-14 v5:MQTT-3.2.2-15 v5:MQTT-3.2.2-17 v5:MQTT-3.2.2-18
         v5:MQTT-3.3.2-8 v5:MQTT-3.3.2-9 v5:MQTT-3.3.4-6"
    );
    let limits = [0x24, 1, 0x25, 0, 0x27, 0, 0, 0, 30, 0x22, 0, 2];
    let mut scene = Scene::connected(Version::V5, &limits);
    let not_supported = Err(SendError::NotSupported);
    assert_eq!(scene.client.publish(&message(Qos::ExactlyOnce)), not_supported);
    let plain = message(Qos::AtMostOnce);
    assert_eq!(scene.client.publish(&Publish { retain: true, ..plain }), not_supported);
    // 2 of the header, 3 of the topic, 1 of the properties.
    let fits = Publish { payload: &[0; 24], ..plain };
    assert!(scene.client.publish(&fits).is_ok());
    let large = Publish { payload: &[0; 25], ..plain };
    assert_eq!(scene.client.publish(&large), Err(SendError::TooLarge));
    scene.sent();
    // The client sets two aliases itself, from 1 on, and the program none.
    let topics = ["one", "two", "three", "two", "one"];
    let sent = [("one", 1), ("two", 2), ("three", 0), ("", 2), ("", 1)];
    for (topic, (name, alias)) in topics.into_iter().zip(sent) {
        let publish = Publish { topic, payload: b"", ..plain };
        assert!(scene.client.publish(&publish).is_ok());
        let expected = match alias {
            0 => packet::publish(Version::V5, name, b"", Qos::AtMostOnce, 0),
            _ => aliased(name, alias),
        };
        assert_eq!(scene.sent(), expected);
    }
    for own in [Property::SubscriptionIdentifier(1), Property::TopicAlias(1)] {
        let list = [own];
        let publish = Publish { properties: Properties::list(&list), ..plain };
        let refused = Err(SendError::Encode(EncodeError::Property));
        assert_eq!(scene.client.publish(&publish), refused);
    }
    let mut scene = Scene::connected(Version::V5, &[]);
    for _ in 0..2 {
        let publish = Publish { topic: "topic", payload: b"", ..plain };
        assert!(scene.client.publish(&publish).is_ok());
        let expected = packet::publish(Version::V5, "topic", b"", Qos::AtMostOnce, 0);
        assert_eq!(scene.sent(), expected, "none were announced");
    }
}

#[test]
fn kinds_of_subscriptions_that_the_server_has_not_are_not_asked_for() {
    let has_not = [(0x28, "a/+"), (0x28, "#"), (0x2A, "$share/g/a"), (0x29, "a")];
    let options = SubscriptionOptions::default();
    for (property, filter) in has_not {
        let identifier = [Property::SubscriptionIdentifier(1)];
        let list = if property == 0x29 { &identifier[..] } else { &[] };
        for (value, offered) in [(0, false), (1, true)] {
            let mut scene = Scene::connected(Version::V5, &[property, value]);
            let asked = scene.client.subscribe(&[(filter, options)], Properties::list(list));
            assert_eq!(asked.is_ok(), offered, "{property:x} {filter}");
            assert_eq!(scene.sent().is_empty(), !offered);
        }
    }
}

#[test]
fn the_stream_of_the_server_may_come_in_pieces() {
    cites!("v5:MQTT-4.2.0-1 v4:MQTT-7.1.2-1");
    for version in STRICT {
        let stream = [
            connack(version, false, &[]),
            packet::publish(version, "t", b"one", Qos::AtMostOnce, 0),
            packet::publish(version, "t", b"two", Qos::AtLeastOnce, 1),
        ]
        .concat();
        for size in [1, 5, stream.len()] {
            let mut scene = Scene::new(Options::default());
            scene.client.connect(scene.now, &connect(version, true)).expect("CONNECT");
            scene.sent();
            let mut told = Vec::new();
            for piece in stream.chunks(size) {
                scene.hear(piece);
                told.extend(scene.told());
            }
            assert_eq!(told, ["connected false", "message t one", "message t two"]);
            assert_eq!(scene.packets(), [(0x40, 1)]);
        }
    }
}
