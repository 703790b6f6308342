//! Questions to the owners of topics for what they retain, and their answers, page by page.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::message::Message;
use super::super::queue::{Copy, Ids, NO_GROUP};
use super::super::session::{Session, Walk, WalkId};
use super::super::slots::Key;
use super::super::subscribe::{BESIDE, FIRST_STEPS, WALK_STEPS};
use super::super::transmit::WALK_BELOW;
use super::super::{Broker, DropReason};
use super::msg::{Msg, Page, Parcel, Query};
use super::{Peers, UNCONFIRMED, WINDOW, is_wild};
use crate::time::Instant;
use crate::topic::Cursor;

/// Bytes of a page, beside its last message.
const PAGE_BYTES: u64 = 256 * 1024;

/// Filters with wildcards of one session that each owner is asked for messages of at once. One
/// packet brings thousands, and no place is kept for what they bring.
const FIRST_FILTERS: usize = if cfg!(fuzzing) { 1 } else { 8 };

/// Questions under way beyond which no other shard is asked for messages at once: more than the
/// window, which holds up clients but no program, and what one packet adds to it.
const FIRST_QUERIES: usize = 2 * WINDOW as usize;

/// Who waits for an answer.
pub(super) struct Asked {
    session: Key,
    filter: Arc<str>,
    /// Places in its queue that are kept for the answer.
    room: usize,
    /// The first of a filter with wildcards, which may bring some.
    first: bool,
}

/// Bytes charged for a question, until it is answered: with itself, and the walk that waits.
pub(super) const COST: u64 =
    UNCONFIRMED + (size_of::<Asked>() + size_of::<Walk>() + size_of::<WalkId>() + 64) as u64;

impl Peers {
    /// Messages that the answer to a session's next first question may bring. With 0 it says only
    /// whether there is something: that is asked for as the session drains.
    pub(super) fn first_room(&self, session: &Session, filter: &str) -> usize {
        let firsts = session.pending.as_ref().map_or(0, |pending| pending.firsts());
        let few = firsts < FIRST_FILTERS * self.others.count_ones() as usize;
        match is_wild(filter) {
            false => 1,
            true if few && self.queries.len() < FIRST_QUERIES => WALK_BELOW,
            true => 0,
        }
    }

    /// Asks for the next page of a session's walk, of one message while memory is short. For a
    /// first one no place is kept: its gate waits for the answer, and thousands are asked for at
    /// once.
    pub(super) fn ask(
        &mut self,
        key: Key,
        session: &mut Session,
        id: WalkId,
        mut walk: Walk,
        room: usize,
    ) {
        let (filter, Some(shard)) = &id else { return };
        let room = if self.short { room.min(1) } else { room };
        self.next_query += 1;
        walk.query = self.next_query;
        let begun = walk.cursor.upto().is_some();
        let (kept, first) = (if begun { room } else { 0 }, !begun && room > 0 && is_wild(filter));
        let asked = Asked { session: key, filter: filter.clone(), room: kept, first };
        self.queries.insert(walk.query, asked);
        self.charge_tables();
        session.pending().keep(kept, first);
        let query = Query {
            id: walk.query,
            filter: filter.clone(),
            upto: walk.cursor.upto(),
            after: walk.cursor.after(),
            room: room as u32,
        };
        self.links[usize::from(*shard)].out.push(Msg::Query(query));
        session.pending().asked(id, walk);
    }
}

#[cfg(feature = "fuzzing")]
impl Peers {
    /// A count of the places that are kept in the queue of a session.
    pub(in crate::broker) fn kept_for(&self, session: Key) -> usize {
        self.queries.values().filter(|asked| asked.session == session).map(|asked| asked.room).sum()
    }
}

impl Broker {
    /// Asks for the next page of the first walk, which gets an equal part of the room with all
    /// others. False if what is behind gates needs it.
    pub(in crate::broker) fn ask(&mut self, key: Key, room: usize) -> bool {
        let Some(peers) = &mut self.peers else { return false };
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let held = session.pending.as_ref().map_or(0, |pending| pending.held().0);
        let part = room.saturating_sub(held).div_ceil(session.walks.len().max(1));
        if part == 0 {
            return false;
        }
        if let Some((id, walk)) = session.walks.pop_first() {
            peers.ask(key, session, id, walk, part);
        }
        true
    }

