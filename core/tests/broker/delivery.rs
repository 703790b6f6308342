//! What reaches a client, and in which form.

use fulmar_core::broker::{Command, Config, DisconnectReason, Event, Input, Reply};
use fulmar_core::codec::{
    Connect, Filters, Packet, Properties, Property, PropertyId, Publish, Qos, Subscribe,
    TopicFilters, Unsubscribe,
};

use crate::harness::*;

/// A broker with so many retained messages of this size and QoS, at `r/0` and so on.
fn retaining(config: Config, count: usize, size: usize, qos: Qos) -> Rig {
    let mut rig = Rig::new(config);
    let a = rig.connect(V311, "retainer", true);
    for number in 0..count {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(size.max(8), 0);
        let packet_id = (qos > Q0).then(|| id(1));
        let topic = format!("r/{number}");
        let retain = true;
        let publish = Publish {
            retain,
            qos,
            packet_id,
            topic: &topic,
            payload: &payload,
            ..Default::default()
        };
        rig.send(a, V311, &[Packet::Publish(publish)]);
        rig.send(a, V311, &[Packet::Pubrel(ack(id(1)))]);
    }
    rig.hang_up(a);
    rig.events.clear();
    rig
}

fn numbers(messages: &[Vec<u8>]) -> Vec<usize> {
    let number = |m: &Vec<u8>| usize::from_be_bytes(m[..8].try_into().expect("eight bytes"));
    let mut numbers: Vec<usize> = messages.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn more_retained_messages_than_a_queue_holds_all_arrive() {
    for qos in [Q0, Q1, Q2] {
        let config = Config { max_msg_queue: 10, ..Config::default() };
        let mut rig = retaining(config, 5_000, 8, qos);
        let b = rig.connect(V311, "b", true);
        rig.send(b, V311, &[subscribe(&filter("r/#", Q2))]);
        let messages = rig.messages(b, V311);
        assert_eq!(numbers(&messages), (0..5_000).collect::<Vec<_>>(), "{qos:?}");
        assert_eq!(rig.broker.stats().dropped_by_qos, [0; 3]);
    }
}

#[test]
fn more_bytes_of_retained_messages_than_a_queue_holds_all_arrive() {
    let config =
        Config { max_msg_queue_bytes: 250_000, max_packet_size: 100_000, ..Config::default() };
    let mut rig = retaining(config, 100, 60_000, Q1);
    let b = rig.connect(V311, "b", true);
    rig.send(b, V311, &[subscribe(&filter("r/#", Q2))]);
    let messages = rig.messages(b, V311);
    assert_eq!(numbers(&messages), (0..100).collect::<Vec<_>>());
    assert_eq!(rig.broker.stats().dropped_by_qos, [0; 3]);
}

#[test]
fn a_local_subscriber_with_a_short_queue_gets_all_retained_messages() {
    let mut rig = retaining(Config::default(), 100, 8, Q1);
    let command = Command::Subscribe { filters: vec![("r/+".into(), Qos::AtLeastOnce)], queue: 3 };
    rig.handle(Input::Command { token: 1, command });
    let Some(Reply::Subscribed(subscriber)) = rig.replies.pop() else { panic!("no reply") };
    let mut payloads = Vec::new();
    while let Some(at) = rig.available.pop() {
        assert_eq!(at, subscriber);
        while let Some(delivery) = rig.broker.take(rig.now, subscriber) {
            payloads.push(delivery.payload.to_vec());
        }
        rig.settle();
    }
    assert_eq!(numbers(&payloads), (0..100).collect::<Vec<_>>());
    assert_eq!(rig.broker.overflow(subscriber), 0);
}

#[test]
fn a_filter_subscribed_to_again_and_again_is_walked_once_more_only() {
    let mut rig = retaining(Config::default(), 5_000, 8, Q0);
    let b = rig.connect(V311, "b", true);
    let again = bytes(V311, &[subscribe(&filter("+/none", Q0))]).repeat(500);
    rig.handle(Input::Received { conn: b, bytes: &again });
    let mut calls = 0;
    while rig.broker.poll_timeout().is_some_and(|at| at <= rig.now) {
        rig.handle(Input::Timeout);
        calls += 1;
    }
    assert!(calls < 10, "{calls} calls for one walk over 5,000 messages");
}

#[test]
fn retained_messages_come_in_the_order_of_the_filters_and_last_for_a_replaced_one() {
    // More than there is room for: the others wait.
    let mut rig = retaining(Config::default(), 100, 8, Q1);
    let a = rig.connect(V311, "a", true);
    for topic in ["a", "b", "c", "d"] {
        let Packet::Publish(publish) = publish(topic, topic.as_bytes(), Q1, 1) else { return };
        rig.send(a, V311, &[Packet::Publish(Publish { retain: true, ..publish })]);
    }
    let b = rig.connect(V311, "b", true);
    let options = filter("", Q1)[0].1;
    let list = ["r/#", "d", "c", "a", "b"].map(|filter| (filter, options));
    let filters = Filters::list(&list);
    let (packet_id, properties) = (id(1), Properties::EMPTY);
    rig.send(b, V311, &[Packet::Subscribe(Subscribe { packet_id, properties, filters })]);
    rig.send(b, V311, &[subscribe(&filter("d", Q1))]);
    let (list, packet_id) = (["a"], id(2));
    let filters = TopicFilters::list(&list);
    rig.send(b, V311, &[Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters })]);
    assert_eq!(rig.messages(b, V311)[100..], [b"c", b"b", b"d"]);
}

