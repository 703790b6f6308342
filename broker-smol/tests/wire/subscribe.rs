//! SUBSCRIBE and UNSUBSCRIBE (NOTES 51 to 59).

use crate::harness::*;

#[test]
fn suback_answers_each_filter_in_order() {
    cites!(
        "v5:MQTT-3.8.4-1 v5:MQTT-3.8.4-2 v5:MQTT-3.8.4-5 v5:MQTT-3.8.4-6 v5:MQTT-3.8.4-7
         v5:MQTT-3.9.3-1 v5:MQTT-3.9.3-2 v5:MQTT-2.2.1-6 v4:MQTT-3.8.4-1 v4:MQTT-3.8.4-2
         v4:MQTT-3.8.4-4 v4:MQTT-3.8.4-5 v4:MQTT-3.9.3-1 v4:MQTT-3.9.3-2 v4:MQTT-2.3.1-7"
    );
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        let t = unique("t");
        let filters = [(t.as_str(), 2), ("a/+/b", 0), ("c/#", 1), ("+", 2), ("/", 0)];
        c.send(&subscribe(v, 0xABCD, &[], &filters));
        let suback = c.suback(0xABCD);
        assert_eq!(suback.codes, [2, 0, 1, 2, 0]);
        assert_eq!(c.subscribe(&t, 1), 1);
    }
}

#[test]
fn subscription_options_out_of_range_are_refused() {
    cites!("v5:MQTT-3.8.3-5 v5:MQTT-4.13.1-1 U5-055 U5-056 v4:MQTT-3.8.3-4");
    let b = shared();
    for (options, code) in [(0x40, 0x81), (0x80, 0x81), (0xC0, 0x81), (3, 0x82), (0x30, 0x82)] {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&subscribe(V5, 1, &[], &[("t", options)]));
        c.expect_refused(code);
    }
    for options in [3, 4, 8, 0x10, 0x20, 0x40, 0x80] {
        let mut c = b.connect(V311, &unique("c"));
        c.send(&subscribe(V311, 1, &[], &[("t", 0), ("u", options)]));
        c.expect_closed();
    }
}

#[test]
fn a_subscribe_or_unsubscribe_without_filters_is_refused() {
    cites!("v5:MQTT-3.8.3-2 v5:MQTT-3.10.3-2 U5-054 U5-061 v4:MQTT-3.8.3-3 v4:MQTT-3.10.3-2");
    let b = shared();
    for v in ALL {
        for packet in [subscribe(v, 1, &[], &[]), unsubscribe(v, 1, &[])] {
            let mut c = b.connect(v, &unique("c"));
            c.send(&packet);
            c.expect_refused(0x82);
        }
    }
}

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_highest_qos() {
    cites!("v5:MQTT-3.3.4-2 v5:MQTT-3.3.4-3 v5:MQTT-3.3.4-4 U5-049 v4:MQTT-3.3.5-1");
    let b = shared();
    for v in ALL {
        let base = unique("t");
        let mut s = b.connect(v, &unique("s"));
        let topic = format!("{base}/a");
        for (filter, qos) in [("a", 0), ("+", 2), ("#", 1)] {
            s.subscribe(&format!("{base}/{filter}"), qos);
        }
        b.connect(v, &unique("p")).publish(&topic, "x", 2);
        assert_eq!(s.take().qos, 2);
        s.expect_nothing();
        s.unsubscribe(&[&format!("{base}/+")]);
        b.connect(v, &unique("p")).publish(&topic, "x", 2);
        assert_eq!(s.take().qos, 1);
        s.expect_nothing();
    }
    let base = unique("t");
    let mut s = b.connect(V5, &unique("s"));
    for (filter, id) in [("a", 9), ("+", 300), ("#", 9)] {
        s.subscribe_id(&format!("{base}/{filter}"), 0, id);
    }
    s.subscribe(&format!("{base}/a/#"), 0); // has no identifier
    let mut other = b.connect(V5, &unique("o"));
    other.subscribe_id(&format!("{base}/a"), 0, 77);
    b.connect(V5, &unique("p")).publish(&format!("{base}/a"), "x", 0);
    assert_eq!(subscription_ids(&s.take().props), [9, 9, 300]);
    s.expect_nothing();
    assert_eq!(subscription_ids(&other.take().props), [77], "only its own");
}

