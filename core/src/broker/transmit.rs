//! Bytes out: what waits for a connection, pulled when its socket can take it.

use alloc::string::String;
use alloc::vec::Vec;

use super::acks::ack;
use super::calls::Call;
use super::conn::Conn;
use super::fanout::Job;
use super::outbox::Outbox;
use super::queue::Copy;
use super::slots::Key;
use super::{Broker, ConnId, Delivery, DropReason, SubscriberId};
use crate::codec::{Packet, PacketId, Property, Qos, ReasonCode, Version};
use crate::connection::{Alias, AliasesOut, Negotiated};
use crate::session::Resend;
use crate::time::Instant;

/// Payloads from this size on are shared with the socket instead of copied: copying 2 KiB costs
/// about as much as counting one more reference.
const SHARE_FROM: usize = 2048;

/// Copied bytes of one pull that are not charged until they are written: few enough for every
/// connection to hold them.
const UNCHARGED: usize = 8 * 1024;

/// Empty lists of lent messages that are kept.
const SPARE_LISTS: usize = 256;

/// A session with fewer copies waiting has room for retained messages.
pub(super) const WALK_BELOW: usize = 32;

/// Largest Remaining Length.
const MAX_REMAINING: usize = 268_435_455;

impl Broker {
    /// Appends bytes for the socket to `out`, about `budget` bytes at most; one large packet may
    /// exceed it. Call when the socket can take them.
    ///
    /// True: call again when these are written, since more waits, or since so much was given that
    /// it is charged to the budget until then. False: nothing more, and a new
    /// [`Effect::Transmit`](super::Effect::Transmit) will tell. Harmless at any time.
    pub fn transmit(
        &mut self,
        now: Instant,
        conn: ConnId,
        out: &mut Outbox,
        budget: usize,
    ) -> bool {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(now, &Call::Transmit { conn, budget });
        }
        let key = conn.key();
        let Some(mut conn) = self.conns.take(key) else { return false };
        self.take_back(&mut conn);
        let (start, copied) = (out.len(), out.bytes().len());
        if !conn.out.is_empty() {
            out.bytes().extend_from_slice(&conn.out);
            let sent = core::mem::take(&mut conn.out);
            self.spare(sent);
        }
        let more = match conn.session {
            Some(session) if !conn.closing => {
                self.transmit_session(now, &mut conn, session, out, start.saturating_add(budget))
            }
            _ => false,
        };
        self.stats.bytes_sent_total += (out.len() - start) as u64;
        let copied = out.bytes().len() - copied;
        if copied > UNCHARGED {
            conn.lent_bytes = copied;
        }
        let more = more || conn.lent_bytes > 0 || !conn.lent.is_empty();
        conn.said = more;
        self.charge(&mut conn);
        self.conns.put(key, conn);
        if let Some(recorder) = &mut self.recorder {
            recorder.sent(out, start);
        }
        more
    }

    /// What was pulled from a connection before is written: it holds no memory any more.
    fn take_back(&mut self, conn: &mut Conn) {
        conn.lent_bytes = 0;
        let mut lent = core::mem::take(&mut conn.lent);
        if lent.capacity() > 0 && self.lent.len() < SPARE_LISTS {
            lent.clear();
            self.lent.push(lent);
        }
    }

    fn transmit_session(
        &mut self,
        now: Instant,
        conn: &mut Conn,
        key: Key,
        out: &mut Outbox,
        limit: usize,
    ) -> bool {
        let mut negotiated = conn.machine.negotiated();
        negotiated.max_topic_alias =
            negotiated.max_topic_alias.min(self.config.max_topic_alias_out);
        if !self.resend(now, &negotiated, key, out, limit) {
            return true;
        }
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return false };
            let window = session.outbound.room();
            let Some(copy) = session.queue.front(window) else { break };
            if out.len() >= limit {
                return true;
            }
            let layout = if copy.message.is_expired(now) {
                Err(DropReason::Expired)
            } else {
                Layout::fitting(copy, &negotiated, &conn.aliases, now)
            };
            let Some(copy) = session.queue.pop(window, &mut self.pool) else { break };
            let layout = match layout {
                Ok(layout) => layout,
                Err(why) => {
                    self.unqueue(key, &copy, why);
                    continue;
                }
            };
            self.stats.queued -= 1;
            session.delivered[copy.qos as usize] += 1;
            self.stats.messages_sent[copy.qos as usize] += 1;
            self.stats.packets_sent[3] += 1;
            if let Alias::New(_) = layout.alias {
                conn.aliases.set(copy.message.topic());
            }
            if copy.qos == Qos::AtMostOnce {
                self.places -= 1;
                layout.write(&copy, None, false, out);
                if copy.message.payload().len() >= SHARE_FROM {
                    if conn.lent.capacity() == 0 {
                        conn.lent = self.lent.pop().unwrap_or_default();
                    }
                    conn.lent.push(copy.message);
                }
                continue;
            }
            let begun = session.outbound.begin(copy.qos, copy);
            debug_assert!(begun.is_ok(), "room was checked");
            if let Ok(id) = begun
                && let Some(copy) = session.outbound.get(id)
            {
                layout.write(copy, Some(id), false, out);
            }
        }
        self.sleep(key);
        false
    }

    /// Sends again what was under way on the connection before. `[MQTT-4.4.0-1]` False if more
    /// waits.
    fn resend(
        &mut self,
        now: Instant,
        negotiated: &Negotiated,
        key: Key,
        out: &mut Outbox,
        limit: usize,
    ) -> bool {
        // Aliases belong to one connection; a repeat is sent in full.
        let plain = Negotiated { max_topic_alias: 0, ..*negotiated };
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return true };
            if !session.resending {
                return true;
            }
            if out.len() >= limit {
                return false;
            }
            match session.outbound.next_resend() {
                Some(Resend::Publish { id, what, .. }) => {
                    let layout = Layout::of(what, &plain, &AliasesOut::default(), now);
                    if layout.fits(negotiated) {
                        layout.write(what, Some(id), true, out);
                        self.stats.messages_sent[what.qos as usize] += 1;
                        self.stats.packets_sent[3] += 1;
                        continue;
                    }
                    // Sent before, to a client that accepts less today. [MQTT-3.1.2-25]
                    if let Some(copy) = session.outbound.cancel(id) {
                        self.places -= 1;
                        self.drop_copy(key, &copy, DropReason::TooLarge);
                    }
                }
                Some(Resend::Pubrel { id }) => {
                    let pubrel = Packet::Pubrel(ack(id, ReasonCode::Success));
                    if negotiated.send(&pubrel, out.bytes()).is_ok() {
                        self.stats.packets_sent[6] += 1;
                    }
                }
                None => {
                    session.resending = session.outbound.resends();
                    return true;
                }
            }
        }
    }

    /// Nothing can be sent for now; there may be room for retained messages.
    fn sleep(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.woken = false;
        if !session.walking
            && session.queue.len() < WALK_BELOW
            && session.walks.iter().any(|walk| !walk.asked)
        {
            session.walking = true;
            self.jobs.push_back(Job::Walk(key));
        }
    }

    /// Takes a message that waits for a local subscriber. `None`: nothing more, and a new
    /// [`Effect::Available`](super::Effect::Available) will tell; harmless at any time.
    pub fn take(&mut self, now: Instant, subscriber: SubscriberId) -> Option<Delivery> {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(now, &Call::Take(subscriber));
        }
        let key = subscriber.key();
        loop {
            let session = self.sessions.get_mut(key)?;
            let Some(copy) = session.queue.pop(true, &mut self.pool) else {
                self.sleep(key);
                return None;
            };
            if copy.message.is_expired(now) {
                self.unqueue(key, &copy, DropReason::Expired);
                continue;
            }
            self.places -= 1;
            self.stats.queued -= 1;
            session.delivered[copy.qos as usize] += 1;
            return Some(delivery(&copy, now));
        }
    }

    /// Copies lost for a local subscriber since it was made, because it was slow.
    #[must_use]
    pub fn overflow(&self, subscriber: SubscriberId) -> u64 {
        self.sessions.get(subscriber.key()).map_or(0, |s| s.dropped.iter().sum())
    }
}

