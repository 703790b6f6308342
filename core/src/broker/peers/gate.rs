//! New subscriptions, from SUBSCRIBE until all shards know of them.
//!
//! Behind its gate a subscription gets retained messages, and from each owner what is published
//! with RETAIN after that owner's answer; everything else from the moment it opens. It opens when
//! all shards have confirmed and all owners have answered. Then SUBACK is sent, and what was held.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::Broker;
use super::super::message::Message;
use super::super::queue::{Copy, Ids, NO_GROUP};
use super::super::session::{Options, Session, Walk};
use super::super::slots::Key;
use super::super::subscribe::FIRST_STEPS;
use super::super::transmit::WALK_BELOW;
use super::msg::Parcel;
use super::paused::Until;
use super::place::Place;
use super::retry::RETRIES;
use super::run::Small;
use super::{Peers, Pending, bits, is_wild};
use crate::time::Instant;
use crate::topic::Cursor;

/// Who waits for a gate to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Waits {
    /// A SUBACK of a session, by its number.
    Suback(Key, u64),
    /// A command whose answer waits.
    Reply(u64),
}

/// A subscription that does not stand yet, or one whose replacement is not known everywhere.
#[derive(Debug)]
pub(super) struct Gate {
    session: Key,
    filter: Arc<str>,
    options: Options,
    /// New: it is in no index but the early one.
    early: bool,
    /// Number of the change that all must confirm.
    seq: u64,
    /// Owners that have not answered, and those whose messages with RETAIN it takes.
    unanswered: u64,
    answered: u64,
    /// Copies that go to the session when it opens, in order.
    held: Vec<Copy>,
    /// Each with how often it waits.
    waiters: Vec<(Waits, u32)>,
}

/// Bytes charged for a gate: with its places in the tables, by number and by filter.
pub(super) const COST: u64 = (size_of::<Gate>() + 128) as u64;

/// What a subscription asks for.
pub(in crate::broker) struct Wish<'w> {
    pub(in crate::broker) filter: &'w Arc<str>,
    pub(in crate::broker) options: Options,
    pub(in crate::broker) shared: bool,
    /// It replaces one.
    pub(in crate::broker) exists: bool,
    /// Retained messages are to be sent.
    pub(in crate::broker) retained: bool,
}

impl Gate {
    /// Lets go of what it held of a topic: what is retained when the subscription comes to stand is
    /// the last message, and the others were before it.
    fn replace(&mut self, topic: &str, pending: &mut Pending) {
        let older = self.held.extract_if(.., |held| held.message.topic() == topic);
        older.for_each(|held| pending.let_go([&held]));
    }

    /// Keeps a copy until it opens.
    fn hold(&mut self, copy: Copy, pending: &mut Pending) {
        pending.hold([&copy]);
        self.held.push(copy);
    }

    /// Forgets what these owners said, who are asked again: what they say then is all there is, and
    /// until then nobody hears of what they clear.
    fn forget(&mut self, owners: u64, place: Place, pending: &mut Pending) {
        let again = |copy: &mut Copy| owners & 1 << place.owner(copy.message.topic()) != 0;
        self.held.extract_if(.., again).for_each(|held| pending.let_go([&held]));
        self.answered &= !owners;
        self.unanswered |= owners;
    }
}

impl Peers {
    /// The other shards that may have retained messages for a filter.
    fn owners(&self, filter: &str) -> u64 {
        if is_wild(filter) { self.others } else { self.others & 1 << self.place.owner(filter) }
    }

    /// Whether all have confirmed a change of routes.
    fn is_known(&self, seq: u64) -> bool {
        let older = u64::from(defect!("older_number_confirms"));
        seq <= self.confirmed + older || defect!("suback_before_confirmed")
    }

    /// Another shard has confirmed more.
    pub(super) fn confirm(&mut self) {
        let told = bits(self.others).map(|shard| self.links[shard].heard.confirmed);
        // A damaged recording may confirm what was never told.
        self.confirmed = told.min().unwrap_or(0).min(self.announces);
        self.withdraw_some();
        self.charge_tables();
    }

    /// Whether a gate has not been looked at since all confirmed what it is for.
    pub(super) fn has_known_gate(&self) -> bool {
        self.by_seq.first().is_some_and(|(seq, _)| *seq <= self.confirmed)
    }

    /// A gate for a subscription that does not stand yet, or that is replaced.
    fn add_gate(&mut self, key: Key, session: &mut Session, wish: &Wish<'_>, seq: u64) -> Key {
        let early = !wish.exists && !wish.shared;
        let gate = self.gates.insert(Gate {
            session: key,
            filter: wish.filter.clone(),
            options: wish.options,
            early,
            seq,
            unanswered: 0,
            answered: 0,
            held: Vec::new(),
            waiters: Vec::new(),
        });
        if early {
            self.early.insert(wish.filter, gate.index, 0);
        }
        self.charge_tables();
        self.by_seq.insert((seq, gate));
        session.pending().add_gate(wish.filter, gate);
        gate
    }
}

