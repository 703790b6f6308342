//! The end of a broker under load: as it was asked for, and because a shard fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use async_channel::Sender;
use fulmar_adapters::broker::{HandleError, Notice, Options, Verdict};
use fulmar_core::codec::{Publish, Version};
use fulmar_core::{Qos, ReasonCode};
use smol::{Executor, Task};

use super::client::{Client, Gone};
use super::running::Running;
use super::{in_time, options, play, qos, version};

const PAIRS: usize = 8;
/// Messages that came before the end.
const BEFORE: usize = 2_000;

/// Publishes until the connection ends; tells why, if the broker said so.
async fn publish(mut client: Client, number: usize) -> Option<ReasonCode> {
    let qos = qos(number as u8);
    let topic = &format!("load/{number}")[..];
    let payload = &vec![7; 10 << (number % 8)][..];
    let message = Publish { topic, qos, payload, ..Publish::default() };
    loop {
        let sent = async {
            client.publish(&message).await?;
            // One of each kind of progress, so that the broker answers the fast ones, too.
            client.progress().await
        };
        if sent.await == Err(Gone) {
            return client.said;
        }
    }
}

/// Reads until the connection ends.
async fn read(mut client: Client, came: Sender<()>) -> Option<ReasonCode> {
    while client.message().await.is_ok() {
        // Nobody counts any more after some time.
        let _ = came.try_send(());
    }
    client.said
}

/// Clients that send and read without end, with their protocol version, after some time.
async fn load(
    executor: &Executor<'static>,
    to: SocketAddr,
) -> Vec<(Version, Task<Option<ReasonCode>>)> {
    let (came, count) = async_channel::bounded(BEFORE);
    let mut tasks = Vec::new();
    for number in 0..PAIRS {
        let version = version(number);
        let mut reader = Client::new(to, format!("reader {number}"), version, false);
        reader.connect().await.expect("the broker runs");
        let filters = [&format!("load/{number}")[..], "$share/all/load/+", "load/0"];
        reader.subscribe(&filters, Qos::ExactlyOnce).await.expect("the broker runs");
        tasks.push((version, executor.spawn(read(reader, came.clone()))));
    }
    for number in 0..PAIRS {
        let version = version(number);
        let mut publisher = Client::new(to, format!("publisher {number}"), version, false);
        publisher.connect().await.expect("the broker runs");
        tasks.push((version, executor.spawn(publish(publisher, number))));
    }
    for _ in 0..BEFORE {
        in_time("the load", count.recv()).await.expect("readers hold the other end");
    }
    tasks
}

fn stops_under_load(shards: u16) {
    let cut = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&cut);
    let broker = Running::start(Options {
        observe: Box::new(move |notice| {
            if let Notice::Cut { connections } = notice {
                noted.fetch_add(*connections, Ordering::Relaxed);
            }
        }),
        ..options(shards)
    });
    play(async |executor| {
        let tasks = load(executor, broker.address).await;
        let mut messages =
            broker.handle.subscribe(&[("load/#", Qos::AtMostOnce)], 100).await.expect("it runs");
        assert!(in_time("a message", messages.next()).await.is_some());
        in_time("the stop", broker.handle.stop()).await;
        for (version, task) in tasks {
            let said = in_time("a client", task).await;
            // Older versions have no word for it.
            let due = (version == Version::V5).then_some(ReasonCode::ServerShuttingDown);
            assert_eq!(said, due);
        }
        while in_time("a subscription", messages.next()).await.is_some() {}
        assert_eq!(broker.handle.stats().await.err(), Some(HandleError::Stopped));
        assert!(smol::Async::<std::net::TcpStream>::connect(broker.address).await.is_err());
    });
    broker.join();
    assert_eq!(cut.load(Ordering::Relaxed), 0, "connections that did not end in order");
}

#[test]
fn a_stop_under_load_ends_every_connection_in_order_with_one_shard() {
    stops_under_load(1);
}

#[test]
fn a_stop_under_load_ends_every_connection_in_order_with_two_shards() {
    stops_under_load(2);
}

#[test]
fn a_stop_under_load_ends_every_connection_in_order_with_four_shards() {
    stops_under_load(4);
}

/// The first client of this kind that comes to a shard has it fail.
const BAD: &str = "bad";

fn fails_under_load(shards: u16, failing: u16) {
    let thread = match failing {
        0 => "fulmar-shard".into(),
        number => format!("fulmar-shard-{number}"),
    };
    let broker = Running::start(Options {
        authenticate: Box::new(move |_, request| {
            let here = thread::current().name() == Some(&thread);
            assert!(!(here && request.client_id.starts_with(BAD)), "as the test wants");
            Verdict::Accept { data: None }
        }),
        ..options(shards)
    });
    play(async |executor| {
        let tasks = load(executor, broker.address).await;
        let mut messages =
            broker.handle.subscribe(&[("load/#", Qos::AtMostOnce)], 100).await.expect("it runs");
        // Which shard has a client nobody can tell, but each has some of many.
        for number in 0.. {
            let name = format!("{BAD} {number}");
            let mut bad = Client::new(broker.address, name, Version::V5, false);
            if in_time("a bad client", bad.connect()).await == Err(Gone) {
                break;
            }
        }
        for (_, task) in tasks {
            in_time("a client", task).await;
        }
        while in_time("a subscription", messages.next()).await.is_some() {}
        in_time("the stop", broker.handle.stop()).await;
        assert_eq!(broker.handle.stats().await.err(), Some(HandleError::Stopped));
        assert!(smol::Async::<std::net::TcpStream>::connect(broker.address).await.is_err());
    });
    // The first shard's panic is passed on, that of another one told.
    let told = broker.thread.join().map(|result| result.err().map(|error| error.to_string()));
    let last_word = format!("shard {failing} panicked, so that the broker stops");
    assert_eq!(told.ok(), (failing > 0).then_some(Some(last_word)));
}

#[test]
fn whichever_shard_fails_under_load_the_broker_ends() {
    for shards in [1, 2, 4] {
        for failing in 0..shards {
            fails_under_load(shards, failing);
        }
    }
}
