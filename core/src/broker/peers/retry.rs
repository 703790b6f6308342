//! Messages and answers that wait for other shards, and go on when they are further.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use bytes::Bytes;

use super::super::input::{Publication, Reply};
use super::super::jobs::Job;
use super::super::session::Will;
use super::super::slots::Key;
use super::super::{Broker, Effect};
use super::link::{Clocks, Mark, Need, Waiter};
use super::msg::{Counters, Parcel};
use super::paused::Until;
use super::{DELIVER, Deferred, OWNER, Peers, bits};
use crate::codec::ReasonCode;
use crate::time::Instant;

/// Messages and connections that go on in one call, and gates that open.
pub(super) const RETRIES: usize = if cfg!(fuzzing) { 1 } else { 64 };

/// Who is told in one call that something is taken: mostly for an acknowledgement.
const TOLD: usize = if cfg!(fuzzing) { 2 } else { 1024 };

/// A message without a connection to wait on.
pub(super) enum Parked {
    Will { client_id: Arc<str>, will: Will },
    Program { token: u64, publication: Box<Publication> },
}

impl Parked {
    /// Bytes charged for it. Those of a will are since its CONNECT.
    pub(super) fn footprint(&self) -> u64 {
        match self {
            Self::Will { will, .. } => will.body.len() as u64,
            Self::Program { publication, .. } => {
                let Publication { topic, payload, correlation_data, .. } = &**publication;
                let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                let data = correlation_data.as_ref().map_or(0, Bytes::len);
                let pair = |(name, value): &(String, String)| PAIR + name.len() + value.len();
                let own = size_of::<Publication>() + topic.len() + payload.len() + data;
                let texts = text(&publication.content_type) + text(&publication.response_topic);
                let pairs: usize = publication.user_properties.iter().map(pair).sum();
                (own + texts + pairs) as u64
            }
        }
    }
}

/// The wills of one client that wait.
#[derive(Debug, Default)]
pub(super) struct Wills {
    pub(super) count: u32,
    /// What was published before them, by the client or as its will: they come after.
    pub(super) clocks: Clocks,
}

/// Bytes of a User Property beside its text.
const PAIR: usize = size_of::<(String, String)>();

/// A message of another shard, for us as the owner of its topic.
pub(super) struct Owned {
    pub(super) from: u16,
    pub(super) number: u64,
    pub(super) parcel: Parcel,
}

/// Who waited for a message that is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Waiter(Waiter),
    /// A connection whose input waits.
    Paused(Key),
}

/// Those that wait, each kind in its order.
#[derive(Clone, Copy)]
enum Kind {
    Owned,
    Parked,
    Paused(Until),
}

/// In which order the kinds have their turns.
const TURNS: [Kind; 5] = [
    Kind::Owned,
    Kind::Parked,
    Kind::Paused(Until::Turn),
    Kind::Paused(Until::Window),
    Kind::Paused(Until::Credit),
];

impl Peers {
    fn may_go(&self, kind: Kind) -> bool {
        match kind {
            Kind::Owned => !self.owned.is_empty() && self.has_credit(DELIVER),
            Kind::Parked => self.has_parked_to_go(),
            Kind::Paused(until) => self.has_paused_to_go(until),
        }
    }

    /// Whether anybody is in line: asked for each message, and mostly nobody is.
    #[inline]
    fn has_waiting(&self) -> bool {
        !self.owned.is_empty() || !self.parked.is_empty() || !self.paused.is_empty()
    }

    /// Whose turn it is of those that may go on.
    fn next_turn(&self) -> Option<usize> {
        if !self.has_waiting() {
            return None;
        }
        let mut turns = (self.turn..TURNS.len()).chain(0..self.turn);
        turns.find(|turn| self.may_go(TURNS[*turn]))
    }

    /// Whether somebody waits for credit, or has it and has not gone on yet: who comes now comes
    /// after.
    #[inline]
    pub(in crate::broker) fn is_credit_awaited(&self) -> bool {
        self.has_waiting() && self.has_waiting_for_credit()
    }

    #[cold]
    fn has_waiting_for_credit(&self) -> bool {
        !self.owned.is_empty() || self.paused.has(Until::Credit) || self.has_parked_to_go()
    }

    fn has_parked_to_go(&self) -> bool {
        match self.parked.front() {
            None => false,
            Some(Parked::Will { client_id, will }) => {
                let clocks = self.wills.get(client_id).map(|wills| wills.clocks);
                !self.must_wait(&clocks.unwrap_or_default(), will.body.topic(), will.retain)
            }
            Some(Parked::Program { publication, .. }) => {
                !self.must_wait(&self.program, &publication.topic, publication.retain)
            }
        }
    }

