//! Messages of a client, for the first time and again.

use fulmar_core::codec::{Packet, Properties, Property, Publish};
use fulmar_core::{Instant, PacketId, Qos, Version};

use super::super::plan::Plan;
use super::super::rng::Rng;
use super::{Flight, Message, Peer, ack, bytes};

impl Peer {
    pub(in super::super) fn publish(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        now: Instant,
        key: u64,
    ) -> Vec<u8> {
        self.publish_to(rng, plan, now, key, None)
    }

    /// A message behind CONNECT, before what is allowed is known.
    pub(in super::super) fn publish_early(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        key: u64,
    ) -> Vec<u8> {
        self.max_alias = 0;
        let message = Message {
            qos: Qos::AtMostOnce,
            retain: plan.uses.retain && plan.config.retain_available && rng.chance(400),
            topic: topic(rng, plan),
            payload: payload(rng, key, 0),
            expiry: None,
            user: None,
        };
        self.encode(rng, plan, &message, 0, false)
    }

    /// To this topic, or to any.
    pub(in super::super) fn publish_to(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        now: Instant,
        key: u64,
        to: Option<&'static str>,
    ) -> Vec<u8> {
        let uses = &plan.uses;
        let mut qos = qos(rng, plan);
        if !self.has_room() && self.ours.is_none() {
            qos = Qos::AtMostOnce;
        }
        let five = self.version == Version::V5;
        let retain = uses.retain && plan.config.retain_available && rng.chance(400);
        let large = uses.large_payloads && rng.chance(300);
        let large = rng.below(if large { plan.large } else { 40 });
        let most = u64::from(plan.config.max_packet_size).saturating_sub(100);
        let message = Message {
            qos,
            retain,
            topic: to.unwrap_or_else(|| topic(rng, plan)),
            // Without a number copies look alike, which is too much where groups choose, too.
            payload: match retain && !uses.shared && rng.chance(250) {
                true => Vec::new(),
                false => payload(rng, key, large.min(most)),
            },
            expiry: (five && uses.expiry && rng.chance(400)).then(|| rng.below(6) as u32),
            user: (five && uses.properties && rng.chance(500)).then(|| format!("u{key}")),
        };
        if let Some(ours) = &mut self.ours {
            let mut list = Vec::new();
            list.extend(message.expiry.map(Property::MessageExpiryInterval));
            list.extend(message.user.as_deref().map(|user| Property::UserProperty("n", user)));
            let publish = Publish {
                qos,
                retain,
                topic: message.topic,
                properties: Properties::list(&list),
                payload: &message.payload,
                ..Publish::default()
            };
            return ours.publish(now, &publish);
        }
        let id = if qos == Qos::AtMostOnce { 0 } else { self.take_id() };
        let bytes = self.encode(rng, plan, &message, id, false);
        if id > 0 {
            self.flights.push(Flight { id, released: false, message });
        }
        bytes
    }

    pub(super) fn encode(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        message: &Message,
        id: u16,
        dup: bool,
    ) -> Vec<u8> {
        let mut list = Vec::new();
        let mut topic = message.topic;
        if self.version == Version::V5 {
            list.extend(message.expiry.map(Property::MessageExpiryInterval));
            list.extend(message.user.as_deref().map(|user| Property::UserProperty("n", user)));
            if plan.uses.aliases && self.max_alias > 0 && rng.chance(600) {
                let known = self.aliases.iter().position(|known| *known == topic);
                let alias = known.unwrap_or_else(|| {
                    if self.aliases.len() < self.max_alias.into() {
                        self.aliases.push("");
                    }
                    let at = rng.index(self.aliases.len());
                    self.aliases[at] = topic;
                    at
                });
                if known.is_some() && rng.chance(800) {
                    topic = "";
                }
                list.push(Property::TopicAlias(alias as u16 + 1));
            }
        }
        let publish = Publish {
            dup,
            qos: message.qos,
            retain: message.retain,
            topic,
            packet_id: PacketId::new(id),
            properties: Properties::list(&list),
            payload: &message.payload,
        };
        bytes(self.version, &Packet::Publish(publish))
    }

    /// Sends again what a new connection owes. `[MQTT-4.4.0-1]` With one shard more than the
    /// Receive Maximum where it was more before: that ends the connection, which the oracle checks.
    /// Of several it does not know when they count what.
    pub(super) fn resume(&mut self, rng: &mut Rng, plan: &Plan) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        self.again.clear();
        for flight in self.flights.clone() {
            if flight.released {
                sent.push(bytes(self.version, &Packet::Pubrel(ack(flight.id))));
            } else if plan.shards > 1 {
                self.again.push_back(flight.id);
            } else {
                sent.push(self.encode(rng, plan, &flight.message, flight.id, true));
            }
        }
        sent.extend(self.go_on(rng, plan));
        sent
    }

    /// Sends again as much as there is room for.
    pub(super) fn go_on(&mut self, rng: &mut Rng, plan: &Plan) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let most = match self.version {
            Version::V5 => self.receive_maximum,
            _ => u16::MAX,
        };
        self.again.retain(|id| self.flights.iter().any(|flight| flight.id == *id));
        while self.flights.len() - self.again.len() < usize::from(most)
            && let Some(id) = self.again.pop_front()
            && let Some(flight) = self.flights.iter().find(|flight| flight.id == id).cloned()
        {
            sent.push(self.encode(rng, plan, &flight.message, id, true));
        }
        sent
    }
}

pub(super) fn topic(rng: &mut Rng, plan: &Plan) -> &'static str {
    plan.topics[rng.index(plan.topics.len())]
}

pub(super) fn qos(rng: &mut Rng, plan: &Plan) -> Qos {
    Qos::from_bits(rng.below(3) as u8).unwrap_or_default().min(plan.config.max_qos)
}

/// The number, and so many bytes more.
pub(super) fn payload(rng: &mut Rng, key: u64, more: u64) -> Vec<u8> {
    let mut payload = key.to_be_bytes().to_vec();
    payload.resize(8 + more as usize, rng.below(256) as u8);
    payload
}
