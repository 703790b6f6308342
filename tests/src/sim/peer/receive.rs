//! What a client makes of the packets that come.

use fulmar_core::codec::{Packet, Properties, Property, PropertyId, Publish, decode, split};
use fulmar_core::{PacketId, Qos};

use super::super::plan::Plan;
use super::super::rng::Rng;
use super::{Peer, Took, ack, bytes};

impl Peer {
    /// Bytes came: handles the packets that are whole. `send` takes what is to be sent at once.
    /// `accepted`: the number of its acceptance.
    pub(in super::super) fn read(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        accepted: u64,
        bytes: &[u8],
        send: &mut Vec<Vec<u8>>,
    ) -> Vec<Took> {
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let (mut at, mut took) = (0, Vec::new());
        while let Ok(Some((frame, used))) = split(&inbox[at..], u32::MAX) {
            at += used;
            // What cannot be decoded is the oracle's business.
            if let Ok(packet) = decode(self.version, frame) {
                took.push(self.take(rng, plan, accepted, &packet, send));
            }
        }
        self.inbox = inbox[at..].to_vec();
        took
    }

    fn take(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        accepted: u64,
        packet: &Packet<'_>,
        send: &mut Vec<Vec<u8>>,
    ) -> Took {
        match packet {
            Packet::Connack(connack) if connack.reason.is_error() => return Took::Refused,
            Packet::Connack(connack) => {
                self.limits(connack.properties);
                self.ashamed = false;
                if self.join(accepted) {
                    self.flights.clear();
                    self.held.clear();
                }
                send.extend(self.resume(rng, plan));
                return Took::Accepted;
            }
            Packet::Publish(publish) => return self.take_publish(publish),
            Packet::Puback(ack) => self.flights.retain(|f| f.id != ack.packet_id.get()),
            Packet::Pubrec(received) => {
                let id = received.packet_id.get();
                if received.reason.is_error() {
                    self.flights.retain(|flight| flight.id != id);
                } else {
                    if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
                        flight.released = true;
                    }
                    self.acks.push_back(bytes(self.version, &Packet::Pubrel(ack(id))));
                }
            }
            Packet::Pubrel(received) => {
                let id = received.packet_id.get();
                self.held.remove(&id);
                self.acks.push_back(bytes(self.version, &Packet::Pubcomp(ack(id))));
            }
            Packet::Pubcomp(ack) => self.flights.retain(|f| f.id != ack.packet_id.get()),
            _ => {}
        }
        send.extend(self.go_on(rng, plan));
        Took::Nothing
    }

    fn take_publish(&mut self, publish: &Publish<'_>) -> Took {
        let key = publish.payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let Some(id) = publish.packet_id.map(PacketId::get) else {
            return Took::Message(publish.qos, key);
        };
        if publish.qos == Qos::AtLeastOnce {
            self.acks.push_back(bytes(self.version, &Packet::Puback(ack(id))));
            return Took::Message(publish.qos, key);
        }
        self.acks.push_back(bytes(self.version, &Packet::Pubrec(ack(id))));
        match self.held.insert(id) {
            true => Took::Message(publish.qos, key),
            false => Took::Nothing,
        }
    }

    fn limits(&mut self, properties: Properties<'_>) {
        self.max_alias = match properties.find(PropertyId::TopicAliasMaximum) {
            Some(Property::TopicAliasMaximum(max)) => max,
            _ => 0,
        };
        self.receive_maximum = match properties.find(PropertyId::ReceiveMaximum) {
            Some(Property::ReceiveMaximum(max)) => max,
            _ => u16::MAX,
        };
        if let Some(Property::ServerKeepAlive(secs)) = properties.find(PropertyId::ServerKeepAlive)
        {
            self.keep_alive = secs;
        }
    }
}
