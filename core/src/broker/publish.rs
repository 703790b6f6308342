//! Messages in: from a client's PUBLISH to the sessions that are to have it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::acks::ack;
use super::fanout::Job;
use super::message::{Body, Head, Message, MessageId};
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
    /// Message Expiry Interval in seconds.
    pub(super) expiry: Option<u32>,
    pub(super) publisher: Option<&'d Arc<str>>,
    /// The connection whose input waits while the message is handed out.
    pub(super) source: Option<Key>,
}

/// A PUBLISH, and the memory it lies in where that is its own.
pub(super) struct Incoming<'p> {
    pub(super) publish: Publish<'p>,
    pub(super) memory: Memory<'p>,
}

/// What became of it.
pub(super) struct Published {
    /// Sessions that are to have it.
    pub(super) receivers: usize,
    /// Not all have it yet; the source waits.
    pub(super) job: bool,
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
                    let again = Packet::Pubrec(ack(id, ReasonCode::Success));
                    return step(self.send(negotiated, &again, out));
                }
                Verdict::OverQuota => {
                    let error =
                        ProtocolError::new(ReasonCode::ReceiveMaximumExceeded, "MQTT-3.3.4-7");
                    return Step::Close(DisconnectReason::Protocol(error), Some(error.reason));
                }
                Verdict::Full => Some(ReasonCode::QuotaExceeded),
            },
        };
        let (reason, job) = match refused {
            Some(reason) => {
                if let Some(close) =
                    self.refused_publish(&client_id, reason, publish, negotiated.version)
                {
                    // Not taken: a repeat on the next connection is not a repeat of it.
                    if let Some(id) = publish.packet_id {
                        self.forget_inbound(session_key, id);
                    }
                    return close;
                }
                (reason, false)
            }
            None => {
                let published = self.take_message(now, key, &client_id, incoming);
                let reason = match published.receivers {
                    0 => ReasonCode::NoMatchingSubscribers,
                    _ => ReasonCode::Success,
                };
                (reason, published.job)
            }
        };
        match self.answer_publish(session_key, negotiated, publish, reason, out) {
            Step::Next if job => Step::Job,
            answered => answered,
        }
    }

    /// Publishes a client's message.
    fn take_message(
        &mut self,
        now: Instant,
        key: Key,
        client_id: &Arc<str>,
        incoming: &Incoming<'_>,
    ) -> Published {
        let publish = &incoming.publish;
        let draft = Draft {
            topic: publish.topic,
            qos: publish.qos,
            retain: publish.retain,
            empty: publish.payload.is_empty(),
            plain: publish.properties.is_empty().then_some(publish.payload),
            expiry: message_expiry(publish),
            publisher: Some(client_id),
            source: Some(key),
        };
        self.publish(now, &draft, || Body::of(publish, incoming.memory.get()))
    }

    /// Takes ownership, or says why not. `[MQTT-4.3.2-4]`
    fn answer_publish(
        &mut self,
        session: Key,
        negotiated: &Negotiated,
        publish: &Publish<'_>,
        reason: ReasonCode,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(id) = publish.packet_id else { return Step::Next };
        let refused = reason.is_error() && negotiated.version == Version::V5;
        match publish.qos {
            Qos::ExactlyOnce if refused => self.forget_inbound(session, id),
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
    fn forget_inbound(&mut self, session: Key, id: crate::PacketId) {
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
        if TopicName::new(topic, self.config.max_topic_levels).is_err() {
            return Some(ReasonCode::TopicNameInvalid);
        }
        self.is_full().then_some(ReasonCode::QuotaExceeded)
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
        body: impl FnOnce() -> Body,
    ) -> Published {
        let mut targets = core::mem::take(&mut self.targets);
        targets.clear();
        self.find_targets(draft, &mut targets);
        let keep = draft.retain && !draft.empty && self.config.retain_available;
        let keep = keep && !(defect!("retained_lost") && draft.qos == Qos::AtMostOnce);
        if draft.retain && draft.empty && !defect!("retained_not_cleared") {
            // [MQTT-3.3.1-6]
            self.retained.remove(draft.topic);
        }
        let receivers = targets.len();
        if !keep && let Some(payload) = draft.plain {
            self.stage(draft, payload, &mut targets);
        }
        let mut job = false;
        if !targets.is_empty() || keep {
            let head = Head {
                id: self.next_message_id(),
                qos: draft.qos,
                retain: draft.retain,
                expires: match draft.expiry {
                    Some(secs) => now.after_secs(u64::from(secs)),
                    None => Instant::NEVER,
                },
                publisher: draft.publisher.cloned(),
            };
            let message = Message::new(body(), head, &self.ledger);
            if keep {
                self.retain(&message);
            }
            job = self.hand_out(now, draft.source, message, &mut targets);
        }
        if targets.capacity() <= 64 * 1024 {
            self.targets = targets;
        }
        Published { receivers, job }
    }

    fn next_message_id(&mut self) -> MessageId {
        self.next_message += 1;
        MessageId { epoch: self.boot.epoch, shard: 0, sequence: self.next_message }
    }

    /// Stores the topic's retained message. `[MQTT-3.3.1-5]`
    fn retain(&mut self, message: &Arc<Message>) {
        let head = &message.head;
        let expires = (head.expires != Instant::NEVER).then_some(head.expires);
        let full = self.is_full();
        let topic = message.topic();
        // All that goes when it goes.
        let bytes = message.footprint() + Retained::<Arc<Message>>::cost(topic);
        let stored = !full && self.retained.set(topic, message.clone(), bytes, expires).1.is_ok();
        if full {
            // The old value is not true any more.
            self.retained.remove(message.topic());
        }
        if !stored {
            let publisher = head.publisher.clone().unwrap_or_else(|| Arc::from(""));
            self.dropped_event(publisher, head.qos, DropReason::RetainedFull, 1);
        }
        self.arm_retained(Instant::ZERO);
    }

    /// Delivers to the first slice of targets; the rest waits as a job. True if it does.
    fn hand_out(
        &mut self,
        now: Instant,
        source: Option<Key>,
        message: Arc<Message>,
        targets: &mut Vec<super::fanout::Target>,
    ) -> bool {
        // What a publisher sends arrives in its order, also while a long delivery is under way.
        let behind = self.deliveries > 0 && self.jobs.iter().any(|job| job.is_of(&message));
        let first = if behind { 0 } else { targets.len().min(super::fanout::SLICE) };
        let rest = targets.split_off(first);
        for target in targets.drain(..) {
            self.deliver(now, &message, target);
        }
        if rest.is_empty() {
            return false;
        }
        self.held += Job::footprint(&rest);
        self.deliveries += 1;
        self.jobs.push_back(Job::Deliver { source, message, targets: rest, next: 0 });
        true
    }
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
