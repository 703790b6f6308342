//! What the shards, the links and the subscriber of the model have at one time.

use std::collections::VecDeque;
use std::hash::Hasher;

/// A message: publisher and place in what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value {
    pub(super) publisher: usize,
    pub(super) place: usize,
}

/// A message for the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) value: Value,
    /// As the retained message that SUBSCRIBE asked for.
    pub(super) asked: bool,
}

/// What one shard says to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Msg {
    /// A change of the route with its number: whether there are subscribers.
    Route(u8, bool),
    /// The last change that is known.
    Confirm(u8),
    /// A question with its number.
    Query(u8),
    /// The answer: the retained message.
    Page(u8, Option<Value>),
    /// For the subscriber.
    Live(Value, bool),
    /// For the owner, to be stored and handed on.
    ToOwner(Value),
    /// To be stored only; a shard that breaks a rule hands it out itself.
    StoreOnly(Value),
    /// A message is with the subscriber, or with the owner and all it handed it to.
    Taken(Value),
}

/// How a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gate {
    /// SUBSCRIBE has not come, or UNSUBSCRIBE has.
    None,
    Shut,
    Open,
    /// It stands from before, and SUBSCRIBE has not come.
    Standing,
    /// It stands, and SUBACK to its replacement has not gone.
    Replaced,
}

impl Gate {
    /// Whether everything is to be had.
    pub(super) fn stands(self) -> bool {
        !matches!(self, Self::None | Self::Shut)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) links: [[VecDeque<Msg>; 3]; 3],
    /// Whether a shard knows of the subscription.
    pub(super) routed: [bool; 3],
    pub(super) store: Option<Value>,
    /// All that was stored, in order.
    pub(super) log: Vec<Value>,
    /// What each publisher sends next.
    pub(super) next: [usize; 2],
    /// What it sent that was not taken, with whether that went by the owner.
    pub(super) under_way: [Vec<(Value, bool)>; 2],
    /// What the owner handed on, with the shard it came from.
    pub(super) handed: Vec<(Value, usize)>,
    /// How often SUBSCRIBE and UNSUBSCRIBE will still come.
    pub(super) to_come: u8,
    pub(super) gate: Gate,
    /// Number of the change by which the route is known; none if it is withdrawn.
    pub(super) announced: Option<u8>,
    /// Number of the last change.
    pub(super) changes: u8,
    /// The route has, or had, no subscribers, and may be withdrawn.
    pub(super) idle: bool,
    /// The change that must be confirmed, and what each shard has confirmed.
    pub(super) awaited: u8,
    pub(super) confirmed: [u8; 3],
    /// Number of the last question.
    pub(super) question: u8,
    pub(super) answered: [bool; 3],
    pub(super) held: Vec<Seen>,
    pub(super) seen: Vec<Seen>,
    /// Sent after SUBACK.
    pub(super) owed: Vec<Value>,
    /// What was seen before UNSUBSCRIBE: of each publisher the next place, and so many that were
    /// stored.
    pub(super) before: ([usize; 2], usize),
}

/// Quick, which is all that a set of half a million states needs: equal ones are compared.
#[derive(Default)]
pub(super) struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
