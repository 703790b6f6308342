//! An application message, kept in wire form.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::layout::SHARE_FROM;
use crate::codec::{Properties, Property, PropertyPacket, Publish, Qos};
use crate::time::Instant;

/// Bytes charged for a message beside its body.
pub(super) const OVERHEAD: u64 = 160;

/// Bytes up to which a body is copied wherever it goes, as in the runs between shards.
const OWN: usize = 512;

/// Bytes up to which the memory of a body is kept for the next one.
const KEPT_BYTES: usize = 128;
/// Spare messages at most, 600 KiB with what an allocator adds: so many are under way where fifty
/// clients take forty each. Beside the memory budget, of which they are this part at most.
const KEPT: usize = if cfg!(fuzzing) { 4 } else { 2048 };
const PART: u64 = 16;
/// Bytes that a body may leave unused of the memory of another one.
const SLACK: usize = 64;

/// Counts the bytes of all messages alive in a shard. Microcontrollers have no 64-bit atomics.
#[derive(Clone, Debug, Default)]
struct Ledger(Arc<AtomicUsize>);

impl Ledger {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Where the messages of a shard come from. Those that nobody has any more leave their memory to
/// the next ones, so that steady traffic allocates nothing while messages are short.
#[derive(Debug)]
pub(super) struct Messages {
    ledger: Ledger,
    /// Nobody else has them, and they are charged with nothing.
    spare: Vec<Arc<Message>>,
    /// How many there may be.
    kept: usize,
}

impl Messages {
    /// None yet, for a shard with this memory budget in bytes.
    pub(super) fn new(budget: u64) -> Self {
        let most = budget / (PART * (OVERHEAD + KEPT_BYTES as u64));
        let kept = usize::try_from(most).unwrap_or(usize::MAX).min(KEPT);
        Self { ledger: Ledger::default(), spare: Vec::new(), kept }
    }

    /// Bytes charged for all that are alive.
    pub(super) fn bytes(&self) -> u64 {
        self.ledger.0.load(Ordering::Relaxed) as u64
    }

    /// A message; `body` may use the memory it is given, which is empty.
    pub(super) fn make(
        &mut self,
        head: Head,
        arrival: u64,
        body: impl FnOnce(Vec<u8>) -> Body,
    ) -> Arc<Message> {
        if let Some(mut spare) = self.spare.pop()
            && let Some(message) = Arc::get_mut(&mut spare)
        {
            message.body = body(message.body.take_memory());
            (message.head, message.arrival) = (head, arrival);
            message.charge();
            return spare;
        }
        let (body, ledger) = (body(Vec::new()), self.ledger.clone());
        let mut message = Message { body, head, arrival, charged: 0, ledger };
        message.charge();
        Arc::new(message)
    }

    /// Takes back what one of those who had a message needs no more: its memory is kept if that was
    /// the last one. A message may as well be dropped.
    pub(super) fn give(&mut self, mut message: Arc<Message>) {
        // The count is looked at first, since it costs less than to ask for the message alone.
        if Arc::strong_count(&message) == 1
            && self.spare.len() < self.kept
            && let Some(last) = Arc::get_mut(&mut message)
            && last.body.is_kept()
        {
            last.uncharge();
            last.head.publisher = None;
            self.spare.push(message);
        }
    }
}

/// Names a message among all that were ever published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Start of the broker that took it.
    pub epoch: u32,
    /// Shard that took it.
    pub shard: u16,
    /// Its number there.
    pub sequence: u64,
}

/// What goes with a body into a [`Message`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) id: MessageId,
    pub(super) qos: Qos,
    /// As published.
    pub(super) retain: bool,
    /// [`Instant::NEVER`] without a Message Expiry Interval.
    pub(super) expires: Instant,
    /// Client Identifier of the publisher, for No Local; `None` for an embedding program.
    pub(super) publisher: Option<Arc<str>>,
}

/// A message owned by the shard: `topic | properties to forward | payload` in one allocation, so
/// that each recipient's PUBLISH is a header and two copies.
#[derive(Debug)]
pub(super) struct Message {
    body: Body,
    pub(super) head: Head,
    /// When this shard took it, in its own reckoning: its number is another shard's, perhaps.
    pub(super) arrival: u64,
    /// Bytes it stands with in the ledger.
    charged: usize,
    ledger: Ledger,
}

/// The bytes of a message, to be had before it has a [`Head`], as for a will.
#[derive(Clone, Debug)]
pub(super) struct Body {
    bytes: Memory,
    topic_at: u16,
    topic_len: u16,
    properties_at: u32,
    properties_len: u32,
    /// It goes to the end.
    payload_at: u32,
}

/// Where the bytes of a message lie.
#[derive(Clone, Debug)]
enum Memory {
    /// Few, which are copied wherever they go.
    Own(Vec<u8>),
    /// They are shared with sockets and other shards.
    Shared(Bytes),
}

