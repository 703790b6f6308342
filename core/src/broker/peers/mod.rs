//! Several shards as one broker: routes, forwards, gates and credits.
//!
//! Links between two shards keep order; between links there is none, and no rule here assumes any.

mod acks;
mod backlog;
mod credit;
mod forward;
mod gate;
mod link;
mod msg;
mod page;
mod paused;
mod pending;
mod place;
mod retry;
mod routes;
mod run;
mod shapes;
mod share;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

pub(super) use acks::Acks;
pub(super) use gate::{Waits, Wish};
pub(super) use link::{Clocks, Need};

pub use msg::PeerMsg;
use msg::{DELIVER, OWNER};
pub(super) use paused::{Held, HeldPublish, Until};
pub(super) use pending::Pending;
pub use place::{MAX_SHARDS, Place, SERIAL_BITS};
pub(super) use share::Leaving;

use super::calls::Call;
#[cfg(feature = "fuzzing")]
use super::conn::Waiting;
use super::input::Reply;
use super::slots::{Key, Slots};
use super::{Boot, Broker, Config};
use crate::map::Map;
use crate::time::Instant;
use crate::topic::{Index, TopicFilter, matches};
use backlog::Backlog;
use gate::Gate;
use link::{Link, Mark, Waiter};
use msg::{Change, Msg};
use page::Asked;
use paused::Paused;
use retry::{Owned, Parked, Wills};
use routes::{Counts, Routes};
use run::Run;
use share::Lent;

/// Changes of routes that may be unconfirmed before no more SUBSCRIBE is read: at most, and at
/// least if they take more than a part of the budget.
const WINDOW: u64 = if cfg!(fuzzing) { 2 } else { 1024 };
const LEAST_WINDOW: u64 = if cfg!(fuzzing) { 2 } else { 64 };
const WINDOW_PART: u64 = 16;
/// Part of the budget that is charged at most for what others have not confirmed or answered.
const PASSING_PART: u64 = 8;
/// Bytes charged for a change that one other shard has not confirmed, and for a question.
const UNCONFIRMED: u64 = size_of::<Msg>() as u64;
/// Filters without subscribers that stay announced, since they often come back; more of them wait
/// until the others have confirmed what they were told.
const IDLE: usize = if cfg!(fuzzing) { 1 } else { 64 };

/// What all other shards were told of a filter or group.
#[derive(Debug)]
struct Announced {
    /// Subscriptions here.
    count: u32,
    /// Number of the last change.
    seq: u64,
    /// Stands in a list of those to be looked at again.
    listed: bool,
}

/// A shared group with members here, or that had some.
#[derive(Default)]
struct Group {
    /// What the others were told last, and the number of that change.
    told: Counts,
    seq: u64,
    /// Stands in the list of those to be looked at.
    listed: bool,
}

/// An answer to a command that must wait.
struct Deferred {
    token: u64,
    reply: Reply,
    need: Need,
    /// Gates that are not open.
    gates: u32,
}

