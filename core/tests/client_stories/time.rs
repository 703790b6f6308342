use fulmar_core::Instant;
use fulmar_core::client::Options;
use fulmar_core::codec::{
    Connect, Disconnect, Packet, Properties, Property, Qos, ReasonCode, Version,
};

use super::{Scene, clean, keeping};

const V311: Version = Version::V311;
const V5: Version = Version::V5;

fn secs(secs: u64) -> Option<Instant> {
    Some(Instant::ZERO.after_secs(secs))
}

#[test]
fn a_silent_client_pings_and_a_busy_one_does_not() {
    // [MQTT-3.1.2-20]
    let mut scene = Scene::connected(V311, Options::default(), &[]);
    scene.events();
    assert_eq!(scene.client.poll_timeout(), secs(30));
    scene.later(20);
    scene.publish("t", Qos::AtMostOnce).unwrap();
    assert_eq!(scene.sent().len(), 1);
    scene.events();
    assert_eq!(scene.client.poll_timeout(), secs(50));
    scene.later(29);
    assert_eq!(scene.sent().len(), 0);
    scene.later(1);
    assert_eq!(scene.sent(), ["<Pingreq>"]);
    assert_eq!(scene.client.poll_timeout(), secs(60));
    scene.later(9);
    scene.give(&Packet::Pingresp);
    assert_eq!(scene.events(), [""; 0]);
    assert_eq!(scene.client.poll_timeout(), secs(80));
    scene.later(21);
    assert_eq!(scene.sent(), ["<Pingreq>"]);
}

#[test]
fn a_server_that_does_not_answer_has_failed() {
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.events();
    scene.later(30);
    // Even if PINGREQ cannot be sent.
    assert_eq!(scene.client.poll_timeout(), secs(40));
    scene.later(5);
    // A sign of life, though not an answer.
    scene.give_bytes(&[0x30]);
    assert_eq!(scene.client.poll_timeout(), secs(45));
    scene.later(5);
    assert!(scene.client.is_connected());
    scene.later(5);
    assert_eq!(scene.events(), ["failed: no answer to PINGREQ"]);
    assert!(scene.client.wants_close());
    assert_eq!(scene.sent().len(), 0);
    assert_eq!(scene.cut(), ["closed"]);
    assert_eq!(scene.client.poll_timeout(), None);
}

#[test]
fn an_answer_may_wait_for_the_application() {
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.events();
    scene.later(30);
    assert_eq!(scene.sent(), ["<Pingreq>"]);
    scene.give(&Packet::Pingresp);
    scene.later(20);
    assert!(scene.client.is_connected());
    assert_eq!(scene.client.poll_timeout(), secs(60));
    scene.events();
    assert_eq!(scene.client.poll_timeout(), secs(60));
}

#[test]
fn the_server_decides_the_keep_alive() {
    // [MQTT-3.1.2-21] [MQTT-3.2.2-21]
    for (asked, server, expected) in
        [(30, Some(5), 5), (0, Some(5), 5), (30, Some(0), 0), (0, None, 0)]
    {
        let mut scene = Scene::new(V5, Options::default());
        let list = server.map(Property::ServerKeepAlive);
        let connect = Connect { keep_alive: asked, ..clean(V5) };
        scene.connect(&connect, false, list.as_slice());
        assert_eq!(scene.events(), [format!("connected present=false keep_alive={expected}")]);
        let deadline = (expected > 0).then(|| Instant::ZERO.after_secs(expected));
        assert_eq!(scene.client.poll_timeout(), deadline);
    }
}

#[test]
fn connect_is_answered_in_time_or_the_connection_has_failed() {
    let mut scene = Scene::new(V311, Options::default());
    assert_eq!(scene.client.poll_timeout(), None);
    scene.client.connect(scene.now, &clean(V311)).unwrap();
    scene.sent();
    assert_eq!(scene.client.poll_timeout(), secs(10));
    scene.later(9);
    assert_eq!(scene.events(), [""; 0]);
    scene.later(1);
    assert_eq!(scene.events(), ["failed: no answer to CONNECT"]);
    assert!(scene.client.wants_close());
    assert_eq!(scene.cut(), ["closed"]);
}

#[test]
fn a_transport_that_takes_nothing_is_closed_at_last() {
    let mut scene = Scene::connected(V311, Options::default(), &[]);
    scene.events();
    scene.later(3);
    scene.publish("t", Qos::AtLeastOnce).unwrap();
    let last = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
    scene.client.disconnect(scene.now, &last).unwrap();
    assert_eq!(scene.client.poll_timeout(), secs(8));
    scene.later(4);
    assert!(!scene.client.wants_close());
    scene.later(1);
    assert!(scene.client.wants_close());
    assert_eq!(scene.client.poll_timeout(), None);
    assert_eq!(scene.cut(), ["closed"]);
    scene.connect(&keeping(V311), true, &[]);
    assert_eq!(scene.events().len(), 1);
    assert_eq!(scene.sent().len(), 1);
}
