//! MQTT 3.1, 3.1.1 and 5.0 as state machines that do no I/O.
//!
//! Machines, each usable without the ones below it:
//!
//! | machine | what it knows | needs |
//! |---|---|---|
//! | [`codec`] | bytes and packets, no state | nothing |
//! | [`session`] | packet identifiers, QoS 1 and 2, windows | nothing |
//! | [`topic`] | names, filters, matching; index, retained store, groups | nothing; `alloc` |
//! | [`client`] | one client: connection after connection, and its session | nothing |
//! | [`connection`] | one byte stream: framing, phases, keep alive, aliases, limits | `alloc` |
//! | [`broker`] | many connections and sessions, subscriptions, retained, wills | `alloc` |
//!
//! No machine reads a clock, draws a random number or touches a socket: `now` and a seed come in,
//! bytes and [effects](broker::Effect) go out. The same inputs give the same outputs, byte for
//! byte.
//!
//! | feature | contains |
//! |---|---|
//! | none | codec, topic matching, session halves and client with borrowed storage |
//! | `alloc` | and heap storage, the server's connection, the broker |
//! | `std` (default) | and conversions to types of the standard library |
//! | `fuzzing` | and entry points for fuzzing, which panic where the machines do wrong |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[macro_use]
mod defect;

#[cfg(feature = "alloc")]
pub mod broker;
pub mod client;
pub mod codec;
#[cfg(feature = "alloc")]
pub mod connection;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "alloc")]
mod map;
pub mod session;
mod storage;
pub mod time;
pub mod topic;

#[cfg(feature = "alloc")]
pub use broker::{Broker, ConnId};
pub use client::Client;
pub use codec::{Packet, PacketId, Qos, ReasonCode, Version};
pub use storage::Storage;
pub use time::Instant;
