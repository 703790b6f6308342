//! Messages in: from a client's PUBLISH to the sessions that are to have it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::acks::ack;
use super::conn::Conn;
use super::fanout::Target;
use super::jobs::Source;
use super::message::{Body, Head, Message, MessageId};
use super::peers::{Held, HeldPublish, Need, Until};
use super::receive::{Step, step};
use super::session::HELD;
use super::slots::Key;
use super::{Broker, DisconnectReason, DropReason};
use crate::codec::{
    Packet, Property, PropertyId, ProtocolError, Publish, Qos, ReasonCode, Version,
};
use crate::connection::Negotiated;
use crate::connection::server::Memory;
use crate::session::Verdict;
use crate::time::Instant;
use crate::topic::{Retained, TopicName};

/// A message before it is known whether anybody wants it.
pub(super) struct Draft<'d> {
    pub(super) topic: &'d str,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Without payload: clears the retained message.
    pub(super) empty: bool,
    /// The payload, where that and the topic are all there is of it.
    pub(super) plain: Option<&'d [u8]>,
    /// [`Instant::NEVER`] without a Message Expiry Interval.
    pub(super) expires: Instant,
    pub(super) publisher: Option<&'d Arc<str>>,
    /// Who waits while the message is handed out.
    pub(super) source: Source,
    /// As another shard named it; `None` for a message that is new.
    pub(super) id: Option<MessageId>,
    /// Whether shared groups are chosen for: the shard that publishes does it.
    pub(super) groups: bool,
}

impl Draft<'_> {
    /// Whether it takes the topic's retained message away.
    fn clears(&self) -> bool {
        self.retain && self.empty
    }

    pub(super) fn head(&self, id: MessageId) -> Head {
        Head {
            id,
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            publisher: self.publisher.cloned(),
        }
    }
}

/// A PUBLISH, and the memory it lies in where that is its own.
pub(super) struct Incoming<'p> {
    pub(super) publish: Publish<'p>,
    pub(super) memory: Memory<'p>,
}

/// What became of it.
#[derive(Default)]
pub(super) struct Published {
    /// Sessions that are to have it; each other shard counts as one.
    pub(super) receivers: usize,
    /// Not all have it yet; the source waits.
    pub(super) job: bool,
    /// What other shards must have taken.
    pub(super) need: Need,
}

impl Broker {
    pub(super) fn publish_in(
        &mut self,
        now: Instant,
        key: Key,
        session_key: Key,
        negotiated: &Negotiated,
        incoming: &Incoming<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let publish = &incoming.publish;
        self.stats.messages_received[publish.qos as usize] += 1;
        let Some(session) = self.sessions.get_mut(session_key) else { return Step::Next };
        let client_id = session.client_id.clone();
        let refused = match publish.packet_id {
            None => self.admit(publish),
            Some(id) => match session.inbound.publish(id, publish.qos) {
                Verdict::New => {
                    // Judged before its own identifier is charged.
                    let refused = self.admit(publish);
                    self.held += if publish.qos == Qos::ExactlyOnce { HELD } else { 0 };
                    refused
                }
                Verdict::Repeat => {
                    // [MQTT-4.3.3-10]: answered again, not delivered again.
                    if self.awaits_pubrec(session_key, id) {
                        return Step::Next;
                    }
                    // Other shards may not have it yet, though its first connection is gone.
                    let need = self.under_way(session_key);
                    let answer = Answer { qos: publish.qos, id: publish.packet_id };
                    let reason = ReasonCode::Success;
                    return self.answer_publish(session_key, negotiated, answer, reason, need, out);
                }
                Verdict::OverQuota => {
                    let error =
                        ProtocolError::new(ReasonCode::ReceiveMaximumExceeded, "MQTT-3.3.4-7");
                    return Step::Close(DisconnectReason::Protocol(error), Some(error.reason));
                }
                Verdict::Full => Some(ReasonCode::QuotaExceeded),
            },
        };
        if let Some(reason) = refused {
            if let Some(close) =
                self.refused_publish(&client_id, reason, publish, negotiated.version)
            {
                // Not taken: a repeat on the next connection is not a repeat of it.
                if let Some(id) = publish.packet_id {
                    self.forget_inbound(session_key, id);
                }
                return close;
            }
            let answer = Answer { qos: publish.qos, id: publish.packet_id };
            let need = Need::default();
            return self.answer_publish(session_key, negotiated, answer, reason, need, out);
        }
        self.take_message(now, key, (session_key, &client_id), negotiated, incoming, out)
    }

