//! CONNECT, CONNACK, sessions, keep alive, takeover (NOTES 9 to 24).

use std::collections::HashSet;
use std::time::Instant;

use crate::harness::*;

fn connect_of(name: &str, level: u8) -> Vec<u8> {
    let rest = hex("02 0000 0001 63");
    raw(0x10, [string(name), vec![level], rest].concat())
}

#[test]
fn an_unknown_protocol_name_is_closed_silently() {
    cites!("v5:MQTT-3.1.2-1 v4:MQTT-3.1.2-1");
    let b = shared();
    for name in ["MQTX", "mqtt", "", "MQIsdP", "MQTT5", "HTTP"] {
        for level in [3, 4, 5] {
            b.send(V311, &connect_of(name, level)).expect_closed();
        }
    }
}

#[test]
fn an_unknown_protocol_level_is_answered_in_the_form_the_client_may_know() {
    cites!("v5:MQTT-3.1.2-2 v4:MQTT-3.1.2-2 v5:MQTT-3.2.2-7 v4:MQTT-3.2.2-5");
    let b = shared();
    for (name, level, answer) in [
        ("MQIsdp", 4, "20 02 00 01"),
        ("MQIsdp", 5, "20 02 00 01"),
        ("MQTT", 3, "20 02 00 01"),
        ("MQTT", 0, "20 03 00 84 00"),
        ("MQTT", 2, "20 03 00 84 00"),
        ("MQTT", 6, "20 03 00 84 00"),
        ("MQTT", 0x7F, "20 03 00 84 00"),
    ] {
        let mut c = b.send(V311, &connect_of(name, level));
        c.expect_hex(answer);
        c.expect_closed();
    }
}

#[test]
fn connect_flags_that_contradict_each_other_are_refused() {
    cites!(
        "v5:MQTT-3.1.2-3 v5:MQTT-3.1.2-11 v5:MQTT-3.1.2-12 v5:MQTT-3.1.2-13 U5-009 U5-010
         v4:MQTT-3.1.2-3 v4:MQTT-3.1.2-11 v4:MQTT-3.1.2-13 v4:MQTT-3.1.2-14 v4:MQTT-3.1.2-15
         v4:MQTT-3.1.4-1 v4:MQTT-3.2.2-6"
    );
    let b = shared();
    for v in STRICT {
        let plain = Connect::new(v, "c");
        let will = plain.clone().will(Will::new("t", "w"));
        for (connect, flip) in
            [(&plain, 1), (&plain, 8), (&plain, 0x10), (&plain, 0x20), (&will, 0x18)]
        {
            let connect = Connect { flip, ..connect.clone() };
            b.send(v, &connect.bytes()).expect_rejected(&[0x81, 0x82]);
        }
    }
}

#[test]
fn a_password_needs_a_user_name_before_5_0() {
    cites!(
        "v5:MQTT-3.1.2-16 v5:MQTT-3.1.2-18 v5:MQTT-3.1.2-19 U5-011 v4:MQTT-3.1.2-18
         v4:MQTT-3.1.2-20 v4:MQTT-3.1.2-22"
    );
    let b = shared();
    for v in STRICT {
        let connect = Connect { password: Some("p".into()), ..Connect::new(v, &unique("c")) };
        if v == V5 {
            b.join(&connect);
        } else {
            b.send(v, &connect.bytes()).expect_closed();
        }
        let username = Some("u".into());
        b.join(&Connect { username: username.clone(), ..connect });
        b.join(&Connect { username, ..Connect::new(v, &unique("c")) });
    }
}

#[test]
fn a_connect_with_every_field_is_understood() {
    cites!(
        "v5:MQTT-3.1.3-1 v5:MQTT-3.1.2-9 v5:MQTT-3.1.2-17 v5:MQTT-3.1.2-19 v4:MQTT-3.1.3-1
         v4:MQTT-3.1.2-9 v4:MQTT-3.1.2-19 v4:MQTT-3.1.2-21"
    );
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut watcher = b.connect(v, &unique("w"));
        watcher.subscribe(&topic, 2);
        let mut connect = Connect::new(v, &unique("c"));
        connect.username = Some("user".into());
        connect.password = Some("\u{1}secret".into());
        connect.keep_alive = 600;
        let will = Will { qos: 2, ..Will::new(&topic, "the payload") };
        b.join(&connect.with(Four(SESSION_EXPIRY, 0)).will(will)).0.cut();
        assert_eq!(watcher.take().text(), "the payload");
    }
}

