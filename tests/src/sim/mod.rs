//! A broker, its clients, the network and the clock in one thread, from one seed.
//!
//! Each seed draws the limits of the broker, how many clients there are, what they use, and which
//! faults are on and how strongly. Injected are: bytes cut anywhere and kept back for any time;
//! connections that vanish, with all that was under way, or close one half; clients that do not
//! read, do not speak, acknowledge late, connect again while they are connected; rude ones that
//! break the protocol; deadlines that the driver meets late, calls that it need not make; refusals;
//! limits small enough to be reached; commands of an operator. Not injected: bytes that are lost
//! or changed within a connection, which TCP excludes.
//!
//! The oracle watches. After each phase with faults comes one without, in which everything
//! must arrive; in the end everybody leaves, and nothing may be left.

mod oracle;
mod ours;
mod peer;
mod plan;
mod reading;
mod rng;
mod run;
mod shards;
mod show;
mod world;
mod writing;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use oracle::Violation;
use world::World;

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Calls to the broker.
    pub calls: u64,
    /// Messages published by clients and operators.
    pub messages: u64,
    /// Reads into memory of the broker for a large packet.
    pub filled: u64,
    /// Reads into memory that the broker took.
    pub given: u64,
    /// Reads that were handed over in pieces.
    pub cut: u64,
}

/// Runs one seed.
///
/// # Errors
/// The first rule that was broken. A panic of the broker is told as checker `panic`.
pub fn run(seed: u64) -> Result<Report, Violation> {
    let mut world = World::new(seed, false);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    match (outcome, world.found()) {
        (Err(panic), None) => Err(Violation { checker: "panic", what: text_of(&*panic) }),
        (_, Some(violation)) => Err(violation),
        (Ok(()), None) => Ok(Report {
            calls: world.calls,
            messages: world.key,
            filled: world.reads.filled,
            given: world.reads.given,
            cut: world.reads.cut,
        }),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// What happened in a run, line by line, to its end or to the first broken rule.
#[must_use]
pub fn trace(seed: u64) -> Vec<String> {
    let mut world = World::new(seed, true);
    let plan = format!("{:?}", world.plan);
    let _ = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut lines = world.trace.take().unwrap_or_default();
    lines.insert(0, plan);
    lines
}
