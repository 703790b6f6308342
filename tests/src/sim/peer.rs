//! Clients of the simulation: polite ones, and rude ones that break rules while there are faults.

use std::collections::{BTreeSet, VecDeque};

use fulmar_core::broker::ConnId;
use fulmar_core::codec::{
    Ack, Connect, Disconnect, Filters, Packet, Properties, Property, PropertyId, Publish,
    ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, TopicFilters, Unsubscribe, Will,
    decode, split,
};
use fulmar_core::{Instant, PacketId, Qos, Version};

use super::ours::Ours;
use super::plan::{Plan, Uses};
use super::rng::Rng;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Away,
    /// CONNECT is on its way.
    Waiting,
    On,
    /// It was refused, and has no session to come back to.
    GivenUp,
}

/// A message of QoS 1 or 2 that is not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) id: u16,
    pub(super) released: bool,
    pub(super) message: Message,
}

/// What a client publishes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) qos: Qos,
    retain: bool,
    topic: &'static str,
    payload: Vec<u8>,
    expiry: Option<u32>,
    user: Option<String>,
}

/// One client with its half of the session.
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) rude: bool,
    /// The machine that does all this for it, if it is not scripted.
    pub(super) ours: Option<Box<Ours>>,
    pub(super) link: Option<ConnId>,
    pub(super) stage: Stage,
    pub(super) version: Version,
    /// Its session was lost: what it knows of it is void with the next CONNACK. A client that
    /// missed the CONNACK that said so cannot know; so it is told, here, by the simulation.
    /// Here: when, as numbers of acceptances.
    pub(super) reborn: Vec<u64>,
    pub(super) flights: Vec<Flight>,
    /// Of these, by identifier: to be sent again when the broker's Receive Maximum has room.
    again: VecDeque<u16>,
    pub(super) held: BTreeSet<u16>,
    pub(super) acks: VecDeque<Vec<u8>>,
    /// It does nothing before.
    pub(super) quiet: Instant,
    /// It reads nothing before.
    pub(super) stalled: Instant,
    pub(super) spoke: Instant,
    pub(super) keep_alive: u16,
    /// Connections since there are no faults.
    pub(super) tries: u32,
    /// It wants nothing back of what it did.
    pub(super) ashamed: bool,
    inbox: Vec<u8>,
    next_id: u16,
    aliases: Vec<&'static str>,
    max_alias: u16,
    receive_maximum: u16,
    connected_expiry: u32,
}

/// What a client did with a packet.
pub(super) enum Took {
    /// An application message, with the number in it.
    Message(Qos, u64),
    /// CONNACK with success.
    Accepted,
    /// CONNACK with an error.
    Refused,
    Nothing,
}

pub(super) fn bytes(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.append(version, &mut bytes).expect("packets of clients can be encoded");
    bytes
}

fn ack(id: u16) -> Ack<'static> {
    let packet_id = PacketId::new(id).unwrap_or(PacketId::MIN);
    Ack { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
}

impl Peer {
    pub(super) fn new(number: usize, rude: bool, version: Version) -> Self {
        Self {
            id: format!("c{number}"),
            rude,
            ours: None,
            link: None,
            stage: Stage::Away,
            version,
            reborn: Vec::new(),
            flights: Vec::new(),
            again: VecDeque::new(),
            held: BTreeSet::new(),
            acks: VecDeque::new(),
            quiet: Instant::ZERO,
            stalled: Instant::ZERO,
            spoke: Instant::ZERO,
            keep_alive: 0,
            tries: 0,
            ashamed: false,
            inbox: Vec::new(),
            next_id: 0,
            aliases: Vec::new(),
            max_alias: 0,
            receive_maximum: u16::MAX,
            connected_expiry: 0,
        }
    }

    /// The client machine instead of a script. It cannot be told that a session of 3.1 was lost.
    pub(super) fn with_machine(mut self, rng: &mut Rng) -> Self {
        self.version = self.version.max(Version::V311);
        self.ours = Some(Box::new(Ours::new(rng)));
        self
    }