fn delivery(copy: &Copy, now: Instant) -> Delivery {
    let message = &copy.message;
    let mut delivery = Delivery {
        id: message.head.id,
        publisher: message.head.publisher.clone(),
        topic: String::from(message.topic()),
        payload: message.payload_shared(),
        qos: copy.qos,
        retain: copy.retain,
        user_properties: Vec::new(),
        content_type: None,
        response_topic: None,
        correlation_data: None,
        expiry: message.seconds_left(now),
    };
    for property in message.properties().iter() {
        match property {
            Property::UserProperty(name, value) => {
                delivery.user_properties.push((String::from(name), String::from(value)));
            }
            Property::ContentType(text) => delivery.content_type = Some(String::from(text)),
            Property::ResponseTopic(text) => delivery.response_topic = Some(String::from(text)),
            Property::CorrelationData(data) => {
                delivery.correlation_data = Some(bytes::Bytes::copy_from_slice(data));
            }
            _ => {}
        }
    }
    delivery
}

/// The sizes of a PUBLISH for one recipient, once all that changes them is decided.
#[derive(Clone, Copy, Debug)]
struct Layout {
    version: Version,
    alias: Alias,
    expiry: Option<u32>,
    properties: usize,
    remaining: usize,
}

impl Layout {
    #[inline]
    fn of(copy: &Copy, negotiated: &Negotiated, aliases: &AliasesOut, now: Instant) -> Self {
        let message = &copy.message;
        let id = if copy.qos == Qos::AtMostOnce { 0 } else { 2 };
        let payload = message.payload().len();
        if negotiated.version < Version::V5 {
            return Self {
                version: negotiated.version,
                alias: Alias::None,
                expiry: None,
                properties: 0,
                remaining: 2 + message.topic_bytes().len() + id + payload,
            };
        }
        let alias = match negotiated.max_topic_alias {
            0 => Alias::None,
            max => aliases.find(message.topic(), max),
        };
        // A copy that was sent before its expiry is sent again after it. [MQTT-4.3.3-7]
        let expiry = message.seconds_left(now).map(|secs| secs.max(1));
        let ids: usize = copy.ids.iter().map(|id| 1 + vbi_len(id as usize)).sum();
        let properties = ids
            + if alias == Alias::None { 0 } else { 3 }
            + if expiry.is_some() { 5 } else { 0 }
            + message.wire_properties().len();
        let topic = match alias {
            Alias::Known(_) => 0,
            _ => message.topic_bytes().len(),
        };
        let remaining = 2 + topic + id + vbi_len(properties) + properties + payload;
        Self { version: negotiated.version, alias, expiry, properties, remaining }
    }