    /// Who is to be told of it next that what it waits for is taken.
    fn next_due(&mut self) -> Option<Due> {
        while let Some(shard) = bits(self.due).next() {
            let link = &mut self.links[shard];
            if let Some(waiter) = link.next_due() {
                return Some(Due::Waiter(waiter));
            }
            if let Some(key) = self.next_paused(shard) {
                return Some(Due::Paused(key));
            }
            self.due &= !(1 << shard);
        }
        None
    }

    /// The next connection that waited for what a shard has taken.
    fn next_paused(&mut self, shard: usize) -> Option<Key> {
        if self.paused.is_empty() {
            return None;
        }
        let taken = self.links[shard].heard.taken;
        [DELIVER, OWNER].into_iter().find_map(|lane| {
            let until = |number| Until::Taken(Mark { shard, lane, number });
            self.paused.pop(until(0), until(taken[lane]))
        })
    }

    fn has_some_to_go(&self) -> bool {
        let told = self.due != 0 || self.has_known_gate();
        told || self.has_waiting() && TURNS.into_iter().any(|kind| self.may_go(kind))
    }
}

impl Broker {
    /// Whether a message of a program or a will must wait.
    pub(in crate::broker) fn parks(&self, clocks: &Clocks, topic: &str, retain: bool) -> bool {
        let Some(peers) = &self.peers else { return false };
        let behind = !peers.parked.is_empty() || peers.is_credit_awaited();
        behind || peers.must_wait(clocks, topic, retain)
    }

    /// Has a message of the program wait; if it finds no memory the program is told so.
    pub(in crate::broker) fn park(&mut self, token: u64, publication: Box<Publication>) {
        let clears = publication.clears();
        let parked = Parked::Program { token, publication };
        let bytes = parked.footprint();
        // Any number may wait: what clears a retained message may have the rest of the budget.
        let full = match clears {
            true => self.used() + bytes > self.config.shard_budget,
            false => self.is_full(),
        };
        if full {
            let reply = Box::new(Reply::Refused(ReasonCode::QuotaExceeded));
            self.effects.push_back(Effect::Reply { token, reply });
            return;
        }
        self.held += bytes;
        if let Some(peers) = &mut self.peers {
            peers.parked.push_back(parked);
        }
    }

    /// Has a will wait, which comes after what `clocks` stand for.
    pub(in crate::broker) fn park_will(
        &mut self,
        client_id: Arc<str>,
        will: Will,
        clocks: &Clocks,
    ) {
        if let Some(peers) = &mut self.peers {
            let wills = peers.wills.entry(client_id.clone()).or_default();
            wills.count += 1;
            wills.clocks.join(clocks);
            peers.parked.push_back(Parked::Will { client_id, will });
        }
    }

    fn unpark(&mut self) -> Option<Parked> {
        let peers = self.peers.as_mut()?;
        let parked = peers.parked.pop_front()?;
        match &parked {
            Parked::Program { .. } => self.held -= parked.footprint(),
            Parked::Will { client_id, .. } => {
                let left = peers.wills.get_mut(client_id).map_or(0, |wills| {
                    wills.count -= 1;
                    wills.count
                });
                if left == 0 {
                    peers.wills.remove(client_id);
                }
            }
        }
        Some(parked)
    }

    /// Where no will of a client waits any more, its messages need not wait for it.
    fn will_has_come(&mut self, client_id: &str) {
        let waits = self.peers.as_ref().is_some_and(|peers| peers.has_will_of(client_id));
        if waits || defect!("will_not_told") {
            return;
        }
        let key = self.clients.get(client_id).and_then(|index| self.sessions.key_at(*index));
        if let Some(key) = key {
            self.has_come_for(key, Until::Will);
        }
    }

    /// What a client's session forwards next comes after its will, and so do its later wills.
    pub(in crate::broker) fn note_will(&mut self, client_id: &str, need: &Need) {
        if let Some(wills) = self.peers.as_mut().and_then(|peers| peers.wills.get_mut(client_id)) {
            wills.clocks.note(need);
        }
        let key = self.clients.get(client_id).and_then(|index| self.sessions.key_at(*index));
        if let Some(session) = key.and_then(|key| self.sessions.get_mut(key)) {
            session.clocks.note(need);
        }
    }

    /// Of the embedding program.
    pub(in crate::broker) fn program_clocks(&self) -> Clocks {
        self.peers.as_ref().map_or_else(Clocks::default, |peers| peers.program)
    }

    pub(in crate::broker) fn note_program(&mut self, need: &Need) {
        if let Some(peers) = &mut self.peers {
            peers.program.note(need);
        }
    }

