//! Enhanced authentication of 5.0 that succeeds. The binary knows no method yet, so that these
//! tests give the verdicts themselves.

use fulmar_core::broker::{AuthStep, Boot, Broker, Config, ConnId, ConnInfo, Effect, Input};
use fulmar_core::broker::{Outbox, Verdict};
use fulmar_core::{Instant, ReasonCode};
use fulmar_tests::{cites, packet};

const NOW: Instant = Instant::ZERO;

/// A property that is a string or binary data.
fn property(id: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![id];
    packet::string(&mut bytes, text);
    bytes
}

fn method(name: &str) -> Vec<u8> {
    property(0x15, name)
}

fn data(data: &str) -> Vec<u8> {
    property(0x16, data)
}

/// CONNECT of client `c` with these properties of less than 128 bytes in all.
fn connect(properties: &[Vec<u8>]) -> Vec<u8> {
    let properties = properties.concat();
    let mut body = Vec::new();
    packet::string(&mut body, "MQTT");
    body.extend([5, 2, 0, 0, properties.len() as u8]);
    body.extend(properties);
    packet::string(&mut body, "c");
    packet::frame(0x10, &body)
}

/// AUTH with this reason and these properties of less than 128 bytes in all.
fn auth(reason: u8, properties: &[Vec<u8>]) -> Vec<u8> {
    let properties = properties.concat();
    packet::frame(0xF0, &[&[reason, properties.len() as u8], &properties[..]].concat())
}

/// A broker with one connection.
struct Scene {
    broker: Broker,
    conn: ConnId,
}

impl Scene {
    fn new() -> Self {
        let boot = Boot { now: NOW, unix_millis: 0, seed: 1, epoch: 1 };
        let mut broker = Broker::new(Config::default(), boot);
        let conn = broker.open(NOW, ConnInfo::default()).expect("a free connection");
        Self { broker, conn }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.broker.handle(NOW, Input::Received { conn: self.conn, bytes });
    }

    fn decide(&mut self, verdict: Verdict) {
        self.broker.handle(NOW, Input::Authenticated { conn: self.conn, verdict });
    }

    fn go_on(&mut self, with: &'static str) {
        self.decide(Verdict::Continue { data: Some(with.as_bytes().into()) });
    }

    fn accept(&mut self) {
        self.decide(Verdict::Accept { data: Some(b"done"[..].into()) });
    }

    /// The request for a decision that the broker makes next, before anything is sent.
    fn asked(&mut self) -> (AuthStep, Option<String>, Option<Vec<u8>>) {
        loop {
            match self.broker.poll_effect() {
                Some(Effect::Authenticate { request, .. }) => {
                    return (request.step, request.method, request.data);
                }
                Some(Effect::Transmit(_)) | None => panic!("nothing is asked"),
                Some(_) => {}
            }
        }
    }

    /// The bytes sent until the broker wants nothing more, and whether it closes.
    fn answers(&mut self) -> (Vec<u8>, bool) {
        let (mut sent, mut closes) = (Vec::new(), false);
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Transmit(conn) => {
                    let mut outbox = Outbox::new();
                    while self.broker.transmit(NOW, conn, &mut outbox, 4096) {}
                    sent.extend(outbox.slices().flatten());
                }
                Effect::Close { .. } => closes = true,
                Effect::Authenticate { .. } => panic!("a decision is asked for"),
                _ => {}
            }
        }
        (sent, closes)
    }

    /// A client accepted with method `m`.
    fn connected() -> Self {
        let mut scene = Self::new();
        scene.send(&connect(&[method("m")]));
        scene.asked();
        scene.accept();
        let (connack, closes) = scene.answers();
        assert!(connack.starts_with(&[0x20]) && connack[3] == 0 && !closes, "{connack:02x?}");
        scene
    }
}

/// Whether `packet` contains these bytes.
fn contains(packet: &[u8], bytes: &[u8]) -> bool {
    packet.windows(bytes.len()).any(|window| window == bytes)
}

#[test]
fn a_client_is_accepted_after_a_step_in_each_direction() {
    cites!(
        "v5:MQTT-4.12.0-2 v5:MQTT-4.12.0-3 v5:MQTT-4.12.0-5 v5:MQTT-3.2.0-1 v5:MQTT-3.15.2-1
         v5:MQTT-3.1.2-30"
    );
    let mut scene = Scene::new();
    scene.send(&connect(&[method("m"), data("first")]));
    let request = (AuthStep::Connect, Some("m".into()), Some(b"first".to_vec()));
    assert_eq!(scene.asked(), request);
    scene.go_on("challenge");
    let (sent, closes) = scene.answers();
    assert_eq!(sent, auth(0x18, &[method("m"), data("challenge")]));
    assert!(!closes);
    scene.send(&auth(0x18, &[method("m"), data("response")]));
    let request = (AuthStep::Continue, Some("m".into()), Some(b"response".to_vec()));
    assert_eq!(scene.asked(), request);
    scene.accept();
    let (connack, closes) = scene.answers();
    assert!(connack.starts_with(&[0x20]) && connack[3] == 0 && !closes, "{connack:02x?}");
    assert!(contains(&connack, &method("m")) && contains(&connack, &data("done")));
    scene.send(&[0xC0, 0]);
    assert_eq!(scene.answers(), (vec![0xD0, 0], false));
}

