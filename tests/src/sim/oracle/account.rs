//! Books at rest: everything is delivered or counted as lost, and the figures are right.

use fulmar_core::Qos;
use fulmar_core::broker::{ClientInfo, Stats};

use super::unread::Sums;
use super::{Oracle, Phase};

/// What the figures of the broker are compared with.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) opened: u64,
    pub(super) accepted: u64,
    pub(super) ended: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) packets_in: [u64; 16],
    pub(super) packets_out: [u64; 16],
    /// Answers whose connection ended before the driver took them.
    pub(super) answers_lost: [u64; 16],
    pub(super) messages_in: [u64; 3],
    /// What of that may have gone down unread.
    pub(super) unsure: Sums,
    pub(super) messages_out: [u64; 3],
    pub(super) dropped: [u64; fulmar_core::broker::DropReason::ALL.len()],
    pub(super) dropped_by_qos: [u64; 3],
}

/// Bytes that one connection may take beyond the budget: the last packet that was let in and its
/// copies, a part of the next, answers that wait.
pub(super) const BEYOND: u64 = 8 * 1024;

const ALL: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

impl Oracle {
    /// At any time between two calls: figures that do not depend on what is under way.
    pub(in super::super) fn check_stats(&mut self, stats: &Stats) {
        if self.many {
            self.check_sums(stats);
            return;
        }
        let connected = self.sessions.values().filter(|s| s.conn.is_some()).count() as u64;
        let subscriptions = self.sessions.values().map(|s| s.subscriptions.len() as u64).sum();
        let waiting = self.wires.values().filter(|wire| wire.unauthenticated).count() as u64;
        let counts = &self.counts;
        let pairs = [
            ("connections", stats.connections, self.wires.len() as u64),
            ("unauthenticated", stats.unauthenticated, waiting),
            ("sessions", stats.sessions, self.sessions.len() as u64),
            ("sessions connected", stats.sessions_connected, connected),
            ("subscriptions", stats.subscriptions, subscriptions),
            ("connects", stats.connects_total, counts.accepted),
            ("disconnects", stats.disconnects_total, counts.ended),
            ("refused", stats.refused_total, counts.refused),
            ("expired", stats.sessions_expired_total, counts.expired),
            ("bytes received", stats.bytes_received_total, counts.bytes_in),
            ("bytes sent", stats.bytes_sent_total, counts.bytes_out),
        ];
        let mut wrong =
            pairs.iter().find(|(_, told, known)| told != known).map(|p| format!("{p:?}"));
        let lists = [
            ("packets received", &stats.packets_received[..], &counts.packets_in[..]),
            ("messages received", &stats.messages_received[..], &counts.messages_in[..]),
            ("messages sent", &stats.messages_sent[..], &counts.messages_out[..]),
            ("dropped", &stats.messages_dropped[..], &counts.dropped[..]),
            ("dropped by QoS", &stats.dropped_by_qos[..], &counts.dropped_by_qos[..]),
        ];
        if wrong.is_none() {
            wrong = lists.iter().find(|(_, told, known)| told != known).map(|l| format!("{l:?}"));
        }
        let retained = self.retained.values();
        let alive = retained.filter(|note| !note.is_expired(self.now)).count() as u64;
        if stats.retained < alive || stats.retained > self.retained.len() as u64 {
            wrong = wrong.or(Some(format!("{} retained, not {alive}", stats.retained)));
        }
        if stats.used_bytes < stats.retained_bytes
            || stats.used_bytes > self.most_bytes()
            || stats.retained > u64::from(self.config.max_retained)
            || stats.sessions > u64::from(self.config.max_sessions)
            || stats.connections > u64::from(self.config.max_connections)
            || stats.unauthenticated > u64::from(self.config.max_unauthenticated)
        {
            wrong = wrong.or(Some(format!("{stats:?}")));
        }
        if let Some(wrong) = wrong {
            self.fail("figures", wrong);
        }
    }

    /// Bytes that may be charged: the budget, and what those who are connected may hold beyond it
    /// while it is used up.
    fn most_bytes(&self) -> u64 {
        self.config.shard_budget + BEYOND * (1 + self.wires.len() as u64)
    }

