//! Memory of several shards that is used up: what may be refused or lost for want of it, and that
//! each loss is told.
//!
//! Who stands outside does not know when a packet is read. So it may be refused where its shard was
//! nearly full in any call since it was received, or may have been within it, and may be taken at
//! any time.

use std::collections::BTreeMap;

use fulmar_core::broker::{ConnId, DropReason};
use fulmar_core::{Qos, Version};

use super::super::account::BEYOND;
use super::super::{Call, Figures, Oracle, Standing};
use super::Publication;
use super::kept::Lot;
use super::seats::places_for;

/// Bytes that are reserved for the rest of a packet, whatever its header says, or as many as are
/// there.
const TRUST: u64 = 16 * 1024;

/// Bytes that a subscription is charged with while it waits for other shards, at most: 232 for its
/// gate, and about 70 for SUBACK, and for one behind it.
const WAITING: u64 = 384;

/// Bytes that a message is charged with which is published in a call, but for its payload and its
/// copies; those of a copy; and those of a DISCONNECT that waits to be sent.
const MESSAGE: u64 = 256;
const COPY: u64 = 48;
const GOODBYE: u64 = 4 * 1024;

/// Losses told of for want of memory.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Since the last rest, by the shard that told of them.
    told: BTreeMap<Lot, u64>,
    /// The same, less the refusals that were answered.
    unanswered: BTreeMap<(String, Qos), u64>,
    /// Copies lost for other reasons since the last rest, also of sessions that have ended; and
    /// whether that was when they ended.
    copies: BTreeMap<(String, Qos, bool), u64>,
}

impl Losses {
    /// How many copies a client was told to have lost, but for want of memory: when its session
    /// `ended`, or before.
    pub(super) fn copies_of(&self, client: &str, qos: Qos, ended: bool) -> u64 {
        self.copies.get(&(client.to_string(), qos, ended)).copied().unwrap_or(0)
    }

    /// How many losses for want of memory a shard told of so.
    pub(super) fn told_as(&self, client: &str, qos: Qos, shard: usize) -> u64 {
        self.told.get(&(client.to_string(), qos, shard)).copied().unwrap_or(0)
    }
}

impl Oracle {
    /// A will is published in this call.
    pub(in super::super) fn charge_will(&mut self) {
        self.charged += self.cost_of(0);
    }

    /// Bytes that a message with such a payload is charged with.
    fn cost_of(&self, payload: usize) -> u64 {
        MESSAGE + payload as u64 + COPY * self.sessions.len() as u64
    }

    /// A connection is closed in this call.
    pub(in super::super) fn charge_goodbye(&mut self, conn: ConnId) {
        let told = self.wires.get(&conn).is_some_and(|wire| wire.version == Version::V5);
        self.charged += if told { GOODBYE } else { 0 };
    }

    /// A message of another shard comes in this call, of so many bytes. What it brings is charged
    /// before the gates that it opens are given back.
    pub(in super::super::super) fn charge_peer(&mut self, bytes: usize) {
        self.charged += 2 * bytes as u64 + WAITING;
    }

    /// A client was told to have lost copies, but for want of memory.
    pub(in super::super) fn told_copies(
        &mut self,
        client: &str,
        qos: Qos,
        why: DropReason,
        count: u32,
    ) {
        let place = (client.to_string(), qos, why == DropReason::SessionEnded);
        *self.books.losses.copies.entry(place).or_default() += u64::from(count);
    }

    /// How far each shard is used up: before a call, or after it.
    pub(in super::super::super) fn look(
        &mut self,
        figures: impl Iterator<Item = Figures>,
        before: bool,
    ) {
        let (turn, full) = (self.turn, self.config.shard_budget / 100 * 95);
        for (standing, figures) in self.standing.iter_mut().zip(figures) {
            standing.now = figures;
            standing.before = if before { figures } else { standing.before };
            standing.full = if figures.used > full { Some(turn) } else { standing.full };
        }
        let most = u64::from(self.config.max_retained);
        let over = self.standing.iter().find(|standing| standing.now.retained > most);
        let over = over.map(|standing| format!("more than {most} retained: {standing:?}"));
        let mut shards = self.standing.iter().enumerate();
        let beyond = shards.find(|(shard, standing)| standing.now.used > self.most_charged(*shard));
        let beyond = beyond.map(|(shard, standing)| format!("{shard} uses too much: {standing:?}"));
        if let Some(what) = over.or(beyond) {
            self.fail("figures", what);
        }
    }