#[test]
fn a_subscription_identifier_is_replaced_cleared_and_kept_with_its_subscription() {
    cites!("v5:MQTT-3.8.4-3 U5-059 U5-043");
    let b = shared();
    let topic = unique("t");
    let connect = Connect::resume(V5, &unique("s"));
    let (mut s, _) = b.join(&connect);
    let mut p = b.connect(V5, &unique("p"));
    let mut ids = |s: &mut Client| {
        p.publish(&topic, "x", 1);
        subscription_ids(&s.take().props)
    };
    for id in [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
        s.subscribe_id(&topic, 1, id);
        assert_eq!(ids(&mut s), [id]);
    }
    s.cut();
    let (mut s, _) = b.join(&connect);
    assert_eq!(ids(&mut s), [268_435_455]);
    s.subscribe(&topic, 1);
    assert_eq!(ids(&mut s), []);
    s.subscribe_id(&topic, 1, 5);
    s.unsubscribe(&[&topic]);
    s.subscribe(&topic, 1);
    assert_eq!(ids(&mut s), []);
    s.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn subscribing_again_replaces_the_subscription_without_a_gap() {
    cites!("v5:MQTT-3.8.4-3 v5:MQTT-3.8.4-4 v5:MQTT-3.8.4-5 v4:MQTT-3.8.4-3 v4:MQTT-3.8.4-4");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut s = b.connect(v, &unique("s"));
        s.subscribe(&topic, 2);
        let mut p = b.connect(v, &unique("p"));
        let mut published = Vec::new();
        for n in 0..30u8 {
            s.send(&subscribe(v, 1, &[], &[(&topic, n % 3)]));
            p.publish(&topic, n.to_string(), 1);
            published.push(n.to_string());
            s.suback(1);
        }
        assert_eq!(s.take_texts(30), published);
        assert_eq!(s.subscribe_all(&[(&topic, 2), (&topic, 0)], &[]), [2, 0]);
        p.publish(&topic, "x", 2);
        assert_eq!(s.take().qos, 0, "the later of both counts");
        s.expect_nothing();
    }
}

#[test]
fn the_same_filter_twice_in_one_subscribe_exists_the_second_time() {
    cites!("v5:MQTT-3.8.4-5 v5:MQTT-3.3.1-10 v5:MQTT-3.3.1-9");
    let b = shared();
    let topic = unique("t");
    let mut p = b.connect(V5, &unique("p"));
    p.put(Publish::new(&topic, "kept").retain());
    let mut s = b.connect(V5, &unique("s"));
    s.subscribe_all(&[(&topic, 0x10), (&topic, 0x10)], &[]);
    assert_eq!(s.drain_texts(), ["kept"]);
    p.put(Publish::new(&topic, "").retain());
}

const INVALID_FILTERS: [&str; 12] =
    ["", "a#", "#a", "a/#/b", "a/b#", "#/", "a+", "+a", "a/+b/c", "++", "+#", "a/##"];

#[test]
fn an_invalid_filter_is_refused_alone_in_5_0() {
    cites!(
        "v5:MQTT-4.7.1-1 v5:MQTT-4.7.1-2 v5:MQTT-4.7.3-1 v5:MQTT-3.9.3-2 v5:MQTT-3.11.3-2
         v5:MQTT-3.9.3-1 v5:MQTT-3.11.3-1"
    );
    let b = shared();
    let mut c = b.connect(V5, &unique("c"));
    let topic = unique("t");
    for filter in INVALID_FILTERS {
        assert_eq!(c.subscribe_all(&[(filter, 0), (&topic, 1)], &[]), [0x8F, 1], "{filter:?}");
        assert_eq!(c.unsubscribe(&[filter, &topic]), [0x8F, 0], "{filter:?}");
    }
}

#[test]
fn an_invalid_filter_ends_the_connection_before_5_0() {
    cites!("v4:MQTT-4.7.1-2 v4:MQTT-4.7.1-3 v4:MQTT-4.7.3-1 v4:MQTT-4.8.0-1");
    let b = shared();
    for v in OLD {
        for filter in INVALID_FILTERS {
            for packet in
                [subscribe(v, 1, &[], &[("t", 0), (filter, 0)]), unsubscribe(v, 1, &[filter])]
            {
                let mut c = b.connect(v, &unique("c"));
                c.send(&packet);
                c.expect_closed();
            }
        }
    }
}

#[test]
fn suback_comes_before_retained_messages_and_everything_after_it_matches() {
    cites!("U5-057 U311-008");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut p = b.connect(v, &unique("p"));
        p.put(Publish::new(&topic, "kept").retain());
        for n in 0..20 {
            let mut s = b.connect(v, &unique("s"));
            s.send(&subscribe(v, 1, &[], &[(&topic, 0)]));
            assert!(matches!(s.packet(), Packet::Suback(_)));
            p.publish(&topic, n.to_string(), 0);
            assert_eq!(s.take_texts(2), ["kept".to_owned(), n.to_string()]);
        }
        p.put(Publish::new(&topic, "").retain());
    }
}

