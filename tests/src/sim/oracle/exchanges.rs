//! Messages of clients and acknowledgements: what is published, what the broker owes for it, and
//! what a Packet Identifier means.

use fulmar_core::broker::ConnId;
use fulmar_core::codec::{Ack, Property, PropertyId, Publish, ReasonCode};
use fulmar_core::topic::TopicName;
use fulmar_core::{Qos, Version};

use super::incoming::Rule;
use super::publications::Draft;
use super::{Held, Oracle, Wire};

impl Oracle {
    pub(super) fn publish_in(&mut self, conn: ConnId, publish: &Publish<'_>) -> Result<(), Rule> {
        let max_alias = self.config.max_topic_alias;
        let Some(wire) = self.wires.get_mut(&conn) else { return Ok(()) };
        let version = wire.version;
        let allowed =
            publish.qos <= self.config.max_qos && (!publish.retain || self.config.retain_available);
        if !allowed || publish.properties.find(PropertyId::SubscriptionIdentifier).is_some() {
            self.counts.packets_in[3] -= 1;
            return Err("publish not allowed");
        }
        let Some(topic) = wire.topic(publish, max_alias) else {
            self.counts.packets_in[3] -= 1;
            return Err("topic alias");
        };
        self.counts.messages_in[publish.qos as usize] += 1;
        let Some(client) = wire.client.clone() else { return Ok(()) };
        let id = publish.packet_id.map_or(0, |id| id.get());
        let kind = if publish.qos == Qos::ExactlyOnce { 5 } else { 4 };
        let over = match self.admit_id(&client, (conn, version), publish.qos, id)? {
            Admitted::New => false,
            Admitted::Full => true,
            Admitted::Repeat => {
                if self.many {
                    self.repeated(conn, &client, id);
                }
                self.owe(conn, 5, id, &[0]);
                return Ok(());
            }
        };
        let reserved = ["$SYS", "$share"].iter().any(|r| {
            topic.strip_prefix(r).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let bad = TopicName::new(&topic, self.config.max_topic_levels).is_err();
        let reason = if over {
            ReasonCode::QuotaExceeded
        } else if reserved || bad {
            ReasonCode::TopicNameInvalid
        } else if self.full && !(publish.retain && publish.payload.is_empty()) {
            ReasonCode::QuotaExceeded
        } else {
            let draft = Draft::of_publish(&client, topic, publish);
            match self.publish(draft, None, Some((conn, id))) {
                0 => ReasonCode::NoMatchingSubscribers,
                _ => ReasonCode::Success,
            }
        };
        if reason == ReasonCode::QuotaExceeded && !self.many {
            self.refusals.push((client.clone(), publish.qos));
        }
        let acknowledged = publish.qos > Qos::AtMostOnce;
        let error = match (version, reason) {
            (Version::V5, _) => None,
            (_, ReasonCode::QuotaExceeded) if acknowledged => Some("no room"),
            (_, ReasonCode::TopicNameInvalid) if !reserved => Some("topic name"),
            _ => None,
        };
        // Refused and said so: its identifier is free again. Before 5.0 only the end of the
        // connection says so; a message taken in silence is held.
        if reason.is_error() && (version == Version::V5 || error.is_some()) {
            self.sessions.get_mut(&client).map(|session| session.held.remove(&id));
        }
        if let Some(rule) = error {
            return Err(rule);
        }
        if acknowledged {
            self.owe(conn, kind, id, &[reason as u8]);
        }
        Ok(())
    }

    /// What a Packet Identifier means. `[MQTT-4.3.3-10]` `[MQTT-3.3.4-7]` Where that depends on
    /// identifiers of which it is not known whether the broker has them, it is taken as new: the
    /// message may come, and PUBREC tells.
    fn admit_id(
        &mut self,
        client: &str,
        (conn, version): (ConnId, Version),
        qos: Qos,
        id: u16,
    ) -> Result<Admitted, Rule> {
        // Of several shards the answer tells whether there was memory for a message.
        let lean = self.many && self.is_tight();
        let Some(session) = self.sessions.get_mut(client) else { return Ok(Admitted::New) };
        let five = version == Version::V5;
        let open = session.held.values().filter(|held| held.counts).count();
        let maximum = self.config.receive_maximum;
        let over = five && maximum < u16::MAX && open >= usize::from(maximum);
        match qos {
            Qos::AtMostOnce => Ok(Admitted::New),
            Qos::AtLeastOnce if over => Err("Receive Maximum"),
            Qos::AtLeastOnce => Ok(Admitted::New),
            Qos::ExactlyOnce => {
                let most = usize::from(self.config.max_await_rel);
                let full = |count: usize| five && count >= most;
                let known = |held: &&Held| held.sure && (held.answered || !lean);
                let known = session.held.values().filter(known).count();
                let all = session.held.len();
                let doubt = session.held.get(&id).map_or(full(all), |held| !held.sure);
                session.over += u64::from(doubt);
                match session.held.get_mut(&id) {
                    Some(held) if !held.counts && over => Err("Receive Maximum"),
                    Some(held) => {
                        (held.counts, held.conn) = (true, conn);
                        Ok(Admitted::Repeat)
                    }
                    None if over => Err("Receive Maximum"),
                    None if full(known) => Ok(Admitted::Full),
                    None => {
                        let sure = !full(all);
                        let held = Held { counts: true, conn, sure, answered: false };
                        session.held.insert(id, held);
                        Ok(Admitted::New)
                    }
                }
            }
        }
    }

    pub(super) fn puback_in(&mut self, conn: ConnId, ack: &Ack<'_>) -> Result<(), Rule> {
        let Some((_, session)) = self.session_of(conn) else { return Ok(()) };
        let id = ack.packet_id.get();
        let Some(at) = session.flying.iter().position(|f| f.id == id) else { return Ok(()) };
        if session.flying[at].due.qos == Qos::ExactlyOnce {
            return Err("PUBACK for QoS 2");
        }
        let flying = session.flying.remove(at);
        session.late.push(flying);
        Ok(())
    }

    pub(super) fn pubrec_in(&mut self, conn: ConnId, ack: &Ack<'_>) -> Result<(), Rule> {
        let Some((_, session)) = self.session_of(conn) else { return Ok(()) };
        let id = ack.packet_id.get();
        match session.flying.iter().position(|f| f.id == id) {
            None if ack.reason.is_error() => {}
            None => self.owe(conn, 6, id, &[ReasonCode::PacketIdentifierNotFound as u8]),
            Some(at) if session.flying[at].due.qos == Qos::AtLeastOnce => {
                return Err("PUBREC for QoS 1");
            }
            Some(at) if ack.reason.is_error() => {
                session.flying.remove(at);
            }
            Some(at) => {
                let flying = &mut session.flying[at];
                (flying.released, flying.here) = (true, true);
                self.owe_surely(conn, 6, id);
            }
        }
        Ok(())
    }

    pub(super) fn pubrel_in(&mut self, conn: ConnId, ack: &Ack<'_>) -> Result<(), Rule> {
        let Some((_, session)) = self.session_of(conn) else { return Ok(()) };
        let id = ack.packet_id.get();
        match session.held.remove(&id) {
            Some(held) if held.answered => self.owe_surely(conn, 7, id),
            Some(_) => self.owe(conn, 7, id, &[0]),
            None => self.owe(conn, 7, id, &[ReasonCode::PacketIdentifierNotFound as u8]),
        }
        Ok(())
    }

    pub(super) fn pubcomp_in(&mut self, conn: ConnId, ack: &Ack<'_>) -> Result<(), Rule> {
        let Some((_, session)) = self.session_of(conn) else { return Ok(()) };
        let id = ack.packet_id.get();
        let Some(at) = session.flying.iter().position(|f| f.id == id) else { return Ok(()) };
        if !session.flying[at].released {
            return Err("PUBCOMP before PUBREL");
        }
        let flying = session.flying.remove(at);
        session.late.push(flying);
        Ok(())
    }
}

/// See [`Oracle::admit_id`].
enum Admitted {
    New,
    Repeat,
    Full,
}

impl Wire {
    /// The topic of a PUBLISH, which may have an alias; `None` where the alias is wrong.
    fn topic(&mut self, publish: &Publish<'_>, max_alias: u16) -> Option<String> {
        let Some(Property::TopicAlias(alias)) = publish.properties.find(PropertyId::TopicAlias)
        else {
            return Some(publish.topic.to_string());
        };
        let known = self.aliases_in.get(&alias).cloned();
        let topic = if publish.topic.is_empty() { known } else { Some(publish.topic.into()) };
        let topic = topic.filter(|_| alias <= max_alias)?;
        self.aliases_in.insert(alias, topic.clone());
        Some(topic)
    }
}
