//! Matching, `$` topics, shared subscriptions (NOTES 60 to 64).

use crate::harness::*;

/// Each filter with names that it matches and names that it does not. `@` stands for a level of
/// its own for each test run.
const MATCHES: &[(&str, &[&str], &[&str])] = &[
    ("@", &["@"], &["@/", "/@", "@/a", "x@"]),
    ("@/#", &["@", "@/", "@/a", "@/a/b", "@//", "@/$x"], &["@a", "/@", "/@/a"]),
    ("@/+", &["@/", "@/a", "@/$x", "@/ "], &["@", "@/a/b", "@//", "@/a/"]),
    ("@/+/b", &["@/a/b", "@//b", "@/$a/b"], &["@/b", "@/a/b/", "@/a/c/b", "@/a/B"]),
    ("@/+/+", &["@//", "@/a/"], &["@/", "@/a"]),
    ("+/@", &["a/@", "/@"], &["@", "$a/@", "$SYS/@", "a/b/@"]),
    ("+/@/#", &["a/@", "/@/b", "a/@/b/c"], &["$a/@", "$SYS/@/b", "@"]),
    ("/@", &["/@"], &["@", "//@", "/@/"]),
    ("/+/@", &["/a/@", "//@"], &["a/@", "/@"]),
    ("$a/@", &["$a/@"], &["a/@", "$A/@"]),
    ("$a/#", &["$a/@", "$a/@/b", "$a/x@"], &["a/@", "$ab/@"]),
    ("$a/+", &["$a/@"], &["$a/@/b"]),
    ("@/a b", &["@/a b"], &["@/a  b", "@/a b "]),
    ("@/\u{e9}", &["@/\u{e9}"], &["@/e\u{301}", "@/\u{c9}"]),
];

#[test]
fn filters_match_live_messages_by_the_rules() {
    cites!(
        "v5:MQTT-4.7.1-1 v5:MQTT-4.7.1-2 v5:MQTT-4.7.2-1 v5:MQTT-4.7.3-4 v5:MQTT-3.3.2-3
         v4:MQTT-4.7.1-2 v4:MQTT-4.7.1-3 v4:MQTT-4.7.2-1 v4:MQTT-4.7.3-4 v4:MQTT-3.3.2-3"
    );
    let b = shared();
    for v in ALL {
        for (filter, yes, no) in MATCHES {
            let own = unique("m");
            let mut s = b.connect(v, &unique("s"));
            s.subscribe(&filter.replace('@', &own), 0);
            let mut p = b.connect(v, &unique("p"));
            for (names, expected) in [(yes, 1), (no, 0)] {
                for name in *names {
                    // Acknowledged when it is in the queues of all shards.
                    p.publish(&name.replace('@', &own), "x", 1);
                    let got = s.drain();
                    let own_ones = got.iter().filter(
                        |m| matches!(m, Packet::Publish(m) if m.topic == name.replace('@', &own)),
                    );
                    assert_eq!(own_ones.count(), expected, "{v:?}: {filter} and {name}");
                }
            }
        }
    }
}

#[test]
fn filters_match_retained_messages_by_the_rules() {
    cites!(
        "v5:MQTT-4.7.1-1 v5:MQTT-4.7.1-2 v5:MQTT-4.7.2-1 v5:MQTT-4.7.3-4 v4:MQTT-4.7.1-2
         v4:MQTT-4.7.1-3 v4:MQTT-4.7.2-1 v4:MQTT-4.7.3-4 v4:MQTT-3.3.1-6"
    );
    let b = Broker::with("");
    for (filter, yes, no) in MATCHES {
        let own = unique("m");
        let mut p = b.connect(V5, &unique("p"));
        for name in yes.iter().chain(*no) {
            p.put(Publish::new(&name.replace('@', &own), name).retain());
        }
        let mut s = b.connect(V5, &unique("s"));
        s.subscribe(&filter.replace('@', &own), 0);
        let mut got = s.drain_texts();
        got.sort();
        let mut expected = yes.to_vec();
        expected.sort_unstable();
        // A filter with a free first or last level meets messages of other rounds too.
        got.retain(|name| expected.contains(&name.as_str()) || no.contains(&name.as_str()));
        got.dedup();
        assert_eq!(got, expected, "{filter}");
        for name in yes.iter().chain(*no) {
            p.put(Publish::new(&name.replace('@', &own), "").retain());
        }
    }
}

