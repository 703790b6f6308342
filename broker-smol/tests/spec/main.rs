//! What clients of the predecessors rely on: MQTT 3.1.1 with payload `test`, one test for each
//! named point of their acceptance suite, against the running binary.

#[macro_use]
#[path = "../../../tests/src/cites.rs"]
pub mod cites;
#[path = "../wire/harness.rs"]
mod harness;
mod lifetime;
mod messages;
mod offline;
mod retained;
mod subscriptions;

use harness::{Broker, Client, Connect, Publish, V311, shared, unique};
use std::sync::Arc;

/// What every message of the suite carries.
const PAYLOAD: &str = "test";

/// The broker all tests share, and a topic of this test's own.
fn setup(name: &str) -> (Arc<Broker>, String) {
    (shared(), unique(name))
}

/// A client that starts clean, under an identifier of its own.
#[track_caller]
fn client(broker: &Broker) -> Client {
    broker.connect(V311, &unique("spec"))
}

/// A client that resumes the session of this identifier, and whether there was one.
#[track_caller]
fn resume(broker: &Broker, id: &str) -> (Client, bool) {
    let (client, connack) = broker.join(&Connect::resume(V311, id));
    (client, connack.present)
}

/// Exactly one message comes: with this QoS and RETAIN, payload `test`, and not a duplicate.
#[track_caller]
fn expect_one(client: &mut Client, topic: &str, qos: u8, retain: bool) {
    let message = client.take();
    let expected = Publish { qos, retain, id: message.id, ..Publish::new(topic, PAYLOAD) };
    assert_eq!(message, expected);
    client.expect_nothing();
}

/// Subscribes, and the QoS asked for is granted.
#[track_caller]
fn subscribe(client: &mut Client, filter: &str, qos: u8) {
    assert_eq!(client.subscribe(filter, qos), qos, "SUBACK for {filter}");
}