impl Deref for Memory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl PartialEq for Body {
    /// Wherever the parts lie.
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Body {
    /// Copies once, without what is not forwarded: topic alias, expiry and will delay.
    pub(super) fn new(topic: &str, properties: Properties<'_>, payload: &[u8]) -> Self {
        Self::new_in(Vec::new(), topic, properties, payload)
    }

    /// The same, into memory that is empty, if it fits.
    pub(super) fn new_in(
        mut bytes: Vec<u8>,
        topic: &str,
        properties: Properties<'_>,
        payload: &[u8],
    ) -> Self {
        let forwarded = || properties.iter().filter(|property| is_forwarded(property));
        let properties_len: usize = forwarded().map(|property| property.wire_len()).sum();
        let len = topic.len() + properties_len + payload.len();
        if bytes.capacity() < len || bytes.capacity() > len + SLACK || len > OWN {
            bytes = Vec::with_capacity(len);
        }
        bytes.extend_from_slice(topic.as_bytes());
        if properties_len > 0 {
            bytes.resize(topic.len() + properties_len, 0);
            let mut at = topic.len();
            for property in forwarded() {
                at += property.write(&mut bytes[at..]);
            }
        }
        bytes.extend_from_slice(payload);
        Self {
            bytes: if len > OWN { Memory::Shared(bytes.into()) } else { Memory::Own(bytes) },
            topic_at: 0,
            topic_len: topic.len() as u16,
            properties_at: topic.len() as u32,
            properties_len: properties_len as u32,
            payload_at: (topic.len() + properties_len) as u32,
        }
    }

    /// Keeps `memory`, in which the PUBLISH lies, where it is worth more than a copy of what is
    /// forwarded, in `spare` if it fits.
    pub(super) fn of(publish: &Publish<'_>, memory: Option<&Bytes>, spare: Vec<u8>) -> Self {
        let kept = memory.filter(|_| publish.payload.len() >= SHARE_FROM);
        kept.and_then(|memory| Self::within(publish, memory)).unwrap_or_else(|| {
            Self::new_in(spare, publish.topic, publish.properties, publish.payload)
        })
    }

    fn within(publish: &Publish<'_>, memory: &Bytes) -> Option<Self> {
        // Without a topic alias, the topic stands there too.
        let properties = match publish.properties.is_empty() {
            true => &[],
            false => publish.properties.wire()?,
        };
        if !publish.properties.iter().all(|property| is_forwarded(&property)) {
            return None;
        }
        let at = |part: &[u8]| {
            let start = (part.as_ptr() as usize).checked_sub(memory.as_ptr() as usize)?;
            (start + part.len() <= memory.len()).then_some(start)
        };
        Some(Self {
            topic_at: u16::try_from(at(publish.topic.as_bytes())?).ok()?,
            topic_len: publish.topic.len() as u16,
            properties_at: if properties.is_empty() { 0 } else { at(properties)? as u32 },
            properties_len: properties.len() as u32,
            payload_at: at(publish.payload)? as u32,
            bytes: Memory::Shared(memory.clone()),
        })
    }

    /// Whether a message with it is kept for the next one. Of larger ones only the head could be,
    /// which would keep the allocator from giving back what lay between them.
    fn is_kept(&self) -> bool {
        matches!(&self.bytes, Memory::Own(bytes) if bytes.capacity() <= KEPT_BYTES)
    }

    /// Its memory, empty, if nobody else can have it; nothing is left to read then.
    fn take_memory(&mut self) -> Vec<u8> {
        match core::mem::replace(&mut self.bytes, Memory::Own(Vec::new())) {
            Memory::Own(mut bytes) => {
                bytes.clear();
                bytes
            }
            Memory::Shared(_) => Vec::new(),
        }
    }

    pub(super) fn topic_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.topic_at)..][..usize::from(self.topic_len)]
    }

    /// Topic, the forwarded properties as they stand in a PUBLISH, and payload.
    #[inline]
    pub(super) fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let bytes = &*self.bytes;
        let topic = &bytes[usize::from(self.topic_at)..][..usize::from(self.topic_len)];
        let properties = match self.properties_len {
            0 => &[],
            len => &bytes[self.properties_at as usize..][..len as usize],
        };
        (topic, properties, &bytes[self.payload_at as usize..])
    }

    pub(super) fn topic(&self) -> &str {
        // Never fails: it was a str.
        core::str::from_utf8(self.topic_bytes()).unwrap_or_default()
    }

    /// Bytes of topic, properties and payload: the same whether they lie in memory of their own or
    /// in that of the PUBLISH, whose few bytes beside them are in `OVERHEAD`.
    pub(super) fn len(&self) -> usize {
        let payload = self.bytes.len() - self.payload_at as usize;
        usize::from(self.topic_len) + self.properties_len as usize + payload
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[self.payload_at as usize..]
    }

    /// Bytes charged for a message with it.
    pub(super) fn footprint(&self) -> u64 {
        self.len() as u64 + OVERHEAD
    }

    /// The forwarded properties as they stand in a PUBLISH.
    pub(super) fn wire_properties(&self) -> &[u8] {
        &self.bytes[self.properties_at as usize..][..self.properties_len as usize]
    }
}

