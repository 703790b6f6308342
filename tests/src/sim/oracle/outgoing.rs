//! Packets of the broker: whether each may be sent, and whether it says the truth.

use fulmar_core::broker::ConnId;
use fulmar_core::codec::{Ack, Connack, Packet, Property, PropertyId, Publish, decode, split};
use fulmar_core::{Instant, Qos, Version};

use super::incoming::common;
use super::publications::seconds;
use super::{Answer, Cause, Due, Flying, Moment, Oracle, Phase, Session};

impl Oracle {
    /// The broker gave these bytes for a connection.
    pub(in super::super) fn sent(&mut self, conn: ConnId, bytes: &[u8]) {
        self.counts.bytes_out += bytes.len() as u64;
        let Some(wire) = self.wires.get_mut(&conn) else {
            self.ensure(bytes.is_empty(), "connections", || "bytes for none".to_string());
            return;
        };
        wire.output.extend_from_slice(bytes);
        let output = std::mem::take(&mut wire.output);
        let (version, silent) = (wire.version, wire.silent);
        let max = wire.asked.as_ref().map_or(u32::MAX, |asked| asked.max_packet);
        if silent && !output.is_empty() {
            self.fail("last word", "bytes after DISCONNECT or a refusal");
        }
        let mut at = 0;
        while at < output.len() && self.found.is_none() {
            match split(&output[at..], max) {
                Err(error) => self.fail("packet size", format!("{error}, at most {max}")),
                Ok(None) => break,
                Ok(Some((frame, used))) => {
                    at += used;
                    match decode(version, frame) {
                        Ok(packet) => self.packet_out(conn, &packet),
                        Err(error) => self.fail("wire", format!("{error}: {frame:?}")),
                    }
                }
            }
        }
        // The broker gives whole packets only.
        self.ensure(at == output.len(), "wire", || "a part of a packet".to_string());
    }

