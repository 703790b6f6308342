//! A broker shard: many connections and sessions, subscriptions, retained messages and wills, as
//! one deterministic machine.

mod config;
mod effect;
mod input;
mod outbox;
mod stats;

pub use config::{Config, DeliveryMode, QueueFull};
pub use effect::{
    AuthRequest, AuthStep, Connected, DisconnectReason, Disconnected, DropReason, Effect, Event,
    SessionEnd, Verdict,
};
pub use input::{ClientInfo, Command, ConnInfo, Delivery, Input, OpenError, Publication, Reply};
pub use outbox::Outbox;
pub use stats::Stats;

/// Names a connection; never reused while the broker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

impl ConnId {
    /// A small number that no other open connection has; good as an index into a table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// Names a local subscriber; never reused while the broker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId {
    session: u32,
    generation: u32,
}

/// What a broker is started with.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// The present.
    pub now: crate::Instant,
    /// The present as milliseconds since 1970, for what people read.
    pub unix_millis: u64,
    /// From the operating system's random source; secret, since identifiers and hash keys hang on
    /// it.
    pub seed: u64,
    /// Differs from start to start.
    pub epoch: u32,
}
