//! Packets of clients: what they entitle to, what the broker owes for them, and which of them must
//! end the connection. Messages and acknowledgements are in [`super::exchanges`].

use fulmar_core::broker::ConnId;
use fulmar_core::codec::{
    Connect, Disconnect, Packet, Properties, Property, PropertyId, ReasonCode, Subscribe,
    Unsubscribe, decode, header, split,
};
use fulmar_core::topic::{TopicFilter, split_share};
use fulmar_core::{Qos, Version};

use super::unread::Unread;
use super::{Answer, Asked, Oracle, Phase, Subscription, Testament, Wire, sends_retained};

/// Why a connection must end, as the name of the rule.
pub(super) type Rule = &'static str;

impl Oracle {
    /// A connection was opened, on this shard.
    pub(in super::super) fn opened(
        &mut self,
        conn: ConnId,
        address: Option<std::net::IpAddr>,
        shard: usize,
    ) {
        self.counts.opened += 1;
        let wire = Wire {
            version: Version::V311,
            phase: Phase::Fresh,
            address,
            shard,
            unauthenticated: true,
            heard: self.now,
            suspended: false,
            keep_alive: 0,
            asked: None,
            decided: false,
            client: None,
            present: None,
            input: Vec::new(),
            unread: std::collections::VecDeque::new(),
            early: Vec::new(),
            output: Vec::new(),
            answers: std::collections::VecDeque::new(),
            aliases_in: std::collections::BTreeMap::new(),
            aliases_out: std::collections::BTreeMap::new(),
            must_end: None,
            left: false,
            connack: false,
            silent: false,
            refused: false,
            gone: false,
            farewell: None,
        };
        if self.wires.insert(conn, wire).is_some() {
            self.fail("connections", format!("{conn:?} was given twice"));
        }
    }

    /// How many of these bytes to hand over in one call, so that it is known what each packet
    /// meets: packets that may be refused for want of room come alone.
    pub(in super::super) fn cut(&self, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(wire) = self.wires.get(&conn) else { return bytes.len() };
        let mut all = wire.input.clone();
        let known = all.len();
        all.extend_from_slice(bytes);
        let mut at = 0;
        while let Ok(Some(header)) = header(&all[at..]) {
            let end = at + header.total() as usize;
            if end > all.len() {
                break;
            }
            if matches!(header.first >> 4, 1 | 3 | 8) {
                let end = if at > known { at } else { end };
                return end.saturating_sub(known).max(1);
            }
            at = end;
        }
        bytes.len()
    }

