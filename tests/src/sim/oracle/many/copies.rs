//! Which publication a copy is that comes from one of several shards, and whether it may come.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::broker::DeliveryMode;
use fulmar_core::codec::{Property, Publish};
use fulmar_core::{Instant, Version};

use super::super::incoming::common;
use super::super::publications::seconds;
use super::super::{Cause, Due, Note, Oracle};
use super::groups::{Reason, reasons};
use super::{Got, Lane, Publication, Wish};

impl Oracle {
    /// The copy that this PUBLISH is.
    pub(in super::super) fn take_copy(
        &mut self,
        client: &str,
        version: Version,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Option<Due> {
        match self.find_copy(client, version, topic, publish) {
            Ok(due) => Some(due),
            Err(checker) => {
                let key = Self::key(publish.payload);
                let wishes = self.books.got.get(client).map(|got| &got.wishes);
                let came = self.books.groups.tell(key);
                let what = format!("{client}: {topic} {key} {publish:?}, {wishes:?}, {came}");
                self.fail(checker, what);
                None
            }
        }
    }

    fn find_copy(
        &mut self,
        client: &str,
        version: Version,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Result<Due, &'static str> {
        let key = Self::key(publish.payload);
        let books = &mut self.books;
        let got = books.got.get_mut(client).ok_or("entitlement")?;
        let known = books.by_key.get(&key).map_or(&[][..], |known| known);
        let same: Vec<(usize, &Publication)> = known
            .iter()
            .map(|at| (*at, &books.publications[*at]))
            .filter(|(_, p)| p.note.topic == topic && p.note.payload == publish.payload)
            .collect();
        // Those without a number look alike: it is one for which all is right.
        let view = View { version, now: self.now, mode: self.config.delivery_mode };
        let judge = |p: &Publication| judge(client, p, &got.wishes, publish, view);
        let mut wrong = "entitlement";
        let right = same.iter().find_map(|(_, p)| match judge(p) {
            Ok(view) => Some((*p, view)),
            Err(checker) => {
                wrong = checker;
                None
            }
        });
        let (fit, (wishes, ids)) = right.ok_or(wrong)?;
        let fits: Vec<(usize, &Publication)> =
            same.iter().copied().filter(|(_, p)| judge(p).is_ok()).collect();
        let note = fit.note.clone();
        let new = fits.iter().any(|(at, _)| *at >= books.settled) || got.asks(&wishes);
        new.then_some(()).ok_or("entitlement")?;
        got.came += 1;
        if key != 0 {
            let mut all = wishes.clone();
            all.extend(got.past.iter().filter(|wish| wish.matches(topic)));
            let own: Vec<&Wish> = all.iter().copied().filter(|wish| !wish.shared()).collect();
            let own = most(self.config.delivery_mode, &own, &note, same.len());
            let most = most(self.config.delivery_mode, &all, &note, same.len());
            let copies = got.copies.entry(key).or_default();
            *copies += 1;
            if *copies as usize > most {
                return Err("twice");
            }
            let filters: BTreeSet<&str> = wishes.iter().map(|wish| &*wish.filter).collect();
            let alone = filters.len() == 1;
            let places: BTreeSet<u64> =
                fits.iter().flat_map(|(_, p)| p.places.iter().copied()).collect();
            let who = (client, books.groups.life(client));
            let reasons = reasons(who, (&fits, books.settled), &wishes, publish, version);
            let mixed = reasons.iter().any(|reason| matches!(reason, Reason::Group(..)));
            if !books.groups.came(key, (client, publish.qos), reasons, own) {
                return Err("groups");
            }
            if !mixed {
                order(&mut got.last, &note, &places, publish, alone)?;
            }
            if note.retain && !mixed {
                let place = (topic.to_string(), publish.qos);
                let (last, all) = got.retained.entry(place).or_default();
                *last = key;
                all.insert(key);
            }
        }
        books.answer(client, topic, key, publish.retain);
        let (qos, retain) = (publish.qos, publish.retain);
        Ok(Due { note, qos, retain, ids, cause: Cause::Live, must: false })
    }
}

impl Got {
    /// Whether what was published before the last rest, and came then, may come again because it
    /// is retained.
    fn asks(&self, wishes: &[&Wish]) -> bool {
        wishes.iter().any(|wish| wish.from > self.rested && wish.sends)
    }
}

/// How a copy came.
#[derive(Clone, Copy)]
struct View {
    version: Version,
    now: Instant,
    mode: DeliveryMode,
}

/// What a client is entitled to of a publication, and the identifiers that a copy has; or the
/// checker that finds that this copy cannot be one of it.
fn judge<'w>(
    client: &str,
    publication: &Publication,
    wishes: &'w [Wish],
    publish: &Publish<'_>,
    view: View,
) -> Result<(Vec<&'w Wish>, Vec<u32>), &'static str> {
    let note = &publication.note;
    let own = note.publisher.as_deref() == Some(client);
    let entitles = |wish: &&Wish| wish.matches(&note.topic) && !(own && wish.options.no_local);
    let wishes: Vec<&Wish> = wishes.iter().filter(entitles).collect();
    if wishes.is_empty() {
        return Err("entitlement");
    }
    if !wishes.iter().any(|wish| wish.options.qos.min(note.qos) == publish.qos) {
        return Err("qos");
    }
    let kept = wishes.iter().any(|wish| !wish.shared() || wish.options.as_published);
    let flagged = wishes.iter().all(|wish| wish.options.as_published);
    if publish.retain && !(note.retain && kept) || !publish.retain && note.retain && flagged {
        return Err("retain flag");
    }
    if publication.expires_by().is_some_and(|at| at <= view.now) {
        return Err("expired");
    }
    let ids = properties(publication, &wishes, publish, view)?;
    Ok((wishes, ids))
}

/// Order for each publisher, topic and QoS; of those with RETAIN beside, since one of them may
/// come as a retained one, which others may pass.
fn order(
    last: &mut BTreeMap<Lane, u64>,
    note: &Note,
    places: &BTreeSet<u64>,
    publish: &Publish<'_>,
    alone: bool,
) -> Result<(), &'static str> {
    let Some(publisher) = &note.publisher else { return Ok(()) };
    for kept in [false, true] {
        // Of two subscriptions one may have begun later, with what was retained then.
        if kept && !(note.retain && alone) || !kept && publish.retain {
            continue;
        }
        let lane = (publisher.clone(), note.topic.clone(), note.qos, publish.qos, kept);
        let last = last.entry(lane).or_default();
        *last = *places.range(*last..).next().ok_or("order")?;
    }
    Ok(())
}