/// What a shard keeps because there are others.
pub(super) struct Peers {
    place: Place,
    /// All but this one.
    others: u64,
    routes: Routes,
    /// By shard; that to itself is not used.
    links: Vec<Link>,
    /// By lane: the links on which something is not taken, and those without credit. Asked for each
    /// message, so that it costs no look at each link.
    unmet: [u64; 2],
    spent: [u64; 2],
    /// The links on which something was taken that not all were told who wait for it.
    due: u64,
    /// Empty ones, with memory for the next small messages.
    runs: Vec<Run>,
    lent: Lent,
    /// Number of the last message forwarded; it grows from one to the next over all links.
    clock: u64,
    /// Number of the last change of routes told to all, and of the last that all have confirmed.
    announces: u64,
    confirmed: u64,
    /// Changes that may be unconfirmed.
    window: u64,
    exact: Map<u64, Announced>,
    wild: Map<Arc<str>, Announced>,
    shares: Map<Arc<str>, Group>,
    /// Filters without subscribers that are still announced, and their bytes.
    idle: VecDeque<Arc<str>>,
    idle_bytes: u64,
    /// Groups whose members changed.
    changed: VecDeque<Arc<str>>,
    gates: Slots<Gate>,
    /// New subscriptions that do not stand yet; the key of an entry is the gate.
    early: Index,
    by_seq: BTreeSet<(u64, Key)>,
    queries: BTreeMap<u64, Asked>,
    next_query: u64,
    /// Messages of other shards for which there is no credit yet.
    owned: VecDeque<Owned>,
    /// Messages without a connection to wait on: of wills, of the program.
    parked: VecDeque<Parked>,
    /// Clients that have wills among them.
    wills: BTreeMap<Arc<str>, Wills>,
    /// Connections whose input waits.
    paused: Paused,
    /// Which kind of these has its turn next.
    turn: usize,
    /// A job for all of these is waiting.
    retrying: bool,
    backlog: Backlog,
    /// Empty ones, for sessions that will wait.
    #[expect(clippy::vec_box, reason = "they go to sessions and come back as they are")]
    spare_acks: Vec<Box<Acks>>,
    /// Number of the next SUBACK that waits.
    next_suback: u64,
    deferred: BTreeMap<u64, Deferred>,
    next_deferred: u64,
    /// Bytes that may be under way on each lane of a link.
    credit: u64,
    /// Of the shard's memory.
    budget: u64,
    /// Memory is short here; and whether a beat is set for the credit that others wait for.
    pub(super) short: bool,
    pub(super) beating: bool,
    /// Of the embedding program.
    program: Clocks,
    /// Bytes charged for tables.
    tables: u64,
}

impl Peers {
    /// Whether there is such a shard beside this one. A damaged recording names any number.
    fn is_other(&self, shard: u16) -> bool {
        1u64.checked_shl(shard.into()).is_some_and(|bit| self.others & bit != 0)
    }

    fn new(place: Place, config: &Config, seed: u64) -> Self {
        let links = (0..place.shards).map(|_| Link::default()).collect();
        let change = u64::from(place.others().count_ones()).max(1) * UNCONFIRMED;
        let window = (config.shard_budget / WINDOW_PART / change).clamp(LEAST_WINDOW, WINDOW);
        let mut peers = Self {
            place,
            others: place.others(),
            routes: Routes::new(place, seed, config.shard_budget),
            links,
            unmet: [0; 2],
            spent: [0; 2],
            due: 0,
            runs: Vec::new(),
            lent: Lent::default(),
            clock: 0,
            announces: 0,
            confirmed: 0,
            window,
            exact: Map::new(seed),
            wild: Map::new(seed),
            shares: Map::new(seed),
            idle: VecDeque::new(),
            idle_bytes: 0,
            changed: VecDeque::new(),
            gates: Slots::default(),
            early: Index::new(seed),
            by_seq: BTreeSet::new(),
            queries: BTreeMap::new(),
            next_query: 0,
            owned: VecDeque::new(),
            parked: VecDeque::new(),
            wills: BTreeMap::new(),
            paused: Paused::default(),
            turn: 0,
            retrying: false,
            backlog: Backlog::default(),
            spare_acks: Vec::new(),
            next_suback: 1,
            deferred: BTreeMap::new(),
            next_deferred: 0,
            credit: (config.shard_budget / u64::from(place.shards) / 2).max(1),
            budget: config.shard_budget,
            short: false,
            beating: false,
            program: Clocks::default(),
            tables: 0,
        };
        peers.charge_tables();
        peers
    }

    /// Tells all others of a change; gives its number.
    fn announce(&mut self, change: &Change) -> u64 {
        self.announces += 1;
        let seq = self.announces;
        for shard in bits(self.others) {
            self.links[shard].out.push(Msg::Route { seq, change: change.clone() });
        }
        self.charge_tables();
        seq
    }

    fn announced(&mut self, filter: &str) -> Option<&mut Announced> {
        if is_wild(filter) {
            self.wild.get_mut(filter)
        } else {
            self.exact.get_mut(&self.place.fingerprint(filter))
        }
    }

