//! Wills (NOTES 25 to 28).

use std::time::Instant;

use crate::harness::*;

/// A watcher of a new topic, and the topic.
fn watcher(b: &Broker, v: Version) -> (Client, String) {
    let topic = unique("will");
    let mut watcher = b.connect(v, &unique("w"));
    watcher.subscribe(&topic, 2);
    (watcher, topic)
}

fn delayed(topic: &str, text: &str, delay: u32) -> Will {
    Will { props: vec![Four(WILL_DELAY, delay)], ..Will::new(topic, text) }
}

#[test]
fn the_will_is_published_once_when_the_connection_breaks() {
    cites!("v5:MQTT-3.1.2-7 v5:MQTT-3.1.2-8 v5:MQTT-3.1.2-10 v4:MQTT-3.1.2-8 v4:MQTT-3.1.2-10");
    let b = shared();
    for v in ALL {
        let (mut watcher, topic) = watcher(&b, v);
        for qos in [0, 1, 2] {
            let will = Will { qos, ..Will::new(&topic, "gone") };
            let (c, _) = b.join(&Connect::new(v, &unique("c")).will(will));
            watcher.expect_nothing();
            c.cut();
            let message = watcher.take();
            assert_eq!((message.text(), message.qos, message.retain), ("gone", qos, false));
            watcher.expect_nothing();
        }
    }
}

#[test]
fn only_disconnect_with_normal_disconnection_removes_the_will() {
    cites!(
        "v5:MQTT-3.14.4-3 v5:MQTT-3.1.2-10 v5:MQTT-3.1.2-8 U5-064 v4:MQTT-3.14.4-3 v4:MQTT-3.1.2-10"
    );
    let b = shared();
    for v in OLD {
        let (mut watcher, topic) = watcher(&b, v);
        let (c, _) = b.join(&Connect::new(v, &unique("c")).will(Will::new(&topic, "gone")));
        c.disconnect();
        watcher.expect_nothing();
    }
    let (mut watcher, topic) = watcher(&b, V5);
    for (disconnect, published) in [
        ("e0 00", false),
        ("e0 01 00", false),
        ("e0 02 00 00", false),
        ("e0 01 04", true),
        ("e0 01 80", true),
        ("e0 01 81", true),
        ("e0 01 82", true),
        ("e0 01 93", true),
        ("e0 01 98", true),
    ] {
        let (mut c, _) =
            b.join(&Connect::new(V5, &unique("c")).will(Will::new(&topic, disconnect)));
        c.send_hex(disconnect);
        c.expect_closed();
        if published {
            assert_eq!(watcher.take().text(), disconnect);
        }
        watcher.expect_nothing();
    }
}

#[test]
fn a_protocol_error_publishes_the_will() {
    cites!(
        "v5:MQTT-3.1.2-8 v5:MQTT-4.13.1-1 v5:MQTT-3.14.1-1 v4:MQTT-3.1.2-8 v4:MQTT-3.14.1-1
         v4:MQTT-4.8.0-1"
    );
    let b = shared();
    for v in ALL {
        let (mut watcher, topic) = watcher(&b, v);
        for error in ["00 00", "d0 00", "30 80 80 80 80 01", "36 05 0001 61 0001", "e1 00"] {
            if (v, error) == (V31, "e1 00") {
                continue; // the flags of DISCONNECT are not used in 3.1
            }
            let (mut c, _) = b.join(&Connect::new(v, &unique("c")).will(Will::new(&topic, error)));
            c.send_hex(error);
            c.until_closed();
            assert_eq!(watcher.take().text(), error);
        }
    }
}

#[test]
fn a_keep_alive_timeout_publishes_the_will() {
    cites!("v5:MQTT-3.1.2-22 v5:MQTT-3.1.2-8 v4:MQTT-3.1.2-24 v4:MQTT-3.1.2-8");
    let b = shared();
    let mut open = Vec::new();
    for v in ALL {
        let (watcher, topic) = watcher(&b, v);
        let connect = Connect { keep_alive: 1, ..Connect::new(v, &unique("c")) };
        let (c, _) = b.join(&connect.will(Will::new(&topic, "silent")));
        open.push((watcher, c));
    }
    for (watcher, _c) in &mut open {
        assert_eq!(watcher.take().text(), "silent");
    }
}

#[test]
fn the_will_is_retained_if_it_says_so() {
    cites!("v5:MQTT-3.1.2-14 v5:MQTT-3.1.2-15 v4:MQTT-3.1.2-16 v4:MQTT-3.1.2-17");
    let b = shared();
    for v in ALL {
        for retain in [false, true] {
            let (mut watcher, topic) = watcher(&b, v);
            let will = Will { retain, qos: 1, ..Will::new(&topic, "gone") };
            b.join(&Connect::new(v, &unique("c")).will(will)).0.cut();
            assert!(!watcher.take().retain, "an established subscription");
            let mut late = b.connect(v, &unique("l"));
            late.subscribe(&topic, 1);
            if retain {
                let message = late.take();
                assert_eq!((message.text(), message.retain, message.qos), ("gone", true, 1));
                watcher.put(Publish::new(&topic, "").retain());
            } else {
                late.expect_nothing();
            }
        }
    }
}