#[test]
fn wildcards_at_the_start_do_not_see_dollar_topics() {
    cites!("v5:MQTT-4.7.2-1 v4:MQTT-4.7.2-1");
    let b = Broker::with("");
    for v in ALL {
        let mut p = b.connect(v, &unique("p"));
        let mut all = b.connect(v, &unique("a"));
        all.subscribe_all(&[("#", 0), ("+", 0), ("+/#", 0), ("+/x", 0)], &[]);
        let mut group = b.connect(v, &unique("g"));
        group.subscribe("$share/g/#", 0);
        let mut dollar = b.connect(v, &unique("d"));
        dollar.subscribe_all(&[("$app/#", 0)], &[]);
        // Acknowledged when they are in the queues of all shards.
        p.put(Publish::new("$app/x", "hidden").retain().qos(1, 0));
        p.publish("plain/x", "seen", 1);
        assert_eq!(all.drain_texts(), ["seen"]);
        assert_eq!(group.drain_texts(), ["seen"]);
        assert_eq!(dollar.drain_texts(), ["hidden"]);
        let mut late = b.connect(v, &unique("l"));
        late.subscribe_all(&[("#", 0), ("+/x", 0), ("+/+", 0)], &[]);
        late.expect_nothing();
        late.subscribe("$app/+", 0);
        assert_eq!(late.take().text(), "hidden");
        p.put(Publish::new("$app/x", "").retain());
        // Otherwise it may be a member still in the next round.
        group.disconnect();
    }
}

#[test]
fn malformed_shared_filters_are_refused() {
    cites!("v5:MQTT-4.8.2-1 v5:MQTT-4.8.2-2");
    let b = shared();
    let mut c = b.connect(V5, &unique("c"));
    for filter in [
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//t",
        "$share/+/t",
        "$share/#/t",
        "$share/a+/t",
    ] {
        assert_eq!(c.subscribe(filter, 0), 0x8F, "{filter}");
        assert_eq!(c.unsubscribe(&[filter]), [0x8F], "{filter}");
    }
    assert_eq!(c.subscribe("$share/g/a/#/b", 0), 0x8F);
    for filter in ["$share/g/+", "$share/g/#", "$share/g//", "$share/ /t", "$share/$x/t"] {
        assert_eq!(c.subscribe(filter, 0), 0, "{filter}");
        assert_eq!(c.unsubscribe(&[filter]), [0], "{filter}");
    }
    let mut c = b.connect(V311, &unique("c"));
    c.send(&subscribe(V311, 1, &[], &[("$share//t", 0)]));
    c.expect_closed();
}

