//! Clients of different versions with each other (NOTES section 10).

use crate::harness::*;

#[test]
fn messages_pass_between_all_versions_at_every_qos() {
    cites!("v5:MQTT-3.3.2-4 v5:MQTT-3.3.2-17 v5:MQTT-2.2.2-1 v4:MQTT-3.3.2-3 v4:MQTT-7.0.0-2");
    let b = shared();
    for from in ALL {
        for to in ALL {
            let topic = unique("t");
            let mut s = b.connect(to, &unique("s"));
            s.subscribe(&topic, 2);
            let mut p = b.connect(from, &unique("p"));
            for qos in 0..=2 {
                let message = Publish::new(&topic, "x").qos(qos, 0);
                p.put(message.with(pair("a", "b")).with(text(CONTENT_TYPE, "c")));
                let message = s.take();
                assert_eq!((message.qos, message.text(), &message.topic), (qos, "x", &topic));
                let properties = if (from, to) == (V5, V5) { 2 } else { 0 };
                assert_eq!(message.props.len(), properties);
            }
        }
    }
}

#[test]
fn retained_messages_pass_between_all_versions() {
    cites!("v5:MQTT-3.3.1-5 v4:MQTT-3.3.1-5 v4:MQTT-3.3.1-6");
    let b = shared();
    for from in ALL {
        let topic = unique("t");
        let mut p = b.connect(from, &unique("p"));
        p.put(Publish::new(&topic, "kept").qos(2, 0).retain().with(pair("a", "b")));
        for to in ALL {
            let mut s = b.connect(to, &unique("s"));
            s.subscribe(&topic, 1);
            let message = s.take();
            assert_eq!((message.text(), message.retain, message.qos), ("kept", true, 1));
            assert_eq!(message.props.len(), usize::from((from, to) == (V5, V5)));
        }
        p.put(Publish::new(&topic, "").retain());
    }
}

#[test]
fn wills_pass_between_all_versions() {
    cites!("v5:MQTT-3.1.2-7 v4:MQTT-3.1.2-8 v5:MQTT-3.3.2-17");
    let b = shared();
    for from in ALL {
        for to in ALL {
            let topic = unique("t");
            let mut s = b.connect(to, &unique("s"));
            s.subscribe(&topic, 1);
            let will = Will { qos: 1, props: vec![pair("a", "b")], ..Will::new(&topic, "gone") };
            b.join(&Connect::new(from, &unique("c")).will(will)).0.cut();
            let message = s.take();
            assert_eq!((message.text(), message.qos), ("gone", 1));
            assert_eq!(message.props.len(), usize::from((from, to) == (V5, V5)));
        }
    }
}

#[test]
fn aliases_are_resolved_and_expiry_is_kept_for_older_clients() {
    cites!("v5:MQTT-3.3.2-5 v5:MQTT-3.3.2-12");
    let b = shared();
    for v in OLD {
        let topic = unique("t");
        let connect = Connect::resume(v, &unique("s"));
        let (mut s, _) = b.join(&connect);
        s.subscribe(&topic, 1);
        let mut p = b.connect(V5, &unique("p"));
        p.put(Publish::new(&topic, "x").with(Two(TOPIC_ALIAS, 1)));
        p.put(Publish::new("", "y").with(Two(TOPIC_ALIAS, 1)));
        for _ in 0..2 {
            assert_eq!(s.take().topic, topic);
        }
        s.disconnect();
        p.put(Publish::new(&topic, "short").qos(1, 0).with(Four(MESSAGE_EXPIRY, 1)));
        p.put(Publish::new(&topic, "long").qos(1, 0).with(Four(MESSAGE_EXPIRY, 100)));
        let_pass(1_200);
        let (mut s, _) = b.join(&connect);
        assert_eq!(s.take().text(), "long");
        s.expect_nothing();
        s.disconnect();
        b.forget(v, &connect.id);
    }
}

#[test]
fn a_session_goes_on_with_another_version() {
    cites!("v5:MQTT-3.1.2-5 v5:MQTT-3.1.2-23 v5:MQTT-4.4.0-1 v4:MQTT-3.1.2-4 v4:MQTT-4.4.0-1");
    let b = shared();
    for from in ALL {
        for to in ALL {
            let (id, topic) = (unique("s"), unique("t"));
            let (mut s, _) = b.join(&Connect::resume(from, &id));
            s.subscribe(&topic, 2);
            let mut p = b.connect(V5, &unique("p"));
            p.put(Publish::new(&topic, "in flight").qos(2, 0).with(pair("a", "b")));
            let sent = s.message();
            s.cut();
            p.put(Publish::new(&topic, "queued").qos(1, 0).with(pair("a", "b")));
            let (mut s, connack) = b.join(&Connect::resume(to, &id));
            assert_eq!(connack.present, to != V31);
            let again = s.take();
            assert_eq!((again.id, again.dup, again.text()), (sent.id, true, "in flight"));
            assert_eq!(s.take().text(), "queued");
            p.publish(&topic, "live", 1);
            assert_eq!(s.take().text(), "live");
            s.disconnect();
            b.forget(to, &id);
        }
    }
}

/// The newest CONNECT decides how long the session lives.
#[test]
fn the_newest_connect_decides_how_long_a_session_lives() {
    cites!("U5-012 v5:MQTT-4.1.0-2 v4:MQTT-3.1.2-4");
    let b = shared();
    let id = unique("c");
    b.join(&Connect::resume(V311, &id)).0.disconnect();
    let (c, connack) = b.join(&Connect { clean: false, ..Connect::new(V5, &id) });
    assert!(connack.present);
    c.disconnect(); // expiry 0
    let (c, connack) = b.join(&Connect::resume(V311, &id));
    assert!(!connack.present);
    c.disconnect();
    let (c, connack) = b.join(&Connect::resume(V311, &id));
    assert!(connack.present);
    c.disconnect();
    b.forget(V311, &id);
}

#[test]
fn older_clients_hear_themselves_and_see_no_retain_flag() {
    cites!("v5:MQTT-3.8.3-3 v5:MQTT-3.3.1-12 v4:MQTT-3.3.1-9 v4:MQTT-3.8.4-3");
    let b = shared();
    for v in OLD {
        let topic = unique("t");
        let mut c = b.connect(v, &unique("c"));
        c.subscribe(&topic, 1);
        c.put(Publish::new(&topic, "x").qos(1, 0).retain());
        let message = c.take();
        assert_eq!((message.text(), message.retain), ("x", false));
        c.put(Publish::new(&topic, "").retain());
    }
}
