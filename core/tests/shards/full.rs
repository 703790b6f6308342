//! A queue that is full, where that ends the connection: what a client is owed goes first.

use fulmar_core::broker::{Config, DisconnectReason, Event, QueueFull};
use fulmar_core::codec::{Connect, Properties, Property, Qos};

use crate::world::{Client, World, filter, hello, publish, retained, subscribe, subscriber};

const Q1: Qos = Qos::AtLeastOnce;
const Q2: Qos = Qos::ExactlyOnce;

/// Two shards where one message may be in flight and one may wait, and a client that acknowledges
/// nothing, with a subscription.
fn cramped(text: &str) -> (World, Client) {
    let config = Config {
        queue_full: QueueFull::Disconnect,
        max_msg_queue: 1,
        max_inflight: 1,
        ..Config::default()
    };
    let mut world = World::with(2, config);
    let client = come(&mut world);
    world.silent.push(client);
    world.send(client, &[subscribe(&filter(text, Q2))]);
    world.settle();
    world.answers(client);
    (world, client)
}

/// The same, whose queue somebody else has filled while the other shard has a message of it, for
/// the client given last.
fn overrun() -> (World, Client, Client) {
    let (mut world, client) = cramped("own");
    let other = subscriber(&mut world, 1, "s", "far", Q1);
    world.send(client, &[publish("far", "1", Q1, 1)]);
    let near = world.connect(0, "p");
    for at in 1..4 {
        world.send(near, &[publish("own", "x", Q1, at)]);
    }
    (world, client, other)
}

/// A client of shard 0 with a session that stays.
fn come(world: &mut World) -> Client {
    let name = world.name(0, "c");
    let stays = [Property::SessionExpiryInterval(1000)];
    let properties = Properties::list(&stays);
    world.connect_as(Connect { clean_start: false, properties, ..hello(&name) })
}

fn ends(world: &mut World, client: Client) -> Vec<DisconnectReason> {
    let ends = world.events.extract_if(
        ..,
        |event| matches!(event, Event::Disconnected(end) if end.conn == client.conn),
    );
    let why = |event| match event {
        Event::Disconnected(end) => end.why,
        other => panic!("{other:?}"),
    };
    ends.map(why).collect()
}

#[test]
fn a_client_whose_own_messages_fill_its_queue_is_told_that_they_are_taken() {
    let (mut world, client) = cramped("#");
    let topic = world.topic(1, "t");
    let mine = [retained(&topic, "1", Q1, 1), retained(&topic, "2", Q1, 2)];
    world.send(client, &mine);
    // Before anybody says that it has taken them, they come back, and one more.
    world.send(client, &[retained(&topic, "3", Q2, 3)]);
    assert_eq!(world.answers(client), [""; 0]);
    world.settle();
    // Not closed without its acknowledgements: it would send all again, and so for ever.
    assert_eq!(world.answers(client), ["PUBACK", "PUBACK", "PUBREC", "DISCONNECT"]);
    assert_eq!(ends(&mut world, client), [DisconnectReason::QueueFull]);
    assert_eq!(world.closed, [client]);
}

#[test]
fn what_it_says_after_its_queue_was_full_is_not_read() {
    let (mut world, client, other) = overrun();
    assert!(world.paused.contains(&client) && world.closed.is_empty());
    world.send(client, &[publish("far", "2", Q1, 2)]);
    world.settle();
    assert_eq!(world.answers(client), ["PUBACK", "DISCONNECT"]);
    assert_eq!(world.payloads(other), ["1"]);
    // On its next connection all is as if it had not been said.
    let again = come(&mut world);
    world.send(again, &[publish("far", "2", Q1, 2)]);
    world.settle();
    assert_eq!(world.answers(again), ["CONNACK", "PUBACK"]);
    assert_eq!(world.payloads(other), ["2"]);
}

#[test]
fn it_waits_for_them_no_longer_than_a_peer_that_is_closed() {
    let (mut world, client, _) = overrun();
    // The other shard says nothing.
    world.now = world.now.after_secs(2);
    world.turn(0);
    assert_eq!((ends(&mut world, client), world.closed.len()), (vec![], 0));
    world.now = world.now.after_secs(1);
    world.turn(0);
    assert_eq!(world.answers(client), ["DISCONNECT"]);
    assert_eq!(ends(&mut world, client), [DisconnectReason::QueueFull]);
    world.settle();
    assert_eq!(world.answers(client), [""; 0]);
    world.hang_up(client);
    world.check_settled();
}

#[test]
fn that_its_queue_was_full_is_told_though_it_hangs_up_first() {
    let (mut world, client) = cramped("#");
    let topic = world.topic(1, "t");
    for at in 1..4 {
        world.send(client, &[retained(&topic, "x", Q1, at)]);
    }
    while !world.paused.contains(&client) {
        assert!(world.step(0, 1) || world.step(1, 0));
    }
    world.hang_up(client);
    assert_eq!(ends(&mut world, client), [DisconnectReason::QueueFull]);
    world.settle();
}

/// A message of QoS 2 waits behind a retained one that another shard has not confirmed; the queue
/// of its client is full, and it hangs up. Its message was not published, so that its repeat is.
#[test]
fn a_message_that_waited_when_it_hung_up_is_new_when_it_comes_again() {
    let (mut world, client) = cramped("own");
    let other = world.connect(1, "s");
    world.send(other, &[subscribe(&filter("far", Q1))]);
    world.settle();
    let near = world.connect(0, "p");
    let topic = world.topic(1, "t");
    world.send(client, &[retained(&topic, "x", Q1, 1), publish("far", "2", Q2, 2)]);
    assert!(world.paused.contains(&client), "the second waits for the first");
    for at in 1..4 {
        world.send(near, &[publish("own", "x", Q1, at)]);
    }
    world.hang_up(client);
    assert_eq!(ends(&mut world, client), [DisconnectReason::QueueFull]);
    world.settle();
    assert_eq!(world.payloads(other), [""; 0]);
    let again = come(&mut world);
    world.send(again, &[publish("far", "2", Q2, 2)]);
    world.settle();
    assert_eq!(world.answers(again), ["CONNACK", "PUBREC"]);
    assert_eq!(world.payloads(other), ["2"]);
}
