//! PUBLISH, retained messages, expiry, aliases, sizes, properties (NOTES 30 to 40).

use std::collections::HashMap;

use crate::harness::*;

/// A client of this version that has subscribed to a new topic, and the topic.
fn subscriber(b: &Broker, v: Version, options: u8) -> (Client, String) {
    let topic = unique("t");
    let mut s = b.connect(v, &unique("s"));
    s.subscribe(&topic, options);
    (s, topic)
}

#[test]
fn the_dup_flag_of_the_publisher_is_not_passed_on() {
    cites!(
        "v5:MQTT-3.3.1-3 v5:MQTT-4.3.2-2 v5:MQTT-4.3.3-2 v5:MQTT-4.3.1-1 v4:MQTT-3.3.1-3
         v4:MQTT-4.3.1-1 v5:MQTT-3.3.1-2 v4:MQTT-3.3.1-2 v4:MQTT-4.3.2-1 v4:MQTT-4.3.3-1"
    );
    let b = shared();
    for v in ALL {
        let (mut s, topic) = subscriber(&b, v, 2);
        let mut low = b.connect(v, &unique("low"));
        low.subscribe(&topic, 0);
        let mut p = b.connect(v, &unique("p"));
        for qos in [1, 2] {
            p.put(Publish::new(&topic, "x").qos(qos, 0).dup());
            for (subscriber, granted) in [(&mut s, qos), (&mut low, 0)] {
                let message = subscriber.take();
                assert_eq!((message.dup, message.qos), (false, granted));
            }
        }
    }
}

#[test]
fn each_qos_is_acknowledged_and_delivered_in_its_way() {
    cites!(
        "v5:MQTT-3.3.4-1 v5:MQTT-4.3.2-4 v5:MQTT-4.3.3-8 v5:MQTT-4.3.3-11 v5:MQTT-2.2.1-5
         v5:MQTT-2.2.1-2 v5:MQTT-3.3.2-3 v4:MQTT-3.3.4-1 v4:MQTT-2.3.1-5 v4:MQTT-2.3.1-6
         v4:MQTT-3.3.2-3 v4:MQTT-4.3.2-1 v4:MQTT-4.3.2-2"
    );
    let b = shared();
    for v in ALL {
        let (mut s, topic) = subscriber(&b, v, 2);
        let mut p = b.connect(v, &unique("p"));
        for (qos, payload) in [(0, "zero"), (1, "one"), (2, "two"), (2, "")] {
            assert_eq!(p.publish(&topic, payload, qos), 0);
            p.expect_nothing();
            let message = s.take();
            assert_eq!((message.qos, message.text(), &message.topic), (qos, payload, &topic));
            s.expect_nothing();
        }
    }
}

#[test]
fn a_topic_name_has_no_wildcards_and_is_not_empty() {
    cites!(
        "v5:MQTT-3.3.2-2 v5:MQTT-4.7.0-1 v5:MQTT-4.7.3-1 v5:MQTT-3.3.2-14 U5-039 v4:MQTT-3.3.2-2
         v4:MQTT-4.7.1-1 v4:MQTT-4.7.3-1"
    );
    let b = shared();
    for v in ALL {
        for topic in ["a/+", "#", "a/#", "+", "a+b", "a#"] {
            for qos in 0..=2 {
                let mut c = b.connect(v, &unique("c"));
                c.send(&Publish::new(topic, "x").qos(qos, 1).bytes(v));
                c.expect_refused_any(&[0x90]);
            }
        }
        let mut c = b.connect(v, &unique("c"));
        c.send(&Publish::new("", "x").bytes(v));
        c.expect_refused_any(&[0x82]);
    }
    for response in ["a/+", "#"] {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&Publish::new("t", "x").with(text(RESPONSE_TOPIC, response)).bytes(V5));
        c.expect_refused_any(&[0x81, 0x82, 0x90]);
    }
}

