//! Which copies are lost, and whether there is reason for it.

use fulmar_core::Qos;
use fulmar_core::broker::DropReason;

use super::{Flying, Oracle};

impl Oracle {
    /// A loss was told of: about a publication that was refused or not retained, or about copies.
    pub(super) fn dropped(&mut self, client: &str, qos: Qos, why: DropReason, count: u32) {
        self.counts.dropped[why as usize] += u64::from(count);
        self.counts.dropped_by_qos[qos as usize] += u64::from(count);
        match why {
            DropReason::RetainedFull if self.many => {
                return self.told_unkept(client, qos, count);
            }
            DropReason::OutOfBudget if self.many => return self.told_short(client, qos, count),
            _ => {}
        }
        if self.many {
            self.judge_loss(client, qos, why, count);
            if why != DropReason::Refused {
                self.lost(client, count);
                self.told_copies(client, qos, why, count);
            }
            // A publisher is told of what was refused, and a client of its copies.
            if let Some(session) = self.sessions.get_mut(client)
                && why != DropReason::Refused
            {
                session.dropped[qos as usize] += u64::from(count);
            }
            if why == DropReason::TooLarge {
                self.cancel_flying(client, qos, count);
            }
            return;
        }
        if why == DropReason::RetainedFull {
            self.not_retained(client, count);
            return;
        }
        // A publication to a topic nobody may publish to: no copy was due.
        if why == DropReason::Refused {
            return;
        }
        let mut count = count;
        if why == DropReason::OutOfBudget {
            while count > 0
                && let Some(at) = self.refusals.iter().position(|r| (&*r.0, r.1) == (client, qos))
            {
                self.refusals.remove(at);
                count -= 1;
            }
            if count == 0 {
                return;
            }
        }
        let Some(session) = self.sessions.get_mut(client) else {
            self.fail("losses", format!("a loss of {client}, who has no session"));
            return;
        };
        session.lost[qos as usize] += u64::from(count);
        session.dropped[qos as usize] += u64::from(count);
        if why == DropReason::Offline {
            let waits = self.config.queue_qos0_messages || qos > Qos::AtMostOnce;
            let away = session.conn.is_none() && !waits;
            self.ensure(away, "losses", || format!("{client} is not offline"));
        }
        if why == DropReason::TooLarge {
            count -= self.cancel_flying(client, qos, count);
        }
        if count > 0 {
            self.drops.push((client.to_string(), qos, why, count));
        }
    }

    fn not_retained(&mut self, publisher: &str, count: u32) {
        let limited = self.retained.len() > self.config.max_retained as usize || self.is_tight();
        for _ in 0..count {
            match self.stored.iter().position(|(by, _)| by == publisher) {
                Some(at) => {
                    let (_, topic) = self.stored.remove(at);
                    if let Some(note) = self.retained.remove(&topic) {
                        self.excuse(&note);
                    }
                    self.ensure(limited, "losses", || format!("no need to drop {topic}"));
                }
                None => {
                    self.unstored.insert(publisher.to_string());
                }
            }
        }
    }

    /// What is in flight and larger than the client of today accepts is not sent again.
    /// Answers how many of `count` losses that explains.
    fn cancel_flying(&mut self, client: &str, qos: Qos, count: u32) -> u32 {
        let Some(session) = self.sessions.get_mut(client) else { return 0 };
        let Some(wire) = session.conn.and_then(|conn| self.wires.get(&conn)) else { return 0 };
        let max = wire.asked.as_ref().map_or(u32::MAX, |asked| asked.max_packet);
        let (version, now) = (wire.version, self.now);
        if self.many {
            // Whether it is one of these, or one that was not sent yet, is seen later.
            let large = |f: &&mut Flying| f.due.size(version, now, false) > max;
            let flying = session.flying.iter_mut().filter(|f| f.due.qos == qos && !f.here);
            flying.filter(large).for_each(|f| f.doubt = true);
            return 0;
        }
        for done in 0..count {
            let at = session.flying.iter().position(|f| {
                let large = f.due.size(version, now, false) > max;
                f.due.qos == qos && !f.here && !f.released && large
            });
            let Some(at) = at else { return done };
            let flying = session.flying.remove(at);
            session.lost[qos as usize] = session.lost[qos as usize].saturating_sub(1);
            // It may not have arrived the first time.
            if let Some(sent) = session.sent.get_mut(&(qos, flying.due.note.key)) {
                *sent -= 1;
            }
        }
        count
    }

    /// Whether the losses told of by this call, of one client or of all, are losses.
    pub(super) fn judge_drops(&mut self, only: Option<&str>) {
        let drops = std::mem::take(&mut self.drops);
        let all = drops.clone();
        for (client, qos, why, count) in drops {
            if only.is_some_and(|only| only != client) {
                self.drops.push((client, qos, why, count));
                continue;
            }
            let shared = self.shared_with(&client);
            let Some(session) = self.sessions.get(&client) else { continue };
            let open = session.open(qos) + shared;
            let lost = session.lost[qos as usize];
            // What was in flight is looked at when the session ends.
            if only.is_none() && lost > open {
                let what = format!("{client}: {lost} copies of {qos:?} lost, but {open} due");
                self.fail("losses", what);
            }
            let told =
                all.iter().filter(|drop| drop.0 == client).map(|drop| u64::from(drop.3)).sum();
            if let Some(doubt) = self.doubt(&client, qos, why, told) {
                self.fail("losses", format!("{client}: {count} of {qos:?} dropped, {doubt}"));
            }
        }
    }

    /// Why a loss is none, if so. `told` is how many of the client this call told of in all.
    fn doubt(&self, client: &str, qos: Qos, why: DropReason, told: u64) -> Option<&'static str> {
        let session = self.sessions.get(client)?;
        let mut due = session.due.iter().filter(|due| due.qos == qos);
        let mut shared = self.offers(client);
        let all = || session.due.iter().chain(self.offers(client));
        match why {
            DropReason::QueueFull => {
                let lost: u64 = session.lost.iter().sum();
                let bytes: u64 = all().map(|due| due.note.payload.len() as u64 + 300).sum();
                // The copy for which there was no room is among them.
                let waiting = (all().count() as u64 + told).saturating_sub(lost);
                let full = waiting > u64::from(self.config.max_msg_queue)
                    || bytes > self.config.max_msg_queue_bytes;
                (!full).then_some("but its queue has room")
            }
            DropReason::Expired => {
                let expired = due.any(|due| due.note.is_expired(self.now))
                    || shared.any(|due| due.note.is_expired(self.now));
                (!expired).then_some("but none has expired")
            }
            DropReason::TooLarge => {
                let wire = session.conn.and_then(|conn| self.wires.get(&conn))?;
                let max = wire.asked.as_ref().map_or(u32::MAX, |asked| asked.max_packet);
                let large = all().any(|due| due.size(wire.version, self.now, true) > max);
                (!large).then_some("but none is too large")
            }
            DropReason::OutOfBudget => (!self.pressed).then_some("but there is memory"),
            _ => None,
        }
    }
}