    /// A subscription has come; gives the number of the change that tells of its filter.
    fn join(&mut self, filter: &Arc<str>) -> u64 {
        if let Some(known) = self.announced(filter) {
            known.count += 1;
            return if defect!("pending_not_awaited") { 0 } else { known.seq };
        }
        let seq = self.tell(filter, true);
        let announced = Announced { count: 1, seq, listed: false };
        if is_wild(filter) {
            self.wild.insert(filter.clone(), announced);
        } else {
            self.exact.insert(self.place.fingerprint(filter), announced);
        }
        self.charge_tables();
        seq
    }

    fn tell(&mut self, filter: &Arc<str>, on: bool) -> u64 {
        let change = if is_wild(filter) {
            Change::Wild { filter: filter.clone(), on }
        } else {
            Change::Exact { fingerprint: self.place.fingerprint(filter), on }
        };
        self.announce(&change)
    }

    /// A subscription has gone. That is told late, or never if another one comes before.
    pub(super) fn leave(&mut self, filter: &Arc<str>) {
        let Some(known) = self.announced(filter) else { return };
        known.count -= 1;
        if defect!("route_withdrawn_too_early") && known.count > 0 {
            self.tell(filter, false);
            return;
        }
        if known.count == 0 && !core::mem::replace(&mut known.listed, true) {
            self.idle.push_back(filter.clone());
            self.idle_bytes += idle_cost(filter);
            self.charge_tables();
            self.withdraw_some();
        }
    }

    /// Whether filters may be withdrawn. The other half of the window is for new ones.
    fn may_withdraw(&self) -> bool {
        self.announces - self.confirmed < self.window / 2
    }

    /// Withdraws what has been without subscribers for longest, if there is enough of it: when some
    /// more is, and when the others have confirmed more.
    fn withdraw_some(&mut self) {
        for _ in 0..WINDOW {
            if self.idle.len() <= IDLE || !self.may_withdraw() {
                return;
            }
            self.withdraw_oldest();
        }
    }

    fn withdraw_oldest(&mut self) {
        let Some(filter) = self.idle.pop_front() else { return };
        self.idle_bytes -= idle_cost(&filter);
        self.charge_tables();
        let Some(known) = self.announced(&filter) else { return };
        known.listed = false;
        if known.count > 0 && !defect!("wanted_again_withdrawn") {
            return;
        }
        if defect!("withdrawn_not_announced_anew") {
            self.tell(&filter, false);
            return;
        }
        if is_wild(&filter) {
            self.wild.remove(&*filter);
        } else {
            self.exact.remove(&self.place.fingerprint(&filter));
        }
        self.charge_tables();
        self.tell(&filter, false);
    }

    /// A message came that nobody here wants: that its filters are not wanted is told now, if they
    /// are among the oldest.
    fn withdraw_idle(&mut self, topic: &str) {
        for _ in 0..self.idle.len().min(IDLE) {
            match self.idle.front() {
                _ if !self.may_withdraw() => return,
                Some(filter) if matches(filter, topic) => self.withdraw_oldest(),
                _ => self.idle.rotate_left(1),
            }
        }
    }

    /// Whether no more SUBSCRIBE may be read.
    pub(super) fn window_is_full(&self) -> bool {
        self.announces - self.confirmed >= self.window || self.queries.len() as u64 >= WINDOW
    }

    /// Whether a will of a client waits: what it publishes next comes after.
    pub(super) fn has_will_of(&self, client_id: &str) -> bool {
        !self.wills.is_empty() && self.wills.contains_key(client_id)
    }

    fn wait_marks(&mut self, marks: &[Mark], waiter: Waiter) {
        for mark in marks {
            self.links[mark.shard].wait(mark.lane, mark.number, waiter);
        }
    }

    /// As if a publisher had sent the last message of this shard: its own may be among them.
    pub(super) fn clocks(&self) -> Clocks {
        Clocks([self.clock; 2])
    }

