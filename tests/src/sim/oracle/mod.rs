//! What must be true, by somebody who does not look inside the broker.
//!
//! The oracle is shown the bytes of every connection, the effects and the figures, in the order in
//! which they occur, and keeps books of its own: who is entitled to which copy, what is in flight,
//! which wills and sessions are due. It matches topics one by one with
//! [`fulmar_core::topic::matches`] and decides nothing by chance.

mod account;
mod deadlines;
mod events;
mod exchanges;
mod incoming;
mod losses;
mod many;
mod outgoing;
mod publications;
mod receivers;
mod shared;
mod unread;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use fulmar_core::broker::{Config, ConnId, DropReason, Place};
use fulmar_core::codec::RetainHandling;
use fulmar_core::{Instant, Qos, Version};
use shared::Shared;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker that saw it.
    pub checker: &'static str,
    /// What it saw.
    pub what: String,
}

/// A message, once for each time it was published.
#[derive(Debug)]
pub(super) struct Note {
    /// Number in the payload, which no other message has; 0 for one without payload.
    key: u64,
    topic: String,
    payload: Vec<u8>,
    qos: Qos,
    retain: bool,
    expires: Option<Instant>,
    publisher: Option<String>,
    /// Value of its User Property.
    user: Option<String>,
    /// Order of publication.
    number: u64,
}

impl Note {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// Why a session is to have a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Live,
    /// Retained, because of a SUBSCRIBE with this filter.
    Retained(String),
    Shared,
}

/// A copy that a session is to have.
#[derive(Clone, Debug)]
struct Due {
    note: Rc<Note>,
    qos: Qos,
    retain: bool,
    /// Subscription Identifiers, sorted.
    ids: Vec<u32>,
    cause: Cause,
    /// Whether it must come or be counted as lost; otherwise it may.
    must: bool,
}

impl Due {
    fn is_must(&self, now: Instant) -> bool {
        // A retained message that has expired leaves the store without a word.
        self.must && !(matches!(self.cause, Cause::Retained(_)) && self.note.is_expired(now))
    }
}

/// When something was sent: the time, and the last number in the order of things by then.
#[derive(Clone, Copy, Debug)]
struct Moment {
    now: Instant,
    order: u64,
}

impl Moment {
    /// Whether a copy of this message may have been sent then.
    fn may_be_of(self, note: &Note) -> bool {
        note.number <= self.order && !note.is_expired(self.now)
    }
}

/// A copy that was sent.
#[derive(Debug)]
struct Flying {
    /// 0 with QoS 0.
    id: u16,
    due: Due,
    /// When its PUBLISH was sent first.
    sent: Moment,
    /// PUBREC came.
    released: bool,
    /// Its last packet was sent on the present connection.
    here: bool,
    /// Its PUBLISH was.
    published_here: bool,
    /// Of several shards: losses of such messages were told of, too large for the client of then.
    /// It is given up, unless it is sent again.
    doubt: bool,
}

/// A QoS 2 identifier that a client sent and did not release.
#[derive(Debug)]
struct Held {
    /// It counts towards the Receive Maximum.
    counts: bool,
    /// Where its PUBLISH came last.
    conn: ConnId,
    /// The broker has it, or will have: always so with one shard. Of several it may have refused
    /// it, or its PUBLISH may have gone down unread, until PUBREC says otherwise.
    sure: bool,
    /// PUBREC said that it was taken.
    answered: bool,
}

#[derive(Clone, Debug)]
struct Subscription {
    qos: Qos,
    no_local: bool,
    as_published: bool,
    identifier: u32,
}

#[derive(Clone, Debug)]
struct Testament {
    topic: String,
    payload: Vec<u8>,
    qos: Qos,
    retain: bool,
    delay: u32,
    expiry: Option<u32>,
    user: Option<String>,
}

/// Messages whose order can be told: publisher, topic, QoS as published and as sent.
type Lane = (Option<String>, String, Qos, Qos);