    /// Whether there is little memory, so that it may be used up.
    pub(in super::super) fn is_tight(&self) -> bool {
        self.config.shard_budget < 1_000_000
    }

    /// Whether a message may find no credit on its way: with as little memory as the plan gives to
    /// shards of which that is wanted.
    fn has_little_credit(&self) -> bool {
        self.config.shard_budget <= 1 << 20
    }

    /// Bytes that may be charged to a shard: its budget, and what those who are connected there, or
    /// may be, hold beyond it while it is used up.
    fn most_charged(&self, shard: usize) -> u64 {
        let here = |asked: &super::super::Asked| self.home(&asked.client_id) == shard;
        let wires = self.wires.values().filter(|wire| wire.asked.as_ref().is_none_or(here));
        self.config.shard_budget + BEYOND * (1 + wires.count() as u64)
    }

    /// The effects that are shown next are of this shard.
    pub(in super::super::super) fn turn_to(&mut self, shard: usize) {
        self.shard = shard;
    }

    /// Whether a shard may have been nearly full within this call, for a message that takes so many
    /// bytes: with what the call may have added before, where it reads on who waited, and with what
    /// was retained and has gone since.
    pub(super) fn is_short_for(&self, shard: usize, bytes: u64) -> bool {
        let waiting = self.waiting_at(shard).filter(|_| self.call == Call::Timeout);
        let published: u64 = waiting.map(|payload| self.cost_of(payload)).sum();
        let Standing { before, now, .. } = self.standing[shard];
        let gone = before.retained_bytes.saturating_sub(now.retained_bytes);
        let most = before.used.max(now.used + gone) + self.charged + published + bytes;
        most > self.config.shard_budget / 100 * 95 || self.standing[shard].was_full(self.turn)
    }

    /// The same for the shard whose effects are shown.
    pub(in super::super) fn is_short_here(&self) -> bool {
        self.is_short_for(self.shard, 0)
    }

    /// At the end of a call: which shards may have been, for what is answered later.
    pub(in super::super) fn settle_short(&mut self) {
        for shard in 0..self.standing.len() {
            let Standing { before, now, .. } = self.standing[shard];
            if before != now && self.is_short_for(shard, 0) {
                self.standing[shard].full = Some(self.turn);
            }
        }
    }

    fn home(&self, client: &str) -> usize {
        usize::from(self.place.home(client))
    }

    /// Whether so many bytes of a packet, which a connection holds, may be more than there is room
    /// for here.
    pub(in super::super) fn is_too_much_here(&self, held: u64) -> bool {
        let part = held + held.max(TRUST);
        self.standing[self.shard].before.used + part > self.config.shard_budget
    }

    /// Whether a client's last message of this QoS and identifier may be refused.
    pub(in super::super) fn may_lack_memory(&self, conn: ConnId, qos: Qos, id: u16) -> bool {
        let client = self.wires.get(&conn).and_then(|wire| wire.client.as_deref());
        let Some(client) = client else { return false };
        let found = self.books.publications.iter().rev().find(|p| p.came_as(conn, qos, id));
        let standing = self.standing[self.home(client)];
        found.is_some_and(|publication| standing.was_full(publication.turn))
    }

    /// A program's message was refused, at once or later. True if there may have been no memory.
    pub(in super::super::super) fn refuse_command(&mut self, key: u64, shard: usize) -> bool {
        let standing = self.standing[shard];
        let all = &mut self.books.publications;
        let own = |p: &&mut Publication| p.note.publisher.is_none() && p.note.key == key;
        let Some(publication) = all.iter_mut().rev().find(own) else { return false };
        publication.unsure = true;
        standing.was_full(publication.turn) || self.is_short_for(shard, 0)
    }

