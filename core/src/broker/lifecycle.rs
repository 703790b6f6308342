//! Ends: of connections, of sessions, and the wills that follow.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use super::conn::{Conn, Waiting};
use super::connect::len_of;
use super::jobs::Source;
use super::peers::{Clocks, Held};
use super::publish::Draft;
use super::queue::NO_GROUP;
use super::session::{self, Attached, Subscription, Will};
use super::slots::Key;
use super::timers::Timer;
use super::{
    Broker, ConnId, DisconnectReason, Disconnected, DropReason, Effect, Event, SessionEnd,
};
use crate::codec::{Qos, ReasonCode};
use crate::time::Instant;

/// Seconds a peer gets to take the last bytes and close.
const LINGER: u64 = 3;
/// Timers handled in one call.
const TIMERS: usize = 1024;

impl Broker {
    /// Ends a connection that is not being handled at the moment.
    pub(super) fn disconnect(&mut self, now: Instant, key: Key, why: DisconnectReason) {
        let Some(mut conn) = self.conns.take(key) else { return };
        let reason = match why {
            DisconnectReason::TakenOver => ReasonCode::SessionTakenOver,
            DisconnectReason::ShuttingDown => ReasonCode::ServerShuttingDown,
            DisconnectReason::Administrative => ReasonCode::AdministrativeAction,
            _ => ReasonCode::QuotaExceeded,
        };
        self.shut(now, key, &mut conn, why, Some(reason));
        self.finish(now, key, &mut conn);
        self.put_back(key, conn);
    }

    /// A connection is to be closed, and is owed acknowledgements that wait for other shards: they
    /// go first, for as long as a peer gets to take its last bytes. Otherwise a client whose own
    /// messages fill its queue would send them again on each connection, and never get on. False
    /// if nothing waits.
    pub(super) fn close_later(&mut self, now: Instant, key: Key) -> bool {
        let Some(mut conn) = self.conns.take(key) else { return true };
        let session = conn.session.filter(|_| !conn.gone);
        let owed = session.is_some_and(|session| self.owes_publish_acks(session));
        if owed && conn.waiting != Waiting::Last {
            self.wait_no_more(&mut conn);
            conn.waiting = Waiting::Last;
            self.set_reading(now, key, &mut conn);
            self.rearm_conn(key, &mut conn, now.after_secs(LINGER));
        }
        self.conns.put(key, conn);
        owed
    }

    /// Says the last word, lets go of the session and has the transport closed.
    pub(super) fn shut(
        &mut self,
        now: Instant,
        key: Key,
        conn: &mut Conn,
        why: DisconnectReason,
        reason: Option<ReasonCode>,
    ) {
        if conn.closing {
            return;
        }
        conn.closing = true;
        if let Some(reason) = reason {
            let before = conn.out.len();
            conn.machine.close(reason, &mut conn.out);
            let kind = if conn.session.is_some() { 14 } else { 2 };
            self.stats.packets_sent[kind] += u64::from(conn.out.len() > before);
        }
        conn.unread = alloc::vec::Vec::new();
        conn.machine.discard();
        conn.undecided = None;
        self.ended(now, key, conn, why);
        // Of one that waited the transport may be gone.
        if !conn.gone {
            let by = now.after_secs(LINGER);
            self.effects.push_back(Effect::Close { conn: ConnId::of(key), by });
        }
    }

