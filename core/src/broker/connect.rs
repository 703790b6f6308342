//! From CONNECT to CONNACK: checks, takeover, the session.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::auth::authentication;
use super::conn::{Conn, Undecided};
use super::message::Body;
use super::peers::{Held, Until};
use super::publish::is_reserved;
use super::receive::Step;
use super::session::{self, Attached, Session, Will};
use super::slots::Key;
use super::{
    AuthRequest, AuthStep, Broker, ConnId, Connected, DisconnectReason, Event, SessionEnd,
};
use crate::codec::{
    Connack, Connect, Disconnect, Packet, Properties, Property, PropertyId, Qos, ReasonCode,
    Version,
};
use crate::connection::Negotiated;
use crate::time::Instant;
use crate::topic::TopicName;

/// Properties of one CONNACK at most.
pub(super) type List<'p> = heapless::Vec<Property<'p>, 16>;

impl Broker {
    pub(super) fn connect(&mut self, connect: &Connect<'_>) -> Step {
        if let Some(reason) = self.refuses(connect) {
            return Step::Refuse(reason);
        }
        // Who asks for an identifier gets one of this shard.
        let home = self.place().home(connect.client_id);
        if !connect.client_id.is_empty() && home != self.place().shard {
            let mut bytes = Vec::new();
            let packet = Packet::Connect(*connect);
            if packet.append(connect.version, &mut bytes).is_ok() {
                return Step::HandOver(home, bytes);
            }
        }
        let undecided = Undecided {
            client_id: String::from(connect.client_id),
            username: connect.username.map(Box::from),
            clean_start: connect.clean_start,
            bridge: connect.bridge,
            keep_alive: connect.keep_alive,
            will: connect.will.as_ref().map(will),
        };
        let (method, data) = authentication(connect.properties);
        let request = AuthRequest {
            client_id: undecided.client_id.clone(),
            username: connect.username.map(String::from),
            password: connect.password.map(Into::into),
            method: method.map(String::from),
            data: data.map(Into::into),
            step: AuthStep::Connect,
            version: connect.version,
        };
        Step::Decide(Some(Box::new(undecided)), Box::new(request))
    }

    /// Why a well-formed CONNECT cannot be accepted, if so.
    fn refuses(&self, connect: &Connect<'_>) -> Option<ReasonCode> {
        let version = connect.version;
        if connect.client_id.is_empty() {
            // [v4:MQTT-3.1.3-8]; 3.1 asks for one always.
            let demanded = version == Version::V31
                || version == Version::V311 && !connect.clean_start
                || !self.config.allow_zero_length_clientid;
            if demanded {
                return Some(ReasonCode::ClientIdentifierNotValid);
            }
        }
        if self.stopping {
            return Some(ReasonCode::ServerUnavailable);
        }
        let will = connect.will.as_ref()?;
        let levels = self.config.max_topic_levels;
        if TopicName::new(will.topic, levels).is_err() || is_reserved(will.topic) {
            return Some(ReasonCode::TopicNameInvalid);
        }
        if will.qos > self.config.max_qos {
            return Some(ReasonCode::QosNotSupported);
        }
        let retain = will.retain && !self.config.retain_available;
        retain.then_some(ReasonCode::RetainNotSupported)
    }

    /// Lets a client in, unless its connection before is not at its end yet: what it sent there is
    /// handled first.
    pub(super) fn accept_or_refuse(
        &mut self,
        now: Instant,
        key: Key,
        conn: &mut Conn,
        data: Option<Bytes>,
    ) {
        let client_id = conn.undecided.as_ref().map(|undecided| &*undecided.client_id);
        if let Some(before) = client_id.and_then(|client_id| self.leaving_conn(client_id)) {
            let held = Box::new(Held::Accept(data));
            return self.wait_until(key, conn, Until::Left(before), Some(held));
        }
        if let Err(reason) = self.accept(now, key, conn, data) {
            self.refuse(now, key, conn, reason);
        }
    }

