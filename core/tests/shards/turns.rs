//! Who waits for other shards: all kinds take turns, who comes later goes later, and no call does
//! it all.

use fulmar_core::broker::{Command, Config, Effect, Event, Input, Publication};
use fulmar_core::codec::{Connect, ReasonCode};

use crate::world::{
    Client, Q0, Q1, World, filter, hello, publish, retained, subscribe, subscriber, will,
};

/// Bytes of a message of which a few use up what a link may hold.
const LARGE: usize = 60 << 10;
/// More than it takes to get through where each has its turn.
const ROUNDS: usize = 40;

/// Six shards, with a subscriber to everything on each.
fn six() -> (World, [Client; 6]) {
    let config = Config { shard_budget: 1 << 20, max_packet_size: 128 << 10, ..Config::default() };
    let mut world = World::with(6, config);
    let clients = [0, 1, 2, 3, 4, 5].map(|shard| subscriber(&mut world, shard, "s", "#", Q0));
    (world, clients)
}

/// Publishers that never stop, all to one topic with RETAIN.
struct Flood {
    topic: String,
    publishers: Vec<Client>,
}

impl Flood {
    fn new(world: &mut World, shards: &[usize], topic: String) -> Self {
        let names = shards.iter().flat_map(|shard| (0..8).map(move |n| (*shard, n)));
        let publishers = names.map(|(shard, n)| world.connect(shard, &format!("f{n} ")));
        Self { topic, publishers: publishers.collect() }
    }

    /// Each that is read publishes. From the topic's owner one message comes to each other shard,
    /// and all that these say comes to the owner.
    fn round(&self, world: &mut World) {
        let payload = "x".repeat(LARGE);
        for publisher in &self.publishers {
            if !world.paused.contains(publisher) {
                world.send(*publisher, &[retained(&self.topic, &payload, Q0, 0)]);
            }
        }
        let owner = usize::from(world.shards[0].place().owner(&self.topic));
        let (from, to): (Vec<_>, _) = world.busy().into_iter().partition(|link| link.0 == owner);
        for (from, to) in from {
            world.step(from, to);
        }
        for (from, to) in to {
            while world.step(from, to) {}
        }
    }

    /// Goes on until something has happened; gives the rounds that it took.
    fn until(&self, world: &mut World, mut happened: impl FnMut(&mut World) -> bool) -> usize {
        (0..ROUNDS)
            .find(|_| {
                self.round(world);
                happened(world)
            })
            .unwrap_or(ROUNDS)
    }
}

/// Five shards send the owner of a topic more with RETAIN than it can forward.
fn flooded() -> (World, Flood, [Client; 6]) {
    let (mut world, clients) = six();
    let topic = world.topic(0, "kept");
    let flood = Flood::new(&mut world, &[1, 2, 3, 4, 5], topic);
    for _ in 0..ROUNDS {
        flood.round(&mut world);
    }
    (world, flood, clients)
}

#[test]
fn a_publisher_at_an_owner_that_others_flood_has_its_turn() {
    let (mut world, flood, clients) = flooded();
    let near = world.connect(0, "near");
    for (n, retain) in [(1, true), (2, false), (3, true)] {
        let text = format!("mine {n}");
        let message = if retain { retained } else { publish };
        world.send(near, &[message(&flood.topic, &text, Q1, n)]);
        assert_eq!(world.paused.last(), Some(&near), "there is no credit");
        let rounds = flood.until(&mut world, |world| !world.paused.contains(&near));
        assert!(rounds < ROUNDS, "{text} waits as long as others send");
    }
    world.settle();
    for client in clients {
        let mut payloads = world.payloads(client);
        payloads.retain(|payload| payload.starts_with("mine"));
        assert_eq!(payloads, ["mine 1", "mine 2", "mine 3"]);
    }
}

#[test]
fn so_have_wills_and_the_program() {
    let (mut world, flood, _) = flooded();
    let name = world.name(0, "dies");
    let dying = world.connect_as(Connect { will: will("t", b"dead", false), ..hello(&name) });
    world.hang_up(dying);
    let payload = "news".into();
    let publication = Publication { topic: "t".into(), payload, ..Publication::default() };
    let token = world.command(0, Command::Publish(Box::new(publication)));
    let is_will = |event: &Event| matches!(event, Event::WillPublished { .. });
    let rounds = flood.until(&mut world, |world| world.events.iter().any(is_will));
    assert!(rounds < ROUNDS, "the will waits as long as others send");
    let rounds = flood.until(&mut world, |world| world.replies.contains_key(&token));
    assert!(rounds < ROUNDS, "the program waits as long as others send");
    world.settle();
}

/// The other way round: who floods is at the owner.
#[test]
fn so_has_what_other_shards_send_to_a_busy_owner() {
    let (mut world, _) = six();
    let topic = world.topic(0, "kept");
    let flood = Flood::new(&mut world, &[0], topic);
    for _ in 0..ROUNDS {
        flood.round(&mut world);
    }
    let far = world.connect(1, "far");
    world.answers(far);
    for n in 1..4 {
        world.send(far, &[retained(&flood.topic, "far", Q1, n)]);
        let rounds = flood.until(&mut world, |world| world.answers(far) == ["PUBACK"]);
        assert!(rounds < ROUNDS, "message {n} waits as long as others send");
    }
    world.settle();
}

