//! Events: connections and sessions that begin and end, wills, losses.

use std::ops::RangeInclusive;
use std::rc::Rc;

use fulmar_core::broker::{
    ConnId, Connected, DisconnectReason, Disconnected, Effect, Event, OpenError, QueueFull,
    SessionEnd,
};
use fulmar_core::{Instant, Qos, ReasonCode, Version};

use super::publications::Draft;
use super::{Asked, Call, Cause, Due, Note, Oracle, Phase, Session, Wire};

impl Oracle {
    /// A shard answered this when asked to open a connection, or to take one over: it counts its
    /// own.
    pub(in super::super) fn refused_open(
        &mut self,
        shard: usize,
        address: Option<std::net::IpAddr>,
        error: Option<OpenError>,
    ) {
        let config = &self.config;
        let open = || self.wires.values().filter(|wire| wire.shard == shard);
        let waiting = || open().filter(|wire| wire.unauthenticated);
        let near = waiting().filter(|w| address.is_some() && w.address == address).count();
        let expected = if open().count() >= config.max_connections as usize {
            Some(OpenError::TooManyConnections)
        } else if waiting().count() >= config.max_unauthenticated as usize {
            Some(OpenError::TooManyUnauthenticated)
        } else if address.is_some() && near >= config.max_unauthenticated_per_address as usize {
            Some(OpenError::TooManyFromAddress)
        } else {
            None
        };
        self.counts.refused += u64::from(error.is_some());
        self.ensure(error == expected, "limits", || format!("{error:?}, not {expected:?}"));
    }

    /// An effect of the present call, and the one after it.
    pub(in super::super) fn effect(&mut self, effect: &Effect, next: Option<&Effect>) {
        match effect {
            Effect::Reading { conn, on } => {
                let now = self.now;
                if let Some(wire) = self.wires.get_mut(conn) {
                    wire.suspended = !on;
                    // The time for CONNECT runs on.
                    if wire.phase == Phase::Open {
                        wire.heard = now;
                    }
                }
            }
            Effect::Close { conn, .. } => {
                let over = self.wires.get(conn).is_some_and(|wire| wire.phase == Phase::Over);
                self.ensure(over, "connections", || format!("{conn:?} closed without an event"));
            }
            Effect::Event(event) => self.event(event, next),
            Effect::Authenticate { conn, .. } => {
                let here = |wire: &Wire| {
                    wire.phase == Phase::Deciding && self.home_of(wire) == Some(wire.shard)
                };
                let asks = self.wires.get(conn).is_some_and(here);
                self.ensure(asks, "connections", || format!("{conn:?} asks for nothing"));
            }
            Effect::Handover { conn, to } => {
                self.ensure(self.many, "connections", || "handed over".to_string());
                let away = |wire: &Wire| {
                    self.home_of(wire) == Some(usize::from(*to)) && wire.shard != usize::from(*to)
                };
                let right = self.wires.get(conn).is_some_and(away);
                self.ensure(right, "connections", || format!("{conn:?} is handed over to {to}"));
            }
            Effect::Transmit(_) | Effect::Available(_) | Effect::Reply { .. } => {}
        }
    }

    /// The shard where a client's session is to be.
    fn home_of(&self, wire: &Wire) -> Option<usize> {
        wire.asked.as_ref().map(|asked| usize::from(self.place.home(&asked.client_id)))
    }

    /// Whether a connection of this client was decided about, and waits for the end of what was
    /// before.
    fn is_let_in(&self, client: &str, fits: impl Fn(&Asked) -> bool) -> bool {
        let asked =
            |wire: &&Wire| wire.asked.as_ref().is_some_and(|a| a.client_id == client && fits(a));
        let mut waiting = self.wires.values().filter(asked);
        waiting.any(|wire| wire.phase == Phase::Deciding && wire.decided && !wire.refused)
    }

    fn event(&mut self, event: &Event, next: Option<&Effect>) {
        match event {
            Event::Connected(connected) => self.connected(connected),
            Event::Disconnected(disconnected) => {
                self.charge_goodbye(disconnected.conn);
                self.disconnected(disconnected);
            }
            Event::SessionEnded { client_id, why } => self.session_ended(client_id, *why),
            Event::WillPublished { client_id } => {
                self.charge_will();
                let ends = matches!(
                    next,
                    Some(Effect::Event(Event::SessionEnded { client_id: n, .. })) if n == client_id
                );
                self.will_published(client_id, ends);
            }
            Event::Dropped { client_id, qos, why, count } => {
                self.dropped(client_id, *qos, *why, *count);
            }
            Event::Pressure { on, .. } => self.pressed = *on,
            _ => self.fail("events", format!("{event:?} is new")),
        }
    }