    /// The connection of a client whose transport is gone, but not all that it brought is handled.
    /// With one shard a long delivery is all that it waits for, and it is taken over as if it were
    /// there.
    fn leaving_conn(&self, client_id: &str) -> Option<Key> {
        self.peers.as_ref()?;
        let key = self.clients.get(client_id).and_then(|index| self.sessions.key_at(*index));
        match self.sessions.get(key?)?.attached {
            Attached::Conn(conn) => self.conns.get(conn)?.gone.then_some(conn),
            _ => None,
        }
    }

    /// CONNACK with an error, then the end. `[MQTT-3.2.2-7]`
    pub(super) fn refuse(&mut self, now: Instant, key: Key, conn: &mut Conn, reason: ReasonCode) {
        if conn.machine.negotiated().version == Version::V5 || reason.has_return_code() {
            let properties = Properties::EMPTY;
            let connack = Packet::Connack(Connack { session_present: false, reason, properties });
            if conn.machine.send(now, &connack, &mut conn.out).is_ok() {
                self.stats.packets_sent[2] += 1;
            }
        }
        self.shut(now, key, conn, DisconnectReason::Refused(reason), None);
    }

    fn accept(
        &mut self,
        now: Instant,
        key: Key,
        conn: &mut Conn,
        data: Option<Bytes>,
    ) -> Result<(), ReasonCode> {
        let Some(mut undecided) = conn.undecided.take() else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let negotiated = conn.machine.negotiated();
        let assigned = undecided.client_id.is_empty();
        if assigned {
            undecided.client_id = self.assign_client_id();
        }
        // Before anything is changed; a session that is replaced takes no more than it gives.
        if self.clients.get(&*undecided.client_id).is_none() && !self.has_room_for_session() {
            return Err(ReasonCode::QuotaExceeded);
        }
        let resumed = self.take_over(now, &undecided.client_id, undecided.clean_start);
        let session_key = match resumed {
            Some(key) => key,
            None => self.create_session(now, &undecided.client_id),
        };
        let keep_alive = self.keep_alive(negotiated.version, undecided.keep_alive);
        let requested = negotiated.session_expiry.unwrap_or(0);
        let expiry = requested.min(self.config.max_session_expiry);
        let terms = Terms {
            keep_alive,
            expiry,
            clean_start: undecided.clean_start,
            bridge: undecided.bridge,
            username: undecided.username.take(),
            will: undecided.will.take(),
        };
        let connack = Accepted {
            client_id: assigned.then_some(&*undecided.client_id),
            // 3.1 has no such flag.
            session_present: resumed.is_some() && negotiated.version > Version::V31,
            expiry: (expiry != requested).then_some(expiry),
            keep_alive: (keep_alive != undecided.keep_alive).then_some(keep_alive),
            data: data.as_deref(),
        };
        self.attach(now, key, conn, session_key, terms);
        if !self.send_connack(now, conn, &negotiated, &connack) {
            // A client that takes no packet of this size can be told nothing, and is not accepted.
            self.forget_will(session_key);
            self.shut(now, key, conn, DisconnectReason::Refused(ReasonCode::PacketTooLarge), None);
            return Ok(());
        }
        self.stats.connects_total += 1;
        self.settle_address(conn);
        let at = conn.machine.poll_timeout().unwrap_or(Instant::NEVER);
        self.rearm_conn(key, conn, at);
        let Some(session) = self.sessions.get(session_key) else { return Ok(()) };
        let connected = Connected {
            conn: ConnId::of(key),
            client_id: session.client_id.clone(),
            version: negotiated.version,
            clean_start: undecided.clean_start,
            session_present: resumed.is_some(),
            keep_alive,
        };
        let waits = session.resending || !session.queue.is_empty() || !session.walks.is_empty();
        self.event(Event::Connected(Box::new(connected)));
        if waits {
            self.wake(session_key);
        }
        Ok(())
    }

