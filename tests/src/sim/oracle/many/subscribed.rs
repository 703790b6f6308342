//! Which subscriptions of a client stand, as bounds: SUBSCRIBE and UNSUBSCRIBE that were not
//! answered may have gone down unread with their connection, and then it is not known either
//! whether there was room for the next one. Packets of one connection are handled in their order,
//! and those of one before are handled or gone when the next one is accepted.

use std::collections::{BTreeSet, VecDeque};

use fulmar_core::broker::ConnId;
use fulmar_core::codec::ReasonCode;
use fulmar_core::{Qos, Version};

use super::super::{Answer, Oracle};

/// One SUBSCRIBE or UNSUBSCRIBE.
#[derive(Debug)]
struct Request {
    conn: ConnId,
    /// Type of its answer.
    kind: u8,
    id: u16,
    /// Filters that are valid, with the QoS asked for.
    filters: Vec<(String, Qos)>,
    /// What became of each; nothing before the answer.
    fates: Vec<Fate>,
    /// No answer can come any more.
    over: bool,
    /// The call in which it was received.
    turn: u64,
    /// Its shard was nearly full between then and the answer.
    short: bool,
}

/// What leaves no room for another subscription.
#[derive(Clone, Copy)]
struct Room {
    /// As many as a session may have.
    most: usize,
    /// The shard was nearly full meanwhile.
    short: bool,
}

/// What became of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Fate {
    /// Not read perhaps.
    Open,
    /// Read; 3.1 does not say more.
    Read,
    Granted,
    Refused,
}

/// The subscriptions that surely stand, and those that may.
#[derive(Clone, Debug, Default)]
struct Bounds {
    sure: BTreeSet<String>,
    maybe: BTreeSet<String>,
}

impl Bounds {
    /// Whether there may have been no room for this one.
    fn may_refuse(&self, filter: &str, room: Room) -> bool {
        let others = self.maybe.len() - usize::from(self.maybe.contains(filter));
        !self.sure.contains(filter) && (room.short || others >= room.most)
    }

    /// Whether there may have been room.
    fn may_grant(&self, filter: &str, most: usize) -> bool {
        self.maybe.contains(filter) || self.sure.len() < most
    }

    fn subscribe(&mut self, filter: &str, fate: Fate, room: Room) {
        let refusable = self.may_refuse(filter, room);
        let grantable = self.may_grant(filter, room.most);
        if fate == Fate::Refused {
            self.unsubscribe(filter, true);
            return;
        }
        if fate == Fate::Granted || grantable {
            self.maybe.insert(filter.to_string());
        }
        if fate == Fate::Granted || fate == Fate::Read && !refusable {
            self.sure.insert(filter.to_string());
        }
    }

    fn unsubscribe(&mut self, filter: &str, read: bool) {
        self.sure.remove(filter);
        if read {
            self.maybe.remove(filter);
        }
    }

    fn follow(&mut self, request: &Request, most: usize) {
        let room = Room { most, short: request.short };
        for (at, (filter, _)) in request.filters.iter().enumerate() {
            let fate = request.fates.get(at).copied().unwrap_or(Fate::Open);
            match request.kind {
                9 => self.subscribe(filter, fate, room),
                _ => self.unsubscribe(filter, fate != Fate::Open),
            }
        }
    }