    /// Gives retained messages to another shard: a part of those that match, with where it ends.
    /// Without room it is none, and one look.
    pub(super) fn answer_query(&mut self, now: Instant, from: u16, query: Query) {
        let upto = query.upto.unwrap_or(self.retained.sequence());
        let mut cursor = Cursor::at(query.filter, upto, query.after);
        let (mut bytes, mut messages) = (0, Vec::new());
        let done = if query.room == 0 {
            // One look: whether nothing is there is known at once, for most filters.
            let (mut look, mut any) = (cursor.clone(), false);
            let mut found = |_: &str, _: &Arc<Message>| {
                any = true;
                false
            };
            self.retained.walk(now, &mut look, 1, &mut found) && !any
        } else {
            self.retained.walk(now, &mut cursor, WALK_STEPS, &mut |_, message| {
                bytes += message.footprint();
                messages.push(Parcel { head: message.head.clone(), body: message.body().clone() });
                messages.len() < query.room as usize && bytes < PAGE_BYTES
            })
        };
        let page = Page { id: query.id, upto, after: cursor.after(), done, messages };
        if let Some(peers) = &mut self.peers {
            peers.links[usize::from(from)].out.push(Msg::Page(page));
        }
    }

    /// Takes retained messages from their owner, as many as there is room for. Where memory is used
    /// up they are lost, as what is published elsewhere is: nobody would ask for them again.
    pub(super) fn take_page(&mut self, now: Instant, from: u16, page: Page) {
        let Some(peers) = &mut self.peers else { return };
        let full = peers.window_is_full();
        let Some(asked) = peers.queries.remove(&page.id) else { return };
        peers.charge_tables();
        let Asked { session: key, filter, room: kept, first } = asked;
        if full {
            self.go_on_later();
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        let id = (filter.clone(), Some(from));
        let mut room = session.queue_limit(self.config.max_msg_queue).min(WALK_BELOW as u32);
        let Some(pending) = &mut session.pending else { return };
        pending.give_back(kept, first);
        // What other owners answered waits behind the same gate, or another.
        let (held, waiting) = pending.held();
        let Some(walk) = pending.asker(&id, page.id) else {
            session.tidy();
            // The next one may have its places.
            self.walk(now, key, FIRST_STEPS);
            return;
        };
        let (options, mut last) = (walk.options, walk.cursor.after());
        let own = options.no_local().then(|| session.client_id.clone());
        let largest = u64::from(self.config.max_packet_size) + BESIDE;
        let most_bytes = self.config.max_msg_queue_bytes.saturating_sub(largest);
        room = room.saturating_sub((session.queue.len() + held) as u32);
        let mut bytes = session.queue.bytes() + waiting;
        let (mut after, mut done) = (page.after, page.done);
        let mut parcels = Vec::new();
        for parcel in page.messages {
            if room == 0 || bytes > 0 && bytes >= most_bytes {
                // The rest is asked for again, later.
                (after, done) = (last, false);
                break;
            }
            last = Some(Arc::from(parcel.body.topic()));
            // [MQTT-3.8.3-3]
            if own.is_some() && own == parcel.head.publisher {
                continue;
            }
            (room, bytes) = (room - 1, bytes + parcel.body.footprint());
            parcels.push(parcel);
        }
        walk.cursor = Cursor::at(filter.clone(), page.upto, after);
        walk.query = 0;
        let gate = pending.gate(&filter);
        session.answered(id, done);
        let mut copies = Vec::new();
        for parcel in parcels {
            let qos = options.qos().min(parcel.head.qos);
            if self.is_full() {
                self.drop_copy(key, qos, DropReason::OutOfBudget);
                continue;
            }
            // [U5-037]: RETAIN is set, whatever Retain As Published says.
            let ids = Ids::One(options.identifier());
            let message = self.adopt(parcel);
            copies.push(Copy { message, ids, group: NO_GROUP, qos, retain: true });
        }
        self.take_answer(now, key, gate, from, copies);
    }
}
