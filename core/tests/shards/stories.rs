//! One story for each rule.

use bytes::Bytes;
use fulmar_core::ConnId;
use fulmar_core::broker::{Command, Config, DropReason, Event, Publication, Reply};
use fulmar_core::codec::{
    Connect, Disconnect, Filters, Packet, Properties, Property, Qos, ReasonCode, Subscribe,
    SubscriptionOptions,
};

use crate::world::{
    Client, World, filter, hello, id, publish, retained, subscribe, unsubscribe, will,
};

const Q0: Qos = Qos::AtMostOnce;
const Q1: Qos = Qos::AtLeastOnce;
const Q2: Qos = Qos::ExactlyOnce;

/// A client with one subscription that all shards know of.
fn subscriber(world: &mut World, shard: usize, what: &str, text: &str, qos: Qos) -> Client {
    let client = world.connect(shard, what);
    world.send(client, &[subscribe(&filter(text, qos))]);
    world.settle();
    world.answers(client);
    client
}

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
fn a_shared_group_gives_each_message_to_one_member_wherever_it_is() {
    let mut world = World::new(3);
    let group = "$share/g/jobs/+";
    let members = [0, 1, 1, 2].map(|shard| {
        let what = format!("m{} ", world.out.len());
        subscriber(&mut world, shard, &what, group, Q1)
    });
    let publishers = [0, 1, 2].map(|shard| world.connect(shard, "p"));
    for n in 0..12 {
        world.send(publishers[n % 3], &[publish("jobs/x", &n.to_string(), Q1, 1 + n as u16)]);
        world.settle();
    }
    let counts = members.map(|client| world.payloads(client).len());
    assert_eq!(counts.iter().sum::<usize>(), 12, "{counts:?}");
    assert_eq!(counts, [3; 4], "equal shares");
}

