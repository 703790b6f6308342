//! One story for each rule that has no room of its own.

use std::time::Duration;

use bytes::Bytes;
use fulmar_core::ConnId;
use fulmar_core::broker::{Command, Config, ConnInfo, Event, Publication, Reply};
use fulmar_core::codec::{Packet, ReasonCode, Version};

use crate::world::{
    Client, Q0, Q1, Q2, World, filter, hello, publish, retained, subscribe, subscriber, unsubscribe,
};

#[test]
fn a_message_published_after_suback_arrives_from_every_shard() {
    let mut world = World::new(3);
    let publishers = [0, 1, 2].map(|shard| world.connect(shard, "p"));
    let client = world.connect(1, "s");
    world.settle();
    world.answers(client);
    world.send(client, &[subscribe(&filter("a/b", Q1))]);
    assert_eq!(world.answers(client), [""; 0], "others do not know of it yet");
    world.settle_between(0, 1);
    assert_eq!(world.answers(client), [""; 0], "one of them does not");
    world.settle();
    assert_eq!(world.answers(client), ["SUBACK"]);
    for publisher in publishers {
        world.send(publisher, &[publish("a/b", "x", Q0, 0)]);
    }
    world.settle();
    assert_eq!(world.payloads(client), ["x"; 3]);
}

#[test]
fn who_subscribes_to_a_filter_that_is_not_known_everywhere_waits_with_the_first() {
    let mut world = World::new(2);
    let [one, two] = ["one", "two"].map(|what| world.connect(0, what));
    world.settle();
    for client in [one, two] {
        world.answers(client);
        world.send(client, &[subscribe(&filter("a", Q0))]);
    }
    assert_eq!((world.answers(one).len(), world.answers(two).len()), (0, 0));
    world.settle();
    assert_eq!((world.answers(one), world.answers(two)), (vec!["SUBACK"], vec!["SUBACK"]));
    // Known everywhere, and no owner elsewhere to ask: at once.
    let topic = world.topic(0, "own");
    let third = subscriber(&mut world, 0, "third", &topic, Q0);
    let fourth = world.connect(0, "fourth");
    world.answers(fourth);
    world.send(fourth, &[subscribe(&filter(&topic, Q0))]);
    assert_eq!(world.answers(fourth), ["SUBACK"]);
    assert_ne!(third, fourth);
}

#[test]
fn an_interested_shard_gets_a_message_once_and_the_others_not_at_all() {
    let mut world = World::new(3);
    let publisher = world.connect(0, "p");
    let many: Vec<Client> =
        (0..20).map(|n| subscriber(&mut world, 1, &format!("s{n} "), "t/+", Q0)).collect();
    world.crossed = 0;
    let text = "x".repeat(10_000);
    world.send(publisher, &[publish("t/1", &text, Q0, 0)]);
    assert_eq!((world.links[0][1].len(), world.links[0][2].len()), (1, 0));
    world.settle();
    assert!(world.crossed < 11_000, "{} bytes crossed", world.crossed);
    assert!(many.iter().all(|client| world.payloads(*client) == [text.clone()]));
}

#[test]
fn puback_and_pubrec_come_when_every_shard_concerned_has_the_message() {
    let mut world = World::new(3);
    let publisher = world.connect(0, "p");
    let clients = [1, 2].map(|shard| subscriber(&mut world, shard, "s", "t", Q0));
    world.settle();
    world.answers(publisher);
    let packets = [publish("t", "1", Q1, 1), publish("t", "2", Q2, 2), publish("u", "3", Q1, 3)];
    world.send(publisher, &packets);
    assert_eq!(world.answers(publisher), [""; 0]);
    world.settle_between(0, 1);
    assert_eq!(world.payloads(clients[0]), ["1", "2"]);
    assert_eq!(world.answers(publisher), [""; 0], "shard 2 does not have them");
    // Again, while the first answer is under way: one PUBREC.
    world.send(publisher, &[publish("t", "2", Q2, 2)]);
    world.settle();
    // [MQTT-4.6.0-2]: the one that nobody wanted had to wait for the one before it.
    assert_eq!(
        world.out[&publisher].packets,
        [
            ("PUBACK", 1, 0),
            ("PUBACK", 3, ReasonCode::NoMatchingSubscribers as u8),
            ("PUBREC", 2, 0)
        ]
    );
    assert_eq!(world.payloads(clients[1]), ["1", "2"]);
}

#[test]
fn pingresp_says_that_what_was_sent_before_it_is_taken() {
    let mut world = World::new(3);
    let publisher = world.connect(0, "p");
    let client = subscriber(&mut world, 1, "s", "t", Q0);
    world.answers(publisher);
    world.send(publisher, &[publish("t", "1", Q0, 0), Packet::Pingreq, Packet::Pingreq]);
    assert_eq!(world.answers(publisher), [""; 0]);
    world.settle();
    assert_eq!(world.answers(publisher), ["other", "other"]);
    assert_eq!(world.payloads(client), ["1"]);
}