#[test]
fn each_message_goes_to_one_member_of_a_group() {
    cites!("v5:MQTT-4.8.2-3 v5:MQTT-4.8.2-1 U5-048");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let filter = format!("$share/g/{topic}/#");
        let mut members: Vec<_> = (0..3).map(|_| b.connect(v, &unique("m"))).collect();
        for (qos, member) in members.iter_mut().enumerate() {
            member.subscribe(&filter, qos as u8);
        }
        let mut other_group = b.connect(v, &unique("o"));
        other_group.subscribe(&format!("$share/h/{topic}/#"), 0);
        let mut same_name = b.connect(v, &unique("n"));
        same_name.subscribe(&format!("$share/g/{topic}/+"), 0); // another filter: another group
        let mut plain = b.connect(v, &unique("s"));
        plain.subscribe(&format!("{topic}/#"), 0);
        let mut p = b.connect(v, &unique("p"));
        let count = 12;
        for n in 0..count {
            p.publish(&format!("{topic}/x"), n.to_string(), 2);
        }
        let mut numbers = Vec::new();
        for (qos, member) in members.iter_mut().enumerate() {
            let got = member.drain();
            assert!(!got.is_empty(), "a member got nothing");
            for packet in got {
                let Packet::Publish(message) = packet else { panic!("{packet:?}") };
                assert_eq!(usize::from(message.qos), qos);
                member.acknowledge(&message);
                numbers.push(message.text().parse::<u32>().expect("a number"));
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        for each in [&mut other_group, &mut same_name, &mut plain] {
            assert_eq!(each.drain().len(), count as usize);
        }
    }
}

#[test]
fn shared_and_plain_subscriptions_of_one_client_give_separate_copies() {
    cites!("v5:MQTT-3.3.4-5 v5:MQTT-3.3.4-4 U5-048");
    let b = shared();
    let topic = unique("t");
    let mut s = b.connect(V5, &unique("s"));
    s.subscribe_id(&topic, 0, 1);
    s.subscribe_id(&format!("$share/g/{topic}"), 0, 2);
    b.connect(V5, &unique("p")).publish(&topic, "x", 0);
    let mut got = [subscription_ids(&s.take().props), subscription_ids(&s.take().props)];
    got.sort();
    assert_eq!(got, [[1], [2]]);
    s.expect_nothing();
}

#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    cites!("U5-058 U5-037");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut p = b.connect(v, &unique("p"));
        p.put(Publish::new(&topic, "kept").retain());
        let mut s = b.connect(v, &unique("s"));
        for _ in 0..2 {
            s.subscribe(&format!("$share/g/{topic}"), 0);
            s.expect_nothing();
        }
        p.put(Publish::new(&topic, "").retain());
        assert_eq!(s.take().text(), "");
    }
}

#[test]
fn membership_is_single_and_ends_with_unsubscribe() {
    cites!("U5-071 v5:MQTT-3.8.4-3 v5:MQTT-3.10.4-1 v5:MQTT-3.10.4-2");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let filter = format!("$share/g/{topic}");
        let mut one = b.connect(v, &unique("one"));
        let mut two = b.connect(v, &unique("two"));
        for _ in 0..3 {
            one.subscribe(&filter, 0);
        }
        two.subscribe(&filter, 0);
        let mut p = b.connect(v, &unique("p"));
        for n in 0..8 {
            p.publish(&topic, n.to_string(), 0);
        }
        let (first, second) = (one.drain().len(), two.drain().len());
        assert_eq!(first + second, 8);
        assert!(second >= 2, "{first} and {second}: one member counts thrice");
        assert_eq!(one.unsubscribe(&[&topic]), if v == V5 { vec![0x11] } else { vec![] });
        one.unsubscribe(&[&filter]);
        for n in 0..4 {
            p.publish(&topic, n.to_string(), 0);
        }
        one.expect_nothing();
        assert_eq!(two.drain().len(), 4);
        two.disconnect();
        assert_eq!(p.publish(&topic, "x", 1), if v == V5 { 0x10 } else { 0 });
    }
}

#[test]
fn members_that_are_connected_are_preferred_and_the_others_stay() {
    cites!("v5:MQTT-4.8.2-3 U5-071 v5:MQTT-4.5.0-1");
    let b = shared();
    let topic = unique("t");
    let filter = format!("$share/g/{topic}");
    let connect = Connect::resume(V5, &unique("away"));
    let (mut away, _) = b.join(&connect);
    away.subscribe(&filter, 1);
    away.disconnect();
    let mut p = b.connect(V5, &unique("p"));
    assert_eq!(p.publish(&topic, "nobody is there", 1), 0);
    let mut here = b.connect(V5, &unique("here"));
    here.subscribe(&filter, 1);
    for _ in 0..6 {
        p.publish(&topic, "here", 1);
        assert_eq!(here.take().text(), "here");
    }
    here.disconnect();
    let (mut away, _) = b.join(&connect);
    assert_eq!(away.take_texts(1), ["nobody is there"]);
    p.publish(&topic, "still a member", 1);
    assert_eq!(away.take_texts(1), ["still a member"]);
    away.disconnect();
    b.forget(V5, &connect.id);
}

