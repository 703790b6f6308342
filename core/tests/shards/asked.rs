//! What one packet may ask of other shards.

use std::collections::BTreeMap;

use fulmar_core::broker::Event;
use fulmar_core::codec::{Filters, Packet, Properties, Subscribe, SubscriptionOptions};

use crate::world::{Client, Q0, World, id, retained};

const SHARDS: usize = 3;
/// A level for each bit.
const LEVELS: usize = 9;
const FILTERS: usize = 1 << LEVELS;
/// Retained messages of each shard, fewer than one answer may bring.
const STORED: usize = 8;
const PAYLOAD: usize = 1024;

fn payload(letter: &str) -> String {
    letter.repeat(PAYLOAD)
}

/// One packet with all filters of these levels, each of which is `a` or `+`.
fn subscribe_to_all(world: &mut World, client: Client) {
    let level = |number: usize, bit: usize| if number >> bit & 1 == 1 { "+/" } else { "a/" };
    let filter = |number| (0..LEVELS).map(|bit| level(number, bit)).collect::<String>() + "+";
    let filters: Vec<String> = (0..FILTERS).map(filter).collect();
    let options = SubscriptionOptions { qos: Q0, ..SubscriptionOptions::default() };
    let list: Vec<_> = filters.iter().map(|filter| (&**filter, options)).collect();
    let (packet_id, properties) = (id(1), Properties::EMPTY);
    let filters = Filters::list(&list);
    world.send(client, &[Packet::Subscribe(Subscribe { packet_id, properties, filters })]);
}

/// How many things are under way on all links, and their bytes.
fn under_way(world: &World) -> (usize, usize) {
    let mut bytes = Vec::new();
    let messages = world.links.iter().flatten().flatten();
    (messages.inspect(|msg| msg.encode(&mut bytes)).count(), bytes.len())
}

/// Each filter asks each owner, all at once: but for a few of them the owners only say whether
/// there is something, which then comes as there is room for it. [MQTT-3.3.1-9]
#[test]
fn filters_that_match_the_same_topics_do_not_bring_them_all_at_once() {
    let mut world = World::new(SHARDS as u16);
    let publisher = world.connect(1, "p");
    let name = |n: usize| "a/".repeat(LEVELS) + &format!("t{n}-");
    let topics: Vec<String> =
        (0..SHARDS * STORED).map(|n| world.topic(n % SHARDS, &name(n))).collect();
    let (old, new) = (payload("o"), payload("n"));
    for topic in &topics {
        world.send(publisher, &[retained(topic, &old, Q0, 0)]);
    }
    let client = world.connect(0, "s");
    world.settle();
    world.answers(client);
    subscribe_to_all(&mut world, client);
    let (mut most, mut most_bytes) = under_way(&world);
    assert!(most >= 2 * FILTERS, "each owner is asked for each filter");
    // All questions are answered; behind the answers a newer value is on its way.
    while world.step(0, 1) || world.step(0, 2) {}
    let changed = &topics[1];
    world.send(publisher, &[retained(changed, &new, Q0, 0)]);
    while !world.busy().is_empty() {
        let (messages, bytes) = under_way(&world);
        (most, most_bytes) = (most.max(messages), most_bytes.max(bytes));
        for (from, to) in world.busy() {
            world.step(from, to);
        }
    }
    world.settle();
    // An announcement and a question for each filter and shard, or an answer; and beside these the
    // retained messages of eight filters. It was 9 MiB when each answer brought all.
    let some = 8 * (SHARDS - 1) * STORED;
    assert!(most <= 2 * FILTERS * (SHARDS - 1) + some, "{most} things at once");
    assert!(most_bytes <= most * 64 + 2 * some * PAYLOAD, "{most_bytes} bytes at once");
    // Each crosses once for each filter.
    let all = FILTERS * (SHARDS - 1) * STORED;
    assert!(world.crossed as usize <= all * (PAYLOAD + 256), "{} bytes in all", world.crossed);
    assert_eq!(world.answers(client), ["SUBACK"]);
    let mut came = BTreeMap::<_, Vec<String>>::new();
    for got in world.messages(client) {
        came.entry(got.topic).or_default().push(got.payload);
    }
    for topic in &topics {
        let came = came.remove(topic).unwrap_or_default();
        if topic == changed {
            let newer = came.iter().skip_while(|payload| **payload == old);
            assert!(newer.clone().count() > 0, "the newer value is lost");
            assert!(newer.into_iter().all(|payload| *payload == new), "an older value at last");
        } else {
            assert_eq!(came, vec![old.clone(); FILTERS], "{topic}: once for each subscription");
        }
    }
    let lost = world.events.iter().any(|event| matches!(event, Event::Dropped { .. }));
    assert!(!lost, "{:?}", world.events);
}
