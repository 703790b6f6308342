//! What is charged to the budget is given back, and all that is held is charged.

use fulmar_core::broker::{Config, Event};
use fulmar_core::codec::{
    Connect, Packet, Properties, Property, Publish, TopicFilters, Unsubscribe,
};
use fulmar_core::topic::Index;

use crate::harness::*;

#[test]
fn a_will_that_is_not_sent_after_all_is_not_charged_for_ever() {
    let mut rig = Rig::new(Config::default());
    let payload = [7; 10_000];
    let delay = [Property::WillDelayInterval(60)];
    let forever = expiry(1_000);
    let start = Connect {
        clean_start: false,
        will: Some(will("will", &payload, Properties::list(&delay))),
        properties: Properties::list(&forever),
        ..hello(V5, "a")
    };
    let conn = rig.connect_with(start);
    let before = rig.used();
    let mut last = conn;
    for _ in 0..10 {
        rig.hang_up(last);
        last = rig.connect_with(start);
    }
    assert_eq!(rig.used(), before);
}

#[test]
fn everything_is_given_back_in_the_end() {
    let mut rig = Rig::new(Config::default());
    let empty = rig.used();
    let long = "x".repeat(40_000);
    let properties = [Property::SessionExpiryInterval(50), Property::TopicAliasMaximum(9)];
    let a = rig.connect_with(Connect {
        will: Some(will("will", long.as_bytes(), Properties::EMPTY)),
        username: Some(&long),
        properties: Properties::list(&properties),
        ..hello(V5, "a")
    });
    assert!(rig.used() > empty + 80_000, "will and user name are charged");
    for list in [filter("t/+/#", Q2), filter("$share/g/t/+", Q1), filter("t/a", Q0)] {
        rig.send(a, V5, &[subscribe(&list)]);
    }
    let b = rig.connect(V311, "b", true);
    for number in 1..100 {
        rig.send(b, V311, &[publish("t/a", &[0; 3_000], Q2, number)]);
    }
    rig.send(b, V311, &[retained("t/a", b"kept")]);
    rig.send(a, V5, &[Packet::Pubrec(ack(id(1))), Packet::Pubrec(ack(id(2)))]);
    rig.send(a, V5, &[Packet::Pubcomp(ack(id(1)))]);
    rig.receive(b, &[0x30, 200, 1, 0]);
    rig.hang_up(a);
    rig.send(b, V311, &[]);
    rig.hang_up(b);
    rig.advance(60_000_000);
    let c = rig.connect(V311, "c", true);
    rig.send(c, V311, &[retained("t/a", b"")]);
    rig.hang_up(c);
    assert_eq!(rig.used(), empty);
    assert_eq!(rig.broker.stats().queued, 0);
}

#[test]
fn what_is_remembered_of_topics_is_charged_and_only_where_memory_is_plenty() {
    for (shard_budget, remembered) in [(64 << 20, Index::CACHE as u64), (1 << 20, 0)] {
        let mut rig = Rig::new(Config { shard_budget, ..Config::default() });
        let a = rig.connect(V5, "a", true);
        let charged = |rig: &mut Rig, text: &str| {
            let before = rig.used();
            rig.send(a, V5, &[subscribe(&filter(text, Q0))]);
            rig.used() - before
        };
        let (exact, first, second) =
            (charged(&mut rig, "a/b"), charged(&mut rig, "a/+"), charged(&mut rig, "+/b"));
        assert!(exact < 1_000, "{exact} for a filter without wildcards");
        assert_eq!(first - second, remembered, "with a budget of {shard_budget}");
        let before = rig.used();
        for _ in 0..3 {
            rig.send(a, V5, &[publish("a/b", b"x", Q0, 0)]);
        }
        assert_eq!(rig.used(), before, "whatever is remembered");
        for text in ["a/+", "+/b"] {
            let list = [text];
            let filters = TopicFilters::list(&list);
            let properties = Properties::EMPTY;
            let unsubscribe = Unsubscribe { packet_id: id(1), properties, filters };
            rig.send(a, V5, &[Packet::Unsubscribe(unsubscribe)]);
        }
        assert!(rig.used() < before - remembered, "it is given back");
    }
}

#[test]
fn deep_filters_are_charged_for_what_they_cost() {
    let mut rig = Rig::new(Config::default());
    let a = rig.connect(V311, "a", true);
    let before = rig.used();
    let mut topics = Vec::new();
    for number in 0..1_000 {
        let deep = format!("{number}{}", "/+".repeat(100));
        rig.send(a, V311, &[subscribe(&filter(&deep, Q0))]);
        topics.push(deep);
    }
    let cost = rig.used() - before;
    assert!(cost > 1_000 * 100 * 40, "{cost} for 100,000 levels");
    for topic in &topics {
        let list = [topic.as_str()];
        rig.send(
            a,
            V311,
            &[Packet::Unsubscribe(Unsubscribe {
                packet_id: id(1),
                properties: Properties::EMPTY,
                filters: TopicFilters::list(&list),
            })],
        );
    }
    assert_eq!(rig.used(), before);
}