    /// What became of a filter of SUBSCRIBE, by the answer, if that can be right.
    fn judge(
        &self,
        (filter, asked): (&str, Qos),
        version: Version,
        (owed, said): (u8, u8),
        room: Room,
    ) -> Option<Fate> {
        let refused = match version {
            Version::V5 => ReasonCode::QuotaExceeded as u8,
            Version::V311 => 0x80,
            Version::V31 => asked as u8,
        };
        let granted = said == owed && self.may_grant(filter, room.most);
        let refused = said == refused && self.may_refuse(filter, room);
        match (granted, refused) {
            (true, true) => Some(Fate::Read),
            (true, false) => Some(Fate::Granted),
            (false, true) => Some(Fate::Refused),
            (false, false) => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Subscribed {
    /// Before the requests that are kept.
    before: Bounds,
    requests: VecDeque<Request>,
}

impl Subscribed {
    fn bounds(&self, count: usize, most: usize) -> Bounds {
        let mut bounds = self.before.clone();
        self.requests.iter().take(count).for_each(|request| bounds.follow(request, most));
        bounds
    }

    /// How many stand, at least and at most.
    pub(super) fn count(&self, most: usize) -> (usize, usize) {
        let bounds = self.bounds(self.requests.len(), most);
        (bounds.sure.len(), bounds.maybe.len().min(most))
    }

    /// Forgets requests of which nothing more will be known.
    fn settle(&mut self, most: usize) {
        let settled = |request: &mut Request| request.over || !request.fates.is_empty();
        while let Some(request) = self.requests.pop_front_if(settled) {
            self.before.follow(&request, most);
        }
    }

    fn left(&mut self, conn: ConnId, most: usize) {
        let own = self.requests.iter_mut().filter(|request| request.conn == conn);
        own.for_each(|request| request.over = true);
        self.settle(most);
    }

    /// What became of the filters of a request that is answered; `None` where the answer is wrong.
    fn answer(
        &mut self,
        at: usize,
        version: Version,
        (owed, said): (&[u8], &[u8]),
        room: Room,
    ) -> Option<Vec<Fate>> {
        let mut bounds = self.bounds(at, room.most);
        let request = &mut self.requests[at];
        request.short = room.short;
        let mut filters = request.filters.iter();
        let mut fates = Vec::new();
        let silent = request.kind == 11 && version < Version::V5;
        if owed.len() != said.len() || silent && !said.is_empty() {
            return None;
        }
        for (owed, said) in owed.iter().copied().zip(said.iter().copied()) {
            // One that is no filter.
            if owed == ReasonCode::TopicFilterInvalid as u8 {
                if said != owed {
                    return None;
                }
                continue;
            }
            let (filter, asked) = filters.next()?;
            let fate = match request.kind {
                9 => bounds.judge((filter, *asked), version, (owed, said), room)?,
                _ => {
                    let stood = said == ReasonCode::Success as u8;
                    let none = said == ReasonCode::NoSubscriptionExisted as u8;
                    let right = stood && bounds.maybe.contains(filter)
                        || none && !bounds.sure.contains(filter);
                    right.then_some(Fate::Read)?
                }
            };
            match request.kind {
                9 => bounds.subscribe(filter, fate, room),
                _ => bounds.unsubscribe(filter, true),
            }
            fates.push(fate);
        }
        if silent {
            fates = vec![Fate::Read; request.filters.len()];
        }
        request.fates.clone_from(&fates);
        request.over = true;
        self.settle(room.most);
        Some(fates)
    }
}

impl Oracle {
    /// SUBSCRIBE or UNSUBSCRIBE was received, with these filters.
    pub(in super::super) fn request(
        &mut self,
        conn: ConnId,
        (kind, id): (u8, u16),
        filters: Vec<(String, Qos)>,
    ) {
        let Some(client) = self.wires.get(&conn).and_then(|wire| wire.client.clone()) else {
            return;
        };
        let (fates, over, turn, short) = (Vec::new(), false, self.turn, false);
        let request = Request { conn, kind, id, filters, fates, over, turn, short };
        let got = self.books.got.entry(client).or_default();
        got.subscribed.requests.push_back(request);
    }

    /// SUBACK or UNSUBACK was sent: what became of each filter that is valid; `None` where the
    /// answer cannot be right.
    pub(in super::super) fn settle_request(
        &mut self,
        conn: ConnId,
        owed: &Answer,
        said: &[u8],
    ) -> Option<Vec<Fate>> {
        let most = self.config.max_subscriptions as usize;
        let wire = self.wires.get(&conn)?;
        let (client, version) = (wire.client.as_ref()?, wire.version);
        let own = |request: &Request| {
            let same = request.conn == conn && request.kind == owed.kind && request.id == owed.id;
            same && !request.over
        };
        let standing = self.standing[usize::from(self.place.home(client))];
        let subscribed = self.books.got.get_mut(client).map(|got| &mut got.subscribed);
        let found = subscribed.and_then(|subscribed| {
            let at = subscribed.requests.iter().position(own)?;
            Some((subscribed, at))
        });
        match found {
            Some((subscribed, at)) => {
                let short = standing.was_full(subscribed.requests[at].turn);
                let room = Room { most, short };
                let fates = subscribed.answer(at, version, (&owed.reasons, said), room);
                let unsure = |fates: &Vec<Fate>| fates.iter().any(|fate| *fate != Fate::Granted);
                let unsure = owed.kind == 9 && fates.as_ref().is_none_or(unsure);
                self.books.asked.take_if(|asked| unsure && asked.client == *client);
                fates
            }
            // Its session has ended meanwhile.
            None => {
                let on = self.sessions.get(client).is_some_and(|s| s.conn == Some(conn));
                (!on).then(Vec::new)
            }
        }
    }

    /// Nothing more is sent on a connection.
    pub(in super::super) fn request_over(&mut self, conn: ConnId) {
        let most = self.config.max_subscriptions as usize;
        self.books.got.values_mut().for_each(|got| got.subscribed.left(conn, most));
    }
}