#[test]
fn the_last_retained_message_waits_for_new_subscribers() {
    cites!(
        "v5:MQTT-3.3.1-5 v5:MQTT-3.3.1-8 v5:MQTT-3.3.1-9 U5-037 v4:MQTT-3.3.1-5 v4:MQTT-3.3.1-6
         v4:MQTT-3.3.1-7 v4:MQTT-3.3.1-8 v4:MQTT-3.3.1-12 v4:MQTT-3.1.2-7"
    );
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut p = b.connect(v, &unique("p"));
        p.put(Publish::new(&topic, "first").retain().qos(1, 0));
        p.put(Publish::new(&topic, "second").retain());
        p.publish(&topic, "passing by", 1);
        p.disconnect(); // retained messages do not belong to the session
        for options in [0, 2] {
            let mut s = b.connect(v, &unique("s"));
            s.subscribe(&topic, options);
            let message = s.take();
            assert_eq!((message.text(), message.retain, message.qos), ("second", true, 0));
            s.expect_nothing();
        }
        b.connect(v, &unique("p")).put(Publish::new(&topic, "").retain());
    }
}

#[test]
fn an_empty_retained_message_is_delivered_and_clears() {
    cites!(
        "v5:MQTT-3.3.1-6 v5:MQTT-3.3.1-7 v5:MQTT-3.3.1-12 U311-006 v4:MQTT-3.3.1-9 v4:MQTT-3.3.1-10
         v4:MQTT-3.3.1-11"
    );
    let b = shared();
    for v in ALL {
        for qos in 0..=2 {
            let (mut s, topic) = subscriber(&b, v, 2);
            let mut p = b.connect(v, &unique("p"));
            for payload in ["kept", ""] {
                p.put(Publish::new(&topic, payload).qos(qos, 0).retain());
                let message = s.take();
                assert_eq!((message.text(), message.qos, message.retain), (payload, qos, false));
            }
            let mut late = b.connect(v, &unique("l"));
            late.subscribe(&topic, 2);
            late.expect_nothing();
        }
    }
}

#[test]
fn retained_messages_come_with_their_own_topic_and_the_lower_qos() {
    cites!("v5:MQTT-3.8.4-8 v5:MQTT-3.3.1-9 v4:MQTT-3.8.4-6 v4:MQTT-3.3.1-6 v4:MQTT-3.3.1-8");
    let b = shared();
    for v in ALL {
        let base = unique("r");
        let mut p = b.connect(v, &unique("p"));
        for (level, qos) in [("a", 0), ("b", 1), ("c/d", 2), ("$x", 2)] {
            p.put(Publish::new(&format!("{base}/{level}"), level).qos(qos, 0).retain());
        }
        p.put(Publish::new(&base, "root").retain());
        let mut s = b.connect(v, &unique("s"));
        assert_eq!(s.subscribe(&format!("{base}/#"), 1), 1);
        let mut got: Vec<_> = (0..5)
            .map(|_| s.take())
            .map(|m| (m.topic[base.len()..].to_owned(), m.text().to_owned(), m.qos, m.retain))
            .collect();
        got.sort();
        let expected =
            [("", "root", 0), ("/$x", "$x", 1), ("/a", "a", 0), ("/b", "b", 1), ("/c/d", "c/d", 1)];
        assert_eq!(got, expected.map(|(t, p, q)| (t.to_owned(), p.to_owned(), q, true)));
        s.expect_nothing();
        for level in ["/a", "/b", "/c/d", "/$x", ""] {
            p.put(Publish::new(&format!("{base}{level}"), "").retain());
        }
    }
}

#[test]
fn retain_as_published_keeps_the_flag() {
    cites!("v5:MQTT-3.3.1-12 v5:MQTT-3.3.1-13 U5-037 v4:MQTT-3.3.1-9");
    let b = shared();
    for v in ALL {
        for options in if v == V5 { vec![0, 8] } else { vec![0] } {
            let (mut s, topic) = subscriber(&b, v, options);
            let mut p = b.connect(V5, &unique("p"));
            p.put(Publish::new(&topic, "x"));
            assert!(!s.take().retain);
            for payload in ["x", ""] {
                p.put(Publish::new(&topic, payload).retain());
                assert_eq!(s.take().retain, options == 8);
            }
        }
    }
}

