//! What other shards sent while much of it is on its way to thousands of sessions here.

use alloc::collections::VecDeque;

use super::super::Broker;
use super::super::jobs::{Delivery, Job};
use super::msg::Msg;
use super::run::Run;
use crate::time::Instant;

/// Which part of the shard's memory the lists of receivers may take before nothing more is taken
/// from other shards: a small message makes a long list, and its publisher waits elsewhere.
const PART: u64 = 16;

/// Taken in one go.
const TURN: usize = 64;

/// In the order it came. Its bytes are charged where they came from, and are so few as the credit
/// of the others allows.
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
        self.taken = taken;
    }

    /// How many messages of the run that comes now were taken before.
    pub(super) fn taken(&mut self) -> usize {
        core::mem::take(&mut self.taken)
    }
}

impl Broker {
    #[inline]
    pub(super) fn is_delivering_much(&self) -> bool {
        if cfg!(fuzzing) {
            return self.deliveries > 1;
        }
        if self.deliveries == 0 {
            return false;
        }
        let lists = self.jobs.iter().filter_map(Job::delivery).map(Delivery::footprint);
        lists.sum::<u64>() >= self.config.shard_budget / PART
    }

    /// Takes a part of it, if less is on its way by now.
    pub(in crate::broker) fn take_backlog(&mut self, now: Instant) {
        if let Some(peers) = &mut self.peers {
            peers.backlog.due = false;
        }
        for _ in 0..TURN {
            if self.is_delivering_much() {
                break;
            }
            let next = self.peers.as_mut().and_then(|peers| peers.backlog.queue.pop_front());
            let Some((from, msg)) = next else { break };
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
