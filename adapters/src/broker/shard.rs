//! A broker with its sockets: readiness in, effects out, bytes both ways.
//!
//! A turn hands the broker what has arrived, does what the broker asks for, and then writes once to
//! every connection that has bytes. Which thread takes it, and when, is said in `seat.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use fulmar_core::broker::{
    Boot, Broker, Config, Effect, Event, Input, Outbox, PeerMsg, SubscriberId,
};
use fulmar_core::{ConnId, Instant};

use super::inbox::{Inbox, Item};
use super::mesh::Mesh;
use super::notice::Notice;
use super::poller::{Poller, Ready};
use super::record::Writer;
use super::requests::Waiting;
use super::socket::Sockets;
use super::subscription::Feed;
use super::{Authenticate, Observe, Record};

/// Bytes from which on a message is a large one.
pub(super) const LARGE: usize = 4 * 1024;

/// What one read can give; shared by all connections.
const SCRATCH: usize = 64 * 1024;
/// So many connections to write to are less work than to wake a thread.
pub(super) const FEW: usize = 16;
/// Sockets that became ready at once, from which on a thread has enough to do with its own shard.
pub(super) const BUSY: usize = 8;
/// Bytes of the smallest PUBLISH: a topic of one letter, and no payload.
const SMALLEST_PUBLISH: usize = 5;

/// Microseconds since the broker was made: all its shards have one time.
#[derive(Clone, Copy)]
pub(super) struct Clock(pub(super) std::time::Instant);

impl Clock {
    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// One broker with its connections.
pub(super) struct Shard {
    pub(super) broker: Broker,
    /// When the present turn began to work.
    pub(super) now: Instant,
    pub(super) clock: Clock,
    pub(super) poller: Arc<Poller>,
    /// Waits for readiness so far; each is one system call.
    pub(super) waits: u64,
    /// When its thread ends its present wait at the latest.
    pub(super) waits_until: Option<Instant>,
    pub(super) sockets: Sockets,
    /// Connections to read from, each once.
    pub(super) to_read: VecDeque<ConnId>,
    /// Connections to write to, each once.
    pub(super) to_write: Vec<ConnId>,
    /// Empty; takes the place of `to_write` while that is worked through.
    pub(super) spare: Vec<ConnId>,
    /// Connections whose transport is at its end.
    pub(super) ended: Vec<ConnId>,
    /// Connections that belong to another shard, and which.
    pub(super) leaving: Vec<(ConnId, u16)>,
    /// When to give up waiting for peers to close; some may be gone already.
    pub(super) closing: BinaryHeap<Reverse<(Instant, ConnId)>>,
    pub(super) scratch: Box<[u8]>,
    /// Memory for a large packet, of the size that one had before; empty.
    pub(super) room: Vec<u8>,
    /// Empty between two connections.
    pub(super) outbox: Outbox,
    /// Bytes handed over before what they led to is written.
    pub(super) burst: usize,
    /// And bytes of known messages.
    burst_bytes: usize,
    /// Bytes handed over since the last writing.
    pub(super) unsettled: usize,
    pub(super) unsettled_bytes: usize,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) mesh: Arc<Mesh>,
    /// Which shard this is.
    pub(super) shard: u16,
    /// Connections given to other shards so far.
    pub(super) handed_over: u64,
    /// Messages taken from other shards so far.
    pub(super) crossed: u64,
    /// Few sockets became ready for the present turn.
    pub(super) calm: bool,
    /// Sleeping shards that got a little, and were not woken.
    pub(super) stand_ins: u64,
    /// Memory for batches, empty.
    pub(super) batches: Vec<Vec<PeerMsg>>,
    /// What other shards sent and no turn had time for, by sender, in order.
    pub(super) from_peers: VecDeque<(u16, VecDeque<PeerMsg>)>,
    pub(super) inbox: Arc<Inbox>,
    items: Vec<Item>,
    /// Commands without an answer, by token.
    pub(super) waiting: HashMap<u64, Waiting>,
    pub(super) last_token: u64,
    pub(super) feeds: HashMap<SubscriberId, Feed>,
    /// Subscribers that have messages.
    pub(super) available: Vec<SubscriberId>,
    /// Subscribers whose queue is full.
    pub(super) stalled: Vec<SubscriberId>,
    recording: Option<Writer>,
    authenticate: Authenticate,
    pub(super) observe: Observe,
    /// Gone when no more connections shall be accepted.
    pub(super) accepting: Option<Sender<()>>,
    pub(super) shutdown_timeout: Duration,
    /// When the shutdown must be over.
    pub(super) stop_by: Option<Instant>,
}

/// What a shard is made from.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) authenticate: Authenticate,
    pub(super) observe: Observe,
    pub(super) record: Option<Record>,
    pub(super) shutdown_timeout: Duration,
    /// The same for all shards.
    pub(super) unix: Duration,
}