/// Several matching subscriptions give one copy: its flag is set if one of them asks for it.
#[test]
fn retain_as_published_of_one_matching_subscription_is_enough() {
    cites!("v5:MQTT-3.3.1-13 v5:MQTT-3.3.4-2");
    let b = shared();
    let (mut s, topic) = subscriber(&b, V5, 0);
    s.subscribe(&format!("{topic}/#"), 8);
    b.connect(V5, &unique("p")).put(Publish::new(&topic, "x").retain());
    assert!(s.take().retain);
    s.expect_nothing();
    s.put(Publish::new(&topic, "").retain());
}

#[test]
fn retain_handling_decides_when_retained_messages_are_sent() {
    cites!("v5:MQTT-3.3.1-9 v5:MQTT-3.3.1-10 v5:MQTT-3.3.1-11 v5:MQTT-3.8.4-4");
    let b = shared();
    let topic = unique("t");
    let mut p = b.connect(V5, &unique("p"));
    p.put(Publish::new(&topic, "kept").retain());
    for (handling, at_first, again) in [(0, true, true), (1, true, false), (2, false, false)] {
        let connect = Connect::resume(V5, &unique("s"));
        let (mut s, _) = b.join(&connect);
        let step = |s: &mut Client, expected: bool| {
            s.subscribe(&topic, handling << 4);
            let expected: &[&str] = if expected { &["kept"] } else { &[] };
            assert_eq!(s.drain_texts(), expected, "Retain Handling {handling}");
        };
        step(&mut s, at_first);
        step(&mut s, again);
        s.disconnect();
        let (mut s, connack) = b.join(&connect);
        assert!(connack.present);
        s.expect_nothing(); // resuming is not subscribing
        step(&mut s, again);
        s.unsubscribe(&[&topic]);
        step(&mut s, at_first);
        s.disconnect();
        b.forget(V5, &connect.id);
    }
    p.put(Publish::new(&topic, "").retain());
}

#[test]
fn retained_messages_come_again_with_each_subscribe() {
    cites!("v4:MQTT-3.8.4-3 v4:MQTT-3.3.1-6 v5:MQTT-3.8.4-3 v5:MQTT-3.8.4-4 U311-008");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut p = b.connect(v, &unique("p"));
        p.put(Publish::new(&topic, "kept").retain().qos(1, 0));
        let mut s = b.connect(v, &unique("s"));
        for qos in [0, 0, 1] {
            s.subscribe(&topic, qos);
            let message = s.take();
            assert_eq!((message.text(), message.retain, message.qos), ("kept", true, qos));
            s.expect_nothing();
        }
        p.put(Publish::new(&topic, "").retain());
    }
}

#[test]
fn a_retained_message_carries_the_identifier_of_the_subscription_that_asked() {
    cites!("v5:MQTT-3.3.4-3 v5:MQTT-3.3.4-4 v5:MQTT-3.8.4-3");
    let b = shared();
    let topic = unique("t");
    let mut p = b.connect(V5, &unique("p"));
    p.put(Publish::new(&topic, "kept").retain());
    let mut s = b.connect(V5, &unique("s"));
    s.subscribe_id(&topic, 0, 7);
    assert_eq!(subscription_ids(&s.take().props), [7]);
    s.subscribe_id(&format!("{topic}/#"), 0, 268_435_455);
    assert_eq!(subscription_ids(&s.take().props), [268_435_455]);
    p.put(Publish::new(&topic, "").retain());
}

