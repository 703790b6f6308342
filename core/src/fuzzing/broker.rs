//! Lists of operations on a broker.

mod op;
mod packet;
mod world;

use alloc::vec::Vec;

use arbitrary::Unstructured;

use op::{Op, Setup};
use world::World;

/// Operations taken from the bytes: connections, packets whole and in pieces, slow readers, time,
/// verdicts and commands. The first bytes choose small limits.
///
/// # Panics
/// If an account is wrong, somebody waits for ever, a client is sent what it must not be sent,
/// the same operations have another effect the second time, or something is left at the end.
pub fn broker_ops(data: &[u8]) {
    run(data, false);
}

/// Gives the recording where there is one.
pub(super) fn run(data: &[u8], record: bool) -> Option<Vec<u8>> {
    let mut bytes = Unstructured::new(data);
    let mut setup: Setup = bytes.arbitrary().ok()?;
    setup.record |= record;
    let mut world = World::new(&setup);
    for _ in 0..400 {
        if bytes.is_empty() {
            break;
        }
        let op: Op = bytes.arbitrary().ok()?;
        world.apply(&op);
    }
    world.end()
}
