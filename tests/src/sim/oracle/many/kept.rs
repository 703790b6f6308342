//! What is retained where several shards own the topics, each with a limit of its own.
//!
//! A word that a message was not retained names its publisher and QoS, not its topic; so it is set
//! against a topic when somebody has asked for all that is retained.

use std::collections::BTreeMap;

use fulmar_core::Qos;

use super::super::{Call, Oracle, Standing};
use super::seats::first_without;
use super::{Asked, Publication};

/// Messages that a word of a loss may be about: publisher, empty for a program, QoS, and the shard
/// that owns the topic.
pub(super) type Lot = (String, Qos, usize);

/// What came for who asked for all that is retained: numbers of messages, by topic.
type Answers = BTreeMap<String, u64>;

/// A checker, and what it saw.
type Doubt = (&'static str, String);

#[derive(Debug, Default)]
pub(super) struct Kept {
    /// How many were told of as not retained since it was last known what is.
    unkept: BTreeMap<Lot, u64>,
    /// And in the present call.
    told: Vec<(Lot, u64)>,
    /// Publications before this were known then; and when that was.
    settled: usize,
    since: u64,
    /// Messages told of since as lost for want of memory.
    short: BTreeMap<Lot, u64>,
}

impl Kept {
    pub(super) fn told_short(&mut self, lot: Lot, count: u64) {
        *self.short.entry(lot).or_default() += count;
    }
}

impl Oracle {
    fn lot(&self, publication: &Publication) -> Lot {
        let note = &publication.note;
        let owner = usize::from(self.place.owner(&note.topic));
        (note.publisher.clone().unwrap_or_default(), note.qos, owner)
    }

    /// The shard whose effects are shown did not retain messages of this publisher.
    pub(in super::super) fn told_unkept(&mut self, publisher: &str, qos: Qos, count: u32) {
        let lot = (publisher.to_string(), qos, self.shard);
        self.books.kept.told.push((lot, u64::from(count)));
    }

    /// At the end of a call: what a shard did not retain was to be retained there, and found it at
    /// its limit.
    pub(in super::super) fn judge_unkept(&mut self) {
        for (lot, count) in std::mem::take(&mut self.books.kept.told) {
            let all = &self.books.publications[self.books.kept.settled..];
            let asks = |p: &&Publication| p.note.retain && !p.note.payload.is_empty();
            let known = all.iter().filter(asks).filter(|p| self.lot(p) == lot);
            let under_way = known.clone().any(|p| p.is_under_way(self.began));
            let largest = known.clone().map(|p| p.note.payload.len() as u64).max().unwrap_or(0);
            let known = known.count() as u64;
            let total = self.books.kept.unkept.entry(lot.clone()).or_default();
            *total += count;
            let right = under_way && *total <= known;
            let what = format!("{total} of {lot:?} not retained, of {known}");
            self.ensure(right, "losses", || what);
            let max = u64::from(self.config.max_retained);
            let standing = self.standing[lot.2];
            let full = standing.before.retained.max(standing.now.retained) >= max;
            let full = full || self.may_have_reached_limit(lot.2);
            // The message itself takes memory, and perhaps the packet that it came in.
            let full = full || self.is_short_for(lot.2, 2 * largest + 1024);
            self.ensure(full, "losses", || format!("no need not to retain {lot:?}: {standing:?}"));
        }
    }

    /// Whether a shard may have come to its limit within this call, and left it again, by messages
    /// that were under way: where it goes on with what waited.
    fn may_have_reached_limit(&self, shard: usize) -> bool {
        if !matches!(self.call, Call::Timeout | Call::Peer) {
            return false;
        }
        let Standing { before, now, .. } = self.standing[shard];
        let all = &self.books.publications[self.books.kept.settled..];
        let here = |p: &&Publication| p.note.retain && self.lot(p).2 == shard;
        let (mut came, mut went) = (0, 0);
        for publication in all.iter().filter(here) {
            let under_way = publication.is_under_way(self.began);
            let empty = publication.note.payload.is_empty();
            came += u64::from(under_way && !empty);
            went += u64::from(under_way && empty || publication.note.is_expired(self.now));
        }
        let max = u64::from(self.config.max_retained);
        // One of those that came was not retained.
        before.retained + came > max && now.retained + went >= max
    }

    /// What came as retained is what must be, and nobody has something older instead.
    pub(in super::super) fn check_retained(&mut self) {
        let Some(asked) = self.books.asked.take() else { return };
        let Asked { client: asker, answers, lost } = asked;
        let lost = self.books.got.get(&asker).is_none_or(|got| got.lost > lost);
        if lost || self.sessions.get(&asker).is_none_or(|session| session.conn.is_none()) {
            return;
        }
        let found = self.doubt_retained(&asker, &answers);
        let found = found.or_else(|| self.doubt_figures(&answers));
        let settled = self.books.publications.len();
        self.books.kept = Kept { settled, since: self.next, ..Kept::default() };
        // What was published to a topic until now, and is not retained, never comes as retained.
        for publication in &mut self.books.publications {
            let note = &publication.note;
            publication.bare |= answers.get(&note.topic) != Some(&note.key);
        }
        if let Some((checker, what)) = found {
            self.fail(checker, what);
        }
    }

    /// What is wrong with what came as retained, by topic, if anything is.
    fn doubt_retained(&self, asker: &str, answers: &Answers) -> Option<Doubt> {
        let mut topics: BTreeMap<&str, Vec<&Publication>> = BTreeMap::new();
        for publication in self.books.publications.iter().filter(|p| p.note.retain && !p.bare) {
            topics.entry(&publication.note.topic).or_default().push(publication);
        }
        if let Some((topic, key)) =
            answers.iter().find(|(topic, _)| !topics.contains_key(&***topic))
        {
            return Some(("stale", format!("{key} of {topic}, where nothing is retained")));
        }
        // Topics of which nothing is retained, though that was not wanted.
        let mut lacking: Vec<(String, Vec<Lot>)> = Vec::new();
        for (topic, all) in &topics {
            let later =
                |f: &Publication, g: &Publication| !self.may_be_lost(g) && comes_after(f, g);
            let newest: Vec<&&Publication> =
                all.iter().filter(|f| !all.iter().any(|g| later(f, g))).collect();
            let gone = |p: &&&Publication| {
                let never = p.unsure || self.may_be_lost(p);
                p.note.payload.is_empty() || p.note.is_expired(self.now) || never
            };
            match answers.get(*topic) {
                Some(key) if !newest.iter().any(|p| p.note.key == *key) => {
                    return Some(("stale", format!("{key} is retained, not one of {newest:?}")));
                }
                None if !newest.iter().any(gone) => {
                    let lots = newest.iter().map(|p| self.lot(p)).collect();
                    lacking.push((format!("{newest:?}"), lots));
                }
                _ => {}
            }
            let Some(key) = answers.get(*topic) else { continue };
            // Of one that was published twice the second may be lost.
            if all.iter().filter(|p| p.note.key == *key).count() > 1 {
                continue;
            }
            if let Some(what) = self.has_older(topic, *key) {
                return Some(("stale", what));
            }
        }
        let wants: Vec<&[Lot]> = lacking.iter().map(|(_, lots)| &lots[..]).collect();
        let unkept = &self.books.kept.unkept;
        let first = first_without(&wants, |lot| unkept.get(lot).copied().unwrap_or(0))?;
        Some(("retained", format!("{asker} has none of {}", lacking[first].0)))
    }

    /// Whether it may have been lost for want of memory since it was last known what is retained.
    fn may_be_lost(&self, publication: &Publication) -> bool {
        let kept = &self.books.kept;
        publication.from > kept.since
            && self.lost_as(publication).iter().any(|lot| kept.short.contains_key(lot))
    }

    /// Who had the retained message of a topic, and then an older one.
    fn has_older(&self, topic: &str, key: u64) -> Option<String> {
        for (client, got) in &self.books.got {
            for ((place, qos), (last, had)) in &got.retained {
                if place == topic && had.contains(&key) && *last != key {
                    return Some(format!("{client}: {last} of {topic}, {qos:?}, after {key}"));
                }
            }
        }
        None
    }

    /// Each owner has as many as came of its topics; one may have expired since.
    fn doubt_figures(&self, answers: &Answers) -> Option<Doubt> {
        let mut figures = vec![0..=0; self.standing.len()];
        for (topic, key) in answers {
            let mut same = self.books.publications.iter().filter(|p| p.note.key == *key);
            let lasts = same.all(|p| !p.note.is_expired(self.now));
            let known = &mut figures[usize::from(self.place.owner(topic))];
            *known = known.start() + u64::from(lasts)..=known.end() + 1;
        }
        let told = self.standing.iter().map(|standing| standing.now.retained);
        let wrong = figures.iter().zip(told).find(|(known, told)| !known.contains(told))?;
        Some(("figures", format!("{} retained, not {:?}, of {answers:?}", wrong.1, wrong.0)))
    }
}

/// Whether another message was surely published after this one.
fn comes_after(one: &Publication, other: &Publication) -> bool {
    let same = one.note.publisher == other.note.publisher && one.note.publisher.is_some();
    let follows = same && one.note.qos == other.note.qos;
    other.by.is_some()
        && (one.by.is_some_and(|by| by < other.from)
            || follows && one.by.is_some() && one.precedes(other))
}