    /// The transport is gone.
    pub(super) fn closed(&mut self, now: Instant, key: Key) {
        let Some(mut conn) = self.conns.take(key) else { return };
        let accepted = conn.session.is_some();
        let job = conn.waiting == Waiting::Job && !defect!("long_goodbye_lost");
        let waits = job || matches!(conn.waiting, Waiting::Peers(_));
        if waits && accepted && !conn.gone && !conn.closing {
            // What it sent before is handled first, as if it were still there. Who was not let in
            // yet never is: its client may be back already, and would be thrown out for it.
            conn.gone = true;
            self.conns.put(key, conn);
            return;
        }
        if !conn.closing {
            conn.closing = true;
            let why = match conn.waiting {
                Waiting::Last => DisconnectReason::QueueFull,
                _ => DisconnectReason::Transport,
            };
            self.ended(now, key, &mut conn, why);
        }
        self.held -= super::conn::FOOTPRINT + conn.charged;
        self.spare(core::mem::take(&mut conn.out));
        let gone = conn.gone;
        self.conns.forget(key, conn);
        if gone {
            self.has_left(key);
        }
    }

    /// Tells of the end of a connection, and detaches its session.
    fn ended(&mut self, now: Instant, key: Key, conn: &mut Conn, why: DisconnectReason) {
        self.rearm_conn(key, conn, Instant::NEVER);
        self.settle_address(conn);
        self.wait_no_more(conn);
        if let Some(Held::Publish(held)) = conn.held.take().map(|held| *held)
            && let Some((session, id)) = conn.session.zip(held.id)
        {
            // Not published: its repeat is not one.
            self.forget_inbound(session, id);
        }
        let session = conn.session.take();
        let client_id = session.and_then(|s| self.sessions.get(s)).map(|s| s.client_id.clone());
        match client_id {
            Some(_) => self.stats.disconnects_total += 1,
            None => self.stats.refused_total += 1,
        }
        let disconnected = Disconnected { conn: ConnId::of(key), client_id, why };
        self.event(Event::Disconnected(Box::new(disconnected)));
        if let Some(session) = session {
            self.detach(now, session);
        }
    }

    /// The session is without a connection: its will and its own end come due.
    /// `[MQTT-3.1.2-8]` `[MQTT-3.1.2-23]`
    fn detach(&mut self, now: Instant, key: Key) {
        self.mark_shared(key, false);
        self.forget_acks(key);
        self.unstage(key);
        self.stats.sessions_connected -= 1;
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.attached = Attached::Nothing;
        session.disconnected_at = Some(now);
        session.woken = false;
        if session.expiry == 0 {
            self.end_session(now, key, SessionEnd::Closed);
            return;
        }
        if defect!("will_forgotten") {
            self.forget_will(key);
            return self.arm_session(key);
        }
        match session.will.as_ref().map(|will| will.delay) {
            Some(_) if defect!("will_delay_ignored") => self.publish_will(now, key),
            Some(0) => self.publish_will(now, key),
            Some(delay) => session.will_at = now.after_secs(u64::from(delay)),
            None => {}
        }
        self.arm_session(key);
    }