    /// Publishes a client's message, or has it wait.
    fn take_message(
        &mut self,
        now: Instant,
        key: Key,
        (session_key, client_id): (Key, &Arc<str>),
        negotiated: &Negotiated,
        incoming: &Incoming<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let publish = &incoming.publish;
        let body = |spare| Body::of(publish, incoming.memory.get(), spare);
        let expires =
            message_expiry(publish).map_or(Instant::NEVER, |secs| now.after_secs(u64::from(secs)));
        if let Some(until) = self.must_wait(session_key, publish.topic, publish.retain, false) {
            let held = HeldPublish {
                body: body(Vec::new()),
                qos: publish.qos,
                retain: publish.retain,
                id: publish.packet_id,
                expires,
            };
            return Step::Wait(until, Box::new(Held::Publish(held)));
        }
        let draft = Draft {
            topic: publish.topic,
            qos: publish.qos,
            retain: publish.retain,
            empty: publish.payload.is_empty(),
            plain: publish.properties.is_empty().then_some(publish.payload),
            expires,
            publisher: Some(client_id),
            source: Source::Conn(key),
            id: None,
            groups: true,
        };
        let published = self.publish(now, &draft, body);
        let answer = Answer { qos: publish.qos, id: publish.packet_id };
        self.published(session_key, negotiated, answer, published, out)
    }

    /// Until when a client's message must wait for other shards; `None` if it need not, as always
    /// with one shard. `in_turn` has it come before others that wait for credit.
    #[inline]
    fn must_wait(&self, session: Key, topic: &str, retain: bool, in_turn: bool) -> Option<Until> {
        let peers = self.peers.as_ref()?;
        let session = self.sessions.get(session)?;
        // What a client subscribed to before, it gets of its own messages, too.
        if session.pending.as_ref().is_some_and(|pending| pending.has_gates()) {
            return Some(Until::Gates);
        }
        if peers.has_will_of(&session.client_id) {
            return Some(Until::Will);
        }
        if !in_turn && peers.is_credit_awaited() {
            return Some(Until::Credit);
        }
        peers.lacks(&session.clocks, topic, retain)
    }

    /// Publishes a message that waited, or has it wait on.
    pub(super) fn publish_held(
        &mut self,
        now: Instant,
        key: Key,
        conn: &mut Conn,
        held: HeldPublish,
        in_turn: bool,
    ) -> Step {
        let Some(session) = conn.session else { return Step::Next };
        if let Some(until) = self.must_wait(session, held.body.topic(), held.retain, in_turn) {
            return Step::Wait(until, Box::new(Held::Publish(held)));
        }
        let client_id = self.sessions.get(session).map(|session| session.client_id.clone());
        let draft = Draft {
            topic: held.body.topic(),
            qos: held.qos,
            retain: held.retain,
            empty: held.body.payload().is_empty(),
            plain: None,
            expires: held.expires,
            publisher: client_id.as_ref(),
            source: Source::Conn(key),
            id: None,
            groups: true,
        };
        let published = self.publish(now, &draft, |_| held.body.clone());
        let answer = Answer { qos: held.qos, id: held.id };
        let negotiated = conn.machine.negotiated();
        self.published(session, &negotiated, answer, published, &mut conn.out)
    }

