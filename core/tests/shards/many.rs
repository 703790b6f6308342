//! Thousands of filters in one packet.

use fulmar_core::codec::{
    Filters, Packet, Properties, Qos, Subscribe, SubscriptionOptions, TopicFilters, Unsubscribe,
    Version,
};

use crate::world::{Client, World, id, publish, retained, subscriber};

const SHARDS: u16 = 8;
const FILTERS: usize = 2_000;
/// Few enough that the next packet is read before they stand.
const GIVEN_UP: usize = 100;
const Q0: Qos = Qos::AtMostOnce;
const Q1: Qos = Qos::AtLeastOnce;

/// Subscribes to all of them with one packet.
fn subscribe(world: &mut World, client: Client, filters: &[String]) {
    world.send_bytes(client, &one_packet(filters));
}

fn one_packet(filters: &[String]) -> Vec<u8> {
    let options = SubscriptionOptions { qos: Q1, ..SubscriptionOptions::default() };
    let list: Vec<_> = filters.iter().map(|filter| (&**filter, options)).collect();
    let (packet_id, properties) = (id(1), Properties::EMPTY);
    let filters = Filters::list(&list);
    let packet = Packet::Subscribe(Subscribe { packet_id, properties, filters });
    let mut bytes = Vec::new();
    packet.append(Version::V5, &mut bytes).expect("a packet that can be sent");
    // Memory of just its size, for who gives that.
    bytes.shrink_to_fit();
    bytes
}

/// Each owner is asked for each filter, and all the answers find their way.
#[test]
fn many_filters_in_one_packet_give_each_retained_message_once() {
    let mut world = World::new(SHARDS);
    let publisher = world.connect(3, "p");
    let mut topics: Vec<String> =
        (0..FILTERS).flat_map(|n| ["a", "b"].map(|end| format!("room/{n:04}/{end}"))).collect();
    for topic in &topics {
        world.send(publisher, &[retained(topic, topic, Q0, 0)]);
    }
    world.settle();
    topics.sort();
    let filters: Vec<String> = (0..FILTERS).map(|n| format!("room/{n:04}/+")).collect();
    let client = world.connect(0, "s");
    world.answers(client);
    // It is new first, and replaced then.
    for round in ["new", "replaced"] {
        subscribe(&mut world, client, &filters);
        world.settle();
        assert_eq!(world.answers(client), ["SUBACK"], "{round}");
        let mut payloads = world.payloads(client);
        payloads.sort();
        assert_eq!(payloads, topics, "{round}");
    }
}

/// While other shards have not confirmed what one client subscribed to, nobody's next SUBSCRIBE is
/// read, its own neither; everything else is.
#[test]
fn a_client_that_subscribes_to_thousands_holds_up_no_publisher() {
    let mut world = World::new(2);
    let near = subscriber(&mut world, 0, "near", "t", Q0);
    let publisher = world.connect(0, "p");
    let client = world.connect(0, "s");
    for client in [publisher, client] {
        world.answers(client);
    }
    let filters: Vec<String> = (0..FILTERS).map(|n| format!("room/{n:04}/+")).collect();
    subscribe(&mut world, client, &filters);
    world.send(publisher, &[publish("t", "1", Q0, 0), Packet::Pingreq]);
    assert_eq!(world.payloads(near), ["1"]);
    assert_eq!(world.answers(publisher), ["other"], "PINGRESP");
    assert_eq!(world.paused, []);
    for client in [client, publisher] {
        world.send(client, &[Packet::Pingreq]);
        subscribe(&mut world, client, &filters[..1]);
        assert_eq!(world.answers(client), ["other"]);
    }
    assert_eq!(world.paused, [client, publisher]);
    world.settle();
    assert_eq!(
        (world.answers(client), world.answers(publisher)),
        (vec!["SUBACK"; 2], vec!["SUBACK"])
    );
    assert_eq!(world.paused, []);
}

/// A large SUBSCRIBE in memory of the driver's waits as any other: it is not taken in that memory.
#[test]
fn a_subscribe_in_memory_of_its_size_waits_as_well() {
    let mut world = World::new(2);
    let [first, second] = ["1", "2"].map(|name| {
        let client = world.connect(0, name);
        world.answers(client);
        client
    });
    let filters: Vec<String> = (0..FILTERS).map(|n| format!("room/{n:04}/+")).collect();
    subscribe(&mut world, first, &filters);
    let packet = one_packet(&filters);
    let memory = world.shards[0].give(world.now, second.conn, packet.clone());
    assert!(memory == Err(packet.clone()), "it comes back as it was");
    world.send_bytes(second, &packet);
    assert_eq!(world.paused, [second]);
    world.settle();
    assert_eq!([first, second].map(|client| world.answers(client)), [["SUBACK"], ["SUBACK"]]);
    assert_eq!(world.paused, []);
    // Where nothing waits, it is taken.
    assert_eq!(world.shards[0].give(world.now, second.conn, packet), Ok(()));
    world.turn(0);
    world.settle();
    assert_eq!(world.answers(second), ["SUBACK"]);
}

