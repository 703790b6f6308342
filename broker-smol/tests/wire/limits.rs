//! Limits and choices of the configuration that clients can see.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use crate::harness::*;

/// Fills the queue of a kept session with `texts` at these QoS and gives what it gets on return.
fn through_queue(b: &Broker, v: Version, messages: &[(&str, u8)]) -> Vec<String> {
    let connect = Connect::resume(v, &unique("s"));
    let topic = unique("t");
    let (mut s, _) = b.join(&connect);
    s.subscribe(&topic, 2);
    s.disconnect();
    let mut p = b.connect(v, &unique("p"));
    for (text, qos) in messages {
        p.publish(&topic, text, *qos);
    }
    let (mut s, _) = b.join(&connect);
    let texts = s.drain_texts();
    s.disconnect();
    b.forget(v, &connect.id);
    texts
}

#[test]
fn a_full_queue_drops_qos_0_first_and_then_what_the_policy_says() {
    cites!("v5:MQTT-4.5.0-1 v4:MQTT-4.5.0-1");
    let five = [("1", 1), ("2", 1), ("3", 1), ("4", 1), ("5", 1)];
    let mixed = [("1", 1), ("2", 0), ("3", 1), ("4", 1), ("5", 1)];
    for (policy, kept, kept_mixed) in [
        ("drop_oldest", ["3", "4", "5"], ["3", "4", "5"]),
        ("drop_new", ["1", "2", "3"], ["1", "3", "4"]),
        ("disconnect", ["1", "2", "3"], ["1", "3", "4"]),
    ] {
        let b = Broker::with(&format!("max_msg_queue: 3\nqueue_full: {policy}"));
        for v in ALL {
            assert_eq!(through_queue(&b, v, &five), kept, "{policy}");
            assert_eq!(through_queue(&b, v, &mixed), kept_mixed, "{policy}");
        }
    }
}

#[test]
fn a_connected_client_with_a_full_queue_is_disconnected_where_the_policy_says_so() {
    cites!("v5:MQTT-4.5.0-1 v5:MQTT-4.13.2-1");
    let b = Broker::with("max_msg_queue: 3\nmax_inflight: 1\nqueue_full: disconnect");
    for v in ALL {
        let topic = unique("t");
        let mut s = b.connect(v, &unique("s"));
        s.subscribe(&topic, 1);
        let mut p = b.connect(v, &unique("p"));
        for n in 0..5 {
            p.publish(&topic, n.to_string(), 1);
        }
        assert_eq!(s.message().text(), "0");
        s.expect_refused(0x97);
    }
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    cites!("v5:MQTT-4.5.0-1");
    let b = Broker::with("max_msg_queue_bytes: 64KiB");
    let connect = Connect::resume(V5, "s");
    let (mut s, _) = b.join(&connect);
    s.subscribe("t", 1);
    s.disconnect();
    let mut p = b.connect(V5, "p");
    for n in 0..9 {
        p.publish("t", format!("{n}{}", "x".repeat(20_000)), 1);
    }
    p.publish("t", "end", 1);
    let (mut s, _) = b.join(&connect);
    let mut kept = Vec::new();
    while kept.last().is_none_or(|last| last != "end") {
        kept.push(s.take().text()[..1].replace('e', "end"));
    }
    assert!(kept == ["6", "7", "8", "end"] || kept == ["7", "8", "end"], "{kept:?}");
}

#[test]
fn qos_0_waits_for_clients_that_are_away_unless_told_not_to() {
    cites!("v4:MQTT-3.1.2-5");
    let messages = [("0", 0), ("1", 1), ("2", 2)];
    assert_eq!(through_queue(&shared(), V311, &messages), ["0", "1", "2"]);
    let b = Broker::with("queue_qos0_messages: false");
    for v in ALL {
        assert_eq!(through_queue(&b, v, &messages), ["1", "2"]);
    }
}

#[test]
fn max_inflight_bounds_the_window() {
    cites!("v5:MQTT-3.3.4-9 v5:MQTT-4.9.0-1 v4:MQTT-2.3.1-4");
    let b = Broker::with("max_inflight: 2");
    for v in ALL {
        let mut s = b.connect(v, &unique("s"));
        let topic = unique("t");
        s.subscribe(&topic, 2);
        let mut p = b.connect(v, &unique("p"));
        for qos in [1, 2, 1, 2] {
            p.publish(&topic, "x", qos);
        }
        let (one, two) = (s.message(), s.message());
        s.expect_nothing();
        s.acknowledge(&two);
        s.acknowledge(&one);
        s.take();
        s.take();
        s.expect_nothing();
    }
}

