//! Shared groups with members on several shards.

use fulmar_core::broker::{Config, DropReason, Event};

use crate::world::{Q1, Q2, World, filter, publish, subscribe, subscriber, unsubscribe};

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
    members_leave(&mut world, |_| {});
}

#[test]
fn one_without_memory_passes_it_on_too() {
    let budget = 1 << 20;
    let mut world = World::with(3, Config { shard_budget: budget, ..Config::default() });
    world.leave_session(1, "offline", "fill");
    let filler = world.connect(1, "filler");
    let payload = "x".repeat(20 << 10);
    members_leave(&mut world, |world| {
        while world.shards[1].stats().used_bytes <= budget / 100 * 95 {
            world.send(filler, &[publish("fill", &payload, Q1, 1)]);
            // Read again in the next tenth of a second.
            world.now = world.now.after_secs(1);
            world.turn(1);
        }
    });
}

/// A message is on its way to the only member of a group. It leaves, and another one comes
/// elsewhere, before the message is there; `meanwhile` its shard does something else.
fn members_leave(world: &mut World, meanwhile: impl FnOnce(&mut World)) {
    let group = "$share/g/jobs";
    let publisher = world.connect(0, "p");
    let leaving = subscriber(world, 1, "leaving", group, Q1);
    world.answers(publisher);
    world.send(publisher, &[publish("jobs", "1", Q1, 1)]);
    meanwhile(world);
    world.send(leaving, &[unsubscribe(&[group])]);
    let staying = world.connect(2, "staying");
    world.send(staying, &[subscribe(&filter(group, Q1))]);
    world.settle_between(2, 1);
    world.settle();
    assert_eq!(world.payloads(leaving), [""; 0]);
    assert_eq!(world.payloads(staying), ["1"]);
    assert_eq!(world.answers(publisher), ["PUBACK"]);
}

/// Three shards have sent as much as they may to the only member of a group, which has left when it
/// comes. All of it goes on over one link, which has room for twice its credit.
#[test]
fn copies_that_cannot_be_passed_on_are_told_as_lost_by_their_group() {
    let config = Config { shard_budget: 1 << 20, ..Config::default() };
    let mut world = World::with(5, config);
    let group = "$share/g/jobs";
    let publishers = [0, 3, 4].map(|shard| world.connect(shard, "p"));
    let leaving = subscriber(&mut world, 1, "leaving", group, Q1);
    let payload = "x".repeat(60 << 10);
    for publisher in publishers {
        let packets = [1, 2].map(|at| publish("jobs", &payload, Q1, at));
        world.send(publisher, &packets);
    }
    world.send(leaving, &[unsubscribe(&[group])]);
    let staying = world.connect(2, "staying");
    world.send(staying, &[subscribe(&filter(group, Q1))]);
    world.settle_between(2, 1);
    for from in [0, 3, 4] {
        while world.step(from, 1) {}
    }
    world.settle();
    let lost = |event: &Event| match event {
        Event::Dropped { client_id, why: DropReason::OutOfBudget, count, .. } => {
            assert_eq!(&**client_id, group, "no publisher, whose message may have reached others");
            *count as usize
        }
        _ => 0,
    };
    let lost: usize = world.events.iter().map(lost).sum();
    assert!((1..3).contains(&lost), "{lost} of 6");
    assert_eq!(world.payloads(staying).len() + lost, 6);
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
