//! A broker shard: many connections and sessions, subscriptions, retained messages and wills, as
//! one deterministic machine.
//!
//! A driver opens connections, hands over what they receive, and does what the
//! [effects](Effect) say; bytes for a socket are pulled with [`Broker::transmit`] when it can take
//! them.
//!
//! ```
//! use fulmar_core::Instant;
//! use fulmar_core::broker::{Boot, Broker, Config, ConnInfo, Effect, Input, Outbox, Verdict};
//!
//! let now = Instant::ZERO;
//! let boot = Boot { now, unix_millis: 0, seed: 1, epoch: 1 };
//! let mut broker = Broker::new(Config::default(), boot);
//! let conn = broker.open(now, ConnInfo::default()).unwrap();
//! let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'a'];
//! broker.handle(now, Input::Received { conn, bytes: &connect });
//! let mut sent = Outbox::new();
//! while let Some(effect) = broker.poll_effect() {
//!     match effect {
//!         Effect::Authenticate { conn, .. } => {
//!             let verdict = Verdict::Accept { data: None };
//!             broker.handle(now, Input::Authenticated { conn, verdict });
//!         }
//!         Effect::Transmit(conn) => {
//!             broker.transmit(now, conn, &mut sent, 8192);
//!         }
//!         _ => {}
//!     }
//! }
//! assert_eq!(sent.slices().next(), Some(&[0x20, 2, 0, 0][..]));
//! ```

mod acks;
mod auth;
mod calls;
mod command;
mod config;
mod conn;
mod connect;
mod deliver;
mod effect;
mod fanout;
mod input;
mod jobs;
mod layout;
mod lifecycle;
mod mask;
mod message;
mod outbox;
mod peers;
mod pressure;
mod publish;
mod queue;
mod receive;
mod recording;
#[cfg(feature = "fuzzing")]
mod recount;
mod session;
mod slots;
mod stage;
mod stats;
mod subscribe;
mod timers;
mod transmit;
mod walks;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

pub use config::{Config, DeliveryMode, QueueFull};
pub use effect::{
    AuthRequest, AuthStep, Connected, DisconnectReason, Disconnected, DropReason, Effect, Event,
    SessionEnd, Verdict,
};
pub use input::{ClientInfo, Command, ConnInfo, Delivery, Input, OpenError, Publication, Reply};
pub use message::MessageId;
pub use outbox::Outbox;
pub use peers::{MAX_SHARDS, PeerMsg, Place, SERIAL_BITS};
pub use recording::{Outcome, Recording, Replay, ReplayError, Step};
pub use stats::Stats;

use crate::codec::ReasonCode;
use crate::connection::Settings;
use crate::map::Map;
use crate::time::Instant;
use crate::topic::{Groups, Index, Retained};
use calls::Call;
use conn::Conn;
use fanout::Target;
use jobs::Job;
use message::{Message, Messages};
use queue::Pool;
use session::Session;
use slots::{Key, Slots};
use timers::Timers;

/// Names a connection; no open connection of any shard has the same. A name is used again when 2^32
/// connections have had its index, with several shards 2^26.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

impl ConnId {
    /// A small number that no other open connection has; good as an index into a table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    const fn key(self) -> Key {
        Key { index: self.index, generation: self.generation }
    }

    const fn of(key: Key) -> Self {
        Self { index: key.index, generation: key.generation }
    }
}

/// A connection on its way to another shard: see [`Broker::hand_over`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// When its transport was opened: [`Broker::open`] takes it there in place of the present time,
    /// so that the time for CONNECT does not begin again.
    pub opened: Instant,
    /// All that was handed over of it, beginning with its CONNECT.
    pub bytes: Vec<u8>,
}

/// Names a local subscriber; never reused while the broker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId {
    session: u32,
    generation: u32,
}

impl SubscriberId {
    const fn key(self) -> Key {
        Key { index: self.session, generation: self.generation }
    }

    const fn of(key: Key) -> Self {
        Self { session: key.index, generation: key.generation }
    }
}

/// What a broker is started with.
#[derive(Clone, Copy)]
pub struct Boot {
    /// The present.
    pub now: Instant,
    /// The present as milliseconds since 1970, for what people read.
    pub unix_millis: u64,
    /// From the operating system's random source; secret, since identifiers and hash keys hang on
    /// it.
    pub seed: u64,
    /// Differs from start to start.
    pub epoch: u32,
}