#[test]
fn long_topics_are_charged_wherever_they_are_kept() {
    let mut rig = Rig::new(Config::default());
    let topic = "t".repeat(60_000);
    let a = rig.connect(V5, "a", true);
    let before = rig.used();
    rig.send(a, V5, &[retained(&topic, b"x")]);
    assert!(rig.used() > before + 2 * 60_000, "as a key of the store too: {}", rig.used() - before);
    let allow = [Property::TopicAliasMaximum(10)];
    let b = rig.connect_with(Connect { properties: Properties::list(&allow), ..hello(V5, "b") });
    let before = rig.used();
    rig.send(b, V5, &[subscribe(&filter(&topic, Q0))]);
    assert_eq!(rig.messages(b, V5).len(), 1);
    let alias = rig.used() - before;
    assert!(alias > 2 * 60_000, "as a filter and behind an alias: {alias}");
    rig.hang_up(b);
    assert!(rig.used() < before);
}

#[test]
fn identifiers_that_wait_for_pubrel_are_charged() {
    let mut rig = Rig::new(Config::default());
    let a = rig.connect(V311, "a", true);
    let before = rig.used();
    for number in 1..=10_000 {
        rig.send(a, V311, &[publish("t", b"", Q2, number)]);
    }
    let held = rig.used() - before;
    assert!(held >= 10_000 * 4, "{held}");
    for number in 1..=10_000 {
        rig.send(a, V311, &[Packet::Pubrel(ack(id(number)))]);
    }
    assert_eq!(rig.used(), before);
}

#[test]
fn republished_retained_messages_with_expiry_leave_no_deadlines_behind() {
    let mut rig = Rig::new(Config::default());
    let a = rig.connect(V5, "a", true);
    let expires = [Property::MessageExpiryInterval(10)];
    for _ in 0..1_000 {
        rig.now = fulmar_core::Instant::from_micros(rig.now.as_micros() + 1_000);
        let publish = Publish {
            retain: true,
            topic: "t",
            payload: b"x",
            properties: Properties::list(&expires),
            ..Publish::default()
        };
        rig.send(a, V5, &[Packet::Publish(publish)]);
    }
    let mut deadlines = 0;
    let end = fulmar_core::Instant::from_micros(20_000_000);
    while let Some(at) = rig.broker.poll_timeout().filter(|at| *at < end) {
        rig.now = rig.now.max(at);
        rig.handle(fulmar_core::broker::Input::Timeout);
        deadlines += 1;
    }
    assert_eq!(rig.broker.stats().retained, 0);
    assert!(deadlines < 10, "{deadlines} deadlines for one message");
}

#[test]
fn losses_of_many_sessions_are_told_once_each() {
    let mut rig = Rig::new(Config { max_msg_queue: 1, ..Config::default() });
    rig.pull = false;
    let list = filter("t", Q1);
    for number in 0..50 {
        let conn = rig.connect(V311, &format!("s{number}"), true);
        rig.send(conn, V311, &[subscribe(&list)]);
    }
    let a = rig.connect(V311, "a", true);
    rig.events.clear();
    let mut burst = Vec::new();
    for number in 1..=1_000 {
        burst.extend(bytes(V311, &[publish("t", b"x", Q1, number)]));
    }
    rig.receive(a, &burst);
    assert!(rig.events.len() <= 50, "{} events", rig.events.len());
    let lost: u32 = rig
        .events
        .iter()
        .map(|event| match event {
            Event::Dropped { count, .. } => *count,
            _ => 0,
        })
        .sum();
    assert_eq!(lost, 50 * 999);
    assert_eq!(rig.broker.stats().dropped_by_qos, [0, 50 * 999, 0]);
}

#[test]
fn a_message_larger_than_a_queue_does_not_empty_it() {
    let mut rig = Rig::new(Config { max_msg_queue_bytes: 10_000, ..Config::default() });
    let a = rig.connect(V311, "a", false);
    rig.send(a, V311, &[subscribe(&filter("t", Q1))]);
    rig.hang_up(a);
    let b = rig.connect(V311, "b", true);
    for number in 1..=5 {
        rig.send(b, V311, &[publish("t", b"small", Q1, number)]);
    }
    rig.send(b, V311, &[publish("t", &[0; 20_000], Q1, 6)]);
    let a = rig.open();
    rig.send(a, V311, &[Packet::Connect(Connect { clean_start: false, ..hello(V311, "a") })]);
    let messages = rig.messages(a, V311);
    assert_eq!(messages, vec![b"small".to_vec(); 5]);
    assert_eq!(rig.broker.stats().dropped_by_qos, [0, 1, 0]);
}

