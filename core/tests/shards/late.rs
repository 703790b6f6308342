//! What comes late from one shard, while another is quick.

use fulmar_core::broker::{Command, Config, Event, Publication};
use fulmar_core::codec::{Connect, Packet, Properties, Property, Publish};

use crate::world::{Q0, Q2, World, filter, hello, id, retained, subscribe, will};

/// The owner of a topic answers at once, another one late; a newer value comes between. The client,
/// who had the subscription already, must not be told the older one last.
#[test]
fn who_subscribes_again_does_not_end_with_an_older_value() {
    let mut world = World::new(3);
    let topic = world.topic(1, "t/");
    let publisher = world.connect(1, "p");
    let client = world.connect(0, "s");
    world.send(client, &[subscribe(&filter("t/+", Q0))]);
    world.settle();
    world.send(publisher, &[retained(&topic, "old", Q0, 0)]);
    world.settle();
    assert_eq!(world.payloads(client), ["old"]);
    world.answers(client);
    world.send(client, &[subscribe(&filter("t/+", Q0))]);
    world.settle_between(0, 1);
    assert_eq!(world.payloads(client), ["old"], "one owner's answer waits for no other");
    world.send(publisher, &[retained(&topic, "new", Q0, 0)]);
    world.settle_between(0, 1);
    assert_eq!(world.payloads(client), ["new"]);
    assert_eq!(world.answers(client), [""; 0], "another owner has not answered");
    world.settle();
    assert_eq!(world.answers(client), ["SUBACK"]);
    assert_eq!(world.payloads(client), [""; 0], "nothing older comes behind it");
}

/// A new subscription stands when all owners have answered. What was retained meanwhile it gets as
/// it is then: once, in its last state, and not one for each time it changed.
#[test]
fn who_subscribes_gets_what_is_retained_when_the_subscription_comes_to_stand() {
    let mut world = World::new(3);
    let topic = world.topic(1, "t/");
    let publisher = world.connect(1, "p");
    world.send(publisher, &[retained(&topic, "first", Q0, 0)]);
    let client = world.connect(0, "s");
    world.settle();
    world.answers(client);
    world.send(client, &[subscribe(&filter("t/+", Q0))]);
    world.settle_between(0, 1);
    for text in ["second", "third"] {
        world.send(publisher, &[retained(&topic, text, Q0, 0)]);
        world.settle_between(0, 1);
    }
    assert_eq!(world.answers(client), [""; 0]);
    world.settle();
    assert_eq!(world.answers(client), ["SUBACK"]);
    assert_eq!(world.payloads(client), ["third"]);
}

/// A client subscribes with No Local, and its will replaces what is retained before the
/// subscription stands. Of its own message it is not told by this subscription, and it must not be
/// told of the older one after it had its own by another.
#[test]
fn what_a_will_replaced_does_not_come_after_it() {
    let mut world = World::new(3);
    let topic = world.topic(1, "t/");
    let publisher = world.connect(1, "p");
    world.send(publisher, &[retained(&topic, "old", Q0, 0)]);
    let name = world.name(0, "s");
    let stays = [Property::SessionExpiryInterval(100)];
    let connect =
        Connect { clean_start: false, properties: Properties::list(&stays), ..hello(&name) };
    let first = world.connect_as(Connect { will: will(&topic, b"own", true), ..connect });
    world.settle();
    world.send(first, &[subscribe(&filter(&topic, Q0))]);
    world.settle();
    assert_eq!(world.payloads(first), ["old"]);
    let mut list = filter("t/+", Q0);
    list[0].1.no_local = true;
    world.send(first, &[subscribe(&list)]);
    world.settle_between(0, 1);
    let second = world.connect_as(connect);
    world.settle_between(0, 1);
    assert_eq!(world.payloads(second), ["own"]);
    world.settle();
    assert_eq!(world.payloads(second), [""; 0], "nothing older comes behind it");
}

/// Two wills of one client wait behind a message of a program. The second one is not retained and
/// could go straight to the watcher, but only when the first is there, which goes by its owner.
#[test]
fn two_wills_of_a_client_that_waited_come_in_their_order() {
    let mut world = World::new(3);
    let (other, topic) = (world.topic(2, "other"), world.topic(2, "status"));
    let watcher = world.connect(1, "watcher");
    world.send(watcher, &[subscribe(&filter("#", Q2))]);
    let name = world.name(0, "device");
    let stays = [Property::SessionExpiryInterval(100)];
    let connect =
        Connect { clean_start: false, properties: Properties::list(&stays), ..hello(&name) };
    let first = world.connect_as(Connect { will: will(&topic, b"first", true), ..connect });
    world.settle();
    for (payload, retain) in [("kept", true), ("gone", false)] {
        let (topic, payload) = (other.clone(), payload.into());
        let publication = Publication { topic, payload, retain, ..Publication::default() };
        world.command(0, Command::Publish(Box::new(publication)));
    }
    world.hang_up(first);
    let second = world.connect_as(Connect { will: will(&topic, b"second", false), ..connect });
    world.hang_up(second);
    world.settle();
    assert_eq!(world.payloads(watcher), ["kept", "gone", "first", "second"]);
}

/// Each owner gives as much as a queue holds; all of them together must not give more.
#[test]
fn retained_messages_of_several_owners_find_room_in_a_small_queue() {
    let mut world = World::with(4, Config { max_msg_queue: 3, ..Config::default() });
    let topics: Vec<String> = (0..12).map(|n| world.topic(n % 4, &format!("t{n}/"))).collect();
    let publisher = world.connect(1, "p");
    for topic in &topics {
        world.send(publisher, &[retained(topic, "x", Q0, 0)]);
        world.settle();
    }
    let client = world.connect(0, "s");
    world.send(client, &[subscribe(&filter("#", Q0))]);
    world.settle();
    let mut came: Vec<String> = world.messages(client).into_iter().map(|got| got.topic).collect();
    came.sort();
    let mut all = topics;
    all.sort();
    assert_eq!(came, all);
    let dropped = world.events.iter().any(|event| matches!(event, Event::Dropped { .. }));
    assert!(!dropped, "{:?}", world.events);
}

/// PUBREC says that all shards concerned have the message, also when the message is repeated on
/// another connection before they have. `[MQTT-4.3.3-10]`
#[test]
fn a_repeat_is_answered_when_the_message_itself_is_taken() {
    let mut world = World::new(2);
    let topic = world.topic(1, "t/");
    let name = world.name(0, "p");
    let lasting = [Property::SessionExpiryInterval(100)];
    let properties = Properties::list(&lasting);
    let connect = Connect { clean_start: false, properties, ..hello(&name) };
    let first = world.connect_as(connect);
    world.settle();
    world.send(first, &[retained(&topic, "x", Q2, 7)]);
    world.hang_up(first);
    let again = world.connect_as(connect);
    assert_eq!(world.answers(again), ["CONNACK"]);
    let (payload, topic) = (&b"x"[..], &topic[..]);
    let repeat = Publish { dup: true, qos: Q2, retain: true, topic, payload, ..<_>::default() };
    world.send(again, &[Packet::Publish(Publish { packet_id: Some(id(7)), ..repeat })]);
    assert_eq!(world.answers(again), [""; 0], "the owner does not have it");
    world.settle();
    assert_eq!(world.answers(again), ["PUBREC"]);
}
