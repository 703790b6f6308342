//! Acknowledgements that wait for other shards, in the order of what they acknowledge.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::super::acks::ack;
use super::super::conn::Waiting;
use super::super::receive::{Step, step};
use super::super::session::Attached;
use super::super::slots::Key;
use super::super::{Broker, DisconnectReason};
use super::gate::Waits;
use super::link::{Mark, Need, Waiter};
use super::{DELIVER, OWNER, Peers};
use crate::PacketId;
use crate::codec::{Packet, Qos, ReasonCode};
use crate::connection::Negotiated;
use crate::time::Instant;

/// Acknowledgements that the memory of an empty queue has room for.
const KEPT: usize = 64;

/// Empty ones that are kept for sessions that will wait: as many as are in a turn, mostly.
const SPARE: usize = 32;

/// Bytes charged for an acknowledgement that waits, beside those of a SUBACK.
const OWED: u64 = 64;

/// Acknowledgements owed to a client on its present connection: one order for each kind, so that
/// none waits for one of another kind. `[MQTT-4.6.0-2]` `[MQTT-4.6.0-3]`
#[derive(Debug, Default)]
pub(in crate::broker) struct Acks {
    /// PUBACK and PUBREC.
    publishes: [VecDeque<Publish>; 2],
    /// SUBACK and UNSUBACK.
    subs: VecDeque<Sub>,
    /// PINGRESP, so many, and what they wait for.
    pings: u32,
    marks: Vec<Mark>,
    /// PINGRESP for what came later: they wait for more. Otherwise a client that never stops
    /// sending would never get one.
    later: u32,
}

#[derive(Debug)]
struct Publish {
    id: PacketId,
    reason: ReasonCode,
    need: Need,
}

#[derive(Debug)]
struct Sub {
    /// Grows from one to the next over all sessions of the shard.
    number: u64,
    packet: Vec<u8>,
    kind: usize,
    /// Gates that are not open.
    gates: u32,
}

impl Acks {
    /// Bytes charged; 0 only if there are none.
    pub(in crate::broker) fn weight(&self) -> u64 {
        let publishes = self.publishes.iter().map(VecDeque::len).sum::<usize>();
        let subs = self.subs.iter().map(Sub::weight).sum::<u64>();
        (publishes + self.marks.len()) as u64 * OWED + subs
    }

    fn is_empty(&self) -> bool {
        let publishes = self.publishes.iter().all(VecDeque::is_empty);
        publishes && self.subs.is_empty() && self.pings == 0 && self.marks.is_empty()
    }

    /// Whether it has no memory but for a few.
    fn is_small(&self) -> bool {
        self.publishes.iter().all(|queue| queue.capacity() <= KEPT) && self.subs.capacity() <= KEPT
    }
}

impl Sub {
    fn weight(&self) -> u64 {
        OWED + self.packet.len() as u64
    }
}

impl Peers {
    /// What a session waits for, or an empty one for it.
    fn acks_of<'s>(&mut self, waiting: &'s mut Option<Box<Acks>>) -> &'s mut Acks {
        waiting.get_or_insert_with(|| self.spare_acks.pop().unwrap_or_default())
    }
}

fn kind_of(qos: Qos) -> usize {
    usize::from(qos == Qos::ExactlyOnce)
}

impl Broker {
    /// Has an acknowledgement wait; true if it need not.
    pub(in crate::broker) fn ack_now(
        &mut self,
        key: Key,
        qos: Qos,
        id: PacketId,
        reason: ReasonCode,
        need: Need,
    ) -> bool {
        let Some(peers) = &mut self.peers else { return true };
        let Some(session) = self.sessions.get_mut(key) else { return true };
        let behind = session.acks.as_ref().is_some_and(|a| !a.publishes[kind_of(qos)].is_empty());
        if !behind && (peers.is_met(&need) || defect!("ack_not_awaited")) {
            return true;
        }
        let acks = peers.acks_of(&mut session.acks);
        acks.publishes[kind_of(qos)].push_back(Publish { id, reason, need });
        self.held += OWED;
        peers.wait(&need, Waiter::Session(key));
        false
    }

    /// Whether PUBACK or PUBREC wait.
    pub(in crate::broker) fn owes_publish_acks(&self, key: Key) -> bool {
        let acks = self.sessions.get(key).and_then(|session| session.acks.as_ref());
        acks.is_some_and(|acks| acks.publishes.iter().any(|queue| !queue.is_empty()))
    }