    /// Throws a session away; a will that is still due is published. `[MQTT-4.1.0-2]`
    pub(super) fn end_session(&mut self, now: Instant, key: Key, why: SessionEnd) {
        self.unstage(key);
        let Some(mut session) = self.sessions.remove(key) else { return };
        self.timers.arm(Timer::Session(key), &mut session.armed, Instant::NEVER);
        if self.clients.get(&*session.client_id) == Some(&key.index) {
            self.clients.remove(&*session.client_id);
        }
        self.serials.remove(&session.serial);
        self.held -= session::FOOTPRINT + session.client_id.len() as u64;
        self.held -= len_of(session.username.as_deref());
        self.held -= session.inbound.awaiting() as u64 * session::HELD;
        let subscriptions = core::mem::take(&mut session.subscriptions);
        let shared = || subscriptions.iter().any(Subscription::is_shared);
        let under_way = match self.deliveries > 0 && shared() {
            true => self.take_group_copies(key),
            false => alloc::vec::Vec::new(),
        };
        let leaving = self.leaving(subscriptions.iter().map(|s| s.filter.clone()));
        self.forget_gates(now, session.pending.take());
        for subscription in subscriptions {
            self.forget_subscription(key, &subscription, false);
        }
        if why == SessionEnd::Expired {
            self.stats.sessions_expired_total += 1;
        }
        let mut lost = [0u32; 3];
        let in_flight: alloc::vec::Vec<_> = session.outbound.drain().collect();
        for (_, state, copy) in in_flight {
            let qos = state.qos();
            self.places -= 1;
            // [MQTT-4.8.2-5]: QoS 2 once sent goes to nobody else.
            match copy {
                // Released: the client has it.
                None => {}
                Some(copy) if qos == Qos::AtLeastOnce && self.passed_on(now, &copy, &leaving) => {}
                Some(_) => lost[qos as usize] += 1,
            }
        }
        while let Some(copy) = session.queue.pop(true, &mut self.pool) {
            self.places -= 1;
            self.stats.queued -= 1;
            if !self.passed_on(now, &copy, &leaving) {
                lost[copy.qos as usize] += 1;
            }
        }
        for copy in under_way {
            if !self.passed_on(now, &copy, &leaving) {
                lost[copy.qos as usize] += 1;
            }
        }
        let client_id = session.client_id.clone();
        for (qos, count) in (0..).zip(lost).filter(|(_, count)| *count > 0) {
            let qos = Qos::from_bits(qos).unwrap_or_default();
            self.dropped_event(client_id.clone(), qos, DropReason::SessionEnded, count);
        }
        if let Some(will) = session.will.take() {
            self.send_will(now, &client_id, *will, session.clocks);
        }
        self.event(Event::SessionEnded { client_id, why });
    }

    fn passed_on(
        &mut self,
        now: Instant,
        copy: &super::queue::Copy,
        leaving: &[super::peers::Leaving],
    ) -> bool {
        if copy.group == NO_GROUP || copy.message.is_expired(now) {
            return false;
        }
        if self.peers.is_some() {
            return self.pass_back(now, &copy.message, copy.group, leaving);
        }
        self.pass_on(now, copy)
    }

    fn publish_will(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.will_at = Instant::NEVER;
        let (client_id, clocks) = (session.client_id.clone(), session.clocks);
        if let Some(will) = session.will.take() {
            self.send_will(now, &client_id, *will, clocks);
        }
    }

    fn send_will(&mut self, now: Instant, client_id: &Arc<str>, will: Will, clocks: Clocks) {
        if self.parks(&clocks, will.body.topic(), will.retain) {
            self.park_will(client_id.clone(), will, &clocks);
            return;
        }
        self.publish_will_now(now, client_id, will);
    }

