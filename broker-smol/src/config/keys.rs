//! The table of all keys: where each is kept, what it takes, and why its default is what it is.

use std::ops::RangeInclusive;

use super::Settings;
use super::setting::{Key, Slot, Unit};

/// The largest packet of the protocol, with its header.
const MAX_PACKET: u64 = 268_435_460;

/// The greatest numbers the slots can hold.
const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;
const HUGE: u64 = i64::MAX as u64;
/// In milliseconds.
const HOUR: u64 = 3_600_000;

const fn key(
    name: &'static str,
    slot: fn(&mut Settings) -> Slot<'_>,
    (unit, min, max): (Unit, u64, u64),
    why: &'static str,
) -> Key {
    Key { name, why, slot, unit, range: RangeInclusive::new(min, max) }
}

/// The range of a key that is no number.
const CHOICE: (Unit, u64, u64) = (Unit::Choice, 0, 0);

const fn count(min: u64, max: u64) -> (Unit, u64, u64) {
    (Unit::Count, min, max)
}

const fn bytes(min: u64, max: u64) -> (Unit, u64, u64) {
    (Unit::Bytes, min, max)
}

/// Every key, in the order of the README.
pub(super) static KEYS: &[Key] = &[
    key(
        "listeners",
        |s| Slot::Listeners(&mut s.listeners),
        CHOICE,
        "only this machine can connect until you say otherwise; a list of `{protocol: mqtt, addr}`",
    ),
    key(
        "allow_anonymous",
        |s| Slot::Anonymous(&mut s.allow_anonymous),
        CHOICE,
        "there is no authentication yet: an address that others can reach must be opened \
         knowingly; `false` refuses everybody",
    ),
    key(
        "shards",
        |s| Slot::U16(&mut s.shards),
        count(0, fulmar_core::broker::MAX_SHARDS as u64),
        "threads that serve clients, each with its own part of the sessions; 0 is one per core, \
         or as many as `memory_budget` has 1MiB for",
    ),
    key(
        "max_connections",
        |s| Slot::U32(&mut s.core.max_connections),
        count(1, U32),
        "more than the file limit of most machines",
    ),
    key(
        "max_unauthenticated",
        |s| Slot::U32(&mut s.core.max_unauthenticated),
        count(1, U32),
        "connections not accepted yet: a fleet that reconnects at once fits",
    ),
    key(
        "max_unauthenticated_per_address",
        |s| Slot::U32(&mut s.core.max_unauthenticated_per_address),
        count(1, U32),
        "the same for one address: a gateway fits, one host alone cannot lock out the others",
    ),
    key(
        "connect_timeout",
        |s| Slot::Time(&mut s.core.connect_timeout),
        (Unit::Millis, 100, HOUR),
        "from opening a connection to its whole CONNECT, as the predecessors had it",
    ),
    key(
        "max_connect_size",
        |s| Slot::U32(&mut s.core.max_connect_size),
        bytes(16, MAX_PACKET),
        "largest packet before a client is accepted: a CONNECT carries will and credentials",
    ),
    key(
        "max_keepalive",
        |s| Slot::U16(&mut s.core.max_keepalive),
        (Unit::Seconds, 0, U16),
        "0 is no limit; told to 5.0 clients as Server Keep Alive, an older client is never \
         refused for it",
    ),
    key(
        "max_packet_size",
        |s| Slot::U32(&mut s.core.max_packet_size),
        bytes(16, MAX_PACKET),
        "ample for telemetry, and one client cannot occupy much memory; the protocol ends at \
         256 MiB",
    ),
    key("max_qos", |s| Slot::Qos(&mut s.core.max_qos), CHOICE, "all of the protocol"),
    key(
        "retain_available",
        |s| Slot::Flag(&mut s.core.retain_available),
        CHOICE,
        "all of the protocol",
    ),
    key(
        "receive_maximum",
        |s| Slot::U16(&mut s.core.receive_maximum),
        count(1, U16),
        "unacknowledged QoS 1 and 2 messages a 5.0 client may have under way to the broker: \
         bounds what one publisher occupies",
    ),
    key(
        "max_inflight",
        |s| Slot::U16(&mut s.core.max_inflight),
        count(1, U16),
        "the same towards a client, at most what it allows: keeps a fast link busy, and little \
         is sent again after a reconnect",
    ),
    key(
        "max_await_rel",
        |s| Slot::U16(&mut s.core.max_await_rel),
        count(1, U16),
        "QoS 2 messages of a 5.0 client that wait for its PUBREL: as many as it may have under \
         way",
    ),
    key(
        "max_msg_queue",
        |s| Slot::U32(&mut s.core.max_msg_queue),
        count(1, U32),
        "messages waiting for one session, as the predecessors had it",
    ),
    key(
        "max_msg_queue_bytes",
        |s| Slot::U64(&mut s.core.max_msg_queue_bytes),
        bytes(1, HUGE),
        "their size: a thousand large ones must not be unbounded; at most a quarter of a shard's \
         memory, or one message",
    ),
    key(
        "queue_full",
        |s| Slot::Full(&mut s.core.queue_full),
        CHOICE,
        "`drop_oldest`, `drop_new` or `disconnect`, after expired and QoS 0 messages: new values \
         are worth more than old ones",
    ),
    key(
        "queue_qos0_messages",
        |s| Slot::Flag(&mut s.core.queue_qos0_messages),
        CHOICE,
        "QoS 0 messages wait for clients that are offline, as the predecessors had it",
    ),
    key(
        "max_sessions",
        |s| Slot::U32(&mut s.core.max_sessions),
        count(1, U32),
        "connected or not: as many as connections",
    ),
    key(
        "max_session_expiry",
        |s| Slot::U32(&mut s.core.max_session_expiry),
        (Unit::SecondsOrNever, 0, U32 - 1),
        "how long a session outlives its connection at most: abandoned ones go some day; `never` \
         keeps them",
    ),
    key(
        "max_topic_alias",
        |s| Slot::U16(&mut s.core.max_topic_alias),
        count(0, U16),
        "aliases a 5.0 client may set: the busy topics of a device, at little memory",
    ),
    key(
        "max_topic_alias_out",
        |s| Slot::U16(&mut s.core.max_topic_alias_out),
        count(0, U16),
        "aliases set towards a 5.0 client that allows them: the same",
    ),
    key(
        "max_topic_levels",
        |s| Slot::U16(&mut s.core.max_topic_levels),
        count(1, U16),
        "levels of a topic or filter: bounds the work of matching",
    ),
    key(
        "max_subscriptions",
        |s| Slot::U32(&mut s.core.max_subscriptions),
        count(1, U32),
        "of one session: bounds the memory one client occupies",
    ),
    key(
        "max_retained",
        |s| Slot::U32(&mut s.core.max_retained),
        count(0, U32),
        "retained messages: one for each of many devices",
    ),
    key(
        "max_retained_bytes",
        |s| Slot::U64(&mut s.core.max_retained_bytes),
        bytes(0, HUGE),
        "their size: a quarter of the memory budget",
    ),
    key(
        "max_outbound_bytes",
        |s| Slot::U32(&mut s.core.max_outbound_bytes),
        bytes(1_024, U32),
        "encoded bytes waiting for one connection beside its queue: more than all \
         acknowledgements a client can be owed",
    ),
    key(
        "memory_budget",
        |s| Slot::U64(&mut s.core.shard_budget),
        bytes(1 << 20, HUGE),
        "all memory of sessions, subscriptions, queues, retained messages and unfinished packets: \
         leaves room on a small machine",
    ),
    key(
        "allow_zero_length_clientid",
        |s| Slot::Flag(&mut s.core.allow_zero_length_clientid),
        CHOICE,
        "a client may leave the choice of its identifier to the broker, as the standard wants",
    ),
    key(
        "assigned_clientid_prefix",
        |s| Slot::Prefix(&mut s.core.assigned_clientid_prefix),
        CHOICE,
        "what identifiers chosen by the broker begin with: they are told apart at a glance",
    ),
    key(
        "delivery_mode",
        |s| Slot::Mode(&mut s.core.delivery_mode),
        CHOICE,
        "`onlyonce`: one copy where several subscriptions of a client match; `overlap`: one for \
         each",
    ),
    key(
        "shutdown_timeout",
        |s| Slot::Time(&mut s.shutdown_timeout),
        (Unit::Millis, 0, HOUR),
        "a stop is over within the 10 s that container runtimes wait before they kill",
    ),
];

/// Names of the predecessors, with ours.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("max_inflight_messages", "max_inflight"),
    ("max_msgqueue_messages", "max_msg_queue"),
    ("listener", "listeners"),
];

/// Names of the predecessors that this version knows and does not carry out.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "delivery_retry_interval",
        "messages are sent again when a client reconnects, not after a time; remove this key",
    ),
    ("profile", "this version has no profiling; remove this key"),
    ("logging", "logs are always on; choose how much with the option --log and remove this key"),
    ("http_server", "this version has no management interface; remove this key"),
];