#[test]
fn a_client_that_never_stops_sending_gets_its_pingresp() {
    let mut world = World::new(2);
    let publisher = world.connect(0, "p");
    let client = subscriber(&mut world, 1, "s", "t", Q0);
    world.answers(publisher);
    world.send(publisher, &[publish("t", "0", Q0, 0), Packet::Pingreq]);
    for round in 1..10 {
        // Always something is under way when another shard says what it has taken.
        world.step(0, 1);
        world.send(publisher, &[publish("t", &round.to_string(), Q0, 0), Packet::Pingreq]);
        while world.step(1, 0) {}
        assert_eq!(world.answers(publisher), ["other"], "in round {round}");
    }
    world.settle();
    assert_eq!(world.answers(publisher), ["other"]);
    assert_eq!(world.payloads(client).len(), 10);
}

#[test]
fn a_publisher_changes_its_way_only_when_what_it_sent_before_has_arrived() {
    let mut world = World::new(3);
    let topic = world.topic(2, "t");
    let publisher = world.connect(0, "p");
    let client = subscriber(&mut world, 1, "s", &topic, Q0);
    world.send(
        publisher,
        &[publish(&topic, "1", Q0, 0), retained(&topic, "2", Q0, 0), publish(&topic, "3", Q0, 0)],
    );
    assert_eq!(world.paused, [publisher]);
    // The link to the owner and from there is fast, the direct one slow.
    for _ in 0..9 {
        world.settle_between(0, 2);
        world.settle_between(1, 2);
    }
    assert_eq!(world.payloads(client), [""; 0]);
    world.settle();
    assert_eq!(world.payloads(client), ["1", "2", "3"]);
    assert_eq!(world.paused, []);
}

#[test]
fn a_subscription_of_the_program_is_answered_when_it_stands() {
    let mut world = World::new(2);
    let topic = world.topic(1, "r");
    let publisher = world.connect(1, "p");
    world.send(publisher, &[retained(&topic, "kept", Q0, 0)]);
    world.settle();
    let filters = vec![(topic.clone(), Q1), ("other/#".into(), Q0)];
    let token = world.command(0, Command::Subscribe { filters, queue: 10 });
    assert!(!world.replies.contains_key(&token));
    world.settle();
    let Reply::Subscribed(id) = world.replies[&token] else { panic!("subscribed") };
    world.send(publisher, &[publish(&topic, "live", Q0, 0), publish("other/x", "too", Q0, 0)]);
    world.settle();
    assert_eq!(world.take(0, id), ["kept", "live", "too"]);
}

#[test]
fn a_route_is_withdrawn_when_it_costs_something() {
    let mut world = World::new(2);
    let publisher = world.connect(0, "p");
    let client = subscriber(&mut world, 1, "s", "t", Q0);
    world.send(client, &[unsubscribe(&["t"])]);
    assert_eq!(world.busy(), [], "nobody is told yet");
    world.send(publisher, &[publish("t", "1", Q0, 0)]);
    world.settle();
    world.send(publisher, &[publish("t", "2", Q0, 0)]);
    assert_eq!(world.busy(), [], "it is known now that nobody wants it");
    world.send(client, &[subscribe(&filter("t", Q0))]);
    world.settle();
    world.send(publisher, &[publish("t", "3", Q0, 0)]);
    world.settle();
    assert_eq!(world.payloads(client), ["3"]);
}

#[test]
fn a_connection_that_came_to_the_wrong_shard_is_handed_over_whole() {
    let mut world = World::new(2);
    let name = world.name(1, "moves");
    let watcher = subscriber(&mut world, 0, "watcher", "#", Q0);
    let wrong = world.open(0);
    let (connect, hi) = (Packet::Connect(hello(&name)), publish("t", "hi", Q0, 0));
    world.send(wrong, &[connect, hi]);
    assert_eq!(world.moving, [(wrong, 1)]);
    // What comes before the driver is so far.
    world.send(wrong, &[publish("t", "there", Q0, 0)]);
    let moved = world.shards[0].hand_over(world.now, wrong.conn).expect("it was asked for");
    assert!(world.shards[0].hand_over(world.now, wrong.conn).is_none(), "once");
    let right = world.open(1);
    world.send_bytes(right, &moved.bytes);
    world.settle();
    assert_eq!(world.answers(right), ["CONNACK"]);
    assert_eq!(world.payloads(watcher), ["hi", "there"]);
    assert_eq!(world.shards.iter().map(|shard| shard.stats().connections).sum::<u64>(), 2);
}

