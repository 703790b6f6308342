//! Limits and choices of a broker, with safe defaults.

use alloc::string::String;
use core::time::Duration;

use super::subscribe::BESIDE;
use crate::codec::Qos;

/// What happens to a message for a session whose queue is full, after expired messages and then
/// the oldest QoS 0 message have been dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueFull {
    /// The oldest message of the queue is dropped.
    #[default]
    DropOldest,
    /// The new message is dropped.
    DropNew,
    /// A connected client is disconnected; for an offline one the new message is dropped. With
    /// several shards PUBACK and PUBREC that wait for another one go first, for 3 s at most, and
    /// nothing more is read.
    Disconnect,
}

/// How many copies a client gets when several of its subscriptions match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// One, at the highest QoS granted, with all Subscription Identifiers. `[MQTT-3.3.4-4]`
    #[default]
    OnlyOnce,
    /// One for each subscription, at its own QoS. `[MQTT-3.3.4-5]`
    Overlap,
}

/// Limits and choices. Sizes are bytes, `max_` counts include the value named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections open at once. 100,000: more than the file limit of most machines.
    pub max_connections: u32,
    /// Connections open and not accepted. 4,096: a fleet that reconnects at once fits.
    pub max_unauthenticated: u32,
    /// The same for one address. 1,024: a gateway fits, one host alone cannot lock out the others.
    pub max_unauthenticated_per_address: u32,
    /// Time from the opening of a connection to the end of its CONNECT. 5 s.
    pub connect_timeout: Duration,
    /// Largest packet before CONNECT is accepted. 256 KiB: it carries will and credentials.
    pub max_connect_size: u32,
    /// Longest keep alive in seconds, told to 5.0 clients as Server Keep Alive; 0 for no limit.
    /// A client of an older version is never refused for it.
    pub max_keepalive: u16,
    /// Largest packet accepted. 1 MiB; the protocol allows 268,435,460.
    pub max_packet_size: u32,
    /// Highest QoS a client may publish with, and be granted. 2.
    pub max_qos: Qos,
    /// Whether retained messages are kept. Yes.
    pub retain_available: bool,
    /// Unacknowledged QoS 1 and 2 messages a 5.0 client may have under way. 100.
    pub receive_maximum: u16,
    /// Unacknowledged messages sent to a client, at most its own Receive Maximum. 32.
    pub max_inflight: u16,
    /// QoS 2 messages of a 5.0 client that wait for its PUBREL. 100.
    pub max_await_rel: u16,
    /// Messages waiting for one session. 1,000.
    pub max_msg_queue: u32,
    /// Bytes of them, each message at its full size. 16 MiB, and less where a shard has less than
    /// four times that: see [`Config::of_one`].
    pub max_msg_queue_bytes: u64,
    /// What happens beyond. [`QueueFull::DropOldest`].
    pub queue_full: QueueFull,
    /// Whether QoS 0 messages wait for clients that are offline. Yes, as the predecessors did.
    pub queue_qos0_messages: bool,
    /// Sessions, connected or not. 100,000.
    pub max_sessions: u32,
    /// Seconds a session may outlive its connection; `u32::MAX` for ever. 30 days.
    pub max_session_expiry: u32,
    /// Topic aliases a 5.0 client may set. 16.
    pub max_topic_alias: u16,
    /// Topic aliases set towards a 5.0 client that allows them. 16.
    pub max_topic_alias_out: u16,
    /// Levels of a Topic Name or Topic Filter. 128: bounds the work of matching.
    pub max_topic_levels: u16,
    /// Subscriptions of one session. 10,000.
    pub max_subscriptions: u32,
    /// Retained messages. 100,000.
    pub max_retained: u32,
    /// Bytes of them. 128 MiB.
    pub max_retained_bytes: u64,
    /// Encoded bytes that may wait for one connection, beside its queue. 1 MiB: more than all
    /// acknowledgements a client can be owed.
    pub max_outbound_bytes: u32,
    /// Bytes a shard may hold in all: sessions, subscriptions, queues, retained messages, partial
    /// packets. 512 MiB.
    pub shard_budget: u64,
    /// Whether a client may leave the choice of its Client Identifier to the broker. Yes.
    pub allow_zero_length_clientid: bool,
    /// What identifiers chosen by the broker begin with. `auto-`.
    pub assigned_clientid_prefix: String,
    /// Copies for overlapping subscriptions. [`DeliveryMode::OnlyOnce`].
    pub delivery_mode: DeliveryMode,
}