/// Properties of a copy: Subscription Identifiers, or the checker that finds them wrong.
fn properties(
    publication: &Publication,
    wishes: &[&Wish],
    publish: &Publish<'_>,
    View { version, now, mode }: View,
) -> Result<Vec<u32>, &'static str> {
    let note = &publication.note;
    let mut ids = Vec::new();
    for property in publish.properties.iter() {
        if let Property::SubscriptionIdentifier(id) = property {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    let (expiry, user) = common(publish.properties);
    if version == Version::V5 {
        let known = |id: &u32| wishes.iter().any(|wish| wish.options.identifier == *id);
        if !ids.iter().all(known) || ids.is_empty() && !known(&0) {
            return Err("identifiers of subscriptions");
        }
        // All that surely stood have theirs in one copy, unless it came by another way.
        let single = mode == DeliveryMode::OnlyOnce && !note.retain;
        let missing = |wish: &&Wish| {
            let id = wish.options.identifier;
            wish.stands_since(publication.from) && id > 0 && !ids.contains(&id)
        };
        if single && !wishes.iter().any(|wish| wish.shared()) && wishes.iter().any(missing) {
            return Err("identifiers of subscriptions");
        }
        if note.user != user {
            return Err("properties");
        }
        // Its time may have begun later, while it waited to be read.
        let left = note.expires.map(|at| seconds(at, now));
        let most = publication.expires_by().map_or(u32::MAX, |at| seconds(at, now));
        if left.is_some() != expiry.is_some() || left > expiry || expiry > Some(most) {
            return Err("expiry");
        }
    }
    Ok(ids)
}

/// How many copies of a message there may be that was published `times` times.
fn most(mode: DeliveryMode, wishes: &[&Wish], note: &Note, times: usize) -> usize {
    let shared = wishes.iter().filter(|wish| wish.shared());
    let groups = shared.map(|wish| &*wish.filter).collect::<BTreeSet<&str>>().len();
    let plain = wishes.iter().filter(|wish| !wish.shared()).count();
    let live = match mode {
        DeliveryMode::OnlyOnce => plain.min(1),
        DeliveryMode::Overlap => plain,
    };
    let again = if note.retain { plain } else { 0 };
    times * (live + groups) + again
}
