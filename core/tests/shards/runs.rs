//! Small messages to one shard travel together.

use fulmar_core::broker::{Config, DropReason, Event};
use fulmar_core::codec::{Packet, Qos};

use crate::world::{Client, World, filter, publish, subscribe};

const Q0: Qos = Qos::AtMostOnce;
const Q1: Qos = Qos::AtLeastOnce;

fn subscriber(world: &mut World, what: &str, text: &str, qos: Qos) -> Client {
    let client = world.connect(1, what);
    world.send(client, &[subscribe(&filter(text, qos))]);
    world.settle();
    world.answers(client);
    client
}

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
        .map(|(name, text, qos)| subscriber(&mut world, name, text, qos));
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
    let all = subscriber(&mut world, "s", "#", Q0);
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
    let first = subscriber(&mut world, "first", "t", Q0);
    for n in 0..4_096 {
        let client = world.connect(1, &format!("s{n} "));
        world.send(client, &[subscribe(&filter("t", Q0))]);
    }
    let last = subscriber(&mut world, "last", "t", Q0);
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

#[test]
fn a_run_for_which_there_is_no_memory_is_told_as_lost_message_by_message() {
    let config = Config { shard_budget: 64 * 1024, ..Config::default() };
    let mut world = World::with(2, config);
    let publisher = world.connect(0, "p");
    let client = subscriber(&mut world, "s", "t", Q1);
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