impl core::fmt::Debug for Boot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Boot")
            .field("now", &self.now)
            .field("unix_millis", &self.unix_millis)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// The machine. It reads no clock and does no I/O; the same calls give the same answers.
pub struct Broker {
    config: Config,
    settings: Arc<Settings>,
    boot: Boot,
    /// State of the generator behind identifiers made here.
    random: u64,
    conns: Slots<Conn>,
    sessions: Slots<Session>,
    /// Client Identifier to index of its session.
    clients: Map<Arc<str>, u32>,
    /// Sessions in the order they were made, for listings.
    serials: BTreeMap<u64, u32>,
    next_serial: u64,
    /// Connections not accepted yet, in all and by address.
    unauthenticated: u32,
    addresses: Map<IpAddr, u32>,
    index: Index,
    groups: Groups,
    retained: Retained<Arc<Message>>,
    messages: Messages,
    /// Bytes charged to the budget beside messages and places in queues.
    held: u64,
    /// Copies in queues and in flight.
    places: u64,
    next_message: u64,
    timers: Timers,
    /// When retained messages are looked at for expiry.
    retained_armed: Instant,
    effects: VecDeque<Effect>,
    /// Effects taken so far: with its number one that waits is found.
    taken: u64,
    jobs: VecDeque<Job>,
    /// How many of the jobs are deliveries.
    deliveries: usize,
    pool: Pool,
    /// Spare memory: control bytes of connections; targets, topic and reasons of one call.
    buffers: Vec<Vec<u8>>,
    lent: Vec<Vec<Arc<Message>>>,
    targets: Vec<Target>,
    topic: String,
    reasons: Vec<ReasonCode>,
    /// Number of the present fan-out, to see a session twice.
    fanout: u32,
    /// To be closed when the present call is done.
    doomed: Vec<(Key, DisconnectReason)>,
    /// Not read until the next beat, since memory is short.
    paced: Vec<Key>,
    /// Since when the budget is under pressure.
    pressed: Option<Instant>,
    /// The connection being handled has something to send.
    wake_current: bool,
    stopping: bool,
    stats: Stats,
    /// What there is because of other shards.
    peers: Option<alloc::boxed::Box<peers::Peers>>,
    recorder: Option<alloc::boxed::Box<recording::Recorder>>,
}

impl Broker {
    /// A broker without connections.
    #[must_use]
    pub fn new(config: Config, boot: Boot) -> Self {
        let settings = Settings {
            connect_timeout: config.connect_timeout,
            max_connect_size: config.max_connect_size,
            max_packet_size: config.max_packet_size,
            max_topic_alias: config.max_topic_alias,
            max_qos: config.max_qos,
            retain_available: config.retain_available,
        };
        Self {
            settings: Arc::new(settings),
            random: boot.seed ^ 0x6a09_e667_f3bc_c908,
            conns: Slots::default(),
            sessions: Slots::default(),
            clients: Map::new(boot.seed),
            serials: BTreeMap::new(),
            next_serial: 1,
            unauthenticated: 0,
            addresses: Map::new(boot.seed),
            index: pressure::index(boot.seed, config.shard_budget),
            groups: Groups::new(boot.seed),
            retained: Retained::new(config.max_retained, config.max_retained_bytes),
            messages: Messages::new(config.shard_budget),
            held: 0,
            places: 0,
            next_message: 0,
            timers: Timers::default(),
            retained_armed: Instant::NEVER,
            effects: VecDeque::new(),
            taken: 0,
            jobs: VecDeque::new(),
            deliveries: 0,
            pool: Pool::default(),
            buffers: Vec::new(),
            lent: Vec::new(),
            targets: Vec::new(),
            topic: String::new(),
            reasons: Vec::new(),
            fanout: 0,
            doomed: Vec::new(),
            paced: Vec::new(),
            pressed: None,
            wake_current: false,
            stopping: false,
            stats: Stats::default(),
            peers: None,
            recorder: None,
            config,
            boot,
        }
    }

