//! An application message, kept in wire form.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::layout::SHARE_FROM;
use crate::codec::{Properties, Property, PropertyPacket, Publish, Qos};
use crate::time::Instant;

/// Bytes charged for a message beside its body.
pub(super) const OVERHEAD: u64 = 160;

/// Counts the bytes of all messages alive in a shard. Microcontrollers have no 64-bit atomics.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<AtomicUsize>);

impl Ledger {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed) as u64
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
    ledger: Ledger,
}

/// The bytes of a message, to be had before it has a [`Head`], as for a will.
#[derive(Clone, Debug)]
pub(super) struct Body {
    bytes: Bytes,
    topic_at: u16,
    topic_len: u16,
    properties_at: u32,
    properties_len: u32,
    /// It goes to the end.
    payload_at: u32,
}

impl PartialEq for Body {
    /// Wherever the parts lie.
    fn eq(&self, other: &Self) -> bool {
        let parts = |body: &Self| {
            (body.topic_bytes().len(), body.wire_properties().len(), body.payload().len())
        };
        parts(self) == parts(other)
            && self.topic_bytes() == other.topic_bytes()
            && self.wire_properties() == other.wire_properties()
            && self.payload() == other.payload()
    }
}

impl Body {
    /// Copies once, without what is not forwarded: topic alias, expiry and will delay.
    pub(super) fn new(topic: &str, properties: Properties<'_>, payload: &[u8]) -> Self {
        let forwarded = || properties.iter().filter(|property| is_forwarded(property));
        let properties_len: usize = forwarded().map(|property| property.wire_len()).sum();
        let mut bytes = Vec::with_capacity(topic.len() + properties_len + payload.len());
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
            bytes: Bytes::from(bytes),
            topic_at: 0,
            topic_len: topic.len() as u16,
            properties_at: topic.len() as u32,
            properties_len: properties_len as u32,
            payload_at: (topic.len() + properties_len) as u32,
        }
    }

    /// Keeps `memory`, in which the PUBLISH lies, where it is worth more than a copy of what is
    /// forwarded.
    pub(super) fn of(publish: &Publish<'_>, memory: Option<&Bytes>) -> Self {
        memory
            .filter(|_| publish.payload.len() >= SHARE_FROM)
            .and_then(|memory| Self::within(publish, memory))
            .unwrap_or_else(|| Self::new(publish.topic, publish.properties, publish.payload))
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
            bytes: memory.clone(),
        })
    }

    pub(super) fn topic_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.topic_at)..][..usize::from(self.topic_len)]
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
    pub(super) fn new(body: Body, head: Head, arrival: u64, ledger: &Ledger) -> Arc<Self> {
        let message = Self { body, head, arrival, ledger: ledger.clone() };
        ledger.0.fetch_add(message.footprint() as usize, Ordering::Relaxed);
        Arc::new(message)
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

    /// The payload without copying it.
    pub(super) fn payload_shared(&self) -> Bytes {
        self.body.bytes.slice(self.body.payload_at as usize..)
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
        self.ledger.0.fetch_sub(self.footprint() as usize, Ordering::Relaxed);
    }
}
