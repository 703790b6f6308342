//! Copies into session queues, and what gives way when one is full.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::fanout::Target;
use super::queue::Copy;
use super::session::Attached;
use super::slots::Key;
use super::{Broker, ConnId, DisconnectReason, DropReason, Effect, Event, QueueFull, SubscriberId};
use crate::codec::Qos;
use crate::time::Instant;

impl Broker {
    /// Puts a copy into a session's queue. The publisher never waits for it.
    pub(super) fn enqueue(&mut self, now: Instant, key: Key, copy: Copy) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if copy.qos == Qos::AtMostOnce && !session.is_attached() && !self.config.queue_qos0_messages
        {
            self.drop_copy(key, copy.qos, DropReason::Offline);
            return;
        }
        let max = session.queue_limit(self.config.max_msg_queue);
        let bytes = session.queue.bytes() + copy.message.footprint();
        if (session.queue.len() >= max as usize || bytes > self.config.max_msg_queue_bytes)
            && !self.make_room(now, key, &copy, max)
        {
            return;
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.queue.push(copy, &mut self.pool);
        let wake = !(defect!("wake_up_lost") && session.queue.len() == 3);
        self.places += 1;
        self.stats.queued += 1;
        if wake {
            self.wake(key);
        }
    }

    /// Expired messages go first, then the oldest of QoS 0, then what `queue_full` says. False if
    /// the new copy was dropped.
    fn make_room(&mut self, now: Instant, key: Key, copy: &Copy, max: u32) -> bool {
        let max_bytes = self.config.max_msg_queue_bytes;
        let footprint = copy.message.footprint();
        // Nothing that gives way could make room for it.
        if footprint > max_bytes {
            self.drop_copy(key, copy.qos, DropReason::QueueFull);
            return false;
        }
        self.unstage(key);
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let mut expired = Vec::new();
        session.queue.expire(now, &mut |copy| expired.push(copy));
        for copy in expired {
            self.unqueue(key, &copy, DropReason::Expired);
        }
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return false };
            if session.queue.len() < max as usize && session.queue.bytes() + footprint <= max_bytes
            {
                return true;
            }
            if let Some(oldest) = session.queue.pop_plain(&mut self.pool) {
                self.unqueue(key, &oldest, DropReason::QueueFull);
                continue;
            }
            let policy = self.config.queue_full;
            if copy.qos > Qos::AtMostOnce && policy == QueueFull::DropOldest {
                if let Some(oldest) = session.queue.pop_acked(&mut self.pool) {
                    self.unqueue(key, &oldest, DropReason::QueueFull);
                    continue;
                }
            } else if copy.qos > Qos::AtMostOnce
                && policy == QueueFull::Disconnect
                && let Attached::Conn(conn) = session.attached
            {
                self.doomed.push((conn, DisconnectReason::QueueFull));
            }
            self.drop_copy(key, copy.qos, DropReason::QueueFull);
            return false;
        }
    }

    /// A copy left the queue unsent.
    pub(super) fn unqueue(&mut self, key: Key, copy: &Copy, why: DropReason) {
        self.places -= 1;
        self.stats.queued -= 1;
        self.drop_copy(key, copy.qos, why);
    }

    /// There is no memory for the copies of a message: each session is told to have lost its own.
    pub(super) fn lose_copies(&mut self, qos: Qos, targets: &mut Vec<Target>) {
        for target in targets.drain(..) {
            self.drop_copy(target.session, target.qos.min(qos), DropReason::OutOfBudget);
        }
    }

    /// Counts the loss of a copy, and tells of it.
    pub(super) fn drop_copy(&mut self, key: Key, qos: Qos, why: DropReason) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if defect!("loss_not_counted") && why == DropReason::Expired {
            return;
        }
        session.dropped[qos as usize] += 1;
        // A session is told of once, however many it loses before the driver looks: otherwise one
        // call could make as many effects as messages times sessions.
        let at = session.told[qos as usize].wrapping_sub(self.taken);
        let waiting = usize::try_from(at).ok().and_then(|at| self.effects.get_mut(at));
        if let Some(Effect::Event(Event::Dropped { why: last, count, .. })) = waiting
            && *last == why
        {
            *count = count.saturating_add(1);
            self.count_dropped(qos, why, 1);
            return;
        }
        let client_id = session.client_id.clone();
        session.told[qos as usize] = self.taken + self.effects.len() as u64;
        self.count_dropped(qos, why, 1);
        self.event(Event::Dropped { client_id, qos, why, count: 1 });
    }

    pub(super) fn dropped_event(
        &mut self,
        client_id: Arc<str>,
        qos: Qos,
        why: DropReason,
        count: u32,
    ) {
        self.count_dropped(qos, why, count);
        // A client that loses many in a row is told of once.
        if let Some(Effect::Event(Event::Dropped {
            client_id: last,
            qos: last_qos,
            why: last_why,
            count: total,
        })) = self.effects.back_mut()
            && (&*last, *last_qos, *last_why) == (&client_id, qos, why)
        {
            *total = total.saturating_add(count);
            return;
        }
        self.event(Event::Dropped { client_id, qos, why, count });
    }

    pub(super) fn count_dropped(&mut self, qos: Qos, why: DropReason, count: u32) {
        self.stats.messages_dropped[why as usize] += u64::from(count);
        self.stats.dropped_by_qos[qos as usize] += u64::from(count);
    }

    /// Tells the driver, once, that the session has something to send.
    pub(super) fn wake(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.woken {
            return;
        }
        match session.attached {
            Attached::Nothing => return,
            Attached::Conn(conn) => match self.conns.get_mut(conn) {
                Some(conn) if conn.said => {}
                Some(entry) => {
                    entry.said = true;
                    self.effects.push_back(Effect::Transmit(ConnId::of(conn)));
                }
                // The one whose input is being handled: it is told at the end.
                None => self.wake_current = true,
            },
            Attached::Local(_) => {
                self.effects.push_back(Effect::Available(SubscriberId::of(key)));
            }
        }
        session.woken = true;
    }
}