    fn packet_out(&mut self, conn: ConnId, packet: &Packet<'_>) {
        self.counts.packets_out[usize::from(packet.packet_type())] += 1;
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        let (version, connack) = (wire.version, wire.connack);
        if wire.silent {
            self.fail("last word", format!("{packet:?} after it"));
            return;
        }
        // [MQTT-3.2.0-1] [MQTT-3.2.0-2]
        if connack == matches!(packet, Packet::Connack(_)) {
            self.fail("wire", format!("{packet:?} out of place"));
            return;
        }
        match packet {
            Packet::Connack(connack) => self.connack_out(conn, connack),
            Packet::Publish(publish) => self.publish_out(conn, publish),
            Packet::Pubrel(ack) => self.pubrel_out(conn, ack),
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack) => {
                self.answered(conn, packet, ack.packet_id.get(), &[ack.reason as u8]);
            }
            Packet::Suback(suback) => {
                let reasons: Vec<u8> = suback.reasons.iter().map(|reason| reason as u8).collect();
                self.answered(conn, packet, suback.packet_id.get(), &reasons);
            }
            Packet::Unsuback(unsuback) => {
                let reasons: Vec<u8> = unsuback.reasons.iter().map(|r| r as u8).collect();
                self.answered(conn, packet, unsuback.packet_id.get(), &reasons);
            }
            Packet::Pingresp => self.answered(conn, packet, 0, &[]),
            Packet::Disconnect(_) => {
                wire.silent = true;
                let over = wire.phase == Phase::Over && version == Version::V5;
                self.ensure(over, "wire", || "DISCONNECT without an end".to_string());
            }
            _ => self.fail("wire", format!("{packet:?} from a server")),
        }
    }

    fn connack_out(&mut self, conn: ConnId, connack: &Connack<'_>) {
        let config = &self.config;
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.connack = true;
        let accepted = wire.present.is_some();
        if connack.reason.is_error() {
            wire.silent = true;
            self.ensure(!accepted, "session present", || "refused what was accepted".to_string());
            return;
        }
        let present = wire.present.unwrap_or(false) && wire.version > Version::V31;
        let mut wrong = None;
        if !accepted || connack.session_present != present {
            wrong = Some(format!("{conn:?}: {connack:?}, but it is {:?}", wire.present));
        }
        if wire.version == Version::V5 {
            let asked = wire.asked.as_ref().map_or(0, |asked| asked.keep_alive);
            let told = match connack.properties.find(PropertyId::ServerKeepAlive) {
                Some(Property::ServerKeepAlive(secs)) => secs,
                _ => asked,
            };
            let maximum = match connack.properties.find(PropertyId::ReceiveMaximum) {
                Some(Property::ReceiveMaximum(max)) => max,
                _ => u16::MAX,
            };
            let aliases = match connack.properties.find(PropertyId::TopicAliasMaximum) {
                Some(Property::TopicAliasMaximum(max)) => max,
                _ => 0,
            };
            if told != wire.keep_alive
                || maximum != config.receive_maximum
                || aliases != config.max_topic_alias
            {
                wrong = wrong.or(Some(format!("{connack:?} tells other limits")));
            }
        }
        if let Some(what) = wrong {
            self.fail("session present", what);
        }
    }

    /// Answers come in the order of the packets they are for. `[MQTT-4.6.0-2]`
    fn answered(&mut self, conn: ConnId, packet: &Packet<'_>, id: u16, reasons: &[u8]) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        let kind = packet.packet_type();
        let owed = match self.many {
            // PUBACK, PUBREC, the answers of subscriptions and PINGRESP wait for different things.
            true => {
                let same = |owed: &Answer| owed.kind == kind || owed.kind | kind == 11;
                let at = wire.answers.iter().position(same);
                at.and_then(|at| wire.answers.remove(at))
            }
            false => wire.answers.pop_front(),
        };
        let five = wire.version == Version::V5;
        let acknowledges = packet.packet_type() < 8;
        // Of several shards: whether a message was taken, where that is known.
        let taken = |owed: &Answer| {
            let (error, due) = (reasons.first(), owed.reasons.first());
            error.map(|code| *code < 0x80) == due.map(|code| *code < 0x80)
        };
        let unknown = !five || kind > 5 || self.may_refuse(conn, kind, id);
        let about = owed.as_ref().filter(|owed| owed.kind == kind && (kind == 9 || kind == 11));
        let fates = match about.filter(|_| self.many) {
            Some(owed) => self.settle_request(conn, owed, reasons),
            None => Some(Vec::new()),
        };
        let sayable = !self.many || !five || self.may_say(conn, (kind, id), reasons);
        let right = sayable
            && owed.as_ref().is_some_and(|owed: &Answer| {
                let same = five || packet.packet_type() == 9;
                owed.kind == packet.packet_type()
                    && owed.id == id
                    && fates.is_some()
                    && (owed.reasons == reasons
                        || self.many && !owed.sure && (unknown || taken(owed))
                        || acknowledges && !same
                        || owed.kind == 13)
            });
        self.ensure(right, "answers", || format!("{packet:?}, but {owed:?} was due"));
        if self.many {
            self.wires.get_mut(&conn).into_iter().for_each(|wire| wire.has_read(kind, id));
            self.settle_answer(conn, (kind, id), reasons, &fates.unwrap_or_default());
        }
    }

    /// Of several shards: whether it is not known if a message may be refused. Identifiers of
    /// QoS 2 may have gone down unread; and memory may be used up.
    fn may_refuse(&self, conn: ConnId, kind: u8, id: u16) -> bool {
        let client = self.wires.get(&conn).and_then(|wire| wire.client.as_ref());
        let session = client.and_then(|client| self.sessions.get(client));
        let held = session.and_then(|session| session.held.get(&id));
        let qos = if kind == 4 { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
        self.may_lack_memory(conn, qos, id) || kind == 5 && held.is_none_or(|held| !held.sure)
    }

    fn pubrel_out(&mut self, conn: ConnId, ack: &Ack<'_>) {
        let id = ack.packet_id.get();
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        let first = match self.many {
            true => wire.answers.iter().find(|owed| owed.kind == 6),
            false => wire.answers.front(),
        };
        if first.is_some_and(|owed| owed.kind == 6 && owed.id == id) {
            self.answered(conn, &Packet::Pubrel(*ack), id, &[ack.reason as u8]);
            return;
        }
        // Or it answers an acknowledgement that went down unread.
        let many = self.many;
        let Some((_, session)) = self.session_of(conn) else { return };
        let again = session.flying.iter_mut().find(|f| f.id == id && f.released && !f.here);
        match again {
            Some(flying) => (flying.here, flying.doubt) = (true, false),
            None if many => {}
            None => self.fail("answers", format!("PUBREL {id} for nothing")),
        }
    }

    fn publish_out(&mut self, conn: ConnId, publish: &Publish<'_>) {
        self.counts.messages_out[publish.qos as usize] += 1;
        let Some(topic) = self.topic_out(conn, publish) else { return };
        let Some((client, _)) = self.session_of(conn) else {
            self.fail("wire", format!("PUBLISH on {conn:?}, which has no session"));
            return;
        };
        let client = client.clone();
        if let Some(id) = publish.packet_id.map(|id| id.get()) {
            let many = self.many;
            let Some(session) = self.sessions.get_mut(&client) else { return };
            if many && publish.dup {
                session.unread(id);
            } else if many {
                // All that is sent again has been.
                session.give_up(|f| f.id == id || !f.released);
            }
            if let Some(at) = session.flying.iter().position(|f| f.id == id) {
                self.repeat_out(conn, &client, at, &topic, publish);
                return;
            }
            let waits = session.flying.iter().any(|f| !f.here && !f.released);
            self.ensure(!waits, "resend", || format!("{client}: a new message before a repeat"));
        }
        if publish.dup {
            self.fail("dup", format!("{client}: DUP on {publish:?}"));
        }
        let version = self.wires.get(&conn).map_or(Version::V311, |wire| wire.version);
        let due = match self.many {
            true => self.take_copy(&client, version, &topic, publish),
            false => self.take_due(&client, &topic, publish),
        };
        let Some(due) = due else { return };
        if !self.many {
            self.check_order(&client, &due);
        }
        let (sent, key) = (self.moment(), due.note.key);
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.delivered[publish.qos as usize] += 1;
        let id = publish.packet_id.map_or(0, |id| id.get());
        let (released, here, published_here, doubt) = (false, true, true, false);
        let flying = Flying { id, due, sent, released, here, published_here, doubt };
        if publish.qos == Qos::AtMostOnce {
            if !self.many {
                session.late.push(flying);
            }
            return;
        }
        session.flying.push(flying);
        *session.sent.entry((publish.qos, key)).or_default() += 1;
        *self.total.entry((client.clone(), publish.qos, key)).or_default() += 1;
        self.check_window(conn, &client);
    }

    /// The topic, with aliases resolved. `[MQTT-3.1.2-26]`
    fn topic_out(&mut self, conn: ConnId, publish: &Publish<'_>) -> Option<String> {
        let wire = self.wires.get_mut(&conn)?;
        let max = wire.asked.as_ref().map_or(0, |asked| asked.max_alias);
        let max = max.min(self.config.max_topic_alias_out);
        let Some(Property::TopicAlias(alias)) = publish.properties.find(PropertyId::TopicAlias)
        else {
            return Some(publish.topic.to_string());
        };
        if alias > max {
            self.fail("alias", format!("alias {alias}, at most {max}"));
            return None;
        }
        if !publish.topic.is_empty() {
            wire.aliases_out.insert(alias, publish.topic.to_string());
        }
        let topic = wire.aliases_out.get(&alias).cloned();
        if topic.is_none() {
            self.fail("alias", format!("alias {alias} was not set on {conn:?}"));
        }
        topic
    }

    /// [MQTT-4.4.0-1] [MQTT-3.3.1-1]
    fn repeat_out(
        &mut self,
        conn: ConnId,
        client: &str,
        at: usize,
        topic: &str,
        publish: &Publish<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        let first = session.flying.iter().position(|f| !f.here && !f.released);
        let flying = &mut session.flying[at];
        if flying.here || flying.released {
            let what = format!("{client}: identifier {} is in use", flying.id);
            self.fail("identifiers", what);
            return;
        }
        (flying.here, flying.published_here, flying.doubt) = (true, true, false);
        let wire = self.wires.get(&conn);
        let five = wire.is_some_and(|wire| wire.version == Version::V5);
        let view = View { five, now: self.now, lax: self.many };
        self.ensure(publish.dup, "dup", || format!("{client}: no DUP on a repeat"));
        let first = first == Some(at) || self.many;
        self.ensure(first, "resend", || format!("{client}: repeats out of order"));
        let another = self.differs_from_first(client, at, view, topic, publish);
        self.ensure(another.is_none(), "resend", || format!("{client}: another {another:?}"));
        self.check_window(conn, client);
    }

    /// In what a repeat is another than what was sent before. Of a message that its publisher sent
    /// twice two copies may have looked alike then, and do not now, as their expiry comes nearer:
    /// then they change places.
    fn differs_from_first(
        &mut self,
        client: &str,
        at: usize,
        view: View,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Option<&'static str> {
        let session = self.sessions.get_mut(client)?;
        let (sent, due) = (session.flying[at].sent, session.flying[at].due.clone());
        let difference = due.differs(view, topic, publish)?;
        let may_be = |sent: Moment, due: &Due| view.lax || sent.may_be_of(&due.note);
        let fits =
            |other: &Due| may_be(sent, other) && other.differs(view, topic, publish).is_none();
        let twin = |flying: &Flying| fits(&flying.due) && may_be(flying.sent, &due);
        if let Some(twin) = session.flying.iter().position(twin) {
            session.flying[at].due = std::mem::replace(&mut session.flying[twin].due, due);
            return None;
        }
        if let Some(twin) = session.due.iter_mut().find(|due| fits(due)) {
            std::mem::swap(twin, &mut session.flying[at].due);
            return None;
        }
        // Or it came by way of a group.
        let due = self.give(client, view.five, sent, &fits);
        let Some(due) = due else { return Some(difference) };
        let session = self.sessions.get_mut(client)?;
        let had = std::mem::replace(&mut session.flying[at].due, due);
        self.give_back(client, had);
        None
    }

    fn check_window(&mut self, conn: ConnId, client: &str) {
        let Some(session) = self.sessions.get(client) else { return };
        let Some(wire) = self.wires.get(&conn) else { return };
        let here = session.flying.iter().filter(|f| f.published_here).count();
        let all = session.flying.iter().filter(|f| !f.doubt).count();
        let theirs = wire.asked.as_ref().map_or(u16::MAX, |asked| asked.receive_maximum);
        let ours = usize::from(self.config.max_inflight);
        let legal = here <= usize::from(theirs) && here <= ours && all <= ours;
        self.ensure(legal, "window", || format!("{client}: {here} of {theirs}, {all} of {ours}"));
    }

    /// Takes the copy that this PUBLISH is off the books. `[MQTT-3.3.2-5]`
    fn take_due(&mut self, client: &str, topic: &str, publish: &Publish<'_>) -> Option<Due> {
        let session = self.sessions.get_mut(client)?;
        let wire = session.conn.and_then(|conn| self.wires.get(&conn))?;
        let view = View { five: wire.version == Version::V5, now: self.now, lax: false };
        // One of two that look alike may have expired.
        let fits = |due: &Due| {
            !due.note.is_expired(view.now) && due.differs(view, topic, publish).is_none()
        };
        // Of one that was published twice the first may be lost.
        let next = |due: &Due| {
            session.last.get(&due.place()).is_none_or(|(last, _)| *last <= due.note.number)
        };
        let live = |d: &Due| d.cause == Cause::Live && fits(d);
        let later = session.due.iter().position(|due| live(due) && next(due));
        let live = later.or_else(|| session.due.iter().position(live));
        let must = || session.due.iter().position(|d| d.must && fits(d));
        if let Some(at) = live.or_else(must).or_else(|| session.due.iter().position(fits)) {
            return Some(session.due.remove(at));
        }
        if let Some(due) = self.give(client, view.five, self.moment(), &fits) {
            return Some(due);
        }
        // With the properties of 5.0 they do not look alike.
        if !view.five
            && let Some(due) = self.change_places(client, &fits)
        {
            return Some(due);
        }
        let session = self.sessions.get(client)?;
        let key = Self::key(publish.payload);
        let near = session.due.iter().chain(self.offers(client));
        let near = near.filter(|due| due.note.key == key && due.note.topic == topic);
        let difference = near.map(|due| due.differs(view, topic, publish).unwrap_or("expired"));
        let checker = difference.min().unwrap_or("entitlement");
        let groups = self.shared.iter().filter(|shared| shared.note.key == key);
        let groups: Vec<_> = groups.map(|s| (&s.filter, &s.given)).collect();
        let what = format!("{client}: {topic} {key} {publish:?} is not due so; {groups:?}");
        self.fail(checker, what);
        None
    }

    /// Order for each publisher, topic and QoS. `[MQTT-4.6.0-5]`
    fn check_order(&mut self, client: &str, due: &Due) {
        let note = &due.note;
        let Some(session) = self.sessions.get_mut(client) else { return };
        // Copies that look alike cannot be told apart.
        if note.key == 0 || due.cause != Cause::Live || session.mixed.contains(&note.key) {
            return;
        }
        let last = session.last.insert(due.place(), (note.number, note.key)).unwrap_or((0, 0));
        let what = || format!("{client}: {} {} after {last:?}: {due:?}", note.topic, note.key);
        self.ensure(last.0 <= note.number, "order", what);
    }
}

