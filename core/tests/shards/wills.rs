//! Wills, and what comes after them.

use fulmar_core::broker::{Command, Effect, Event, Input, Publication, Reply};
use fulmar_core::codec::{Connect, Properties, Property};

use crate::world::{Q0, Q1, World, hello, publish, retained, subscriber, will};

#[test]
fn a_will_and_a_message_of_the_program_reach_all_shards() {
    let mut world = World::new(3);
    let topic = world.topic(2, "state");
    let clients = [0, 1, 2].map(|shard| subscriber(&mut world, shard, "s", "#", Q1));
    let name = world.name(0, "dies");
    let dying = world.connect_as(Connect { will: will(&topic, b"dead", true), ..hello(&name) });
    world.settle();
    world.hang_up(dying);
    let payload = "news".into();
    let publication = Publication { topic: topic.clone(), payload, ..Publication::default() };
    let token = world.command(1, Command::Publish(Box::new(publication)));
    assert!(!world.replies.contains_key(&token), "it is not taken yet");
    world.settle();
    assert!(matches!(world.replies[&token], Reply::Published { receivers: 3 }));
    for client in clients {
        let mut payloads = world.payloads(client);
        payloads.sort();
        assert_eq!(payloads, ["dead", "news"]);
    }
    let late = subscriber(&mut world, 1, "late", &topic, Q0);
    assert_eq!(world.payloads(late), ["dead"]);
}

#[test]
fn what_a_client_says_after_its_will_comes_after_it() {
    let mut world = World::new(3);
    let topic = world.topic(2, "status");
    let watcher = subscriber(&mut world, 1, "watcher", &topic, Q1);
    let name = world.name(0, "device");
    let expiry = [Property::SessionExpiryInterval(100)];
    let connect =
        Connect { clean_start: false, properties: Properties::list(&expiry), ..hello(&name) };
    let first = world.connect_as(Connect { will: will(&topic, b"offline", true), ..connect });
    world.settle();
    world.hang_up(first);
    let second = world.connect_as(connect);
    world.send(second, &[publish(&topic, "online", Q1, 1)]);
    // The direct way is the fast one.
    world.settle_between(0, 1);
    world.settle();
    assert_eq!(world.payloads(watcher), ["offline", "online"]);
}

#[test]
fn a_will_that_waits_holds_up_what_its_client_says_next() {
    let mut world = World::new(2);
    let (other, there) = (world.topic(1, "other"), world.topic(1, "status"));
    let watcher = subscriber(&mut world, 1, "watcher", "#", Q1);
    let name = world.name(0, "device");
    let dying = world.connect_as(Connect { will: will(&there, b"offline", true), ..hello(&name) });
    world.settle();
    // The program's second message must wait for the first, and the will stands behind it.
    for (payload, retain) in [("kept", true), ("gone", false)] {
        let (topic, payload) = (other.clone(), payload.into());
        let publication = Publication { topic, payload, retain, ..Publication::default() };
        world.command(0, Command::Publish(Box::new(publication)));
    }
    world.hang_up(dying);
    let again = world.connect_as(hello(&name));
    world.send(again, &[retained(&there, "online", Q1, 1)]);
    world.settle();
    assert_eq!(world.payloads(watcher), ["kept", "gone", "offline", "online"]);
    let late = subscriber(&mut world, 0, "late", &there, Q1);
    assert_eq!(world.payloads(late), ["online"]);
}

/// The wills of a shard full of clients wait behind one message of the program. When that may go,
/// no call publishes them all.
#[test]
fn wills_that_waited_are_published_some_in_each_call_and_in_their_order() {
    const WILLS: usize = 300;
    let mut world = World::new(2);
    let watcher = subscriber(&mut world, 1, "watcher", "#", Q1);
    let mut dying = Vec::new();
    for n in 0..WILLS {
        let (name, payload) = (world.name(0, &format!("device {n} ")), format!("will {n}"));
        let will = will("t", payload.as_bytes(), false);
        dying.push(world.connect_as(Connect { will, ..hello(&name) }));
    }
    world.settle();
    let topic = world.topic(1, "other");
    for (payload, retain) in [("kept", true), ("gone", false)] {
        let (topic, payload) = (topic.clone(), payload.into());
        let publication = Publication { topic, payload, retain, ..Publication::default() };
        world.command(0, Command::Publish(Box::new(publication)));
    }
    dying.into_iter().for_each(|client| world.hang_up(client));
    while world.step(0, 1) {}
    let mut published = Vec::new();
    let mut count = |world: &mut World| {
        let effects = std::iter::from_fn(|| world.shards[0].poll_effect());
        let wills = |effect: &Effect| matches!(effect, Effect::Event(Event::WillPublished { .. }));
        published.push(effects.filter(wills).count());
    };
    while let Some(msg) = world.links[1][0].pop_front() {
        world.shards[0].peer_message(world.now, 1, msg);
        count(&mut world);
    }
    while world.shards[0].poll_timeout().is_some_and(|at| at <= world.now) {
        world.shards[0].handle(world.now, Input::Timeout);
        count(&mut world);
    }
    assert_eq!(published.iter().sum::<usize>(), WILLS);
    assert!(published.iter().all(|count| *count <= 64), "{published:?}");
    world.turn(0);
    world.settle();
    let wills = (0..WILLS).map(|n| format!("will {n}"));
    let expected: Vec<String> =
        ["kept", "gone"].map(String::from).into_iter().chain(wills).collect();
    assert_eq!(world.payloads(watcher), expected);
}
