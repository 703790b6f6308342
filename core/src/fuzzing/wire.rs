//! What a client sees of one connection, and whether a broker may have sent it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::{self, Connack, Packet, PacketId, Property, PropertyId, Publish, Qos, Version};
use crate::connection::Negotiated;
use crate::topic::TopicName;

/// An answer that the broker owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owed {
    Puback(PacketId),
    Pubrec(PacketId),
    Pubcomp(PacketId),
    /// With so many reason codes.
    Suback(PacketId, usize),
    Unsuback(PacketId, usize),
    Pingresp,
}

/// Where a message to the client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flight {
    /// PUBLISH came and was not answered.
    Publish(Qos),
    /// PUBREC was sent.
    Pubrec,
    /// PUBREL came.
    Pubrel,
    /// PUBREL came for a message of a connection before.
    Resumed,
}

pub(super) struct Wire {
    /// Messages that the broker has in flight at most.
    window: u16,
    /// Bytes to the broker that are no whole packet yet.
    sent: Vec<u8>,
    /// Bytes from the broker, likewise.
    seen: Vec<u8>,
    /// What CONNECT said, once it was sent.
    pub(super) terms: Option<Negotiated>,
    method: bool,
    /// CONNACK with success came.
    connected: bool,
    resumed: bool,
    /// A last packet came.
    over: bool,
    /// The client broke a rule of framing: what it sends later is not understood.
    broken: bool,
    aliases: BTreeMap<u16, String>,
    owed: BTreeMap<Owed, u32>,
    pub(super) flights: BTreeMap<PacketId, Flight>,
    /// Identifiers that PUBREL may come for at any time, and that may be free: the client was not
    /// tidy with them. What it acknowledged before it came may be read after.
    strays: BTreeSet<PacketId>,
    /// PUBLISH packets received, by QoS.
    pub(super) published: [u64; 3],
}

impl Wire {
    pub(super) fn new(window: u16) -> Self {
        Self {
            window,
            sent: Vec::new(),
            seen: Vec::new(),
            terms: None,
            method: false,
            connected: false,
            resumed: false,
            over: false,
            broken: false,
            aliases: BTreeMap::new(),
            owed: BTreeMap::new(),
            flights: BTreeMap::new(),
            strays: BTreeSet::new(),
            published: [0; 3],
        }
    }

    pub(super) fn version(&self) -> Version {
        self.terms.map_or(Version::V311, |terms| terms.version)
    }