#[test]
fn a_qos_2_message_in_flight_stays_with_its_member() {
    cites!("v5:MQTT-4.8.2-4 v5:MQTT-4.8.2-5");
    let b = shared();
    let topic = unique("t");
    let filter = format!("$share/g/{topic}");
    let connect = Connect::resume(V5, &unique("one"));
    let (mut one, _) = b.join(&connect);
    one.subscribe(&filter, 2);
    let mut p = b.connect(V5, &unique("p"));
    p.publish(&topic, "x", 2);
    let sent = one.message();
    let mut two = b.connect(V5, &unique("two"));
    two.subscribe(&filter, 2);
    one.cut();
    two.expect_nothing();
    let (mut one, _) = b.join(&connect);
    let again = one.message();
    assert_eq!((again.id, again.dup), (sent.id, true));
    one.cut();
    b.forget(V5, &connect.id); // the session ends
    two.expect_nothing();
}

#[test]
fn a_qos_1_message_of_a_member_whose_session_ends_goes_to_another() {
    cites!("U5-072");
    let b = shared();
    let topic = unique("t");
    let filter = format!("$share/g/{topic}");
    let mut one = b.connect(V5, &unique("one"));
    one.subscribe(&filter, 1);
    let mut p = b.connect(V5, &unique("p"));
    p.publish(&topic, "x", 1);
    one.message();
    let mut two = b.connect(V5, &unique("two"));
    two.subscribe(&filter, 1);
    one.cut();
    assert_eq!(two.take().text(), "x");
    two.expect_nothing();
}

#[test]
fn a_message_refused_by_a_member_is_offered_to_no_other() {
    cites!("v5:MQTT-4.8.2-6 v5:MQTT-4.4.0-2");
    let b = shared();
    for (qos, first) in [(1, PUBACK), (2, PUBREC)] {
        let topic = unique("t");
        let filter = format!("$share/g/{topic}");
        let mut members = [b.connect(V5, &unique("m")), b.connect(V5, &unique("m"))];
        for member in &mut members {
            member.subscribe(&filter, 2);
        }
        b.connect(V5, &unique("p")).publish(&topic, "x", qos);
        let mut refused = 0;
        for member in &mut members {
            for packet in member.drain() {
                let Packet::Publish(message) = packet else { panic!("{packet:?}") };
                member.send(&ack_with(first, message.id, 0x80));
                member.ping();
                refused += 1;
            }
        }
        assert_eq!(refused, 1);
        for member in &mut members {
            member.expect_nothing();
        }
    }
}

#[test]
fn a_message_too_large_for_one_member_reaches_at_most_one_other() {
    cites!("U5-015 v5:MQTT-3.1.2-24 v5:MQTT-3.1.2-25");
    let b = shared();
    let topic = unique("t");
    let filter = format!("$share/g/{topic}");
    let small = Connect::new(V5, &unique("small")).with(Four(MAXIMUM_PACKET, 100));
    let (mut small, _) = b.join(&small);
    let mut large = b.connect(V5, &unique("large"));
    for member in [&mut small, &mut large] {
        member.subscribe(&filter, 0);
    }
    let mut p = b.connect(V5, &unique("p"));
    let text = |n: usize| format!("{n}{}", "x".repeat(200));
    for n in 0..8 {
        p.publish(&topic, text(n), 0);
    }
    small.expect_nothing();
    let mut got = large.drain_texts();
    assert!(!got.is_empty() && got.iter().all(|got| (0..8).any(|n| *got == text(n))), "{got:?}");
    let count = got.len();
    got.dedup();
    assert_eq!(got.len(), count, "one message twice");
    p.publish(&topic, "small", 0);
    p.publish(&topic, "small", 0);
    assert_eq!([small.drain_texts(), large.drain_texts()].concat(), ["small"; 2]);
}
