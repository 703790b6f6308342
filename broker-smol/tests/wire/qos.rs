//! Packet identifiers, QoS 1 and 2, windows, resending, order (NOTES 41 to 50).

use std::collections::HashSet;

use crate::harness::*;

/// A kept session of a new client that has subscribed to a new topic at QoS 2.
fn session(b: &Broker, v: Version) -> (Client, Connect, String) {
    let (connect, topic) = (Connect::resume(v, &unique("s")), unique("t"));
    let (mut s, _) = b.join(&connect);
    s.subscribe(&topic, 2);
    (s, connect, topic)
}

/// The numbers from `from` to before `to` as the payloads used here.
fn numbers(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

#[test]
fn identifiers_in_use_are_skipped_when_the_numbers_come_round() {
    cites!(
        "v5:MQTT-2.2.1-4 v5:MQTT-4.3.2-1 v5:MQTT-4.3.3-1 U5-006 v4:MQTT-2.3.1-1 v4:MQTT-2.3.1-4"
    );
    let b = shared();
    let (mut s, connect, topic) = session(&b, V5);
    let mut p = b.connect(V5, &unique("p"));
    for qos in [1, 2] {
        p.publish(&topic, "held", qos);
    }
    let (one, two) = (s.message(), s.message());
    s.send(&ack(PUBREC, two.id));
    s.ack(PUBREL, two.id); // and no PUBCOMP: still in use
    let mut rest: HashSet<u16> =
        (1..=u16::MAX).filter(|id| ![one.id, two.id].contains(id)).collect();
    let batch: usize = 20;
    let publish: Vec<u8> =
        (1..=batch).flat_map(|id| Publish::new(&topic, "").qos(1, id as u16).bytes(V5)).collect();
    let mut last = two.id;
    for round in 0..3_400 {
        p.send(&publish);
        let mut acks = Vec::new();
        for _ in 0..batch {
            let id = s.message().id;
            assert!(id != one.id && id != two.id, "{id} is in use (round {round})");
            rest.remove(&id);
            last = id;
            acks.extend(ack(PUBACK, id));
        }
        s.send(&acks);
        for id in 1..=batch {
            p.ack(PUBACK, id as u16);
        }
    }
    assert!(rest.len() < 65_000, "the numbers came round; last {last}");
    s.cut();
    let (mut s, _) = b.join(&connect);
    let again = s.message();
    assert_eq!((again.id, again.dup), (one.id, true));
    assert_eq!(s.ack(PUBREL, two.id), 0);
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn packet_identifier_0_is_refused() {
    cites!("v5:MQTT-2.2.1-3 v4:MQTT-2.3.1-1 v4:MQTT-4.8.0-1 U5-001");
    let b = shared();
    for v in ALL {
        for packet in [
            Publish::new("t", "").qos(1, 0).bytes(v),
            Publish::new("t", "").qos(2, 0).bytes(v),
            subscribe(v, 0, &[], &[("t", 0)]),
            unsubscribe(v, 0, &["t"]),
            ack(PUBACK, 0),
            ack(PUBREC, 0),
            ack(PUBREL, 0),
            ack(PUBCOMP, 0),
        ] {
            let mut c = b.connect(v, &unique("c"));
            c.send(&packet);
            c.expect_refused_any(&[0x81, 0x82]);
        }
    }
}

#[test]
fn both_directions_have_their_own_identifiers() {
    cites!("v5:MQTT-2.2.1-5 v5:MQTT-2.2.1-6 U5-005 v4:MQTT-2.3.1-6 v4:MQTT-2.3.1-7");
    let b = shared();
    for v in ALL {
        for qos in [1, 2] {
            let topic = unique("t");
            let mut c = b.connect(v, &unique("c"));
            c.subscribe(&topic, 2);
            c.publish(&topic, "x", qos);
            let message = c.message();
            // The client uses the same number while the broker waits for its acknowledgement.
            c.send(&Publish::new(&topic, "y").qos(qos, message.id).bytes(v));
            let first = if qos == 1 { PUBACK } else { PUBREC };
            c.ack(first, message.id);
            let other = c.message();
            assert_ne!(other.id, message.id);
            if qos == 2 {
                c.send(&ack(PUBREL, message.id));
                c.ack(PUBCOMP, message.id);
            }
            c.acknowledge(&message);
            c.acknowledge(&other);
            c.expect_nothing();
        }
    }
}

#[test]
fn a_repeated_qos_2_message_is_delivered_once() {
    cites!("v5:MQTT-4.3.3-10 v5:MQTT-4.3.3-12 U5-069 v4:MQTT-4.3.3-2 v4:MQTT-4.1.0-1 U311-010");
    let b = shared();
    for v in ALL {
        let (mut s, _, topic) = session(&b, v);
        let connect = Connect::resume(v, &unique("p"));
        let (mut p, _) = b.join(&connect);
        let message = Publish::new(&topic, "x").qos(2, 9);
        for repeat in
            [message.clone(), message.clone().dup(), message.clone(), message.clone().dup()]
        {
            p.send(&repeat.bytes(v));
            assert_eq!(p.ack(PUBREC, 9), 0);
        }
        p.cut();
        let (mut p, _) = b.join(&connect);
        p.send(&message.clone().dup().bytes(v));
        assert_eq!(p.ack(PUBREC, 9), 0);
        p.cut();
        let (mut p, _) = b.join(&connect);
        p.send(&ack(PUBREL, 9));
        assert_eq!(p.ack(PUBCOMP, 9), 0);
        assert_eq!(s.take_texts(1), ["x"]);
        s.expect_nothing();
        p.send(&message.dup().bytes(v)); // complete: a new message
        assert_eq!(p.ack(PUBREC, 9), 0);
        assert_eq!(s.take_texts(1), ["x"]);
    }
}

#[test]
fn a_repeat_does_not_count_against_receive_maximum() {
    cites!("v5:MQTT-4.3.3-10 v5:MQTT-3.3.4-7 U5-073");
    let b = shared();
    let mut p = b.connect(V5, &unique("p"));
    let nobody = unique("nobody");
    for repeat in 0..150 {
        let message = Publish::new(&nobody, "x").qos(2, 1);
        p.send(&if repeat == 0 { message } else { message.dup() }.bytes(V5));
        assert!(p.ack(PUBREC, 1) < 0x80);
    }
    for id in 2..=100 {
        p.send(&Publish::new(&nobody, "x").qos(2, id).bytes(V5));
        assert!(p.ack(PUBREC, id) < 0x80);
    }
    p.ping();
}

#[test]
fn an_identifier_is_free_after_puback_whatever_dup_says() {
    cites!("v5:MQTT-4.3.2-5 v4:MQTT-4.3.2-2");
    let b = shared();
    for v in ALL {
        let (mut s, _, topic) = session(&b, v);
        let mut p = b.connect(v, &unique("p"));
        for message in [Publish::new(&topic, "1"), Publish::new(&topic, "2").dup()] {
            p.send(&message.qos(1, 5).bytes(v));
            assert_eq!(p.ack(PUBACK, 5), 0);
        }
        assert_eq!(s.take_texts(2), ["1", "2"]);
    }
}

#[test]
fn an_identifier_is_free_after_a_pubrec_that_refuses() {
    cites!("v5:MQTT-4.3.3-9 U5-006");
    let b = shared();
    let (mut s, _, topic) = session(&b, V5);
    let mut p = b.connect(V5, &unique("p"));
    p.send(&Publish::new("$SYS/x", "1").qos(2, 5).bytes(V5));
    assert_eq!(p.ack(PUBREC, 5), 0x90);
    p.send(&Publish::new(&topic, "2").qos(2, 5).bytes(V5));
    assert_eq!(p.ack(PUBREC, 5), 0);
    assert_eq!(s.take().text(), "2");
    for id in 100..300 {
        p.send(&Publish::new("$SYS/x", "1").qos(2, id).bytes(V5));
        assert_eq!(p.ack(PUBREC, id), 0x90, "nor does it count against Receive Maximum");
    }
}

#[test]
fn a_receiver_that_refuses_a_message_is_done_with_it() {
    cites!("v5:MQTT-4.3.3-4 v5:MQTT-4.4.0-2 U5-073 U5-006");
    let b = shared();
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        let topic = unique("t");
        let connect = Connect::resume(V5, &unique("s")).with(Two(RECEIVE_MAXIMUM, 1));
        let (mut s, _) = b.join(&connect);
        s.subscribe(&topic, 2);
        let mut p = b.connect(V5, &unique("p"));
        p.publish(&topic, "refused", qos);
        p.publish(&topic, "next", qos);
        let message = s.message();
        s.expect_nothing();
        s.send(&ack_with(first, message.id, 0x97));
        let next = s.message(); // without PUBREL before
        assert_eq!(next.text(), "next");
        s.cut();
        let (mut s, _) = b.join(&connect);
        assert_eq!(s.take().text(), "next");
        s.expect_nothing();
        s.disconnect();
        b.forget(V5, &connect.id);
    }
}

#[test]
fn pubrel_is_always_answered() {
    cites!("v5:MQTT-4.3.3-11 v5:MQTT-3.7.2-1 U5-052 v4:MQTT-4.3.3-2");
    let b = shared();
    for v in ALL {
        let connect = Connect::resume(v, &unique("p"));
        let (mut p, _) = b.join(&connect);
        p.send(&ack(PUBREL, 77));
        assert_eq!(p.ack(PUBCOMP, 77), if v == V5 { 0x92 } else { 0 });
        p.send(&Publish::new("t", "x").qos(2, 78).bytes(v));
        p.ack(PUBREC, 78);
        p.cut();
        let (mut p, _) = b.join(&connect);
        p.send(&ack(PUBREL, 78));
        assert_eq!(p.ack(PUBCOMP, 78), 0, "the exchange is known");
        p.send(&ack(PUBREL, 78));
        assert_eq!(p.ack(PUBCOMP, 78), if v == V5 { 0x92 } else { 0 });
        p.disconnect();
        b.forget(v, &connect.id);
    }
}

#[test]
fn pubrec_is_always_answered() {
    cites!("v5:MQTT-4.3.3-4 v5:MQTT-4.3.3-5 v5:MQTT-3.6.2-1 v4:MQTT-4.3.3-1");
    let b = shared();
    for v in ALL {
        let (mut s, _, topic) = session(&b, v);
        b.connect(v, &unique("p")).publish(&topic, "x", 2);
        let message = s.message();
        for _ in 0..3 {
            s.send(&ack(PUBREC, message.id));
            assert_eq!(s.ack(PUBREL, message.id), 0);
        }
        s.send(&ack(PUBCOMP, message.id));
        s.send(&ack(PUBREC, 4_711));
        assert_eq!(s.ack(PUBREL, 4_711), if v == V5 { 0x92 } else { 0 });
        s.expect_nothing();
    }
}

#[test]
fn acknowledgements_of_unknown_identifiers_are_ignored() {
    cites!("U5-052 v4:MQTT-4.8.0-1");
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        c.send(&ack(PUBACK, 1));
        c.send(&ack(PUBCOMP, 2));
        c.expect_nothing();
    }
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_protocol_error() {
    cites!("v5:MQTT-4.3.2-3 v5:MQTT-4.3.3-3 v5:MQTT-4.3.3-5 U5-001 v4:MQTT-4.8.0-1");
    let b = shared();
    for v in ALL {
        for (qos, received, wrong) in [
            (1, false, PUBREC),
            (1, false, PUBCOMP),
            (2, false, PUBACK),
            (2, false, PUBCOMP),
            (2, true, PUBACK),
        ] {
            let (mut s, connect, topic) = session(&b, v);
            b.connect(v, &unique("p")).publish(&topic, "x", qos);
            let message = s.message();
            if received {
                s.send(&ack(PUBREC, message.id));
                s.ack(PUBREL, message.id);
            }
            s.send(&ack(wrong, message.id));
            s.expect_refused(0x82);
            let (mut s, _) = b.join(&connect);
            if received {
                assert_eq!(s.ack(PUBREL, message.id), 0);
            } else {
                assert_eq!(s.message().id, message.id, "it is still in flight");
            }
            s.disconnect();
            b.forget(v, &connect.id);
        }
    }
}

#[test]
fn what_was_not_acknowledged_is_resent_in_its_order_before_anything_new() {
    cites!(
        "v5:MQTT-4.4.0-1 v5:MQTT-4.3.3-6 v5:MQTT-3.3.1-1 v4:MQTT-4.4.0-1 v4:MQTT-3.3.1-1
         v4:MQTT-4.3.3-1 v4:MQTT-4.6.0-6"
    );
    let b = shared();
    for v in ALL {
        let (mut s, connect, topic) = session(&b, v);
        let mut p = b.connect(v, &unique("p"));
        for (n, qos) in [1, 2, 1, 2, 1, 2].into_iter().enumerate() {
            p.publish(&topic, n.to_string(), qos);
        }
        let sent: Vec<_> = (0..6).map(|_| s.message()).collect();
        s.send(&ack(PUBACK, sent[2].id));
        s.send(&ack(PUBREC, sent[3].id));
        s.ack(PUBREL, sent[3].id);
        s.send(&ack(PUBREC, sent[5].id));
        s.ack(PUBREL, sent[5].id);
        s.expect_nothing(); // nothing is resent while the connection lasts
        s.cut();
        for n in 6..9 {
            p.publish(&topic, n.to_string(), 1);
        }
        for _ in 0..2 {
            let (mut s, _) = b.join(&connect);
            for (n, released) in [(0, false), (1, false), (3, true), (4, false), (5, true)] {
                match (s.packet(), released) {
                    (Packet::Publish(again), false) => {
                        assert_eq!(again, Publish { dup: true, ..sent[n].clone() });
                    }
                    (Packet::Ack(again), true) => {
                        assert_eq!((again.first, again.id, again.code), (PUBREL, sent[n].id, 0));
                    }
                    other => panic!("{other:?} for {n}"),
                }
            }
            for n in 6..9 {
                assert_eq!(s.message().text(), n.to_string());
            }
            s.expect_nothing();
        }
        b.forget(v, &connect.id);
    }
}

#[test]
fn a_smaller_receive_maximum_limits_what_is_resent() {
    cites!("v5:MQTT-3.3.4-9 v5:MQTT-4.4.0-1 v5:MQTT-4.9.0-2 U5-073 U5-013");
    let b = shared();
    let (mut s, connect, topic) = session(&b, V5);
    let mut p = b.connect(V5, &unique("p"));
    for n in 0..4 {
        p.publish(&topic, n.to_string(), 2);
    }
    let sent: Vec<_> = (0..4).map(|_| s.message()).collect();
    s.send(&ack(PUBREC, sent[0].id));
    s.ack(PUBREL, sent[0].id);
    s.cut();
    p.publish(&topic, "4", 1);
    let (mut s, _) = b.join(&connect.clone().with(Two(RECEIVE_MAXIMUM, 1)));
    assert_eq!(s.ack(PUBREL, sent[0].id), 0, "PUBREL is not limited");
    s.send(&ack(PUBCOMP, sent[0].id));
    for n in 1..5 {
        let message = s.message();
        assert_eq!((message.text(), message.dup), (n.to_string().as_str(), n < 4));
        s.expect_nothing();
        s.acknowledge(&message);
    }
    s.expect_nothing();
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn messages_keep_their_order_through_queue_resume_and_live_traffic() {
    cites!("v5:MQTT-4.6.0-5 v5:MQTT-4.6.0-6 v4:MQTT-4.6.0-5 v4:MQTT-4.6.0-6");
    let b = shared();
    for v in ALL {
        for qos in 0..=2 {
            let (s, connect, topic) = session(&b, v);
            s.disconnect();
            let mut p = b.connect(v, &unique("p"));
            for text in numbers(0, 60) {
                p.publish(&topic, text, qos);
            }
            let mut s = b.send(v, &connect.bytes());
            for (n, text) in numbers(60, 100).into_iter().enumerate() {
                p.send(&Publish::new(&topic, text).qos(qos, 1 + n as u16).bytes(v));
            }
            s.connack();
            assert_eq!(s.take_texts(100), numbers(0, 100), "{v:?} at QoS {qos}");
            s.disconnect();
            b.forget(v, &connect.id);
        }
    }
}

#[test]
fn the_broker_acknowledges_in_the_order_of_arrival() {
    cites!("v4:MQTT-4.6.0-6");
    let b = shared();
    for v in ALL {
        let mut p = b.connect(v, &unique("p"));
        let topic = unique("t");
        let order = [7u16, 3, 9, 1];
        for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
            let publishes: Vec<u8> = order
                .iter()
                .flat_map(|id| Publish::new(&topic, "").qos(qos, *id).bytes(v))
                .collect();
            p.send(&publishes);
            for id in order {
                match p.packet() {
                    Packet::Ack(ack) => assert_eq!((ack.first, ack.id), (first, id)),
                    other => panic!("{other:?}"),
                }
            }
        }
        p.send(&order.iter().flat_map(|id| ack(PUBREL, *id)).collect::<Vec<_>>());
        for id in order {
            match p.packet() {
                Packet::Ack(ack) => assert_eq!((ack.first, ack.id), (PUBCOMP, id)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn more_than_receive_maximum_ends_the_connection() {
    cites!("v5:MQTT-3.3.4-7 U5-047 v5:MQTT-4.13.1-1");
    let b = shared();
    let mut p = b.connect(V5, &unique("p"));
    let topic = unique("t");
    for id in 1..=100 {
        p.send(&Publish::new(&topic, "").qos(2, id).bytes(V5));
        assert!(p.ack(PUBREC, id) < 0x80);
    }
    p.send(&ack(PUBREL, 50));
    p.ack(PUBCOMP, 50);
    for id in [101, 102] {
        p.send(&Publish::new(&topic, "").qos(2, id).bytes(V5));
        if id == 101 {
            assert!(p.ack(PUBREC, id) < 0x80, "one place had become free");
        }
    }
    p.expect_refused(0x93);
}

#[test]
fn a_burst_of_qos_1_within_receive_maximum_is_fine_again_and_again() {
    cites!("v5:MQTT-3.3.4-7 U5-073");
    let b = shared();
    let mut p = b.connect(V5, &unique("p"));
    let topic = unique("t");
    for _ in 0..5 {
        let burst: Vec<u8> =
            (1..=100).flat_map(|id| Publish::new(&topic, "").qos(1, id).bytes(V5)).collect();
        p.send(&burst);
        for id in 1..=100 {
            p.ack(PUBACK, id);
        }
    }
}

/// Clients before 5.0 know no Receive Maximum.
#[test]
fn older_clients_may_hold_as_many_qos_2_messages_as_there_are_identifiers() {
    cites!("v4:MQTT-4.3.3-2");
    let b = shared();
    for v in OLD {
        let (mut s, _, topic) = session(&b, v);
        let mut p = b.connect(v, &unique("p"));
        for id in 1..=300 {
            p.send(&Publish::new(&topic, "").qos(2, id).bytes(v));
            p.ack(PUBREC, id);
            s.take();
        }
        for id in 1..=300 {
            p.send(&ack(PUBREL, id));
            p.ack(PUBCOMP, id);
        }
        s.expect_nothing();
    }
}

#[test]
fn the_broker_keeps_to_the_receive_maximum_of_the_client() {
    cites!("v5:MQTT-3.3.4-9 v5:MQTT-4.9.0-1 v5:MQTT-4.9.0-2 U5-073");
    let b = shared();
    let topic = unique("t");
    let (mut s, _) = b.join(&Connect::new(V5, &unique("s")).with(Two(RECEIVE_MAXIMUM, 2)));
    s.subscribe(&topic, 2);
    let mut p = b.connect(V5, &unique("p"));
    for (n, qos) in [1, 2, 2, 1, 1].into_iter().enumerate() {
        p.publish(&topic, n.to_string(), qos);
    }
    let (one, two) = (s.message(), s.message());
    s.expect_nothing();
    s.send(&ack(PUBREC, two.id));
    s.ack(PUBREL, two.id);
    s.expect_nothing(); // QoS 2 holds its place until PUBCOMP
    s.send(&ack(PUBCOMP, two.id));
    let three = s.message();
    s.expect_nothing();
    s.acknowledge(&one);
    let four = s.message();
    s.expect_nothing();
    s.acknowledge(&four);
    s.send(&ack(PUBACK, four.id)); // acknowledged twice: gives no second place
    let five = s.message();
    assert_eq!([three.text(), four.text(), five.text()], ["2", "3", "4"]);
    p.publish(&topic, "5", 1);
    s.expect_nothing();
    s.acknowledge(&five);
    assert_eq!(s.message().text(), "5");
}

#[test]
fn a_full_window_holds_up_nothing_else() {
    cites!("v5:MQTT-3.3.4-10 v5:MQTT-4.9.0-3");
    let b = shared();
    for v in STRICT {
        let topic = unique("t");
        let connect = Connect::new(v, &unique("s"));
        let connect = if v == V5 { connect.with(Two(RECEIVE_MAXIMUM, 1)) } else { connect };
        let (mut s, _) = b.join(&connect);
        s.subscribe(&topic, 2);
        let mut p = b.connect(v, &unique("p"));
        for _ in 0..40 {
            p.publish(&topic, "window", 2);
        }
        let first = s.message();
        s.ping();
        s.subscribe(&unique("other"), 1);
        s.unsubscribe(&["none"]);
        let elsewhere = unique("elsewhere");
        for qos in [0, 1, 2] {
            s.publish(&elsewhere, "x", qos);
        }
        s.send(&ack(PUBREC, first.id));
        s.ack(PUBREL, first.id);
        p.publish(&topic, "passes", 0);
        let wanted = |p: &Packet| matches!(p, Packet::Publish(m) if m.text() == "passes");
        s.wait("the message at QoS 0", wanted);
    }
}

#[test]
fn the_window_of_the_broker_bounds_messages_in_flight() {
    cites!("v4:MQTT-2.3.1-4 v5:MQTT-4.9.0-1");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut s = b.connect(v, &unique("s"));
        s.subscribe(&topic, 1);
        let mut p = b.connect(v, &unique("p"));
        for text in numbers(0, 40) {
            p.publish(&topic, text, 1);
        }
        let in_flight: Vec<_> = (0..32).map(|_| s.message()).collect();
        s.expect_nothing();
        for message in &in_flight {
            s.acknowledge(message);
        }
        assert_eq!(s.take_texts(8), numbers(32, 40));
    }
}

#[test]
fn an_acknowledged_message_is_in_the_queue_of_every_session() {
    cites!("v5:MQTT-4.3.2-4 v5:MQTT-4.3.3-8 v5:MQTT-4.5.0-1 v4:MQTT-4.5.0-1 v4:MQTT-3.1.2-5");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let sessions: Vec<_> = (0..3).map(|_| Connect::resume(v, &unique("s"))).collect();
        for connect in &sessions {
            let (mut s, _) = b.join(connect);
            s.subscribe(&topic, 2);
            s.disconnect();
        }
        let mut p = b.connect(v, &unique("p"));
        p.send(&Publish::new(&topic, "1").qos(1, 1).bytes(v));
        p.ack(PUBACK, 1);
        p.send(&Publish::new(&topic, "2").qos(2, 2).bytes(v));
        p.ack(PUBREC, 2);
        p.cut(); // PUBREC has made the broker its owner
        for connect in &sessions {
            let (mut s, _) = b.join(connect);
            assert_eq!(s.take_texts(2), ["1", "2"]);
            s.disconnect();
            b.forget(v, &connect.id);
        }
    }
}

#[test]
fn what_was_acknowledged_is_not_sent_again() {
    cites!("v5:MQTT-4.3.2-3 v5:MQTT-4.4.0-1 v4:MQTT-4.4.0-1");
    let b = shared();
    for v in ALL {
        let (mut s, connect, topic) = session(&b, v);
        let mut p = b.connect(v, &unique("p"));
        for qos in 0..=2 {
            p.publish(&topic, "x", qos);
            s.take();
        }
        s.ping();
        s.cut();
        let (mut s, _) = b.join(&connect);
        s.expect_nothing();
        s.disconnect();
        b.forget(v, &connect.id);
    }
}
