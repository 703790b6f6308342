//! What can happen to a broker.

use alloc::vec::Vec;

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::broker::{Config, DeliveryMode, QueueFull};
use crate::codec::Qos;

/// How the broker is set up.
pub(super) struct Setup {
    pub(super) config: Config,
    /// Whether all is recorded and done a second time.
    pub(super) record: bool,
}

fn pick<T: Copy>(u: &mut Unstructured<'_>, choices: &[T]) -> Result<T> {
    u.choose(choices).copied()
}

impl Arbitrary<'_> for Setup {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let record = u8::arbitrary(u)? % 8 == 0;
        let config = Config {
            max_connections: 12,
            max_unauthenticated: pick(u, &[12, 3])?,
            max_unauthenticated_per_address: pick(u, &[12, 2])?,
            max_connect_size: pick(u, &[4096, 120])?,
            max_keepalive: pick(u, &[0, 30])?,
            max_packet_size: pick(u, &[65_536, 200])?,
            max_qos: pick(u, &[Qos::ExactlyOnce, Qos::AtLeastOnce, Qos::AtMostOnce])?,
            retain_available: pick(u, &[true, true, false])?,
            receive_maximum: pick(u, &[100, 1, 3])?,
            max_inflight: pick(u, &[32, 1, 2])?,
            max_await_rel: pick(u, &[100, 1, 2])?,
            max_msg_queue: pick(u, &[1000, 1, 3])?,
            max_msg_queue_bytes: pick(u, &[1 << 20, 400])?,
            queue_full: pick(
                u,
                &[QueueFull::DropOldest, QueueFull::DropNew, QueueFull::Disconnect],
            )?,
            queue_qos0_messages: pick(u, &[true, false])?,
            max_sessions: pick(u, &[100, 2])?,
            max_session_expiry: pick(u, &[3600, 0, 2])?,
            max_topic_alias: pick(u, &[4, 0])?,
            max_topic_alias_out: pick(u, &[2, 0])?,
            max_topic_levels: pick(u, &[8, 2])?,
            max_subscriptions: pick(u, &[100, 2])?,
            max_retained: pick(u, &[100, 2])?,
            max_retained_bytes: pick(u, &[1 << 20, 500])?,
            max_outbound_bytes: pick(u, &[1 << 16, 64])?,
            shard_budget: pick(u, &[1 << 24, 20_000, 6_000])?,
            allow_zero_length_clientid: pick(u, &[true, false])?,
            delivery_mode: pick(u, &[DeliveryMode::OnlyOnce, DeliveryMode::Overlap])?,
            ..Config::default()
        };
        Ok(Self { config, record })
    }
}

/// One thing that happens. A `peer` is taken modulo the connections there are.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A transport is opened, from one of two addresses.
    Open {
        address: bool,
    },
    /// A client sends a packet, `split` bytes of it first.
    Send {
        peer: u8,
        packet: Spec,
        split: u8,
    },
    /// A client sends bytes.
    Raw {
        peer: u8,
        bytes: Vec<u8>,
    },
    /// The transport is gone.
    Cut {
        peer: u8,
    },
    /// A client stops or resumes to read.
    Stall {
        peer: u8,
        on: bool,
    },
    /// The driver pulls bytes though nobody asked.
    Transmit {
        peer: u8,
        budget: u8,
    },
    /// What the next clients are answered.
    Decide {
        how: Decision,
    },
    /// An answer to a question asked before, or to none.
    Verdict {
        peer: u8,
        how: Decision,
    },
    /// Time passes: so many milliseconds.
    Advance {
        millis: u32,
    },
    /// The driver calls too early.
    Timeout,
    Command(Wish),
    /// A local subscriber takes so many messages.
    Take {
        subscriber: u8,
        most: u8,
    },
}

/// What is decided about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Accept,
    AcceptData,
    Continue,
    Refuse,
    /// Nothing for now.
    Later,
}

