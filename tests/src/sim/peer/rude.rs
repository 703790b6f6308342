//! What clients must not do.

use fulmar_core::codec::{
    Connect, Disconnect, Filters, Packet, Properties, Property, Publish, ReasonCode, Subscribe,
    SubscriptionOptions,
};
use fulmar_core::{PacketId, Qos, Version};

use super::super::plan::Plan;
use super::super::rng::Rng;
use super::publish::{payload, qos};
use super::{Peer, ack, bytes};

impl Peer {
    /// Something a client must not do, or need not. Of several shards nothing of which it hangs on
    /// the moment whether it is wrong: acknowledgements of what may be sent meanwhile, and messages
    /// beyond the Receive Maximum, or that may be, as long as others are not answered.
    pub(in super::super) fn misbehave(&mut self, rng: &mut Rng, plan: &Plan, key: u64) -> Vec<u8> {
        let five = self.version == Version::V5;
        let id = rng.range(1, 6) as u16;
        let many = plan.shards > 1;
        let packet = match rng.below(16) {
            2..=5 | 9 | 10 | 15 if many => return Vec::new(),
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
            _ if many => return Vec::new(),
            _ => {
                // More than the Receive Maximum allows.
                let id = rng.range(1, 30) as u16 + 1000;
                let payload = payload(rng, key, 0);
                let topic = *rng.pick(&plan.topics);
                let publish = Publish {
                    qos: Qos::ExactlyOnce,
                    topic,
                    packet_id: PacketId::new(id),
                    payload: &payload,
                    ..Publish::default()
                };
                return bytes(self.version, &Packet::Publish(publish));
            }
        };
        bytes(self.version, &packet)
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