    /// The same, without a new alias where that makes the packet too large.
    #[inline]
    fn fitting(
        copy: &Copy,
        negotiated: &Negotiated,
        aliases: &AliasesOut,
        now: Instant,
    ) -> Result<Self, DropReason> {
        let layout = Self::of(copy, negotiated, aliases, now);
        if layout.fits(negotiated) {
            return Ok(layout);
        }
        let plain = Negotiated { max_topic_alias: 0, ..*negotiated };
        let layout = Self::of(copy, &plain, aliases, now);
        if layout.fits(negotiated) { Ok(layout) } else { Err(DropReason::TooLarge) }
    }

    /// [MQTT-3.1.2-24]: the whole packet counts.
    #[inline]
    fn fits(&self, negotiated: &Negotiated) -> bool {
        let total = 1 + vbi_len(self.remaining) + self.remaining;
        self.remaining <= MAX_REMAINING && total <= negotiated.max_packet_size as usize
    }

    #[inline]
    fn write(&self, copy: &Copy, id: Option<PacketId>, dup: bool, outbox: &mut Outbox) {
        let message = &copy.message;
        let payload = message.payload();
        let share = payload.len() >= SHARE_FROM;
        let out = outbox.bytes();
        out.reserve(5 + self.remaining - if share { payload.len() } else { 0 });
        out.push(0x30 | u8::from(dup) << 3 | (copy.qos as u8) << 1 | u8::from(copy.retain));
        put_vbi(out, self.remaining);
        let topic = match self.alias {
            Alias::Known(_) => &[][..],
            _ => message.topic_bytes(),
        };
        out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        out.extend_from_slice(topic);
        if let Some(id) = id {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
        if self.version == Version::V5 {
            self.write_properties(copy, out);
        }
        if share {
            outbox.share(message.payload_shared());
        } else {
            out.extend_from_slice(payload);
        }
    }

    fn write_properties(&self, copy: &Copy, out: &mut Vec<u8>) {
        put_vbi(out, self.properties);
        if let Alias::New(alias) | Alias::Known(alias) = self.alias {
            out.push(0x23);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        if let Some(secs) = self.expiry {
            out.push(0x02);
            out.extend_from_slice(&secs.to_be_bytes());
        }
        for id in copy.ids.iter() {
            out.push(0x0b);
            put_vbi(out, id as usize);
        }
        out.extend_from_slice(copy.message.wire_properties());
    }
}

#[inline]
fn vbi_len(value: usize) -> usize {
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