    /// The client sends bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        let sent = core::mem::take(&mut self.sent);
        let mut rest = &sent[..];
        while !self.broken {
            match codec::split(rest, u32::MAX) {
                Ok(Some((frame, used))) => {
                    rest = &rest[used..];
                    match codec::decode(self.version(), frame) {
                        Ok(packet) => self.ask(&packet),
                        Err(_) => self.broken = true,
                    }
                }
                Ok(None) => break,
                Err(_) => self.broken = true,
            }
        }
        self.sent = rest.to_vec();
    }

    fn ask(&mut self, packet: &Packet<'_>) {
        let owed = match packet {
            Packet::Connect(connect) if self.terms.is_none() => {
                self.terms = Some(Negotiated::of(connect));
                let method = connect.properties.find(PropertyId::AuthenticationMethod);
                self.method = method.is_some();
                return;
            }
            Packet::Publish(Publish { qos, packet_id: Some(id), .. }) => match qos {
                Qos::ExactlyOnce => Owed::Pubrec(*id),
                _ => Owed::Puback(*id),
            },
            Packet::Pubrel(ack) => Owed::Pubcomp(ack.packet_id),
            Packet::Subscribe(packet) => Owed::Suback(packet.packet_id, packet.filters.len()),
            Packet::Unsubscribe(packet) => {
                let reasons = match self.version() {
                    Version::V5 => packet.filters.len(),
                    _ => 0,
                };
                Owed::Unsuback(packet.packet_id, reasons)
            }
            Packet::Pingreq => Owed::Pingresp,
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                // Too early: its PUBREL may still come.
                if matches!(self.flights.remove(&ack.packet_id), None | Some(Flight::Pubrec)) {
                    self.strays.insert(ack.packet_id);
                }
                return;
            }
            Packet::Pubrec(ack) => {
                match self.flights.get(&ack.packet_id) {
                    Some(Flight::Publish(_)) if ack.reason.is_error() => {
                        self.flights.remove(&ack.packet_id);
                    }
                    Some(Flight::Publish(_)) => {
                        self.flights.insert(ack.packet_id, Flight::Pubrec);
                    }
                    _ => {
                        self.strays.insert(ack.packet_id);
                    }
                }
                return;
            }
            _ => return,
        };
        *self.owed.entry(owed).or_default() += 1;
    }

    /// The broker sends bytes.
    ///
    /// # Panics
    /// If it must not.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.seen.extend_from_slice(bytes);
        let seen = core::mem::take(&mut self.seen);
        let mut rest = &seen[..];
        // Said to an unknown level of MQTT, whatever version the connection has.
        if rest == [0x20, 3, 0, 0x84, 0] && self.terms.is_none() {
            self.over = true;
            return;
        }
        let max = self.terms.map_or(u32::MAX, |terms| terms.max_packet_size);
        while let Some((frame, used)) = codec::split(rest, max).expect("no larger than accepted") {
            assert!(!self.over, "{frame:02x?} after the last packet");
            let version = self.spoken(rest);
            let packet = codec::decode(version, frame).expect("what comes can be read");
            self.look(version, &packet);
            rest = &rest[used..];
        }
        self.seen = rest.to_vec();
    }

    /// The version the broker speaks. It may have seen that a CONNECT is of 5.0 and refuse it
    /// before the whole is there.
    fn spoken(&self, bytes: &[u8]) -> Version {
        match (self.terms, bytes) {
            (Some(terms), _) => terms.version,
            (None, [0x20, 2, ..]) => Version::V311,
            (None, _) => Version::V5,
        }
    }

    fn look(&mut self, version: Version, packet: &Packet<'_>) {
        match packet {
            Packet::Connack(connack) => return self.look_connack(connack),
            Packet::Auth(_) => return assert!(self.method, "AUTH without a method"),
            _ => assert!(self.connected, "{packet:?} before CONNACK"),
        }
        match packet {
            Packet::Publish(publish) => self.look_publish(publish),
            Packet::Pubrel(ack) => self.look_pubrel(ack.packet_id),
            Packet::Puback(ack) => self.paid(Owed::Puback(ack.packet_id)),
            Packet::Pubrec(ack) => self.paid(Owed::Pubrec(ack.packet_id)),
            Packet::Pubcomp(ack) => self.paid(Owed::Pubcomp(ack.packet_id)),
            Packet::Suback(ack) => self.paid(Owed::Suback(ack.packet_id, ack.reasons.len())),
            Packet::Unsuback(ack) => self.paid(Owed::Unsuback(ack.packet_id, ack.reasons.len())),
            Packet::Pingresp => self.paid(Owed::Pingresp),
            Packet::Disconnect(disconnect) => {
                assert!(version == Version::V5, "DISCONNECT to an older client");
                // [MQTT-3.14.2-2]
                let expiry = disconnect.properties.find(PropertyId::SessionExpiryInterval);
                assert_eq!(expiry, None);
                self.over = true;
            }
            other => panic!("a broker must not send {other:?}"),
        }
    }

    fn look_connack(&mut self, connack: &Connack<'_>) {
        assert!(!self.connected, "a second CONNACK");
        self.over = connack.reason.is_error();
        self.connected = !self.over;
        self.resumed = connack.session_present || self.version() == Version::V31;
        // Otherwise the broker cannot have accepted it.
        assert!(self.over || self.terms.is_some());
    }

    fn paid(&mut self, owed: Owed) {
        let count = self.owed.get_mut(&owed).filter(|count| **count > 0);
        let count = count.unwrap_or_else(|| panic!("{owed:?} was not asked for"));
        *count -= 1;
    }

    fn look_pubrel(&mut self, id: PacketId) {
        if self.strays.contains(&id) {
            return;
        }
        match self.flights.get(&id) {
            Some(Flight::Pubrec | Flight::Pubrel) => self.flights.insert(id, Flight::Pubrel),
            None if self.resumed => self.flights.insert(id, Flight::Resumed),
            other => panic!("PUBREL {id} for {other:?}"),
        };
    }

    fn look_publish(&mut self, publish: &Publish<'_>) {
        self.published[publish.qos as usize] += 1;
        let terms = self.terms.expect("connected");
        let alias = publish.properties.find(PropertyId::TopicAlias);
        let mut topic = publish.topic;
        if let Some(Property::TopicAlias(alias)) = alias {
            assert!((1..=terms.max_topic_alias).contains(&alias), "alias {alias}");
            if topic.is_empty() {
                topic = self.aliases.get(&alias).expect("an alias that was set");
            } else {
                self.aliases.insert(alias, topic.into());
            }
        }
        assert!(TopicName::new(topic, u16::MAX).is_ok(), "{topic:?}");
        let Some(id) = publish.packet_id else { return };
        assert!(!publish.dup || self.resumed, "DUP in a session that is new");
        let before = self.flights.insert(id, Flight::Publish(publish.qos));
        assert!(before.is_none() || self.strays.contains(&id), "{id} is in use");
        let window = terms.receive_maximum.min(self.window);
        let counts = |(id, flight): &(&PacketId, &Flight)| {
            **flight != Flight::Resumed && !self.strays.contains(*id)
        };
        let flying = self.flights.iter().filter(counts).count();
        assert!(flying <= usize::from(window), "over the Receive Maximum");
    }
}