    /// Between two calls: limits of the queues, and how much waits in each.
    pub(in super::super) fn check_clients(
        &mut self,
        clients: &[ClientInfo],
        stats: &Stats,
        rest: bool,
    ) {
        if let Some(info) = clients.iter().find(|info| !self.is_within(info)) {
            self.fail("limits", format!("{info:?}"));
        }
        if self.many {
            self.check_listed(clients, stats, rest);
            return;
        }
        let queued: u64 = clients.iter().map(|info| u64::from(info.queued)).sum();
        self.ensure(queued == stats.queued, "figures", || format!("{queued} queued"));
        let known = clients.iter().all(|info| self.sessions.contains_key(&*info.client_id));
        let all = known && clients.len() == self.sessions.len();
        self.ensure(all, "figures", || format!("{} sessions listed", clients.len()));
        for info in clients {
            let client = &*info.client_id;
            let shared = self.shared_with(client);
            let Some(session) = self.sessions.get(client) else { continue };
            let lost: u64 = session.lost.iter().sum();
            let must = session
                .due
                .iter()
                .filter(|due| due.must && !matches!(due.cause, super::Cause::Retained(_)));
            let least = (must.count() as u64).saturating_sub(lost);
            let most = (session.due.len() as u64 + shared).saturating_sub(lost);
            let queued = u64::from(info.queued);
            let right = (least..=most).contains(&queued);
            let exact = info.in_flight as usize == session.flying.len()
                && info.await_rel as usize == session.held.len()
                && info.subscriptions as usize == session.subscriptions.len()
                && info.connected == session.conn.is_some()
                && info.session_expiry == session.expiry
                && info.disconnected_at == session.left
                && info.delivered == session.delivered
                && info.dropped == session.dropped;
            if !exact {
                self.fail("figures", format!("{info:?}, but {session:?}"));
            } else if !right {
                self.fail("losses", format!("{client}: {queued} queued, not {least} to {most}"));
            }
        }
    }

    fn is_within(&self, info: &ClientInfo) -> bool {
        info.queued <= self.config.max_msg_queue
            && info.queued_bytes <= self.config.max_msg_queue_bytes
            && info.in_flight <= u32::from(self.config.max_inflight)
            && info.subscriptions <= self.config.max_subscriptions
    }

    /// Sessions of several shards. What is in flight depends on what was read, which is known at
    /// rest.
    fn check_listed(&mut self, clients: &[ClientInfo], stats: &Stats, rest: bool) {
        let subscriptions: u64 = clients.iter().map(|info| u64::from(info.subscriptions)).sum();
        let queued: u64 = clients.iter().map(|info| u64::from(info.queued)).sum();
        let sum = subscriptions == stats.subscriptions
            && queued == stats.queued
            && clients.len() == self.sessions.len();
        self.ensure(sum, "figures", || format!("{clients:?}, {stats:?}"));
        for info in clients {
            let client = &*info.client_id;
            let right = self.sessions.get(client).is_some_and(|session| {
                let known = info.in_flight as usize == session.flying.len()
                    && info.await_rel as usize == session.held.len();
                let lost = (0..3).all(|qos| {
                    let least = session.dropped[qos];
                    (least..=least + session.short[qos]).contains(&info.dropped[qos])
                });
                self.filters(client).contains(&info.subscriptions)
                    && info.connected == session.conn.is_some()
                    && info.session_expiry == session.expiry
                    && info.disconnected_at == session.left
                    && info.delivered == session.delivered
                    && lost
                    && (known || !rest)
            });
            let session = self.sessions.get(client);
            let filters = self.filters(client);
            let what = format!("{info:?}, but {session:?}, {filters:?} subscriptions");
            self.ensure(right, "figures", || what);
        }
    }

    /// Nothing is under way: every copy is delivered or counted as lost, every exchange complete.
    pub(in super::super) fn check_rest(&mut self, stats: &Stats) {
        if self.many {
            self.settle_all_unread();
        }
        self.check_stats(stats);
        self.check_sent(stats);
        if self.many {
            self.settle_rest();
            self.sessions.values_mut().for_each(|session| session.give_up(|_| true));
            self.check_retained();
            self.check_arrived();
        }
        self.check_owed();
        self.check_exchanges();
        if !self.many {
            self.check_balance();
        }
        self.ensure(stats.queued == 0, "rest", || format!("{} are queued", stats.queued));
        // All that was acknowledged is read.
        self.sessions.values_mut().for_each(|session| session.late.clear());
    }

