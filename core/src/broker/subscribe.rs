//! SUBSCRIBE and UNSUBSCRIBE, and retained messages for new subscriptions.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::fanout::GROUP;
use super::jobs::Job;
use super::message::Message;
use super::peers::{Waits, Wish};
use super::queue::{Copy, Ids, NO_GROUP};
use super::receive::Step;
use super::session::{Attached, Options, Subscription, Walk};
use super::slots::Key;
use super::transmit::WALK_BELOW;
use super::{Broker, DisconnectReason};
use crate::codec::{
    Packet, Properties, Property, PropertyId, ProtocolError, Qos, ReasonCode, ReasonCodes,
    RetainHandling, Suback, Subscribe, SubscriptionOptions, Unsuback, Unsubscribe, Version,
};
use crate::connection::Negotiated;
use crate::time::Instant;
use crate::topic::{Cursor, Member, TopicFilter, split_share};

/// Entries of the retained store looked at in one go.
pub(super) const WALK_STEPS: usize = if cfg!(fuzzing) { 2 } else { 2048 };
/// The same for a SUBSCRIBE, of which one call may bring many.
pub(super) const FIRST_STEPS: usize = if cfg!(fuzzing) { 1 } else { 256 };
/// Bytes of a message beside those of its packet, at most.
pub(super) const BESIDE: u64 = 1024;