#[test]
fn a_client_may_leave_its_identifier_to_the_broker() {
    cites!(
        "v5:MQTT-3.1.3-6 v5:MQTT-3.1.3-7 v5:MQTT-3.2.2-16 v4:MQTT-3.1.3-6 v4:MQTT-3.1.3-7
         v4:MQTT-3.1.3-8 v4:MQTT-3.1.3-9 v4:MQTT-3.2.2-4"
    );
    let b = shared();
    for clean in [true, false] {
        b.refuses(&Connect { clean, ..Connect::new(V31, "") }, 2);
    }
    b.refuses(&Connect { clean: false, ..Connect::new(V311, "") }, 2);
    let (mut one, mut two) = (b.connect(V311, ""), b.connect(V311, ""));
    one.ping();
    two.ping();
    let mut assigned = HashSet::new();
    let mut clients = Vec::new();
    for clean in [true, false, true, false] {
        let (c, connack) = b.join(&Connect { clean, ..Connect::new(V5, "") });
        let id = string_of(&connack.props, ASSIGNED_CLIENT_ID).expect("Assigned Client Identifier");
        assert!(id.starts_with("auto-"), "{id}");
        assert!(!connack.present);
        assert!(assigned.insert(id.to_owned()), "{id} twice");
        clients.push(c);
    }
    for mut c in clients {
        c.ping();
    }
}

#[test]
fn an_assigned_identifier_can_be_used_like_any_other() {
    cites!("v5:MQTT-3.1.3-7 v5:MQTT-3.1.3-2 v5:MQTT-3.1.4-3");
    let b = shared();
    let (mut first, connack) = b.join(&Connect::resume(V5, ""));
    let id = string_of(&connack.props, ASSIGNED_CLIENT_ID).expect("Assigned Client Identifier");
    let (_second, connack) = b.join(&Connect::resume(V5, id));
    assert!(connack.present);
    assert_eq!(string_of(&connack.props, ASSIGNED_CLIENT_ID), None);
    first.expect_refused(0x8E);
    b.forget(V5, id);
}

#[test]
fn client_identifiers_may_have_any_length_and_characters() {
    cites!(
        "v5:MQTT-3.1.3-5 v5:MQTT-3.1.4-5 v5:MQTT-3.2.0-1 v4:MQTT-3.1.3-5 v4:MQTT-3.1.4-4
         v4:MQTT-3.2.0-1"
    );
    let b = shared();
    let long = "x".repeat(2_000);
    for v in ALL {
        for id in ["0", "abcdefghijklmnopqrstuvw", "0123456789ABCDEFGHIJKLM", &long, "a/+#$ \u{e9}"]
        {
            let (mut c, connack) = b.join(&Connect::new(v, &format!("{id}{}", v as u8)));
            assert_eq!(string_of(&connack.props, ASSIGNED_CLIENT_ID), None);
            c.ping();
        }
    }
}

