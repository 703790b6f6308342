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
    let mut bytes = Unstructured::new(data);
    let Ok(setup) = bytes.arbitrary::<Setup>() else { return };
    let ops: Vec<Op> =
        core::iter::from_fn(|| if bytes.is_empty() { None } else { bytes.arbitrary().ok() })
            .take(400)
            .collect();
    let mut world = World::new(&setup);
    ops.iter().for_each(|op| world.apply(op));
    world.end();
}