/// Credit has come, and who waits for it has not been looked at yet.
#[test]
fn who_comes_later_takes_no_credit_before_those_who_wait() {
    let config = Config { shard_budget: 1 << 20, max_packet_size: 128 << 10, ..Config::default() };
    let mut world = World::with(2, config);
    let far = subscriber(&mut world, 1, "s", "#", Q0);
    let [first, second, third] = ["a", "b", "c"].map(|what| world.connect(0, what));
    world.settle();
    let text = |n: usize| format!("{n:<LARGE$}");
    let mut sent = 0;
    while world.paused.is_empty() {
        sent += 1;
        world.send(first, &[publish("t", &text(sent), Q0, 0)]);
    }
    world.send(second, &[publish("t", &text(sent + 1), Q0, 0)]);
    assert_eq!(world.paused, [first, second]);
    // One message is taken.
    assert!(world.step(0, 1));
    while let Some(msg) = world.links[1][0].pop_front() {
        world.shards[0].peer_message(world.now, 1, msg);
    }
    world.send(third, &[publish("t", &text(sent + 2), Q0, 0)]);
    assert_eq!(world.paused, [second, third], "the first waited longer");
    // Nor does it a second time, when it has more to say.
    assert!(world.step(0, 1));
    while let Some(msg) = world.links[1][0].pop_front() {
        world.shards[0].peer_message(world.now, 1, msg);
    }
    world.send(first, &[publish("t", &text(sent + 3), Q0, 0)]);
    assert_eq!(world.paused, [third, first]);
    world.settle();
    let order: Vec<usize> =
        world.payloads(far).iter().map(|text| text.trim_end().parse().expect("n")).collect();
    assert!(order.iter().copied().eq(1..=sent + 3), "{order:?}");
}

/// A client that waits is thrown out: it gets no turn, and the next one does.
#[test]
fn who_is_closed_waits_no_more() {
    let config = Config { shard_budget: 1 << 20, max_packet_size: 128 << 10, ..Config::default() };
    let mut world = World::with(2, config);
    let far = subscriber(&mut world, 1, "s", "#", Q0);
    let clients = ["a", "b", "c"].map(|what| world.connect(0, what));
    world.settle();
    let mut sent = 0;
    for client in clients {
        let before = world.paused.len();
        while world.paused.len() == before {
            sent += 1;
            world.send(client, &[publish("t", &format!("{sent:<LARGE$}"), Q0, 0)]);
        }
    }
    assert_eq!(world.paused, clients);
    let [first, second, third] = clients;
    let client_id = world.name(0, "a");
    let reason = ReasonCode::AdministrativeAction;
    world.command(0, Command::Disconnect { client_id, reason, end_session: false });
    assert_eq!(world.closed, [first]);
    world.hang_up(first);
    assert!(world.step(0, 1) && world.step(1, 0));
    assert_eq!(world.paused, [first, third], "the second has its turn: {second:?}");
    world.settle();
    let order: Vec<usize> =
        world.payloads(far).iter().map(|text| text.trim_end().parse().expect("n")).collect();
    // What the first one waited with is gone with it.
    assert!(order.iter().copied().eq((1..=sent).filter(|n| *n != sent - 2)), "{order:?}");
}

/// Hands over what shard 1 says to shard 0, and has that do all its work; gives for how many
/// connections each call had something.
fn calls(world: &mut World) -> Vec<usize> {
    let mut served = Vec::new();
    let mut count = |world: &mut World| {
        let effects = std::iter::from_fn(|| world.shards[0].poll_effect());
        served.push(effects.filter(|effect| matches!(effect, Effect::Transmit(_))).count());
    };
    while let Some(msg) = world.links[1][0].pop_front() {
        world.shards[0].peer_message(world.now, 1, msg);
        count(world);
    }
    while world.shards[0].poll_timeout().is_some_and(|at| at <= world.now) {
        world.shards[0].handle(world.now, Input::Timeout);
        count(world);
    }
    served
}

/// A shard full of clients subscribes to one filter before the other shard knows of it.
#[test]
fn gates_that_one_message_opens_open_some_in_each_call() {
    const CLIENTS: usize = 300;
    let mut world = World::new(2);
    let clients: Vec<Client> = (0..CLIENTS).map(|n| world.connect(0, &format!("c{n} "))).collect();
    for client in clients {
        world.send(client, &[subscribe(&filter("t/#", Q0))]);
    }
    while world.step(0, 1) {}
    let served = calls(&mut world);
    assert_eq!(served.iter().sum::<usize>(), CLIENTS, "each has its SUBACK");
    assert!(served.iter().all(|count| *count <= 64), "{served:?}");
    world.settle();
}

/// The same of all who are told that the other shard has their message.
#[test]
fn acknowledgements_that_one_message_frees_are_sent_some_in_each_call() {
    const CLIENTS: usize = 2_500;
    let mut world = World::new(2);
    subscriber(&mut world, 1, "s", "t", Q0);
    let clients: Vec<Client> = (0..CLIENTS).map(|n| world.connect(0, &format!("c{n} "))).collect();
    for client in clients {
        world.send(client, &[publish("t", "x", Q1, 1)]);
    }
    while let Some(msg) = world.links[0][1].pop_front() {
        world.shards[1].peer_message(world.now, 0, msg);
    }
    world.turn(1);
    let served = calls(&mut world);
    assert_eq!(served.iter().sum::<usize>(), CLIENTS, "each has its PUBACK");
    assert!(served.iter().all(|count| *count <= 1024), "{served:?}");
    world.settle();
}