#[test]
fn session_present_tells_whether_a_session_was_kept() {
    cites!(
        "v5:MQTT-3.2.2-1 v5:MQTT-3.2.2-2 v5:MQTT-3.2.2-3 v5:MQTT-3.1.2-4 v5:MQTT-3.1.2-5
         v5:MQTT-3.1.2-6 v5:MQTT-3.1.4-4 v4:MQTT-3.1.2-4 v4:MQTT-3.1.2-6 v4:MQTT-3.1.4-3
         v4:MQTT-3.2.2-1 v4:MQTT-3.2.2-2 v4:MQTT-3.2.2-3 U311-005"
    );
    let b = shared();
    for v in ALL {
        let id = unique("c");
        let step = |connect: &Connect, present: bool| {
            let (c, connack) = b.join(connect);
            assert_eq!(connack.present, present && v != V31, "{connect:?}");
            c.disconnect();
        };
        let (resume, clean) = (Connect::resume(v, &id), Connect::new(v, &id));
        step(&resume, false);
        step(&resume, true); // even though it holds nothing
        step(&resume, true);
        step(&clean, false);
        step(&resume, false); // the clean session ended with its connection
        step(&clean, false);
        step(&clean, false);
        if v == V5 {
            let clean_and_kept = Connect { clean: true, ..resume.clone() };
            step(&clean_and_kept, false);
            step(&Connect { clean: false, ..clean.clone() }, true); // and ends now: no expiry given
            step(&resume, false);
            step(&clean, false);
        }
    }
}

#[test]
fn a_kept_session_keeps_subscriptions_and_collects_messages() {
    cites!(
        "v5:MQTT-3.1.2-23 v5:MQTT-4.5.0-1 v4:MQTT-3.1.2-5 v4:MQTT-4.1.0-1 v4:MQTT-4.5.0-1
         v4:MQTT-4.1.0-2"
    );
    let b = shared();
    for v in ALL {
        let (id, topic) = (unique("s"), unique("t"));
        let (mut s, _) = b.join(&Connect::resume(v, &id));
        s.subscribe(&topic, 2);
        s.disconnect();
        let mut p = b.connect(v, &unique("p"));
        for qos in [0, 1, 2] {
            p.publish(&topic, qos.to_string(), qos);
        }
        let (mut s, _) = b.join(&Connect::resume(v, &id));
        for qos in [0, 1, 2] {
            let message = s.take();
            assert_eq!((message.text(), message.qos), (qos.to_string().as_str(), qos));
            assert!(!message.dup);
        }
        p.publish(&topic, "live", 1);
        assert_eq!(s.take().text(), "live");
        s.disconnect();
        let mut s = b.connect(v, &id); // starts clean
        p.publish(&topic, "x", 1);
        s.expect_nothing();
    }
}

#[test]
fn a_session_without_expiry_ends_with_its_connection_and_with_takeover() {
    cites!("v5:MQTT-4.1.0-2 U5-012 v4:MQTT-3.1.2-6");
    let b = shared();
    for clean in [true, false] {
        let (id, topic) = (unique("s"), unique("t"));
        let connect = Connect { clean, ..Connect::new(V5, &id) };
        let (mut old, _) = b.join(&connect);
        old.subscribe(&topic, 1);
        let (mut new, connack) = b.join(&Connect::resume(V5, &id));
        assert!(!connack.present, "the session taken over had expiry 0");
        old.expect_refused(0x8E);
        b.connect(V5, &unique("p")).publish(&topic, "x", 1);
        new.expect_nothing();
        new.disconnect();
        b.forget(V5, &id);
    }
}

fn disconnect_with(expiry: u32) -> Vec<u8> {
    raw(0xE0, [vec![0], props(&[Four(SESSION_EXPIRY, expiry)])].concat())
}

#[test]
fn disconnect_may_change_the_session_expiry() {
    cites!("v5:MQTT-3.1.2-23 U5-065");
    let b = shared();
    for (connect, disconnect, kept) in
        [(60, Some(0), false), (60, Some(90), true), (60, None, true), (0, Some(0), false)]
    {
        let id = unique("c");
        let connect = Connect::new(V5, &id).with(Four(SESSION_EXPIRY, connect));
        let (mut c, _) = b.join(&connect);
        c.send(&disconnect.map_or(hex("e0 00"), disconnect_with));
        c.expect_closed();
        let (c, connack) = b.join(&Connect { clean: false, ..Connect::new(V5, &id) });
        assert_eq!(connack.present, kept, "{connect:?}, {disconnect:?}");
        c.disconnect();
    }
}