    /// Another shard says how far it is.
    pub(super) fn take_counters(&mut self, now: Instant, from: u16, counters: Counters) {
        let Some(peers) = &mut self.peers else { return };
        let shard = usize::from(from);
        let link = &mut peers.links[shard];
        let confirmed = link.heard.confirmed != counters.confirmed;
        link.hear(counters);
        for lane in [DELIVER, OWNER] {
            peers.note_link(shard, lane);
        }
        peers.due |= 1 << shard;
        if confirmed {
            peers.confirm();
        }
        self.tell_due(now);
        self.open_gates(now);
        self.take_turns(now);
    }

    /// Tells those who waited for messages that are taken, some in each call. One that is told
    /// later only gets more at once.
    fn tell_due(&mut self, now: Instant) {
        let mut last = None;
        for _ in 0..TOLD {
            let Some(due) = self.peers.as_mut().and_then(|peers| peers.next_due()) else { return };
            // One may wait for many in a row, and is told of all of them the first time.
            if last.replace(due) == Some(due) {
                continue;
            }
            match due {
                Due::Paused(key) => self.let_go_on(key),
                Due::Waiter(Waiter::Session(key)) => self.release(now, key),
                Due::Waiter(Waiter::Reply(number)) => self.try_reply(number),
                Due::Waiter(Waiter::Peer(other)) => {
                    if let Some(peers) = &mut self.peers {
                        peers.settle(other, OWNER);
                    }
                }
            }
        }
    }

    /// Has those that wait go on, some in each call. The kinds take turns, one of each, so that
    /// none waits as long as another has more.
    ///
    /// What other shards sent for their clients waits for credit only, and not behind a will or a
    /// message of the program: these wait for messages to be taken by other shards, which may wait
    /// for ours.
    pub(super) fn take_turns(&mut self, now: Instant) {
        for _ in 0..RETRIES {
            let Some(turn) = self.peers.as_ref().and_then(|peers| peers.next_turn()) else { break };
            // What else a connection brought is handled with the next call.
            if matches!(TURNS[turn], Kind::Paused(_)) {
                break;
            }
            self.take_turn(now, turn);
        }
        self.go_on_later();
    }

    fn take_turn(&mut self, now: Instant, turn: usize) {
        let Some(peers) = &mut self.peers else { return };
        peers.turn = (turn + 1) % TURNS.len();
        match TURNS[turn] {
            Kind::Owned => {
                let Some(Owned { from, number, parcel }) = peers.owned.pop_front() else { return };
                self.publish_owned(now, from, number, parcel);
            }
            Kind::Parked => match self.unpark() {
                Some(Parked::Will { client_id, will }) => {
                    self.publish_will_now(now, &client_id, will);
                    self.will_has_come(&client_id);
                }
                Some(Parked::Program { token, publication }) => {
                    let (reply, need) = self.publish_program(now, &publication);
                    self.reply_when(token, reply, need, 0);
                }
                None => {}
            },
            Kind::Paused(until) => self.retry_paused(now, until),
        }
    }

    /// Has what could go on do so with the next call.
    pub(super) fn go_on_later(&mut self) {
        let Some(peers) = &mut self.peers else { return };
        if peers.has_some_to_go() && !core::mem::replace(&mut peers.retrying, true) {
            self.jobs.push_back(Job::Peers);
        }
    }

    /// Goes on with a part of what waited for other shards, connections among it.
    pub(in crate::broker) fn retry_some(&mut self, now: Instant) {
        self.tell_due(now);
        self.open_gates(now);
        for _ in 0..RETRIES {
            let Some(turn) = self.peers.as_ref().and_then(|peers| peers.next_turn()) else { break };
            self.take_turn(now, turn);
        }
        if let Some(peers) = &mut self.peers {
            peers.retrying = false;
            self.go_on_later();
        }
    }

    /// Answers a command when a need is met and so many gates are open.
    pub(in crate::broker) fn reply_when(
        &mut self,
        token: u64,
        reply: Reply,
        need: Need,
        gates: u32,
    ) -> u64 {
        let Some(peers) = &mut self.peers else {
            self.effects.push_back(Effect::Reply { token, reply: Box::new(reply) });
            return 0;
        };
        let number = peers.next_deferred;
        peers.next_deferred += 1;
        peers.wait(&need, Waiter::Reply(number));
        peers.deferred.insert(number, Deferred { token, reply, need, gates });
        self.try_reply(number);
        number
    }

    pub(super) fn try_reply(&mut self, number: u64) {
        let Some(peers) = &mut self.peers else { return };
        let Some(deferred) = peers.deferred.get(&number) else { return };
        if deferred.gates > 0 || !peers.is_met(&deferred.need) {
            return;
        }
        let Some(Deferred { token, reply, .. }) = peers.deferred.remove(&number) else { return };
        self.effects.push_back(Effect::Reply { token, reply: Box::new(reply) });
    }

    /// The number that the next deferred answer has.
    pub(in crate::broker) fn next_reply(&self) -> u64 {
        self.peers.as_ref().map_or(0, |peers| peers.next_deferred)
    }
}