#[test]
fn aliases_towards_a_client_are_bounded_by_both_sides() {
    for (ours, theirs, expected) in [(2, 100, 2), (100, 3, 3), (0, 9, 0)] {
        let mut rig = Rig::new(Config { max_topic_alias_out: ours, ..Config::default() });
        let allow = [Property::TopicAliasMaximum(theirs)];
        let connect = Connect { properties: Properties::list(&allow), ..hello(V5, "b") };
        let b = rig.connect_with(connect);
        rig.send(b, V5, &[subscribe(&filter("#", Q0))]);
        rig.take(b);
        let a = rig.connect(V311, "a", true);
        for _ in 0..2 {
            for number in 0..10 {
                rig.send(a, V311, &[publish(&format!("topic {number}"), b"", Q0, 0)]);
            }
        }
        let sent = rig.take(b);
        let mut aliases = Vec::new();
        let mut full = 0;
        for packet in packets(V5, &sent) {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            if let Some(Property::TopicAlias(alias)) =
                publish.properties.find(PropertyId::TopicAlias)
            {
                aliases.push(alias);
            }
            full += usize::from(!publish.topic.is_empty());
        }
        assert!(aliases.iter().all(|alias| *alias <= expected), "{aliases:?}");
        // [MQTT-3.1.2-26]
        assert_eq!((aliases.len(), full), (2 * usize::from(expected), 20 - usize::from(expected)));
    }
}

#[test]
fn an_alias_does_not_make_a_message_too_large() {
    let mut rig = Rig::new(Config::default());
    // Fixed header 2, topic 7, property length 1, payload 10.
    let properties = [Property::TopicAliasMaximum(5), Property::MaximumPacketSize(32)];
    let connect = Connect { properties: Properties::list(&properties), ..hello(V5, "b") };
    let b = rig.connect_with(connect);
    rig.send(b, V5, &[subscribe(&filter("#", Q0))]);
    let a = rig.connect(V5, "a", true);
    for size in [22, 21, 22, 23] {
        rig.send(a, V5, &[publish("topic", &vec![1; size], Q0, 0)]);
    }
    let sizes: Vec<usize> = rig.messages(b, V5).iter().map(Vec::len).collect();
    assert_eq!(sizes, [22, 21, 22]);
    assert_eq!(rig.broker.stats().dropped_by_qos, [1, 0, 0]);
}

