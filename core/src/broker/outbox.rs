//! Bytes on their way to a socket: small ones copied together, large payloads shared.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::message::{Ledger, Message};

/// What [`Broker::transmit`](super::Broker::transmit) fills and a driver writes, in order.
///
/// A driver may use one for all its connections, since it is empty after a complete write; what a
/// socket did not take stays in an outbox of its own, after [`Outbox::shrink`]. What waits in it
/// counts towards the budget of its shard.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Messages, the payload of each to be written after the first `at` bytes of `bytes`. They
    /// are charged for as long as they are alive.
    shared: Vec<(usize, Arc<Message>)>,
    shared_len: usize,
    /// How much was written already.
    written: usize,
    /// Where `charged` bytes are charged, beside the messages.
    ledger: Option<Ledger>,
    charged: u64,
}

impl Outbox {
    /// An empty outbox without memory of its own.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            shared: Vec::new(),
            shared_len: 0,
            written: 0,
            ledger: None,
            charged: 0,
        }
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared_len - self.written
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices to write, in order, without those written already.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.written;
        let ends = self.shared.iter().map(|(at, _)| *at).chain([self.bytes.len()]);
        let payloads = self.shared.iter().map(|(_, message)| message.payload()).chain([&[][..]]);
        let mut start = 0;
        ends.zip(payloads)
            .flat_map(move |(end, payload)| {
                let head = &self.bytes[start..end];
                start = end;
                [head, payload]
            })
            .filter_map(move |slice| {
                let skipped = skip.min(slice.len());
                skip -= skipped;
                (skipped < slice.len()).then(|| &slice[skipped..])
            })
    }

    /// `written` more bytes reached the socket. Keeps the memory when all have.
    pub fn advance(&mut self, written: usize) {
        self.written += written.min(self.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Throws everything away; keeps the memory.
    pub fn clear(&mut self) {
        self.charge(0);
        self.bytes.clear();
        self.shared.clear();
        self.shared_len = 0;
        self.written = 0;
    }

    /// Memory held, in bytes, shared payloads included.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.bytes.capacity()
            + self.shared.capacity() * size_of::<(usize, Arc<Message>)>()
            + self.shared_len
    }

    /// Gives memory back that is not in use, and charges the rest to the budget of the shard that
    /// filled it last, until it is written or thrown away. For an outbox that is to be kept.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.shared.shrink_to_fit();
        self.charge(self.bytes.capacity() as u64);
    }

    fn charge(&mut self, bytes: u64) {
        if let Some(ledger) = &self.ledger
            && self.charged != bytes
        {
            ledger.change(self.charged, bytes);
            self.charged = bytes;
        }
    }

    /// The shard that fills it, whose budget is to be charged.
    pub(super) fn count_in(&mut self, ledger: &Ledger) {
        if self.ledger.as_ref().is_none_or(|known| !known.is(ledger)) {
            self.charge(0);
            self.ledger = Some(ledger.clone());
        }
    }

    /// The copied bytes, to append to.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends the payload of a message without copying it.
    pub(super) fn share(&mut self, message: Arc<Message>) {
        self.shared_len += message.payload().len();
        self.shared.push((self.bytes.len(), message));
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.charge(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Body, Head, MessageId};
    use super::*;
    use crate::codec::{Properties, Qos};
    use crate::time::Instant;

    fn message(payload: &[u8]) -> Arc<Message> {
        let head = Head {
            id: MessageId::default(),
            qos: Qos::AtMostOnce,
            retain: false,
            expires: Instant::NEVER,
            publisher: None,
        };
        Message::new(Body::new("t", Properties::EMPTY, payload), head, &Ledger::default())
    }

    quickcheck::quickcheck! {
        fn slices_are_what_was_appended(parts: Vec<(bool, Vec<u8>)>, cuts: Vec<u8>) -> bool {
            let mut outbox = Outbox::new();
            let mut expected = Vec::new();
            for (shared, part) in parts {
                expected.extend_from_slice(&part);
                if shared {
                    outbox.share(message(&part));
                } else {
                    outbox.bytes().extend_from_slice(&part);
                }
            }
            let mut seen = 0;
            for cut in cuts {
                let rest: Vec<u8> = outbox.slices().flatten().copied().collect();
                if rest != expected[seen..] || rest.len() != outbox.len() {
                    return false;
                }
                let cut = usize::from(cut).min(rest.len());
                outbox.advance(cut);
                seen += cut;
                if outbox.is_empty() {
                    return seen == expected.len();
                }
            }
            true
        }
    }
}
