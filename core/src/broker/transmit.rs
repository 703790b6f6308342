//! Bytes out: what waits for a connection, pulled when its socket can take it.

use alloc::string::String;
use alloc::vec::Vec;

use super::acks::ack;
use super::calls::Call;
use super::conn::Conn;
use super::jobs::Job;
use super::layout::{Fields, Layout, SHARE_FROM};
use super::outbox::Outbox;
use super::queue::Copy;
use super::slots::Key;
use super::{Broker, ConnId, Delivery, DropReason, SubscriberId};
use crate::codec::{Packet, PacketId, Property, Qos, ReasonCode};
use crate::connection::{Alias, AliasesOut, Negotiated};
use crate::session::Resend;
use crate::time::Instant;

/// Copied bytes of one pull that are not charged until they are written: few enough for every
/// connection to hold them.
const UNCHARGED: usize = 8 * 1024;

/// Empty lists of lent messages that are kept.
const SPARE_LISTS: usize = 256;

/// A session with fewer copies waiting has room for retained messages.
pub(super) const WALK_BELOW: usize = 32;

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
        conn.said = more || defect!("transmit_stuck") && start == 0 && !out.is_empty();
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

    /// Keeps a message whose payload is shared with the socket.
    fn lend(&mut self, conn: &mut Conn, copy: Copy) {
        if copy.message.payload().len() >= SHARE_FROM {
            if conn.lent.capacity() == 0 {
                conn.lent = self.lent.pop().unwrap_or_default();
            }
            conn.lent.push(copy.message);
        } else {
            self.messages.give(copy.message);
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
        let Some(session) = self.sessions.get(key) else { return false };
        let (resending, staged) = (session.resending, session.queue.staged().count() > 0);
        let waits = resending && !self.resend(now, &negotiated, key, out, limit)
            || staged && !self.send_staged(key, out, limit);
        if waits {
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
                let fields = Fields::of(copy, now);
                let layout = Layout::fitting(&fields, &negotiated, &conn.aliases);
                if let Ok(layout) = &layout
                    && copy.qos == Qos::AtMostOnce
                {
                    layout.write_to(&fields, &copy.message, None, false, out);
                }
                layout
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
                conn.aliases.set(copy.message.topic_bytes());
            }
            if copy.qos == Qos::AtMostOnce {
                self.places -= 1;
                self.lend(conn, copy);
                continue;
            }
            let begun = session.outbound.begin(copy.qos, copy);
            debug_assert!(begun.is_ok(), "room was checked");
            if let Ok(id) = begun
                && let Some(copy) = session.outbound.get(id)
            {
                let id = if defect!("identifier_reused") { PacketId::MIN } else { id };
                let fields = Fields::of(copy, now);
                layout.write_to(&fields, &copy.message, Some(id), false, out);
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
                    let fields = Fields::of(what, now);
                    let layout = Layout::of(&fields, &plain, &AliasesOut::default());
                    if layout.fits(negotiated) {
                        layout.write_to(&fields, &what.message, Some(id), true, out);
                        self.stats.messages_sent[what.qos as usize] += 1;
                        self.stats.packets_sent[3] += 1;
                        continue;
                    }
                    // Sent before, to a client that accepts less today. [MQTT-3.1.2-25]
                    if let Some(copy) = session.outbound.cancel(id) {
                        self.places -= 1;
                        self.drop_copy(key, copy.qos, DropReason::TooLarge);
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
        if !session.walks.is_empty() && !session.walking && session.queue.len() < WALK_BELOW {
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
            let delivery = delivery(&copy, now);
            self.messages.give(copy.message);
            return Some(delivery);
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
