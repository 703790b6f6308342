//! What comes late from one shard, while another is quick.

use fulmar_core::codec::Qos;

use crate::world::{World, filter, retained, subscribe};

const Q0: Qos = Qos::AtMostOnce;

/// The owner of a topic answers at once, another one late; a newer value comes between. The client,
/// who had the subscription already, must not be told the older one last.
#[test]
fn who_subscribes_again_does_not_end_with_an_older_value() {
    let mut world = World::new(3);
    let topic = world.topic(1, "t/");
    let publisher = world.connect(1, "p");
    let client = world.connect(0, "s");
    world.send(client, &[subscribe(&filter("t/+", Q0))]);
    world.settle();
    world.send(publisher, &[retained(&topic, "old", Q0, 0)]);
    world.settle();
    assert_eq!(world.payloads(client), ["old"]);
    world.answers(client);
    world.send(client, &[subscribe(&filter("t/+", Q0))]);
    world.settle_between(0, 1);
    assert_eq!(world.payloads(client), ["old"], "one owner's answer waits for no other");
    world.send(publisher, &[retained(&topic, "new", Q0, 0)]);
    world.settle_between(0, 1);
    assert_eq!(world.payloads(client), ["new"]);
    assert_eq!(world.answers(client), [""; 0], "another owner has not answered");
    world.settle();
    assert_eq!(world.answers(client), ["SUBACK"]);
    assert_eq!(world.payloads(client), [""; 0], "nothing older comes behind it");
}
