//! Small messages to one shard travel together.

use fulmar_core::broker::{Config, DropReason, Event, Input};
use fulmar_core::codec::{Connect, Packet, Qos};

use crate::world::{World, filter, hello, publish, subscribe, subscriber, will};

const Q0: Qos = Qos::AtMostOnce;
const Q1: Qos = Qos::AtLeastOnce;

/// How many messages of clients each thing on the link carries.
fn on_link(world: &World) -> Vec<usize> {
    let all = world.links[0][1].iter().map(|msg| msg.messages());
    all.filter(|messages| *messages > 0).collect()
}

#[test]
fn what_comes_in_one_go_travels_in_runs_and_keeps_its_order() {
    let mut world = World::new(2);
    let publisher = world.connect(0, "p");
    let [plain, wild] = [("s", "t", Q1), ("w", "+", Q0)]
        .map(|(name, text, qos)| subscriber(&mut world, 1, name, text, qos));
    let large = "x".repeat(1_000);
    let texts: Vec<String> = (1..=100).map(|n| format!("{n}")).collect();
    let mut packets: Vec<Packet<'_>> = Vec::new();
    for (text, at) in texts.iter().zip(1..) {
        packets.push(publish(
            "t",
            text,
            if at % 3 == 0 { Q1 } else { Q0 },
            at * u16::from(at % 3 == 0),
        ));
        if at == 10 {
            packets.push(publish("t", &large, Q0, 0));
        }
    }
    world.answers(publisher);
    world.send(publisher, &packets);
    assert_eq!(on_link(&world), [10, 1, 64, 26], "a large one is shared, not copied");
    assert_eq!(world.answers(publisher), [""; 0], "the other shard has not taken them");
    world.settle();
    assert_eq!(world.answers(publisher), ["PUBACK"; 33]);
    let mut expected = texts.clone();
    expected.insert(10, large.clone());
    let got = world.messages(plain);
    assert!(got.iter().map(|got| &got.payload).eq(&expected));
    assert_eq!(got.iter().filter(|got| got.qos == Q1).count(), 33);
    assert_eq!(world.payloads(wild), expected);
}

#[test]
fn topics_and_publishers_of_a_run_stay_with_their_messages() {
    let mut world = World::new(2);
    let publishers = ["p", "q"].map(|what| world.connect(0, what));
    let own = [("a", "A"), ("a", "B"), ("b", "C")];
    let all = subscriber(&mut world, 1, "s", "#", Q0);
    let packets = own.map(|(topic, text)| publish(topic, text, Q0, 0));
    for publisher in [publishers[0], publishers[1], publishers[0]] {
        world.send(publisher, &packets);
    }
    world.settle();
    let got = world.messages(all);
    let got: Vec<_> = got.iter().map(|got| (&*got.topic, &*got.payload)).collect();
    assert_eq!(got, [own, own, own].concat());
}

#[test]
fn a_long_delivery_within_a_run_holds_up_what_comes_behind_it() {
    let mut world = World::new(2);
    let publisher = world.connect(0, "p");
    let first = subscriber(&mut world, 1, "first", "t", Q0);
    for n in 0..4_096 {
        let client = world.connect(1, &format!("s{n} "));
        world.send(client, &[subscribe(&filter("t", Q0))]);
    }
    let last = subscriber(&mut world, 1, "last", "t", Q0);
    world.answers(publisher);
    let packets = [publish("t", "1", Q1, 1), publish("u", "-", Q1, 2), publish("t", "2", Q1, 3)];
    world.send(publisher, &packets);
    assert_eq!(world.answers(publisher), [""; 0], "nor is the second answered before the first");
    world.settle();
    assert_eq!(world.answers(publisher), ["PUBACK"; 3]);
    assert_eq!(
        (world.payloads(first), world.payloads(last)),
        (vec!["1".into(), "2".into()], vec!["1".into(), "2".into()])
    );
}

/// What is on the link reaches the other shard, which does nothing of its own accord.
fn hand_over(world: &mut World) {
    for msg in std::mem::take(&mut world.links[0][1]) {
        world.shards[1].peer_message(world.now, 0, msg);
    }
}

#[test]
fn a_long_delivery_outlives_its_publisher_and_keeps_its_place_before_later_runs() {
    let mut world = World::new(2);
    let first = subscriber(&mut world, 1, "first", "t", Q1);
    // What is left of the delivery goes back among the others that wait, twice.
    let mut many = Vec::new();
    for n in 0..2 * 4_096 {
        let client = world.connect(1, &format!("s{n} "));
        world.send(client, &[subscribe(&filter("t", Q0))]);
        many.push(client);
        // More than so many questions at once would stop them all.
        if n % 1_000 == 0 {
            world.settle();
        }
    }
    let last = subscriber(&mut world, 1, "last", "t", Q1);
    let name = world.name(0, "p");
    let connect = hello(&name);
    let publisher = world.connect_as(Connect { will: will("t", b"3", false), ..connect });
    world.send(publisher, &[publish("t", "1", Q1, 1)]);
    hand_over(&mut world);
    let under_way = |world: &World| world.shards[1].poll_timeout() == Some(world.now);
    assert!(under_way(&world));
    // The last subscriber takes the place of an early one, and is met early by what follows.
    for client in &many[..10] {
        world.shards[1].handle(world.now, Input::Closed { conn: client.conn });
    }
    world.send(publisher, &[publish("t", "2", Q0, 0)]);
    hand_over(&mut world);
    // Its session ends, with a will; then it is back, and another one speaks, too.
    world.hang_up(publisher);
    hand_over(&mut world);
    let again = world.connect_as(connect);
    world.send(again, &[publish("t", "4", Q1, 1)]);
    let other = world.connect(0, "other");
    world.send(other, &[publish("t", "of another", Q1, 1)]);
    world.answers(again);
    world.answers(other);
    hand_over(&mut world);
    assert!(under_way(&world));
    world.settle_between(1, 0);
    world.turn(1);
    world.settle();
    assert_eq!((world.answers(again), world.answers(other)), (vec!["PUBACK"], vec!["PUBACK"]));
    for client in [first, last] {
        let mut payloads = world.payloads(client);
        let at = payloads.iter().position(|payload| payload == "of another");
        payloads.remove(at.expect("nothing is lost"));
        assert_eq!(payloads, ["1", "2", "3", "4"]);
    }
}

#[test]
fn a_run_for_which_there_is_no_memory_is_told_as_lost_message_by_message() {
    let config = Config { shard_budget: 64 * 1024, ..Config::default() };
    let mut world = World::with(2, config);
    let publisher = world.connect(0, "p");
    let client = subscriber(&mut world, 1, "s", "t", Q1);
    world.silent.push(client);
    world.answers(publisher);
    // What waits for the silent client fills its shard.
    let text = "x".repeat(400);
    for round in 0..12 {
        let ids = round * 20 + 1..=round * 20 + 20;
        let packets: Vec<Packet<'_>> = ids.map(|at| publish("t", &text, Q1, at)).collect();
        world.send(publisher, &packets);
        world.settle();
    }
    let lost = |event: &Event| match event {
        Event::Dropped { why: DropReason::OutOfBudget, count, .. } => *count,
        _ => 0,
    };
    let lost: u64 = world.events.iter().map(lost).map(u64::from).sum();
    let waiting = world.shards[1].stats().queued;
    let flying = world.messages(client).len() as u64;
    assert!(lost > 0, "no memory for all");
    assert_eq!(lost + waiting + flying, 240, "each is delivered, waits, or is told as lost");
    assert_eq!(world.answers(publisher), ["PUBACK"; 240]);
}
