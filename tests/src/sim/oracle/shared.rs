//! Copies of shared groups, with one shard: which member has which.
//!
//! A copy does not say by which group it came, nor of which publication it is where a message was
//! published twice. So one may be taken for another at first, and they change places as soon as
//! something else must find one.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use fulmar_core::Qos;

use super::{Cause, Due, Flying, Moment, Note, Oracle};

/// The copy of a shared group: for one of its members.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) filter: String,
    pub(super) note: Rc<Note>,
    /// Who may have it, and in which form; a client comes twice if its subscription changed.
    candidates: Vec<(String, Due)>,
    /// Those whose session has ended since.
    former: Vec<(String, Due)>,
    /// Who has it, as it seems.
    pub(super) given: Option<Given>,
    /// Whether it must come or be counted as lost; otherwise it may.
    pub(super) must: bool,
}

/// A copy that was sent to a member of a group.
#[derive(Clone, Debug)]
pub(super) struct Given {
    client: String,
    due: Due,
    /// With the properties of 5.0.
    five: bool,
    sent: Moment,
}

impl Given {
    /// Whether it may have been this one.
    fn looks_like(&self, due: &Due) -> bool {
        let had = &self.due;
        due.note.key == had.note.key
            && due.note.topic == had.note.topic
            && (due.qos, due.retain) == (had.qos, had.retain)
            && (!self.five || due.ids == had.ids)
            && self.sent.may_be_of(&due.note)
    }
}

impl Shared {
    /// The forms in which a client may have it.
    fn for_client(&self, client: &str) -> impl Iterator<Item = &Due> {
        self.candidates.iter().filter(move |(member, _)| member == client).map(|(_, due)| due)
    }

    /// Whether it may be what this client was sent. It may have been before its session ended.
    fn fits(&self, given: &Given) -> bool {
        let former = self.former.iter().filter(|(client, _)| *client == given.client);
        let mut all = self.for_client(&given.client).chain(former.map(|(_, due)| due));
        all.any(|due| given.looks_like(due))
    }
}

impl Oracle {
    /// A copy for one member of a group: a connected one, if there is any.
    pub(super) fn share(
        &mut self,
        filter: String,
        note: &Rc<Note>,
        members: BTreeMap<String, (bool, Due)>,
    ) {
        let any = members.values().any(|(connected, _)| *connected);
        let candidates = members
            .into_iter()
            .filter(|(_, (connected, _))| *connected || !any)
            .map(|(client, (_, due))| (client, due))
            .collect();
        let note = note.clone();
        let former = Vec::new();
        // What is retained too may come in the place of it.
        let must = !note.retain;
        self.shared.push(Shared { filter, note, candidates, former, given: None, must });
    }

    /// Copies of groups that this client may have.
    pub(super) fn shared_with(&self, client: &str) -> u64 {
        self.offers(client).count() as u64
    }

    /// These copies; also those that it or another client seems to have, since that may have been
    /// one of another group.
    pub(super) fn offers(&self, client: &str) -> impl Iterator<Item = &Due> {
        self.shared.iter().filter_map(move |shared| shared.for_client(client).next())
    }

    /// A member of a group was given its copy, in this form. `None` if there is none to be had.
    /// `five`: with the properties of 5.0.
    pub(super) fn give(
        &mut self,
        client: &str,
        five: bool,
        sent: Moment,
        fits: &dyn Fn(&Due) -> bool,
    ) -> Option<Due> {
        let offered = |shared: &Shared| shared.for_client(client).any(fits);
        let at = self.find_offer(&offered, &mut Vec::new())?;
        let due = self.shared[at].for_client(client).find(|due| fits(due))?.clone();
        let client = client.to_string();
        self.shared[at].given = Some(Given { client, due: due.clone(), five, sent });
        Some(due)
    }

    /// A copy that another seemed to be which was sent before: of a message that was published
    /// twice, that one came by way of a group, of the publication that has expired since. Before
    /// 5.0, where they look alike.
    pub(super) fn change_places(
        &mut self,
        client: &str,
        fits: &dyn Fn(&Due) -> bool,
    ) -> Option<Due> {
        let session = self.sessions.get(client)?;
        let before = session.flying.iter().chain(&session.late).enumerate();
        let copy = |flying: &Flying| {
            let (client, due, sent) = (client.to_string(), flying.due.clone(), flying.sent);
            Given { client, due, five: false, sent }
        };
        let before = before.filter(|(_, flying)| fits(&flying.due));
        let before: Vec<(usize, Given)> = before.map(|(at, flying)| (at, copy(flying))).collect();
        let (at, other) = before.into_iter().find_map(|(at, copy)| {
            let alike = |due: &Due| copy.looks_like(due);
            Some((at, self.give(client, false, copy.sent, &alike)?))
        })?;
        let session = self.sessions.get_mut(client)?;
        let flying = session.flying.iter_mut().chain(&mut session.late).nth(at)?;
        Some(std::mem::replace(&mut flying.due, other))
    }

