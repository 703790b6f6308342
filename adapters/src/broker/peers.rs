//! What a shard has to do with the others: batches in, batches out.

use fulmar_core::broker::PeerMsg;

use super::mesh::bits;
use super::shard::{FEW, LARGE, Shard};

/// Messages of other shards taken in a turn.
const TURN: usize = 1024;
/// Sleeping shards that one thread stands in for after a turn: they take theirs one by one.
const STAND_INS: u32 = 2;
/// Messages that a thread stands in with: more of them are matched and written at home, where what
/// that takes is in the cache of the other core.
pub(super) const LITTLE: usize = 4;
/// Messages that a batch which is kept for the next one has room for.
const KEPT: usize = 4096;

impl Shard {
    /// Hands over what the other shards sent, in bursts, as with what clients send, and so much
    /// that clients are not kept waiting for long.
    pub(super) fn take_peers(&mut self) {
        if self.mesh.shards() == 1 {
            return;
        }
        if self.from_peers.is_empty() {
            self.fetch();
        }
        let mut left = TURN;
        while left > 0
            && let Some((from, mut batch)) = self.from_peers.pop_front()
        {
            while left > 0
                && let Some(msg) = batch.pop_front()
            {
                let messages = msg.messages();
                self.crossed += messages as u64;
                // What carries none is work, too.
                let messages = messages.max(1);
                left = left.saturating_sub(messages);
                self.count_messages(messages, msg.payload());
                self.broker.peer_message(self.now, from, msg);
            }
            if !batch.is_empty() {
                self.from_peers.push_front((from, batch));
            } else {
                self.keep(batch.into());
            }
        }
        self.effects();
    }

    /// For the next batch: one for each other shard, unless it had much.
    fn keep(&mut self, batch: Vec<PeerMsg>) {
        if batch.capacity() <= KEPT && self.batches.len() < usize::from(self.mesh.shards()) {
            self.batches.push(batch);
        }
    }

    /// The time is looked at after it: a message must not come before it was sent, or its Message
    /// Expiry Interval would grow. `[MQTT-3.3.2-6]`
    fn fetch(&mut self) {
        for from in bits(self.mesh.awake(self.shard)) {
            let mut batch = self.batches.pop().unwrap_or_default();
            self.mesh.receive(from, self.shard, &mut batch);
            self.from_peers.push_back((from, batch.into()));
        }
        if !self.from_peers.is_empty() {
            self.now = self.clock.now();
        }
    }

    /// Sends each other shard what there is for it, as one batch. One that sleeps is woken; or, if
    /// it is little and this one has little to do, noted in `stand_ins`.
    pub(super) fn tell_peers(&mut self) {
        let idle = self.calm && self.to_read.is_empty() && self.to_write.len() <= FEW;
        let mut left = if idle { LITTLE } else { 0 };
        for to in bits(self.broker.peers_waiting()) {
            let mut batch = self.batches.pop().unwrap_or_default();
            self.broker.take_peer_messages(to, &mut batch);
            // Under load nobody stands in, and nothing is counted.
            let counted = if left > 0 { &batch[..] } else { &[] };
            let messages: usize = counted.iter().map(PeerMsg::messages).sum();
            let bytes: usize = counted.iter().map(PeerMsg::payload).sum();
            let sleeps = self.mesh.send(self.shard, to, &mut batch);
            self.keep(batch);
            // Without a message it is answered nothing, and nobody waits for that.
            let little = (1..=left).contains(&messages) && bytes < LARGE;
            if sleeps && little && self.stand_ins.count_ones() < STAND_INS {
                left -= messages;
                self.stand_ins |= 1 << to;
            } else if sleeps {
                self.mesh.wake(to);
            }
        }
    }
}