#[test]
fn a_new_connection_without_will_has_none() {
    cites!("v4:MQTT-3.1.2-12 v5:MQTT-3.1.2-10");
    let b = shared();
    for v in ALL {
        let (mut watcher, topic) = watcher(&b, v);
        let connect = Connect::resume(v, &unique("c"));
        let with = |text| connect.clone().will(Will::new(&topic, text));
        b.join(&with("one")).0.disconnect();
        b.join(&connect).0.cut();
        watcher.expect_nothing();
        b.join(&with("two")).0.disconnect();
        b.join(&with("three")).0.cut();
        assert_eq!(watcher.take().text(), "three");
        watcher.expect_nothing();
        b.forget(v, &connect.id);
    }
}

#[test]
fn the_will_waits_for_its_delay() {
    cites!("v5:MQTT-3.1.2-8 v5:MQTT-3.1.3-9");
    let b = shared();
    let (mut watcher, topic) = watcher(&b, V5);
    let connect = Connect::resume(V5, &unique("c")).will(delayed(&topic, "late", 1));
    let (c, _) = b.join(&connect);
    let start = Instant::now();
    c.cut();
    watcher.expect_nothing();
    assert_eq!(watcher.take().text(), "late");
    let waited = start.elapsed().as_millis();
    assert!((900..4_000).contains(&waited), "after {waited} ms");
    b.forget(V5, &connect.id);
}

#[test]
fn coming_back_within_the_delay_cancels_the_will() {
    cites!("v5:MQTT-3.1.3-9 v5:MQTT-3.1.2-8");
    let b = shared();
    let (mut watcher, topic) = watcher(&b, V5);
    let back = Connect::resume(V5, &unique("c")).will(delayed(&topic, "came back", 2));
    let away = Connect::resume(V5, &unique("c")).will(delayed(&topic, "stayed away", 2));
    b.join(&back).0.cut();
    b.join(&away).0.cut();
    let (c, connack) = b.join(&back);
    assert!(connack.present);
    assert_eq!(watcher.take().text(), "stayed away", "the delay of both is over");
    watcher.expect_nothing();
    c.disconnect();
    b.forget(V5, &back.id);
    b.forget(V5, &away.id);
}

#[test]
fn the_end_of_the_session_cuts_the_delay_short() {
    cites!("v5:MQTT-3.1.2-8 U5-023");
    let b = shared();
    let (mut watcher, topic) = watcher(&b, V5);
    let long = delayed(&topic, "gone", 600);
    // Expiry 0: the session ends with its connection.
    b.join(&Connect::new(V5, &unique("c")).will(long.clone())).0.cut();
    assert_eq!(watcher.take().text(), "gone");
    // A clean start ends the old session.
    let connect = Connect::resume(V5, &unique("c")).will(long.clone());
    b.join(&connect).0.cut();
    watcher.expect_nothing();
    let (c, _) = b.join(&Connect::new(V5, &connect.id));
    assert_eq!(watcher.take().text(), "gone");
    c.disconnect();
    // Expiry shorter than the delay.
    let connect = Connect::new(V5, &unique("c")).with(Four(SESSION_EXPIRY, 1)).will(long);
    b.join(&connect).0.cut();
    watcher.expect_nothing();
    assert_eq!(watcher.take().text(), "gone");
    watcher.expect_nothing();
}

#[test]
fn a_takeover_publishes_the_will_unless_the_session_goes_on_within_the_delay() {
    cites!("U5-022 U5-023 v5:MQTT-3.1.4-3 v5:MQTT-3.1.3-9 v4:MQTT-3.1.4-2 v4:MQTT-3.1.2-8");
    let b = shared();
    for (expiry, delay, clean, published) in [
        (60, 600, false, false),
        (60, 600, true, true),
        (60, 0, false, true),
        (60, 0, true, true),
        (0, 600, false, true),
        (0, 600, true, true),
        (0, 0, false, true),
    ] {
        let (mut watcher, topic) = watcher(&b, V5);
        let id = unique("c");
        let first = Connect::new(V5, &id).with(Four(SESSION_EXPIRY, expiry));
        let (_old, _) = b.join(&first.will(delayed(&topic, "taken over", delay)));
        let (new, _) = b.join(&Connect { clean, ..Connect::new(V5, &id) });
        if published {
            assert_eq!(watcher.take().text(), "taken over", "{expiry} {delay} {clean}");
        }
        watcher.expect_nothing();
        new.disconnect();
        watcher.expect_nothing();
    }
    for v in OLD {
        for clean in [false, true] {
            let (mut watcher, topic) = watcher(&b, v);
            let connect = Connect::resume(v, &unique("c"));
            let (_old, _) = b.join(&connect.clone().will(Will::new(&topic, "taken over")));
            let (new, _) = b.join(&Connect { clean, ..connect.clone() });
            assert_eq!(watcher.take().text(), "taken over");
            new.disconnect();
            b.forget(v, &connect.id);
        }
    }
}