#[test]
fn what_is_unwritten_is_charged_until_it_is_written() {
    let mut rig = Rig::new(Config::default());
    rig.pull = false;
    let a = rig.connect(V311, "a", true);
    rig.send(a, V311, &[subscribe(&filter("t", Q0))]);
    let b = rig.connect(V311, "b", true);
    let mut outbox = fulmar_core::broker::Outbox::new();
    rig.broker.transmit(rig.now, a, &mut outbox, 8192);
    outbox.clear();
    let before = rig.used();
    rig.send(b, V311, &[publish("t", &[0; 100_000], Q0, 0)]);
    rig.broker.transmit(rig.now, a, &mut outbox, 8192);
    assert!(outbox.len() > 100_000);
    assert!(rig.used() > before + 100_000, "the payload waits in the outbox");
    outbox.clear();
    assert!(!rig.broker.transmit(rig.now, a, &mut outbox, 8192), "nothing more");
    assert!(outbox.is_empty() && rig.used() < before + 1_000);
    for _ in 0..100 {
        rig.send(b, V311, &[publish("t", &[0; 500], Q0, 0)]);
    }
    assert!(rig.broker.transmit(rig.now, a, &mut outbox, 65_536), "it wants to hear of the end");
    assert!(rig.used() > before + 50_000, "copied bytes count too");
    outbox.clear();
    assert!(!rig.broker.transmit(rig.now, a, &mut outbox, 65_536));
    assert!(rig.used() < before + 1_000, "{}", rig.used() - before);
    // Small pulls are not worth it.
    rig.send(b, V311, &[publish("t", b"small", Q0, 0)]);
    rig.ready.clear();
    assert!(!rig.broker.transmit(rig.now, a, &mut outbox, 65_536));
    rig.send(b, V311, &[publish("t", b"small", Q0, 0)]);
    assert_eq!(rig.ready, [a], "and it is told of what comes next");
}

#[test]
fn a_refused_connect_leaves_the_session_alone_and_sends_no_will() {
    let mut rig = Rig::new(Config { max_sessions: 1, ..Config::default() });
    let a = rig.connect(V311, "a", false);
    rig.send(a, V311, &[subscribe(&filter("#", Q1))]);
    // No room for another; the same client may start anew.
    let b = rig.open();
    rig.send(b, V311, &[Packet::Connect(hello(V311, "b"))]);
    assert_eq!(rig.take(b), [0x20, 2, 0, 3]);
    let again = rig.open();
    rig.send(again, V311, &[Packet::Connect(hello(V311, "a"))]);
    assert_eq!(rig.take(again), [0x20, 2, 0, 0]);
    // A client that accepts no packet of the size of its CONNACK was never accepted.
    let tiny = [Property::MaximumPacketSize(4)];
    rig.hang_up(again);
    let c = rig.connect_with(Connect {
        will: Some(will("w", b"x", Properties::EMPTY)),
        properties: Properties::list(&tiny),
        ..hello(V5, "c")
    });
    assert!(rig.closed.contains(&c));
    rig.hang_up(c);
    let willed = rig.events.iter().any(|event| matches!(event, Event::WillPublished { .. }));
    assert!(!willed, "its will is not published");
}

#[test]
fn a_refused_message_of_qos_0_is_counted() {
    let mut rig = Rig::new(Config::default());
    let a = rig.connect(V5, "a", true);
    rig.events.clear();
    rig.send(a, V5, &[publish("$SYS/x", b"", Q0, 0)]);
    assert!(matches!(rig.events[..], [Event::Dropped { count: 1, .. }]), "{:?}", rig.events);
    assert_eq!(rig.broker.stats().dropped_by_qos, [1, 0, 0]);
    rig.send(a, V5, &[publish("$SYS/x", b"", Q1, 1)]);
    assert_eq!(rig.take(a), [0x40, 3, 0, 1, 0x90], "the client is told");
}

#[test]
fn what_a_client_has_is_not_lost_with_its_session() {
    let mut rig = Rig::new(Config::default());
    rig.pull = false;
    let a = rig.connect(V311, "a", true);
    rig.send(a, V311, &[subscribe(&filter("t", Q2))]);
    let b = rig.connect(V311, "b", true);
    for number in 1..=3 {
        rig.send(b, V311, &[publish("t", b"x", Q2, number)]);
    }
    rig.pull(a);
    rig.send(a, V311, &[Packet::Pubrec(ack(id(1))), Packet::Pubrec(ack(id(2)))]);
    rig.hang_up(a);
    assert_eq!(rig.broker.stats().dropped_by_qos, [0, 0, 1]);
}
