//! Retained messages, which their owners have.

use fulmar_core::broker::{Config, Event};

use crate::world::{Q0, Q1, World, filter, hello, retained, subscribe, subscriber};

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
