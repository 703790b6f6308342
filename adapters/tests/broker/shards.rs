//! A broker with several shards: one for its clients and for its program.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::mpsc::channel;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use fulmar_adapters::broker::{
    self as server, BindError, Config, HandleError, Options, Qos, ReasonCode, Server, Stats,
};
use fulmar_core::broker::SERIAL_BITS;
use smol::block_on;

use super::message;
use super::running::Running;
use super::wire::{Wire, connect, connect_with_user_property, packet, publish};

const CLIENTS: usize = 24;

fn options() -> Options {
    Options { shards: 4, ..Options::default() }
}

/// Clients on all shards, with a subscription each.
fn subscribers(broker: &Running, filter: &str) -> Vec<Wire> {
    let subscriber = |n| {
        let mut client = Wire::connect(broker.address, 4, &format!("client {n}"));
        client.subscribe(filter);
        client
    };
    (0..CLIENTS).map(subscriber).collect()
}

#[test]
fn every_client_reaches_every_other_one_and_the_program() {
    let broker = Running::start(options());
    let mut clients = subscribers(&broker, "t/+");
    block_on(async {
        let mut all = broker.handle.subscribe(&[("t/#", Qos::AtLeastOnce)], 1_000).await?;
        for n in 0..CLIENTS {
            let text = format!("t/{n}");
            clients[n].send(&publish(&text, b"x"));
            for client in &mut clients {
                let (_, body) = client.packet();
                assert_eq!(&body[2..2 + text.len()], text.as_bytes());
            }
            assert_eq!(all.next().await.expect("the broker runs").topic, text);
        }
        broker.handle.publish(message("t/program", "y")).await?;
        for client in &mut clients {
            assert!(client.packet().1.ends_with(b"t/programy"));
        }
        // Each message goes once to each other shard that has a subscriber.
        let homes: Vec<u16> =
            (0..CLIENTS).map(|n| broker.handle.home(&format!("client {n}"))).collect();
        let shards: BTreeSet<u16> = homes.iter().copied().chain([0]).collect();
        let from_clients = CLIENTS * (shards.len() - 1);
        let from_program = shards.len() - 1;
        let stats = broker.handle.stats().await?;
        assert_eq!(stats.crossed, (from_clients + from_program) as u64, "{homes:?}");
        assert_eq!((stats.handed_over, stats.core.waiting), (0, 0));
        Ok::<(), HandleError>(())
    })
    .expect("the broker runs");
    broker.abort();
}

#[test]
fn the_thread_of_each_shard_is_prepared_before_it_serves() {
    let (prepared, told) = channel();
    let prepare = Box::new(move |shard| {
        let _ = prepared.send((shard, thread::current().id()));
    });
    let broker = Running::start(Options { prepare, ..options() });
    // Each shard tells its part itself.
    block_on(broker.handle.stats()).expect("the broker runs");
    let told: HashMap<u16, ThreadId> = told.try_iter().collect();
    let mut shards: Vec<u16> = told.keys().copied().collect();
    shards.sort_unstable();
    assert_eq!(shards, [0, 1, 2, 3]);
    assert_eq!(told[&0], broker.thread.thread().id());
    assert_eq!(told.values().collect::<HashSet<_>>().len(), 4);
    broker.abort();
}

#[test]
fn a_panic_in_preparing_a_thread_ends_the_broker() {
    let prepare = Box::new(|shard| assert_ne!(shard, 2, "as the test wants"));
    let broker = Running::start(Options { prepare, ..options() });
    assert!(broker.thread.join().expect("that of another shard panicked").is_err());
}

#[test]
fn a_burst_of_empty_messages_overflows_no_queue_on_any_shard() {
    let broker = Running::start(options());
    let mut readers = subscribers(&broker, "t");
    let mut writer = Wire::connect(broker.address, 4, "writer");
    // Five times what a queue holds, and less than any socket does.
    let count = 5 * Config::default().max_msg_queue;
    writer.send(&publish("t", b"").repeat(count as usize));
    // Answered when all shards have taken them.
    writer.ping();
    for reader in &mut readers {
        for n in 0..count {
            assert_eq!(reader.packet(), (0x30, b"\x00\x01t".to_vec()), "message {n}");
        }
    }
    broker.abort();
}

/// CONNECT is so large that it goes to any shard, and mostly on to another one: what stands behind
/// it in the same read goes with it.
#[test]
fn what_comes_with_a_large_connect_is_handled_where_its_client_belongs() {
    const MESSAGES: u16 = 200;
    let broker = Running::start(options());
    let mut open = Vec::new();
    for n in 0..CLIENTS {
        let mut wire = Wire::open(broker.address);
        let mut bytes = connect_with_user_property(&format!("large {n}"), &"x".repeat(5_000));
        for id in 1..=MESSAGES {
            let start = [b"\x00\x01t", &id.to_be_bytes()[..], &[0]].concat();
            bytes.extend(packet(0x32, &[start, vec![7; 100]].concat()));
        }
        wire.send(&bytes);
        let (first, body) = wire.packet();
        assert_eq!((first, body[1]), (0x20, 0), "CONNACK {body:x?}");
        for id in 1..=MESSAGES {
            let (first, body) = wire.packet();
            assert_eq!((first, &body[..2]), (0x40, &id.to_be_bytes()[..]), "PUBACK");
        }
        open.push(wire);
    }
    let stats = block_on(broker.handle.stats()).expect("it runs");
    // They went to one shard after the other, from the second on.
    let away = |n: &usize| usize::from(broker.handle.home(&format!("large {n}"))) != (n + 1) % 4;
    assert_eq!(stats.handed_over, (0..CLIENTS).filter(away).count() as u64);
    let Stats { connections, unauthenticated, .. } = stats.core;
    assert_eq!((connections, unauthenticated), (CLIENTS as u64, 0), "of whatever way");
    broker.abort();
}