    /// Whether PUBREC for a QoS 2 message waits, which then answers its repeat, too.
    pub(in crate::broker) fn awaits_pubrec(&self, key: Key, id: PacketId) -> bool {
        let acks = self.sessions.get(key).and_then(|session| session.acks.as_ref());
        acks.is_some_and(|acks| acks.publishes[1].iter().any(|ack| ack.id == id))
    }

    /// What a session sent to other shards and they have not taken; all of it went one way.
    pub(in crate::broker) fn under_way(&self, key: Key) -> Need {
        let Some(peers) = &self.peers else { return Need::default() };
        let Some(session) = self.sessions.get(key) else { return Need::default() };
        let lanes = [DELIVER, OWNER].into_iter();
        let mut needs = lanes.map(|lane| peers.all_of(&session.clocks, lane));
        needs.find(|need| !peers.is_met(need)).unwrap_or_default()
    }

    /// The number that the next SUBACK has if it waits.
    pub(in crate::broker) fn next_suback(&self) -> u64 {
        self.peers.as_ref().map_or(0, |peers| peers.next_suback)
    }

    /// Sends SUBACK or UNSUBACK, or has it wait for so many gates and for those before it.
    pub(in crate::broker) fn answer_sub(
        &mut self,
        key: Key,
        negotiated: &Negotiated,
        packet: &Packet<'_>,
        gates: u32,
        out: &mut Vec<u8>,
    ) -> Step {
        let pending = self.sessions.get(key).and_then(|session| session.acks.as_ref());
        if gates == 0 && pending.is_none_or(|acks| acks.subs.is_empty()) {
            return step(self.send(negotiated, packet, out));
        }
        let Some(session) = self.sessions.get_mut(key) else { return Step::Next };
        let Some(peers) = &mut self.peers else { return Step::Next };
        // Its gates name it, whether it can be sent or not.
        let number = peers.next_suback;
        peers.next_suback += 1;
        let mut bytes = Vec::new();
        if let Err(error) = negotiated.send(packet, &mut bytes) {
            return step(Err(error));
        }
        let kind = usize::from(packet.packet_type());
        let sub = Sub { number, packet: bytes, kind, gates };
        self.held += sub.weight();
        peers.acks_of(&mut session.acks).subs.push_back(sub);
        Step::Next
    }

    /// Answers PINGREQ. Whoever pings after a message of QoS 0 learns that it was taken: by this
    /// shard as by all others.
    pub(in crate::broker) fn answer_ping(
        &mut self,
        key: Key,
        negotiated: &Negotiated,
        out: &mut Vec<u8>,
    ) -> Step {
        if let Some(peers) = &mut self.peers
            && let Some(session) = self.sessions.get_mut(key)
        {
            if let Some(acks) = session.acks.as_mut().filter(|acks| acks.pings > 0) {
                acks.later = acks.later.saturating_add(1);
                return Step::Next;
            }
            let marks = peers.marks(&session.clocks);
            if !marks.is_empty() {
                let acks = peers.acks_of(&mut session.acks);
                peers.wait_marks(&marks, Waiter::Session(key));
                self.held += marks.len() as u64 * OWED;
                (acks.marks, acks.pings) = (marks, 1);
                return Step::Next;
            }
        }
        step(self.send(negotiated, &Packet::Pingresp, out))
    }

    fn pings_due(&mut self, key: Key) -> u32 {
        let Some(peers) = &mut self.peers else { return 0 };
        let Some(session) = self.sessions.get_mut(key) else { return 0 };
        let Some(acks) = &mut session.acks else { return 0 };
        if !peers.has_marks(&acks.marks) {
            return 0;
        }
        self.held -= acks.marks.len() as u64 * OWED;
        acks.marks = Vec::new();
        let due = core::mem::take(&mut acks.pings);
        let later = core::mem::take(&mut acks.later);
        if later > 0 {
            acks.marks = peers.marks(&session.clocks);
            if acks.marks.is_empty() {
                return due.saturating_add(later);
            }
            peers.wait_marks(&acks.marks, Waiter::Session(key));
            self.held += acks.marks.len() as u64 * OWED;
            acks.pings = later;
        }
        due
    }

