//! How often the broker allocates for a message it forwards, in steady state: not at all with up
//! to 128 bytes of topic and payload, however many subscribers it has; three times where the
//! payload is shared.

use fulmar_core::broker::{Config, ConnId};
use fulmar_core::{Qos, Version};
use fulmar_tests::micro;
use fulmar_tests::packet;
use fulmar_tests::shard::Shard;

const MESSAGES: u64 = 1_000;
/// So many messages fill the pools and bring every vector to its size.
const WARM_UP: u64 = 200;
const TOPIC: &str = "house/door";
/// With the topic as much as goes without an allocation.
const SMALL: usize = 128 - TOPIC.len();
/// Far above the size from which payloads are shared between subscribers.
const LARGE: usize = 16 * 1024;

/// A publisher and `subscribers` clients subscribed to its topic.
fn shard(version: Version, subscribers: u32) -> (Shard, ConnId) {
    let mut shard = Shard::new(Config::default());
    let publisher = shard.connect(version, "publisher");
    for number in 0..subscribers {
        let subscriber = shard.connect(version, &format!("subscriber {number}"));
        shard.receive(subscriber, &packet::subscribe(version, 1, "house/+", Qos::AtMostOnce));
    }
    (shard, publisher)
}

/// Allocations for `MESSAGES` QoS 0 messages, each of which reaches all subscribers.
fn allocations(version: Version, subscribers: u32, payload: usize) -> u64 {
    let (mut shard, publisher) = shard(version, subscribers);
    let message = packet::publish(version, TOPIC, &vec![7; payload], Qos::AtMostOnce, 0);
    let mut send = |count| {
        for _ in 0..count {
            shard.receive(publisher, &message);
        }
        shard.sent()
    };
    let before = send(WARM_UP);
    let mut after = 0;
    let counted = allocation_counter::measure(|| after = send(MESSAGES));
    // No properties are added to them, so that messages leave as long as they came.
    let copies = MESSAGES * u64::from(subscribers);
    assert_eq!(after - before, copies * message.len() as u64, "bytes sent to {subscribers}");
    counted.count_total
}

fn assert_at_most(per_message: u64, subscribers: u32, payload: usize) {
    for version in [Version::V31, Version::V311, Version::V5] {
        let count = allocations(version, subscribers, payload);
        let allowed = per_message * MESSAGES;
        assert!(
            count <= allowed,
            "{version:?}: {count} allocations for {MESSAGES} messages of {payload} bytes to \
             {subscribers} subscribers, {allowed} allowed"
        );
    }
}

#[test]
fn without_a_subscriber_nothing_is_allocated() {
    assert_at_most(0, 0, SMALL);
    assert_at_most(0, 0, LARGE);
}

#[test]
fn for_a_few_subscribers_nothing_is_allocated() {
    assert_at_most(0, 1, SMALL);
    assert_at_most(0, 8, SMALL);
}

#[test]
fn with_a_hundred_subscribers_it_is_no_more() {
    assert_at_most(0, 100, SMALL);
}

#[test]
fn with_a_shared_payload_a_message_costs_three_allocations_at_most() {
    assert_at_most(3, 1, LARGE);
    assert_at_most(3, 100, LARGE);
}

#[test]
fn an_acknowledged_message_allocates_nothing() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut shard = Shard::new(Config::default());
        let publisher = shard.connect(version, "publisher");
        let subscriber = shard.connect(version, "subscriber");
        shard.receive(subscriber, &packet::subscribe(version, 1, "house/#", Qos::AtLeastOnce));
        let message = packet::publish(version, TOPIC, &[7; SMALL], Qos::AtLeastOnce, 9);
        // Where the Packet Identifier stands: before payload and properties, of which are none.
        let id_at = message.len() - SMALL - 2 - usize::from(version == Version::V5);
        let mut send = |count| {
            for _ in 0..count {
                let mut id = None;
                shard.receive_with(publisher, &message, |conn, bytes| {
                    if conn == subscriber {
                        id = Some(u16::from_be_bytes([bytes[id_at], bytes[id_at + 1]]));
                    }
                });
                let id = id.expect("the message reaches the subscriber");
                shard.receive(subscriber, &packet::puback(id));
            }
            shard.sent()
        };
        let before = send(WARM_UP);
        let mut after = 0;
        let counted = allocation_counter::measure(|| after = send(MESSAGES));
        // PUBLISH to one, PUBACK to the other.
        assert_eq!(after - before, MESSAGES * (message.len() as u64 + 4), "{version:?}");
        let count = counted.count_total;
        assert_eq!(count, 0, "{version:?}");
    }
}

#[test]
fn pieces_of_work_allocate_no_more_than_their_budget() {
    let mut faults = Vec::new();
    for micro in micro::ALL {
        let mut work = (micro.prepare)();
        (0..WARM_UP).for_each(|_| work());
        let counted = allocation_counter::measure(|| (0..MESSAGES).for_each(|_| work()));
        let (count, allowed) = (counted.count_total, micro.allocations * MESSAGES);
        // A budget with room to spare would not see the next allocation.
        if count > allowed || count + MESSAGES <= allowed {
            faults.push(format!("{}: {count} in {MESSAGES} rounds, not {allowed}", micro.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
