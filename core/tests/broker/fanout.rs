//! Deliveries to more sessions than one call serves.

use fulmar_core::broker::{Command, Config, Input, Publication};
use fulmar_core::codec::{
    Connect, Disconnect, Packet, Properties, Qos, ReasonCode, TopicFilters, Unsubscribe,
};
use fulmar_core::{ConnId, Instant};

use crate::harness::*;

/// Above two slices of 4,096.
const MANY: usize = 10_000;

fn subscribers(rig: &mut Rig) -> Vec<ConnId> {
    let list = filter("t", Q1);
    let subscribe = bytes(V311, &[subscribe(&list)]);
    let mut conns = Vec::with_capacity(MANY);
    for number in 0..MANY {
        let conn = rig.connect(V311, &number.to_string(), true);
        rig.receive(conn, &subscribe);
        rig.take(conn);
        conns.push(conn);
    }
    conns
}

fn local(payload: &'static [u8]) -> Input<'static> {
    let command = Command::Publish(Box::new(Publication {
        topic: "t".into(),
        payload: bytes::Bytes::from_static(payload),
        qos: Qos::AtLeastOnce,
        ..Publication::default()
    }));
    Input::Command { token: 1, command }
}

#[test]
fn a_long_delivery_goes_on_in_slices_while_its_source_waits() {
    let mut rig = Rig::new(Config::default());
    let conns = subscribers(&mut rig);
    let a = rig.connect(V311, "a", true);
    let burst = bytes(V311, &[publish("t", b"1", Q1, 1), publish("t", b"2", Q1, 2)]);
    let before = rig.used();
    rig.handle(Input::Received { conn: a, bytes: &burst });
    assert_eq!(rig.take(a), [0x40, 2, 0, 1], "taken, and the next one waits");
    assert_eq!(rig.paused, [a]);
    assert_eq!(rig.broker.poll_timeout(), Some(Instant::ZERO));
    assert!(rig.used() > before + 5_000 * 16, "what waits is charged");
    let served = rig.sent.len();
    assert_eq!(served, 4_096);
    // Others are served meanwhile.
    rig.handle(Input::Received { conn: conns[MANY - 1], bytes: &[0xc0, 0] });
    assert_eq!(rig.take(conns[MANY - 1]), [0xd0, 0]);
    rig.settle();
    assert_eq!(rig.take(a), [0x40, 2, 0, 2]);
    assert_eq!((rig.paused.len(), rig.broker.poll_timeout()), (0, None));
    for conn in conns {
        assert_eq!(rig.messages(conn, V311), [b"1", b"2"]);
    }
    assert_eq!(rig.used(), before);
}

/// The last in the index takes the place of one that goes, and so is met early by what follows.
fn leave(rig: &mut Rig, conns: &[ConnId]) {
    let list = ["t"];
    for conn in conns {
        let unsubscribe = Packet::Unsubscribe(Unsubscribe {
            packet_id: id(2),
            properties: Properties::EMPTY,
            filters: TopicFilters::list(&list),
        });
        rig.handle(Input::Received { conn: *conn, bytes: &bytes(V311, &[unsubscribe]) });
    }
}

/// Otherwise somebody's last message would not be the one that is retained.
#[test]
fn messages_of_two_publishers_come_to_all_in_one_order() {
    let mut rig = Rig::new(Config::default());
    let conns = subscribers(&mut rig);
    let (a, b) = (rig.connect(V311, "a", true), rig.connect(V311, "b", true));
    let (one, two) =
        (bytes(V311, &[publish("t", b"1", Q0, 0)]), bytes(V311, &[publish("t", b"2", Q0, 0)]));
    rig.handle(Input::Received { conn: a, bytes: &one });
    leave(&mut rig, &conns[..10]);
    rig.handle(Input::Received { conn: b, bytes: &two });
    rig.settle();
    for conn in &conns[10..] {
        assert_eq!(rig.messages(*conn, V311), [b"1", b"2"]);
    }
}

/// Or nothing more, if it was cleared.
#[test]
fn who_subscribes_again_meanwhile_has_the_retained_message_last() {
    let first = [retained("t", b"1"), publish("t", b"1", Q0, 0)];
    let second = [(&b"2"[..], &[&b"1"[..], b"2"][..]), (b"", &[b"1"])];
    for (first, (payload, its)) in first.iter().flat_map(|first| second.map(|s| (first, s))) {
        let mut rig = Rig::new(Config::default());
        let conns = subscribers(&mut rig);
        let (a, b) = (rig.connect(V311, "a", true), rig.connect(V311, "b", true));
        let (one, two) =
            (bytes(V311, std::slice::from_ref(first)), bytes(V311, &[retained("t", payload)]));
        rig.handle(Input::Received { conn: a, bytes: &one });
        let last = conns[MANY - 1];
        leave(&mut rig, &[last]);
        rig.handle(Input::Received { conn: b, bytes: &two });
        let again = bytes(V311, &[subscribe(&filter("t", Q1))]);
        rig.handle(Input::Received { conn: last, bytes: &again });
        rig.settle();
        assert_eq!(rig.messages(last, V311), its);
        assert_eq!(rig.messages(conns[0], V311), [&b"1"[..], payload]);
    }
}

/// What it is to have before that was published without RETAIN, but comes first all the same.
#[test]
fn who_unsubscribes_gets_all_that_is_under_way_to_it_in_order() {
    let mut rig = Rig::new(Config::default());
    let conns = subscribers(&mut rig);
    let (a, b) = (rig.connect(V311, "a", true), rig.connect(V311, "b", true));
    let messages = [publish("t", b"1", Q0, 0), retained("t", b"2")];
    for (conn, message) in [a, b].into_iter().zip(messages) {
        rig.handle(Input::Received { conn, bytes: &bytes(V311, &[message]) });
    }
    let last = conns[MANY - 1];
    leave(&mut rig, &[last]);
    let again = bytes(V311, &[subscribe(&filter("t", Q1))]);
    rig.handle(Input::Received { conn: last, bytes: &again });
    rig.settle();
    assert_eq!(rig.messages(last, V311), [b"1", b"2", b"2"]);
    assert_eq!(rig.messages(conns[MANY - 2], V311), [b"1", b"2"]);
}

/// Many messages to one topic do not hold up those to another.
#[test]
fn long_deliveries_to_several_topics_take_turns() {
    let mut rig = Rig::new(Config::default());
    let conns = subscribers(&mut rig);
    let other = bytes(V311, &[subscribe(&filter("u", Q1))]);
    for conn in &conns {
        rig.receive(*conn, &other);
        rig.take(*conn);
    }
    let names = ["a", "b", "c", "d"];
    let publishers = names.map(|name| rig.connect(V311, name, true));
    for (at, conn) in publishers.into_iter().enumerate() {
        let topic = if at < 3 { "t" } else { "u" };
        let message = publish(topic, names[at].as_bytes(), Q0, 0);
        rig.handle(Input::Received { conn, bytes: &bytes(V311, &[message]) });
    }
    // The first slices of both topics went at once. Two more of one, one of its next message, and
    // two of the other one meanwhile.
    (0..5).for_each(|_| rig.handle(Input::Timeout));
    assert_eq!(rig.messages(conns[MANY - 1], V311), [b"a", b"d"]);
    rig.settle();
    assert_eq!(rig.messages(conns[MANY - 1], V311), [b"b", b"c"]);
}

#[test]
fn messages_of_one_publisher_stay_in_order_while_subscribers_come_and_go() {
    let mut rig = Rig::new(Config::default());
    let conns = subscribers(&mut rig);
    rig.handle(local(b"1"));
    leave(&mut rig, &conns[..10]);
    rig.handle(local(b"2"));
    rig.handle(local(b"3"));
    rig.settle();
    for conn in &conns[10..] {
        assert_eq!(rig.messages(*conn, V311), [b"1", b"2", b"3"]);
    }
}

#[test]
fn a_source_that_goes_does_not_take_its_message_back() {
    let mut rig = Rig::new(Config::default());
    let conns = subscribers(&mut rig);
    let a = rig.connect(V311, "a", true);
    let burst = bytes(V311, &[publish("t", b"1", Q1, 1)]);
    rig.handle(Input::Received { conn: a, bytes: &burst });
    rig.handle(Input::Closed { conn: a });
    // Half of those that wait go as well; their numbers are used again.
    for conn in &conns[6_000..8_000] {
        rig.handle(Input::Closed { conn: *conn });
    }
    let strangers: Vec<ConnId> = (0..2_000)
        .map(|_| {
            let conn = rig.open();
            let connect = Packet::Connect(hello(V311, ""));
            rig.handle(Input::Received { conn, bytes: &bytes(V311, &[connect]) });
            rig.take(conn);
            conn
        })
        .collect();
    rig.settle();
    for (at, conn) in conns.into_iter().enumerate() {
        if !(6_000..8_000).contains(&at) {
            assert_eq!(rig.messages(conn, V311), [b"1"]);
        }
    }
    for conn in strangers {
        assert!(rig.take(conn).is_empty());
    }
}

/// Also where its transport goes at once.
#[test]
fn what_a_client_sends_behind_a_long_delivery_is_handled_before_it_goes() {
    let mut rig = Rig::new(Config::default());
    let conns = subscribers(&mut rig);
    let will = will("t", b"will", Properties::EMPTY);
    let a = rig.connect_with(Connect { will: Some(will), ..hello(V311, "a") });
    let [one, two] = [b"1", b"2"].map(|payload| publish("t", payload, Q0, 0));
    let goodbye = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
    let all = bytes(V311, &[one, two, Packet::Disconnect(goodbye)]);
    rig.handle(Input::Received { conn: a, bytes: &all });
    rig.handle(Input::Closed { conn: a });
    rig.settle();
    for conn in conns {
        assert_eq!(rig.messages(conn, V311), [b"1", b"2"]);
    }
    assert_eq!(rig.broker.stats().sessions_connected, MANY as u64);
}

/// Its copy is not lost with it. `[U5-072]`
#[test]
fn a_member_that_ends_before_its_slice_leaves_the_copy_to_another() {
    member_ends(false);
    member_ends(true);
}

fn member_ends(unsubscribes: bool) {
    let mut rig = Rig::new(Config::default());
    subscribers(&mut rig);
    let members = ["m", "n"].map(|name| {
        let member = rig.connect(V5, name, true);
        rig.send(member, V5, &[subscribe(&filter("$share/g/t", Q1))]);
        rig.take(member);
        member
    });
    let publishers = ["a", "b"].map(|name| rig.connect(V311, name, true));
    for (a, payload) in publishers.into_iter().zip([&b"1"[..], b"2"]) {
        let burst = bytes(V311, &[publish("t", payload, Q1, 1)]);
        rig.handle(Input::Received { conn: a, bytes: &burst });
    }
    // Each of them is to have one.
    if unsubscribes {
        let list = ["$share/g/t"];
        let filters = TopicFilters::list(&list);
        let unsubscribe = Unsubscribe { packet_id: id(2), properties: Properties::EMPTY, filters };
        let packet = bytes(V5, &[Packet::Unsubscribe(unsubscribe)]);
        rig.handle(Input::Received { conn: members[0], bytes: &packet });
    }
    rig.handle(Input::Closed { conn: members[0] });
    rig.settle();
    assert_eq!(rig.messages(members[1], V5).len(), 2);
}

#[test]
fn one_member_of_each_of_many_groups_gets_the_message() {
    const GROUPS: usize = 40;
    let mut rig = Rig::new(Config::default());
    let (a, b) = (rig.connect(V5, "a", true), rig.connect(V5, "b", true));
    for conn in [a, b] {
        for group in 0..GROUPS {
            // Some with the same filter, some with another that matches, too.
            let wild = if group % 3 == 0 { "+" } else { "t" };
            let name = format!("$share/{group}/{wild}");
            rig.send(conn, V5, &[subscribe(&filter(&name, Q1))]);
        }
    }
    let plain = rig.connect(V5, "plain", true);
    rig.send(plain, V5, &[subscribe(&filter("t", Q1))]);
    for conn in [a, b, plain] {
        rig.take(conn);
    }
    rig.handle(local(b"hi"));
    rig.settle();
    // [MQTT-4.8.2-3]
    let copies = rig.messages(a, V5).len() + rig.messages(b, V5).len();
    assert_eq!(copies, GROUPS);
    assert_eq!(rig.messages(plain, V5), [b"hi"]);
}
