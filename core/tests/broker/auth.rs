//! Enhanced authentication and re-authentication, as effects and inputs.

use bytes::Bytes;
use fulmar_core::ConnId;
use fulmar_core::broker::{AuthStep, Config, DisconnectReason, Event, Verdict};
use fulmar_core::codec::{
    Auth, Connect, Disconnect, Packet, Properties, Property, PropertyId, ReasonCode,
};

use crate::harness::*;

const METHOD: Property<'_> = Property::AuthenticationMethod("scram");

fn auth<'a>(reason: ReasonCode, properties: &'a [Property<'a>]) -> Packet<'a> {
    Packet::Auth(Auth { reason, properties: Properties::list(properties) })
}

fn data(properties: &Properties<'_>) -> Option<Vec<u8>> {
    match properties.find(PropertyId::AuthenticationData) {
        Some(Property::AuthenticationData(data)) => Some(data.to_vec()),
        _ => None,
    }
}

/// A client that has sent CONNECT with a method; the broker waits for a decision.
fn begin(rig: &mut Rig) -> ConnId {
    rig.accept = false;
    let conn = rig.open();
    let properties =
        [METHOD, Property::AuthenticationData(b"first"), Property::SessionExpiryInterval(9)];
    let connect = Connect {
        username: Some("u"),
        will: Some(will("w", b"x", Properties::EMPTY)),
        properties: Properties::list(&properties),
        ..hello(V5, "a")
    };
    rig.send(conn, V5, &[Packet::Connect(connect)]);
    let (asked, request) = rig.requests.pop().expect("a request");
    assert_eq!(asked, conn);
    assert_eq!((request.client_id.as_str(), request.step), ("a", AuthStep::Connect));
    assert_eq!(request.method.as_deref(), Some("scram"));
    assert_eq!(request.data.as_deref(), Some(&b"first"[..]));
    conn
}

/// A client that was accepted after one more step.
fn connected(rig: &mut Rig) -> ConnId {
    let conn = begin(rig);
    rig.decide(conn, Verdict::Continue { data: Some(Bytes::from_static(b"salt")) });
    let sent = rig.take(conn);
    let [Packet::Auth(asked)] = &packets(V5, &sent)[..] else { panic!("{sent:?}") };
    // [MQTT-4.12.0-2] [MQTT-4.12.0-3]
    assert_eq!(asked.reason, ReasonCode::ContinueAuthentication);
    assert_eq!(asked.properties.find(PropertyId::AuthenticationMethod), Some(METHOD));
    assert_eq!(data(&asked.properties).as_deref(), Some(&b"salt"[..]));

    let proof = [METHOD, Property::AuthenticationData(b"proof")];
    rig.send(conn, V5, &[auth(ReasonCode::ContinueAuthentication, &proof)]);
    let (_, request) = rig.requests.pop().expect("a request");
    assert_eq!((request.client_id.as_str(), request.step), ("a", AuthStep::Continue));
    assert_eq!(request.data.as_deref(), Some(&b"proof"[..]));
    rig.decide(conn, Verdict::Accept { data: Some(Bytes::from_static(b"sure")) });
    let sent = rig.take(conn);
    let [Packet::Connack(connack)] = &packets(V5, &sent)[..] else { panic!("{sent:?}") };
    assert_eq!(connack.reason, ReasonCode::Success);
    // [MQTT-4.12.0-5]
    assert_eq!(connack.properties.find(PropertyId::AuthenticationMethod), Some(METHOD));
    assert_eq!(data(&connack.properties).as_deref(), Some(&b"sure"[..]));
    conn
}

fn why(rig: &Rig) -> DisconnectReason {
    let last = rig.events.iter().rev().find_map(|event| match event {
        Event::Disconnected(end) => Some(end.why),
        _ => None,
    });
    last.expect("a disconnection")
}

#[test]
fn authentication_takes_several_steps_and_keeps_what_connect_said() {
    let mut rig = Rig::new(Config::default());
    let conn = connected(&mut rig);
    let Some(Event::Connected(event)) = rig.events.last() else { panic!("{:?}", rig.events) };
    assert_eq!(&*event.client_id, "a");
    rig.send(conn, V5, &[Packet::Pingreq]);
    assert_eq!(rig.take(conn), [0xd0, 0]);
    // What the first packet said is in force: will and session expiry.
    rig.accept = true;
    let watcher = rig.connect(V311, "watcher", true);
    rig.send(watcher, V311, &[subscribe(&filter("w", Q0))]);
    rig.hang_up(conn);
    assert_eq!(rig.messages(watcher, V311), [b"x"]);
    assert_eq!(rig.broker.stats().sessions, 2);
    rig.advance(9_000_000);
    assert_eq!(rig.broker.stats().sessions, 1);
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let mut rig = Rig::new(Config::default());
    let conn = begin(&mut rig);
    rig.decide(conn, Verdict::Refuse(ReasonCode::BadAuthenticationMethod));
    // [MQTT-4.12.0-1]
    assert_eq!(rig.take(conn), [0x20, 3, 0, 0x8c, 0]);
    assert_eq!(rig.closed, [conn]);
    let conn = begin(&mut rig);
    rig.decide(conn, Verdict::Continue { data: None });
    rig.take(conn);
    rig.send(conn, V5, &[auth(ReasonCode::ContinueAuthentication, &[METHOD])]);
    rig.decide(conn, Verdict::Refuse(ReasonCode::NotAuthorized));
    assert_eq!(rig.take(conn), [0x20, 3, 0, 0x87, 0]);
    assert_eq!(rig.broker.stats().sessions, 0);
}

#[test]
fn between_connect_and_connack_only_auth_and_disconnect_may_come() {
    let mut rig = Rig::new(Config::default());
    let conn = begin(&mut rig);
    rig.decide(conn, Verdict::Continue { data: None });
    rig.take(conn);
    // [MQTT-3.1.2-30]
    rig.send(conn, V5, &[Packet::Pingreq]);
    let sent = rig.take(conn);
    assert!(
        matches!(&packets(V5, &sent)[..],
        [Packet::Connack(connack)] if connack.reason == ReasonCode::ProtocolError),
        "{sent:?}"
    );
    let conn = begin(&mut rig);
    rig.decide(conn, Verdict::Continue { data: None });
    rig.take(conn);
    let properties = Properties::EMPTY;
    let reason = ReasonCode::Success;
    rig.send(conn, V5, &[Packet::Disconnect(Disconnect { reason, properties })]);
    assert_eq!((rig.take(conn), rig.closed.last()), (Vec::new(), Some(&conn)));
}

#[test]
fn a_method_that_changes_ends_the_connection() {
    let mut rig = Rig::new(Config::default());
    let conn = begin(&mut rig);
    rig.decide(conn, Verdict::Continue { data: None });
    rig.take(conn);
    let other = [Property::AuthenticationMethod("plain")];
    rig.send(conn, V5, &[auth(ReasonCode::ContinueAuthentication, &other)]);
    assert!(rig.closed.contains(&conn));
    let conn = connected(&mut rig);
    rig.send(conn, V5, &[auth(ReasonCode::Reauthenticate, &other)]);
    // [MQTT-4.12.1-1]
    let sent = rig.take(conn);
    assert!(
        matches!(&packets(V5, &sent)[..],
        [Packet::Disconnect(end)] if end.reason == ReasonCode::ProtocolError),
        "{sent:?}"
    );
    // Without a method in CONNECT there is no AUTH. [MQTT-4.12.0-7]
    rig.accept = true;
    let conn = rig.connect(V5, "b", true);
    rig.send(conn, V5, &[auth(ReasonCode::Reauthenticate, &[METHOD])]);
    assert!(rig.closed.contains(&conn));
}

#[test]
fn re_authentication_keeps_the_client_and_its_traffic() {
    let mut rig = Rig::new(Config::default());
    let conn = connected(&mut rig);
    rig.send(conn, V5, &[auth(ReasonCode::Reauthenticate, &[METHOD]), Packet::Pingreq]);
    let (_, request) = rig.requests.pop().expect("a request");
    assert_eq!((request.client_id.as_str(), request.step), ("a", AuthStep::Reauthenticate));
    assert_eq!((rig.take(conn), &rig.paused[..]), (Vec::new(), &[conn][..]), "the rest waits");
    rig.decide(conn, Verdict::Continue { data: None });
    let sent = rig.take(conn);
    let reasons = packets(V5, &sent);
    assert!(
        matches!(&reasons[..],
        [Packet::Auth(auth), Packet::Pingresp]
            if auth.reason == ReasonCode::ContinueAuthentication),
        "{reasons:?}"
    );
    rig.send(conn, V5, &[publish("t", b"", Q1, 1)]);
    assert_eq!(rig.take(conn), [0x40, 3, 0, 1, 0x10], "traffic goes on");
    rig.send(conn, V5, &[auth(ReasonCode::ContinueAuthentication, &[METHOD])]);
    rig.decide(conn, Verdict::Accept { data: None });
    let sent = rig.take(conn);
    assert!(
        matches!(&packets(V5, &sent)[..],
        [Packet::Auth(auth)] if auth.reason == ReasonCode::Success),
        "{sent:?}"
    );
    // It is over: nothing is there to be continued.
    rig.send(conn, V5, &[auth(ReasonCode::ContinueAuthentication, &[METHOD])]);
    assert!(rig.closed.contains(&conn));
}

#[test]
fn a_failed_re_authentication_ends_the_connection() {
    let mut rig = Rig::new(Config::default());
    let conn = connected(&mut rig);
    rig.send(conn, V5, &[auth(ReasonCode::Reauthenticate, &[METHOD])]);
    rig.decide(conn, Verdict::Refuse(ReasonCode::BadUserNameOrPassword));
    // [MQTT-4.12.1-2]
    assert_eq!(rig.take(conn), [0xe0, 1, 0x87]);
    assert_eq!(why(&rig), DisconnectReason::Refused(ReasonCode::BadUserNameOrPassword));
}

#[test]
fn a_step_that_cannot_be_sent_refuses_the_client() {
    let mut rig = Rig::new(Config::default());
    rig.accept = false;
    let conn = rig.open();
    rig.send(conn, V311, &[Packet::Connect(hello(V311, "old"))]);
    rig.decide(conn, Verdict::Continue { data: None });
    assert_eq!(rig.take(conn), [0x20, 2, 0, 5]);
    assert!(rig.closed.contains(&conn));
}

#[test]
fn time_for_connect_runs_on_through_every_step() {
    let mut rig = Rig::new(Config::default());
    let conn = begin(&mut rig);
    for _ in 0..6 {
        rig.decide(conn, Verdict::Continue { data: None });
        rig.send(conn, V5, &[auth(ReasonCode::ContinueAuthentication, &[METHOD])]);
        rig.advance(1_000_000);
    }
    assert_eq!(why(&rig), DisconnectReason::ConnectTimeout);
    // Late answers are harmless.
    rig.decide(conn, Verdict::Accept { data: None });
    assert_eq!(rig.broker.stats().sessions, 0);
}
