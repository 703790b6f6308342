//! What clients must not do.

use fulmar_core::codec::{
    Connect, Disconnect, Filters, Packet, Properties, Property, Publish, ReasonCode, Subscribe,
    SubscriptionOptions,
};
use fulmar_core::{PacketId, Qos, Version};

use super::super::plan::Plan;
use super::super::rng::Rng;
use super::publish::{payload, qos, topic};
use super::{Peer, ack, bytes};

impl Peer {
    /// Something a client must not do, or need not. Of several shards nothing of which it hangs on
    /// the moment whether it is wrong: no acknowledgements of what may be sent meanwhile, and no
    /// messages that may be beyond the Receive Maximum, as long as others are not answered.
    pub(in super::super) fn misbehave(&mut self, rng: &mut Rng, plan: &Plan, key: u64) -> Vec<u8> {
        let five = self.version == Version::V5;
        let id = rng.range(1, 6) as u16;
        let many = plan.shards > 1;
        let packet = match rng.below(16) {
            kind @ 2..=5 if many => return self.acknowledge_wrongly(plan, kind, id),
            9 | 10 | 15 if many => return self.exceed(rng, plan, key),
            0 => return vec![rng.below(256) as u8; rng.range(1, 9) as usize],
            1 => return self.connect_again(),
            2 => Packet::Puback(ack(id)),
            3 => Packet::Pubrec(ack(id)),
            4 => Packet::Pubcomp(ack(id)),
            5 => Packet::Pubrel(ack(id)),
            6 => Packet::Pingresp,
            7 => return vec![0x30, 0xff, 0xff, 0xff, 0xff],
            8 => return vec![0x30, 0xff, 0xff, 0xff, 0x7f],
            9 | 10 if !self.flights.is_empty() => {
                // A repeat on the same connection.
                let flight = self.flights[rng.index(self.flights.len())].clone();
                return self.encode(rng, plan, &flight.message, flight.id, rng_dup(key));
            }
            11 => return self.odd_subscribe(rng),
            12 if five => {
                let topic_alias = [Property::TopicAlias(rng.range(1, 9) as u16)];
                let properties = Properties::list(&topic_alias);
                let publish = Publish { topic: "", properties, ..Publish::default() };
                return bytes(self.version, &Packet::Publish(publish));
            }
            13 => {
                let payload = payload(rng, key, 0);
                let (topic, qos) = ("$SYS/x", qos(rng, plan));
                let qos = if many { Qos::AtMostOnce } else { qos };
                let id = if qos > Qos::AtMostOnce { PacketId::new(900 + id) } else { None };
                let payload = &payload[..];
                let publish = Publish { topic, qos, packet_id: id, payload, ..Publish::default() };
                return bytes(self.version, &Packet::Publish(publish));
            }
            14 if five && self.connected_expiry == 0 => {
                let list = [Property::SessionExpiryInterval(5)];
                let properties = Properties::list(&list);
                let disconnect = Disconnect { reason: ReasonCode::Success, properties };
                return bytes(self.version, &Packet::Disconnect(disconnect));
            }
            _ if many => return self.exceed(rng, plan, key),
            _ => {
                // More than the Receive Maximum allows.
                let id = rng.range(1, 30) as u16 + 1000;
                let payload = payload(rng, key, 0);
                return self.exactly_once(topic(rng, plan), &payload, id);
            }
        };
        bytes(self.version, &packet)
    }

    /// A message of QoS 2 that is not kept.
    fn exactly_once(&self, topic: &str, payload: &[u8], id: u16) -> Vec<u8> {
        let publish = Publish {
            qos: Qos::ExactlyOnce,
            topic,
            packet_id: PacketId::new(id),
            payload,
            ..Publish::default()
        };
        bytes(self.version, &Packet::Publish(publish))
    }

    /// Acknowledges what the broker never sent, with an identifier it never comes to; or a message
    /// of QoS 2 that it has sent in a way that is wrong as long as that is not released.
    fn acknowledge_wrongly(&self, plan: &Plan, kind: u64, id: u16) -> Vec<u8> {
        let far = ack(60_000 + id);
        // What has become too large for the client is given up, and it does not know.
        let held = self.held.first().filter(|_| !plan.uses.small_packets && id.is_multiple_of(2));
        let answered = |id: u16| {
            let pubrec = bytes(self.version, &Packet::Pubrec(ack(id)));
            !self.acks.contains(&pubrec)
        };
        let packet = match (kind, held) {
            (2, Some(held)) => Packet::Puback(ack(*held)),
            (2, None) => Packet::Puback(far),
            (3, _) => Packet::Pubrec(far),
            (4, Some(held)) if !answered(*held) => Packet::Pubcomp(ack(*held)),
            (4, _) => Packet::Pubcomp(far),
            _ => Packet::Pubrel(far),
        };
        bytes(self.version, &packet)
    }

    /// One message of QoS 2 more than the Receive Maximum allows, whatever the broker has released
    /// by then: once, and where it has no reason to refuse one of them.
    fn exceed(&mut self, rng: &mut Rng, plan: &Plan, key: u64) -> Vec<u8> {
        let most = usize::from(self.receive_maximum);
        let config = &plan.config;
        let room = most + self.flights.len() <= config.max_await_rel.into();
        let taken = room && config.shard_budget > 1 << 20;
        // How many of QoS 1 the broker has not answered depends on other shards.
        let known = self.flights.iter().all(|flight| flight.message.qos == Qos::ExactlyOnce);
        if self.version < Version::V5 || self.exceeded || most > 6 || !taken || !known {
            return Vec::new();
        }
        self.exceeded = true;
        let number = payload(rng, key, 0);
        // Only the first has a number.
        let messages = (0..=most as u16).map(|at| {
            let payload = if at == 0 { &number[..] } else { &[] };
            self.exactly_once(topic(rng, plan), payload, 50_000 + at)
        });
        messages.collect::<Vec<_>>().concat()
    }

    fn connect_again(&self) -> Vec<u8> {
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id: &self.id,
            will: None,
            username: None,
            password: None,
            properties: Properties::EMPTY,
        };
        bytes(self.version, &Packet::Connect(connect))
    }

    fn odd_subscribe(&mut self, rng: &mut Rng) -> Vec<u8> {
        let filter = *rng.pick(&["a/#/b", "a+", "$share/g", "", "$share//a", "room/#"]);
        let options = SubscriptionOptions::default();
        let filters = [(filter, options)];
        let packet_id = PacketId::new(self.take_id()).unwrap_or(PacketId::MIN);
        let (properties, filters) = (Properties::EMPTY, Filters::list(&filters));
        bytes(self.version, &Packet::Subscribe(Subscribe { packet_id, properties, filters }))
    }
}

fn rng_dup(key: u64) -> bool {
    !key.is_multiple_of(3)
}
