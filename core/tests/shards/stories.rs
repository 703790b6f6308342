//! One story for each rule.

use fulmar_core::codec::{Packet, Qos};

use crate::world::{World, filter, publish, subscribe};

const Q0: Qos = Qos::AtMostOnce;
const Q1: Qos = Qos::AtLeastOnce;

#[test]
fn a_message_published_after_suback_arrives_from_every_shard() {
    let mut world = World::new(3);
    let publishers = [0, 1, 2].map(|shard| world.connect(shard, "p"));
    let subscriber = world.connect(1, "s");
    world.settle();
    world.answers(subscriber);
    world.send(subscriber, &[subscribe(&filter("a/b", Q1))]);
    assert_eq!(world.answers(subscriber), [""; 0], "others do not know of it yet");
    world.settle_between(0, 1);
    assert_eq!(world.answers(subscriber), [""; 0], "one of them does not");
    world.settle();
    assert_eq!(world.answers(subscriber), ["SUBACK"]);
    for publisher in publishers {
        world.send(publisher, &[publish("a/b", "x", Q0, 0)]);
    }
    world.settle();
    assert_eq!(world.payloads(subscriber), ["x"; 3]);
    let _ = Packet::Pingreq;
}
