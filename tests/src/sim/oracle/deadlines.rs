//! Everything comes when it is due: ends of connections and sessions, wills, timeouts.

use fulmar_core::Instant;

use super::{Call, Oracle, Phase, Session, Wire};

impl Oracle {
    /// What must have happened by the end of a call.
    pub(super) fn check_ends(&mut self) {
        let now = self.now;
        let fired = self.call == Call::Timeout;
        let mut found = None;
        for (conn, wire) in &self.wires {
            // What waits for other shards is read later.
            if wire.phase != Phase::Over
                && !(self.many && wire.suspended)
                && let Some(rule) = wire.must_end
            {
                found = Some(("violations", format!("{conn:?} goes on after: {rule}")));
            }
            if fired && wire.deadline(self).is_some_and(|at| at <= now) {
                let kind = if wire.phase == Phase::Open { "keep alive" } else { "connect timeout" };
                found = Some((kind, format!("{conn:?} goes on")));
            }
        }
        for (client, session) in &self.sessions {
            let late = |at: Option<Instant>| at.is_some_and(|at| fired && at <= now);
            if session.conn.is_some() {
                continue;
            }
            // A will that is due may wait for other shards.
            if !self.many
                && (late(session.will_at())
                    || session.will.is_some() && session.will_at() == session.left)
            {
                found = Some(("wills", format!("{client}: its will is due")));
            }
            if late(session.end()) || session.expiry == 0 {
                found = Some(("session end", format!("{client}: its session is due to end")));
            }
        }
        if let Some((checker, what)) = found {
            self.fail(checker, what);
        }
    }

    /// The broker wants to be called by the time the first of these is due.
    pub(super) fn check_deadlines(&mut self, next: Option<Instant>) {
        let many = self.many;
        let conns = self.wires.values().filter_map(|wire| wire.deadline(self));
        let sessions = self.sessions.values().filter(|session| session.conn.is_none());
        let now = self.now;
        // One that is due may wait for other shards.
        let will_at = |session: &Session| session.will_at().filter(|at| !many || *at > now);
        let sessions = sessions.flat_map(|session| [will_at(session), session.end()]);
        let sessions = sessions.flatten();
        let retained = self.retained.values().filter_map(|note| note.expires);
        let Some(first) = conns.chain(sessions).chain(retained).min() else { return };
        let said = next.is_some_and(|next| next <= first);
        self.ensure(said, "timeouts", || format!("{next:?}, but {first:?} is due"));
    }

    /// A timeout was handled: retained messages that have expired are gone.
    pub(in super::super) fn expire_retained(&mut self) {
        let now = self.now;
        self.retained.retain(|_, note| !note.is_expired(now));
    }
}

impl Wire {
    /// When it ends if nothing comes.
    fn deadline(&self, oracle: &Oracle) -> Option<Instant> {
        match self.phase {
            _ if self.gone => None,
            Phase::Fresh | Phase::Deciding => Some(self.heard + oracle.config.connect_timeout),
            Phase::Open => self.keep_alive_end(),
            Phase::Over => None,
        }
    }

    /// One and a half times the keep alive after the last word. `[MQTT-3.1.2-22]`
    pub(super) fn keep_alive_end(&self) -> Option<Instant> {
        let stands = self.phase != Phase::Open || self.suspended || self.keep_alive == 0;
        let micros = u64::from(self.keep_alive) * 1_500_000;
        (!stands).then(|| Instant::from_micros(self.heard.as_micros() + micros))
    }
}
