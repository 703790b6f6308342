//! Session state: what outlives a connection. `[MQTT-4.1.0-1]`

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::message::Body;
use super::peers::{Acks, Clocks, Pending};
use super::queue::{Copy, Queue};
use super::slots::Key;
use super::walks::Walks;
use crate::codec::{Qos, SubscriptionOptions, Version};
use crate::session::{Inbound, Outbound};
use crate::storage::Storage;
use crate::time::Instant;
use crate::topic::{Cursor, split_share};

/// Bytes charged for a session, without its queue and subscriptions.
pub(super) const FOOTPRINT: u64 = 640;
/// Bytes charged for a subscription beside its filter.
const SUBSCRIPTION: u64 = 160;
/// Bytes charged for each level of a filter with wildcards, which may be the only one of its kind.
const LEVEL: u64 = 96;
/// Bytes charged for a QoS 2 identifier that waits for PUBREL.
pub(super) const HELD: u64 = 8;

/// Where the messages of a session go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// Nowhere for now.
    Nothing,
    /// To a connection.
    Conn(Key),
    /// To the embedding program, at most so many waiting.
    Local(u32),
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: Arc<str>,
    pub(super) serial: u64,
    pub(super) attached: Attached,
    pub(super) version: Version,
    pub(super) bridge: bool,
    pub(super) clean_start: bool,
    pub(super) keep_alive: u16,
    pub(super) username: Option<Box<str>>,
    /// Seconds it outlives its connection; `u32::MAX` for ever.
    pub(super) expiry: u32,
    pub(super) connected_at: Instant,
    pub(super) disconnected_at: Option<Instant>,
    pub(super) will: Option<Box<Will>>,
    /// When the will is due, once the connection is gone.
    pub(super) will_at: Instant,
    pub(super) armed: Instant,
    pub(super) outbound: Outbound<'static, Copy>,
    pub(super) inbound: Inbound<'static>,
    pub(super) queue: Queue,
    /// Sorted by filter.
    pub(super) subscriptions: Vec<Subscription>,
    /// Retained messages still to be queued.
    pub(super) walks: Walks,
    /// Subscriptions that not all shards know of, and walks that wait for other shards.
    pub(super) pending: Option<Box<Pending>>,
    /// Acknowledgements that wait for other shards.
    pub(super) acks: Option<Box<Acks>>,
    /// What it published that other shards may not have taken.
    pub(super) clocks: Clocks,
    /// A job for them is waiting.
    pub(super) walking: bool,
    /// Packets of before the connection are to be sent again.
    pub(super) resending: bool,
    /// The driver knows that something waits.
    pub(super) woken: bool,
    /// Number of the fan-out that met it last, and its place among the targets.
    pub(super) met: (u32, u32),
    pub(super) delivered: [u64; 3],
    pub(super) dropped: [u64; 3],
    /// Numbers of the effects that told of its losses last, by QoS.
    pub(super) told: [u64; 3],
}

/// A subscription, by the full text of its filter, `$share/..` included.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) filter: Arc<str>,
    pub(super) options: Options,
    /// When its retained messages come, in the order of the session's subscriptions.
    pub(super) turn: u32,
}

impl Subscription {
    pub(super) fn is_shared(&self) -> bool {
        matches!(split_share(&self.filter), Ok(Some(_)))
    }

    /// Bytes charged for it.
    pub(super) fn cost(filter: &str) -> u64 {
        let slashes = filter.bytes().filter(|byte| *byte == b'/').count() as u64;
        let levels = if filter.contains(['+', '#']) { slashes + 1 } else { 0 };
        SUBSCRIPTION + filter.len() as u64 + levels * LEVEL
    }
}

/// Names a walk: the subscription by its filter, and the other shard that has the messages, `None`
/// for this one.
pub(super) type WalkId = (Arc<str>, Option<u16>);

/// Retained messages on their way to a new subscription.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) options: Options,
    pub(super) cursor: Cursor,
    /// The question that is not answered, or 0.
    pub(super) query: u64,
}

/// A will as CONNECT set it.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) body: Body,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Seconds.
    pub(super) delay: u32,
    /// Seconds from its publication on.
    pub(super) expiry: Option<u32>,
}

/// Options of a subscription in 32 bits: QoS, No Local, Retain As Published, identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options(pub(super) u32);

impl Options {
    /// `identifier` is 0 for none.
    pub(super) fn new(options: SubscriptionOptions, identifier: u32) -> Self {
        Self(
            options.qos as u32
                | u32::from(options.no_local) << 2
                | u32::from(options.retain_as_published) << 3
                | identifier << 4,
        )
    }

    pub(super) fn qos(self) -> Qos {
        Qos::from_bits((self.0 & 3) as u8).unwrap_or(Qos::ExactlyOnce)
    }

    pub(super) fn no_local(self) -> bool {
        self.0 & 4 != 0
    }

    pub(super) fn retain_as_published(self) -> bool {
        self.0 & 8 != 0
    }

    pub(super) fn identifier(self) -> u32 {
        self.0 >> 4
    }
}

impl Session {
    pub(super) fn new(client_id: Arc<str>, serial: u64, window: u16, now: Instant) -> Self {
        Self {
            client_id,
            serial,
            attached: Attached::Nothing,
            version: Version::V5,
            bridge: false,
            clean_start: false,
            keep_alive: 0,
            username: None,
            expiry: 0,
            connected_at: now,
            disconnected_at: None,
            will: None,
            will_at: Instant::NEVER,
            armed: Instant::NEVER,
            outbound: Outbound::new(Storage::Heap(Vec::new()), window),
            inbound: Inbound::new(Storage::Heap(Vec::new()), u16::MAX, u16::MAX),
            queue: Queue::default(),
            subscriptions: Vec::new(),
            walks: Walks::default(),
            pending: None,
            acks: None,
            clocks: Clocks::default(),
            walking: false,
            resending: false,
            woken: false,
            met: (0, 0),
            delivered: [0; 3],
            dropped: [0; 3],
            told: [u64::MAX; 3],
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached != Attached::Nothing
    }

    /// Messages that may wait, where `max` is the limit for clients.
    pub(super) fn queue_limit(&self, max: u32) -> u32 {
        match self.attached {
            Attached::Local(max) => max,
            _ => max + u32::from(defect!("queue_limit_exceeded")),
        }
    }

    pub(super) fn find(&self, filter: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|s| (*s.filter).cmp(filter))
    }

    /// When it expires, while it has no connection.
    pub(super) fn expires_at(&self) -> Instant {
        match self.disconnected_at {
            Some(at) if self.expiry != u32::MAX => at.after_secs(u64::from(self.expiry)),
            _ => Instant::NEVER,
        }
    }
}