    /// [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    pub(super) fn publish_will_now(&mut self, now: Instant, client_id: &Arc<str>, will: Will) {
        self.held -= will.body.len() as u64;
        let body = will.body;
        let topic = body.topic();
        let draft = Draft {
            topic,
            qos: will.qos,
            retain: will.retain,
            empty: body.payload().is_empty(),
            plain: None,
            // From its publication on.
            expires: will.expiry.map_or(Instant::NEVER, |secs| now.after_secs(u64::from(secs))),
            publisher: Some(client_id),
            source: Source::Nobody,
            id: None,
            groups: true,
        };
        for _ in 0..1 + usize::from(defect!("will_twice")) {
            let published = self.publish(now, &draft, |_| body.clone());
            if !published.need.is_nothing() {
                self.note_will(client_id, &published.need);
            }
        }
        self.event(Event::WillPublished { client_id: client_id.clone() });
    }

    pub(super) fn forget_will(&mut self, key: Key) {
        if let Some(will) = self.sessions.get_mut(key).and_then(|session| session.will.take()) {
            self.held -= will.body.len() as u64;
        }
    }

    /// Shared groups prefer members that are connected.
    pub(super) fn mark_shared(&mut self, key: Key, connected: bool) {
        let Some(session) = self.sessions.get(key) else { return };
        // Sorted: all shared filters stand together.
        let start = session.subscriptions.partition_point(|s| &*s.filter < "$share/");
        let mut shared = alloc::vec::Vec::new();
        for subscription in &session.subscriptions[start..] {
            if !subscription.is_shared() {
                break;
            }
            shared.push(subscription.filter.clone());
        }
        for filter in shared {
            self.groups.set_connected(&filter, key.index, connected);
            self.share_changed(&filter);
        }
    }

    /// Takes a connection off the count of those not accepted.
    pub(super) fn settle_address(&mut self, conn: &mut Conn) {
        if !core::mem::take(&mut conn.unauthenticated) {
            return;
        }
        self.unauthenticated -= 1;
        if let Some(address) = conn.info.remote.map(|remote| remote.ip()) {
            match self.addresses.get_mut(&address) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    self.addresses.remove(&address);
                }
            }
        }
    }

    pub(super) fn arm_conn(&mut self, key: Key) {
        let Some(mut conn) = self.conns.take(key) else { return };
        let at = conn.machine.poll_timeout().unwrap_or(Instant::NEVER);
        self.rearm_conn(key, &mut conn, at);
        self.conns.put(key, conn);
    }

    /// Packets only move the deadline away, which the timer finds out when it fires.
    pub(super) fn rearm_conn(&mut self, key: Key, conn: &mut Conn, at: Instant) {
        self.timers.arm(Timer::Conn(key), &mut conn.armed, at);
    }

    pub(super) fn arm_session(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let at = session.will_at.min(session.expires_at());
        self.timers.arm(Timer::Session(key), &mut session.armed, at);
    }

    /// One deadline for the whole store, only ever moved forward: a message that is replaced
    /// leaves it early, which is harmless.
    pub(super) fn arm_retained(&mut self, earliest: Instant) {
        if let Some(at) = self.retained.next_expiry()
            && at < self.retained_armed
        {
            self.timers.arm(Timer::Retained, &mut self.retained_armed, at.max(earliest));
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        for _ in 0..TIMERS {
            let Some(timer) = self.timers.pop_due(now) else { break };
            match timer {
                Timer::Conn(key) => self.conn_timeout(now, key),
                Timer::Session(key) => self.session_timeout(now, key),
                Timer::Retained => {
                    self.retained_armed = Instant::NEVER;
                    self.retained.expire(now, TIMERS);
                    // What is left goes with the next call.
                    self.arm_retained(now + Duration::from_micros(1));
                }
                Timer::Pace => self.unpace(now),
                Timer::Credit => self.unpace_peers(),
                Timer::Shed => self.shed(now),
            }
        }
        self.work(now);
    }

    fn conn_timeout(&mut self, now: Instant, key: Key) {
        let Some(mut conn) = self.conns.take(key) else { return };
        conn.armed = Instant::NEVER;
        if conn.waiting == Waiting::Last {
            self.conns.put(key, conn);
            return self.disconnect(now, key, DisconnectReason::QueueFull);
        }
        let before = conn.out.len();
        match conn.machine.handle_timeout(now, &mut conn.out) {
            Some(failure) => {
                let kind = if conn.session.is_some() { 14 } else { 2 };
                self.stats.packets_sent[kind] += u64::from(conn.out.len() > before);
                self.shut(now, key, &mut conn, super::receive::reason_of(failure), None);
            }
            None => {
                let at = conn.machine.poll_timeout().unwrap_or(Instant::NEVER);
                self.rearm_conn(key, &mut conn, at);
            }
        }
        self.finish(now, key, &mut conn);
        self.put_back(key, conn);
    }

    fn session_timeout(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.armed = Instant::NEVER;
        self.session_due(now, key);
        self.arm_session(key);
    }

    /// Does what has come due for a session, whether its timer has fired or not.
    pub(super) fn session_due(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get(key) else { return };
        if session.will_at <= now {
            self.publish_will(now, key);
        }
        let Some(session) = self.sessions.get(key) else { return };
        if session.expires_at() <= now && !defect!("session_expiry_ignored") {
            self.end_session(now, key, SessionEnd::Expired);
        }
    }
}
