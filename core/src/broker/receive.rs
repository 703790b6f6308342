//! Bytes in: packets, one after the other, and what holds them up.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::calls::Call;
use super::conn::{Conn, Undecided, Waiting};
use super::peers::{Held, Until};
use super::publish::Incoming;
use super::slots::Key;
use super::{AuthRequest, Broker, ConnId, DisconnectReason, Effect, Input};
use crate::codec::{Packet, ReasonCode};
use crate::connection::server::{Failure, Received};
use crate::connection::{Negotiated, SendError};
use crate::time::Instant;

/// How a connection goes on after a packet.
pub(super) enum Step {
    /// With the next one.
    Next,
    /// When its fan-out job is done.
    Job,
    /// When other shards are further, as far as said.
    Wait(Until, Box<Held>),
    /// Not here: at the shard that has the session. With the CONNECT as bytes.
    HandOver(u16, Vec<u8>),
    /// When the driver has decided about it.
    Decide(Option<Box<Undecided>>, Box<AuthRequest>),
    /// Not: CONNACK with this reason.
    Refuse(ReasonCode),
    /// Not: DISCONNECT with this reason, if one is due.
    Close(DisconnectReason, Option<ReasonCode>),
}

const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;

/// Bytes a spare buffer may hold, and how many are kept: 256 KiB in all.
const SPARE: (usize, usize) = (4 * 1024, 64);

impl Broker {
    pub(super) fn receive(&mut self, now: Instant, key: Key, bytes: &[u8]) {
        let Some(mut conn) = self.conns.take(key) else { return };
        self.stats.bytes_received_total += bytes.len() as u64;
        if conn.closing || conn.waiting == Waiting::Last {
            // Too late.
        } else if conn.waiting != Waiting::Nothing {
            // The driver had read before it was told not to.
            conn.unread.extend_from_slice(bytes);
            self.charge(&mut conn);
        } else {
            self.go_on(now, key, &mut conn, Step::Next, bytes);
        }
        self.put_back(key, conn);
        self.release_subs(now, key);
    }

    /// Memory for more of a large packet that is under way on a connection: instead of handing
    /// bytes over with [`Input::Received`], a driver may append them here, at most up to the
    /// capacity, and say so with [`Broker::filled`] at once. They become the message without being
    /// copied. `None` where they are to be handed over.
    ///
    /// The memory is charged, and in proportion to what has arrived. Harmless at any time.
    pub fn recv_buf(&mut self, conn: ConnId) -> Option<&mut Vec<u8>> {
        let conn = self.conns.get_mut(conn.key())?;
        if conn.closing || conn.waiting != Waiting::Nothing {
            return None;
        }
        conn.machine.recv_buf()
    }

    /// Of the packet that is under way on a connection, its size in bytes as its header tells, and
    /// how many of them are missing; `None` if there is none or its header is not there yet.
    /// Harmless at any time.
    #[must_use]
    pub fn expected(&self, conn: ConnId) -> Option<(usize, usize)> {
        self.conns.get(conn.key())?.machine.expected()
    }

    /// `len` bytes that came on the connection were appended to what [`Broker::recv_buf`] gave. It
    /// is as if they were [`Input::Received`].
    pub fn filled(&mut self, now: Instant, conn: ConnId, len: usize) {
        let key = conn.key();
        if let Some(recorder) = &mut self.recorder
            && let Some(entry) = self.conns.get(key)
        {
            let bytes = entry.machine.last(len);
            recorder.call(now, &Call::Handle(Input::Received { conn, bytes }));
        }
        let Some(mut conn) = self.conns.take(key) else { return };
        if self.is_held_up(&conn, &[]) {
            let bytes = conn.machine.take_last(len);
            self.conns.put(key, conn);
            self.receive(now, key, &bytes);
        } else {
            conn.machine.filled(now);
            self.took(now, key, conn, len);
        }
        self.after_input(now);
    }