    fn connected(&mut self, event: &Connected) {
        let (client, now) = (event.client_id.to_string(), self.now);
        self.counts.accepted += 1;
        let Some(wire) = self.wires.get_mut(&event.conn) else {
            self.fail("connections", format!("{client} on no connection"));
            return;
        };
        let Some(asked) = wire.asked.clone().filter(|_| wire.phase == Phase::Deciding) else {
            self.fail("connections", format!("{client} did not ask"));
            return;
        };
        let max = self.config.max_keepalive;
        let capped = wire.version == Version::V5 && max > 0;
        let capped = capped && (asked.keep_alive == 0 || asked.keep_alive > max);
        wire.keep_alive = if capped { max } else { asked.keep_alive };
        let told = wire.keep_alive == event.keep_alive && wire.version == event.version;
        wire.phase = Phase::Open;
        wire.unauthenticated = false;
        wire.early = Vec::new();
        wire.heard = now;
        wire.client = Some(client.clone());
        let named = asked.client_id == client || asked.client_id.is_empty();
        let welcome = !wire.refused;
        self.ensure(told && named, "events", || format!("{event:?} for {asked:?}"));
        self.ensure(welcome, "connections", || format!("{client} was refused"));
        let present = match self.sessions.get(&client) {
            None => false,
            Some(session) => {
                let end = session.end();
                if let Some(other) = session.conn {
                    let what = format!("{client} is on {other:?} too");
                    self.fail("takeover", what);
                } else if asked.clean {
                    self.fail("session present", format!("{client} started clean"));
                } else if end.is_some_and(|end| end <= now) {
                    self.fail("session end", format!("{client} resumes an expired session"));
                }
                true
            }
        };
        let told = event.session_present;
        self.ensure(told == present, "session present", || format!("{client}: {told}"));
        if let Some(wire) = self.wires.get_mut(&event.conn) {
            wire.present = Some(present);
        }
        let session = self.sessions.entry(client.clone()).or_default();
        let will_due = session.will.is_some() && session.will_at().is_some_and(|at| at <= now);
        session.conn = Some(event.conn);
        session.left = None;
        session.expiry = asked.expiry.min(self.config.max_session_expiry);
        let before = std::mem::replace(&mut session.will, asked.will);
        session.held.values_mut().for_each(|held| held.counts = false);
        for flying in &mut session.flying {
            (flying.here, flying.published_here) = (false, false);
        }
        if self.many {
            self.will_due(&client, before.filter(|_| will_due));
        }
        let early = will_due && !self.many;
        self.ensure(!early, "wills", || format!("{client}: its will was due before"));
        self.parse(event.conn);
    }

    fn disconnected(&mut self, event: &Disconnected) {
        let now = self.now;
        if let Some(doubt) = self.doubt_end(event) {
            self.fail("disconnects", format!("{event:?}, {doubt}"));
        }
        self.unread_at_end(event);
        let Some(wire) = self.wires.get_mut(&event.conn) else { return };
        wire.phase = Phase::Over;
        wire.unauthenticated = false;
        let (farewell, gone) = (wire.farewell.take(), wire.gone);
        let client = wire.client.clone();
        match client {
            Some(_) => self.counts.ended += 1,
            None => self.counts.refused += 1,
        }
        let same = client.as_deref() == event.client_id.as_deref();
        self.ensure(same, "events", || format!("{event:?} is about {client:?}"));
        let Some(client) = client else {
            if gone {
                self.closed(event.conn);
            }
            return;
        };
        self.stored.retain(|(publisher, _)| *publisher != client);
        if let Some(session) = self.sessions.get_mut(&client)
            && session.conn == Some(event.conn)
        {
            (session.conn, session.left) = (None, Some(now));
            if let Some((expiry, no_will)) = farewell
                && matches!(event.why, DisconnectReason::Client(_))
            {
                session.expiry = expiry.unwrap_or(session.expiry);
                session.will.take_if(|_| no_will);
            }
        }
        self.settle_end(event);
        if gone {
            self.closed(event.conn);
        }
    }

