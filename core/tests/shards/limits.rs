//! What is bounded: credit, memory, and the questions of one packet.

use fulmar_core::broker::{Config, DropReason, Event};
use fulmar_core::codec::{
    Connect, Disconnect, Filters, Packet, Properties, Property, ReasonCode, Subscribe,
    SubscriptionOptions, Version,
};

use crate::world::{
    Client, Q0, Q1, World, filter, hello, id, publish, retained, subscribe, subscriber, unsubscribe,
};

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
fn who_publishes_to_a_shard_whose_memory_is_short_is_slowed_down() {
    let budget = 1 << 20;
    let mut world = World::with(2, Config { shard_budget: budget, ..Config::default() });
    let name = world.leave_session(1, "offline", "fill");
    let publisher = world.connect(0, "p");
    let payload = "x".repeat(10 << 10);
    let queued = |world: &World| world.shards[1].stats().queued;
    let fill = |world: &mut World| {
        while world.paused.is_empty() {
            world.send(publisher, &[publish("fill", &payload, Q1, 1)]);
            world.settle_between(0, 1);
        }
    };
    fill(&mut world);
    let used = world.shards[1].stats().used_bytes * 100 / budget;
    assert!((80..85).contains(&used), "{used} % are used");
    // Each tenth of a second some more, until nothing can be taken.
    for _ in 0..3 {
        let before = queued(&world);
        assert!(world.beat());
        world.settle_between(0, 1);
        fill(&mut world);
        let more = queued(&world) - before;
        assert!((1..=2).contains(&more), "{more} in one beat");
    }
    let lost = world.events.iter().any(|event| matches!(event, Event::Dropped { .. }));
    assert!(!lost, "{:?}", world.events);
    // When there is memory again nobody waits for it.
    let before = queued(&world);
    let client = world.connect_as(Connect { clean_start: true, ..hello(&name) });
    world.settle();
    assert_eq!((queued(&world), world.paused.len()), (0, 0), "{before} were queued");
    for _ in 0..20 {
        world.send(publisher, &[publish("fill", &payload, Q1, 1)]);
        world.settle_between(0, 1);
    }
    assert_eq!(world.paused, []);
    world.hang_up(client);
    world.settle();
}

/// A packet handed over, in memory of its own, and in memory of the shard's: each ends a session
/// that had used the memory up.
#[test]
fn others_hear_that_there_is_memory_again_however_the_packet_came() {
    let ways: [fn(&mut World, Client, &[u8]); 3] = [World::send_bytes, give, fill_in];
    for way in ways {
        let budget = 1 << 20;
        let mut world = World::with(2, Config { shard_budget: budget, ..Config::default() });
        let reader = subscriber(&mut world, 1, "s", "fill", Q1);
        world.silent.push(reader);
        let publisher = world.connect(0, "p");
        let payload = "x".repeat(10 << 10);
        while !world.paused.contains(&publisher) {
            world.send(publisher, &[publish("fill", &payload, Q1, 1)]);
            world.settle_between(0, 1);
        }
        let comment = "x".repeat(10 << 10);
        let properties = [Property::UserProperty("comment", &comment)];
        let properties = Properties::list(&properties);
        let mut bye = Vec::new();
        let packet = Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties });
        packet.append(Version::V5, &mut bye).expect("a packet that can be sent");
        way(&mut world, reader, &bye);
        world.settle_between(0, 1);
        assert!(!world.paused.contains(&publisher));
        world.settle();
    }
}

fn give(world: &mut World, client: Client, bytes: &[u8]) {
    let memory = bytes.to_vec();
    world.shards[client.shard].give(world.now, client.conn, memory).expect("it is adopted");
    world.turn(client.shard);
}