    /// A CONNECT for a new connection. `calm`: to stay, and without anything special.
    pub(super) fn connect(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        now: Instant,
        key: u64,
        calm: bool,
    ) -> Vec<u8> {
        let uses = &plan.uses;
        self.begin(rng, plan);
        let five = self.version == Version::V5;
        let clean = match calm {
            true => std::mem::take(&mut self.ashamed),
            false => !uses.sessions || rng.chance(200),
        };
        // Its machine does not know that the session was lost, or has none: a new one.
        let lost = |ours: &Ours| ours.anew || !self.reborn.is_empty();
        let clean = clean || self.ours.as_deref().is_some_and(lost);
        self.keep_alive = match uses.keep_alive && !calm && rng.chance(600) {
            true => rng.range(1, 4) as u16,
            false => 0,
        };
        let mut list = Vec::new();
        self.connected_expiry = match (calm, uses.sessions) {
            (true, _) => 1000,
            (_, true) => *rng.pick(&[0, 1, 3, 10, 1000, u32::MAX]),
            (_, false) => 0,
        };
        if five {
            list.push(Property::SessionExpiryInterval(self.connected_expiry));
        }
        // The machine says so itself.
        if five && self.ours.is_none() {
            limits(rng, uses, calm, &mut list);
        }
        let payload = payload(rng, key, 0);
        let user = uses.properties.then(|| format!("w{key}"));
        let mut of_will = Vec::new();
        if five {
            let delay = uses.will_delay && rng.chance(700);
            of_will.extend(delay.then(|| Property::WillDelayInterval(rng.below(6) as u32)));
            let expiry = uses.expiry && rng.chance(400);
            of_will.extend(expiry.then(|| Property::MessageExpiryInterval(rng.below(5) as u32)));
            of_will.extend(user.as_deref().map(|user| Property::UserProperty("n", user)));
        }
        let will = Will {
            qos: qos(rng, plan),
            retain: uses.retain && plan.config.retain_available && rng.chance(400),
            topic: topic(rng, plan),
            payload: &payload,
            properties: Properties::list(&of_will),
        };
        let will = (uses.wills && !calm && rng.chance(600)).then_some(will);
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: clean,
            keep_alive: self.keep_alive,
            client_id: &self.id,
            will,
            username: None,
            password: None,
            properties: Properties::list(&list),
        };
        match &mut self.ours {
            Some(ours) => ours.connect(now, &connect),
            None => bytes(self.version, &Packet::Connect(connect)),
        }
    }

    /// Of another version perhaps; nothing of the connection before is left.
    fn begin(&mut self, rng: &mut Rng, plan: &Plan) {
        self.stage = Stage::Waiting;
        self.inbox.clear();
        self.acks.clear();
        self.aliases.clear();
        let uses = &plan.uses;
        // Copies that differ in their properties only look alike before 5.0.
        let family = |version: Version| (version == Version::V5) == (self.version == Version::V5);
        let version = *rng.pick(&plan.versions);
        let any = !(uses.identifiers || uses.properties || uses.expiry) && self.ours.is_none();
        if (any || family(version)) && !(self.ours.is_some() && version == Version::V31) {
            self.version = version;
        }
    }

    /// Room for another message of QoS 1 or 2.
    fn has_room(&self) -> bool {
        let most = match self.version {
            Version::V5 => self.receive_maximum.min(20),
            _ => 20,
        };
        self.flights.len() < usize::from(most)
    }

    fn take_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.wrapping_add(1).max(1);
            if self.flights.iter().all(|flight| flight.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    pub(super) fn publish(
        &mut self,
        rng: &mut Rng,
        plan: &Plan,
        now: Instant,
        key: u64,
    ) -> Vec<u8> {
        self.publish_to(rng, plan, now, key, None)
    }

    /// To this topic, or to any.
    pub(super) fn publish_to(
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

    fn encode(
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

    pub(super) fn subscribe(&mut self, rng: &mut Rng, plan: &Plan, now: Instant) -> Vec<u8> {
        let five = self.version == Version::V5;
        let uses = &plan.uses;
        let mut filters = Vec::new();
        // The first of several may take the last room.
        let most = if plan.tight { 1 } else { 3 };
        for _ in 0..rng.range(1, most) {
            let filter = *rng.pick(&plan.filters);
            let handling = rng.pick(&[
                RetainHandling::Send,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]);
            let options = SubscriptionOptions {
                qos: Qos::from_bits(rng.below(3) as u8).unwrap_or_default(),
                no_local: five && uses.no_local && rng.chance(400) && !filter.starts_with("$share"),
                retain_as_published: five && rng.chance(400),
                retain_handling: if five { *handling } else { RetainHandling::Send },
            };
            filters.push((filter, options));
        }
        let identifier = rng.range(1, 300) as u32;
        let list = [Property::SubscriptionIdentifier(identifier)];
        let with = five && uses.identifiers && rng.chance(600);
        let properties = if with { Properties::list(&list) } else { Properties::EMPTY };
        self.send_subscribe(now, &filters, properties)
    }

    fn send_subscribe(
        &mut self,
        now: Instant,
        filters: &[(&str, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Vec<u8> {
        if let Some(ours) = &mut self.ours {
            return ours.subscribe(now, filters, properties);
        }
        let packet_id = PacketId::new(self.take_id()).unwrap_or(PacketId::MIN);
        let filters = Filters::list(filters);
        bytes(self.version, &Packet::Subscribe(Subscribe { packet_id, properties, filters }))
    }

    /// For all retained messages that match.
    pub(super) fn subscribe_all(&mut self, now: Instant, filter: &str) -> Vec<u8> {
        let options =
            SubscriptionOptions { qos: Qos::ExactlyOnce, ..SubscriptionOptions::default() };
        self.send_subscribe(now, &[(filter, options)], Properties::EMPTY)
    }

    pub(super) fn unsubscribe(&mut self, rng: &mut Rng, plan: &Plan, now: Instant) -> Vec<u8> {
        let filters = [*rng.pick(&plan.filters), *rng.pick(&plan.filters)];
        let filters = &filters[..rng.range(1, 2) as usize];
        if let Some(ours) = &mut self.ours {
            return ours.unsubscribe(now, filters);
        }
        let filters = TopicFilters::list(filters);
        let packet_id = PacketId::new(self.take_id()).unwrap_or(PacketId::MIN);
        let properties = Properties::EMPTY;
        bytes(self.version, &Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }))
    }

    pub(super) fn disconnect(&mut self, rng: &mut Rng, now: Instant) -> Vec<u8> {
        let list = [Property::SessionExpiryInterval(rng.below(4) as u32)];
        let changes = self.connected_expiry > 0 && rng.chance(400);
        let five = self.version == Version::V5;
        let disconnect = Disconnect {
            reason: match five && rng.chance(400) {
                true => ReasonCode::DisconnectWithWill,
                false => ReasonCode::Success,
            },
            properties: if five && changes { Properties::list(&list) } else { Properties::EMPTY },
        };
        match &mut self.ours {
            Some(ours) => ours.disconnect(now, &disconnect),
            None => bytes(self.version, &Packet::Disconnect(disconnect)),
        }
    }

    /// Has its machine do what is due. Answers what is to be sent.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<u8> {
        self.ours.as_mut().map_or_else(Vec::new, |ours| ours.tick(now))
    }

    /// The next acknowledgement that it owes.
    pub(super) fn acknowledge(&mut self, now: Instant) -> Option<Vec<u8>> {
        match &mut self.ours {
            Some(ours) => ours.owes().then(|| ours.acknowledge(now)),
            None => self.acks.pop_front(),
        }
    }

    /// What it waits for, at rest.
    pub(super) fn waits(&self) -> Option<String> {
        match &self.ours {
            Some(ours) => ours.waits(),
            None => (!self.flights.is_empty()).then(|| format!("{:?}", self.flights)),
        }
    }

    /// It was accepted, as the one with this number: what it knew of a session before is void.
    /// True if there was one that is lost.
    pub(super) fn join(&mut self, accepted: u64) -> bool {
        self.stage = Stage::On;
        let before = self.reborn.len();
        self.reborn.retain(|other| *other > accepted);
        self.reborn.len() < before
    }

    /// Sends again what a new connection owes. `[MQTT-4.4.0-1]` With one shard more than the
    /// Receive Maximum where it was more before: that ends the connection, which the oracle checks.
    /// Of several it does not know when they count what.
    fn resume(&mut self, rng: &mut Rng, plan: &Plan) -> Vec<Vec<u8>> {
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
    fn go_on(&mut self, rng: &mut Rng, plan: &Plan) -> Vec<Vec<u8>> {
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

    /// Something a client must not do, or need not. Of several shards nothing of which it hangs on
    /// the moment whether it is wrong: acknowledgements of what may be sent meanwhile, and messages
    /// beyond the Receive Maximum, or that may be, as long as others are not answered.
    pub(super) fn misbehave(&mut self, rng: &mut Rng, plan: &Plan, key: u64) -> Vec<u8> {
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

    /// Bytes came: handles the packets that are whole. `send` takes what is to be sent at once.
    /// `accepted`: the number of its acceptance.
    pub(super) fn read(
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

/// What a CONNECT asks of the broker.
fn limits(rng: &mut Rng, uses: &Uses, calm: bool, list: &mut Vec<Property<'_>>) {
    if uses.small_windows && rng.chance(500) {
        list.push(Property::ReceiveMaximum(rng.range(1, 5) as u16));
    }
    if uses.aliases {
        list.push(Property::TopicAliasMaximum(rng.below(5) as u16));
    }
    if uses.small_packets && !calm && rng.chance(600) {
        list.push(Property::MaximumPacketSize(rng.range(60, 140) as u32));
    }
}

fn topic(rng: &mut Rng, plan: &Plan) -> &'static str {
    plan.topics[rng.index(plan.topics.len())]
}

fn rng_dup(key: u64) -> bool {
    !key.is_multiple_of(3)
}

fn qos(rng: &mut Rng, plan: &Plan) -> Qos {
    Qos::from_bits(rng.below(3) as u8).unwrap_or_default().min(plan.config.max_qos)
}

/// The number, and so many bytes more.
fn payload(rng: &mut Rng, key: u64, more: u64) -> Vec<u8> {
    let mut payload = key.to_be_bytes().to_vec();
    payload.resize(8 + more as usize, rng.below(256) as u8);
    payload
}