#[derive(Debug, Default)]
struct Session {
    conn: Option<ConnId>,
    expiry: u32,
    /// When its last connection ended.
    left: Option<Instant>,
    will: Option<Testament>,
    /// By the full text of their filters.
    subscriptions: BTreeMap<String, Subscription>,
    due: Vec<Due>,
    /// Of QoS 1 and 2, not acknowledged.
    flying: Vec<Flying>,
    /// Acknowledged, or of QoS 0. Of several shards the broker may not have read that.
    late: Vec<Flying>,
    /// QoS 2 identifiers received.
    held: BTreeMap<u16, Held>,
    /// Losses counted by the broker and not yet set against a copy, by QoS.
    lost: [u64; 3],
    /// Order and key of the last message sent, by publisher, topic and both QoS.
    last: BTreeMap<Lane, (u64, u64)>,
    /// Messages that came, or may come, as retained ones or by way of a group too.
    mixed: BTreeSet<u64>,
    /// Messages sent for the first time with QoS 1 and 2, by number in the payload.
    sent: BTreeMap<(Qos, u64), u32>,
    /// Copies sent for the first time, and losses told of, by QoS.
    delivered: [u64; 3],
    dropped: [u64; 3],
    /// Of several shards: losses for want of memory, of its copies or of messages it published.
    short: [u64; 3],
    /// Messages that may be refused as one identifier of QoS 2 too many.
    over: u64,
    /// An operator ends it.
    condemned: bool,
}

/// What a CONNECT asked for.
#[derive(Clone, Debug)]
struct Asked {
    client_id: String,
    clean: bool,
    keep_alive: u16,
    expiry: u32,
    receive_maximum: u16,
    max_packet: u32,
    max_alias: u16,
    will: Option<Testament>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    /// CONNECT came.
    Deciding,
    Open,
    /// DISCONNECT came, or the broker ended it.
    Over,
}

/// A packet the broker owes on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    kind: u8,
    id: u16,
    reasons: Vec<u8>,
    /// Of several shards: it is known what it says, though it waits.
    sure: bool,
}

/// One connection.
#[derive(Debug)]
struct Wire {
    version: Version,
    phase: Phase,
    address: Option<IpAddr>,
    /// Where it is.
    shard: usize,
    /// Neither accepted nor ended.
    unauthenticated: bool,
    heard: Instant,
    suspended: bool,
    keep_alive: u16,
    asked: Option<Asked>,
    /// The driver has decided about it.
    decided: bool,
    client: Option<String>,
    /// Session Present as it is to be said; `None` before the client is accepted.
    present: Option<bool>,
    /// Bytes of packets that are not whole.
    input: Vec<u8>,
    /// Of several shards: packets that may wait for others.
    unread: VecDeque<unread::Unread>,
    /// All that came before it was accepted.
    early: Vec<u8>,
    output: Vec<u8>,
    answers: VecDeque<Answer>,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: BTreeMap<u16, String>,
    /// The broker has to end it, for this reason.
    must_end: Option<&'static str>,
    /// DISCONNECT came.
    left: bool,
    /// CONNACK, and the last word, were sent.
    connack: bool,
    silent: bool,
    refused: bool,
    /// Of several shards: its transport is gone, and the broker handles what came before.
    gone: bool,
    /// DISCONNECT came, and is to be handled: the expiry it says, and whether there is no will.
    farewell: Option<(Option<u32>, bool)>,
}

/// What a call told the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Received(ConnId),
    Closed(ConnId),
    Decided(ConnId),
    Timeout,
    Command,
    /// A message of another shard.
    Peer,
    /// The answer of `transmit`.
    Transmit,
}

/// See the module.
pub(super) struct Oracle {
    config: Config,
    now: Instant,
    found: Option<Violation>,
    sessions: BTreeMap<String, Session>,
    wires: BTreeMap<ConnId, Wire>,
    retained: BTreeMap<String, Rc<Note>>,
    shared: Vec<Shared>,
    next: u64,
    counts: account::Counts,
    /// About the present call only.
    call: Call,
    /// The budget was used up before it.
    full: bool,
    /// Losses told of.
    drops: Vec<(String, Qos, DropReason, u32)>,
    /// Publications refused, to be counted.
    refusals: Vec<(String, Qos)>,
    /// Messages retained, with their publishers.
    stored: Vec<(String, String)>,
    /// Wills that are published and not retained.
    unstored: BTreeSet<String>,
    /// What was received by the clients' applications, by client, QoS and number in the payload.
    seen: BTreeMap<(String, Qos, u64), u32>,
    /// First sendings of all sessions a client ever had.
    total: BTreeMap<(String, Qos, u64), u32>,
    pressed: bool,
    /// There are several shards: what is under way between them is kept in books of its own.
    many: bool,
    place: Place,
    books: many::Books,
    /// The number of the present call, and the last number in the order of things before it.
    turn: u64,
    began: u64,
    /// The shard whose effects are shown, and how far each of them is used up.
    shard: usize,
    standing: Vec<Standing>,
    /// Bytes that the present call may have added until what is shown now.
    charged: u64,
}