impl Config {
    /// Bytes of memory that a shard can do with: a driver starts no more shards than have so much.
    pub const LEAST_BUDGET: u64 = 1 << 20;

    /// The part of one of `shards`, where these limits are meant for all together: sessions,
    /// connections not accepted yet, of all and of one address, retained messages and their bytes,
    /// and memory are divided, rounded up. The queue of a session may have a quarter of a shard's
    /// memory at most, or one message of the largest size: the session of a client that is away
    /// does not fill its shard and slow all others down. Everything else counts for one connection
    /// or session, or is checked by who accepts connections.
    #[must_use]
    pub fn of_one(mut self, shards: u16) -> Self {
        let shards = u32::from(shards.max(1));
        self.max_unauthenticated = self.max_unauthenticated.div_ceil(shards);
        self.max_unauthenticated_per_address =
            self.max_unauthenticated_per_address.div_ceil(shards);
        self.max_sessions = self.max_sessions.div_ceil(shards);
        self.max_retained = self.max_retained.div_ceil(shards);
        self.max_retained_bytes = self.max_retained_bytes.div_ceil(shards.into());
        self.shard_budget = self.shard_budget.div_ceil(shards.into());
        let largest = u64::from(self.max_packet_size) + BESIDE;
        let most = largest.max(self.shard_budget / 4);
        self.max_msg_queue_bytes = self.max_msg_queue_bytes.min(most);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_unauthenticated: 4_096,
            max_unauthenticated_per_address: 1_024,
            connect_timeout: Duration::from_secs(5),
            max_connect_size: 256 * 1024,
            max_keepalive: 0,
            max_packet_size: 1024 * 1024,
            max_qos: Qos::ExactlyOnce,
            retain_available: true,
            receive_maximum: 100,
            max_inflight: 32,
            max_await_rel: 100,
            max_msg_queue: 1_000,
            max_msg_queue_bytes: 16 * 1024 * 1024,
            queue_full: QueueFull::DropOldest,
            queue_qos0_messages: true,
            max_sessions: 100_000,
            max_session_expiry: 30 * 24 * 60 * 60,
            max_topic_alias: 16,
            max_topic_alias_out: 16,
            max_topic_levels: 128,
            max_subscriptions: 10_000,
            max_retained: 100_000,
            max_retained_bytes: 128 * 1024 * 1024,
            max_outbound_bytes: 1024 * 1024,
            shard_budget: 512 * 1024 * 1024,
            allow_zero_length_clientid: true,
            assigned_clientid_prefix: String::from("auto-"),
            delivery_mode: DeliveryMode::OnlyOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_together_are_the_whole() {
        let whole = Config { max_sessions: 10, max_retained: 0, ..Config::default() };
        assert_eq!(whole.clone().of_one(1), whole);
        let part = whole.clone().of_one(3);
        assert_eq!((part.max_sessions, part.max_retained), (4, 0));
        assert_eq!(part.shard_budget, whole.shard_budget.div_ceil(3));
        assert_eq!(part.max_connections, whole.max_connections);
        assert_eq!((part.max_unauthenticated, part.max_unauthenticated_per_address), (1366, 342));
    }

    /// The session of one client that is away stays far below the 80 % of a shard's memory from
    /// which all are slowed down; yet whatever may be published fits into an empty queue.
    #[test]
    fn a_queue_is_a_part_of_its_shard_and_holds_any_message() {
        let bytes = |config: Config, shards| config.of_one(shards).max_msg_queue_bytes;
        assert_eq!(bytes(Config::default(), 8), 16 << 20);
        assert_eq!(bytes(Config::default(), 64), 2 << 20);
        let less = Config { max_msg_queue_bytes: 1000, ..Config::default() };
        assert_eq!(bytes(less, 64), 1000);
        let least = Config { shard_budget: Config::LEAST_BUDGET, ..Config::default() };
        let largest = u64::from(least.max_packet_size);
        assert!(bytes(least, 1) > largest);
    }
}