/// A packet in few bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spec {
    Connect {
        client: u8,
        version: u8,
        flags: u8,
        expiry: u8,
        limits: u8,
        will: u8,
    },
    Publish {
        topic: u8,
        flags: u8,
        id: u8,
        size: u8,
        properties: u8,
    },
    /// Answers the flight at this place as it should be answered, or with something else.
    Answer {
        flight: u8,
        wrong: u8,
    },
    Pubrel {
        id: u8,
    },
    Subscribe {
        id: u8,
        first: u8,
        second: u8,
        options: u8,
        identifier: u8,
    },
    Unsubscribe {
        id: u8,
        filter: u8,
    },
    Pingreq,
    Disconnect {
        reason: u8,
        expiry: u8,
    },
    Auth {
        again: bool,
        method: bool,
    },
}

/// A command of the embedding program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Publish { topic: u8, flags: u8, size: u8 },
    Subscribe { first: u8, second: u8, queue: u8 },
    Unsubscribe { subscriber: u8 },
    Clients { after: u8, limit: u8 },
    Disconnect { client: u8, end_session: bool },
    Stats,
    Shutdown,
}

impl Arbitrary<'_> for Op {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u8::arbitrary(u)? % 32 {
            0..=2 => Self::Open { address: u.arbitrary()? },
            3..=17 => {
                Self::Send { peer: u.arbitrary()?, packet: u.arbitrary()?, split: u.arbitrary()? }
            }
            18 => {
                let (peer, len) = (u.arbitrary()?, u8::arbitrary(u)? % 32);
                let len = u.len().min(len.into());
                Self::Raw { peer, bytes: u.bytes(len)?.to_vec() }
            }
            19 => Self::Cut { peer: u.arbitrary()? },
            20 | 21 => Self::Stall { peer: u.arbitrary()?, on: u.arbitrary()? },
            22 => Self::Transmit { peer: u.arbitrary()?, budget: u.arbitrary()? },
            23 => Self::Decide { how: u.arbitrary()? },
            24 => Self::Verdict { peer: u.arbitrary()?, how: u.arbitrary()? },
            25 | 26 => Self::Advance { millis: pick(u, &[1, 100, 1000, 3000, 45_000, 4_000_000])? },
            27 => Self::Timeout,
            28..=30 => Self::Command(u.arbitrary()?),
            _ => Self::Take { subscriber: u.arbitrary()?, most: u.arbitrary()? },
        })
    }
}

impl Arbitrary<'_> for Decision {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let all = [Self::Accept, Self::AcceptData, Self::Continue, Self::Refuse, Self::Later];
        pick(u, &all)
    }
}

impl Arbitrary<'_> for Spec {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let mut byte = || u8::arbitrary(u);
        Ok(match byte()? % 16 {
            0..=2 => Self::Connect {
                client: byte()?,
                version: byte()?,
                flags: byte()?,
                expiry: byte()?,
                limits: byte()?,
                will: byte()?,
            },
            3..=5 => Self::Publish {
                topic: byte()?,
                flags: byte()?,
                id: byte()?,
                size: byte()?,
                properties: byte()?,
            },
            6..=8 => Self::Answer { flight: byte()?, wrong: byte()? },
            9 => Self::Pubrel { id: byte()? },
            10 | 11 => Self::Subscribe {
                id: byte()?,
                first: byte()?,
                second: byte()?,
                options: byte()?,
                identifier: byte()?,
            },
            12 => Self::Unsubscribe { id: byte()?, filter: byte()? },
            13 => Self::Pingreq,
            14 => Self::Disconnect { reason: byte()?, expiry: byte()? },
            _ => Self::Auth { again: byte()? % 2 == 0, method: byte()? % 4 != 0 },
        })
    }
}

impl Arbitrary<'_> for Wish {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let mut byte = || u8::arbitrary(u);
        Ok(match byte()? % 32 {
            0..=9 => Self::Publish { topic: byte()?, flags: byte()?, size: byte()? },
            10..=15 => Self::Subscribe { first: byte()?, second: byte()?, queue: byte()? },
            16..=19 => Self::Unsubscribe { subscriber: byte()? },
            20..=22 => Self::Clients { after: byte()?, limit: byte()? },
            23..=28 => Self::Disconnect { client: byte()?, end_session: byte()? % 2 == 0 },
            29 | 30 => Self::Stats,
            _ => Self::Shutdown,
        })
    }
}