    /// A client had another copy than it seemed: this one is to be had again.
    pub(super) fn give_back(&mut self, client: &str, due: Due) {
        let same = |shared: &&mut Shared| {
            shared.given.as_ref().is_some_and(|given| {
                let had = &given.due;
                given.client == client && Rc::ptr_eq(&had.note, &due.note) && had.ids == due.ids
            })
        };
        if due.cause != Cause::Shared {
            self.sessions.get_mut(client).into_iter().for_each(|s| s.due.push(due.clone()));
        } else if let Some(shared) = self.shared.iter_mut().find(same) {
            shared.given = None;
        }
    }

    /// One of these copies that is free, or is made free by giving its holder another one.
    fn find_offer(
        &mut self,
        offered: &dyn Fn(&Shared) -> bool,
        tried: &mut Vec<usize>,
    ) -> Option<usize> {
        let offers: Vec<usize> =
            (0..self.shared.len()).filter(|at| offered(&self.shared[*at])).collect();
        let free = offers.iter().filter(|at| self.shared[**at].given.is_none());
        if let Some(free) = free.max_by_key(|at| self.shared[**at].must) {
            return Some(*free);
        }
        for at in offers {
            if tried.contains(&at) {
                continue;
            }
            tried.push(at);
            let Some(given) = self.shared[at].given.clone() else { continue };
            if let Some(other) = self.find_offer(&|shared| shared.fits(&given), tried) {
                self.shared[other].given = Some(given);
                self.shared[at].given = None;
                return Some(at);
            }
        }
        None
    }

    /// Copies that must have come, and did not as it seems: of those that came some may have been
    /// these, and need not have been what they seemed.
    pub(super) fn settle_shared(&mut self) {
        for at in 0..self.shared.len() {
            if self.shared[at].must && self.shared[at].given.is_none() {
                self.find_copy_for(at, &mut vec![at]);
            }
        }
    }

    /// Finds a copy that may have been this one. Whose place it takes need not have come, or finds
    /// another.
    fn find_copy_for(&mut self, at: usize, tried: &mut Vec<usize>) -> bool {
        for other in 0..self.shared.len() {
            let Some(given) = self.shared[other].given.clone() else { continue };
            if tried.contains(&other) || !self.shared[at].fits(&given) {
                continue;
            }
            tried.push(other);
            self.shared[other].given = None;
            if !self.shared[other].must || self.find_copy_for(other, tried) {
                self.shared[at].given = Some(given);
                return true;
            }
            self.shared[other].given = Some(given);
        }
        false
    }

    /// A session ended: its copies of shared groups may go to other members, also those of QoS 1
    /// that were sent and not acknowledged. `[U5-072]`
    pub(super) fn pass_on(&mut self, client: &str, again: &[Rc<Note>]) {
        let sessions = &mut self.sessions;
        let mut keys = BTreeSet::new();
        for shared in &mut self.shared {
            let gone = shared.candidates.extract_if(.., |(member, _)| member == client);
            let before = shared.former.len();
            shared.former.extend(gone);
            let was = shared.former.len() > before;
            let held = shared.given.as_ref().filter(|given| given.client == client);
            if !was && held.is_none() {
                continue;
            }
            let unsure = |note: &Rc<Note>| again.iter().any(|other| Rc::ptr_eq(other, note));
            let first = |given: &Given| given.due.qos == Qos::AtLeastOnce;
            if held.is_some_and(|given| first(given) && unsure(&given.due.note)) {
                shared.given = None;
            }
            for (other, session) in sessions.iter_mut() {
                if let Some(subscription) = session.subscriptions.get(&shared.filter) {
                    let due = subscription.due(&shared.note, Cause::Shared);
                    session.mixed.insert(shared.note.key);
                    shared.candidates.push((other.clone(), due));
                }
            }
            keys.insert(shared.note.key);
        }
        // The loss, if it was one, is told of under the name of the session that ended; by which
        // of several groups it had come is not known.
        for shared in self.shared.iter_mut().filter(|shared| keys.contains(&shared.note.key)) {
            shared.must = false;
        }
    }
}