#[test]
fn a_will_topic_must_be_a_topic_name() {
    cites!(
        "v5:MQTT-3.1.3-11 v5:MQTT-4.7.0-1 v5:MQTT-4.7.3-1 v4:MQTT-4.7.1-1 v4:MQTT-4.7.3-1
         v4:MQTT-3.1.4-1"
    );
    let b = shared();
    for v in ALL {
        for topic in ["a/+", "#", "+", "a#", "a+/b"] {
            let connect = Connect::new(v, &unique("c")).will(Will::new(topic, "w"));
            b.send(v, &connect.bytes()).expect_rejected(&[0x90]);
        }
        let connect = Connect::new(v, &unique("c")).will(Will::new("", "w"));
        b.send(v, &connect.bytes()).expect_rejected(&[0x81, 0x82, 0x90]);
    }
}

#[test]
fn the_will_carries_its_properties_but_not_its_delay() {
    cites!(
        "v5:MQTT-3.1.3-10 v5:MQTT-3.3.2-4 v5:MQTT-3.3.2-15 v5:MQTT-3.3.2-16 v5:MQTT-3.3.2-17
         v5:MQTT-3.3.2-18 v5:MQTT-3.3.2-20 v5:MQTT-3.3.2-6"
    );
    let b = shared();
    let (mut watcher, topic) = watcher(&b, V5);
    let forwarded = vec![
        Byte(FORMAT_INDICATOR, 1),
        text(CONTENT_TYPE, "text/plain"),
        text(RESPONSE_TOPIC, "answer"),
        Data(CORRELATION, vec![0, 255]),
        pair("b", "1"),
        pair("a", "2"),
        pair("b", "1"),
    ];
    let props = [forwarded.clone(), vec![Four(MESSAGE_EXPIRY, 100), Four(WILL_DELAY, 2)]].concat();
    let connect = Connect::resume(V5, &unique("c")).will(Will { props, ..Will::new(&topic, "w") });
    b.join(&connect).0.cut();
    let message = watcher.take();
    assert_eq!(number(&message.props, MESSAGE_EXPIRY), Some(100), "counted from its publication");
    let users = |p: &&Prop| matches!(p, Pair(..));
    assert!(message.props.iter().filter(users).eq(forwarded.iter().filter(users)));
    for prop in forwarded {
        assert!(message.props.contains(&prop), "{prop:?} in {:?}", message.props);
    }
    assert_eq!(message.props.len(), 8);
    b.forget(V5, &connect.id);
}

#[test]
fn a_session_that_outlives_its_connection_gets_its_own_will() {
    cites!("v5:MQTT-3.1.2-8 v5:MQTT-3.8.3-3 v5:MQTT-4.5.0-1 v4:MQTT-4.5.0-1");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let connect = Connect::resume(v, &unique("c"));
        let will = Will { qos: 1, ..Will::new(&topic, "mine") };
        let (mut c, _) = b.join(&connect.clone().will(will.clone()));
        c.subscribe(&topic, 1);
        c.cut();
        let (mut c, _) = b.join(&connect.clone().will(will));
        assert_eq!(c.take().text(), "mine");
        if v == V5 {
            c.subscribe(&topic, 1 | 4); // No Local
            c.cut();
            c = b.join(&connect).0;
        }
        c.expect_nothing();
        c.disconnect();
        b.forget(v, &connect.id);
    }
}

#[test]
fn an_empty_will_is_published_and_clears_the_retained_message() {
    cites!("v5:MQTT-3.3.1-6 v5:MQTT-3.3.1-7 v4:MQTT-3.3.1-10 v4:MQTT-3.3.1-11");
    let b = shared();
    for v in ALL {
        let (mut watcher, topic) = watcher(&b, v);
        watcher.put(Publish::new(&topic, "old").retain());
        assert_eq!(watcher.take().text(), "old");
        let will = Will { retain: true, ..Will::new(&topic, "") };
        b.join(&Connect::new(v, &unique("c")).will(will)).0.cut();
        assert_eq!(watcher.take().payload, b"");
        let mut late = b.connect(v, &unique("l"));
        late.subscribe(&topic, 0);
        late.expect_nothing();
    }
}
