//! The accounts of a broker against a count of all it has, for fuzzing and simulation.

use alloc::vec::Vec;

use super::conn::{self, Conn};
use super::fanout::GROUP;
use super::jobs::{Delivery, Job};
use super::session::{self, Attached, Session, Subscription};
use super::slots::Key;
use super::{Broker, ConnId};
use crate::topic::split_share;

impl Broker {
    /// Compares accounts with a recount, and looks for what waits without anybody to wake it. For
    /// a moment when all effects have been polled. Takes time in proportion to all there is.
    ///
    /// # Panics
    /// If something is not as it must be.
    pub fn check(&self) {
        let conns: Vec<(Key, &Conn)> =
            self.conns.keys().filter_map(|key| Some((key, self.conns.get(key)?))).collect();
        let sessions: Vec<(Key, &Session)> =
            self.sessions.keys().filter_map(|key| Some((key, self.sessions.get(key)?))).collect();
        assert_eq!(conns.len(), self.conns.len());
        assert_eq!(sessions.len(), self.sessions.len());
        self.check_accounts(&conns, &sessions);
        conns.iter().for_each(|(key, conn)| self.check_conn(*key, conn));
        sessions.iter().for_each(|(key, session)| self.check_session(*key, session));
        if let Some(peers) = &self.peers {
            assert_eq!(peers.mistaken_link(), None, "shard and lane of a link");
            assert_eq!(peers.mistaken_wait(&conns), None, "a connection that waits, or not");
        }
        assert!(self.doomed.is_empty() && !self.wake_current);
    }

    fn check_accounts(&self, conns: &[(Key, &Conn)], sessions: &[(Key, &Session)]) {
        let mut held = 0;
        for (_, conn) in conns {
            assert_eq!(conn.charged, conn.footprint(), "bytes of a connection");
            held += conn::FOOTPRINT + conn.charged;
        }
        for (_, session) in sessions {
            held += session::FOOTPRINT + session.client_id.len() as u64;
            held += session.username.as_ref().map_or(0, |name| name.len() as u64);
            held += session.inbound.awaiting() as u64 * session::HELD;
            held += session.acks.as_ref().map_or(0, |acks| acks.weight());
            assert!(
                session.acks.as_ref().is_none_or(|acks| acks.weight() > 0),
                "memory for nothing"
            );
            held += session.queue.staged().weight();
            held += session.will.as_ref().map_or(0, |will| will.body.len() as u64);
            let filters = session.subscriptions.iter().map(|s| Subscription::cost(&s.filter));
            held += filters.sum::<u64>();
        }
        for job in &self.jobs {
            held += job.delivery().map_or(0, Delivery::footprint);
        }
        held += self.peers.as_ref().map_or(0, |peers| peers.parked_bytes());
        assert_eq!(self.held, held, "bytes held");
        let deliveries = self.jobs.iter().filter_map(Job::delivery).count();
        assert_eq!(self.deliveries, deliveries, "deliveries");
        let queued: usize = sessions.iter().map(|(_, s)| s.queue.len()).sum();
        let flying: usize = sessions.iter().map(|(_, s)| s.outbound.in_flight()).sum();
        assert_eq!(self.stats.queued, queued as u64, "messages queued");
        assert_eq!(self.places, (queued + flying) as u64, "places");
        let subscriptions: usize = sessions.iter().map(|(_, s)| s.subscriptions.len()).sum();
        assert_eq!(self.stats.subscriptions, subscriptions as u64, "subscriptions");
        let attached = |s: &Session| matches!(s.attached, Attached::Conn(_));
        let connected = sessions.iter().filter(|(_, s)| attached(s)).count();
        assert_eq!(self.stats.sessions_connected, connected as u64, "sessions connected");
        let unknown = conns.iter().filter(|(_, conn)| conn.unauthenticated).count();
        assert_eq!(self.unauthenticated as usize, unknown, "unauthenticated");
        assert_eq!(self.serials.len(), sessions.len(), "serial numbers");
        // What was given to the driver is held until it is written.
        let lent = conns.iter().any(|(_, conn)| !conn.lent.is_empty());
        if sessions.is_empty() && self.retained.is_empty() && self.jobs.is_empty() && !lent {
            assert_eq!(self.messages.bytes(), 0, "bytes of messages");
            assert_eq!(self.retained.footprint(), 0, "bytes of retained messages");
        }
    }

    fn check_conn(&self, key: Key, conn: &Conn) {
        let id = ConnId::of(key);
        assert!(conn.out.is_empty() || conn.said, "{id:?} has bytes that nobody asks for");
        if let Some(session) = conn.session {
            assert!(!conn.closing && !conn.unauthenticated);
            let attached = self.sessions.get(session).map(|session| session.attached);
            assert_eq!(attached, Some(Attached::Conn(key)), "{id:?} and its session");
        }
    }

    fn check_session(&self, key: Key, session: &Session) {
        let name = &session.client_id;
        let staged = session.queue.staged().count() > 0;
        assert!(!staged || session.is_attached(), "{name} is offline, and messages are staged");
        let waits = staged || session.queue.front(session.outbound.room()).is_some();
        match session.attached {
            Attached::Conn(conn) => {
                assert_eq!(self.clients.get(&**name), Some(&key.index));
                let conn = self.conns.get(conn).expect("a session has a connection that exists");
                assert!(!waits || conn.said, "a message for {name} waits for ever");
            }
            Attached::Local(_) => assert!(!waits || session.woken, "a message for {name} waits"),
            Attached::Nothing => assert_eq!(self.clients.get(&**name), Some(&key.index)),
        }
        let walks = |job: &&Job| matches!(job, Job::Walk(walker) if *walker == key);
        let jobs = self.jobs.iter().filter(walks).count();
        assert_eq!(jobs, usize::from(session.walking), "walks of {name}");
        let idle = session.queue.is_empty() && session.outbound.in_flight() == 0;
        if session.is_attached() && !session.walks.is_empty() && !session.walking {
            // For answers, or until a gate opens.
            let shut = session.pending.as_ref().is_some_and(|p| p.kept() + p.held().0 > 0);
            assert!(!idle || session.woken || shut, "a walk of {name} waits for ever");
        }
        if let Some(peers) = &self.peers {
            let pending = session.pending.as_ref();
            let held = pending.map_or((0, 0), |pending| pending.held());
            assert_eq!(held, peers.held_for(key), "copies behind the gates of {name}");
            let kept = pending.map_or(0, |pending| pending.kept());
            assert_eq!(kept, peers.kept_for(key), "places kept in the queue of {name}");
        }
        self.check_subscriptions(key, session);
    }

    fn check_subscriptions(&self, key: Key, session: &Session) {
        assert!(session.subscriptions.is_sorted_by(|a, b| a.filter < b.filter));
        for subscription in &session.subscriptions {
            let filter = &*subscription.filter;
            match split_share(filter) {
                Ok(Some((_, inner))) => {
                    let named = |group: &u32| self.groups.name(*group) == Some(filter);
                    let group = (0..4096).find(named).expect("a group for each shared filter");
                    let mut members = self.groups.members(group);
                    assert!(members.any(|member| member.session == key.index), "{filter}");
                    assert_eq!(self.index.get(inner, group | GROUP), Some(0), "{filter}");
                }
                _ => {
                    let value = self.index.get(filter, key.index);
                    let stands = !self.is_early(key, filter);
                    assert_eq!(value, stands.then_some(subscription.options.0), "{filter}");
                }
            }
        }
    }
}