#[test]
fn disconnect_cannot_give_a_session_a_life_it_did_not_have() {
    cites!("U5-066 v5:MQTT-3.1.2-10");
    let b = shared();
    let (id, topic) = (unique("c"), unique("t"));
    let mut watcher = b.connect(V5, &unique("w"));
    watcher.subscribe(&topic, 0);
    let (mut c, _) = b.join(&Connect::new(V5, &id).will(Will::new(&topic, "will")));
    c.send(&disconnect_with(60));
    c.expect_refused(0x82);
    assert_eq!(watcher.take().text(), "will", "the DISCONNECT was not valid");
    let (_, connack) = b.join(&Connect { clean: false, ..Connect::new(V5, &id) });
    assert!(!connack.present);
}

#[test]
fn the_session_expires_counted_from_the_end_of_the_connection() {
    cites!("v5:MQTT-4.1.0-2 v5:MQTT-3.1.2-23 v5:MQTT-3.1.3-9 v5:MQTT-4.1.0-1");
    let b = shared();
    let (id, topic) = (unique("c"), unique("t"));
    let mut watcher = b.connect(V5, &unique("w"));
    watcher.subscribe(&topic, 0);
    let delay = Will { props: vec![Four(WILL_DELAY, 600)], ..Will::new(&topic, "ended") };
    let connect = Connect::new(V5, &id).with(Four(SESSION_EXPIRY, 2)).will(delay);
    let (c, _) = b.join(&connect);
    let_pass(2_100);
    watcher.expect_nothing();
    c.cut();
    let cut = Instant::now();
    let (c, connack) = b.join(&Connect { clean: false, ..connect });
    assert!(connack.present, "still there after {:?}", cut.elapsed());
    c.cut();
    let cut = Instant::now();
    assert_eq!(watcher.take().text(), "ended");
    assert!(cut.elapsed().as_millis() >= 1_900, "after {:?}", cut.elapsed());
    let (_, connack) = b.join(&Connect { clean: false, ..Connect::new(V5, &id) });
    assert!(!connack.present);
}

#[test]
fn a_session_expiry_beyond_the_limit_is_answered_with_the_limit() {
    cites!("U5-012 U5-027");
    let b = shared();
    for (asked, told) in [(60, None), (2_592_000, None), (2_592_001, Some(2_592_000))] {
        let id = unique("c");
        let (c, connack) = b.join(&Connect::new(V5, &id).with(Four(SESSION_EXPIRY, asked)));
        assert_eq!(number(&connack.props, SESSION_EXPIRY), told, "{asked} s asked for");
        c.disconnect();
        b.forget(V5, &id);
    }
    let b = Broker::with("max_session_expiry: never");
    let (_, connack) = b.join(&Connect::new(V5, "c").with(Four(SESSION_EXPIRY, u32::MAX)));
    assert_eq!(number(&connack.props, SESSION_EXPIRY), None);
    let b = Broker::with("max_session_expiry: 1m");
    let (_, connack) = b.join(&Connect::new(V5, "c").with(Four(SESSION_EXPIRY, u32::MAX)));
    assert_eq!(number(&connack.props, SESSION_EXPIRY), Some(60));
}

/// The limit is not what DISCONNECT is compared with.
#[test]
fn disconnect_is_compared_with_the_expiry_the_client_sent() {
    cites!("U5-066 U5-027");
    let b = Broker::with("max_session_expiry: 0");
    let (mut c, connack) = b.join(&Connect::new(V5, "c").with(Four(SESSION_EXPIRY, 60)));
    assert_eq!(number(&connack.props, SESSION_EXPIRY), Some(0));
    c.send(&disconnect_with(30));
    c.expect_closed();
}

#[test]
fn a_silent_client_is_cut_off_after_one_and_a_half_times_its_keep_alive() {
    cites!("v5:MQTT-3.1.2-22 v5:MQTT-3.2.2-22 v4:MQTT-3.1.2-24");
    let b = shared();
    let mut patient = b.connect(V5, &unique("c")); // keep alive 0
    let mut clients: Vec<Client> = ALL
        .into_iter()
        .map(|v| b.join(&Connect { keep_alive: 1, ..Connect::new(v, &unique("c")) }).0)
        .collect();
    let start = Instant::now();
    for c in &mut clients {
        c.expect_refused(0x8D);
        let waited = start.elapsed().as_millis();
        assert!((1_400..4_000).contains(&waited), "{:?} after {waited} ms", c.version());
    }
    patient.ping();
}