    /// Why a connection had no reason to end so, if that is so.
    fn doubt_end(&self, event: &Disconnected) -> Option<&'static str> {
        let Some(wire) = self.wires.get(&event.conn) else { return Some("which is not open") };
        if wire.phase == Phase::Over && !wire.left {
            return Some("which has ended");
        }
        let client = &wire.client;
        let right = match event.why {
            DisconnectReason::Client(_) => wire.left,
            DisconnectReason::Transport => wire.gone || self.call == Call::Closed(event.conn),
            DisconnectReason::Protocol(_) => wire.must_end.is_some(),
            DisconnectReason::ConnectTimeout => {
                client.is_none() && wire.heard + self.config.connect_timeout <= self.now
            }
            DisconnectReason::KeepAliveTimeout => {
                wire.keep_alive_end().is_some_and(|end| end <= self.now)
            }
            DisconnectReason::Refused(reason) => match reason {
                ReasonCode::QuotaExceeded => {
                    let asked = wire.asked.as_ref();
                    let near = asked.map_or(0, |asked| self.neighbours(&asked.client_id));
                    let full = self.full || self.many && self.is_short_here();
                    full || near >= self.config.max_sessions as usize
                }
                _ => wire.refused,
            },
            // It may have waited for the end of another one, of several shards.
            DisconnectReason::TakenOver => {
                let client = client.as_deref();
                client.is_some_and(|client| self.is_let_in(client, |_| true))
            }
            DisconnectReason::Administrative => self.call == Call::Command,
            DisconnectReason::SlowConsumer => self.config.max_outbound_bytes < 1000,
            DisconnectReason::QueueFull => self.config.queue_full == QueueFull::Disconnect,
            DisconnectReason::OutOfBudget => {
                // Or it holds a part of a packet, for which there is no memory.
                let part = !wire.input.is_empty() && self.is_tight();
                let held = wire.input.len() as u64;
                match self.many {
                    true => self.is_short_here() || part && self.is_too_much_here(held),
                    false => wire.must_end == Some("no room") || part,
                }
            }
            _ => false,
        };
        (!right).then_some("for no reason")
    }

    fn session_ended(&mut self, client: &str, why: SessionEnd) {
        self.judge_drops(Some(client));
        let now = self.now;
        let Some(session) = self.sessions.remove(client) else {
            self.fail("session end", format!("{client} has no session"));
            return;
        };
        let clean = self.is_let_in(client, |asked| asked.clean);
        let right = match why {
            SessionEnd::Closed => session.expiry == 0 || session.condemned,
            SessionEnd::Expired => session.end().is_some_and(|end| end <= now),
            SessionEnd::CleanStart => clean,
            _ => false,
        };
        self.counts.expired += u64::from(why == SessionEnd::Expired);
        let right = right && session.conn.is_none();
        self.ensure(right, "session end", || format!("{client} ended, {why:?}: {session:?}"));
        if self.many {
            self.forget(client, &session);
            self.will_due(client, session.will);
            return;
        }
        let will = session.will.is_some();
        self.ensure(!will, "wills", || format!("{client}: no will at the end of its session"));
        self.check_losses_at_end(client, &session);
        let again = session.flying.iter().filter(|f| f.due.cause == Cause::Shared);
        let again: Vec<Rc<Note>> = again.map(|f| f.due.note.clone()).collect();
        self.pass_on(client, &again);
    }

    /// What a session loses when it ends is counted, and no more.
    fn check_losses_at_end(&mut self, client: &str, session: &Session) {
        let shared = self.shared_with(client);
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let lost = session.lost[qos as usize];
            let due = session.due.iter().filter(|due| due.qos == qos);
            let all = due.clone().count() as u64;
            let must = due.filter(|due| due.must && due.cause == Cause::Live).count() as u64;
            let flying = || session.flying.iter().filter(|f| f.due.qos == qos && !f.released);
            // One that may have come by way of a group may go to another member.
            let mixed = |due: &Due| session.mixed.contains(&due.note.key);
            let own = |due: &Due| qos == Qos::ExactlyOnce || !mixed(due);
            let least = must + flying().filter(|f| own(&f.due)).count() as u64;
            let most = all + flying().count() as u64 + shared;
            let right = (least..=most).contains(&lost);
            self.ensure(right, "losses", || {
                format!("{client} ended: {lost} of {qos:?} lost, not {least} to {most}")
            });
        }
    }

    fn will_published(&mut self, client: &str, ends: bool) {
        let now = self.now;
        if self.many && self.late_will(client) {
            return;
        }
        let Some(session) = self.sessions.get_mut(client) else {
            self.fail("wills", format!("{client} has no session"));
            return;
        };
        let due = session.conn.is_none() && (ends || session.will_at().is_some_and(|at| at <= now));
        let Some(will) = session.will.take() else {
            self.fail("wills", format!("{client} has no will, or had it"));
            return;
        };
        // Due by itself, it comes before the end of the session, and to the session too, but where
        // an operator ends it.
        let at = session.left.map(|left| left.after_secs(u64::from(will.delay)));
        let over = session.expiry == 0 || session.condemned;
        let gone = ends && (over || at.is_none_or(|at| at > now));
        self.ensure(due, "wills", || format!("{client}: not due"));
        self.publish(Draft::of_will(client, will), gone.then_some(client), None);
    }

    /// The transport of a connection is gone, and the broker was told.
    pub(in super::super) fn closed(&mut self, conn: ConnId) {
        if self.many
            && let Some(wire) = self.wires.get_mut(&conn)
            && wire.unauthenticated | self.sessions.values().any(|s| s.conn == Some(conn))
        {
            wire.gone = true;
            return;
        }
        self.request_over(conn);
        let wire = self.wires.remove(&conn);
        let over = wire.as_ref().is_some_and(|wire| wire.phase == Phase::Over);
        for answer in wire.iter().flat_map(|wire| &wire.answers) {
            self.counts.answers_lost[usize::from(answer.kind)] += 1;
        }
        self.ensure(over, "connections", || format!("no word about the end of {conn:?}"));
    }

    /// A connection was handed over to another shard, where it has another name, and is as old.
    pub(in super::super) fn moved(&mut self, from: ConnId, to: ConnId, shard: usize) {
        if let Some(wire) = self.wires.remove(&from) {
            self.wires.insert(to, Wire { shard, ..wire });
        }
    }

    /// A connection was to be handed over to a shard that has no room for it.
    pub(in super::super) fn turned_away(&mut self, conn: ConnId) {
        let wire = self.wires.remove(&conn);
        let asks = wire.is_some_and(|wire| wire.phase == Phase::Deciding);
        self.ensure(asks, "connections", || format!("{conn:?} was handed over before CONNECT"));
    }

    /// The driver refuses this client.
    pub(in super::super) fn refuse(&mut self, conn: ConnId) {
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.refused = true;
        }
    }

    /// An operator ends a connection, and the session perhaps.
    pub(in super::super) fn condemn(&mut self, client: &str, session: bool) {
        if let Some(found) = self.sessions.get_mut(client) {
            found.condemned |= session;
        }
    }

    /// An operator publishes. Answers how many copies that makes, as at least and at most; `None`
    /// if there is no room.
    pub(in super::super) fn publish_command(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: Qos,
        retain: bool,
        shard: usize,
    ) -> Option<RangeInclusive<usize>> {
        if self.full && !(retain && payload.is_empty()) {
            return None;
        }
        let draft = Draft {
            publisher: None,
            topic: topic.to_string(),
            payload: payload.to_vec(),
            qos,
            retain,
            expiry: None,
            user: None,
        };
        let copies = self.publish(draft, None, None);
        Some(match self.many {
            true => self.receivers(shard, Self::key(payload)),
            false => copies..=copies,
        })
    }
}

impl Session {
    /// When it ends, while it has no connection.
    pub(super) fn end(&self) -> Option<Instant> {
        let left = self.left.filter(|_| self.expiry != u32::MAX)?;
        Some(left.after_secs(u64::from(self.expiry)))
    }

    /// When its will is due, while it has no connection.
    pub(super) fn will_at(&self) -> Option<Instant> {
        let will = self.will.as_ref()?;
        let at = self.left?.after_secs(u64::from(will.delay));
        Some(self.end().map_or(at, |end| end.min(at)))
    }
}