    /// Packets sent are those that came, and those whose connection ended before; of several
    /// shards what was owed then may not have been sent either. Of CONNACK and DISCONNECT it cannot
    /// be known whether they were lost.
    fn check_sent(&mut self, stats: &Stats) {
        let counts = &self.counts;
        let known = |kind: usize| {
            let most = counts.packets_out[kind] + counts.answers_lost[kind];
            let least = if self.many { counts.packets_out[kind] } else { most };
            least..=most
        };
        let right = |kind: &usize| known(*kind).contains(&stats.packets_sent[*kind]);
        if let Some(kind) = (3..14).find(|kind| !right(kind)) {
            let (told, known) = (stats.packets_sent[kind], known(kind));
            self.fail("figures", format!("packets of type {kind} sent: {told}, not {known:?}"));
        }
    }

    fn check_owed(&mut self) {
        let wires = self.wires.iter().filter(|(_, wire)| wire.phase != Phase::Over);
        let mut rude = wires.filter_map(|(conn, wire)| Some((conn, wire.must_end?)));
        if let Some(what) = rude.next().map(|(conn, rule)| format!("{conn:?} goes on: {rule}")) {
            self.fail("violations", what);
        }
        let owed = self.wires.iter().find(|(_, wire)| !wire.answers.is_empty());
        let owed = owed.map(|(conn, wire)| format!("{conn:?} is owed {:?}", wire.answers));
        if let Some(what) = owed {
            self.fail("answers", what);
        }
    }

    /// Of each shard at any time, one or several: what it has, and its limits.
    pub(in super::super) fn check_shard(&mut self, shard: usize, stats: &Stats) {
        let wires = || self.wires.values().filter(|wire| wire.shard == shard);
        let waiting = wires().filter(|wire| wire.unauthenticated).count() as u64;
        let home = |client: &str| usize::from(self.place.home(client)) == shard;
        let sessions = || self.sessions.iter().filter(|(client, _)| home(client));
        let connected = sessions().filter(|(_, session)| session.conn.is_some()).count() as u64;
        let pairs = [
            ("connections", stats.connections, wires().count() as u64),
            ("unauthenticated", stats.unauthenticated, waiting),
            ("sessions", stats.sessions, sessions().count() as u64),
            ("sessions connected", stats.sessions_connected, connected),
        ];
        let wrong = pairs.iter().find(|(_, told, known)| told != known).map(|p| format!("{p:?}"));
        let config = &self.config;
        let over = stats.connections > u64::from(config.max_connections)
            || stats.unauthenticated > u64::from(config.max_unauthenticated)
            || stats.sessions > u64::from(config.max_sessions);
        let over = over.then(|| format!("over a limit: {stats:?}"));
        if let Some(wrong) = wrong.or(over) {
            self.fail("figures", format!("shard {shard}: {wrong}"));
        }
    }

    /// Figures of several shards.
    fn check_sums(&mut self, stats: &Stats) {
        let connected = self.sessions.values().filter(|s| s.conn.is_some()).count() as u64;
        let counts = &self.counts;
        let pairs = [
            ("connections", stats.connections, self.wires.len() as u64),
            ("sessions", stats.sessions, self.sessions.len() as u64),
            ("sessions connected", stats.sessions_connected, connected),
            ("connects", stats.connects_total, counts.accepted),
            ("disconnects", stats.disconnects_total, counts.ended),
            ("refused", stats.refused_total, counts.refused),
            ("expired", stats.sessions_expired_total, counts.expired),
            ("bytes received", stats.bytes_received_total, counts.bytes_in),
            ("bytes sent", stats.bytes_sent_total, counts.bytes_out),
        ];
        let wrong = pairs.iter().find(|(_, told, known)| told != known).map(|p| format!("{p:?}"));
        let lists = [
            ("messages sent", &stats.messages_sent[..], &counts.messages_out[..]),
            ("dropped", &stats.messages_dropped[..], &counts.dropped[..]),
            ("dropped by QoS", &stats.dropped_by_qos[..], &counts.dropped_by_qos[..]),
        ];
        let list = lists.iter().find(|(_, told, known)| told != known).map(|l| format!("{l:?}"));
        let received = self.wrong_received(stats);
        if let Some(wrong) = wrong.or(list).or(received) {
            let wires: Vec<_> = self.wires.iter().map(|(c, w)| (c, w.phase, &w.client)).collect();
            let what = format!("{wrong} {wires:?}");
            self.fail("figures", what);
        }
    }