#[test]
fn any_packet_keeps_a_client_alive_but_none_that_it_receives() {
    cites!("v5:MQTT-3.1.2-22 v4:MQTT-3.1.2-24");
    let b = shared();
    for v in STRICT {
        let topic = unique("t");
        let mut silent = b.join(&Connect { keep_alive: 1, ..Connect::new(v, &unique("s")) }).0;
        silent.subscribe(&topic, 0);
        let mut busy = b.join(&Connect { keep_alive: 1, ..Connect::new(v, &unique("b")) }).0;
        for _ in 0..5 {
            let_pass(500);
            busy.send(&Publish::new(&topic, "x").bytes(v));
        }
        busy.ping();
        let ended = silent.until_closed();
        let messages = ended.iter().filter(|p| matches!(p, Packet::Publish(_))).count();
        assert!((2..5).contains(&messages), "{ended:?}");
    }
}

#[test]
fn a_keep_alive_beyond_the_limit_is_answered_with_the_limit() {
    cites!("v5:MQTT-3.2.2-22");
    let b = Broker::with("max_keepalive: 10");
    for (asked, told) in [(0, Some(10)), (5, None), (10, None), (11, Some(10)), (60_000, Some(10))]
    {
        for v in ALL {
            let connect = Connect { keep_alive: asked, ..Connect::new(v, &unique("c")) };
            let (_, connack) = b.join(&connect);
            let told = if v == V5 { told } else { None };
            assert_eq!(number(&connack.props, SERVER_KEEP_ALIVE), told, "{asked} s");
        }
    }
    let (_, connack) =
        shared().join(&Connect { keep_alive: 60_000, ..Connect::new(V5, &unique("c")) });
    assert_eq!(number(&connack.props, SERVER_KEEP_ALIVE), None);
}

#[test]
fn the_keep_alive_of_the_server_is_enforced() {
    cites!("v5:MQTT-3.1.2-22");
    let b = Broker::with("max_keepalive: 1");
    b.connect(V5, "c").expect_refused(0x8D);
}

#[test]
fn a_second_client_with_the_same_identifier_takes_over() {
    cites!(
        "v5:MQTT-3.1.4-3 v5:MQTT-3.1.3-2 v5:MQTT-4.4.0-1 v4:MQTT-3.1.4-2 v4:MQTT-3.1.3-2
         v4:MQTT-4.4.0-1"
    );
    let b = shared();
    for old_version in ALL {
        for v in ALL {
            let (id, topic) = (unique("c"), unique("t"));
            let (mut old, _) = b.join(&Connect::resume(old_version, &id));
            old.subscribe(&topic, 1);
            let mut p = b.connect(V5, &unique("p"));
            p.publish(&topic, "one", 1);
            let first = old.message();
            let (mut new, connack) = b.join(&Connect::resume(v, &id));
            assert_eq!(connack.present, v != V31);
            old.expect_refused(0x8E);
            let again = new.message();
            assert_eq!((again.id, again.dup, again.text()), (first.id, true, "one"));
            new.acknowledge(&again);
            p.publish(&topic, "two", 1);
            assert_eq!(new.take().text(), "two");
            new.expect_nothing();
            new.disconnect();
            b.forget(v, &id);
        }
    }
}

#[test]
fn a_takeover_that_starts_clean_inherits_nothing() {
    cites!("v5:MQTT-3.1.4-3 v5:MQTT-3.1.2-4 v5:MQTT-3.2.2-2 v4:MQTT-3.1.2-6");
    let b = shared();
    for v in ALL {
        let (id, topic) = (unique("c"), unique("t"));
        let (mut old, _) = b.join(&Connect::resume(v, &id));
        old.subscribe(&topic, 1);
        let mut p = b.connect(v, &unique("p"));
        p.publish(&topic, "one", 1);
        old.message();
        let (mut new, connack) = b.join(&Connect::new(v, &id));
        assert!(!connack.present);
        old.expect_refused(0x8E);
        p.publish(&topic, "two", 1);
        new.expect_nothing();
    }
}

