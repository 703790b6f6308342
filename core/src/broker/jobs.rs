//! Long work in slices: deliveries to thousands, retained messages for a subscription.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Broker;
use super::fanout::{Target, copy};
use super::message::Message;
use super::peers::Place;
use super::queue::{Copy, NO_GROUP};
use super::session::Subscription;
use super::slots::Key;
use super::subscribe::WALK_STEPS;
use crate::codec::TopicFilters;
use crate::time::Instant;
use crate::topic::matches;

/// Deliveries done in one go: about 0.2 ms of work. Few for the fuzzer, which has no thousands.
pub(super) const SLICE: usize = if cfg!(fuzzing) { 2 } else { 4096 };

/// Filters of one UNSUBSCRIBE above which it is not asked which of them matter.
const MANY_LEFT: usize = 64;

/// Whose message is handed out, and waits until it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Nobody,
    /// The input of a connection.
    Conn(Key),
    /// Another shard, by lane and number.
    Peer {
        from: u16,
        lane: usize,
        number: u64,
    },
}

/// Work that goes on when the driver calls next.
#[derive(Debug)]
pub(super) enum Job {
    Deliver(Delivery),
    /// Retained messages for a session.
    Walk(Key),
    /// What waited for other shards and could go on.
    Peers,
    /// What other shards sent and was not taken yet.
    Backlog,
}

/// The rest of a fan-out, while its source waits.
#[derive(Debug)]
pub(super) struct Delivery {
    source: Source,
    message: Arc<Message>,
    names: Names,
    targets: Vec<Target>,
    next: usize,
}

/// Numbers for topic and publisher. Of two deliveries that share one, the younger comes after: what
/// comes last to all of a topic's subscribers is what is retained. Where two share one by chance,
/// their order is kept without need.
type Names = [u64; 2];

fn names(place: Place, message: &Message) -> Names {
    let publisher = message.head.publisher.as_deref().unwrap_or_default();
    [place.fingerprint(message.topic()), !place.fingerprint(publisher)]
}

impl Job {
    pub(super) fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Deliver(delivery) => Some(delivery),
            Self::Walk(_) | Self::Peers | Self::Backlog => None,
        }
    }
}

impl Delivery {
    pub(super) fn is_of_peer(&self) -> bool {
        matches!(self.source, Source::Peer { .. })
    }

    /// Bytes charged for it.
    pub(super) fn footprint(&self) -> u64 {
        (self.targets.capacity() * size_of::<Target>()) as u64
    }
}

impl Broker {
    /// Delivers to the first slice of targets; the rest waits as a job. True if it does.
    pub(super) fn hand_out(
        &mut self,
        now: Instant,
        source: Source,
        message: Arc<Message>,
        targets: &mut Vec<Target>,
    ) -> bool {
        // Also while a long delivery is under way all is in its order.
        let behind =
            self.deliveries > 0 && self.is_behind(&message) && !defect!("long_delivery_passed");
        let first = if behind { 0 } else { targets.len().min(SLICE) };
        let rest = targets.split_off(first);
        let last = if rest.is_empty() { targets.pop() } else { None };
        for target in targets.drain(..) {
            self.deliver(now, &message, target);
        }
        if let Some(target) = last {
            self.enqueue(now, target.session, copy(message, target));
            return false;
        }
        if rest.is_empty() {
            self.messages.give(message);
            return false;
        }
        let names = names(self.place(), &message);
        let delivery = Delivery { source, message, names, targets: rest, next: 0 };
        self.held += delivery.footprint();
        self.deliveries += 1;
        self.jobs.push_back(Job::Deliver(delivery));
        true
    }

    /// Whether a delivery is under way that comes before this message.
    fn is_behind(&self, message: &Message) -> bool {
        let its = names(self.place(), message);
        let mut under_way = self.jobs.iter().filter_map(Job::delivery);
        under_way.any(|older| older.names.iter().any(|name| its.contains(name)))
    }