#[test]
fn receive_maximum_is_announced_and_enforced() {
    cites!("v5:MQTT-3.3.4-7 U5-047 v5:MQTT-4.9.0-1");
    let b = Broker::with("receive_maximum: 2\nmax_await_rel: 2");
    let (mut p, connack) = b.join(&Connect::new(V5, "p"));
    assert_eq!(number(&connack.props, RECEIVE_MAXIMUM), Some(2));
    for id in 1..=3 {
        p.send(&Publish::new("t", "").qos(2, id).bytes(V5));
    }
    for id in 1..=2 {
        assert!(p.ack(PUBREC, id) < 0x80);
    }
    p.expect_refused(0x93);
    let mut old = b.connect(V311, "old");
    for id in 1..=10 {
        old.send(&Publish::new("t", "").qos(2, id).bytes(V311));
        old.ack(PUBREC, id);
    }
}

#[test]
fn too_many_subscriptions_are_refused_one_by_one() {
    cites!("v5:MQTT-3.9.3-2 v4:MQTT-3.9.3-2 v5:MQTT-3.8.4-6");
    let b = Broker::with("max_subscriptions: 2");
    for v in STRICT {
        let refused = if v == V5 { 0x97 } else { 0x80 };
        let mut c = b.connect(v, &unique("c"));
        assert_eq!(c.subscribe_all(&[("a", 1), ("b", 2), ("c", 0)], &[]), [1, 2, refused]);
        assert_eq!(c.subscribe("a", 0), 0, "replaces one");
        c.unsubscribe(&["b"]);
        assert_eq!(c.subscribe("c", 2), 2);
        assert_eq!(c.subscribe("$share/g/c", 2), refused);
    }
}

#[test]
fn a_reason_that_holds_for_all_filters_is_repeated_for_each() {
    cites!("U5-060 v5:MQTT-3.8.4-6 v5:MQTT-3.9.3-2 v4:MQTT-3.8.4-5");
    let b = Broker::with("max_subscriptions: 1");
    for v in STRICT {
        let refused = if v == V5 { 0x97 } else { 0x80 };
        let mut c = b.connect(v, &unique("c"));
        c.subscribe("one", 0);
        assert_eq!(c.subscribe_all(&[("a", 0), ("b", 1), ("c", 2)], &[]), [refused; 3]);
    }
}

#[test]
fn too_many_sessions_are_refused() {
    cites!("v5:MQTT-3.1.4-2 v5:MQTT-3.2.2-7 v4:MQTT-3.2.2-5 U311-003");
    // Each shard has its part of it: which one is full first depends on the names.
    let b = Broker::with("shards: 1\nmax_sessions: 2");
    let one = b.connect(V5, "one");
    b.join(&Connect::resume(V311, "two")).0.disconnect();
    b.refuses(&Connect::new(V5, "three"), 0x97);
    for v in OLD {
        b.refuses(&Connect::new(v, "three"), 3);
    }
    b.join(&Connect::resume(V311, "two")).0.disconnect();
    one.disconnect();
    b.connect(V5, "three");
}

#[test]
fn topics_with_too_many_levels_are_refused() {
    cites!("v5:MQTT-4.7.3-3 v5:MQTT-3.9.3-2 v5:MQTT-3.4.2-1 v4:MQTT-4.7.3-3");
    let b = Broker::with("max_topic_levels: 3");
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        assert_eq!(c.subscribe_all(&[("a/b/c", 0), ("a/b/#", 0), ("//", 0)], &[]), [0, 0, 0]);
        assert!(c.publish("x/y/z", "x", 1) < 0x80);
    }
    let mut c = b.connect(V5, "c");
    assert_eq!(
        c.subscribe_all(&[("a/b/c/d", 0), ("a/b/c", 0), ("a/b/c/#", 0)], &[]),
        [0x8F, 0, 0x8F]
    );
    for qos in [1, 2] {
        assert_eq!(c.publish("a/b/c/d", "x", qos), 0x90);
    }
    c.publish("a/b/c/d", "x", 0);
    c.expect_nothing();
    for v in OLD {
        for packet in
            [Publish::new("a/b/c/d", "x").bytes(v), subscribe(v, 1, &[], &[("a/b/c/d", 0)])]
        {
            let mut c = b.connect(v, &unique("c"));
            c.send(&packet);
            c.expect_closed();
        }
    }
}

