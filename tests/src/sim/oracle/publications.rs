//! Who is entitled to which copy.

use std::collections::BTreeMap;
use std::rc::Rc;

use fulmar_core::broker::{ConnId, DeliveryMode};
use fulmar_core::codec::{Packet, Properties, Property, Publish};
use fulmar_core::topic::{matches, split_share};
use fulmar_core::{Instant, PacketId, Qos, Version};

use super::incoming::common;
use super::{Cause, Due, Note, Oracle, Session, Subscription, Testament};

/// A message as it is published.
pub(super) struct Draft {
    pub(super) publisher: Option<String>,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) expiry: Option<u32>,
    pub(super) user: Option<String>,
}

impl Draft {
    pub(super) fn of_publish(client: &str, topic: String, publish: &Publish<'_>) -> Self {
        let (expiry, user) = common(publish.properties);
        Self {
            publisher: Some(client.to_string()),
            topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            expiry,
            user,
        }
    }

    pub(super) fn of_will(client: &str, will: Testament) -> Self {
        Self {
            publisher: Some(client.to_string()),
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            expiry: will.expiry,
            user: will.user,
        }
    }
}

impl Oracle {
    /// A message is published: notes who is to have it. Answers how many copies that makes.
    /// `gone` is a client whose session is no more.
    /// `from`: connection and identifier of its packet, if there was one.
    pub(super) fn publish(
        &mut self,
        draft: Draft,
        gone: Option<&str>,
        from: Option<(ConnId, u16)>,
    ) -> usize {
        self.next += 1;
        let publisher = draft.publisher.clone().unwrap_or_default();
        let expires = draft.expiry.map(|secs| self.now.after_secs(u64::from(secs)));
        let note = Rc::new(Note {
            key: Self::key(&draft.payload),
            topic: draft.topic,
            payload: draft.payload,
            qos: draft.qos,
            retain: draft.retain,
            expires,
            publisher: draft.publisher,
            user: draft.user,
            number: self.next,
        });
        if self.many {
            let (conn, id) = from.unzip();
            let will = conn.is_none() && note.publisher.is_some();
            self.expect(note, conn, id.unwrap_or(0), will);
            return 1;
        }
        if note.retain && self.config.retain_available {
            self.store(&note, publisher);
        }
        let mut copies = 0;
        let mut groups: BTreeMap<String, BTreeMap<String, (bool, Due)>> = BTreeMap::new();
        let overlap = self.config.delivery_mode == DeliveryMode::Overlap;
        for (client, session) in &mut self.sessions {
            if gone == Some(client) {
                continue;
            }
            let mut merged: Option<Due> = None;
            for (filter, subscription) in &session.subscriptions {
                let shared = split_share(filter).ok().flatten();
                if !matches(shared.map_or(filter, |(_, inner)| inner), &note.topic) {
                    continue;
                }
                let due = subscription.due(&note, Cause::Live);
                if shared.is_some() {
                    let due = Due { cause: Cause::Shared, ..due };
                    session.mixed.insert(note.key);
                    let member = (session.conn.is_some(), due);
                    groups.entry(filter.clone()).or_default().insert(client.clone(), member);
                } else if subscription.no_local && note.publisher.as_ref() == Some(client) {
                    // [MQTT-3.8.3-3]
                } else if overlap {
                    session.due.push(due);
                    copies += 1;
                } else {
                    merged = Some(match merged {
                        Some(other) => other.join(due),
                        None => due,
                    });
                }
            }
            copies += usize::from(merged.is_some());
            session.due.extend(merged);
        }
        copies += groups.len();
        for (filter, members) in groups {
            self.share(filter, &note, members);
        }
        copies
    }

    fn store(&mut self, note: &Rc<Note>, publisher: String) {
        let topic = note.topic.clone();
        let old = if note.payload.is_empty() {
            self.retained.remove(&topic)
        } else {
            self.stored.push((publisher.clone(), topic.clone()));
            self.retained.insert(topic.clone(), note.clone())
        };
        if self.unstored.remove(&publisher) && !note.payload.is_empty() {
            self.stored.pop();
            self.retained.remove(&topic);
        }
        if let Some(old) = old {
            self.excuse(&old);
        }
    }

    /// A message is not retained any more: it need not reach who has not got it yet.
    pub(super) fn excuse(&mut self, note: &Rc<Note>) {
        for session in self.sessions.values_mut() {
            for due in &mut session.due {
                if matches!(due.cause, Cause::Retained(_)) && Rc::ptr_eq(&due.note, note) {
                    due.must = false;
                }
            }
        }
    }

    /// Retained messages for a new subscription. `[MQTT-3.3.1-9]`
    pub(super) fn owe_retained(&mut self, client: &str, filter: &str) {
        let now = self.now;
        if self.many {
            return;
        }
        let Some(session) = self.sessions.get_mut(client) else { return };
        session.excuse_retained(filter);
        let Some(subscription) = session.subscriptions.get(filter).cloned() else { return };
        for note in self.retained.values() {
            let own = subscription.no_local && note.publisher.as_deref() == Some(client);
            if matches(filter, &note.topic) && !note.is_expired(now) && !own {
                let due = subscription.due(note, Cause::Retained(filter.to_string()));
                session.mixed.insert(note.key);
                session.due.push(Due { retain: true, ..due });
            }
        }
    }
}

impl Subscription {
    pub(super) fn due(&self, note: &Rc<Note>, cause: Cause) -> Due {
        Due {
            note: note.clone(),
            qos: self.qos.min(note.qos),
            retain: self.as_published && note.retain,
            ids: if self.identifier == 0 { Vec::new() } else { vec![self.identifier] },
            cause,
            must: true,
        }
    }
}

impl Due {
    /// One copy for two subscriptions. `[MQTT-3.3.4-2]` `[MQTT-3.3.4-4]`
    fn join(mut self, other: Self) -> Self {
        self.qos = self.qos.max(other.qos);
        self.retain |= other.retain;
        self.ids.extend(other.ids);
        self.ids.sort_unstable();
        self
    }

    /// Bytes of its PUBLISH, with a topic alias set or without.
    pub(super) fn size(&self, version: Version, now: Instant, alias: bool) -> u32 {
        let mut list = Vec::new();
        if version == Version::V5 {
            list.extend(
                self.note.expires.map(|at| Property::MessageExpiryInterval(seconds(at, now))),
            );
            list.extend(self.ids.iter().map(|id| Property::SubscriptionIdentifier(*id)));
            list.extend(self.note.user.as_deref().map(|user| Property::UserProperty("n", user)));
            list.extend(alias.then_some(Property::TopicAlias(1)));
        }
        let publish = Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: &self.note.topic,
            packet_id: (self.qos > Qos::AtMostOnce).then_some(PacketId::MIN),
            properties: Properties::list(&list),
            payload: &self.note.payload,
        };
        Packet::Publish(publish).encoded_len(version).unwrap_or(u32::MAX)
    }
}

/// Seconds left, rounded up, at least one.
pub(super) fn seconds(at: Instant, now: Instant) -> u32 {
    at.since(now).as_micros().div_ceil(1_000_000).clamp(1, u32::MAX.into()) as u32
}

impl Session {
    /// Copies of this QoS that are due.
    pub(super) fn open(&self, qos: Qos) -> u64 {
        self.due.iter().filter(|due| due.qos == qos).count() as u64
    }

    /// Retained messages of this subscription need not come any more.
    pub(super) fn excuse_retained(&mut self, filter: &str) {
        for due in &mut self.due {
            if matches!(&due.cause, Cause::Retained(by) if by == filter) {
                due.must = false;
            }
        }
    }
}