#[test]
fn lists_figures_and_disconnects_are_about_all_shards() {
    let broker = Running::start(options());
    let names: Vec<String> = (0..CLIENTS).map(|n| format!("client {n}")).collect();
    let mut clients: Vec<Wire> =
        names.iter().map(|name| Wire::connect(broker.address, 4, name)).collect();
    block_on(async {
        let mut listed = BTreeSet::new();
        let mut next = Some(0);
        while let Some(after) = next {
            let page = broker.handle.clients(after, 5).await?;
            assert!(page.clients.len() <= 5);
            for client in page.clients {
                let home = u64::from(broker.handle.home(&client.client_id));
                assert_eq!(client.serial >> SERIAL_BITS, home, "{client:?}");
                assert!(listed.insert(client.client_id.to_string()), "listed twice");
            }
            next = page.next;
        }
        assert_eq!(listed, names.iter().cloned().collect());
        let stats = broker.handle.stats().await?;
        assert_eq!((stats.core.connections, stats.core.sessions), (24, 24));
        for (name, client) in names.iter().zip(&mut clients) {
            broker.handle.disconnect(name, ReasonCode::AdministrativeAction, true).await?;
            client.rest();
        }
        let nobody = broker.handle.disconnect("nobody", ReasonCode::Success, true).await;
        assert_eq!(nobody, Err(HandleError::Refused(ReasonCode::ClientIdentifierNotValid)));
        assert_eq!(broker.handle.stats().await?.core.sessions, 0);
        Ok::<(), HandleError>(())
    })
    .expect("the broker runs");
    broker.stop();
}

/// Waits until these many connections are open, not accepted, and were refused.
fn wait_for(broker: &Running, figures: (u64, u64, u64)) {
    let by = Instant::now() + Duration::from_secs(30);
    loop {
        let stats = block_on(broker.handle.stats()).expect("it runs").core;
        let seen = (stats.connections, stats.unauthenticated, stats.refused_total);
        if seen == figures {
            return;
        }
        assert!(Instant::now() < by, "{seen:?} instead of {figures:?}");
        thread::yield_now();
    }
}

/// Who floods a broker with connections that say nothing stands in the figures, wherever these
/// connections wait.
#[test]
fn connections_that_are_no_clients_yet_and_refusals_are_counted_with_any_number_of_shards() {
    for shards in [1, 2, 4] {
        let config = Config { max_unauthenticated: 8, ..Config::default() };
        let broker = Running::start(Options { config, shards, ..Options::default() });
        let mut silent: Vec<Wire> = (0..8).map(|_| Wire::open(broker.address)).collect();
        wait_for(&broker, (8, 8, 0));
        for _ in 0..3 {
            assert_eq!(Wire::open(broker.address).rest(), b"", "one too many");
        }
        wait_for(&broker, (8, 8, 3));
        let mut client = silent.pop().expect("there are eight");
        client.send(&connect(4, "client"));
        assert_eq!(client.packet().0, 0x20, "CONNACK");
        wait_for(&broker, (8, 7, 3));
        // Who goes without a word was no client, either.
        drop(silent);
        wait_for(&broker, (1, 0, 10));
        drop(client);
        wait_for(&broker, (0, 0, 10));
        broker.stop();
    }
}

#[test]
fn more_shards_than_there_can_be_are_an_error_and_not_fewer_shards() {
    let bind = |shards| Server::bind(Options { shards, listeners: Vec::new(), ..options() });
    for shards in [65, u16::MAX] {
        let error = bind(shards).expect_err("they are too many");
        assert!(matches!(error, BindError::Shards { shards: named } if named == shards));
        let text = error.to_string();
        let hint = "ask for 64 at most, or for 0, which is one per core";
        assert_eq!(text, format!("{shards} shards are too many; {hint}"));
    }
    let memory = 64 * Config::LEAST_BUDGET;
    let config = Config { shard_budget: memory, ..Config::default() };
    assert_eq!(server::shards(64, &config).expect("there is memory"), 64);
    let less = Config { shard_budget: memory - 1, ..config };
    let error = server::shards(64, &less).expect_err("there is less memory");
    assert!(matches!(error, BindError::Memory { shards: 64, enough: 63 }), "{error}");
}

#[test]
fn connections_of_all_shards_count_together_and_come_free() {
    let config = Config { max_connections: 3, ..Config::default() };
    let broker = Running::start(Options { config, ..options() });
    for round in 0..3 {
        let mut clients: Vec<Wire> = (0..3)
            .map(|n| Wire::connect(broker.address, 4, &format!("client {round} {n}")))
            .collect();
        let mut refused = Wire::open(broker.address);
        assert_eq!(refused.rest(), b"", "one too many");
        for client in &mut clients {
            client.send(&[0xe0, 0]);
            client.rest();
        }
        let closed = || block_on(broker.handle.stats()).expect("it runs").core.connections == 0;
        let by = Instant::now() + Duration::from_secs(30);
        while !closed() {
            assert!(Instant::now() < by, "connections stay counted");
            thread::yield_now();
        }
    }
    broker.stop();
}