    /// A transport was opened. Everything about the connection carries the identifier given.
    ///
    /// # Errors
    /// Over a limit, or stopping: close the socket, nothing else is to be done.
    pub fn open(&mut self, now: Instant, info: ConnInfo) -> Result<ConnId, OpenError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(now, &Call::Open(info));
        }
        let result = self.try_open(now, info);
        if result.is_err() {
            self.stats.refused_total += 1;
        }
        result
    }

    fn try_open(&mut self, now: Instant, info: ConnInfo) -> Result<ConnId, OpenError> {
        if self.stopping {
            return Err(OpenError::ShuttingDown);
        }
        if self.conns.len() >= self.config.max_connections as usize {
            return Err(OpenError::TooManyConnections);
        }
        if self.unauthenticated >= self.config.max_unauthenticated {
            return Err(OpenError::TooManyUnauthenticated);
        }
        if let Some(address) = info.remote.map(|remote| remote.ip()) {
            let count = self.addresses.get(&address).copied().unwrap_or(0);
            if count >= self.config.max_unauthenticated_per_address {
                return Err(OpenError::TooManyFromAddress);
            }
            self.addresses.insert(address, count + 1);
        }
        self.unauthenticated += 1;
        self.held += conn::FOOTPRINT;
        let key = self.conns.insert(Conn::new(self.settings.clone(), info, now));
        self.arm_conn(key);
        Ok(ConnId::of(key))
    }

    /// Something happened. Any number of inputs may come before effects are taken.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(now, &Call::Handle(input.clone()));
        }
        match input {
            Input::Received { conn, bytes } => self.receive(now, conn.key(), bytes),
            Input::Closed { conn } => self.closed(now, conn.key()),
            Input::Authenticated { conn, verdict } => {
                self.authenticated(now, conn.key(), verdict);
            }
            Input::Timeout => self.timeout(now),
            Input::Command { token, command } => self.command(now, token, command),
        }
        self.after_input(now);
    }

    /// What all input ends with, however it was brought.
    fn after_input(&mut self, now: Instant) {
        self.close_doomed(now);
        if self.peers.as_ref().is_some_and(|peers| peers.short) {
            self.pace_peers(now);
        }
    }

    pub(super) fn close_doomed(&mut self, now: Instant) {
        while let Some((key, why)) = self.doomed.pop() {
            if why != DisconnectReason::QueueFull || !self.close_later(now, key) {
                self.disconnect(now, key, why);
            }
        }
    }

    /// Takes back a connection that another shard is to have; `None` if that was not asked for.
    /// From then on it is not open here.
    pub fn hand_over(&mut self, now: Instant, id: ConnId) -> Option<HandedOver> {
        self.record_call(now, &Call::HandOver(id));
        let key = id.key();
        let mut conn = self.conns.take(key)?;
        if conn.waiting != conn::Waiting::HandOver || conn.closing {
            self.conns.put(key, conn);
            return None;
        }
        self.rearm_conn(key, &mut conn, Instant::NEVER);
        self.settle_address(&mut conn);
        self.held -= conn::FOOTPRINT + conn.charged;
        let opened = conn.machine.heard();
        let bytes = core::mem::take(&mut conn.unread);
        self.conns.forget(key, conn);
        if let Some(recorder) = &mut self.recorder {
            recorder.gone(id);
        }
        Some(HandedOver { opened, bytes })
    }

    /// The next thing to do or to tell, until `None`. May change with every other call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        self.taken += u64::from(effect.is_some());
        if effect.is_none() && self.effects.capacity() > 4096 {
            self.effects = VecDeque::new();
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.effect(effect.as_ref());
        }
        effect
    }

    /// When to say [`Input::Timeout`]; at once while work waits. May change with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.jobs.is_empty() { self.timers.next() } else { Some(Instant::ZERO) }
    }

    /// The figures.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.conns.len() as u64,
            unauthenticated: u64::from(self.unauthenticated),
            waiting: self.peers.as_ref().map_or(0, |peers| peers.waiting()),
            sessions: self.sessions.len() as u64,
            retained: self.retained.len() as u64,
            retained_bytes: self.retained.bytes(),
            used_bytes: self.used(),
            ..self.stats.clone()
        }
    }

    fn event(&mut self, event: Event) {
        self.effects.push_back(Effect::Event(event));
    }

    /// The next number of a fixed sequence that hangs on the seed.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl core::fmt::Debug for Broker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Broker")
            .field("connections", &self.conns.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}
