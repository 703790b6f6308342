//! The broker with its threads under load, from all sides at once: what arrives is compared with
//! what was sent. Nothing here waits for a time; a broker that stands still fails the test.

mod book;
mod client;
mod crowd;
mod ends;
mod retained;
#[path = "../broker/running.rs"]
mod running;

use std::future::Future;
use std::thread;
use std::time::Duration;

use async_channel::Receiver;
use fulmar_adapters::broker::{Config, Options};
use fulmar_core::Qos;
use fulmar_core::codec::Version;
use smol::{Executor, Timer, block_on, future};

/// Threads that play the clients.
const THREADS: usize = 2;
/// After so long without an end the broker hangs: on two busy cores the longest wait is a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs what a story does, and the tasks that it has spawned, on several threads.
fn play<T>(story: impl AsyncFnOnce(&Executor<'static>) -> T) -> T {
    let executor = Executor::new();
    let (running, over) = async_channel::bounded::<()>(1);
    thread::scope(|scope| {
        // Gone at the latest when the story fails.
        let _running = running;
        for _ in 0..THREADS {
            scope.spawn(|| block_on(executor.run(ended(&over))));
        }
        block_on(story(&executor))
    })
}

/// Waits until the other end of `over` is gone.
async fn ended(over: &Receiver<()>) {
    // Nothing is ever sent.
    let _ = over.recv().await;
}

/// What comes in time; the test fails if nothing does.
async fn in_time<T>(what: &str, something: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(PATIENCE).await;
        panic!("{what} has no end");
    };
    future::or(something, late).await
}

/// A broker whose queues have room for all that a story sends.
fn options(shards: u16) -> Options {
    let config = Config {
        max_msg_queue: 1_000_000,
        max_msg_queue_bytes: 256 * 1024 * 1024,
        ..Config::default()
    };
    Options { config, shards, ..Options::default() }
}

/// Each QoS in turn.
fn qos(publisher: u8) -> Qos {
    [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(publisher % 3)]
}

/// Clients of both kinds, in turn.
fn version(number: usize) -> Version {
    if number.is_multiple_of(2) { Version::V311 } else { Version::V5 }
}