#[test]
fn what_follows_a_refused_connect_is_thrown_away() {
    cites!(
        "v5:MQTT-3.1.4-6 v5:MQTT-3.1.4-1 v5:MQTT-3.1.4-2 v5:MQTT-3.2.2-6 v4:MQTT-3.1.4-5
         v4:MQTT-3.1.4-1 v4:MQTT-3.2.2-4"
    );
    let b = shared();
    let topic = unique("t");
    let mut watcher = b.connect(V5, &unique("w"));
    watcher.subscribe(&topic, 0);
    let refused_v4 = Connect { clean: false, ..Connect::new(V311, "") };
    let malformed_v4 = Connect { flip: 1, ..Connect::new(V311, "c") };
    let refused_v5 = Connect::new(V5, "c").with(text(AUTH_METHOD, "unknown"));
    let malformed_v5 = Connect { flip: 1, ..Connect::new(V5, "c") };
    for connect in [refused_v4, malformed_v4, refused_v5, malformed_v5] {
        let v = connect.version;
        let publish = Publish::new(&topic, "x").bytes(v);
        let mut c = b.send(v, &[connect.bytes(), publish, vec![0xC0, 0]].concat());
        let answers = c.until_closed();
        assert!(
            matches!(answers.as_slice(), [] | [Packet::Connack(Connack { present: false, .. })]),
            "{answers:?}"
        );
    }
    watcher.expect_nothing();
}

#[test]
fn packets_sent_right_after_connect_are_processed_after_connack() {
    cites!("U5-026 U311-004 v5:MQTT-3.2.0-1 v5:MQTT-3.2.0-2 v4:MQTT-3.2.0-1");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let all = [
            Connect::new(v, &unique("c")).bytes(),
            subscribe(v, 1, &[], &[(&topic, 0)]),
            Publish::new(&topic, "x").qos(2, 2).bytes(v),
            vec![0xC0, 0],
        ];
        let mut c = b.send(v, &all.concat());
        c.connack();
        c.suback(1);
        assert_eq!(c.ack(PUBREC, 2), 0);
        c.wait("PINGRESP", |p| *p == Packet::Pingresp);
        assert_eq!(c.message().text(), "x");
    }
}

#[test]
fn messages_sent_before_connack_count_against_receive_maximum() {
    cites!("v5:MQTT-3.3.4-7 U5-026 U5-047");
    let b = shared();
    let topic = unique("t");
    let connect = Connect::new(V5, &unique("c")).bytes();
    let burst = |count: u16| {
        let publish = |id| Publish::new(&topic, "").qos(2, id).bytes(V5);
        [connect.clone(), (1..=count).flat_map(publish).collect()].concat()
    };
    let mut c = b.send(V5, &burst(100));
    c.connack();
    assert!(c.ack(PUBREC, 100) < 0x80);
    c.ping();
    let mut c = b.send(V5, &burst(101));
    let end = c.until_closed().pop();
    assert!(matches!(end, Some(Packet::Disconnect { code: 0x93, .. })), "{end:?}");
}

