//! Figures of a shard.

/// Counts since the start, and current numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections open.
    pub connections: u64,
    /// Connections open and not accepted yet.
    pub unauthenticated: u64,
    /// Connections that are not read on now since their input waits for other shards: a publisher
    /// for credit or for its messages to be taken, SUBSCRIBE for fewer open questions, CONNECT for
    /// what its client left behind elsewhere. With one shard 0.
    pub waiting: u64,
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
    /// Bytes received from clients. Those of a connection that was handed over to another shard
    /// until then, its CONNECT and all behind, are counted by both shards.
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

impl Stats {
    /// Adds the figures of another shard.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.connections, other.connections),
            (&mut self.unauthenticated, other.unauthenticated),
            (&mut self.waiting, other.waiting),
            (&mut self.sessions, other.sessions),
            (&mut self.sessions_connected, other.sessions_connected),
            (&mut self.subscriptions, other.subscriptions),
            (&mut self.retained, other.retained),
            (&mut self.retained_bytes, other.retained_bytes),
            (&mut self.used_bytes, other.used_bytes),
            (&mut self.connects_total, other.connects_total),
            (&mut self.disconnects_total, other.disconnects_total),
            (&mut self.refused_total, other.refused_total),
            (&mut self.sessions_expired_total, other.sessions_expired_total),
            (&mut self.bytes_received_total, other.bytes_received_total),
            (&mut self.bytes_sent_total, other.bytes_sent_total),
            (&mut self.queued, other.queued),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
        let add = |sums: &mut [u64], more: &[u64]| {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        };
        add(&mut self.packets_received, &other.packets_received);
        add(&mut self.packets_sent, &other.packets_sent);
        add(&mut self.messages_received, &other.messages_received);
        add(&mut self.messages_sent, &other.messages_sent);
        add(&mut self.messages_dropped, &other.messages_dropped);
        add(&mut self.dropped_by_qos, &other.dropped_by_qos);
    }
}