    /// A shard told of a loss for want of memory: of copies of this client, or of messages that it
    /// published, empty for a program; or of copies of this group.
    pub(in super::super) fn told_short(&mut self, client: &str, qos: Qos, count: u32) {
        let shard = self.shard;
        let group = client.starts_with("$share/");
        let own = self.home(client) == shard && !client.is_empty() && !group;
        // Refused as one identifier of QoS 2 too many.
        let session = self.sessions.get_mut(client).filter(|_| own && qos == Qos::ExactlyOnce);
        let over = session.map(|session| &mut session.over).filter(|over| **over > 0);
        let many = over.is_some();
        over.into_iter().for_each(|over| *over = over.saturating_sub(count.into()));
        // Pressure that lasts. What is due at the same time comes before.
        let used = self.standing[shard].before.used + self.charged;
        let shed = own && self.call == Call::Timeout && used > self.config.shard_budget / 100 * 80;
        // On its way to another member of a group, where there is no credit.
        let known = group && self.books.ever.iter().any(|(_, filter)| filter == client);
        let shared = known && self.has_little_credit();
        let standing = self.standing[shard];
        let right = self.is_short_here() || many || shed || shared;
        self.ensure(right, "losses", || {
            format!(
                "shard {shard} loses {count} of {client}, {qos:?}, but has memory: {standing:?}"
            )
        });
        let count = u64::from(count);
        let lot = (client.to_string(), qos, shard);
        *self.books.losses.told.entry(lot.clone()).or_default() += count;
        self.books.kept.told_short(lot, count);
        if own {
            self.lost(client, count as u32);
            *self.books.losses.unanswered.entry((client.to_string(), qos)).or_default() += count;
            if let Some(session) = self.sessions.get_mut(client) {
                session.short[qos as usize] += count;
            }
        }
    }

    /// A refused message was answered so, and was counted.
    pub(super) fn answer_refusal(&mut self, client: &str, qos: Qos) {
        let place = (client.to_string(), qos);
        let told = self.books.losses.unanswered.get_mut(&place).filter(|told| **told > 0);
        let counted = told.is_some();
        told.into_iter().for_each(|told| *told -= 1);
        self.ensure(counted, "losses", || {
            format!("a refused message of {client}, {qos:?}, was not counted")
        });
    }

    /// How many of these messages, which did not come to a client, are not accounted for by losses
    /// of whole messages: refused where they were published, or lost at the owner of their topic.
    pub(super) fn unexplained(&self, missing: &[&Publication]) -> u64 {
        let lots: Vec<Vec<Lot>> = missing.iter().map(|p| self.lost_as(p)).collect();
        let wants: Vec<&[Lot]> = lots.iter().map(|lots| &lots[..]).collect();
        let told = &self.books.losses.told;
        (missing.len() - places_for(&wants, |lot| told.get(lot).copied().unwrap_or(0))) as u64
    }

    /// As which losses a message may have been told of that came to nobody.
    pub(super) fn lost_as(&self, publication: &Publication) -> Vec<Lot> {
        let note = &publication.note;
        let publisher = note.publisher.clone().unwrap_or_default();
        let once = self.books.by_key.get(&note.key).is_some_and(|all| all.len() == 1);
        if once && self.books.got.values().any(|got| got.copies.contains_key(&note.key)) {
            return Vec::new();
        }
        let home = self.home(&publisher);
        let mut lots = Vec::new();
        if note.retain {
            lots.push((publisher.clone(), note.qos, usize::from(self.place.owner(&note.topic))));
        }
        if note.qos == Qos::AtMostOnce && note.publisher.is_some() && !publication.will {
            lots.push((publisher, note.qos, home));
        }
        lots
    }

    /// Nothing is under way: what was lost until now is accounted for.
    pub(super) fn settle_losses(&mut self) {
        self.books.losses = Losses::default();
    }
}

impl Standing {
    /// Whether it was nearly full in or after this call, or may have been.
    pub(in super::super) fn was_full(&self, turn: u64) -> bool {
        self.full.is_some_and(|full| full >= turn)
    }
}