#[test]
fn no_local_spares_a_client_its_own_messages() {
    cites!("v5:MQTT-3.8.3-3");
    let b = shared();
    let base = unique("t");
    let (topic, wild) = (format!("{base}/a"), format!("{base}/+"));
    let connect = Connect::resume(V5, &unique("c"));
    let (mut c, _) = b.join(&connect);
    c.subscribe(&topic, 1 | 4);
    assert_eq!(c.publish(&topic, "own", 1), 0x10, "nobody else has subscribed");
    c.expect_nothing();
    let mut other = b.connect(V5, &unique("o"));
    other.publish(&topic, "of another", 1);
    assert_eq!(c.take().text(), "of another");
    // Other subscriptions of the client still match.
    c.subscribe_id(&wild, 0, 5);
    c.publish(&topic, "own", 1);
    let message = c.take();
    assert_eq!((message.qos, subscription_ids(&message.props)), (0, vec![5]));
    c.unsubscribe(&[&wild]);
    c.disconnect();
    let (mut c, _) = b.join(&connect);
    c.publish(&topic, "own", 1);
    c.expect_nothing();
    // A retained message of its own is not sent either.
    c.put(Publish::new(&topic, "kept").retain());
    c.subscribe(&topic, 4);
    c.expect_nothing();
    other.put(Publish::new(&topic, "").retain());
    assert_eq!(c.take().text(), "");
    c.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    cites!("v5:MQTT-3.8.3-4");
    let b = shared();
    let mut c = b.connect(V5, &unique("c"));
    c.send(&subscribe(V5, 1, &[], &[("$share/g/t", 4)]));
    c.expect_refused(0x82);
}

#[test]
fn unsubscribe_removes_exactly_the_filters_given() {
    cites!(
        "v5:MQTT-3.10.4-1 v5:MQTT-3.10.4-2 v5:MQTT-3.10.4-4 v5:MQTT-3.10.4-5 v5:MQTT-3.10.4-6
         v5:MQTT-3.11.3-1 v5:MQTT-2.2.1-6 v4:MQTT-3.10.4-1 v4:MQTT-3.10.4-2 v4:MQTT-3.10.4-4
         v4:MQTT-3.10.4-5 v4:MQTT-3.10.4-6 v4:MQTT-2.3.1-7"
    );
    let b = shared();
    for v in ALL {
        let base = unique("t");
        let (a, plus, hash) = (format!("{base}/a"), format!("{base}/+"), format!("{base}/#"));
        let mut s = b.connect(v, &unique("s"));
        let mut p = b.connect(v, &unique("p"));
        let mut receives = |s: &mut Client, expected: bool| {
            p.publish(&a, "x", 0);
            assert_eq!(s.drain().len(), usize::from(expected));
        };
        let codes = |codes: &[u8]| if v == V5 { codes.to_vec() } else { Vec::new() };
        s.subscribe_all(&[(&a, 0), (&plus, 0), (&hash, 0)], &[]);
        receives(&mut s, true);
        assert_eq!(s.unsubscribe(&[&a, "none", &a]), codes(&[0, 0x11, 0x11]));
        receives(&mut s, true);
        assert_eq!(s.unsubscribe(&[&format!("{base}/A"), &plus]), codes(&[0x11, 0]));
        receives(&mut s, true);
        assert_eq!(s.unsubscribe(&[&hash]), codes(&[0]));
        receives(&mut s, false);
    }
}

#[test]
fn deliveries_begun_are_completed_after_unsubscribe() {
    cites!("v5:MQTT-3.10.4-3 U5-062 v4:MQTT-3.10.4-3");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let connect = Connect::resume(v, &unique("s"));
        let (mut s, _) = b.join(&connect);
        s.subscribe(&topic, 2);
        let mut p = b.connect(v, &unique("p"));
        p.publish(&topic, "one", 1);
        p.publish(&topic, "two", 2);
        let (one, two) = (s.message(), s.message());
        s.unsubscribe(&[&topic]);
        s.acknowledge(&two);
        s.cut();
        let (mut s, _) = b.join(&connect);
        let again = s.message();
        assert_eq!((again.id, again.dup), (one.id, true));
        s.disconnect();
        b.forget(v, &connect.id);
    }
}

#[test]
fn topics_of_the_greatest_length_work() {
    cites!("v5:MQTT-4.7.3-3 v4:MQTT-4.7.3-3");
    let b = shared();
    for v in ALL {
        let topic = format!("{}{}", unique("t"), "x".repeat(65_535))[..65_535].to_owned();
        let mut c = b.connect(v, &unique("c"));
        c.subscribe(&topic, 1);
        c.publish(&topic, "x", 1);
        assert_eq!(c.take().topic, topic);
        c.unsubscribe(&[&topic]);
        c.publish(&topic, "x", 0);
        c.expect_nothing();
    }
}