    fn published(
        &mut self,
        key: Key,
        negotiated: &Negotiated,
        answer: Answer,
        published: Published,
        out: &mut Vec<u8>,
    ) -> Step {
        if !published.need.is_nothing()
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.clocks.note(&published.need);
        }
        let reason = match published.receivers {
            0 => ReasonCode::NoMatchingSubscribers,
            _ => ReasonCode::Success,
        };
        match self.answer_publish(key, negotiated, answer, reason, published.need, out) {
            Step::Next if published.job => Step::Job,
            answered => answered,
        }
    }

    /// Takes ownership, or says why not. `[MQTT-4.3.2-4]`
    fn answer_publish(
        &mut self,
        session: Key,
        negotiated: &Negotiated,
        publish: Answer,
        reason: ReasonCode,
        need: Need,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(id) = publish.id else { return Step::Next };
        let refused = reason.is_error() && negotiated.version == Version::V5;
        if publish.qos == Qos::ExactlyOnce && refused {
            self.forget_inbound(session, id);
        }
        if !self.ack_now(session, publish.qos, id, reason, need) {
            return Step::Next;
        }
        match publish.qos {
            Qos::ExactlyOnce => {}
            _ => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.inbound.puback_sent();
                }
            }
        }
        let packet = match publish.qos {
            Qos::ExactlyOnce => Packet::Pubrec(ack(id, reason)),
            _ => Packet::Puback(ack(id, reason)),
        };
        if defect!("acknowledgement_lost") && reason == ReasonCode::NoMatchingSubscribers {
            return Step::Next;
        }
        step(self.send(negotiated, &packet, out))
    }

    /// A QoS 2 message was refused: its identifier is new when it comes again. `[MQTT-4.3.3-9]`
    pub(super) fn forget_inbound(&mut self, session: Key, id: crate::PacketId) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        let before = session.inbound.awaiting();
        session.inbound.refuse(id);
        self.held -= (before - session.inbound.awaiting()) as u64 * HELD;
    }

    /// Whether a client's message may be published; the reason if not.
    fn admit(&self, publish: &Publish<'_>) -> Option<ReasonCode> {
        let topic = publish.topic;
        if topic.starts_with('$') && is_reserved(topic) {
            return Some(ReasonCode::TopicNameInvalid);
        }
        // The codec has checked the rest. Fewer bytes than levels allowed are not too many levels.
        debug_assert!(TopicName::new(topic, u16::MAX).is_ok(), "a Topic Name");
        let levels = self.config.max_topic_levels;
        if topic.len() >= usize::from(levels) && TopicName::new(topic, levels).is_err() {
            return Some(ReasonCode::TopicNameInvalid);
        }
        // One that clears a retained message sets memory free.
        let clears = publish.retain && publish.payload.is_empty();
        (!clears && self.is_full()).then_some(ReasonCode::QuotaExceeded)
    }

    /// A refusal that an older version has no packet for ends the connection, except for reserved
    /// topics, which are taken and go nowhere. `[v4:MQTT-3.3.5-2]`
    fn refused_publish(
        &mut self,
        client_id: &Arc<str>,
        reason: ReasonCode,
        publish: &Publish<'_>,
        version: Version,
    ) -> Option<Step> {
        if reason == ReasonCode::QuotaExceeded {
            self.dropped_event(client_id.clone(), publish.qos, DropReason::OutOfBudget, 1);
            if version < Version::V5 && publish.qos > Qos::AtMostOnce {
                return Some(Step::Close(DisconnectReason::OutOfBudget, None));
            }
            return None;
        }
        if version < Version::V5 && !is_reserved(publish.topic) {
            let error = ProtocolError::new(reason, "MQTT-4.7.3-3");
            return Some(Step::Close(DisconnectReason::Protocol(error), None));
        }
        if version < Version::V5 || publish.qos == Qos::AtMostOnce {
            // No answer tells the client.
            self.dropped_event(client_id.clone(), publish.qos, DropReason::Refused, 1);
        }
        None
    }

    /// Publishes to all sessions with a matching subscription, and retains. Copies nothing while
    /// nobody wants it. `[MQTT-4.5.0-1]`
    pub(super) fn publish(
        &mut self,
        now: Instant,
        draft: &Draft<'_>,
        body: impl FnOnce(Vec<u8>) -> Body,
    ) -> Published {
        if draft.retain
            && let Some(owner) = self.remote_owner(draft.topic)
        {
            return self.send_to_owner(draft, body(Vec::new()), owner);
        }
        let mut targets = core::mem::take(&mut self.targets);
        targets.clear();
        self.find_targets(draft, &mut targets);
        let wanted = self.wanted(draft, &mut targets);
        let keep = draft.retain && !draft.empty && self.config.retain_available;
        let keep = keep && !(defect!("retained_lost") && draft.qos == Qos::AtMostOnce);
        let mut published = Published { receivers: targets.len(), ..Published::default() };
        if draft.clears() {
            self.clear(draft, &mut targets);
        }
        if !keep && let Some(payload) = draft.plain {
            self.stage(draft, payload, &mut targets);
        }
        if !targets.is_empty() || keep || !wanted.is_nobody() {
            published.receivers += wanted.len();
            let new = self.next_message_id();
            let id = draft.id.unwrap_or(new);
            if targets.is_empty() && !keep && wanted.is_plain() {
                published.need = self.pass(draft, id, body, &wanted);
                self.keep_targets(targets);
                return published;
            }
            let head = draft.head(id);
            let message = self.messages.make(head, new.sequence, body);
            if keep {
                self.retain(&message);
            }
            if !wanted.is_nobody() {
                published.need = self.spread(now, &message, wanted);
            }
            published.job = self.hand_out(now, draft.source, message, &mut targets);
        }
        self.keep_targets(targets);
        published
    }

    /// Takes the topic's retained message away. `[MQTT-3.3.1-6]` That is done however short memory
    /// is; if it is short even then, the copies for `targets` are lost.
    fn clear(&mut self, draft: &Draft<'_>, targets: &mut Vec<Target>) {
        if !defect!("retained_not_cleared") {
            self.unretain(draft.topic);
        }
        if self.is_full() {
            self.lose_copies(draft.qos, targets);
        }
    }

    /// The topic has no retained message any more.
    pub(super) fn unretain(&mut self, topic: &str) {
        if let Some(old) = self.retained.remove(topic) {
            self.messages.give(old);
        }
    }

    /// Keeps the memory for the next message.
    pub(super) fn keep_targets(&mut self, targets: Vec<Target>) {
        if targets.capacity() <= 64 * 1024 {
            self.targets = targets;
        }
    }

    pub(super) fn next_message_id(&mut self) -> MessageId {
        self.next_message += 1;
        let shard = self.place().shard;
        MessageId { epoch: self.boot.epoch, shard, sequence: self.next_message }
    }

    /// Stores the topic's retained message. `[MQTT-3.3.1-5]`
    fn retain(&mut self, message: &Arc<Message>) {
        let head = &message.head;
        let expires = (head.expires != Instant::NEVER).then_some(head.expires);
        let full = self.is_full();
        let topic = message.topic();
        // All that goes when it goes.
        let bytes = message.footprint() + Retained::<Arc<Message>>::cost(topic);
        let stored = if full {
            // The old value is not true any more.
            self.unretain(topic);
            false
        } else {
            let (old, result) = self.retained.set(topic, message.clone(), bytes, expires);
            if let Some(old) = old {
                self.messages.give(old);
            }
            result.is_ok()
        };
        if !stored {
            let publisher = head.publisher.clone().unwrap_or_else(|| Arc::from(""));
            self.dropped_event(publisher, head.qos, DropReason::RetainedFull, 1);
        }
        self.arm_retained(Instant::ZERO);
    }
}

/// Which acknowledgement a message asks for.
#[derive(Clone, Copy)]
struct Answer {
    qos: Qos,
    id: Option<crate::PacketId>,
}

/// Topics clients may not publish to.
pub(super) fn is_reserved(topic: &str) -> bool {
    ["$SYS", "$share"].iter().any(|reserved| {
        topic.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Message Expiry Interval in seconds.
fn message_expiry(publish: &Publish<'_>) -> Option<u32> {
    if publish.properties.is_empty() {
        return None;
    }
    match publish.properties.find(PropertyId::MessageExpiryInterval) {
        Some(Property::MessageExpiryInterval(secs)) => Some(secs),
        _ => None,
    }
}