#[test]
fn retained_messages_can_be_switched_off() {
    cites!("v5:MQTT-3.2.2-13 v5:MQTT-3.2.2-14 U5-030 v4:MQTT-3.2.2-6");
    let b = Broker::with("retain_available: false");
    let (mut c, connack) = b.join(&Connect::new(V5, "c"));
    assert_eq!(number(&connack.props, RETAIN_AVAILABLE), Some(0));
    c.send(&Publish::new("t", "x").retain().bytes(V5));
    c.expect_refused(0x9A);
    let will = Will { retain: true, ..Will::new("t", "gone") };
    b.refuses(&Connect::new(V5, "c").will(will.clone()), 0x9A);
    for v in OLD {
        let mut c = b.connect(v, &unique("c"));
        c.send(&Publish::new("t", "x").retain().bytes(v));
        c.expect_closed();
        // No return code says it. [v4:MQTT-3.2.2-6]
        b.send(v, &Connect::new(v, &unique("c")).will(will.clone()).bytes()).expect_closed();
    }
}

#[test]
fn a_lower_maximum_qos_is_announced_and_enforced() {
    cites!(
        "v5:MQTT-3.2.2-9 v5:MQTT-3.2.2-10 v5:MQTT-3.2.2-11 v5:MQTT-3.2.2-12 U5-028 U5-029
         v4:MQTT-3.2.2-6"
    );
    for max in [0, 1] {
        let b = Broker::with(&format!("max_qos: {max}"));
        let (mut c, connack) = b.join(&Connect::new(V5, "c"));
        assert_eq!(number(&connack.props, MAXIMUM_QOS), Some(max.into()));
        for v in ALL {
            let mut s = b.connect(v, &unique("s"));
            let granted = [0, 1, 2].map(|qos: u8| qos.min(max));
            assert_eq!(s.subscribe_all(&[("a", 0), ("b", 1), ("c", 2)], &[]), granted);
            s.publish("c", "x", max);
            assert_eq!(s.take().qos, max);
        }
        c.send(&Publish::new("t", "x").qos(max + 1, 1).bytes(V5));
        c.expect_refused(0x9B);
        let will = Will { qos: max + 1, ..Will::new("t", "gone") };
        b.refuses(&Connect::new(V5, "c").will(will.clone()), 0x9B);
        for v in OLD {
            b.send(v, &Connect::new(v, &unique("c")).will(will.clone()).bytes()).expect_closed();
            let mut c = b.connect(v, &unique("c"));
            c.send(&Publish::new("t", "x").qos(max + 1, 1).bytes(v));
            c.expect_closed();
        }
    }
}

#[test]
fn clients_can_be_made_to_name_themselves() {
    cites!("v5:MQTT-3.1.3-8 v4:MQTT-3.1.3-9 v5:MQTT-3.2.2-6");
    let b = Broker::with("allow_zero_length_clientid: false");
    b.refuses(&Connect::new(V5, ""), 0x85);
    for v in OLD {
        b.refuses(&Connect::new(v, ""), 2);
    }
    b.connect(V311, "named").ping();
}

#[test]
fn assigned_identifiers_begin_as_configured() {
    cites!("v5:MQTT-3.1.3-7");
    let b = Broker::with("assigned_clientid_prefix: \"site-7/\"");
    let (_, connack) = b.join(&Connect::new(V5, ""));
    let id = string_of(&connack.props, ASSIGNED_CLIENT_ID).expect("Assigned Client Identifier");
    assert!(id.starts_with("site-7/") && id.len() > 7, "{id}");
}

#[test]
fn each_subscription_can_have_its_own_copy() {
    cites!("v5:MQTT-3.3.4-2 v5:MQTT-3.3.4-5 v5:MQTT-3.3.1-13 v4:MQTT-3.3.5-1");
    let b = Broker::with("delivery_mode: overlap");
    let mut s = b.connect(V5, "s");
    s.subscribe_id("a/b", 0, 1);
    s.subscribe_id("a/+", 2 | 8, 2);
    s.subscribe("a/#", 1);
    b.connect(V5, "p").put(Publish::new("a/b", "x").qos(2, 0).retain());
    let mut got: Vec<_> =
        (0..3).map(|_| s.take()).map(|m| (m.qos, subscription_ids(&m.props), m.retain)).collect();
    got.sort();
    assert_eq!(got, [(0, vec![1], false), (1, vec![], false), (2, vec![2], true)]);
    s.expect_nothing();
    for v in OLD {
        let mut s = b.connect(v, &unique("s"));
        s.subscribe_all(&[("c/+", 0), ("c/#", 1)], &[]);
        s.publish("c/d", "x", 2);
        let mut got = [s.take().qos, s.take().qos];
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        s.expect_nothing();
    }
}

