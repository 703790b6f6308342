//! Bytes on their way to a socket: small ones copied together, large payloads shared.

use alloc::vec::Vec;

use bytes::Bytes;

/// What [`Broker::transmit`](super::Broker::transmit) fills and a driver writes, in order.
///
/// A driver may use one for all its connections, since it is empty after a complete write; what a
/// socket did not take stays in an outbox of its own.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Payloads, each to be written after the first `at` bytes of `bytes`.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
    /// How much was written already.
    written: usize,
}

impl Outbox {
    /// An empty outbox without memory of its own.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), shared: Vec::new(), shared_len: 0, written: 0 }
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
        let shared = self.shared.iter();
        Slices { bytes: &self.bytes, at: 0, shared, payload: &[], skip: self.written }
    }

    /// What waits, if that is one slice: the usual case, for which a driver needs no list.
    #[must_use]
    pub fn only(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.bytes[self.written..])
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
        self.bytes.clear();
        self.shared.clear();
        self.shared_len = 0;
        self.written = 0;
    }

    /// Memory held, in bytes, shared payloads included.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.bytes.capacity()
            + self.shared.capacity() * size_of::<(usize, Bytes)>()
            + self.shared_len
    }

    /// Gives memory back that is not in use.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.shared.shrink_to_fit();
    }

    /// The copied bytes, to append to.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a payload without copying it.
    pub(crate) fn share(&mut self, payload: Bytes) {
        self.shared_len += payload.len();
        self.shared.push((self.bytes.len(), payload));
    }
}

/// Walks over what is to be written.
struct Slices<'o> {
    /// The copied bytes from `at` on.
    bytes: &'o [u8],
    at: usize,
    shared: core::slice::Iter<'o, (usize, Bytes)>,
    /// Next, if not empty.
    payload: &'o [u8],
    skip: usize,
}

impl<'o> Iterator for Slices<'o> {
    type Item = &'o [u8];

    #[inline]
    fn next(&mut self) -> Option<&'o [u8]> {
        loop {
            let slice = if !self.payload.is_empty() {
                core::mem::take(&mut self.payload)
            } else if let Some((at, payload)) = self.shared.next() {
                let (head, rest) = self.bytes.split_at(at - self.at);
                (self.at, self.bytes, self.payload) = (*at, rest, payload);
                head
            } else if self.bytes.is_empty() {
                return None;
            } else {
                core::mem::take(&mut self.bytes)
            };
            let skipped = self.skip.min(slice.len());
            self.skip -= skipped;
            if skipped < slice.len() {
                return Some(&slice[skipped..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn slices_are_what_was_appended(parts: Vec<(bool, Vec<u8>)>, cuts: Vec<u8>) -> bool {
            let mut outbox = Outbox::new();
            let mut expected = Vec::new();
            for (shared, part) in parts {
                expected.extend_from_slice(&part);
                if shared {
                    outbox.share(Bytes::from(part));
                } else {
                    outbox.bytes().extend_from_slice(&part);
                }
            }
            let mut seen = 0;
            for cut in cuts {
                let rest: Vec<u8> = outbox.slices().flatten().copied().collect();
                if outbox.only().is_some_and(|one| one != rest) {
                    return false;
                }
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