#[cfg(feature = "fuzzing")]
impl Peers {
    /// A count of the copies behind all gates of a session, and of their bytes.
    pub(in crate::broker) fn held_for(&self, session: Key) -> (usize, u64) {
        let gates = self.gates.keys().filter_map(|gate| self.gates.get(gate));
        let held = gates.filter(|gate| gate.session == session).flat_map(|gate| &gate.held);
        held.fold((0, 0), |(count, bytes), copy| (count + 1, bytes + copy.message.footprint()))
    }
}

impl Broker {
    /// Has all shards know of a subscription; true if `waits` is told when they do, false if they
    /// do already.
    pub(in crate::broker) fn open_gate(&mut self, key: Key, wish: &Wish<'_>, waits: Waits) -> bool {
        let seq = if wish.shared { self.announce_share(wish.filter) } else { 0 };
        let Some(peers) = &mut self.peers else { return false };
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let seq = match wish.shared {
            true => seq,
            false if wish.exists => peers.announced(wish.filter).map_or(0, |known| known.seq),
            false => peers.join(wish.filter),
        };
        let owners = match wish.retained && !wish.shared {
            true => peers.owners(wish.filter),
            false => 0,
        };
        let gate = match session.gate(wish.filter) {
            Some(gate) => gate,
            None if peers.is_known(seq) && owners == 0 => {
                if !wish.exists && !wish.shared {
                    let text = self.index.insert_shared(wish.filter, key.index, wish.options.0).0;
                    rename(session, text);
                }
                return false;
            }
            None => peers.add_gate(key, session, wish, seq),
        };
        let Some(entry) = peers.gates.get_mut(gate) else { return false };
        if entry.seq != seq {
            peers.by_seq.remove(&(entry.seq, gate));
            entry.seq = seq;
            peers.by_seq.insert((seq, gate));
        }
        entry.options = wish.options;
        match entry.waiters.last_mut() {
            // One SUBSCRIBE may have a filter any number of times.
            Some((last, count)) if *last == waits => *count += 1,
            _ => entry.waiters.push((waits, 1)),
        }
        if wish.retained {
            // Its own retained messages are looked at from now on.
            entry.answered |= 1 << peers.place.shard;
            entry.forget(owners, peers.place, session.pending());
        }
        let mut asked = 0;
        if wish.retained {
            // Of a replaced subscription only the last wish counts. An answer that has not begun
            // is one to it, too; otherwise one packet could ask any number of times.
            asked = session.renew(wish.filter, wish.options);
        }
        for shard in bits(owners & !asked) {
            let cursor = Cursor::new(wish.filter.clone(), u64::MAX);
            let walk = Walk { options: wish.options, cursor, query: 0 };
            let id = (wish.filter.clone(), Some(shard as u16));
            let room = peers.first_room(session, wish.filter);
            peers.ask(key, session, id, walk, room);
        }
        session.shut(wish.filter);
        true
    }