#[test]
fn a_retained_message_queued_for_a_client_that_is_away_keeps_its_flag() {
    cites!("U5-037");
    let b = shared();
    let topic = unique("t");
    let mut p = b.connect(V5, &unique("p"));
    p.put(Publish::new(&topic, "kept").retain().qos(1, 0));
    let connect = Connect::resume(V5, &unique("s")).with(Two(RECEIVE_MAXIMUM, 1));
    let (mut s, _) = b.join(&connect);
    let other = unique("t");
    s.subscribe(&other, 1);
    p.publish(&other, "blocks the window", 1);
    s.message();
    s.subscribe(&topic, 1);
    s.cut();
    let (mut s, _) = b.join(&connect);
    assert_eq!(s.take().text(), "blocks the window");
    let message = s.take();
    assert_eq!((message.text(), message.retain), ("kept", true));
    p.put(Publish::new(&topic, "").retain());
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn the_expiry_interval_shrinks_while_a_message_waits() {
    cites!("v5:MQTT-3.3.2-6 v5:MQTT-3.3.2-5");
    let b = shared();
    let (topic, kept) = (unique("t"), unique("t"));
    let connect = Connect::resume(V5, &unique("s"));
    let (mut s, _) = b.join(&connect);
    s.subscribe(&topic, 1);
    let mut p = b.connect(V5, &unique("p"));
    let message = Publish::new(&topic, "x").qos(1, 0).with(Four(MESSAGE_EXPIRY, 100));
    p.put(message.clone());
    assert_eq!(number(&s.take().props, MESSAGE_EXPIRY), Some(100));
    s.disconnect();
    p.put(message.clone());
    p.put(Publish { topic: kept.clone(), ..message }.retain());
    let_pass(2_100);
    let (mut s, _) = b.join(&connect);
    s.subscribe(&kept, 0);
    for _ in 0..2 {
        let left = number(&s.take().props, MESSAGE_EXPIRY).expect("Message Expiry Interval");
        assert!((90..=98).contains(&left), "{left} s left");
    }
    p.put(Publish::new(&kept, "").retain());
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn an_expired_message_is_dropped_unless_its_delivery_has_begun() {
    cites!("v5:MQTT-3.3.2-5 v5:MQTT-4.3.3-7 v5:MQTT-4.3.3-13 U5-038");
    let b = shared();
    let (topic, kept) = (unique("t"), unique("t"));
    let connect = Connect::resume(V5, &unique("s")).with(Two(RECEIVE_MAXIMUM, 2));
    let (mut s, _) = b.join(&connect);
    s.subscribe(&topic, 2);
    let mut p = b.connect(V5, &unique("p"));
    let short = |text, qos| Publish::new(&topic, text).qos(qos, 0).with(Four(MESSAGE_EXPIRY, 2));
    for (text, qos) in [("sent 1", 1), ("sent 2", 2), ("waits", 1), ("waits too", 2)] {
        p.put(short(text, qos));
    }
    let (one, two) = (s.message(), s.message());
    s.cut();
    p.put(short("comes too late", 1));
    p.put(Publish { topic: kept.clone(), ..short("kept", 1) }.retain());
    p.publish(&topic, "lasting", 1);
    let_pass(2_200);
    let (mut s, _) = b.join(&connect);
    for (sent, qos) in [(one, 1), (two, 2)] {
        let again = s.take();
        assert_eq!(
            (again.id, again.dup, again.qos, again.text()),
            (sent.id, true, qos, sent.text())
        );
    }
    assert_eq!(s.take().text(), "lasting");
    s.subscribe(&kept, 1);
    s.expect_nothing();
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn a_message_that_expires_at_once_never_waits() {
    cites!("v5:MQTT-3.3.2-5");
    let b = shared();
    let topic = unique("t");
    let connect = Connect::resume(V5, &unique("s"));
    let (mut s, _) = b.join(&connect);
    s.subscribe(&topic, 1);
    s.disconnect();
    let mut p = b.connect(V5, &unique("p"));
    p.put(Publish::new(&topic, "x").qos(1, 0).with(Four(MESSAGE_EXPIRY, 0)));
    let (mut s, _) = b.join(&connect);
    s.expect_nothing();
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn topic_aliases_of_a_client_stand_for_topics() {
    cites!("v5:MQTT-3.3.2-12 v5:MQTT-3.3.2-1 v5:MQTT-3.1.2-27 U5-046");
    let b = shared();
    let base = unique("t");
    let mut s = b.connect(V5, &unique("s"));
    s.subscribe(&format!("{base}/+"), 2);
    let mut p = b.connect(V5, &unique("p"));
    let (one, two) = (format!("{base}/one"), format!("{base}/two"));
    for (topic, alias, expected) in [
        (one.as_str(), 1, &one),
        ("", 1, &one),
        (&two, 16, &two),
        ("", 1, &one),
        ("", 16, &two),
        (&two, 1, &two), // maps it anew
        ("", 1, &two),
    ] {
        for qos in 0..=2 {
            p.put(Publish::new(topic, "x").qos(qos, 0).with(Two(TOPIC_ALIAS, alias)));
            let message = s.take();
            assert_eq!((&message.topic, message.props.as_slice()), (expected, &[][..]));
        }
    }
}

#[test]
fn topic_aliases_out_of_range_or_unknown_are_refused() {
    cites!("v5:MQTT-3.3.2-7 v5:MQTT-3.3.2-8 v5:MQTT-3.3.2-9 v5:MQTT-3.2.2-17 U5-044 U5-045");
    let b = shared();
    let connect = Connect::resume(V5, &unique("p"));
    let (mut p, _) = b.join(&connect);
    p.put(Publish::new("t", "x").with(Two(TOPIC_ALIAS, 3)));
    p.disconnect();
    for (topic, alias, code) in [
        ("t", 0, 0x94),
        ("t", 17, 0x94),
        ("", 17, 0x94),
        ("", 2, 0x82),
        ("", 3, 0x82), // mapped on the connection before
    ] {
        let (mut p, _) = b.join(&connect);
        p.send(&Publish::new(topic, "x").with(Two(TOPIC_ALIAS, alias)).bytes(V5));
        p.expect_refused(code);
    }
    b.forget(V5, &connect.id);
}

#[test]
fn the_broker_uses_aliases_within_the_limit_of_the_client() {
    cites!("v5:MQTT-3.1.2-26 v5:MQTT-3.3.2-11 v5:MQTT-3.3.2-7 v5:MQTT-3.3.2-8");
    let b = shared();
    let base = unique("t");
    let connect = Connect::resume(V5, &unique("s")).with(Two(ALIAS_MAXIMUM, 2));
    for _ in 0..2 {
        let (mut s, _) = b.join(&connect);
        s.subscribe(&format!("{base}/+"), 1);
        let mut p = b.connect(V5, &unique("p"));
        let mut names: HashMap<u32, String> = HashMap::new();
        let mut short = 0;
        for round in 0..4 {
            for level in ["a", "b", "c"] {
                let topic = format!("{base}/{level}");
                p.publish(&topic, round.to_string(), round & 1);
                let message = s.take();
                let alias = number(&message.props, TOPIC_ALIAS);
                assert!(alias.is_none_or(|alias| alias <= 2), "{alias:?}");
                let resolved = if message.topic.is_empty() {
                    short += 1;
                    names[&alias.expect("an alias")].clone()
                } else {
                    if let Some(alias) = alias {
                        names.insert(alias, message.topic.clone());
                    }
                    message.topic
                };
                assert_eq!(resolved, topic);
            }
        }
        assert!(short >= 4, "only {short} of 12 were sent without topic");
        s.disconnect();
    }
    b.forget(V5, &connect.id);
}

#[test]
fn a_message_sent_with_an_alias_is_resent_with_its_topic() {
    cites!("v5:MQTT-3.3.2-7 v5:MQTT-4.4.0-1");
    let b = shared();
    let topic = unique("t");
    let connect = Connect::resume(V5, &unique("s"));
    let (mut s, _) = b.join(&connect.clone().with(Two(ALIAS_MAXIMUM, 5)));
    s.subscribe(&topic, 1);
    let mut p = b.connect(V5, &unique("p"));
    for text in ["one", "two", "three"] {
        p.publish(&topic, text, 1);
        s.message();
    }
    s.cut();
    let (mut s, _) = b.join(&connect);
    for text in ["one", "two", "three"] {
        let message = s.take();
        assert_eq!((message.topic.as_str(), message.text()), (topic.as_str(), text));
        assert_eq!(message.props, []);
    }
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn a_message_that_is_skipped_sets_no_alias() {
    cites!("v5:MQTT-3.1.2-25 v5:MQTT-3.3.2-11");
    let b = shared();
    let topic = unique("t");
    let connect = Connect::new(V5, &unique("s"));
    let (mut s, _) = b.join(&connect.with(Two(ALIAS_MAXIMUM, 5)).with(Four(MAXIMUM_PACKET, 100)));
    s.subscribe(&topic, 0);
    let mut p = b.connect(V5, &unique("p"));
    p.publish(&topic, "x".repeat(200), 0);
    p.publish(&topic, "small", 0);
    let message = s.message();
    assert_eq!((message.topic.as_str(), message.text()), (topic.as_str(), "small"));
}

#[test]
fn no_aliases_are_used_towards_a_client_that_allows_none() {
    cites!("v5:MQTT-3.1.2-27");
    let b = shared();
    for connect in
        [Connect::new(V5, &unique("s")), Connect::new(V5, &unique("s")).with(Two(ALIAS_MAXIMUM, 0))]
    {
        let topic = unique("t");
        let (mut s, _) = b.join(&connect);
        s.subscribe(&topic, 0);
        for _ in 0..3 {
            s.publish(&topic, "x", 0);
            let message = s.message();
            assert_eq!((message.topic.as_str(), message.props.len()), (topic.as_str(), 0));
        }
    }
}

#[test]
fn a_client_may_not_publish_with_a_subscription_identifier() {
    cites!("v5:MQTT-3.3.4-6");
    let b = shared();
    let mut c = b.connect(V5, &unique("c"));
    c.send(&Publish::new("t", "x").with(Var(SUBSCRIPTION_ID, 1)).bytes(V5));
    c.expect_refused(0x82);
}

#[test]
fn a_message_too_large_for_a_client_is_skipped() {
    cites!("v5:MQTT-3.1.2-24 v5:MQTT-3.1.2-25 U5-014");
    let b = shared();
    let topic = unique("t");
    for qos in 0..=2 {
        let fits = Publish::new(&topic, "x".repeat(200)).qos(qos, 1);
        let limit = fits.bytes(V5).len() as u32;
        let connect = Connect::new(V5, &unique("s"))
            .with(Four(MAXIMUM_PACKET, limit))
            .with(Two(RECEIVE_MAXIMUM, 1));
        let (mut s, _) = b.join(&connect);
        let mut large = b.connect(V5, &unique("l"));
        s.subscribe(&topic, 2);
        large.subscribe(&topic, 2);
        let mut p = b.connect(V5, &unique("p"));
        p.put(Publish::new(&topic, "y".repeat(201)).qos(qos, 0));
        p.put(Publish { payload: vec![b'z'; 195], ..fits.clone() }.with(pair("n", "v")));
        p.put(fits);
        assert_eq!(s.take().payload, [b'x'; 200], "QoS {qos}");
        s.expect_nothing();
        for length in [201, 195, 200] {
            assert_eq!(large.take().payload.len(), length);
        }
    }
}

#[test]
fn a_packet_beyond_the_limit_is_refused_before_it_has_come() {
    cites!("v5:MQTT-3.2.2-15 U5-031 v5:MQTT-4.13.1-1");
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        let header = Publish::new("t", "").bytes(v).len() - 2;
        let largest = vec![0; (1 << 20) - 4 - header];
        c.send(&Publish::new("t", &largest).bytes(v));
        c.ping();
        c.send_hex("30 fd ff 3f"); // one byte more than 1 MiB with its header
        c.expect_refused(0x95);
    }
}

#[test]
fn properties_are_forwarded_unaltered_and_in_order() {
    cites!(
        "v5:MQTT-3.3.2-4 v5:MQTT-3.3.2-15 v5:MQTT-3.3.2-16 v5:MQTT-3.3.2-17 v5:MQTT-3.3.2-18
         v5:MQTT-3.3.2-20"
    );
    let b = shared();
    let (mut s, topic) = subscriber(&b, V5, 1);
    let forwarded = vec![
        pair("z", "1"),
        Byte(FORMAT_INDICATOR, 1),
        pair("a", "2"),
        text(CONTENT_TYPE, "\u{FEFF}text"),
        text(RESPONSE_TOPIC, "answer/here"),
        Data(CORRELATION, vec![0, 1, 255]),
        pair("z", "1"),
        pair("", ""),
    ];
    let mut p = b.connect(V5, &unique("p"));
    let message = Publish { props: forwarded.clone(), ..Publish::new(&topic, "x") };
    for message in [message.clone(), message.clone().qos(1, 0), message.retain()] {
        p.put(message);
        let got = s.take();
        let users = |p: &&Prop| matches!(p, Pair(..));
        assert!(got.props.iter().filter(users).eq(forwarded.iter().filter(users)));
        assert_eq!(got.props.len(), forwarded.len());
        assert!(forwarded.iter().all(|prop| got.props.contains(prop)), "{:?}", got.props);
    }
    let mut late = b.connect(V5, &unique("l"));
    late.subscribe(&topic, 0);
    assert_eq!(late.take().props.len(), forwarded.len());
    p.put(Publish::new(&topic, "").retain());
}

#[test]
fn a_publisher_learns_that_nobody_has_subscribed() {
    cites!("v5:MQTT-3.4.2-1 v5:MQTT-3.5.2-1");
    let b = shared();
    for v in ALL {
        let (mut s, topic) = subscriber(&b, v, 0);
        let mut p = b.connect(v, &unique("p"));
        let nobody = if v == V5 { 0x10 } else { 0 };
        for qos in [1, 2] {
            assert_eq!(p.publish(&topic, "x", qos), 0);
            assert_eq!(p.publish(&unique("nobody"), "x", qos), nobody);
        }
        assert_eq!(s.drain().len(), 2);
    }
}

#[test]
fn topics_of_the_broker_cannot_be_published_to() {
    cites!("v5:MQTT-3.4.2-1 v5:MQTT-3.5.2-1 U5-070 v4:MQTT-3.3.5-2 v5:MQTT-4.7.2-1");
    let b = shared();
    for v in ALL {
        let mut s = b.connect(v, &unique("s"));
        let topic = format!("$SYS/{}", unique("t"));
        s.subscribe(&topic, 2);
        let mut p = b.connect(v, &unique("p"));
        let refused = if v == V5 { 0x90 } else { 0 };
        for topic in [topic.as_str(), "$SYS", "$share/g/t", "$share/x"] {
            for message in [Publish::new(topic, "x"), Publish::new(topic, "x").retain()] {
                assert_eq!(p.put(message.clone()), 0);
                assert_eq!(p.put(message.clone().qos(1, 0)), refused, "{topic}");
                assert_eq!(p.put(message.qos(2, 0)), refused, "{topic}");
            }
        }
        s.expect_nothing();
        s.subscribe(&topic, 2);
        s.expect_nothing(); // nor is it retained
        for allowed in ["$other/x", "$SYSTEM", "$shared/a", "$"] {
            let topic = format!("{allowed}/{}", unique("t"));
            s.subscribe(&topic, 1);
            assert_eq!(p.publish(&topic, "x", 1), 0);
            assert_eq!(s.take().topic, topic);
        }
    }
}

#[test]
fn messages_are_delivered_at_the_lower_qos() {
    cites!("v5:MQTT-3.8.4-8 v5:MQTT-4.3.1-1 v4:MQTT-3.8.4-6 v4:MQTT-4.3.1-1");
    let b = shared();
    for v in ALL {
        for granted in 0..=2 {
            let (mut s, topic) = subscriber(&b, v, granted);
            let mut p = b.connect(v, &unique("p"));
            for published in 0..=2 {
                p.publish(&topic, "x", published);
                assert_eq!(s.take().qos, published.min(granted));
            }
        }
    }
}
