//! How connections end, while something waits for other shards.

use fulmar_core::broker::Event;
use fulmar_core::codec::{Connect, Disconnect, Packet, Properties, Property, ReasonCode};

use crate::world::{Q0, Q2, World, filter, hello, publish, retained, subscribe, subscriber, will};

#[test]
fn a_client_that_hangs_up_while_it_waits_is_heard_to_its_end() {
    let mut world = World::new(3);
    let topic = world.topic(2, "t");
    let watcher = subscriber(&mut world, 1, "watcher", "#", Q0);
    let name = world.name(0, "p");
    let connect = Connect { will: will("w", b"dead", false), ..hello(&name) };
    let publisher = world.connect_as(connect);
    let bye = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
    let (one, two) = (publish(&topic, "1", Q0, 0), retained(&topic, "2", Q0, 0));
    world.send(publisher, &[one, two, Packet::Disconnect(bye)]);
    world.hang_up(publisher);
    // Back at once: the new connection waits for the end of the old one.
    let again = world.connect_as(Connect { clean_start: false, ..hello(&name) });
    assert_eq!(world.answers(again), [""; 0]);
    world.settle();
    assert_eq!(world.payloads(watcher), ["1", "2"], "and no will, since it said goodbye");
    assert_eq!(world.answers(again), ["CONNACK"]);
    let ends = world.events.iter().filter(|e| matches!(e, Event::Disconnected(_)));
    assert_eq!(ends.count(), 1);
}

#[test]
fn a_client_that_hung_up_leaves_when_its_last_message_is_handed_out() {
    let mut world = World::new(2);
    let topic = world.topic(1, "t");
    // More than are served in one call.
    let crowd: Vec<_> = (0..4_100).map(|n| world.connect(0, &format!("s{n}-"))).collect();
    for client in &crowd {
        world.send(*client, &[subscribe(&filter("news", Q0))]);
    }
    let name = world.name(0, "p");
    let publisher = world.connect_as(hello(&name));
    world.settle();
    world.send(publisher, &[retained(&topic, "1", Q0, 0), publish("news", "2", Q0, 0)]);
    assert_eq!(world.paused, [publisher]);
    world.hang_up(publisher);
    world.settle();
    assert!(crowd.into_iter().all(|client| world.payloads(client) == ["2"]));
    let ends = world.events.iter().filter(|e| matches!(e, Event::Disconnected(_)));
    assert_eq!(ends.count(), 1);
    let again = world.connect_as(hello(&name));
    assert_eq!(world.answers(again), ["CONNACK"]);
}

#[test]
fn who_hangs_up_before_it_is_let_in_throws_nobody_out() {
    let mut world = World::new(3);
    let topic = world.topic(2, "t");
    let _watcher = subscriber(&mut world, 1, "watcher", "#", Q0);
    let name = world.name(0, "p");
    let first = world.connect_as(hello(&name));
    // It leaves while its second message waits, and two connections come after it.
    world.send(first, &[publish(&topic, "1", Q0, 0), retained(&topic, "2", Q0, 0)]);
    world.hang_up(first);
    let second = world.connect_as(hello(&name));
    world.hang_up(second);
    let third = world.connect_as(hello(&name));
    world.settle();
    assert_eq!(world.answers(third), ["CONNACK"]);
    assert_eq!(world.answers(second), [""; 0]);
    let is = |event: &&Event| matches!(event, Event::Connected(c) if *c.client_id == *name);
    assert_eq!(world.events.iter().filter(is).count(), 2, "the first and the third");
    assert!(!world.closed.contains(&third));
}

#[test]
fn a_message_that_waits_when_its_client_is_taken_over_may_come_again() {
    let mut world = World::new(3);
    let topic = world.topic(2, "t");
    let watcher = subscriber(&mut world, 1, "watcher", "#", Q2);
    let name = world.name(0, "p");
    let expiry = [Property::SessionExpiryInterval(100)];
    let connect =
        Connect { clean_start: false, properties: Properties::list(&expiry), ..hello(&name) };
    let first = world.connect_as(connect);
    world.settle();
    world.send(first, &[publish(&topic, "1", Q0, 0), retained(&topic, "2", Q2, 7)]);
    let second = world.connect_as(connect);
    world.settle();
    assert_eq!(world.payloads(watcher), ["1"], "the other was not taken");
    world.send(second, &[retained(&topic, "2", Q2, 7)]);
    world.settle();
    assert_eq!(world.payloads(watcher), ["2"], "so that its repeat is not one");
}

#[test]
fn who_waits_for_the_end_of_its_last_connection_is_let_in_whoever_is_asked_first() {
    let mut world = World::new(2);
    let name = world.name(0, "c");
    let first = world.connect_as(hello(&name));
    let far = world.topic(1, "far");
    let near = world.topic(0, "near");
    let held = [
        retained(&far, "1", Q0, 0),
        publish(&near, "2", Q0, 0),
        retained(&far, "3", Q0, 0),
        publish(&near, "4", Q0, 0),
    ];
    let reader = subscriber(&mut world, 1, "reader", &near, Q0);
    world.send(first, &held);
    world.hang_up(first);
    // It is asked whether it may go on before the one it waits for is at its end.
    let second = world.connect_as(hello(&name));
    assert_eq!(world.answers(second), [""; 0]);
    world.settle();
    assert_eq!(world.answers(second), ["CONNACK"]);
    assert_eq!(world.payloads(reader), ["2", "4"]);
}