    fn check_exchanges(&mut self) {
        let mut found = None;
        for (client, session) in &self.sessions {
            if session.conn.is_none() {
                found = Some(("rest", format!("{client} is not connected")));
            }
            if !session.flying.is_empty() || !session.held.is_empty() {
                let what = format!("{client}: {:?} {:?}", session.flying, session.held);
                found = Some(("exchanges", what));
            }
            for ((qos, key), sent) in &session.sent {
                let seen = self.seen.get(&(client.clone(), *qos, *key)).copied().unwrap_or(0);
                if *key != 0 && seen < *sent {
                    found = Some(("at least once", format!("{client}: {key} {seen} of {sent}")));
                }
            }
        }
        if let Some((checker, what)) = found {
            self.fail(checker, what);
        }
    }

    /// Sets losses against copies that did not come.
    fn check_balance(&mut self) {
        let now = self.now;
        let (mut excess, mut may) = (0, 0);
        let mut found = None;
        for (client, session) in &mut self.sessions {
            for qos in ALL {
                let due = session.due.iter().filter(|due| due.qos == qos);
                let must = due.clone().filter(|due| due.is_must(now)).count() as u64;
                may += due.clone().count() as u64 - must;
                let lost = session.lost[qos as usize];
                if lost < must {
                    let first = due.clone().find(|due| due.is_must(now));
                    found = Some(format!("{client}: {must} due, {lost} counted: {first:?}"));
                }
                excess += lost.saturating_sub(must);
            }
            session.due.clear();
            session.lost = [0; 3];
        }
        self.settle_shared();
        let shared = || self.shared.iter().filter(|shared| shared.given.is_none());
        let least = shared().filter(|shared| shared.must).count() as u64;
        let shared = shared().count() as u64;
        if let Some(what) = found {
            self.fail("delivery", what);
        } else if excess < least {
            let first = self.shared.iter().find(|shared| shared.given.is_none() && shared.must);
            self.fail("delivery", format!("{least} of groups due, {excess} counted: {first:?}"));
        } else if excess > may + shared {
            self.fail("losses", format!("{excess} counted, at most {may} and {shared}"));
        }
        self.shared.clear();
    }

    /// Nothing is connected and no session is left: only retained messages take memory.
    pub(in super::super) fn check_empty(&mut self, stats: &Stats) {
        self.check_stats(stats);
        let left = stats.connections + stats.sessions + stats.subscriptions + stats.queued;
        self.ensure(left == 0, "rest", || format!("{stats:?}"));
        // Beside the messages themselves: their topics, and tables that are empty by now. What is
        // exact is the recount of the broker, which runs at the same moment.
        let (used, retained) = (stats.used_bytes, stats.retained_bytes);
        // Routes of several shards have tables of their own.
        let most = if self.many { u64::MAX } else { retained + stats.retained * 512 + 4096 };
        self.ensure(used <= most, "memory", || format!("{used} used, {retained} retained"));
        let known = self.many || stats.retained == self.retained.len() as u64;
        self.ensure(known, "figures", || format!("{} retained", stats.retained));
    }

    /// Topics of the retained messages.
    pub(in super::super) fn retained_topics(&self) -> Vec<String> {
        if self.many { self.topics() } else { self.retained.keys().cloned().collect() }
    }

    /// Clients with a session.
    pub(in super::super) fn clients(&self) -> Vec<String> {
        self.sessions.keys().cloned().collect()
    }
}
