//! Publishers that wait for other shards: each is looked at when what it waits for has come.

use fulmar_core::broker::{Config, Input};

use crate::world::{Client, Q0, Q1, World, publish, retained, subscriber};

/// Whether a shard has work to do without anything else coming.
fn has_work(world: &World, shard: usize) -> bool {
    world.shards[shard].poll_timeout().is_some_and(|at| at <= world.now)
}

/// Hands the messages of a link over without a turn of the shard they are for.
fn hand_over(world: &mut World, from: usize, to: usize) {
    while let Some(msg) = world.links[from][to].pop_front() {
        world.shards[to].peer_message(world.now, from as u16, msg);
    }
}

#[test]
fn a_shard_that_says_how_far_it_is_wakes_nobody_who_waits_for_another_one() {
    let mut world = World::new(3);
    let watchers = [1, 2].map(|shard| subscriber(&mut world, shard, "s", "seen", Q1));
    let topic = world.topic(1, "kept");
    let [waiting, other] = ["waiting", "other"].map(|what| world.connect(0, what));
    world.send(waiting, &[retained(&topic, "1", Q1, 1), publish("seen", "2", Q1, 2)]);
    assert_eq!(world.paused, [waiting], "until shard 1 has the first");
    world.send(other, &[publish("seen", "3", Q1, 1)]);
    while world.step(0, 2) {}
    assert!(!world.links[2][0].is_empty(), "shard 2 says that it has taken it");
    hand_over(&mut world, 2, 0);
    assert!(!has_work(&world, 0), "nobody can go on");
    world.turn(0);
    assert_eq!(world.paused, [waiting]);
    // The shard that it waits for.
    while world.step(0, 1) {}
    hand_over(&mut world, 1, 0);
    assert!(has_work(&world, 0));
    world.turn(0);
    assert_eq!(world.paused, []);
    world.settle();
    for watcher in watchers {
        assert_eq!(world.payloads(watcher), ["3", "2"]);
    }
}

/// A few messages of 60 KiB use up what a link may hold. Each time one is taken the next goes on.
#[test]
fn who_waits_for_credit_goes_on_in_the_order_of_coming() {
    const PUBLISHERS: usize = 11;
    let config = Config { shard_budget: 1 << 20, max_packet_size: 128 << 10, ..Config::default() };
    let mut world = World::with(2, config);
    let far = subscriber(&mut world, 1, "s", "#", Q0);
    let publishers: Vec<Client> =
        (0..PUBLISHERS).map(|n| world.connect(0, &format!("p{n} "))).collect();
    world.settle();
    for (n, publisher) in publishers.iter().enumerate() {
        world.send(*publisher, &[publish("t", &format!("{n:<61440}"), Q0, 0)]);
    }
    assert_eq!(world.paused, publishers[5..]);
    let waiting = |world: &World| world.shards[0].stats().waiting;
    assert_eq!(waiting(&world), PUBLISHERS as u64 - 5);
    let mut got = Vec::new();
    for left in (0..PUBLISHERS - 5).rev() {
        // One message is taken.
        assert!(world.step(0, 1));
        got.extend(world.payloads(far));
        hand_over(&mut world, 1, 0);
        while has_work(&world, 0) {
            world.shards[0].handle(world.now, Input::Timeout);
        }
        world.turn(0);
        assert_eq!(world.paused, publishers[PUBLISHERS - left..], "only the first went on");
        assert_eq!(waiting(&world), left as u64, "in the figures, too");
    }
    world.settle();
    got.extend(world.payloads(far));
    let order: Vec<usize> = got.iter().map(|text| text.trim_end().parse().expect("n")).collect();
    assert!(order.iter().copied().eq(0..PUBLISHERS), "{order:?}");
}