#[test]
fn messages_in_flight_that_became_too_large_are_dropped_however_many() {
    let mut rig =
        Rig::new(Config { max_inflight: 30_000, max_msg_queue: 30_000, ..Config::default() });
    let keep = expiry(100);
    let b = rig.connect_with(Connect { properties: Properties::list(&keep), ..hello(V5, "b") });
    rig.send(b, V5, &[subscribe(&filter("t", Q1))]);
    let a = rig.connect(V311, "a", true);
    for number in 1..=20_000 {
        rig.send(a, V311, &[publish("t", &[0; 100], Q1, number)]);
    }
    rig.send(a, V311, &[publish("t", b"last", Q1, 1)]);
    rig.hang_up(b);
    let small = [Property::MaximumPacketSize(64), Property::SessionExpiryInterval(100)];
    let connect =
        Connect { clean_start: false, properties: Properties::list(&small), ..hello(V5, "b") };
    let b = rig.open();
    rig.send(b, V5, &[Packet::Connect(connect)]);
    assert_eq!(rig.messages(b, V5), [b"last"]);
    assert_eq!(rig.broker.stats().dropped_by_qos, [0, 20_000, 0]);
}

#[test]
fn a_client_that_takes_no_answers_is_closed_at_its_limit() {
    let mut rig = Rig::new(Config { max_outbound_bytes: 2_000, ..Config::default() });
    rig.pull = false;
    let a = rig.connect(V5, "a", true);
    let others = rig.connect(V311, "b", true);
    rig.pull(a);
    rig.take(a);
    for _ in 0..999 {
        rig.send(a, V5, &[Packet::Pingreq]);
    }
    assert!(rig.closed.is_empty());
    rig.send(a, V5, &[Packet::Pingreq, Packet::Pingreq]);
    assert_eq!(rig.closed, [a]);
    rig.pull(a);
    let sent = rig.take(a);
    assert_eq!(sent.len(), 2 * 1_001 + 3);
    assert!(sent.ends_with(&[0xe0, 1, 0x97]), "{:?}", sent.last_chunk::<4>());
    let slow = |event: &Event| match event {
        Event::Disconnected(end) => end.why == DisconnectReason::SlowConsumer,
        _ => false,
    };
    assert!(rig.events.iter().any(slow));
    rig.send(others, V311, &[Packet::Pingreq]);
    rig.pull(others);
    assert_eq!(rig.take(others), [0x20, 2, 0, 0, 0xd0, 0]);
}

#[test]
fn copies_of_a_group_that_is_gone_do_not_go_to_another_one() {
    let mut rig = Rig::new(Config::default());
    rig.pull = false;
    let a = rig.connect(V311, "a", true);
    rig.send(a, V311, &[subscribe(&filter("$share/g/room/1", Q1))]);
    let publisher = rig.connect(V311, "publisher", true);
    rig.send(publisher, V311, &[publish("room/1", b"old", Q1, 1)]);
    let list = ["$share/g/room/1"];
    let unsubscribe = Packet::Unsubscribe(Unsubscribe {
        packet_id: id(2),
        properties: Properties::EMPTY,
        filters: TopicFilters::list(&list),
    });
    rig.send(a, V311, &[unsubscribe]);
    // Another group, which has the number of the first one.
    let b = rig.connect(V311, "b", true);
    rig.send(b, V311, &[subscribe(&filter("$share/h/room/#", Q1))]);
    rig.hang_up(a);
    rig.send(publisher, V311, &[publish("room/1", b"new", Q1, 1)]);
    // But what is left by a member goes to the next one.
    let c = rig.connect(V311, "c", true);
    rig.send(c, V311, &[subscribe(&filter("$share/h/room/#", Q1))]);
    rig.hang_up(b);
    rig.pull(c);
    assert_eq!(rig.messages(c, V311), [b"new"]);
    let stats = rig.broker.stats();
    assert_eq!((stats.queued, stats.dropped_by_qos), (0, [0, 1, 0]));
}
