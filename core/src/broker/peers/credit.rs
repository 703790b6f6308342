//! What may be sent now: credit, and what must have been taken before.

use alloc::vec::Vec;

use super::link::{Clocks, Link, Mark, Need};
use super::msg::{DELIVER, OWNER};
use super::paused::Until;
use super::{Peers, bits};

/// The part of its credit that a link has to a shard whose memory is short.
const SPARING: u64 = 32;
/// Bytes of it that a link keeps in any case, as far as it had them: with many shards a 32nd is
/// less than a message, and would be one of each shard in a beat.
const LEAST: u64 = 16 * 1024;

impl Peers {
    /// Bytes that may be on their way on a lane of a link, and those of one message more.
    fn credit_of(&self, link: &Link) -> u64 {
        let sparing = (self.credit / SPARING).max(LEAST).min(self.credit);
        if link.heard.short { sparing } else { self.credit }
    }

    /// While memory is short here the others get little credit, and what they have used comes back
    /// with a beat: so their publishers are slowed down as ours are. True if a beat is needed.
    pub(in crate::broker) fn spare_credit(&mut self, short: bool) -> bool {
        if self.short != short {
            self.short = short;
            self.links.iter_mut().for_each(|link| link.tell.short = short);
            if !short {
                self.links.iter_mut().for_each(Link::give_credit);
            }
        }
        let kept = || self.links.iter().any(|link| link.kept != [0; 2]);
        short && !self.beating && kept()
    }

    /// The beat.
    pub(in crate::broker) fn beat(&mut self) {
        self.beating = false;
        self.links.iter_mut().for_each(Link::give_credit);
    }

    /// Whether a message could be forwarded on this lane, to whichever shard.
    pub(super) fn has_credit(&self, lane: usize) -> bool {
        self.spent[lane] == 0
    }

    /// Whether a publisher's message could be.
    pub(super) fn has_all_credit(&self) -> bool {
        self.has_credit(DELIVER) && self.has_credit(OWNER)
    }

    pub(super) fn is_met(&self, need: &Need) -> bool {
        let unmet = need.shards & self.unmet[need.lane];
        bits(unmet).all(|shard| self.links[shard].has_taken(need.lane, need.number))
    }

    /// What is taken last on the first of the links that a need is not met on.
    #[cold]
    fn first_unmet(&self, need: &Need) -> Option<Mark> {
        let &Need { lane, number, shards } = need;
        bits(shards & self.unmet[lane]).find_map(|shard| {
            let number = self.links[shard].last_until(lane, number)?;
            Some(Mark { shard, lane, number })
        })
    }

    /// Shard and lane of a link of which something else is known than is so.
    #[cfg(feature = "fuzzing")]
    pub(in crate::broker) fn mistaken_link(&self) -> Option<(usize, usize)> {
        let all = (0..self.links.len()).flat_map(|shard| [(shard, DELIVER), (shard, OWNER)]);
        all.into_iter().find(|&(shard, lane)| {
            let (link, known) = (&self.links[shard], |set: u64| set & 1 << shard != 0);
            known(self.unmet[lane]) == link.under_way[lane].is_empty()
                || known(self.spent[lane]) != (link.outstanding(lane) >= self.credit_of(link))
        })
    }

    /// Brings up to date what is known of a link on which something was sent or taken.
    pub(super) fn note_link(&mut self, shard: usize, lane: usize) {
        let link = &self.links[shard];
        let unmet = !link.under_way[lane].is_empty();
        let spent = link.outstanding(lane) >= self.credit_of(link);
        let bit = 1 << shard;
        let mark = |set: &mut u64, on: bool| *set = if on { *set | bit } else { *set & !bit };
        mark(&mut self.unmet[lane], unmet);
        mark(&mut self.spent[lane], spent);
    }

    /// All that a publisher forwarded on a lane.
    pub(super) fn all_of(&self, clocks: &Clocks, lane: usize) -> Need {
        Need { lane, number: clocks.0[lane], shards: self.others }
    }

    /// What a publisher's next message must wait for: credit, or that one before it has arrived
    /// which went another way.
    #[inline]
    pub(in crate::broker) fn lacks(
        &self,
        clocks: &Clocks,
        topic: &str,
        retain: bool,
    ) -> Option<Until> {
        if !self.has_all_credit() {
            return Some(Until::Credit);
        }
        let by_owner = retain && self.place.owner(topic) != self.place.shard;
        let other = if by_owner { DELIVER } else { OWNER };
        if defect!("two_ways_at_once") {
            return None;
        }
        let need = self.all_of(clocks, other);
        if self.is_met(&need) { None } else { self.first_unmet(&need).map(Until::Taken) }
    }

    /// Whether it must wait.
    pub(super) fn must_wait(&self, clocks: &Clocks, topic: &str, retain: bool) -> bool {
        self.lacks(clocks, topic, retain).is_some()
    }

    /// What of a publisher's messages is not taken: the last one on each link, at most.
    pub(super) fn marks(&self, clocks: &Clocks) -> Vec<Mark> {
        let lanes = [DELIVER, OWNER].into_iter();
        let marks = lanes.flat_map(|lane| {
            bits(self.others).map(move |shard| {
                let number = clocks.0[lane].min(self.links[shard].sent[lane]);
                Mark { shard, lane, number }
            })
        });
        marks.filter(|mark| !self.has_marks(&[*mark])).collect()
    }

    pub(super) fn has_marks(&self, marks: &[Mark]) -> bool {
        let taken = |mark: &Mark| self.links[mark.shard].heard.taken[mark.lane] >= mark.number;
        marks.iter().all(taken)
    }
}