/// How a client sees a copy.
#[derive(Clone, Copy)]
struct View {
    /// With the properties of 5.0.
    five: bool,
    now: Instant,
    /// Its time may have begun later than the packet came.
    lax: bool,
}

impl Due {
    /// Messages with the same place keep their order.
    fn place(&self) -> (Option<String>, String, Qos, Qos) {
        let note = &self.note;
        (note.publisher.clone(), note.topic.clone(), note.qos, self.qos)
    }

    /// In what a PUBLISH is another than this copy.
    fn differs(&self, view: View, topic: &str, publish: &Publish<'_>) -> Option<&'static str> {
        let mut ids: Vec<u32> = Vec::new();
        for property in publish.properties.iter() {
            if let Property::SubscriptionIdentifier(id) = property {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        let (expiry, user) = common(publish.properties);
        let View { five, now, lax } = view;
        if self.note.topic != topic || self.note.payload != publish.payload {
            Some("entitlement")
        } else if self.qos != publish.qos {
            Some("qos")
        } else if self.retain != publish.retain {
            Some("retain flag")
        } else if five && self.ids != ids {
            Some("identifiers of subscriptions")
        } else if five && self.note.user != user {
            Some("properties")
        } else if five && !lax && self.note.expires.map(|at| seconds(at, now)) != expiry {
            Some("expiry")
        } else {
            None
        }
    }
}

impl Session {
    /// Takes off the books what was too large to be sent again, of those chosen.
    pub(super) fn give_up(&mut self, chosen: impl Fn(&Flying) -> bool) {
        for flying in self.flying.extract_if(.., |f| f.doubt && chosen(f)) {
            // It may not have arrived the first time; or the client had it, and said so.
            if !flying.released
                && let Some(sent) = self.sent.get_mut(&(flying.due.qos, flying.due.note.key))
            {
                *sent -= 1;
            }
        }
    }

    /// The broker sends again what was acknowledged: the acknowledgement went down unread, with
    /// its connection.
    fn unread(&mut self, id: u16) {
        if let Some(flying) = self.flying.iter_mut().find(|flying| flying.id == id) {
            flying.released &= flying.here;
        } else if let Some(at) = self.late.iter().rposition(|flying| flying.id == id) {
            let flying = self.late.remove(at);
            self.flying.push(Flying { released: false, here: false, doubt: false, ..flying });
        }
    }
}