#[test]
fn only_auth_and_disconnect_may_come_before_connack() {
    cites!("v5:MQTT-3.1.2-30 v5:MQTT-3.14.0-1 v5:MQTT-4.13.1-1");
    for packet in [
        vec![0xC0, 0],
        packet::publish(fulmar_core::Version::V5, "t", b"", fulmar_core::Qos::AtMostOnce, 0),
        packet::subscribe(fulmar_core::Version::V5, 1, "t", fulmar_core::Qos::AtMostOnce),
    ] {
        let mut scene = Scene::new();
        scene.send(&connect(&[method("m")]));
        scene.asked();
        scene.go_on("challenge");
        scene.answers();
        scene.send(&packet);
        let (sent, closes) = scene.answers();
        assert!(closes && sent[0] == 0x20 && sent[3] == 0x82, "{sent:02x?}");
    }
    let mut scene = Scene::new();
    scene.send(&connect(&[method("m")]));
    scene.asked();
    scene.go_on("challenge");
    scene.answers();
    scene.send(&[0xE0, 0]);
    assert_eq!(scene.answers(), (vec![], true));
}

#[test]
fn authentication_can_be_refused_at_every_step() {
    cites!("v5:MQTT-4.12.0-4 v5:MQTT-3.1.4-2 v5:MQTT-3.2.2-7");
    for steps in 0..3 {
        let mut scene = Scene::new();
        scene.send(&connect(&[method("m")]));
        for _ in 0..steps {
            scene.asked();
            scene.go_on("challenge");
            scene.answers();
            scene.send(&auth(0x18, &[method("m")]));
        }
        scene.asked();
        scene.decide(Verdict::Refuse(ReasonCode::NotAuthorized));
        let (sent, closes) = scene.answers();
        assert!(closes && sent[0] == 0x20 && sent[2..4] == [0, 0x87], "{sent:02x?}");
    }
}

#[test]
fn the_method_cannot_be_changed_on_the_way() {
    cites!("v5:MQTT-4.12.0-5 U5-067 U5-068");
    for wrong in [auth(0x18, &[method("other")]), auth(0x18, &[data("no method")])] {
        let mut scene = Scene::new();
        scene.send(&connect(&[method("m")]));
        scene.asked();
        scene.go_on("challenge");
        scene.answers();
        scene.send(&wrong);
        let (sent, closes) = scene.answers();
        assert!(closes && sent[0] == 0x20 && sent[3] == 0x82, "{sent:02x?}");
    }
}

#[test]
fn a_client_authenticates_again_while_it_is_connected() {
    cites!("v5:MQTT-4.12.1-1 v5:MQTT-4.12.0-2 v5:MQTT-4.12.0-5 v5:MQTT-3.15.2-1");
    let mut scene = Scene::connected();
    scene.send(&auth(0x19, &[method("m"), data("again")]));
    let request = (AuthStep::Reauthenticate, Some("m".into()), Some(b"again".to_vec()));
    assert_eq!(scene.asked(), request);
    scene.go_on("challenge");
    assert_eq!(scene.answers(), (auth(0x18, &[method("m"), data("challenge")]), false));
    scene.send(&[0xC0, 0]); // other packets go on meanwhile
    assert_eq!(scene.answers(), (vec![0xD0, 0], false));
    scene.send(&auth(0x18, &[method("m")]));
    assert_eq!(scene.asked().0, AuthStep::Continue);
    scene.accept();
    assert_eq!(scene.answers(), (auth(0, &[method("m"), data("done")]), false));
}

#[test]
fn authenticating_again_with_another_method_is_a_protocol_error() {
    cites!("v5:MQTT-4.12.1-1 U5-067");
    let mut scene = Scene::connected();
    scene.send(&auth(0x19, &[method("other")]));
    let (sent, closes) = scene.answers();
    assert!(closes && sent[0] == 0xE0 && sent[2] == 0x82, "{sent:02x?}");
}

#[test]
fn a_client_that_fails_to_authenticate_again_is_disconnected() {
    cites!("v5:MQTT-4.12.1-2 v5:MQTT-3.14.4-2");
    let mut scene = Scene::connected();
    scene.send(&auth(0x19, &[method("m")]));
    scene.asked();
    scene.decide(Verdict::Refuse(ReasonCode::NotAuthorized));
    let (sent, closes) = scene.answers();
    assert!(closes && sent[0] == 0xE0 && sent[2] == 0x87, "{sent:02x?}");
}

/// The broker gives no explanations in AUTH, and no AUTH that the client cannot take.
#[test]
fn auth_is_never_larger_than_the_client_can_take() {
    cites!("v5:MQTT-3.15.2-2 v5:MQTT-3.15.2-3 v5:MQTT-3.1.2-24");
    let challenge = auth(0x18, &[method("m"), data("challenge")]);
    for (limit, fits) in [(challenge.len() as u8, true), (challenge.len() as u8 - 1, false)] {
        let mut scene = Scene::new();
        scene.send(&connect(&[method("m"), vec![0x27, 0, 0, 0, limit]]));
        scene.asked();
        scene.go_on("challenge");
        let (sent, closes) = scene.answers();
        if fits {
            assert_eq!((sent, closes), (challenge.clone(), false));
        } else {
            // A client that cannot be asked cannot be accepted either.
            assert!(sent.len() <= usize::from(limit) && closes, "{sent:02x?}, closes: {closes}");
        }
    }
}