fn fill_in(world: &mut World, client: Client, bytes: &[u8]) {
    let (first, rest) = bytes.split_at(5 << 10);
    world.send_bytes(client, first);
    let shard = &mut world.shards[client.shard];
    shard.recv_buf(client.conn).expect("memory").extend_from_slice(rest);
    shard.filled(world.now, client.conn, rest.len());
    world.turn(client.shard);
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

/// A subscription has the answer of the topic's owner and waits for a third shard, when memory runs
/// out and the retained message changes.
#[test]
fn a_shard_without_memory_leaves_no_new_subscription_with_an_older_value() {
    let budget = 1 << 20;
    let mut world = World::with(3, Config { shard_budget: budget, ..Config::default() });
    world.leave_session(1, "offline", "fill");
    let topic = world.topic(0, "t");
    let owner = world.connect(0, "p");
    world.send(owner, &[retained(&topic, "1", Q1, 1)]);
    let filler = world.connect(1, "f");
    let client = world.connect(1, "s");
    world.settle();
    world.answers(client);
    world.send(client, &[subscribe(&filter("+", Q1))]);
    world.settle_between(0, 1);
    fill(&mut world, filler, budget);
    world.send(owner, &[retained(&topic, "2", Q1, 2)]);
    world.settle();
    assert_eq!(world.answers(client), ["SUBACK"]);
    assert_eq!(world.payloads(client).last().map(|last| &**last), Some("2"));
}

/// Until the second shard has no memory left.
fn fill(world: &mut World, filler: Client, budget: u64) {
    let payload = "x".repeat(20 << 10);
    while world.shards[1].stats().used_bytes <= budget / 100 * 95 {
        world.send(filler, &[publish("fill", &payload, Q1, 1)]);
        // Read again in the next tenth of a second.
        world.now = world.now.after_secs(1);
        world.turn(1);
    }
}

/// A message of a group comes from a shard whose member has left, late, when there is no memory for
/// it any more. It is of no concern to the subscription that waits.
#[test]
fn nor_does_the_copy_of_a_group_that_comes_late() {
    let budget = 1 << 20;
    let mut world = World::with(3, Config { shard_budget: budget, ..Config::default() });
    world.leave_session(1, "offline", "fill");
    let topic = world.topic(0, "t");
    let shared = format!("$share/g/{topic}");
    let near = subscriber(&mut world, 1, "m", &shared, Q1);
    let leaves = subscriber(&mut world, 2, "m", &shared, Q1);
    let [owner, filler, client] = [(0, "p"), (1, "f"), (1, "s")].map(|(n, s)| world.connect(n, s));
    world.settle();
    // The members have their turns.
    while world.busy() != [(0, 2)] {
        world.settle();
        world.send(owner, &[retained(&topic, "1", Q1, 1)]);
    }
    world.send(leaves, &[unsubscribe(&[&shared])]);
    world.send(client, &[subscribe(&filter("+", Q1))]);
    // Its shard answers and passes on in one turn, before it says what it has confirmed.
    while let Some(msg) = world.links[1][2].pop_front() {
        world.shards[2].peer_message(world.now, 1, msg);
    }
    while world.step(0, 2) {}
    while world.step(1, 0) {}
    world.send(owner, &[retained(&topic, "2", Q1, 2)]);
    while world.step(0, 1) {}
    fill(&mut world, filler, budget);
    world.settle();
    assert_eq!(world.payloads(client).last().map(|last| &**last), Some("2"));
    world.hang_up(near);
    world.settle();
}

#[test]
fn an_owner_without_memory_keeps_no_value_that_is_no_longer_true() {
    let budget = 1 << 20;
    let mut world = World::with(2, Config { shard_budget: budget, ..Config::default() });
    let name = world.leave_session(1, "offline", "fill");
    let topic = world.topic(1, "t");
    let [publisher, filler] = [(0, "p"), (1, "f")].map(|(shard, what)| world.connect(shard, what));
    world.send(publisher, &[retained(&topic, "on", Q1, 1)]);
    world.settle();
    fill(&mut world, filler, budget);
    world.send(publisher, &[retained(&topic, "off", Q1, 2)]);
    world.settle();
    let lost = DropReason::OutOfBudget as usize;
    assert_eq!(world.shards[1].stats().messages_dropped[lost], 1);
    world.connect_as(Connect { clean_start: true, ..hello(&name) });
    let late = subscriber(&mut world, 0, "s", &topic, Q1);
    assert_eq!(world.payloads(late), [""; 0]);
}

/// Each list of receivers is larger than the message a hundred times: without a bound those of the
/// first few take all memory of the shard, and what comes after is lost.
#[test]
fn what_goes_to_thousands_is_taken_from_another_shard_as_it_can_be_handed_out() {
    let budget = 8 << 20;
    let config = Config { shard_budget: budget, max_msg_queue: 100, ..Config::default() };
    let mut world = World::with(2, config);
    let name = |world: &World, n| world.name(1, &format!("{n}/"));
    let clients: Vec<Client> =
        (0..4_200).map(|n| world.connect_as(hello(&name(&world, n)))).collect();
    for client in &clients {
        world.send(*client, &[subscribe(&filter("t", Q0))]);
    }
    world.settle();
    let reader = subscriber(&mut world, 1, "r", "own", Q0);
    let [publisher, other] = ["p", "o"].map(|what| world.connect(0, what));
    let payloads: Vec<String> = (0..150).map(|n| n.to_string()).collect();
    let packets: Vec<_> = payloads.iter().map(|payload| publish("t", payload, Q0, 0)).collect();
    world.send(publisher, &packets);
    // What comes behind them, from somebody else, for one that reads does not overflow its queue.
    let behind: Vec<_> = (0..1_000).map(|_| publish("own", "x", Q0, 0)).collect();
    world.send(other, &behind);
    while let Some(msg) = world.links[0][1].pop_front() {
        world.shards[1].peer_message(world.now, 0, msg);
    }
    world.turn(1);
    world.settle();
    assert_eq!(world.payloads(reader).len(), 1_000);
    for client in clients {
        assert_eq!(world.payloads(client), payloads);
    }
}

#[test]
fn a_shard_without_memory_takes_no_message_of_another_and_says_who_lost_it() {
    let budget = 1 << 20;
    let config = Config { shard_budget: budget, ..Config::default() };
    let mut world = World::with(2, config);
    for what in ["a", "b"] {
        world.leave_session(1, what, "#");
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

/// What is retained elsewhere comes as copies of its own for each subscription.
#[test]
fn retained_messages_of_another_shard_are_taken_only_while_there_is_memory() {
    let budget = 1 << 20;
    let mut world = World::with(2, Config { shard_budget: budget, ..Config::default() });
    let (owner, payload) = (world.connect(0, "p"), "x".repeat(10 << 10));
    for n in 0..30 {
        let topic = world.topic(0, &format!("r/{n}/"));
        world.send(owner, &[retained(&topic, &payload, Q1, 1)]);
    }
    let readers: Vec<Client> = (0..20).map(|n| world.connect(1, &format!("s{n}/"))).collect();
    world.settle();
    for reader in &readers {
        // It acknowledges nothing, so that what it got is kept for it.
        world.silent.push(*reader);
        world.send(*reader, &[subscribe(&filter("r/#", Q1))]);
    }
    while !world.busy().is_empty() {
        for (from, to) in world.busy() {
            world.step(from, to);
        }
        let used = world.shards[1].stats().used_bytes;
        assert!(used < budget, "{used} bytes are used");
    }
    world.settle();
    let got: usize = readers.iter().map(|reader| world.payloads(*reader).len()).sum();
    let lost = world.shards[1].stats().messages_dropped[DropReason::OutOfBudget as usize];
    let waiting = world.shards[1].stats().queued;
    assert!(got > 80, "{got} of them");
    assert_eq!(got as u64 + waiting + lost, 20 * 30, "each comes, waits, or is told as lost");
}