    /// Has someone told when a need is met that is not met yet.
    fn wait(&mut self, need: &Need, waiter: Waiter) {
        for shard in bits(need.shards) {
            let link = &mut self.links[shard];
            if let Some(number) = link.last_until(need.lane, need.number) {
                link.wait(need.lane, number, waiter);
            }
        }
    }

    /// Bytes charged for wills and messages of the program that wait.
    #[cfg(feature = "fuzzing")]
    pub(super) fn parked_bytes(&self) -> u64 {
        self.parked.iter().map(Parked::footprint).sum()
    }

    /// Whether nothing waits for another shard, and no other one for this.
    #[cfg(feature = "fuzzing")]
    pub(super) fn is_idle(&self) -> bool {
        let links = bits(self.others).all(|shard| {
            let link = &self.links[shard];
            let waits = link.waiters.iter().any(|waiters| !waiters.is_empty());
            let open = link.open.iter().any(|open| !open.is_empty());
            !waits && !open && (0..2).all(|lane| link.outstanding(lane) == 0)
        });
        let gates = self.gates.len() == 0 && self.queries.is_empty();
        links
            && gates
            && self.owned.is_empty()
            && self.parked.is_empty()
            && self.paused.is_empty()
            && self.deferred.is_empty()
            && self.backlog.is_empty()
    }

    /// Bytes charged for tables.
    #[inline]
    pub(super) fn footprint(&self) -> u64 {
        debug_assert_eq!(self.tables, self.count_tables());
        self.tables + self.routes.remembered() as u64
    }

    fn count_tables(&self) -> u64 {
        let tables = self.exact.footprint() + self.wild.footprint() + self.shares.footprint();
        let tables = (self.routes.footprint() + self.early.footprint() + tables) as u64;
        let unconfirmed = (self.announces - self.confirmed) * u64::from(self.others.count_ones());
        let (gates, questions) = (self.gates.len() as u64, self.queries.len() as u64);
        let passing = unconfirmed * UNCONFIRMED + gates * gate::COST + questions * page::COST;
        // One packet, which is soon confirmed, does not use the memory up for everybody.
        tables + self.idle_bytes + passing.min(self.budget / PASSING_PART)
    }

    /// To be called after each change of a table: whether memory is short is asked more often.
    fn charge_tables(&mut self) {
        self.tables = self.count_tables();
    }
}

/// The members of a set of shards, in order.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (lowest < 64).then_some(lowest as usize)
    })
}

fn idle_cost(filter: &Arc<str>) -> u64 {
    (size_of::<Arc<str>>() + filter.len()) as u64
}

fn is_wild(filter: &str) -> bool {
    TopicFilter::new(filter, u16::MAX).is_ok_and(TopicFilter::has_wildcard)
}

impl Broker {
    /// One shard of several, which together are one broker. The driver carries what
    /// [`Broker::take_peer_messages`] gives from each shard to each other one, in order, to
    /// [`Broker::peer_message`]; a message between two others may be faster or slower. All shards
    /// use one clock.
    ///
    /// # Panics
    /// If `place` is none.
    #[must_use]
    pub fn shard(config: Config, boot: Boot, place: Place) -> Self {
        let exists = place.shard < place.shards && place.shards <= MAX_SHARDS;
        assert!(exists, "no such shard: {place:?}");
        let peers = Peers::new(place, &config, boot.seed);
        let mut broker = Self::new(config, boot);
        if place.shards > 1 {
            broker.peers = Some(Box::new(peers));
            broker.next_serial = u64::from(place.shard) << SERIAL_BITS | 1;
            // A connection's name is not that of one on another shard.
            broker.conns = Slots::part(place.shard.into(), NAMES);
        }
        broker
    }

