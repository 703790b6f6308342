//! What other shards sent while much of it is on its way to thousands of sessions here.

use alloc::collections::VecDeque;

use super::super::Broker;
use super::super::jobs::{Delivery, Job};
use super::msg::Msg;
use super::run::Run;
use crate::time::Instant;

/// Which part of the shard's memory the lists of receivers of such messages may take before nothing
/// more is taken: a small message makes a long list, and its publisher does not wait for it.
const PART: u64 = 16;

/// In the order it came: as much as the credit of the others allows, as if it were still under way.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queue: VecDeque<(u16, Msg)>,
    /// Messages of the first, which is a run, that were taken.
    taken: usize,
    /// A job for it is waiting.
    due: bool,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, from: u16, msg: Msg) {
        self.queue.push_back((from, msg));
    }

    /// Puts back a run of which so many messages were taken.
    pub(super) fn put_back(&mut self, from: u16, run: Run, taken: usize) {
        self.queue.push_front((from, Msg::Run(run)));
        self.taken = if defect!("long_run_begun_anew") { 0 } else { taken };
    }

    /// How many messages of the run that comes now were taken before.
    pub(super) fn taken(&mut self) -> usize {
        core::mem::take(&mut self.taken)
    }
}

impl Broker {
    #[inline]
    pub(super) fn is_delivering_much(&self) -> bool {
        if self.deliveries == 0 {
            return false;
        }
        // A client waits for its own, and must not keep other shards waiting.
        let theirs = self.jobs.iter().filter_map(Job::delivery).filter(|d| d.is_of_peer());
        let most = if cfg!(fuzzing) { 1 } else { self.config.shard_budget / PART };
        theirs.map(Delivery::footprint).sum::<u64>() >= most
    }

    /// Takes one, if less is on its way by now: what it leads to is written before the next, so
    /// that no queue overflows whose client reads.
    pub(in crate::broker) fn take_backlog(&mut self, now: Instant) {
        let much = self.is_delivering_much();
        let Some(peers) = &mut self.peers else { return };
        peers.backlog.due = false;
        if !much && let Some((from, msg)) = peers.backlog.queue.pop_front() {
            self.take_peer_message(now, from, msg);
        }
        self.take_backlog_later();
    }

    #[inline]
    pub(super) fn take_backlog_later(&mut self) {
        let Some(peers) = &mut self.peers else { return };
        let backlog = &mut peers.backlog;
        if !backlog.is_empty() && !core::mem::replace(&mut backlog.due, true) {
            self.jobs.push_back(Job::Backlog);
        }
    }
}
