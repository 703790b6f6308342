//! Figures of a shard.

/// Counts since the start, and current numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections open.
    pub connections: u64,
    /// Connections open and not accepted yet.
    pub unauthenticated: u64,
    /// Sessions held, connected or not.
    pub sessions: u64,
    /// Sessions with a connection.
    pub sessions_connected: u64,
    /// Subscriptions held, shared ones included.
    pub subscriptions: u64,
    /// Retained messages held.
    pub retained: u64,
    /// Bytes of retained messages.
    pub retained_bytes: u64,
    /// Bytes charged to the shard's budget.
    pub used_bytes: u64,
    /// Connections accepted since the start.
    pub connects_total: u64,
    /// Connections of accepted clients that ended.
    pub disconnects_total: u64,
    /// Connections refused: over a limit, no CONNECT in time, or CONNACK with an error.
    pub refused_total: u64,
    /// Sessions that expired.
    pub sessions_expired_total: u64,
    /// Bytes received.
    pub bytes_received_total: u64,
    /// Bytes handed to the driver for sending.
    pub bytes_sent_total: u64,
    /// Packets received, by packet type (the four bits of the fixed header).
    pub packets_received: [u64; 16],
    /// Packets sent, by packet type.
    pub packets_sent: [u64; 16],
    /// PUBLISH packets taken from clients, by QoS.
    pub messages_received: [u64; 3],
    /// PUBLISH packets sent to clients, by QoS.
    pub messages_sent: [u64; 3],
    /// Copies lost, by [`DropReason`](super::DropReason).
    pub messages_dropped: [u64; 8],
    /// Copies lost, by QoS.
    pub dropped_by_qos: [u64; 3],
    /// Messages waiting in all session queues.
    pub queued: u64,
}