/// What the others are told of at once is bounded, also where a client with thousands of filters
/// goes; and all of it is charged until they have confirmed it.
#[test]
fn thousands_of_filters_are_withdrawn_as_others_confirm() {
    const WINDOW: usize = 1024;
    let mut world = World::new(2);
    let publisher = world.connect(1, "p");
    let used = |world: &World| world.shards.iter().map(|s| s.stats().used_bytes).sum::<u64>();
    let client = world.connect(0, "s");
    world.settle();
    let before = used(&world);
    let filters: Vec<String> = (0..FILTERS).map(|n| format!("room/{n:04}/+")).collect();
    subscribe(&mut world, client, &filters);
    let waiting = used(&world);
    world.settle();
    let subscribed = used(&world);
    assert!(waiting - subscribed > FILTERS as u64 * 500, "gates, questions, what is told");
    world.hang_up(client);
    assert_eq!(world.links[0][1].len(), WINDOW / 2, "half of the window, and nothing else");
    while world.step(0, 1) {
        assert!(world.links[0][1].len() <= WINDOW / 2);
        while world.step(1, 0) {}
    }
    world.settle();
    // The last ones may be wanted again, and tables keep their room.
    assert!(used(&world) - before < (subscribed - before) / 4);
    for topic in ["room/0000/a", "room/1999/a"] {
        world.send(publisher, &[publish(topic, "nobody", Q1, 1)]);
    }
    world.settle();
    assert_eq!(world.answers(publisher), ["CONNACK", "PUBACK", "PUBACK"]);
}

/// A session that drains slowly asks for as much as it has room for, and not for all the rest each
/// time.
#[test]
fn retained_messages_cross_once_however_slowly_a_client_takes_them() {
    let mut world = World::new(2);
    let publisher = world.connect(1, "p");
    let topics: Vec<String> = (0..1_000).map(|n| format!("room/{n:04}/a")).collect();
    for topic in &topics {
        world.send(publisher, &[retained(topic, topic, Q1, 1)]);
    }
    world.settle();
    let client = world.connect(0, "s");
    world.answers(client);
    world.silent.push(client);
    let filters: Vec<String> = (0..1_000).map(|n| format!("room/{n:04}/+")).collect();
    subscribe(&mut world, client, &filters);
    world.settle();
    world.crossed = 0;
    let mut payloads = world.payloads(client);
    while world.acknowledge(client) {
        world.settle();
        payloads.extend(world.payloads(client));
    }
    payloads.sort();
    assert_eq!(payloads, topics);
    // It is 129 bytes for each; asked for again each time, it was 1,151.
    assert!(world.crossed < 250 * 1_000, "{} bytes crossed", world.crossed);
}

/// What is asked for and given up in one breath: nothing of it is left, or comes.
#[test]
fn filters_that_are_given_up_before_they_stand_leave_nothing_behind() {
    let mut world = World::new(SHARDS);
    let publisher = world.connect(3, "p");
    let topics: Vec<String> = (0..GIVEN_UP).map(|n| format!("room/{n:03}/a")).collect();
    for topic in &topics {
        world.send(publisher, &[retained(topic, topic, Q0, 0)]);
    }
    world.settle();
    let client = world.connect(0, "s");
    world.answers(client);
    let filters: Vec<String> = (0..GIVEN_UP).map(|n| format!("room/{n:03}/+")).collect();
    subscribe(&mut world, client, &filters);
    let list: Vec<&str> = filters[GIVEN_UP / 2..].iter().map(|filter| &**filter).collect();
    let (packet_id, properties) = (id(2), Properties::EMPTY);
    let gone = TopicFilters::list(&list);
    world
        .send(client, &[Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: gone })]);
    world.settle();
    assert_eq!(world.answers(client), ["SUBACK", "UNSUBACK"]);
    let mut payloads = world.payloads(client);
    payloads.sort();
    assert_eq!(payloads, topics[..GIVEN_UP / 2]);
}