    /// Puts a delivery that is not done behind all other work, with those that come after it.
    fn go_behind(&mut self, delivery: Delivery) {
        let mut names = BTreeSet::from(delivery.names);
        let mut behind = Vec::from([Job::Deliver(delivery)]);
        for _ in 0..self.jobs.len() {
            let Some(job) = self.jobs.pop_front() else { break };
            match job.delivery().map(|delivery| delivery.names) {
                Some(its)
                    if its.iter().any(|name| names.contains(name))
                        && !defect!("long_order_lost") =>
                {
                    names.extend(its);
                    behind.push(job);
                }
                _ => self.jobs.push_back(job),
            }
        }
        self.jobs.extend(behind);
    }

    /// Does one slice of the oldest job; jobs take turns.
    pub(super) fn work(&mut self, now: Instant) {
        match self.jobs.pop_front() {
            Some(Job::Deliver(delivery)) => self.deliver_slice(now, delivery),
            Some(Job::Walk(key)) => {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.walking = false;
                }
                self.walk(now, key, WALK_STEPS);
            }
            Some(Job::Peers) => self.retry_some(now),
            Some(Job::Backlog) => self.take_backlog(now),
            None => {}
        }
    }

    fn deliver_slice(&mut self, now: Instant, mut delivery: Delivery) {
        let end = delivery.targets.len().min(delivery.next + SLICE);
        for target in &delivery.targets[delivery.next..end] {
            self.deliver(now, &delivery.message, target.clone());
        }
        if end < delivery.targets.len() {
            delivery.next = end;
            self.go_behind(delivery);
            return;
        }
        self.deliveries -= 1;
        self.held -= delivery.footprint();
        match delivery.source {
            Source::Nobody => {}
            Source::Conn(key) => self.resume(now, key),
            Source::Peer { from, lane, number } => self.forward_done(from, lane, number),
        }
    }

    /// Before a session unsubscribes: what is under way to it and matches comes now, since what is
    /// retained when it subscribes again comes after; so does all if it leaves a group, for which
    /// it would not be asked when it ends.
    pub(super) fn hurry(&mut self, now: Instant, key: Key, filters: TopicFilters<'_>) {
        if self.deliveries == 0 {
            return;
        }
        let Some(session) = self.sessions.get(key) else { return };
        // Those it has, once each: a packet names any number.
        let places: BTreeSet<usize> = filters.iter().flat_map(|f| session.find(f)).collect();
        let left = || places.iter().map(|at| &session.subscriptions[*at]);
        // With many, all that is under way is looked through rather than each filter for each.
        let due = places.len() > MANY_LEFT
            || left().any(Subscription::is_shared)
            || self.jobs.iter().filter_map(Job::delivery).any(|delivery| {
                let topic = delivery.message.topic();
                left().any(|subscription| matches(&subscription.filter, topic))
            });
        if due {
            for (message, target) in self.take_targets(|target| target.session == key) {
                self.deliver(now, &message, target);
            }
        }
    }

    /// The copies for groups that are under way to a session which ends.
    pub(super) fn take_group_copies(&mut self, key: Key) -> Vec<Copy> {
        if defect!("long_group_copies_lost") {
            return Vec::new();
        }
        let taken = self.take_targets(|target| target.session == key && target.group != NO_GROUP);
        taken.into_iter().map(|(message, target)| copy(message, target)).collect()
    }

    /// Takes out of all deliveries what has not been handed out, in order.
    fn take_targets(&mut self, which: impl Fn(&Target) -> bool) -> Vec<(Arc<Message>, Target)> {
        let mut taken = Vec::new();
        for job in &mut self.jobs {
            if let Job::Deliver(Delivery { message, targets, next, .. }) = job {
                let some = targets.extract_if(*next.., |target| which(target));
                taken.extend(some.map(|target| (message.clone(), target)));
            }
        }
        taken
    }
}