    /// These bytes were handed over.
    pub(in super::super) fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        self.counts.bytes_in += bytes.len() as u64;
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        if wire.phase == Phase::Open && !bytes.is_empty() {
            wire.heard = now;
        }
        if matches!(wire.phase, Phase::Fresh | Phase::Deciding) {
            wire.early.extend_from_slice(bytes);
        }
        wire.input.extend_from_slice(bytes);
        self.parse(conn);
    }

    /// A connection that was handed over brought this to its shard, which reads it again.
    pub(in super::super) fn brought(&mut self, conn: ConnId, bytes: &[u8]) {
        self.counts.bytes_in += bytes.len() as u64;
        self.counts.packets_in[1] += 1;
        let whole = self.wires.get(&conn).is_some_and(|wire| wire.early == bytes);
        self.ensure(whole, "connections", || format!("{conn:?} brought other bytes than came"));
    }

    /// Goes through the packets that are whole.
    pub(super) fn parse(&mut self, conn: ConnId) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        let input = std::mem::take(&mut wire.input);
        let mut at = 0;
        loop {
            let Some(wire) = self.wires.get_mut(&conn) else { return };
            if wire.phase == Phase::Over || wire.must_end.is_some() || at == input.len() {
                break;
            }
            if wire.phase == Phase::Deciding {
                break;
            }
            let fresh = wire.phase == Phase::Fresh;
            let kind = input[at] >> 4;
            if kind == 0 || fresh && kind != 1 {
                wire.must_end = Some("first byte");
                break;
            }
            let limit =
                if fresh { self.config.max_connect_size } else { self.config.max_packet_size };
            let version = wire.version;
            match split(&input[at..], limit) {
                Err(_) => wire.must_end = Some("framing"),
                Ok(None) => break,
                Ok(Some((frame, used))) => {
                    at += used;
                    let version =
                        if fresh { frame.body.get(6).map_or(version, of_level) } else { version };
                    match decode(version, frame) {
                        Ok(packet) => self.packet(conn, &packet),
                        Err(error) => wire.must_end = Some(error.rule),
                    }
                }
            }
        }
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.input = input[at..].to_vec();
        }
    }

    fn packet(&mut self, conn: ConnId, packet: &Packet<'_>) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        let kind = packet.packet_type();
        let before = self.counts.packets_in[usize::from(kind)];
        self.counts.packets_in[usize::from(kind)] += 1;
        if wire.phase == Phase::Fresh {
            let Packet::Connect(connect) = packet else { return };
            wire.version = connect.version;
            wire.phase = Phase::Deciding;
            wire.asked = Some(asked(connect));
            return;
        }
        let result = match packet {
            Packet::Publish(publish) => self.publish_in(conn, publish),
            Packet::Puback(ack) => self.puback_in(conn, ack),
            Packet::Pubrec(ack) => self.pubrec_in(conn, ack),
            Packet::Pubrel(ack) => self.pubrel_in(conn, ack),
            Packet::Pubcomp(ack) => self.pubcomp_in(conn, ack),
            Packet::Subscribe(subscribe) => self.subscribe_in(conn, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe_in(conn, unsubscribe),
            Packet::Pingreq => {
                self.owe(conn, 13, 0, &[]);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.disconnect_in(conn, disconnect),
            _ => {
                // Counted only where the packet is one that a client may send.
                self.counts.packets_in[usize::from(kind)] -= 1;
                Err("not for a server")
            }
        };
        if self.counts.packets_in[usize::from(kind)] > before {
            let (id, qos, payload) = match packet {
                Packet::Publish(publish) => {
                    let id = publish.packet_id.map_or(0, |id| id.get());
                    (id, Some(publish.qos), publish.payload.len())
                }
                Packet::Subscribe(subscribe) => (subscribe.packet_id.get(), None, 0),
                Packet::Unsubscribe(unsubscribe) => (unsubscribe.packet_id.get(), None, 0),
                _ => (0, None, 0),
            };
            self.waits_perhaps(conn, Unread { kind, id, qos, payload });
        }
        if let (Err(rule), Some(wire)) = (result, self.wires.get_mut(&conn)) {
            wire.must_end = Some(rule);
        }
    }

    /// The broker has to send this packet.
    pub(super) fn owe(&mut self, conn: ConnId, kind: u8, id: u16, reasons: &[u8]) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.answers.push_back(Answer { kind, id, reasons: reasons.to_vec(), sure: false });
    }

    /// The same, and says nothing else.
    pub(super) fn owe_surely(&mut self, conn: ConnId, kind: u8, id: u16) {
        self.owe(conn, kind, id, &[0]);
        let last = self.wires.get_mut(&conn).and_then(|wire| wire.answers.back_mut());
        last.into_iter().for_each(|answer| answer.sure = true);
    }

    fn subscribe_in(&mut self, conn: ConnId, subscribe: &Subscribe<'_>) -> Result<(), Rule> {
        let Some(version) = self.wires.get(&conn).map(|wire| wire.version) else { return Ok(()) };
        let levels = self.config.max_topic_levels;
        let inner = |filter: &str| {
            let shared = split_share(filter).map_err(|_| ())?.map(|(_, inner)| inner.to_string());
            TopicFilter::new(shared.as_deref().unwrap_or(filter), levels).map_err(|_| ())?;
            Ok::<_, ()>(shared)
        };
        for (filter, options) in subscribe.filters.iter() {
            match inner(filter) {
                Err(()) if version < Version::V5 => return Err("topic filter"),
                Ok(Some(_)) if options.no_local => return Err("No Local on a shared filter"),
                _ => {}
            }
        }
        let identifier = match subscribe.properties.find(PropertyId::SubscriptionIdentifier) {
            Some(Property::SubscriptionIdentifier(id)) => id,
            _ => 0,
        };
        let (full, most) = (self.full, self.config.max_subscriptions as usize);
        let max_qos = self.config.max_qos;
        let many = self.many;
        let (mut reasons, mut valid) = (Vec::new(), Vec::new());
        for (filter, options) in subscribe.filters.iter() {
            let Some((client, session)) = self.session_of(conn) else { return Ok(()) };
            let client = client.clone();
            let qos = options.qos.min(max_qos);
            let exists = session.subscriptions.contains_key(filter);
            let reason = match inner(filter) {
                Err(()) => ReasonCode::TopicFilterInvalid as u8,
                // Of several shards whether there is room is seen by the answer.
                Ok(_) if !many && !exists && (full || session.subscriptions.len() >= most) => {
                    ReasonCode::QuotaExceeded as u8
                }
                Ok(shared) => {
                    let subscription = Subscription {
                        qos,
                        no_local: options.no_local,
                        as_published: options.retain_as_published,
                        identifier,
                    };
                    session.subscriptions.insert(filter.to_string(), subscription.clone());
                    if many {
                        valid.push((filter.to_string(), options.qos));
                        let packet = (conn, subscribe.packet_id.get());
                        self.wish(packet, filter, subscription, options.retain_handling);
                    }
                    if shared.is_none() && sends_retained(options.retain_handling, exists) {
                        self.owe_retained(&client, filter);
                    }
                    qos as u8
                }
            };
            // 3.1 has no code for a failure.
            let said =
                if version == Version::V31 && reason >= 0x80 { options.qos as u8 } else { reason };
            reasons.push(if version == Version::V311 && said >= 0x80 { 0x80 } else { said });
        }
        let id = subscribe.packet_id.get();
        if many {
            self.request(conn, (9, id), valid);
        }
        self.owe(conn, 9, id, &reasons);
        Ok(())
    }

    fn unsubscribe_in(&mut self, conn: ConnId, packet: &Unsubscribe<'_>) -> Result<(), Rule> {
        let Some(version) = self.wires.get(&conn).map(|wire| wire.version) else { return Ok(()) };
        let levels = self.config.max_topic_levels;
        let (mut reasons, mut all) = (Vec::new(), Vec::new());
        for filter in packet.filters.iter() {
            let Some((client, session)) = self.session_of(conn) else { return Ok(()) };
            let client = client.clone();
            let valid = split_share(filter).is_ok_and(|shared| {
                TopicFilter::new(shared.map_or(filter, |(_, inner)| inner), levels).is_ok()
            });
            if !valid && version < Version::V5 {
                return Err("topic filter");
            }
            let removed = session.subscriptions.remove(filter).is_some();
            session.excuse_retained(filter);
            if self.many && valid {
                all.push((filter.to_string(), Qos::AtMostOnce));
            }
            if self.many {
                self.unsubscribed(conn, packet.packet_id.get(), &client, filter);
            }
            reasons.push(match (valid, removed) {
                (false, _) => ReasonCode::TopicFilterInvalid as u8,
                (_, true) => ReasonCode::Success as u8,
                (_, false) => ReasonCode::NoSubscriptionExisted as u8,
            });
        }
        if version < Version::V5 {
            reasons.clear();
        }
        if self.many {
            self.request(conn, (11, packet.packet_id.get()), all);
        }
        self.owe(conn, 11, packet.packet_id.get(), &reasons);
        Ok(())
    }

    fn disconnect_in(&mut self, conn: ConnId, packet: &Disconnect<'_>) -> Result<(), Rule> {
        let max = self.config.max_session_expiry;
        let Some(wire) = self.wires.get_mut(&conn) else { return Ok(()) };
        let version = wire.version;
        let asked = wire.asked.as_ref().map_or(0, |asked| asked.expiry);
        let expiry = match packet.properties.find(PropertyId::SessionExpiryInterval) {
            Some(Property::SessionExpiryInterval(secs)) => Some(secs),
            _ => None,
        };
        if !packet.reason.sent_by_client() || asked == 0 && expiry.is_some_and(|secs| secs > 0) {
            self.counts.packets_in[14] -= 1;
            return Err("DISCONNECT not allowed");
        }
        wire.left = true;
        wire.phase = Phase::Over;
        if self.many {
            let no_will = packet.reason == ReasonCode::Success || version < Version::V5;
            wire.farewell = Some((expiry.map(|secs| secs.min(max)), no_will));
            return Ok(());
        }
        let Some((_, session)) = self.session_of(conn) else { return Ok(()) };
        if let Some(secs) = expiry {
            session.expiry = secs.min(max);
        }
        if packet.reason == ReasonCode::Success || version < Version::V5 {
            session.will = None;
        }
        Ok(())
    }
}

