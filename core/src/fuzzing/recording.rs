//! Recordings that may be damaged.

use alloc::vec::Vec;

use super::broker;
use crate::broker::{Outcome, Replay};

/// Replays any bytes.
///
/// # Panics
/// If a broker does with what stands in them.
pub fn recording(data: &[u8]) {
    let Ok(mut replay) = Replay::new(data) else { return };
    while replay.step(&mut |_, _| {}) == Outcome::More {}
}

/// The recording of what [`broker_ops`](super::broker_ops) does with these bytes.
#[must_use]
pub fn recorded(data: &[u8]) -> Option<Vec<u8>> {
    broker::run(data, true)
}
