//! The short way: a small message of QoS 0 for a few connections is encoded at once for each, where
//! nothing but its like waits, and allocates nothing. Whatever else happens to the session first
//! turns what is staged into copies of its queue, so that all rules for those hold for it.

use alloc::vec::Vec;

use super::fanout::Target;
use super::layout::{Layout, Parts};
use super::message::{Body, Head, OVERHEAD};
use super::outbox::Outbox;
use super::publish::Draft;
use super::queue::{Copy, Ids, NO_GROUP};
use super::session::Attached;
use super::slots::Key;
use super::{Broker, DeliveryMode};
use crate::codec::{Packet, Properties, Property, Qos, decode, header, split};
use crate::connection::Alias;
use crate::time::Instant;

/// Bytes staged for one session at most, about what its socket is given at once.
const STAGE: usize = 8 * 1024;

/// Recipients served so at most: with many, one message shared by all queues costs less than a
/// buffer for each.
const FEW: usize = 8;

/// Whole PUBLISH packets of QoS 0 in wire form, in order.
#[derive(Debug, Default)]
pub(super) struct Staged {
    bytes: Vec<u8>,
    count: u32,
}

impl Staged {
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes charged for all, as for messages of this size.
    pub(super) fn weight(&self) -> u64 {
        weight(self.bytes.len(), self.count)
    }

    /// Bytes charged for the new one.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let before = self.weight();
        write(&mut self.bytes);
        self.count += 1;
        self.weight() - before
    }

    /// Moves packets to `out`, up to the first that reaches `room` bytes; says how many.
    fn send(&mut self, out: &mut Vec<u8>, room: usize) -> u32 {
        let before = self.count;
        let mut used = self.bytes.len();
        if used > room {
            used = 0;
            while used < room
                && let Ok(Some(header)) = header(&self.bytes[used..])
            {
                used += header.total() as usize;
                self.count -= 1;
            }
        } else {
            self.count = 0;
        }
        out.extend_from_slice(&self.bytes[..used]);
        self.bytes.drain(..used);
        before - self.count
    }
}

fn weight(bytes: usize, count: u32) -> u64 {
    bytes as u64 + u64::from(count) * OVERHEAD
}

impl Broker {
    /// Encodes for all targets that can be served so, and leaves the others.
    pub(super) fn stage(&mut self, draft: &Draft<'_>, payload: &[u8], targets: &mut Vec<Target>) {
        let small = targets.len() <= FEW && payload.len() < STAGE / 4;
        // Copies for one session, and what is behind a long delivery, keep their order.
        if small && self.deliveries == 0 && self.config.delivery_mode == DeliveryMode::OnlyOnce {
            targets.retain(|target| !self.stage_one(draft, payload, target));
        }
    }

    fn stage_one(&mut self, draft: &Draft<'_>, payload: &[u8], target: &Target) -> bool {
        if target.qos.min(draft.qos) > Qos::AtMostOnce || target.group != NO_GROUP {
            return false;
        }
        let Some(session) = self.sessions.get_mut(target.session) else { return false };
        let Attached::Conn(key) = session.attached else { return false };
        if session.resending || !session.queue.has_no_copies() {
            return false;
        }
        // Not the one whose input is being handled: it is lent out.
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let parts = Parts {
            topic: draft.topic.as_bytes(),
            properties: &[],
            payload,
            expiry: None,
            ids: &target.ids,
            qos: Qos::AtMostOnce,
            retain: target.retain_as_published && draft.retain,
        };
        let mut negotiated = conn.machine.negotiated();
        negotiated.max_topic_alias =
            negotiated.max_topic_alias.min(self.config.max_topic_alias_out);
        let layout = Layout::of(&parts, &negotiated, &conn.aliases);
        // An alias may stand for the topic only once it is decided what is sent when.
        if layout.alias != Alias::None || !layout.fits(&negotiated) {
            return false;
        }
        let most = session.queue_limit(self.config.max_msg_queue);
        let queue = &mut session.queue;
        let staged = queue.staged().bytes.len();
        let more = weight(layout.total(), 1);
        if staged + layout.total() > STAGE
            || queue.len() >= most as usize
            || queue.bytes() + more > self.config.max_msg_queue_bytes
        {
            return false;
        }
        queue.stage(&mut self.pool, |out| layout.write(&parts, None, false, out));
        self.held += more;
        self.places += 1;
        self.stats.queued += 1;
        self.wake(target.session);
        true
    }

    /// Moves what is staged to `out`. False if some of it waits for the next time.
    pub(super) fn send_staged(&mut self, key: Key, out: &mut Outbox, limit: usize) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return true };
        let Some(mut staged) = session.queue.take_staged() else { return true };
        let before = staged.weight();
        let room = limit.saturating_sub(out.len());
        let sent = u64::from(staged.send(out.bytes(), room));
        self.held -= before - staged.weight();
        self.places -= sent;
        self.stats.queued -= sent;
        self.stats.messages_sent[0] += sent;
        self.stats.packets_sent[3] += sent;
        session.delivered[0] += sent;
        let all = staged.count() == 0;
        session.queue.put_staged(staged, &mut self.pool);
        all
    }

    /// Turns what is staged into copies at the front of the queue.
    pub(super) fn unstage(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(mut staged) = session.queue.take_staged() else { return };
        let version = session.version;
        self.held -= staged.weight();
        let mut copies = Vec::with_capacity(staged.count as usize);
        let mut rest = &staged.bytes[..];
        while let Ok(Some((frame, used))) = split(rest, u32::MAX) {
            rest = &rest[used..];
            let Ok(Packet::Publish(publish)) = decode(version, frame) else { continue };
            let id = self.next_message_id();
            let qos = Qos::AtMostOnce;
            let retain = publish.retain;
            let head = Head { id, qos, retain, expires: Instant::NEVER, publisher: None };
            let (topic, payload) = (publish.topic, publish.payload);
            let body = |spare| Body::new_in(spare, topic, Properties::EMPTY, payload);
            let message = self.messages.make(head, id.sequence, body);
            copies.push(Copy {
                message,
                ids: ids(publish.properties),
                group: NO_GROUP,
                qos,
                retain,
            });
        }
        debug_assert_eq!(copies.len(), staged.count as usize, "what was encoded can be decoded");
        staged.bytes.clear();
        staged.count = 0;
        let Some(session) = self.sessions.get_mut(key) else { return };
        for copy in copies.into_iter().rev() {
            session.queue.push_front(copy, &mut self.pool);
        }
        session.queue.put_staged(staged, &mut self.pool);
    }
}

fn ids(properties: Properties<'_>) -> Ids {
    let mut ids = Ids::One(0);
    for property in properties.iter() {
        if let Property::SubscriptionIdentifier(id) = property {
            ids.push(id);
        }
    }
    ids
}
