//! Copies for shared groups: of each message one for each group, for one of its members.
//!
//! A copy does not say by which subscription it came. So it has the reasons it may have: the
//! client's own subscriptions, and groups that the client is or was in. At any time all copies of a
//! message must find reasons, of which a group is one; and at rest all that must have come must
//! find copies, or losses that were told of. Which member is chosen cannot be known: shards learn
//! late of each other's members, and take turns.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::codec::{Property, Publish};
use fulmar_core::{Qos, Version};

use super::super::{Flying, Note, Oracle};
use super::kept::Lot;
use super::seats::{first_without, places_for};
use super::{Publication, Wish};

/// Why a copy may have come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Subscriptions of the client's own; how many sessions it had before.
    Own(String, u64),
    /// A group, by its filter, and the publication, by its place among all.
    Group(usize, String),
}

/// A copy that came.
#[derive(Debug)]
struct Came {
    client: String,
    qos: Qos,
    reasons: Vec<Reason>,
    /// The session ended before the copy was surely acknowledged: another member may have it too.
    /// `[U5-072]`
    passed_on: bool,
}

/// The copies of one message, by the number in its payload.
#[derive(Debug, Default)]
struct Copies {
    came: Vec<Came>,
    /// How many a session may have because of its own subscriptions.
    own: BTreeMap<(String, u64), u64>,
}

impl Copies {
    fn room(&self, reason: &Reason) -> u64 {
        match reason {
            Reason::Own(client, life) => {
                self.own.get(&(client.clone(), *life)).copied().unwrap_or(0)
            }
            Reason::Group(..) => 1,
        }
    }

    /// Whether each copy has a reason, and none has to do for another.
    fn are_right(&self) -> bool {
        let single = self.came.iter().filter(|came| !came.passed_on);
        let wants: Vec<&[Reason]> = single.map(|came| &came.reasons[..]).collect();
        places_for(&wants, |reason| self.room(reason)) == wants.len()
    }
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    copies: BTreeMap<u64, Copies>,
    /// How many sessions of each client have ended.
    lives: BTreeMap<String, u64>,
    /// Who left which group since the last rest, or subscribed again.
    left: BTreeSet<(String, String)>,
}

impl Groups {
    pub(super) fn life(&self, client: &str) -> u64 {
        self.lives.get(client).copied().unwrap_or(0)
    }

    /// A client leaves a group, or subscribes again.
    pub(super) fn leaves(&mut self, client: &str, filter: &str) {
        self.left.insert((client.to_string(), filter.to_string()));
    }

    fn left(&self, client: &str, filter: &str) -> bool {
        self.left.contains(&(client.to_string(), filter.to_string()))
    }

    /// Nothing is under way.
    pub(super) fn settle(&mut self) {
        self.left.clear();
    }

    /// A copy came; `own` are those that may come by the client's own subscriptions. False if it is
    /// one too many, or has no reason.
    pub(super) fn came(
        &mut self,
        key: u64,
        (client, qos): (&str, Qos),
        reasons: Vec<Reason>,
        own: usize,
    ) -> bool {
        let place = (client.to_string(), self.life(client));
        let copies = self.copies.entry(key).or_default();
        let room = copies.own.entry(place).or_default();
        *room = (*room).max(own as u64);
        copies.came.push(Came { client: client.to_string(), qos, reasons, passed_on: false });
        copies.are_right()
    }

    /// What came of a message, for a complaint.
    pub(super) fn tell(&self, key: u64) -> String {
        self.copies.get(&key).map_or_else(String::new, |copies| format!("{:?}", copies.came))
    }

    /// A session ended, with this in flight.
    pub(super) fn session_ended<'f>(
        &mut self,
        client: &str,
        flying: impl Iterator<Item = &'f Flying>,
    ) {
        for flying in flying.filter(|flying| flying.due.qos == Qos::AtLeastOnce) {
            let copies = self.copies.get_mut(&flying.due.note.key).into_iter();
            let same = |came: &&mut Came| came.client == client && came.qos == Qos::AtLeastOnce;
            copies
                .flat_map(|copies| copies.came.iter_mut().filter(same))
                .for_each(|came| came.passed_on = true);
        }
        *self.lives.entry(client.to_string()).or_default() += 1;
    }
}