#[test]
fn anything_before_connect_is_closed_silently() {
    cites!("v5:MQTT-3.1.0-1 v5:MQTT-3.14.0-1 v5:MQTT-3.2.0-1 v4:MQTT-3.1.0-1");
    let b = shared();
    for first in
        ["c0 00", "30 03 0001 61", "82 06 0001 0001 61 00", "e0 00", "f0 00", "20 02 0000", "ff"]
    {
        b.send(V5, &hex(&format!("{first} 00"))).expect_closed();
    }
    b.send(V5, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect_closed();
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    cites!("v5:MQTT-3.1.0-2 v4:MQTT-3.1.0-2");
    let b = shared();
    for v in ALL {
        for second in ["c", "other"] {
            let mut c = b.connect(v, &unique("c"));
            c.send(&Connect::new(v, &unique(second)).bytes());
            c.expect_refused(0x82);
        }
    }
}

#[test]
fn a_client_that_sends_no_connect_is_closed_after_a_while() {
    cites!("v5:MQTT-3.1.4-2 v5:MQTT-3.14.0-1");
    let b = Broker::with("connect_timeout: 500ms");
    let start = Instant::now();
    let mut silent = b.open(V5);
    let mut slow = b.send(V5, &Connect::new(V5, "c").bytes()[..9]);
    silent.expect_closed();
    slow.expect_closed();
    assert!(start.elapsed().as_millis() >= 450, "after {:?}", start.elapsed());
}

#[test]
fn a_connect_beyond_its_limit_is_closed_before_it_has_come() {
    cites!("v5:MQTT-3.2.2-15 U5-031");
    let b = shared();
    b.send(V5, &hex("10 fe ff 0f")).expect_closed(); // 256 KiB + 2 with its header
    let header = 4 + Connect::new(V5, "c").will(Will::new("t", "")).body().len();
    let payload = "x".repeat(65_535);
    let mut connect = Connect::new(V5, &unique("c")).will(Will::new("t", &payload));
    connect.username = Some(payload.clone());
    connect.password = Some(payload);
    assert!(connect.bytes().len() > 190_000 + header);
    b.join(&connect).0.disconnect();
}

#[test]
fn no_answer_is_larger_than_the_client_can_take() {
    cites!(
        "v5:MQTT-3.2.2-19 v5:MQTT-3.2.2-20 v5:MQTT-3.1.2-24 v5:MQTT-3.4.2-2 v5:MQTT-3.4.2-3
         v5:MQTT-3.5.2-2 v5:MQTT-3.5.2-3 v5:MQTT-3.6.2-2 v5:MQTT-3.6.2-3 v5:MQTT-3.7.2-2
         v5:MQTT-3.7.2-3 v5:MQTT-3.9.2-1 v5:MQTT-3.9.2-2 v5:MQTT-3.11.2-1 v5:MQTT-3.11.2-2
         v5:MQTT-3.14.2-3 v5:MQTT-3.14.2-4"
    );
    let b = shared();
    for limit in [20, 24, 40] {
        let small = Connect::new(V5, &unique("c")).with(Four(MAXIMUM_PACKET, limit));
        b.ask(&small.clone().with(text(AUTH_METHOD, "unknown"))).0.expect_closed();
        let (mut c, _) = b.join(&small);
        c.subscribe("a/#/b", 0);
        c.unsubscribe(&["none"]);
        c.publish("$SYS/x", "x", 1);
        c.publish("$SYS/x", "x", 2);
        c.send(&ack(PUBREL, 1));
        assert_eq!(c.ack(PUBCOMP, 1), 0x92);
        c.send(&ack(PUBREC, 1));
        assert_eq!(c.ack(PUBREL, 1), 0x92);
        c.send_hex("00 00");
        c.expect_refused(0x81);
    }
}

#[test]
fn without_problem_information_only_three_packets_may_explain_themselves() {
    cites!("v5:MQTT-3.1.2-29 U5-018");
    let b = shared();
    let (mut c, _) = b.join(&Connect::new(V5, &unique("c")).with(Byte(REQUEST_PROBLEM, 0)));
    let topic = unique("t");
    c.send(&subscribe(V5, 1, &[], &[("a/#/b", 0), (&topic, 0)]));
    assert_eq!(c.suback(1), Suback { id: 1, codes: vec![0x8F, 0], props: Vec::new() });
    c.send(&unsubscribe(V5, 2, &["none", "a/#/b"]));
    let unsuback = Suback { id: 2, codes: vec![0x11, 0x8F], props: Vec::new() };
    assert_eq!(c.packet(), Packet::Unsuback(unsuback));
    c.send(&Publish::new("$SYS/x", "").qos(1, 3).bytes(V5));
    let refused = |first, id, code| Ack { first, id, code, props: Vec::new() };
    assert_eq!(c.full_ack(PUBACK, 3), refused(PUBACK, 3, 0x90));
    c.send(&Publish::new("$SYS/x", "").qos(2, 4).bytes(V5));
    assert_eq!(c.full_ack(PUBREC, 4), refused(PUBREC, 4, 0x90));
    c.send(&ack(PUBREL, 5));
    assert_eq!(c.full_ack(PUBCOMP, 5), refused(PUBCOMP, 5, 0x92));
    c.send(&ack(PUBREC, 6));
    assert_eq!(c.full_ack(PUBREL, 6), refused(PUBREL, 6, 0x92));
    let user = pair("kept", "yes");
    c.send(&Publish::new(&topic, "").with(user.clone()).bytes(V5));
    assert_eq!(c.message().props, [user], "PUBLISH is forwarded as it is");
}

#[test]
fn response_information_is_not_sent_unasked() {
    cites!("v5:MQTT-3.1.2-28 U5-017");
    let b = shared();
    let connect = Connect::new(V5, &unique("c"));
    for connect in [connect.clone(), connect.with(Byte(REQUEST_RESPONSE, 0))] {
        let (_, connack) = b.join(&connect);
        assert_eq!(string_of(&connack.props, RESPONSE_INFORMATION), None);
    }
}

#[test]
fn connack_announces_the_limits_of_the_broker() {
    cites!("v5:MQTT-3.2.2-9 v5:MQTT-3.2.2-8 U5-028 U5-035 v5:MQTT-4.9.0-1 v5:MQTT-2.2.2-1");
    let b = shared();
    let (_, connack) = b.join(&Connect::new(V5, &unique("c")));
    for (property, value) in [
        (RECEIVE_MAXIMUM, Some(100)),
        (ALIAS_MAXIMUM, Some(16)),
        (MAXIMUM_PACKET, Some(1 << 20)),
        (MAXIMUM_QOS, None),
        (SERVER_KEEP_ALIVE, None),
        (SESSION_EXPIRY, None),
    ] {
        assert_eq!(number(&connack.props, property), value, "property {property:#04x}");
    }
    for available in [RETAIN_AVAILABLE, WILDCARDS_AVAILABLE, IDS_AVAILABLE, SHARED_AVAILABLE] {
        assert_ne!(number(&connack.props, available), Some(0), "property {available:#04x}");
    }
}

#[test]
fn every_ping_is_answered() {
    cites!("v5:MQTT-3.12.4-1 v4:MQTT-3.12.4-1");
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        c.send_hex("c000 c000 c000");
        for _ in 0..3 {
            assert_eq!(c.packet(), Packet::Pingresp);
        }
    }
}

#[test]
fn the_broker_closes_after_disconnect_and_says_nothing_more() {
    cites!("v5:MQTT-3.14.4-1 v5:MQTT-3.14.4-2 U5-063 U311-009");
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        c.send_hex("e000 c000");
        c.expect_closed();
    }
}

#[test]
fn anonymous_clients_are_refused_where_they_are_not_allowed() {
    cites!("v5:MQTT-3.1.4-2 v5:MQTT-3.2.2-7 v4:MQTT-3.2.2-5 U311-003");
    let b = Broker::with("allow_anonymous: false");
    b.refuses(&Connect::new(V5, "c"), 0x87);
    for v in OLD {
        b.refuses(&Connect::new(v, "c"), 5);
    }
}

#[test]
fn a_broker_that_stops_says_so() {
    cites!("v5:MQTT-3.14.4-1 v5:MQTT-4.13.2-1");
    let b = Broker::with("");
    let mut clients: Vec<_> = ALL.into_iter().map(|v| b.connect(v, &unique("c"))).collect();
    b.signal("TERM");
    for c in &mut clients {
        c.expect_refused(0x8B);
    }
    drop(clients);
    assert!(b.wait_exit().success());
}
