//! One recipient's PUBLISH: first its sizes, then its bytes.

use alloc::vec::Vec;

use super::DropReason;
use super::message::Message;
use super::outbox::Outbox;
use super::queue::{Copy, Ids};
use crate::codec::{PacketId, Qos, Version};
use crate::connection::{Alias, AliasesOut, Negotiated};
use crate::time::Instant;

/// Payloads from this size on are shared with the socket instead of copied: copying 2 KiB costs
/// about as much as counting one more reference.
pub(super) const SHARE_FROM: usize = 2048;

/// Largest Remaining Length.
const MAX_REMAINING: usize = 268_435_455;

/// What a recipient is to get.
#[derive(Clone, Copy)]
pub(super) struct Parts<'p> {
    pub(super) topic: &'p [u8],
    /// The forwarded properties as they stand in a PUBLISH.
    pub(super) properties: &'p [u8],
    pub(super) payload: &'p [u8],
    /// Seconds left of its Message Expiry Interval.
    pub(super) expiry: Option<u32>,
    pub(super) ids: &'p Ids,
    pub(super) qos: Qos,
    pub(super) retain: bool,
}

impl<'p> Parts<'p> {
    #[inline]
    pub(super) fn of(copy: &'p Copy, now: Instant) -> Self {
        let message = &*copy.message;
        let (topic, properties, payload) = message.body().parts();
        Self {
            topic,
            properties,
            payload,
            // A copy that was sent before its expiry is sent again after it. [MQTT-4.3.3-7]
            expiry: message.seconds_left(now).map(|secs| secs.max(1)),
            ids: &copy.ids,
            qos: copy.qos,
            retain: copy.retain,
        }
    }
}

/// The sizes of a PUBLISH for one recipient, once all that changes them is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    version: Version,
    pub(super) alias: Alias,
    expiry: Option<u32>,
    properties: usize,
    remaining: usize,
}

impl Layout {
    #[inline]
    pub(super) fn of(parts: &Parts<'_>, negotiated: &Negotiated, aliases: &AliasesOut) -> Self {
        let id = if parts.qos == Qos::AtMostOnce { 0 } else { 2 };
        let payload = parts.payload.len();
        if negotiated.version < Version::V5 {
            return Self {
                version: negotiated.version,
                alias: Alias::None,
                expiry: None,
                properties: 0,
                remaining: 2 + parts.topic.len() + id + payload,
            };
        }
        let alias = match negotiated.max_topic_alias {
            0 => Alias::None,
            max => aliases.find(parts.topic, max),
        };
        let ids: usize = parts.ids.iter().map(|id| 1 + vbi_len(id as usize)).sum();
        let properties = ids
            + if alias == Alias::None { 0 } else { 3 }
            + if parts.expiry.is_some() { 5 } else { 0 }
            + parts.properties.len();
        let topic = match alias {
            Alias::Known(_) => 0,
            _ => parts.topic.len(),
        };
        let remaining = 2 + topic + id + vbi_len(properties) + properties + payload;
        let version = negotiated.version;
        Self { version, alias, expiry: parts.expiry, properties, remaining }
    }

    /// The same, without a new alias where that makes the packet too large.
    #[inline]
    pub(super) fn fitting(
        parts: &Parts<'_>,
        negotiated: &Negotiated,
        aliases: &AliasesOut,
    ) -> Result<Self, DropReason> {
        let layout = Self::of(parts, negotiated, aliases);
        if layout.fits(negotiated) {
            return Ok(layout);
        }
        let plain = Negotiated { max_topic_alias: 0, ..*negotiated };
        let layout = Self::of(parts, &plain, aliases);
        if layout.fits(negotiated) { Ok(layout) } else { Err(DropReason::TooLarge) }
    }

    /// [MQTT-3.1.2-24]: the whole packet counts.
    #[inline]
    pub(super) fn fits(&self, negotiated: &Negotiated) -> bool {
        let total = self.total();
        let total = if defect!("packet_size_exceeded") { total.saturating_sub(9) } else { total };
        self.remaining <= MAX_REMAINING && total <= negotiated.max_packet_size as usize
    }

    /// Bytes of the packet.
    #[inline]
    pub(super) const fn total(&self) -> usize {
        1 + vbi_len(self.remaining) + self.remaining
    }

    /// Appends the packet, its payload shared where that is large.
    #[inline]
    pub(super) fn write_to(
        &self,
        parts: &Parts<'_>,
        message: &Message,
        id: Option<PacketId>,
        dup: bool,
        outbox: &mut Outbox,
    ) {
        if parts.payload.len() >= SHARE_FROM {
            outbox.bytes().reserve(5 + self.remaining - parts.payload.len());
            self.write_head(parts, id, dup, outbox.bytes());
            outbox.share(message.payload_shared());
        } else {
            self.write(parts, id, dup, outbox.bytes());
        }
    }

    /// Appends the packet.
    #[inline]
    pub(super) fn write(
        &self,
        parts: &Parts<'_>,
        id: Option<PacketId>,
        dup: bool,
        out: &mut Vec<u8>,
    ) {
        out.reserve(5 + self.remaining);
        self.write_head(parts, id, dup, out);
        out.extend_from_slice(parts.payload);
    }

    #[inline]
    fn write_head(&self, parts: &Parts<'_>, id: Option<PacketId>, dup: bool, out: &mut Vec<u8>) {
        let dup = dup && !defect!("dup_missing") || defect!("dup_passed_on") && parts.retain;
        out.push(0x30 | u8::from(dup) << 3 | (parts.qos as u8) << 1 | u8::from(parts.retain));
        put_vbi(out, self.remaining);
        let topic = match self.alias {
            Alias::Known(_) => &[][..],
            _ => parts.topic,
        };
        out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        out.extend_from_slice(topic);
        if let Some(id) = id {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        if self.version == Version::V5 {
            self.write_properties(parts, out);
        }
    }

    fn write_properties(&self, parts: &Parts<'_>, out: &mut Vec<u8>) {
        put_vbi(out, self.properties);
        if let Alias::New(alias) | Alias::Known(alias) = self.alias {
            out.push(0x23);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        if let Some(secs) = self.expiry {
            out.push(0x02);
            out.extend_from_slice(&secs.to_be_bytes());
        }
        for id in parts.ids.iter() {
            out.push(0x0b);
            put_vbi(out, id as usize);
        }
        out.extend_from_slice(parts.properties);
    }
}

#[inline]
const fn vbi_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[inline]
fn put_vbi(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
