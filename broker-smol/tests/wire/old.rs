//! MQTT 3.1 and the bridge bit (NOTES section 9).

use crate::harness::*;

#[test]
fn a_3_1_client_is_answered_in_3_1() {
    cites!("U31-001 U31-002");
    let b = shared();
    let connect = Connect::resume(V31, &unique("c"));
    for _ in 0..2 {
        let mut c = b.send(V31, &connect.bytes());
        c.expect_hex("20 02 00 00");
        c.disconnect();
    }
    b.forget(V31, &connect.id);
}

#[test]
fn a_3_1_client_may_have_a_long_identifier_but_not_none() {
    cites!("U31-003");
    let b = shared();
    b.connect(V31, &"x".repeat(64)).ping();
    b.refuses(&Connect::new(V31, ""), 2);
}

#[test]
fn flags_that_3_1_does_not_use_are_not_checked() {
    cites!("U31-004");
    let b = shared();
    b.join(&Connect { flip: 1, ..Connect::new(V31, &unique("c")) });
    let mut c = b.send(V31, &raw(0x14, Connect::new(V31, &unique("c")).body()));
    assert_eq!(c.connack().code, 0);
    c.send(&Publish::new(&unique("t"), "x").dup().bytes(V31));
    c.ping();
}

#[test]
fn credentials_announced_but_missing_are_tolerated_in_3_1() {
    cites!("U31-005");
    let b = shared();
    for flip in [0x80, 0xC0] {
        b.join(&Connect { flip, ..Connect::new(V31, &unique("c")) });
        let connect = Connect { flip, ..Connect::new(V311, &unique("c")) };
        b.send(V311, &connect.bytes()).expect_closed();
    }
    let username = Some("user".into());
    b.join(&Connect { flip: 0x40, username, ..Connect::new(V31, &unique("c")) });
}

#[test]
fn repeats_with_dup_are_accepted_in_3_1() {
    cites!("U31-006");
    let b = shared();
    let topic = unique("t");
    let mut c = b.connect(V31, &unique("c"));
    let with_dup = |packet: Vec<u8>| [&[packet[0] | 8], &packet[1..]].concat();
    c.send(&with_dup(subscribe(V31, 1, &[], &[(&topic, 1)])));
    assert_eq!(c.suback(1).codes, [1]);
    let message = Publish::new(&topic, "x").qos(2, 2);
    for message in [message.clone(), message.dup()] {
        c.send(&message.bytes(V31)); // repeated while connected, as was usual
        c.ack(PUBREC, 2);
    }
    for _ in 0..2 {
        c.send(&with_dup(ack(PUBREL, 2)));
        c.ack(PUBCOMP, 2);
    }
    assert_eq!(c.take().text(), "x");
    c.send(&with_dup(unsubscribe(V31, 3, &[&topic])));
    assert!(matches!(c.packet(), Packet::Unsuback(_)));
    c.expect_nothing();
}

#[test]
fn a_3_1_client_gets_a_granted_qos_for_every_filter_it_may_not_have() {
    cites!("U31-007");
    let b = Broker::with("max_subscriptions: 1");
    let mut c = b.connect(V31, "c");
    assert_eq!(c.subscribe_all(&[("a", 1), ("b", 2), ("c", 0)], &[]), [1, 2, 0]);
    for topic in ["b", "c"] {
        c.publish(topic, "not subscribed", 1);
    }
    c.publish("a", "subscribed", 1);
    assert_eq!(c.drain_texts(), ["subscribed"]);
}

/// The convention of bridges: bit 7 of the level byte.
#[test]
fn a_bridge_gets_no_echo_and_the_retain_flag() {
    cites!("U31-008");
    let b = shared();
    for v in OLD {
        let topic = unique("t");
        let level = Some(v as u8 | 0x80);
        let connect = Connect { level, ..Connect::resume(v, &unique("bridge")) };
        let (mut bridge, connack) = b.join(&connect);
        assert!(!connack.present);
        bridge.subscribe(&format!("{topic}/#"), 1);
        let own = format!("{topic}/own");
        bridge.put(Publish::new(&own, "own").qos(1, 0).retain());
        bridge.expect_nothing();
        let mut p = b.connect(V5, &unique("p"));
        p.put(Publish::new(&topic, "of others").qos(1, 0).retain());
        assert!(bridge.take().retain);
        p.put(Publish::new(&topic, "plain").qos(1, 0));
        assert!(!bridge.take().retain);
        bridge.disconnect();
        let (bridge, connack) = b.join(&connect);
        assert_eq!(connack.present, v == V311);
        bridge.disconnect();
        b.forget(v, &connect.id);
        for topic in [&topic, &own] {
            p.put(Publish::new(topic, "").retain());
        }
    }
}

#[test]
fn the_bridge_bit_means_nothing_in_5_0() {
    cites!("U31-008");
    let b = shared();
    let topic = unique("t");
    let (mut c, _) = b.join(&Connect { level: Some(0x85), ..Connect::new(V5, &unique("c")) });
    c.subscribe(&topic, 0);
    c.put(Publish::new(&topic, "x").retain());
    assert!(!c.take().retain);
    c.put(Publish::new(&topic, "").retain());
}

#[test]
fn a_bridge_of_an_unknown_level_is_refused_cleanly() {
    cites!("v4:MQTT-3.1.2-2 U31-001");
    let b = shared();
    let mut c = b.send(V31, &hex("10 0f 0006 4d5149736470 84 02 0000 0001 63"));
    c.expect_hex("20 02 00 01");
    c.expect_closed();
    let mut c = b.send(V311, &hex("10 0d 0004 4d515454 83 02 0000 0001 63"));
    c.expect_hex("20 02 00 01");
    c.expect_closed();
}
