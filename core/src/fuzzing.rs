//! Entry points for fuzzing: each takes any bytes, and panics where a machine breaks its promises.
//!
//! `fuzz/` has one target for each, and keeps seeds and cases, which are also replayed as tests.

mod broker;
mod client;
mod connection;
mod packets;
mod recording;
mod topics;
mod wire;

pub use broker::{broker_ops, shard_ops};
pub use client::client_connection;
pub use connection::server_connection;
pub use packets::{decode, frame, reencode};
pub use recording::{recorded, recording};
pub use topics::topics;

use crate::codec::Version;

/// The version that a byte chooses.
fn version(choice: u8) -> Version {
    match choice % 3 {
        0 => Version::V31,
        1 => Version::V311,
        _ => Version::V5,
    }
}