    /// [`Input::Received`] with the memory the bytes lie in, for a driver that expects one more
    /// packet as large as the last one and has read into memory of just that capacity: it becomes
    /// the message, without being copied. Any other memory is given back as the error, and nothing
    /// has happened.
    ///
    /// # Errors
    /// The memory, if its bytes are to be handed over as always.
    pub fn give(&mut self, now: Instant, id: ConnId, memory: Vec<u8>) -> Result<(), Vec<u8>> {
        let (key, len) = (id.key(), memory.len());
        let Some(mut conn) = self.conns.take(key) else { return Err(memory) };
        let adopted = match self.is_held_up(&conn, &memory) {
            true => Err(memory),
            false => conn.machine.adopt(now, memory),
        };
        if adopted.is_err() {
            self.conns.put(key, conn);
            return adopted;
        }
        if let Some(recorder) = &mut self.recorder {
            let bytes = conn.machine.last(len);
            recorder.call(now, &Call::Handle(Input::Received { conn: id, bytes }));
        }
        self.took(now, key, conn, len);
        self.after_input(now);
        Ok(())
    }

    /// Whether the next packet of a connection, of which `input` may be more, must not be handled
    /// now.
    fn is_held_up(&self, conn: &Conn, input: &[u8]) -> bool {
        conn.closing || conn.waiting != Waiting::Nothing || self.must_wait_to_subscribe(conn, input)
    }