/// Why a client may have got this PUBLISH: the publications that it may be, with their places, of
/// which those before `settled` have reached their groups; and the subscriptions that may stand.
pub(super) fn reasons(
    (client, life): (&str, u64),
    (publications, settled): (&[(usize, &Publication)], usize),
    wishes: &[&Wish],
    publish: &Publish<'_>,
    version: Version,
) -> Vec<Reason> {
    let mut ids: Vec<u32> = Vec::new();
    for property in publish.properties.iter() {
        if let Property::SubscriptionIdentifier(id) = property {
            ids.push(id);
        }
    }
    let five = version == Version::V5;
    let qos = |wish: &Wish, p: &Publication| wish.options.qos.min(p.note.qos) == publish.qos;
    let mut reasons = BTreeSet::new();
    for (at, publication) in publications {
        let (own, shared): (Vec<&Wish>, Vec<&Wish>) = wishes.iter().partition(|w| !w.shared());
        let known = |id: u32| own.iter().any(|wish| wish.options.identifier == id);
        let named = ids.iter().all(|id| known(*id)) && (!ids.is_empty() || known(0));
        if (named || !five) && own.iter().any(|wish| qos(wish, publication)) {
            reasons.insert(Reason::Own(client.to_string(), life));
        }
        for wish in shared.into_iter().filter(|_| *at >= settled) {
            let named = match wish.options.identifier {
                0 => ids.is_empty(),
                id => ids == [id],
            };
            let flagged = wish.options.as_published && publication.note.retain;
            let stood = wish.gone.is_none_or(|gone| gone > publication.from);
            if (named || !five) && stood && flagged == publish.retain && qos(wish, publication) {
                reasons.insert(Reason::Group(*at, wish.filter.clone()));
            }
        }
    }
    reasons.into_iter().collect()
}

/// What accounts for something that must have come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// The number in its payload, and its place among the copies of the message.
    Copy(u64, usize),
    /// A client was told to have lost a copy.
    Lost(String, Qos),
    /// The same, when its session ended.
    Ended(String, Qos),
    /// A shard had no memory for it, or there was no credit on its way to another member: told of
    /// under the name of its publisher, of a member, or of the group.
    Short(String, Qos, usize),
}

const ALL: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

impl Oracle {
    /// At rest: of each message a member of each group has a copy where one surely stood all the
    /// time, beside what the clients' own subscriptions entitle them to; or losses account for it.
    pub(super) fn check_groups(&mut self) {
        let musts = self.musts();
        if !musts.iter().any(|(_, reason)| matches!(reason, Reason::Group(..))) {
            return;
        }
        let mut all: Vec<(u64, Vec<Found>)> = Vec::new();
        let mut whole: BTreeMap<u64, Vec<Found>> = BTreeMap::new();
        for (key, reason) in &musts {
            let founds = self.founds(*key, reason);
            match self.is_lost_whole(*key) {
                true => whole.entry(*key).or_default().extend(founds),
                false => all.push((*key, founds)),
            }
        }
        all.extend(whole);
        let wants: Vec<&[Found]> = all.iter().map(|(_, founds)| &founds[..]).collect();
        let losses = &self.books.losses;
        let room = |found: &Found| match found {
            Found::Copy(..) => 1,
            Found::Lost(client, qos) => losses.copies_of(client, *qos, false),
            Found::Ended(client, qos) => losses.copies_of(client, *qos, true),
            Found::Short(client, qos, shard) => losses.told_as(client, *qos, *shard),
        };
        if let Some(first) = first_without(&wants, room) {
            let key = all[first].0;
            let musts: Vec<_> = musts.iter().filter(|must| must.0 == key).collect();
            let came = self.books.groups.tell(key);
            self.fail("groups", format!("of {musts:?} came {came}"));
        }
    }