fn of_level(level: &u8) -> Version {
    match level {
        5 => Version::V5,
        _ => Version::V311,
    }
}

fn asked(connect: &Connect<'_>) -> Asked {
    let mut asked = Asked {
        client_id: connect.client_id.to_string(),
        clean: connect.clean_start,
        keep_alive: connect.keep_alive,
        expiry: match connect.version {
            Version::V5 => 0,
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        },
        receive_maximum: u16::MAX,
        max_packet: u32::MAX,
        max_alias: 0,
        will: None,
    };
    for property in connect.properties.iter() {
        match property {
            Property::SessionExpiryInterval(secs) => asked.expiry = secs,
            Property::ReceiveMaximum(max) => asked.receive_maximum = max,
            Property::MaximumPacketSize(max) => asked.max_packet = max,
            Property::TopicAliasMaximum(max) => asked.max_alias = max,
            _ => {}
        }
    }
    asked.will = connect.will.as_ref().map(|will| {
        let delay = match will.properties.find(PropertyId::WillDelayInterval) {
            Some(Property::WillDelayInterval(secs)) => secs,
            _ => 0,
        };
        let (expiry, user) = common(will.properties);
        Testament {
            topic: will.topic.to_string(),
            payload: will.payload.to_vec(),
            qos: will.qos,
            retain: will.retain,
            delay,
            expiry,
            user,
        }
    });
    asked
}

/// Message Expiry Interval and the value of the User Property.
pub(super) fn common(properties: Properties<'_>) -> (Option<u32>, Option<String>) {
    let (mut expiry, mut user) = (None, None);
    for property in properties.iter() {
        match property {
            Property::MessageExpiryInterval(secs) => expiry = Some(secs),
            Property::UserProperty(_, value) => user = Some(value.to_string()),
            _ => {}
        }
    }
    (expiry, user)
}
