//! Retained messages, which their owners have.

use fulmar_core::broker::{Command, Config, Event, Publication, Reply};

use crate::world::{Client, Q0, Q1, World, filter, hello, retained, subscribe, subscriber};

const BUDGET: u64 = 1 << 20;

#[test]
fn a_retained_message_is_found_wherever_it_was_published() {
    let mut world = World::new(3);
    let publisher = world.connect(0, "p");
    for owner in 0..3 {
        let topic = world.topic(owner, "r/");
        world.send(publisher, &[retained(&topic, &owner.to_string(), Q1, 1 + owner as u16)]);
        world.settle();
    }
    for shard in 0..3 {
        let client = world.connect(shard, "all");
        world.answers(client);
        world.send(client, &[subscribe(&filter("r/#", Q1))]);
        world.settle();
        let got = world.messages(client);
        assert!(got.iter().all(|got| got.retain));
        let mut payloads: Vec<_> = got.into_iter().map(|got| got.payload).collect();
        payloads.sort();
        assert_eq!(payloads, ["0", "1", "2"], "shard {shard}");
    }
    // An empty one clears it, wherever it is sent.
    let topic = world.topic(1, "r/");
    let other = world.connect(2, "clears");
    world.send(other, &[retained(&topic, "", Q0, 0)]);
    world.settle();
    let late = subscriber(&mut world, 0, "late", &topic, Q0);
    assert_eq!(world.payloads(late), [""; 0]);
}

/// What an owner said to the first SUBSCRIBE may be gone when it answers the second one.
#[test]
fn who_subscribes_again_at_once_gets_nothing_that_was_cleared_between() {
    for clears in [false, true] {
        let mut world = World::new(3);
        let topic = world.topic(2, "r/");
        let publisher = world.connect(2, "p");
        world.send(publisher, &[retained(&topic, "old", Q1, 1)]);
        world.settle();
        let client = world.connect(1, "s");
        world.answers(client);
        world.send(client, &[subscribe(&filter(&topic, Q1))]);
        // One of the others has not heard of it when the owner has answered.
        world.settle_between(1, 2);
        world.send(client, &[subscribe(&filter(&topic, Q1))]);
        if clears {
            world.send(publisher, &[retained(&topic, "", Q1, 2)]);
        }
        world.settle();
        assert_eq!(world.answers(client), ["SUBACK"; 2]);
        let expected = if clears { &[][..] } else { &["old"] };
        assert_eq!(world.payloads(client), expected);
    }
}

#[test]
fn a_store_of_any_size_comes_page_by_page_as_the_session_drains() {
    let mut world = World::with(2, Config { max_msg_queue: 10, ..Config::default() });
    let publisher = world.connect(0, "p");
    let topics: Vec<String> = (0..200).map(|n| format!("many/{n:03}")).collect();
    for topic in &topics {
        world.send(publisher, &[retained(topic, topic, Q1, 1)]);
        world.settle();
    }
    let client = world.connect(1, "s");
    world.silent.push(client);
    world.send(client, &[subscribe(&filter("many/+", Q1))]);
    world.settle();
    let first = world.payloads(client).len();
    assert!((10..100).contains(&first), "{first} messages for a client that acknowledges none");
    // It comes again, and reads.
    world.silent.clear();
    let name = world.name(1, "t");
    let reader = world.connect_as(hello(&name));
    world.send(reader, &[subscribe(&filter("many/+", Q1))]);
    world.settle();
    let mut payloads = world.payloads(reader);
    payloads.sort();
    assert_eq!(payloads, topics);
    assert!(!world.events.iter().any(|event| matches!(event, Event::Dropped { .. })));
}

#[test]
fn what_is_published_while_an_owner_answers_is_neither_lost_nor_stale() {
    let mut world = World::new(3);
    let topic = world.topic(2, "t");
    let publisher = world.connect(0, "p");
    let client = world.connect(1, "s");
    world.send(publisher, &[retained(&topic, "old", Q0, 0)]);
    world.settle();
    world.send(client, &[subscribe(&filter(&topic, Q0))]);
    // The owner has the question; its answer is on the way, and behind it a new value.
    while world.step(1, 2) {}
    world.send(publisher, &[retained(&topic, "new", Q0, 0)]);
    while world.step(0, 2) {}
    world.settle();
    assert_eq!(world.payloads(client), ["old", "new"]);
    let late = subscriber(&mut world, 1, "late", &topic, Q0);
    assert_eq!(world.payloads(late), ["new"]);
}

/// Fills a shard with retained messages, of topics that begin with `name`; what is left of it with
/// subscriptions of a client there. Gives these topics.
fn retain_all(world: &mut World, own: Client, name: &str) -> Vec<String> {
    let (payload, shard) = ("x".repeat(10 << 10), own.shard);
    let mut topics = Vec::new();
    loop {
        let before = world.shards[shard].stats().retained;
        let topic = world.topic(shard, &format!("{name}/{}/", topics.len()));
        world.send(own, &[retained(&topic, &payload, Q0, 0)]);
        world.settle();
        if world.shards[shard].stats().retained == before {
            break;
        }
        topics.push(topic);
    }
    for number in 0.. {
        if world.shards[shard].stats().used_bytes > BUDGET / 100 * 95 {
            break;
        }
        let text = format!("{name}/{number}/{}", "x".repeat(99));
        world.send(own, &[subscribe(&filter(&text, Q0))]);
        world.settle();
    }
    topics
}

/// It is full of retained messages, of which a client and a program on another shard, and a client
/// of its own, clear one each. [MQTT-3.3.1-6]
#[test]
fn an_owner_without_memory_takes_what_clears_its_retained_messages() {
    let config = Config { shard_budget: BUDGET, ..Config::default() };
    let mut world = World::with(3, config);
    let (far, own) = (world.connect(0, "far"), world.connect(1, "own"));
    let reader = subscriber(&mut world, 2, "s", "first/#", Q1);
    let topics = retain_all(&mut world, own, "first");
    for (name, topic) in ["far", "own", "program"].into_iter().zip(topics) {
        retain_all(&mut world, own, name);
        let before = world.shards[1].stats().retained;
        world.messages(reader);
        world.send(far, &[retained(&topic, "other", Q1, 1)]);
        world.settle();
        assert_eq!(world.payloads(reader), [""; 0], "no other one is taken");
        match name {
            "far" => world.send(far, &[retained(&topic, "", Q1, 1)]),
            "own" => world.send(own, &[retained(&topic, "", Q1, 1)]),
            _ => {
                let publication = Publication { topic, retain: true, ..Publication::default() };
                let token = world.command(0, Command::Publish(Box::new(publication)));
                world.settle();
                assert!(matches!(world.replies[&token], Reply::Published { .. }));
            }
        }
        world.settle();
        assert_eq!(world.shards[1].stats().retained, before - 1, "{name}");
        assert_eq!(world.payloads(reader), [""], "{name}");
    }
}