    /// Whether a message may have been lost once for all, which was told: then nobody has it for
    /// one reason.
    fn is_lost_whole(&self, key: u64) -> bool {
        let mut lots = self.lots_of(key);
        lots.any(|(client, qos, shard)| self.books.losses.told_as(&client, qos, shard) > 0)
    }

    /// A message with this number in its payload.
    fn noted(&self, key: u64) -> Option<&Note> {
        let at = *self.books.by_key.get(&key)?.last()?;
        Some(&self.books.publications[at].note)
    }

    fn lots_of(&self, key: u64) -> impl Iterator<Item = Lot> {
        let known = self.books.by_key.get(&key).into_iter().flatten();
        known.flat_map(|at| self.lost_as(&self.books.publications[*at]))
    }

    /// What must have come since the last rest, with the numbers in the payloads.
    fn musts(&self) -> Vec<(u64, Reason)> {
        let books = &self.books;
        let mut own = BTreeSet::new();
        let mut musts = Vec::new();
        for (at, publication) in books.publications.iter().enumerate().skip(books.settled) {
            let (note, from) = (&publication.note, publication.from);
            if publication.by.is_none() || note.key == 0 {
                continue;
            }
            let mut groups = BTreeSet::new();
            for (client, wishes) in books.wishes() {
                let stands = |w: &&Wish| w.stands_since(from) && w.matches(&note.topic);
                for wish in wishes.iter().filter(stands) {
                    let published = note.publisher.as_ref() == Some(client);
                    if wish.shared() {
                        groups.insert(&wish.filter);
                    } else if !(published && wish.options.no_local) {
                        let life = books.groups.life(client);
                        own.insert((note.key, Reason::Own(client.clone(), life)));
                    }
                }
            }
            let groups = groups.into_iter().map(|filter| Reason::Group(at, filter.clone()));
            musts.extend(groups.map(|reason| (note.key, reason)));
        }
        musts.extend(own);
        musts
    }

    /// All that can account for it.
    fn founds(&self, key: u64, reason: &Reason) -> Vec<Found> {
        let books = &self.books;
        let came = books.groups.copies.get(&key).map_or(&[][..], |copies| &copies.came);
        let copies = came.iter().enumerate().filter(|(_, came)| came.reasons.contains(reason));
        let mut founds: Vec<Found> = copies.map(|(at, _)| Found::Copy(key, at)).collect();
        let Some(note) = self.noted(key) else { return founds };
        let lost = |client: &String| {
            let home = usize::from(self.place.home(client));
            let all = ALL.into_iter().filter(|qos| *qos <= note.qos);
            let both =
                |qos| [Found::Lost(client.clone(), qos), Found::Short(client.clone(), qos, home)];
            all.flat_map(both).collect::<Vec<Found>>()
        };
        match reason {
            Reason::Own(client, _) => {
                founds.extend(lost(client));
                let lots = self.lots_of(key);
                founds.extend(lots.map(|(of, qos, shard)| Found::Short(of, qos, shard)));
            }
            Reason::Group(_, filter) => {
                for (client, _) in books.ever.iter().filter(|(_, of)| of == filter) {
                    founds.extend(lost(client));
                    // What waits when a session ends goes to another member, unless it is too late
                    // for that, or the session was no member any more.
                    if note.expires.is_some() || books.groups.left(client, filter) {
                        founds.extend(ALL.map(|qos| Found::Ended(client.clone(), qos)));
                    }
                }
                let publisher = note.publisher.clone().unwrap_or_default();
                let short = |shard| {
                    [&publisher, filter].map(|of| Found::Short(of.clone(), note.qos, shard))
                };
                founds.extend((0..self.standing.len()).flat_map(short));
            }
        }
        founds
    }
}