impl Shard {
    /// A shard without connections. Fails when the system gives no random seed.
    pub(super) fn new(
        parts: Parts,
        shard: u16,
        poller: Poller,
        mesh: Arc<Mesh>,
        accepting: Sender<()>,
    ) -> io::Result<Self> {
        let unix = parts.unix;
        let clock = Clock(mesh.started);
        let now = clock.now();
        let unix_millis = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let boot = Boot {
            now,
            unix_millis,
            seed: getrandom::u64()?,
            // The lower half of the seconds: it differs from start to start.
            epoch: unix.as_secs() as u32,
        };
        let burst = burst(parts.config.max_msg_queue);
        let burst_bytes = burst_bytes(parts.config.max_msg_queue_bytes);
        let place = mesh.place(shard);
        let mut broker = Broker::shard(parts.config, boot, place);
        let recording = parts.record.map(|to| Writer::start(&to, unix_millis, place, &mut broker));
        Ok(Self {
            burst,
            burst_bytes,
            broker,
            recording: recording.transpose()?,
            now,
            clock,
            poller: Arc::new(poller),
            waits: 0,
            waits_until: None,
            sockets: Sockets::default(),
            to_read: VecDeque::new(),
            to_write: Vec::new(),
            spare: Vec::new(),
            ended: Vec::new(),
            leaving: Vec::new(),
            closing: BinaryHeap::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            room: Vec::new(),
            outbox: Outbox::new(),
            unsettled: 0,
            unsettled_bytes: 0,
            reads: 0,
            writes: 0,
            inbox: Arc::clone(&mesh.inboxes[usize::from(shard)]),
            mesh,
            shard,
            handed_over: 0,
            crossed: 0,
            calm: true,
            stand_ins: 0,
            batches: Vec::new(),
            from_peers: VecDeque::new(),
            items: Vec::new(),
            waiting: HashMap::new(),
            last_token: 0,
            feeds: HashMap::new(),
            available: Vec::new(),
            stalled: Vec::new(),
            authenticate: parts.authenticate,
            observe: parts.observe,
            accepting: Some(accepting),
            shutdown_timeout: parts.shutdown_timeout,
            stop_by: None,
        })
    }

    /// Closes what is open, and tells the subscriptions the last they get.
    pub(super) fn end(mut self) {
        self.accepting = None;
        let open = self.sockets.ids();
        if !open.is_empty() {
            (self.observe)(&Notice::Cut { connections: open.len() });
        }
        for id in open {
            self.close(id);
        }
        self.feed();
        self.record(true);
    }

    pub(super) fn is_over(&self) -> bool {
        self.stop_by.is_some_and(|by| self.now >= by || self.sockets.len() == 0)
    }