#[test]
fn a_shard_whose_members_have_left_passes_the_message_on() {
    let mut world = World::new(3);
    let group = "$share/g/jobs";
    let publisher = world.connect(0, "p");
    let leaving = subscriber(&mut world, 1, "leaving", group, Q1);
    world.answers(publisher);
    world.send(publisher, &[publish("jobs", "1", Q1, 1)]);
    // It leaves, and another one comes, before the message is there.
    world.send(leaving, &[unsubscribe(&[group])]);
    let staying = world.connect(2, "staying");
    world.send(staying, &[subscribe(&filter(group, Q1))]);
    world.settle_between(2, 1);
    world.settle();
    assert_eq!(world.payloads(leaving), [""; 0]);
    assert_eq!(world.payloads(staying), ["1"]);
    assert_eq!(world.answers(publisher), ["PUBACK"]);
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_a_member_elsewhere_but_not_qos_2() {
    let mut world = World::new(2);
    let group = "$share/g/jobs";
    let publisher = world.connect(0, "p");
    let member = subscriber(&mut world, 0, "member", group, Q2);
    world.silent.push(member);
    world.send(publisher, &[publish("jobs", "one", Q1, 1), publish("jobs", "two", Q2, 2)]);
    assert_eq!(world.payloads(member), ["one", "two"]);
    let other = subscriber(&mut world, 1, "other", group, Q2);
    world.hang_up(member);
    world.settle();
    // [U5-072] [MQTT-4.8.2-5]
    assert_eq!(world.payloads(other), ["one"]);
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
fn publishers_pause_without_credit_and_nothing_is_lost_or_locked() {
    // A message of 60 KiB uses up what a link may hold of a lane.
    let config = Config { shard_budget: 1 << 20, max_packet_size: 128 << 10, ..Config::default() };
    let mut world = World::with(8, config);
    let publishers: Vec<Client> = (0..8).map(|shard| world.connect(shard, "p")).collect();
    let clients: Vec<Client> =
        (0..8).map(|shard| subscriber(&mut world, shard, "s", "#", Q0)).collect();
    let payload = "x".repeat(60 << 10);
    for round in 0..3 {
        for (n, publisher) in publishers.iter().enumerate() {
            let topic = format!("t{n}");
            let packets = [
                publish(&topic, &payload, Q0, 0),
                publish(&topic, &payload, Q1, 1 + round),
                retained(&topic, "kept", Q1, 11 + round),
            ];
            world.send(*publisher, &packets);
        }
        assert_eq!(world.paused.len(), 8, "all of them wait for all others");
    }
    let first = world.links[0].iter().map(|link| link.len()).max();
    assert!(first <= Some(8), "{first:?} messages on one link");
    world.settle();
    assert_eq!(world.paused, []);
    for client in clients {
        assert_eq!(world.payloads(client).len(), 8 * 9);
    }
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

#[test]
fn a_filter_that_stands_in_a_packet_many_times_is_asked_for_once() {
    let mut world = World::new(2);
    let topic = world.topic(1, "t");
    let publisher = world.connect(0, "p");
    world.send(publisher, &[retained(&topic, "1", Q1, 1)]);
    world.settle();
    let client = world.connect(0, "s");
    world.answers(client);
    for text in ["+", "$share/g/a"] {
        let options = SubscriptionOptions { qos: Q1, ..SubscriptionOptions::default() };
        let list = [(text, options); 1000];
        let filters = Filters::list(&list);
        let properties = Properties::EMPTY;
        world.send(
            client,
            &[Packet::Subscribe(Subscribe { packet_id: id(1), properties, filters })],
        );
        let said = world.links[0][1].len();
        assert!(said <= 3, "{said} messages for {text}");
        world.settle();
        assert_eq!(world.answers(client), ["SUBACK"]);
    }
    assert_eq!(world.payloads(client), ["1"]);
}

#[test]
fn a_shard_without_memory_takes_no_message_of_another_and_says_who_lost_it() {
    let budget = 1 << 20;
    let config = Config { shard_budget: budget, ..Config::default() };
    let mut world = World::with(2, config);
    let expiry = [Property::SessionExpiryInterval(1000)];
    for what in ["a", "b"] {
        let name = world.name(1, what);
        let properties = Properties::list(&expiry);
        let client = world.connect_as(Connect { properties, ..hello(&name) });
        world.send(client, &[subscribe(&filter("#", Q1))]);
        world.settle();
        world.hang_up(client);
    }
    let publisher = world.connect(0, "p");
    let (owned, payload) = (world.topic(1, "owned"), "x".repeat(20 << 10));
    for n in 1..100 {
        let packets = match n % 3 {
            0 => [retained(&owned, &payload, Q1, n)],
            _ => [publish("t", &payload, Q1, n)],
        };
        world.send(publisher, &packets);
        world.settle();
        let used = world.shards[1].stats().used_bytes;
        assert!(used < budget + (64 << 10), "{used} bytes after {n} messages");
    }
    assert_eq!(world.answers(publisher).iter().filter(|name| **name == "PUBACK").count(), 99);
    let lost = |event: &Event| match event {
        Event::Dropped { why: DropReason::OutOfBudget, count, .. } => *count,
        _ => 0,
    };
    let lost: u32 = world.events.iter().map(lost).sum();
    let dropped = world.shards[1].stats().messages_dropped[DropReason::OutOfBudget as usize];
    assert_eq!(u64::from(lost), dropped);
    assert!(lost > 40, "{lost}");
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
    let bytes = world.shards[0].hand_over(world.now, wrong.conn).expect("it was asked for");
    assert!(world.shards[0].hand_over(world.now, wrong.conn).is_none(), "once");
    let right = world.open(1);
    world.send_bytes(right, &bytes);
    world.settle();
    assert_eq!(world.answers(right), ["CONNACK"]);
    assert_eq!(world.payloads(watcher), ["hi", "there"]);
    assert_eq!(world.shards.iter().map(|shard| shard.stats().connections).sum::<u64>(), 2);
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