/// How far a shard is used up, before the present call and after it.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    before: Figures,
    now: Figures,
    /// The last call in which it was nearly full, or may have been.
    full: Option<u64>,
}

/// See [`Standing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) retained: u64,
    pub(super) retained_bytes: u64,
    /// Bytes charged to its budget.
    pub(super) used: u64,
}

impl Oracle {
    /// `place`: that of any shard.
    pub(super) fn new(config: Config, place: Place) -> Self {
        Self {
            many: place.shards > 1,
            place,
            books: many::Books::default(),
            turn: 0,
            began: 0,
            shard: 0,
            standing: vec![Standing::default(); place.shards.into()],
            charged: 0,
            config,
            now: Instant::ZERO,
            found: None,
            sessions: BTreeMap::new(),
            wires: BTreeMap::new(),
            retained: BTreeMap::new(),
            shared: Vec::new(),
            next: 0,
            counts: account::Counts::default(),
            call: Call::Command,
            full: false,
            drops: Vec::new(),
            refusals: Vec::new(),
            stored: Vec::new(),
            unstored: BTreeSet::new(),
            seen: BTreeMap::new(),
            total: BTreeMap::new(),
            pressed: false,
        }
    }

    /// The first rule that was broken.
    pub(super) fn found(&self) -> Option<&Violation> {
        self.found.as_ref()
    }

    fn fail(&mut self, checker: &'static str, what: impl Into<String>) {
        if self.found.is_none() {
            self.found = Some(Violation { checker, what: what.into() });
        }
    }

    fn ensure(&mut self, ok: bool, checker: &'static str, what: impl FnOnce() -> String) {
        if !ok && self.found.is_none() {
            self.found = Some(Violation { checker, what: what() });
        }
    }

    /// The simulation itself saw a broken rule.
    pub(super) fn complain(&mut self, checker: &'static str, what: &str) {
        self.fail(checker, what);
    }

    /// Whether the broker has a QoS 2 identifier of this client.
    pub(super) fn holds(&self, client: &str, id: u16) -> bool {
        self.sessions.get(client).is_some_and(|session| session.held.contains_key(&id))
    }

    /// A call to the broker begins.
    pub(super) fn begin(&mut self, now: Instant, call: Call, full: bool) {
        self.now = now;
        self.call = call;
        self.turn += 1;
        self.began = self.next;
        self.full = full;
        if let Call::Decided(conn) = call
            && let Some(wire) = self.wires.get_mut(&conn)
        {
            wire.decided = true;
        }
        self.charged = 0;
        self.drops.clear();
        self.refusals.clear();
        self.stored.clear();
        self.unstored.clear();
    }

    /// All effects of the call were shown.
    pub(super) fn end(&mut self, next: Option<Instant>) {
        if self.many {
            self.judge_full();
            self.judge_unkept();
            self.settle_short();
            self.settle_unread();
            self.check_ends();
            self.check_deadlines(next);
            return;
        }
        self.judge_drops(None);
        if let Some((client, qos)) = self.refusals.first() {
            let what = format!("a refused message of {client}, {qos:?}, was not counted");
            self.fail("losses", what);
        }
        self.check_ends();
        self.check_deadlines(next);
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, order: self.next }
    }

    /// A client's application was given a message.
    pub(super) fn application(&mut self, client: &str, qos: Qos, key: u64) {
        let place = (client.to_string(), qos, key);
        let sent = self.total.get(&place).copied().unwrap_or(0);
        let seen = self.seen.entry(place).or_default();
        *seen += 1;
        let twice = qos == Qos::ExactlyOnce && *seen > sent;
        self.ensure(!twice, "exactly once", || format!("{client} received {key} too often"));
    }

    /// The number in a payload.
    pub(super) fn key(payload: &[u8]) -> u64 {
        payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// How many sessions the shard has that this client is to have its session on.
    fn neighbours(&self, client: &str) -> usize {
        let home = self.place.home(client);
        self.sessions.keys().filter(|other| self.place.home(other) == home).count()
    }

    fn session_of(&mut self, conn: ConnId) -> Option<(&String, &mut Session)> {
        let client = self.wires.get(&conn)?.client.as_ref()?;
        let session = self.sessions.get_mut(client)?;
        (session.conn == Some(conn)).then_some((client, session))
    }
}

fn sends_retained(handling: RetainHandling, exists: bool) -> bool {
    match handling {
        RetainHandling::Send => true,
        RetainHandling::SendIfNew => !exists,
        RetainHandling::DoNotSend => false,
    }
}