    /// Does all there is to do, once. Takes what became ready, and whether somebody woke it; gives
    /// the sleeping shards that need a short turn now.
    pub(super) fn turn(&mut self, ready: &mut Vec<Ready>, woken: bool) -> u64 {
        self.now = self.clock.now();
        self.calm = ready.len() < BUSY;
        self.mark_ready(ready);
        if woken {
            self.take_items();
        }
        self.take_peers();
        if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.broker.handle(self.now, Input::Timeout);
        }
        self.close_overdue();
        self.effects();
        // What came from other shards goes to its subscribers first, if these are few: to tell that
        // it was taken may wake a thread, which takes longer than to write.
        if self.to_read.is_empty() && self.to_write.len() <= FEW {
            self.write_turn();
        }
        self.read_turn();
        self.tell_peers();
        self.write_turn();
        self.end_turn();
        self.record(false);
        mem::take(&mut self.stand_ins)
    }

    /// The turn of a shard whose thread sleeps, by another one: takes what other shards have for
    /// it. Gives whether its own thread may sleep on, and the shards that need a turn in return.
    pub(super) fn stand_in(&mut self) -> (bool, u64) {
        self.now = self.clock.now();
        self.take_peers();
        if self.to_write.len() <= FEW {
            self.write_turn();
        }
        self.tell_peers();
        self.end_turn();
        self.record(false);
        let nothing_new = self.mesh.sleep(self.shard);
        let in_time = self.deadline().is_none_or(|at| self.waits_until.is_some_and(|by| by <= at));
        let sleeps_on = nothing_new && in_time && !self.is_left_over() && !self.is_over();
        (sleeps_on, mem::take(&mut self.stand_ins))
    }

    /// Writes what was recorded when it is worth it, or in any case if it is the last time.
    pub(super) fn record(&mut self, last: bool) {
        if let Some(writer) = &mut self.recording
            && !writer.turn(&mut self.broker, last, &mut self.observe)
        {
            self.recording = None;
        }
    }

    /// Whether there is something to do without anything happening.
    pub(super) fn is_left_over(&self) -> bool {
        !(self.to_read.is_empty()
            && self.to_write.is_empty()
            && self.ended.is_empty()
            && self.leaving.is_empty()
            && self.available.is_empty()
            && self.from_peers.is_empty()
            && self.broker.peers_waiting() == 0)
    }

    /// When there is something to do if nothing happens; `None` is never.
    fn deadline(&self) -> Option<Instant> {
        let overdue = self.closing.peek().map(|Reverse((by, _))| *by);
        [self.broker.poll_timeout(), overdue, self.stop_by].into_iter().flatten().min()
    }

    /// How long its thread is to wait, which is said to the other shards: not at all while work is
    /// left over, `None` for ever.
    pub(super) fn rest(&mut self) -> Option<Duration> {
        self.waits += 1;
        self.waits_until = self.deadline();
        if self.is_left_over() || self.mesh.shards() > 1 && !self.mesh.sleep(self.shard) {
            return Some(Duration::ZERO);
        }
        self.waits_until.map(|at| at.since(self.clock.now()))
    }

    /// Notes what the wait told about sockets.
    fn mark_ready(&mut self, ready: &mut Vec<Ready>) {
        for ready in ready.drain(..) {
            let Some(socket) = self.sockets.at(ready.index) else { continue };
            let id = socket.id;
            socket.readable |= ready.readable;
            socket.hangup |= ready.hangup;
            let full = socket.rest.is_some();
            // A reset is the end even of a connection that is not read.
            let ended = ready.gone && socket.paused && !socket.closing;
            if ended {
                socket.broken = true;
                self.ended.push(id);
            }
            if ready.readable {
                self.queue_read(id);
            }
            if ready.writable && full {
                self.queue_write(id);
            }
        }
    }

    fn take_items(&mut self) {
        let mut items = mem::take(&mut self.items);
        self.inbox.take(&mut items);
        for item in items.drain(..) {
            self.item(item);
        }
        self.items = items;
    }

    /// Counts messages that are about to be handed over.
    pub(super) fn count_messages(&mut self, messages: usize, bytes: usize) {
        let bytes_for_count = SMALLEST_PUBLISH * messages;
        if bytes >= LARGE * messages {
            // Few, whatever their bytes.
            self.make_way(bytes_for_count, bytes);
        } else {
            self.make_way(bytes_for_count + bytes, 0);
        }
    }

    /// Counts bytes that are about to be handed over, whatever messages there are in them.
    pub(super) fn count_bytes(&mut self, bytes: usize) {
        self.make_way(bytes, 0);
    }

    /// Writes what was handed over before has led to, if with this it would be too much.
    fn make_way(&mut self, small: usize, large: usize) {
        let full = self.unsettled + small > self.burst;
        if full || self.unsettled_bytes + large > self.burst_bytes {
            self.effects();
            self.write_turn();
        }
        self.unsettled += small;
        self.unsettled_bytes += large;
    }

    /// Does what the broker asks for, until it asks for nothing.
    pub(super) fn effects(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Transmit(conn) => {
                    if let Some(socket) = self.sockets.get_mut(conn) {
                        socket.transmit = true;
                        self.queue_write(conn);
                    }
                }
                Effect::Reading { conn, on } => {
                    if let Some(socket) = self.sockets.get_mut(conn) {
                        socket.paused = !on;
                        self.queue_read(conn);
                    }
                }
                Effect::Close { conn, by } => self.begin_close(conn, by),
                Effect::Authenticate { conn, request } => {
                    let verdict = (self.authenticate)(conn, &request);
                    self.broker.handle(self.now, Input::Authenticated { conn, verdict });
                }
                // Not yet: more of what was read may be on its way to the broker.
                Effect::Handover { conn, to } => self.leaving.push((conn, to)),
                Effect::Available(subscriber) => self.available.push(subscriber),
                Effect::Reply { token, reply } => self.answer(token, *reply),
                Effect::Event(event) => {
                    let remote = self.remote_of(&event);
                    (self.observe)(&Notice::Event { event, remote });
                }
            }
        }
    }

    fn remote_of(&mut self, event: &Event) -> Option<SocketAddr> {
        let conn = match event {
            Event::Connected(connected) => connected.conn,
            Event::Disconnected(disconnected) => disconnected.conn,
            _ => return None,
        };
        self.sockets.get_mut(conn).map(|socket| socket.remote)
    }
}

/// How many bytes may be handed over before what they led to is written: so few that they hold
/// no more messages than a session queue takes. Otherwise one read could overflow the queue of a
/// client that reads as fast as it can.
fn burst(max_msg_queue: u32) -> usize {
    (max_msg_queue as usize).saturating_mul(SMALLEST_PUBLISH).clamp(4 * 1024, SCRATCH)
}

/// The same where the messages are counted, so that only their bytes matter: half of what a session
/// queue takes, but what one read can give in any case; and not more than stays in a core's cache.
fn burst_bytes(max_msg_queue_bytes: u64) -> usize {
    usize::try_from(max_msg_queue_bytes / 2).unwrap_or(usize::MAX).clamp(SCRATCH, 4 * SCRATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_fits_into_a_session_queue() {
        assert_eq!(burst(1_000), 5_000);
        assert_eq!(burst(1), 4_096);
        assert_eq!(burst(u32::MAX), SCRATCH);
        assert_eq!(burst_bytes(0), SCRATCH);
        assert_eq!(burst_bytes(200_000), 100_000);
        assert_eq!(burst_bytes(u64::MAX), 4 * SCRATCH);
    }
}
