//! A broker in a process of its own, and clients that speak MQTT to it over real sockets.
//!
//! ```ignore
//! let b = shared();                                  // or Broker::with("max_qos: 1")
//! let mut s = b.connect(V5, &unique("s"));
//! s.subscribe("a/+", 1);
//! let mut p = b.connect(V311, &unique("p"));
//! p.publish("a/b", "hello", 1);
//! assert_eq!(s.take().text(), "hello");
//! s.expect_nothing();
//! ```
//!
//! `FULMAR_TEST_ADDR=127.0.0.1:1883` makes [`shared`] use a broker that runs already.
//! `FULMAR_TEST_SHARDS=2` gives brokers so many shards, where a test does not say how many; else 1.
#![allow(dead_code, reason = "each test binary uses its own part of the harness")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

#[path = "harness/broker.rs"]
mod broker;
#[path = "harness/client.rs"]
mod client;
#[path = "harness/packet.rs"]
mod packet;
#[path = "harness/reader.rs"]
mod reader;
pub(crate) use broker::Broker;
pub(crate) use client::Client;
pub(crate) use packet::*;
pub(crate) use reader::*;

/// How long to wait for anything that must happen.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// `prefix-N`, different at each call.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Lets time pass, for tests in which time itself matters; nothing is waited for.
pub(crate) fn let_pass(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// The broker without configuration that all tests share which run at this time.
pub(crate) fn shared() -> Arc<Broker> {
    static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let broker = Arc::new(Broker::start());
        *shared = Arc::downgrade(&broker);
        broker
    })
}

/// How many shards a broker has, where a test does not say.
pub(crate) fn shards() -> u64 {
    let said = std::env::var("FULMAR_TEST_SHARDS").ok();
    said.map_or(1, |shards| shards.parse().expect("FULMAR_TEST_SHARDS is a number"))
}