    /// Which shard this is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.peers.as_ref().map_or(Place::ALONE, |peers| peers.place)
    }

    /// The other shards that something is to be sent to, a bit for each; 0 with one shard.
    #[must_use]
    pub fn peers_waiting(&self) -> u64 {
        let Some(peers) = &self.peers else { return 0 };
        if !peers.changed.is_empty() && !peers.window_is_full() {
            return peers.others;
        }
        let waiting = bits(peers.others).filter(|shard| peers.links[*shard].has_news());
        waiting.map(|shard| 1 << shard).sum()
    }

    /// Appends to `out` what is to be sent to another shard, in order. Harmless at any time.
    pub fn take_peer_messages(&mut self, to: u16, out: &mut Vec<PeerMsg>) {
        let start = out.len();
        let last = self.recorder.as_ref().map_or(Instant::ZERO, |recorder| recorder.last);
        self.record_call(last, &Call::TakePeer(to));
        self.announce_changed();
        if let Some(peers) = &mut self.peers
            && peers.is_other(to)
        {
            let link = &mut peers.links[usize::from(to)];
            out.extend(link.out.drain(..).map(PeerMsg));
            if link.out.capacity() > 4096 {
                link.out = Vec::new();
            }
            if link.tell != link.told {
                link.told = link.tell;
                out.push(PeerMsg(Msg::Counters(link.tell)));
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.peers(&out[start..]);
        }
    }

    /// Another shard sent something. While much that was sent is on its way to thousands here, it
    /// waits, and so does the one that sent it when its credit is used up. `now` is not before what
    /// it was there when `msg` was taken from it: shards have one clock, which is to be read after
    /// `msg` has come.
    pub fn peer_message(&mut self, now: Instant, from: u16, msg: PeerMsg) {
        self.record_call(now, &Call::Peer { from, msg: &msg });
        let much = self.is_delivering_much();
        let Some(peers) = &mut self.peers else { return };
        if !peers.is_other(from) {
            return;
        }
        let passes = defect!("long_backlog_passed") && matches!(msg.0, Msg::Forward(_));
        if !peers.backlog.is_empty() && !passes || much {
            peers.backlog.push(from, msg.0);
        } else {
            self.take_peer_message(now, from, msg.0);
        }
        self.take_backlog_later();
    }

    #[inline]
    fn take_peer_message(&mut self, now: Instant, from: u16, msg: Msg) {
        let Some(peers) = &mut self.peers else { return };
        let paced = peers.short || matches!(msg, Msg::Forward(_) | Msg::Run(_));
        match msg {
            Msg::Route { seq, change } => {
                match change {
                    Change::Exact { fingerprint, on } => {
                        peers.routes.set_exact(from, fingerprint, on);
                    }
                    Change::Wild { filter, on } => peers.routes.set_wild(from, &filter, on),
                    Change::Group { full, counts } => peers.routes.set_group(from, &full, counts),
                }
                peers.charge_tables();
                peers.links[usize::from(from)].tell.confirmed = seq;
            }
            Msg::Query(query) => self.answer_query(now, from, query),
            Msg::Page(page) => self.take_page(now, from, page),
            Msg::Forward(forward) => self.take_forward(now, from, forward),
            Msg::Run(run) => self.take_run(now, from, run),
            Msg::Counters(counters) => self.take_counters(now, from, counters),
        }
        self.close_doomed(now);
        if paced {
            self.pace_peers(now);
        }
    }

    /// Whether nothing here waits for another shard, which must be so when nothing is under way
    /// between them. For tests.
    #[cfg(feature = "fuzzing")]
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let waits = |key| {
            let conn = self.conns.get(key);
            conn.is_some_and(|conn| matches!(conn.waiting, Waiting::Peers(_)) && !conn.closing)
        };
        let idle = self.peers.as_ref().is_none_or(|peers| peers.is_idle());
        idle && !self.conns.keys().any(waits)
    }

    pub(super) fn record_call(&mut self, now: Instant, call: &Call<'_>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.call(now, call);
        }
    }
}

/// Bits of a connection's name that tell it from others of the same shard and index: the shard has
/// the rest.
const NAMES: u32 = u32::BITS - MAX_SHARDS.ilog2();
