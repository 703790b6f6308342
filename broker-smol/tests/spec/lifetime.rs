//! Keep alive, authentication, and two clients with one identifier.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Broker, Connect, PUBCOMP, PUBREL, Packet, V311, ack, unique};
use crate::{client, resume, setup};

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

#[test]
fn pings_keep_a_connection_alive() {
    cites!("v4:MQTT-3.12.4-1 v4:MQTT-3.1.2-24");
    let (broker, _) = setup("keep-alive");
    let connect = Connect { keep_alive: 2, ..Connect::new(V311, &unique("spec")) };
    let mut peer = broker.join(&connect).0;
    let start = Instant::now();
    // Time is what is tested: a ping whenever nothing was sent for the keep alive.
    for due in [2_000, 4_000] {
        sleep_until(start + Duration::from_millis(due));
        peer.ping();
    }
    sleep_until(start + Duration::from_millis(4_500));
    // The two answers were taken by the pings: nothing else has come, and the connection stands.
    peer.expect_nothing();
    peer.disconnect();
}

#[test]
fn silent_client_is_closed_without_a_word() {
    cites!("v4:MQTT-3.1.2-24");
    let (broker, _) = setup("keep-alive");
    let connect = Connect { keep_alive: 1, ..Connect::new(V311, &unique("spec")) };
    let mut peer = broker.join(&connect).0;
    let start = Instant::now();
    peer.expect_closed();
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(1_400), "closed after {waited:?}");
    assert!(waited <= Duration::from_millis(4_000), "closed after {waited:?}");
}

#[test]
fn unexpected_pubrel_is_answered() {
    cites!("v4:MQTT-4.3.3-2");
    let (broker, _) = setup("pubrel");
    let mut peer = client(&broker);
    peer.send(&ack(PUBREL, 42));
    let next = peer.packet();
    assert!(matches!(&next, Packet::Ack(a) if (a.first, a.id) == (PUBCOMP, 42)), "{next:?}");
    peer.expect_nothing();
    peer.disconnect();
}

#[test]
fn client_that_is_not_authorized_is_refused() {
    cites!("v4:MQTT-3.2.2-5 U311-003");
    let broker = Broker::with("allow_anonymous: false");
    broker.refuses(&Connect::new(V311, &unique("spec")), 5);
}

#[test]
fn second_client_with_an_identifier_takes_the_session_over() {
    cites!("v4:MQTT-3.1.4-2 v4:MQTT-3.1.3-2 v4:MQTT-3.2.2-2");
    let (broker, _) = setup("unique");
    let id = unique("spec");
    let (mut first, present) = resume(&broker, &id);
    assert!(!present);
    let (mut second, present) = resume(&broker, &id);
    assert!(present);
    first.expect_closed();
    second.expect_nothing();
    second.disconnect();
    broker.forget(V311, &id);
}

#[test]
fn second_clean_client_with_an_identifier_closes_the_first() {
    cites!("v4:MQTT-3.1.4-2 v4:MQTT-3.2.2-1");
    let (broker, _) = setup("unique");
    let id = unique("spec");
    let mut first = broker.connect(V311, &id);
    let (mut second, connack) = broker.join(&Connect::new(V311, &id));
    assert!(!connack.present);
    first.expect_closed();
    second.expect_nothing();
    second.disconnect();
}