fn is_forwarded(property: &Property<'_>) -> bool {
    matches!(
        property,
        Property::PayloadFormatIndicator(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(..)
    )
}

impl Message {
    fn charge(&mut self) {
        self.charged = self.footprint() as usize;
        self.ledger.add(self.charged);
    }

    fn uncharge(&mut self) {
        self.ledger.take(core::mem::take(&mut self.charged));
    }

    pub(super) fn topic_bytes(&self) -> &[u8] {
        self.body.topic_bytes()
    }

    pub(super) fn topic(&self) -> &str {
        self.body.topic()
    }

    /// The forwarded properties as they stand in a PUBLISH.
    pub(super) fn wire_properties(&self) -> &[u8] {
        self.body.wire_properties()
    }

    pub(super) fn properties(&self) -> Properties<'_> {
        Properties::from_wire(PropertyPacket::Publish, self.wire_properties()).unwrap_or_default()
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.body.payload()
    }

    /// The payload, not copied where it is large.
    pub(super) fn payload_shared(&self) -> Bytes {
        match &self.body.bytes {
            Memory::Own(_) => Bytes::copy_from_slice(self.payload()),
            Memory::Shared(bytes) => bytes.slice(self.body.payload_at as usize..),
        }
    }

    /// What it consists of, for another shard.
    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    /// Bytes charged for it.
    pub(super) fn footprint(&self) -> u64 {
        self.body.footprint()
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.head.expires <= now && !defect!("expired_delivered")
    }

    /// Seconds left of its Message Expiry Interval, rounded up: it never reads 0 while alive.
    /// `[MQTT-3.3.2-6]`
    pub(super) fn seconds_left(&self, now: Instant) -> Option<u32> {
        if self.head.expires == Instant::NEVER {
            return None;
        }
        let micros = self.head.expires.since(now).as_micros();
        Some(u32::try_from(micros.div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.uncharge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(messages: &mut Messages, payload: &[u8]) -> Arc<Message> {
        let head = Head {
            id: MessageId::default(),
            qos: Qos::AtMostOnce,
            retain: false,
            expires: Instant::NEVER,
            publisher: Some(Arc::from("publisher")),
        };
        messages.make(head, 7, |spare| Body::new_in(spare, "topic", Properties::EMPTY, payload))
    }

    #[test]
    fn the_last_one_gives_a_message_back_and_the_next_one_is_made_of_it() {
        let mut messages = Messages::new(1_000_000);
        let first = make(&mut messages, &[1; 64]);
        let at = (Arc::as_ptr(&first), first.payload().as_ptr());
        let charged = messages.bytes();
        assert_eq!(charged, first.footprint());
        let other = first.clone();
        messages.give(first);
        assert_eq!(messages.bytes(), charged, "somebody has it");
        assert_eq!(other.payload(), [1; 64]);
        messages.give(other);
        assert_eq!(messages.bytes(), 0);
        assert!(messages.spare[0].head.publisher.is_none(), "nothing is held for it");
        let next = make(&mut messages, &[2; 60]);
        assert_eq!((Arc::as_ptr(&next), next.payload().as_ptr()), at, "the same memory");
        assert_eq!((next.topic(), next.payload(), next.arrival), ("topic", &[2; 60][..], 7));
        assert_eq!(messages.bytes(), next.footprint());
        drop(next);
        assert_eq!(messages.bytes(), 0);
    }

    #[test]
    fn what_is_kept_has_a_limit_and_a_short_message_does_not_sit_in_long_memory() {
        let mut messages = Messages::new(3 * PART * (OVERHEAD + KEPT_BYTES as u64));
        let many: Vec<_> = (0..5).map(|_| make(&mut messages, &[1; 100])).collect();
        many.into_iter().for_each(|message| messages.give(message));
        assert_eq!((messages.spare.len(), messages.bytes()), (3, 0));
        let short = make(&mut messages, b"x");
        assert!(matches!(&short.body.bytes, Memory::Own(bytes) if bytes.capacity() <= 6 + SLACK));
        messages.spare.clear();
        for size in [KEPT_BYTES, OWN, 4 * OWN] {
            let long = make(&mut messages, &alloc::vec![3; size]);
            assert_eq!(long.payload().len(), size);
            messages.give(long);
            assert!(messages.spare.is_empty());
        }
        assert_eq!(messages.bytes(), short.footprint());
    }
}