    /// A gate has opened that someone waits for, so many times.
    pub(super) fn gate_opened(&mut self, now: Instant, waits: Waits, times: u32) {
        match waits {
            Waits::Reply(number) => {
                if let Some(peers) = &mut self.peers
                    && let Some(deferred) = peers.deferred.get_mut(&number)
                {
                    deferred.gates = deferred.gates.saturating_sub(times);
                    self.try_reply(number);
                }
            }
            Waits::Suback(key, number) => {
                if let Some(session) = self.sessions.get_mut(key)
                    && let Some(acks) = &mut session.acks
                    && let Ok(at) = acks.subs.binary_search_by_key(&number, |sub| sub.number)
                    && let Some(sub) = acks.subs.get_mut(at)
                {
                    sub.gates = sub.gates.saturating_sub(times);
                    self.release(now, key);
                }
            }
        }
    }

    /// Sends a client what need not wait any more.
    pub(super) fn release(&mut self, now: Instant, key: Key) {
        let Some(session) = self.sessions.get(key) else { return };
        let Attached::Conn(conn_key) = session.attached else { return };
        // The one that is being handled is released when that is done.
        let Some(mut conn) = self.conns.take(conn_key) else { return };
        self.lend_buffer(&mut conn);
        let negotiated = conn.machine.negotiated();
        while let Some((qos, id, reason)) = self.next_publish_ack(key) {
            let packet = match qos {
                Qos::ExactlyOnce => Packet::Pubrec(ack(id, reason)),
                _ => Packet::Puback(ack(id, reason)),
            };
            if self.send(&negotiated, &packet, &mut conn.out).is_err() {
                self.doomed.push((conn_key, DisconnectReason::SlowConsumer));
                break;
            }
        }
        while let Some(sub) = self.next_sub_ack(key) {
            conn.out.extend_from_slice(&sub.packet);
            self.stats.packets_sent[sub.kind] += 1;
        }
        for _ in 0..self.pings_due(key) {
            let _ = self.send(&negotiated, &Packet::Pingresp, &mut conn.out);
        }
        self.tidy_acks(key);
        if conn.waiting == Waiting::Last && !self.owes_publish_acks(key) {
            let reason = Some(ReasonCode::QuotaExceeded);
            self.shut(now, conn_key, &mut conn, DisconnectReason::QueueFull, reason);
        }
        self.finish(now, conn_key, &mut conn);
        self.put_back(conn_key, conn);
    }

    fn next_publish_ack(&mut self, key: Key) -> Option<(Qos, PacketId, ReasonCode)> {
        let peers = self.peers.as_ref()?;
        let session = self.sessions.get_mut(key)?;
        let acks = session.acks.as_mut()?;
        for (qos, queue) in
            [Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().zip(&mut acks.publishes)
        {
            if queue.front().is_some_and(|ack| peers.is_met(&ack.need)) {
                let ack = queue.pop_front()?;
                if qos == Qos::AtLeastOnce {
                    session.inbound.puback_sent();
                }
                self.held -= OWED;
                return Some((qos, ack.id, ack.reason));
            }
        }
        None
    }

    fn next_sub_ack(&mut self, key: Key) -> Option<Sub> {
        let acks = self.sessions.get_mut(key)?.acks.as_mut()?;
        if acks.subs.front()?.gates > 0 {
            return None;
        }
        let sub = acks.subs.pop_front()?;
        self.held -= sub.weight();
        Some(sub)
    }

    /// Sends SUBACKs whose gates opened while their connection was handled.
    pub(in crate::broker) fn release_subs(&mut self, now: Instant, conn: Key) {
        if self.peers.is_none() {
            return;
        }
        let Some(key) = self.conns.get(conn).and_then(|conn| conn.session) else { return };
        let acks = self.sessions.get(key).and_then(|session| session.acks.as_ref());
        if acks.and_then(|acks| acks.subs.front()).is_some_and(|sub| sub.gates == 0) {
            self.release(now, key);
        }
    }

    /// The connection is gone: nobody waits for its acknowledgements.
    pub(in crate::broker) fn forget_acks(&mut self, key: Key) {
        let Some(acks) = self.sessions.get_mut(key).and_then(|s| s.acks.as_mut()) else { return };
        self.held -= acks.weight();
        **acks = Acks::default();
        self.tidy_acks(key);
    }

    /// A session that waits for nothing has no memory for it.
    fn tidy_acks(&mut self, key: Key) {
        if let Some(peers) = &mut self.peers
            && let Some(session) = self.sessions.get_mut(key)
            && let Some(acks) = session.acks.take_if(|acks| acks.is_empty())
            && acks.is_small()
            && peers.spare_acks.len() < SPARE
        {
            peers.spare_acks.push(acks);
        }
    }
}