    /// Whether the next packet is about subscriptions, and other shards have yet to confirm enough
    /// of these. All else goes on: one client that subscribes to much holds up no publisher.
    fn must_wait_to_subscribe(&self, conn: &Conn, input: &[u8]) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.window_is_full())
            && matches!(conn.machine.upcoming(input), Some(SUBSCRIBE | UNSUBSCRIBE))
    }

    /// Goes on where bytes came into a connection's own memory.
    fn took(&mut self, now: Instant, key: Key, mut conn: Box<Conn>, len: usize) {
        self.stats.bytes_received_total += len as u64;
        self.go_on(now, key, &mut conn, Step::Next, &[]);
        self.put_back(key, conn);
        self.release_subs(now, key);
    }

    /// Brings what a connection is charged with up to date.
    pub(super) fn charge(&mut self, conn: &mut Conn) {
        let charged = conn.footprint();
        self.held = self.held + charged - conn.charged;
        conn.charged = charged;
    }

    /// Goes on with what waited.
    pub(super) fn resume(&mut self, now: Instant, key: Key) {
        let Some(mut conn) = self.conns.take(key) else { return };
        if conn.waiting == Waiting::Last {
            return self.conns.put(key, conn);
        }
        conn.waiting = Waiting::Nothing;
        let unread = core::mem::take(&mut conn.unread);
        if !conn.closing {
            self.go_on(now, key, &mut conn, Step::Next, &unread);
        }
        self.after_wait(now, key, conn);
    }

    /// Gives a connection back that has waited. Of one whose transport went meanwhile all is
    /// handled, unless it waits again; for a decision or another shard it does not, since nobody
    /// needs that.
    pub(super) fn after_wait(&mut self, now: Instant, key: Key, conn: Box<Conn>) {
        let waits = matches!(conn.waiting, Waiting::Peers(_) | Waiting::Job);
        let over = conn.gone && !conn.closing && !waits;
        self.put_back(key, conn);
        self.release_subs(now, key);
        if over {
            self.closed(now, key);
        }
    }

    /// Takes the step that is left of the packet before, and then one packet after the other.
    pub(super) fn go_on(
        &mut self,
        now: Instant,
        key: Key,
        conn: &mut Conn,
        first: Step,
        bytes: &[u8],
    ) {
        self.lend_buffer(conn);
        let mut input = bytes;
        let mut step = first;
        while self.take_step(now, key, conn, step) {
            if !input.is_empty() && self.must_wait_to_subscribe(conn, input) {
                self.wait_until(key, conn, Until::Window, None);
                break;
            }
            let negotiated = conn.machine.negotiated();
            let Some(received) = conn.machine.next(now, &mut input, &mut conn.out) else { break };
            step = self.packet(now, key, conn.session, &negotiated, received, &mut conn.out);
        }
        // One that waits for a long delivery holds its packet no more, however that came.
        conn.machine.release();
        let lost = defect!("hand_over_loses_the_rest") && conn.waiting == Waiting::HandOver;
        if conn.waiting != Waiting::Nothing && !conn.closing && !lost {
            conn.unread.extend_from_slice(input);
        }
        self.finish(now, key, conn);
    }

    /// Gives a connection memory to write into, which an idle one has not.
    pub(super) fn lend_buffer(&mut self, conn: &mut Conn) {
        if conn.out.capacity() == 0 {
            conn.out = self.buffers.pop().unwrap_or_default();
        }
    }

    /// Does what a packet led to; false if no other one is to be read now.
    #[inline]
    fn take_step(&mut self, now: Instant, key: Key, conn: &mut Conn, step: Step) -> bool {
        match step {
            Step::Next => return !conn.closing && conn.waiting == Waiting::Nothing,
            Step::Job => conn.waiting = Waiting::Job,
            Step::Wait(until, held) => self.wait_until(key, conn, until, Some(held)),
            Step::HandOver(to, connect) => {
                conn.waiting = Waiting::HandOver;
                conn.unread = connect;
                self.effects.push_back(Effect::Handover { conn: ConnId::of(key), to });
            }
            Step::Decide(undecided, mut request) => {
                // AUTH brings none: that of CONNECT stays.
                conn.undecided = undecided.or(conn.undecided.take());
                if let Some(undecided) = &conn.undecided {
                    request.client_id.clone_from(&undecided.client_id);
                }
                conn.waiting = Waiting::Verdict;
                let conn = ConnId::of(key);
                self.effects.push_back(Effect::Authenticate { conn, request });
            }
            Step::Refuse(reason) => self.refuse(now, key, conn, reason),
            Step::Close(why, reason) => self.shut(now, key, conn, why, reason),
        }
        false
    }

    /// Gives a connection back that was taken from the table; one whose transport is gone, too,
    /// leaves it.
    pub(super) fn put_back(&mut self, key: Key, mut conn: Box<Conn>) {
        if conn.gone && conn.closing {
            self.held -= super::conn::FOOTPRINT + conn.charged;
            self.spare(core::mem::take(&mut conn.out));
            self.conns.forget(key, conn);
            self.has_left(key);
            return;
        }
        self.conns.put(key, conn);
    }

    /// What every handling of a connection ends with: limits, accounts, memory, effects.
    pub(super) fn finish(&mut self, now: Instant, key: Key, conn: &mut Conn) {
        if conn.out.len() > self.config.max_outbound_bytes as usize && !conn.closing {
            let reason = Some(ReasonCode::QuotaExceeded);
            self.shut(now, key, conn, DisconnectReason::SlowConsumer, reason);
        }
        if !conn.closing && self.is_too_much(conn) {
            let reason = Some(ReasonCode::QuotaExceeded);
            self.shut(now, key, conn, DisconnectReason::OutOfBudget, reason);
        }
        if conn.out.is_empty() {
            self.spare(core::mem::take(&mut conn.out));
        }
        if !conn.said && (!conn.out.is_empty() || self.wake_current) {
            conn.said = true;
            // Where the transport is gone, nobody pulls.
            if !conn.gone {
                self.effects.push_back(Effect::Transmit(ConnId::of(key)));
            }
        }
        self.wake_current = false;
        self.charge(conn);
        if !conn.closing {
            self.pace(now, key, conn);
            self.set_reading(now, key, conn);
        }
    }

    /// Keeps a buffer for the next connection that needs one.
    pub(super) fn spare(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE.0 && self.buffers.len() < SPARE.1 {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    pub(super) fn set_reading(&mut self, now: Instant, key: Key, conn: &mut Conn) {
        let on = conn.waiting == Waiting::Nothing && !conn.paced;
        if on != conn.reading {
            conn.reading = on;
            conn.machine.suspend(now, !on);
            self.effects.push_back(Effect::Reading { conn: ConnId::of(key), on });
            let at = conn.machine.poll_timeout().unwrap_or(Instant::NEVER);
            self.rearm_conn(key, conn, at);
        }
    }

    /// Appends a packet for the client, and counts it.
    pub(super) fn send(
        &mut self,
        negotiated: &Negotiated,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        negotiated.send(packet, out)?;
        self.stats.packets_sent[usize::from(packet.packet_type())] += 1;
        Ok(())
    }

    fn packet(
        &mut self,
        now: Instant,
        key: Key,
        session: Option<Key>,
        negotiated: &Negotiated,
        received: Received<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let count = |broker: &mut Self, kind: usize| broker.stats.packets_received[kind] += 1;
        match received {
            Received::Connect(connect) => {
                count(self, 1);
                return self.connect(&connect);
            }
            Received::Auth(auth) => {
                count(self, 15);
                return self.auth(session, negotiated, &auth);
            }
            Received::Failed(failure) => return Step::Close(reason_of(failure), None),
            _ => {}
        }
        let Some(session) = session else {
            // Only DISCONNECT is left while enhanced authentication is under way.
            return Step::Close(DisconnectReason::Client(ReasonCode::Success), None);
        };
        match received {
            Received::Publish(publish, memory) => {
                count(self, 3);
                let publish = Incoming { publish, memory };
                self.publish_in(now, key, session, negotiated, &publish, out)
            }
            Received::Puback(ack) => {
                count(self, 4);
                self.puback(session, negotiated, &ack)
            }
            Received::Pubrec(ack) => {
                count(self, 5);
                self.pubrec(session, negotiated, &ack, out)
            }
            Received::Pubrel(ack) => {
                count(self, 6);
                self.pubrel(session, negotiated, &ack, out)
            }
            Received::Pubcomp(ack) => {
                count(self, 7);
                self.pubcomp(session, negotiated, &ack)
            }
            Received::Subscribe(subscribe) => {
                count(self, 8);
                self.subscribe(now, session, negotiated, &subscribe, out)
            }
            Received::Unsubscribe(unsubscribe) => {
                count(self, 10);
                self.unsubscribe(now, session, negotiated, &unsubscribe, out)
            }
            Received::Pingreq => {
                count(self, 12);
                self.answer_ping(session, negotiated, out)
            }
            Received::Disconnect(disconnect) => {
                count(self, 14);
                self.disconnected_by_client(session, negotiated, &disconnect)
            }
            Received::Connect(_) | Received::Auth(_) | Received::Failed(_) => Step::Next,
        }
    }
}

/// Goes on after an answer was sent. One that the client's Maximum Packet Size forbids, and that
/// it waits for, leaves nothing but to close.
pub(super) fn step(sent: Result<(), SendError>) -> Step {
    match sent {
        Ok(()) => Step::Next,
        Err(_) => Step::Close(
            DisconnectReason::Protocol(crate::codec::ProtocolError::new(
                ReasonCode::PacketTooLarge,
                "MQTT-3.1.2-24",
            )),
            Some(ReasonCode::PacketTooLarge),
        ),
    }
}

pub(super) fn reason_of(failure: Failure) -> DisconnectReason {
    match failure {
        Failure::Protocol(error) => DisconnectReason::Protocol(error),
        Failure::ConnectTimeout => DisconnectReason::ConnectTimeout,
        Failure::KeepAliveTimeout => DisconnectReason::KeepAliveTimeout,
    }
}