#[test]
fn topic_aliases_can_be_switched_off() {
    cites!("v5:MQTT-3.2.2-17 v5:MQTT-3.2.2-18 U5-044 v5:MQTT-3.3.2-9");
    let b = Broker::with("max_topic_alias: 0\nmax_topic_alias_out: 0");
    let (mut c, connack) = b.join(&Connect::new(V5, "c").with(Two(ALIAS_MAXIMUM, 10)));
    assert!(matches!(number(&connack.props, ALIAS_MAXIMUM), None | Some(0)));
    c.subscribe("t", 0);
    for _ in 0..3 {
        c.publish("t", "x", 0);
        assert_eq!(c.take().props, []);
    }
    c.send(&Publish::new("t", "x").with(Two(TOPIC_ALIAS, 1)).bytes(V5));
    c.expect_refused(0x94);
}

#[test]
fn the_packet_size_limit_is_announced_and_enforced() {
    cites!("v5:MQTT-3.2.2-15 U5-031");
    let b = Broker::with("max_packet_size: 2KiB");
    let (_, connack) = b.join(&Connect::new(V5, "c"));
    assert_eq!(number(&connack.props, MAXIMUM_PACKET), Some(2_048));
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        let overhead = Publish::new("t", "").bytes(v).len() + 1;
        c.publish("t", vec![0; 2_048 - overhead], 0);
        c.send(&Publish::new("t", vec![0; 2_049 - overhead]).bytes(v));
        c.expect_refused(0x95);
    }
}

#[test]
fn retained_messages_beyond_their_limit_are_delivered_and_not_kept() {
    cites!("v5:MQTT-3.3.1-5 v4:MQTT-3.3.1-5");
    // Each shard has its part of it: which one is full first depends on the names.
    let b = Broker::with("shards: 1\nmax_retained: 2");
    for v in ALL {
        let mut s = b.connect(v, &unique("s"));
        s.subscribe("r/#", 0);
        let mut p = b.connect(v, &unique("p"));
        for topic in ["r/1", "r/2", "r/3"] {
            p.put(Publish::new(topic, topic).retain());
        }
        assert_eq!(s.take_texts(3), ["r/1", "r/2", "r/3"]);
        p.put(Publish::new("r/1", "new").retain());
        assert_eq!(s.take().text(), "new");
        s.subscribe("r/#", 0);
        let mut kept = s.drain_texts();
        kept.sort();
        assert_eq!(kept, ["new", "r/2"]);
        for topic in ["r/1", "r/2"] {
            p.put(Publish::new(topic, "").retain());
        }
    }
}

fn is_accepted(b: &Broker) -> bool {
    let mut socket = TcpStream::connect(b.addr()).expect("the broker accepts");
    socket.set_read_timeout(Some(WAIT)).expect("read timeout");
    let sent = socket.write_all(&Connect::new(V5, "c").bytes());
    sent.is_ok() && matches!(socket.read(&mut [0]), Ok(1))
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    cites!("v5:MQTT-3.1.4-2");
    let b = Broker::with("max_connections: 2");
    let (mut one, two) = (b.connect(V5, "one"), b.connect(V5, "two"));
    b.open(V5).expect_closed();
    one.ping();
    two.disconnect();
    // The place is free when the broker has seen both sides close.
    let end = Instant::now() + WAIT;
    while !is_accepted(&b) {
        assert!(Instant::now() < end, "no place becomes free");
    }
    one.ping();
}

/// The names of a predecessor's configuration are understood.
#[test]
fn old_names_of_limits_mean_the_same() {
    cites!("v4:MQTT-3.1.2-5 v5:MQTT-3.3.4-9");
    let b = Broker::with("max_inflight_messages: 1\nmax_msgqueue_messages: 2");
    let mut s = b.connect(V5, "s");
    s.subscribe("t", 1);
    let mut p = b.connect(V5, "p");
    for n in 0..5 {
        p.publish("t", n.to_string(), 1);
    }
    let first = s.message();
    s.expect_nothing();
    s.acknowledge(&first);
    assert_eq!(s.take_texts(2), ["3", "4"]);
    s.expect_nothing();
}