    /// Ends the connection the client has, and answers the session to go on with, if any.
    /// `[MQTT-3.1.4-3]` `[MQTT-3.1.2-4]` `[MQTT-3.1.2-5]`
    fn take_over(&mut self, now: Instant, client_id: &str, clean_start: bool) -> Option<Key> {
        let key = self.sessions.key_at(self.clients.get(client_id).copied()?)?;
        if let Attached::Conn(old) = self.sessions.get(key)?.attached
            && !defect!("takeover_leaves_the_old")
        {
            self.disconnect(now, old, DisconnectReason::TakenOver);
        }
        // The driver may be late with its timeouts. [MQTT-4.1.0-2]
        self.session_due(now, key);
        // A session that was not to outlive its connection is gone by now.
        self.sessions.get(key)?;
        if clean_start && !defect!("clean_start_keeps_session") {
            self.end_session(now, key, SessionEnd::CleanStart);
            return None;
        }
        // [MQTT-3.1.3-9]: back in time, the will is not sent.
        self.forget_will(key);
        Some(key)
    }

    fn create_session(&mut self, now: Instant, client_id: &str) -> Key {
        let client_id: Arc<str> = Arc::from(client_id);
        let key = self.new_session(now, client_id.clone());
        self.clients.insert(client_id, key.index);
        key
    }

    pub(super) fn has_room_for_session(&self) -> bool {
        self.sessions.len() < self.config.max_sessions as usize && !self.is_full()
    }

