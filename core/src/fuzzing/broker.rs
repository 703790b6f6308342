//! Lists of operations on a broker.

mod many;
mod op;
mod packet;
mod transport;
mod world;

use alloc::vec::Vec;

use arbitrary::Unstructured;

use crate::broker::{Outcome, Replay};
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

/// Operations on two to four shards that are one broker, whose links carry message by message.
///
/// # Panics
/// If an account is wrong, shards wait for each other for ever, a client is sent what it must not
/// be sent, what one of them recorded comes out otherwise when it is replayed, or something is left
/// at the end.
pub fn shard_ops(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let Ok(shards) = bytes.int_in_range(2..=4) else { return };
    let Ok(setup) = bytes.arbitrary::<Setup>() else { return };
    let mut world = many::World::new(&setup, shards);
    for _ in 0..400 {
        if bytes.is_empty() {
            break;
        }
        let Ok(op) = bytes.arbitrary::<many::Op>() else { break };
        world.apply(&op);
    }
    world.end();
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

/// Makes all calls of a recording again, which must come out the same.
fn replay(recording: &[u8]) {
    let mut replay = Replay::new(recording).expect("a recording");
    loop {
        match replay.step(&mut |_, _| {}) {
            Outcome::More => {}
            Outcome::Same => break,
            Outcome::Diverged(call) => panic!("call {call} finds another past"),
        }
    }
}