    /// Takes what an owner answered for a subscription, whose gate may wait for that.
    pub(super) fn take_answer(
        &mut self,
        now: Instant,
        key: Key,
        gate: Option<Key>,
        from: u16,
        copies: Vec<Copy>,
    ) {
        if let Some(peers) = &mut self.peers
            && let Some(gate) = gate
            && let Some(entry) = peers.gates.get_mut(gate)
        {
            entry.unanswered &= !(1 << from);
            entry.answered |= 1 << from;
            if entry.early || defect!("answer_to_replaced_waits") {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.pending().hold(&copies);
                }
                entry.held.extend(copies);
                self.try_gate(now, gate);
                return;
            }
        }
        // A subscription that is replaced gets what the owner published after its answer at once:
        // so the answer must not wait for other owners.
        for copy in copies {
            self.enqueue(now, key, copy);
        }
        if let Some(gate) = gate {
            self.try_gate(now, gate);
        }
        self.walk(now, key, FIRST_STEPS);
    }

    /// A message of another shard, for this one.
    pub(super) fn adopt(&mut self, parcel: Parcel) -> Arc<Message> {
        self.next_message += 1;
        self.messages.make(parcel.head, self.next_message, |_| parcel.body)
    }

    /// The same for a small one.
    pub(super) fn adopt_small(&mut self, small: &Small<'_>) -> Arc<Message> {
        self.next_message += 1;
        self.messages.make(small.head(), self.next_message, |spare| small.body(spare))
    }

    /// Whether a new subscription could want a message.
    pub(super) fn has_early(&self, retain: bool) -> bool {
        let any = retain || defect!("plain_taken_early");
        any && self.peers.as_ref().is_some_and(|peers| peers.early.filters() > 0)
    }

    /// Gives a message that was published with RETAIN to the subscriptions behind their gates that
    /// have the answer of its owner: it comes after what that said.
    pub(super) fn hold_early(&mut self, now: Instant, from: u16, message: &Arc<Message>) {
        if !self.has_early(message.head.retain) {
            return;
        }
        let Some(peers) = &mut self.peers else { return };
        let mut found = Vec::new();
        peers.early.matches(message.topic(), |entries| found.extend(entries.iter().map(|e| e.key)));
        let mut full = Vec::new();
        for index in found {
            let Some(key) = peers.gates.key_at(index) else { continue };
            let Some(gate) = peers.gates.get_mut(key) else { continue };
            let Some(session) = self.sessions.get_mut(gate.session) else { continue };
            let publisher = message.head.publisher.as_ref();
            let own = gate.options.no_local() && publisher == Some(&session.client_id);
            let answered = gate.answered & 1 << from != 0 || defect!("taken_before_answer");
            if !answered {
                continue;
            }
            gate.replace(message.topic(), session.pending());
            // [MQTT-3.8.3-3]: its client's will, for one.
            if own {
                continue;
            }
            // It is the topic's retained message when the subscription comes to stand. An empty
            // one only says that there is none.
            let kept = !message.payload().is_empty();
            let copy = Copy {
                message: message.clone(),
                ids: Ids::One(gate.options.identifier()),
                group: NO_GROUP,
                qos: gate.options.qos().min(message.head.qos),
                retain: kept || gate.options.retain_as_published(),
            };
            gate.hold(copy, session.pending());
            if gate.held.len() > 2 * WALK_BELOW {
                session.pending().let_go(&gate.held);
                full.push((gate.session, core::mem::take(&mut gate.held)));
            }
        }
        for (session, copies) in full {
            for copy in copies {
                self.enqueue(now, session, copy);
            }
        }
    }

    /// Opens gates of which all have confirmed what they are for, some in each call.
    pub(super) fn open_gates(&mut self, now: Instant) {
        for _ in 0..RETRIES {
            let Some(peers) = self.peers.as_mut().filter(|peers| peers.has_known_gate()) else {
                return;
            };
            let Some((_, gate)) = peers.by_seq.pop_first() else { return };
            self.try_gate(now, gate);
        }
    }

    /// Opens a gate if all is there.
    fn try_gate(&mut self, now: Instant, key: Key) {
        let Some(peers) = &mut self.peers else { return };
        let Some(gate) = peers.gates.get(key) else { return };
        if peers.is_known(gate.seq) && gate.unanswered == 0 {
            self.finish_gate(now, key, true);
        }
    }

    /// Takes a gate away: its subscription stands, or is gone.
    fn finish_gate(&mut self, now: Instant, key: Key, stands: bool) {
        let Some(peers) = &mut self.peers else { return };
        let Some(gate) = peers.gates.remove(key) else { return };
        peers.by_seq.remove(&(gate.seq, key));
        if gate.early {
            peers.early.remove(&gate.filter, key.index);
        }
        peers.charge_tables();
        if let Some(session) = self.sessions.get_mut(gate.session) {
            session.unshut(&gate.filter, &gate.held);
            if stands && gate.early {
                let (index, options) = (gate.session.index, gate.options.0);
                let text = self.index.insert_shared(&gate.filter, index, options).0;
                rename(session, text);
            }
        }
        for (waits, count) in gate.waiters {
            self.gate_opened(now, waits, count);
        }
        if stands {
            for copy in gate.held {
                self.enqueue(now, gate.session, copy);
            }
            // Before anything else is taken: what it published without RETAIN comes after.
            self.walk(now, gate.session, FIRST_STEPS);
        }
        let pending = self.sessions.get(gate.session).and_then(|session| session.pending.as_ref());
        let shut = pending.is_some_and(|pending| pending.has_gates());
        if !shut && !defect!("open_gates_not_told") {
            self.has_come_for(gate.session, Until::Gates);
        }
    }

    /// A subscription behind a gate is no more.
    pub(in crate::broker) fn forget_gate(&mut self, now: Instant, key: Key, filter: &str) {
        let session = self.sessions.get(key);
        if let Some(gate) = session.and_then(|session| session.gate(filter)) {
            self.finish_gate(now, gate, false);
        }
    }

    /// The session is no more, with its gates.
    pub(in crate::broker) fn forget_gates(&mut self, now: Instant, gates: Option<Box<Pending>>) {
        for gate in gates.into_iter().flat_map(|pending| pending.into_gates()) {
            self.finish_gate(now, gate, false);
        }
    }

    /// Whether a subscription's gate is shut, so that it is not in the index.
    pub(in crate::broker) fn is_early(&self, key: Key, filter: &str) -> bool {
        let Some((peers, session)) = self.peers.as_ref().zip(self.sessions.get(key)) else {
            return false;
        };
        let gate = session.gate(filter).and_then(|gate| peers.gates.get(gate));
        gate.is_some_and(|gate| gate.early)
    }
}

/// Has the subscription share the text of the index.
fn rename(session: &mut Session, text: Arc<str>) {
    if let Ok(at) = session.find(&text) {
        session.subscriptions[at].filter = text;
    }
}