#[test]
fn the_time_for_connect_goes_on_where_a_connection_is_handed_over() {
    let mut world = World::new(2);
    let name = world.name(1, "slow");
    let arrival = world.now;
    let wrong = world.open(0);
    let due = world.shards[0].poll_timeout().expect("a CONNECT is waited for");
    assert_eq!(due.since(arrival), Config::default().connect_timeout);
    // Its last byte comes when most of the time is over.
    let mut connect = Vec::new();
    Packet::Connect(hello(&name)).append(Version::V5, &mut connect).expect("it can be sent");
    let (most, last) = connect.split_at(connect.len() - 1);
    world.send_bytes(wrong, most);
    world.now = arrival + Duration::from_secs(4);
    world.send_bytes(wrong, last);
    let moved = world.shards[0].hand_over(world.now, wrong.conn).expect("it was asked for");
    assert_eq!((moved.opened, &moved.bytes), (arrival, &connect));
    assert_eq!(world.shards[0].poll_timeout(), None);
    world.shards[1].open(moved.opened, ConnInfo::default()).expect("room");
    assert_eq!(world.shards[1].poll_timeout(), Some(due));
}

#[test]
fn an_identifier_that_the_broker_chooses_belongs_to_its_shard() {
    let mut world = World::new(8);
    for shard in 0..8 {
        let client = world.open(shard);
        world.send(client, &[Packet::Connect(hello(""))]);
        assert_eq!(world.moving, []);
        let place = world.shards[shard].place();
        let Some(Event::Connected(connected)) = world.events.pop() else { panic!("connected") };
        assert_eq!(usize::from(place.home(&connected.client_id)), shard);
        assert_eq!(connected.conn, ConnId::clone(&client.conn));
    }
}

#[test]
fn what_is_subscribed_and_published_in_one_breath_arrives() {
    let mut world = World::new(3);
    let client = world.connect(0, "c");
    world.settle();
    world.answers(client);
    let list = filter("t", Q1);
    world.send(client, &[subscribe(&list), publish("t", "own", Q1, 9)]);
    world.settle();
    assert_eq!(world.answers(client), ["SUBACK", "PUBACK"]);
    assert_eq!(world.payloads(client), ["own"]);
}

#[test]
fn an_unsubscribe_in_the_same_breath_leaves_nothing_behind() {
    let mut world = World::new(3);
    let client = world.connect(0, "c");
    let publisher = world.connect(1, "p");
    world.settle();
    world.answers(client);
    let list = filter("t/#", Q1);
    world.send(client, &[subscribe(&list), unsubscribe(&["t/#"])]);
    assert_eq!(world.answers(client), ["SUBACK", "UNSUBACK"]);
    world.settle();
    world.send(publisher, &[publish("t/1", "x", Q0, 0)]);
    world.settle();
    assert_eq!(world.payloads(client), [""; 0]);
    // And a session that ends meanwhile.
    world.send(client, &[subscribe(&list)]);
    world.hang_up(client);
    world.settle();
    assert_eq!(world.shards[0].stats().subscriptions, 0);
}

#[test]
fn a_message_to_oneself_that_waited_is_sent() {
    let mut world = World::new(2);
    let client = subscriber(&mut world, 0, "s", "own", Q0);
    let far = world.topic(1, "far");
    // The second waits until the owner of the first has it.
    world.send(client, &[retained(&far, "1", Q0, 0), publish("own", "2", Q0, 0)]);
    assert_eq!(world.payloads(client), [""; 0]);
    world.settle();
    assert_eq!(world.payloads(client), ["2"]);
}

#[test]
fn puback_comes_though_more_was_sent_before_the_message_was_taken() {
    let mut world = World::new(3);
    let publisher = world.connect(0, "p");
    subscriber(&mut world, 1, "plain", "t", Q0);
    subscriber(&mut world, 1, "other", "u", Q0);
    subscriber(&mut world, 2, "member", "$share/g/t", Q0);
    world.answers(publisher);
    // One message with two numbers: the group's copy has the higher one, on another link.
    world.send(publisher, &[publish("t", "1", Q1, 1), publish("u", "2", Q0, 0)]);
    assert!(world.step(0, 1), "the first of two is taken");
    while world.step(1, 0) {}
    world.settle();
    assert_eq!(world.answers(publisher), ["PUBACK"]);
}

#[test]
fn messages_of_two_programs_do_not_wait_for_each_other() {
    let mut world = World::new(2);
    let topics = [0, 1].map(|owner| world.topic(owner, "r"));
    let mut tokens = Vec::new();
    for shard in 0..2 {
        // The second waits until the other shard has the first.
        for (topic, retain) in [(&topics[1 - shard], true), (&topics[shard], false)] {
            let publication = Publication {
                topic: topic.clone(),
                payload: Bytes::from_static(b"x"),
                retain,
                ..Publication::default()
            };
            let command = Command::Publish(Box::new(publication));
            tokens.push(world.command(shard, command));
        }
    }
    world.settle();
    assert!(tokens.iter().all(|token| world.replies.contains_key(token)));
}