impl Broker {
    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        key: Key,
        negotiated: &Negotiated,
        subscribe: &Subscribe<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let identifier = match subscribe.properties.find(PropertyId::SubscriptionIdentifier) {
            Some(Property::SubscriptionIdentifier(id)) => id,
            _ => 0,
        };
        if let Some(error) = self.forbidden(negotiated.version, subscribe) {
            return Step::Close(DisconnectReason::Protocol(error), Some(error.reason));
        }
        let mut reasons = core::mem::take(&mut self.reasons);
        reasons.clear();
        let waits = Waits::Suback(key, self.next_suback());
        let mut gates = 0;
        for (filter, options) in subscribe.filters.iter() {
            // [MQTT-3.8.4-5]: as if each came in a packet of its own.
            let reason = match self.subscribe_one(
                key,
                negotiated.version,
                filter,
                options,
                identifier,
                waits,
            ) {
                Ok((granted, gate)) => {
                    gates += u32::from(gate);
                    granted
                }
                // [U311] 3.1 knows no failure code: granted in name, not in fact.
                Err(_) if negotiated.version == Version::V31 => granted(options.qos),
                Err(reason) => reason,
            };
            reasons.push(reason);
        }
        let suback = Packet::Suback(Suback {
            packet_id: subscribe.packet_id,
            properties: Properties::EMPTY,
            reasons: ReasonCodes::list(&reasons),
        });
        let answered = self.answer_sub(key, negotiated, &suback, gates, out);
        self.reasons = reasons;
        // A walk that waits for its turn is not to be had twice.
        if self.sessions.get(key).is_some_and(|session| !session.walking) {
            self.walk(now, key, FIRST_STEPS);
        }
        answered
    }

    /// What makes the whole SUBSCRIBE an error.
    fn forbidden(&self, version: Version, subscribe: &Subscribe<'_>) -> Option<ProtocolError> {
        for (filter, options) in subscribe.filters.iter() {
            match self.check_filter(filter) {
                Err(()) if version < Version::V5 => {
                    return Some(ProtocolError::malformed("MQTT-4.7.1-1"));
                }
                Ok(Some(_)) if options.no_local => {
                    return Some(ProtocolError::protocol("MQTT-3.8.3-4"));
                }
                _ => {}
            }
        }
        None
    }

    /// The filter proper if it is a shared one, `None` if it is not.
    fn check_filter<'f>(&self, filter: &'f str) -> Result<Option<&'f str>, ()> {
        let shared = split_share(filter).map_err(|_| ())?.map(|(_, filter)| filter);
        TopicFilter::new(shared.unwrap_or(filter), self.config.max_topic_levels).map_err(|_| ())?;
        Ok(shared)
    }

    /// Subscribes to one filter. Gives the QoS granted, and whether `waits` is told when all shards
    /// know of it.
    fn subscribe_one(
        &mut self,
        key: Key,
        version: Version,
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
        waits: Waits,
    ) -> Result<(ReasonCode, bool), ReasonCode> {
        let shared = self.check_filter(filter).map_err(|()| ReasonCode::TopicFilterInvalid)?;
        let full = self.is_full();
        let Some(session) = self.sessions.get(key) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let exists = session.find(filter).is_ok();
        if !exists
            && (full || session.subscriptions.len() >= self.config.max_subscriptions as usize)
        {
            return Err(ReasonCode::QuotaExceeded);
        }
        // A bridge wants neither its own messages back nor RETAIN taken off.
        let bridge = session.bridge && version < Version::V5;
        let options = SubscriptionOptions {
            qos: options.qos.min(self.config.max_qos),
            no_local: (options.no_local || bridge) && shared.is_none(),
            retain_as_published: options.retain_as_published || bridge,
            ..options
        };
        let packed = Options::new(options, identifier);
        let (filter, at) = self.insert(key, filter, shared, packed, exists);
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [U5-058]
        let retained = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !exists || defect!("retained_sent_again"),
            RetainHandling::DoNotSend => false,
        };
        let stored = !self.retained.is_empty();
        if retained
            && shared.is_none()
            && (stored || self.peers.is_some())
            && let Some(session) = self.sessions.get_mut(key)
        {
            let turn = session.next_turn(at);
            if stored {
                let cursor = Cursor::new(filter.clone(), self.retained.sequence());
                let walk = Walk { options: packed, cursor, query: 0 };
                session.walks.insert(turn, (filter.clone(), None), walk);
            }
        }
        let shared = shared.is_some();
        let wish = Wish { filter: &filter, options: packed, shared, exists, retained };
        let gate = self.peers.is_some() && self.open_gate(key, &wish, waits);
        Ok((granted(options.qos), gate))
    }

    /// Adds or replaces a subscription. Gives its filter, and its place among those of the session.
    /// `[MQTT-3.8.4-3]`
    fn insert(
        &mut self,
        key: Key,
        filter: &str,
        shared: Option<&str>,
        options: Options,
        exists: bool,
    ) -> (Arc<str>, usize) {
        let attached = self.sessions.get(key).is_some_and(|s| s.attached != Attached::Nothing);
        let text: Arc<str> = match shared {
            // It does not stand before all shards know of it.
            None if self.peers.is_some() && (!exists || self.is_early(key, filter)) => {
                Arc::from(filter)
            }
            None => self.index.insert(filter, key.index, options.0).0,
            Some(inner) => {
                let member = Member { session: key.index, value: options.0 };
                let joined = self.groups.join(filter, member, attached);
                if joined.new {
                    self.groups.set_since(joined.group, self.next_message);
                    self.index.insert(inner, joined.group | GROUP, 0);
                }
                self.share_changed(filter);
                Arc::from(filter)
            }
        };
        let Some(session) = self.sessions.get_mut(key) else { return (text, 0) };
        let at = match session.find(filter) {
            Ok(at) => {
                session.subscriptions[at].options = options;
                at
            }
            Err(at) => {
                if session.subscriptions.is_empty() {
                    session.subscriptions.reserve_exact(1);
                }
                session
                    .subscriptions
                    .insert(at, Subscription { filter: text.clone(), options, turn: 0 });
                self.held += Subscription::cost(filter);
                self.stats.subscriptions += 1;
                at
            }
        };
        (text, at)
    }

    pub(super) fn unsubscribe(
        &mut self,
        now: Instant,
        key: Key,
        negotiated: &Negotiated,
        unsubscribe: &Unsubscribe<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let version = negotiated.version;
        let mut reasons = Vec::new();
        self.hurry(now, key, unsubscribe.filters);
        for filter in unsubscribe.filters.iter() {
            let reason = if self.check_filter(filter).is_err() {
                if version < Version::V5 {
                    let error = ProtocolError::malformed("MQTT-4.7.1-1");
                    return Step::Close(DisconnectReason::Protocol(error), None);
                }
                ReasonCode::TopicFilterInvalid
            } else if self.remove_subscription(now, key, filter) {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            };
            if version == Version::V5 {
                reasons.push(reason);
            }
        }
        let unsuback = Packet::Unsuback(Unsuback {
            packet_id: unsubscribe.packet_id,
            properties: Properties::EMPTY,
            reasons: ReasonCodes::list(&reasons),
        });
        let answered = self.answer_sub(key, negotiated, &unsuback, 0, out);
        if self.peers.is_some() {
            // What was behind a gate is gone, and leaves its room to others.
            self.walk(now, key, FIRST_STEPS);
        }
        answered
    }

    /// Removes a subscription by its exact text. `[MQTT-3.10.4-1]` False if there was none.
    fn remove_subscription(&mut self, now: Instant, key: Key, filter: &str) -> bool {
        let early = self.is_early(key, filter);
        self.forget_gate(now, key, filter);
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Ok(at) = session.find(filter) else { return false };
        let removed = session.subscriptions.remove(at);
        session.forget_walks(&removed);
        if defect!("unsubscribe_ignored") && removed.filter.contains('+') {
            return true;
        }
        self.forget_subscription(key, &removed, early);
        true
    }

    /// Takes a subscription out of index and groups. One that was `early` is in neither.
    pub(super) fn forget_subscription(
        &mut self,
        key: Key,
        subscription: &Subscription,
        early: bool,
    ) {
        let filter = &*subscription.filter;
        match split_share(filter) {
            Ok(Some((_, inner))) => {
                if let Some(left) = self.groups.leave(filter, key.index)
                    && left.empty
                {
                    self.index.remove(inner, left.group | GROUP);
                }
                self.share_changed(filter);
            }
            _ => {
                if !early {
                    self.index.remove(filter, key.index);
                }
                if let Some(peers) = &mut self.peers {
                    peers.leave(&subscription.filter);
                }
            }
        }
        if !defect!("bytes_leaked") {
            self.held -= Subscription::cost(filter);
        }
        self.stats.subscriptions -= 1;
    }

    /// Moves retained messages into the queue of a session while it has room, so that none of
    /// them has to give way to another.
    pub(super) fn walk(&mut self, now: Instant, key: Key, mut steps: usize) {
        // A job that waits does it.
        if self.sessions.get(key).is_none_or(|session| session.walking) {
            return;
        }
        let mut found: Vec<Arc<Message>> = Vec::new();
        let largest = u64::from(self.config.max_packet_size) + BESIDE;
        let most_bytes = self.config.max_msg_queue_bytes.saturating_sub(largest);
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return };
            let most = WALK_BELOW.min(session.queue_limit(self.config.max_msg_queue) as usize);
            let kept = session.pending.as_ref().map_or(0, |pending| pending.kept());
            let room = most.saturating_sub(session.queue.len() + kept);
            let mut bytes = session.queue.bytes();
            if !session.is_attached() || room == 0 || bytes > 0 && bytes >= most_bytes {
                return;
            }
            let Some((id, walk)) = session.walks.first() else { return };
            if id.1.is_some() {
                if !self.ask(key, room) {
                    return;
                }
                continue;
            }
            if steps == 0 {
                session.walking = true;
                self.jobs.push_back(Job::Walk(key));
                return;
            }
            let options = walk.options;
            let own = options.no_local().then(|| session.client_id.clone());
            let slice = steps.min(256);
            steps -= slice;
            let done = self.retained.walk(now, &mut walk.cursor, slice, &mut |_, message| {
                // [MQTT-3.8.3-3]
                if own.is_none() || own != message.head.publisher {
                    bytes += message.footprint();
                    found.push(message.clone());
                }
                found.is_empty() || found.len() < room && bytes < most_bytes
            });
            if done {
                session.walks.pop_first();
            }
            for message in found.drain(..) {
                // [U5-037]: RETAIN is set, whatever Retain As Published says.
                let qos = options.qos().min(message.head.qos);
                let ids = Ids::One(options.identifier());
                let copy = Copy { message, ids, group: NO_GROUP, qos, retain: true };
                self.enqueue(now, key, copy);
            }
        }
    }
}

fn granted(qos: Qos) -> ReasonCode {
    match qos {
        Qos::AtMostOnce => ReasonCode::Success,
        Qos::AtLeastOnce => ReasonCode::GrantedQos1,
        Qos::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}

impl Broker {
    /// Subscribes a local session; the caller has checked nothing. Gives whether `waits` is told.
    pub(super) fn subscribe_local(
        &mut self,
        key: Key,
        filter: &str,
        qos: Qos,
        waits: Waits,
    ) -> Result<bool, ReasonCode> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        self.subscribe_one(key, Version::V5, filter, options, 0, waits).map(|(_, gate)| gate)
    }
}
