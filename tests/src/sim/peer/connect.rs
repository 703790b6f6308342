//! CONNECT and DISCONNECT.

use fulmar_core::codec::{Connect, Disconnect, Packet, Properties, Property, ReasonCode, Will};
use fulmar_core::{Instant, Version};

use super::super::ours::Ours;
use super::super::plan::{Plan, Uses};
use super::super::rng::Rng;
use super::publish::{payload, qos, topic};
use super::{Peer, Stage, bytes};

impl Peer {
    /// A CONNECT for a new connection. `calm`: to stay, and without anything special.
    pub(in super::super) fn connect(
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
            // Until it is let in: one that finds no room has not begun anew.
            true => self.ashamed,
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

    pub(in super::super) fn disconnect(&mut self, rng: &mut Rng, now: Instant) -> Vec<u8> {
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