    /// A session without a name in the table of clients.
    pub(super) fn new_session(&mut self, now: Instant, client_id: Arc<str>) -> Key {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.held += session::FOOTPRINT + client_id.len() as u64;
        let window = self.config.max_inflight.max(1);
        let key = self.sessions.insert(Session::new(client_id, serial, window, now));
        if let Some(peers) = &self.peers
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.clocks = peers.clocks();
        }
        self.serials.insert(serial, key.index);
        key
    }

    fn attach(&mut self, now: Instant, key: Key, conn: &mut Conn, session_key: Key, terms: Terms) {
        let negotiated = conn.machine.negotiated();
        conn.session = Some(session_key);
        self.stats.sessions_connected += 1;
        let Some(session) = self.sessions.get_mut(session_key) else { return };
        session.attached = Attached::Conn(key);
        session.version = negotiated.version;
        session.bridge = terms.bridge;
        session.clean_start = terms.clean_start;
        session.keep_alive = terms.keep_alive;
        session.expiry = terms.expiry;
        session.connected_at = now;
        session.disconnected_at = None;
        session.will_at = Instant::NEVER;
        session.woken = false;
        session.outbound.limit(negotiated.receive_maximum);
        session.resending = !session.outbound.is_empty();
        session.outbound.resume();
        let (receive_maximum, max_await_rel) = match negotiated.version {
            Version::V5 => (self.config.receive_maximum, self.config.max_await_rel),
            // Older clients know no Receive Maximum.
            _ => (u16::MAX, u16::MAX),
        };
        session.inbound.limit(receive_maximum, max_await_rel);
        session.inbound.reconnect();
        self.held += terms.will.as_ref().map_or(0, |will| will.body.len() as u64);
        session.will = terms.will;
        self.held += len_of(terms.username.as_deref());
        let before = core::mem::replace(&mut session.username, terms.username);
        self.held -= len_of(before.as_deref());
        self.arm_session(session_key);
        self.mark_shared(session_key, true);
    }

    fn send_connack(
        &mut self,
        now: Instant,
        conn: &mut Conn,
        negotiated: &Negotiated,
        accepted: &Accepted<'_>,
    ) -> bool {
        let method = conn.machine.method().map(String::from);
        let response = match (negotiated.response_information, conn.session) {
            (true, Some(session)) => self.response_information(session),
            _ => None,
        };
        let mut list = List::new();
        if negotiated.version == Version::V5 {
            self.connack_properties(accepted, &mut list);
            let method = method.as_deref().map(Property::AuthenticationMethod);
            let data = accepted.data.filter(|_| method.is_some()).map(Property::AuthenticationData);
            let response = response.as_deref().map(Property::ResponseInformation);
            for property in [method, data, response].into_iter().flatten() {
                let _ = list.push(property);
            }
        }
        let connack = Packet::Connack(Connack {
            session_present: accepted.session_present || defect!("session_present_wrong"),
            reason: ReasonCode::Success,
            properties: Properties::list(&list),
        });
        let sent = conn.machine.send(now, &connack, &mut conn.out).is_ok();
        self.stats.packets_sent[2] += u64::from(sent);
        sent
    }

    fn connack_properties<'p>(&self, accepted: &Accepted<'p>, list: &mut List<'p>) {
        let config = &self.config;
        let maximum_qos = (config.max_qos < Qos::ExactlyOnce).then_some(config.max_qos as u8);
        let some = [
            accepted.expiry.map(Property::SessionExpiryInterval),
            (config.receive_maximum != u16::MAX)
                .then_some(Property::ReceiveMaximum(config.receive_maximum)),
            maximum_qos.map(Property::MaximumQos),
            (!config.retain_available).then_some(Property::RetainAvailable(false)),
            Some(Property::MaximumPacketSize(config.max_packet_size)),
            accepted.client_id.map(Property::AssignedClientIdentifier),
            (config.max_topic_alias > 0)
                .then_some(Property::TopicAliasMaximum(config.max_topic_alias)),
            accepted.keep_alive.map(Property::ServerKeepAlive),
        ];
        for property in some.into_iter().flatten() {
            let _ = list.push(property);
        }
    }

    /// A topic prefix of its own for a client that asked for one. `[MQTT-3.1.2-28]`
    fn response_information(&self, session: Key) -> Option<String> {
        let client_id = &self.sessions.get(session)?.client_id;
        let usable = !client_id.contains(['+', '#']) && client_id.len() < 1024;
        usable.then(|| format!("response/{client_id}"))
    }

    /// The keep alive in force: an older client cannot be told another.
    fn keep_alive(&self, version: Version, asked: u16) -> u16 {
        let max = self.config.max_keepalive;
        if version == Version::V5 && max > 0 && (asked == 0 || asked > max) { max } else { asked }
    }

    /// An identifier that no session has. `[MQTT-3.2.2-16]`
    fn assign_client_id(&mut self) -> String {
        loop {
            let number = self.random();
            let id = format!("{}{number:016x}", self.config.assigned_clientid_prefix);
            let place = self.place();
            if self.clients.get(&*id).is_none() && place.home(&id) == place.shard {
                return id;
            }
        }
    }

    pub(super) fn disconnected_by_client(
        &mut self,
        key: Key,
        negotiated: &Negotiated,
        disconnect: &Disconnect<'_>,
    ) -> Step {
        let Some(session) = self.sessions.get_mut(key) else { return Step::Next };
        if let Some(Property::SessionExpiryInterval(secs)) =
            disconnect.properties.find(PropertyId::SessionExpiryInterval)
            && !defect!("expiry_of_disconnect_ignored")
        {
            session.expiry = secs.min(self.config.max_session_expiry);
        }
        // [MQTT-3.14.4-3]; an older version knows no other reason.
        if (disconnect.reason == ReasonCode::Success || negotiated.version < Version::V5)
            && !defect!("will_after_disconnect")
        {
            self.forget_will(key);
        }
        Step::Close(DisconnectReason::Client(disconnect.reason), None)
    }
}

/// What a connection brings to its session.
struct Terms {
    /// Seconds, as in force.
    keep_alive: u16,
    expiry: u32,
    clean_start: bool,
    bridge: bool,
    username: Option<Box<str>>,
    will: Option<Box<Will>>,
}

/// What CONNACK says about an accepted client.
struct Accepted<'p> {
    client_id: Option<&'p str>,
    session_present: bool,
    expiry: Option<u32>,
    keep_alive: Option<u16>,
    data: Option<&'p [u8]>,
}

/// Bytes of a text that may be there.
pub(super) fn len_of(text: Option<&str>) -> u64 {
    text.map_or(0, str::len) as u64
}

fn will(will: &crate::codec::Will<'_>) -> Box<Will> {
    let mut delay = 0;
    let mut expiry = None;
    for property in will.properties.iter() {
        match property {
            Property::WillDelayInterval(secs) => delay = secs,
            Property::MessageExpiryInterval(secs) => expiry = Some(secs),
            _ => {}
        }
    }
    let body = Body::new(will.topic, will.properties, will.payload);
    Box::new(Will { body, qos: will.qos, retain: will.retain, delay, expiry })
}
