//! Who is to have a message; long deliveries in slices.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::message::Message;
use super::peers::Place;
use super::publish::Draft;
use super::queue::{Copy, Ids, NO_GROUP};
use super::session::{Options, Session};
use super::slots::{Key, Slots};
use super::subscribe::WALK_STEPS;
use super::{Broker, DeliveryMode};
use crate::codec::{Qos, TopicFilters};
use crate::time::Instant;
use crate::topic::{Entry, matches};

/// Deliveries done in one go: about 0.2 ms of work. Few for the fuzzer, which has no thousands.
pub(super) const SLICE: usize = if cfg!(fuzzing) { 2 } else { 4096 };

/// Filters of one UNSUBSCRIBE above which it is not asked which of them matter.
const MANY_LEFT: usize = 64;

/// Marks an index entry as a shared group instead of a session.
pub(super) const GROUP: u32 = 1 << 31;

/// A session that is to have a copy.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) session: Key,
    pub(super) ids: Ids,
    pub(super) group: u32,
    pub(super) qos: Qos,
    pub(super) retain_as_published: bool,
}

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
    /// The rest of a fan-out, while its source waits.
    Deliver { source: Source, message: Arc<Message>, targets: Vec<Target>, next: usize },
    /// Retained messages for a session.
    Walk(Key),
    /// What waited for other shards and could go on.
    Peers,
}

impl Job {
    /// Whether this message, which is younger, is delivered after it: another one of its publisher,
    /// or of its topic. What comes last to all of a topic's subscribers is what is retained.
    pub(super) fn is_before(&self, message: &Message) -> bool {
        let Self::Deliver { message: older, .. } = self else { return false };
        older.head.publisher == message.head.publisher || older.topic() == message.topic()
    }

    /// Numbers for topic and publisher of a delivery. Where two have one by chance, their order is
    /// kept without need.
    fn names(&self, place: Place) -> Option<[u64; 2]> {
        let Self::Deliver { message, .. } = self else { return None };
        let publisher = message.head.publisher.as_deref().unwrap_or_default();
        Some([place.fingerprint(message.topic()), !place.fingerprint(publisher)])
    }

    pub(super) fn footprint(targets: &Vec<Target>) -> u64 {
        (targets.capacity() * size_of::<Target>()) as u64
    }
}

impl Target {
    fn of(session: Key, options: Options, group: u32) -> Self {
        Self {
            session,
            ids: Ids::One(options.identifier()),
            group,
            qos: options.qos(),
            retain_as_published: options.retain_as_published(),
        }
    }

    /// Another subscription of the same session matches: the highest QoS, all identifiers.
    /// `[MQTT-3.3.4-2]` `[MQTT-3.3.4-4]`
    fn join(&mut self, options: Options) {
        self.qos = self.qos.max(options.qos());
        self.retain_as_published |= options.retain_as_published();
        if !defect!("subscription_id_missing") {
            self.ids.push(options.identifier());
        }
    }
}

/// Collects targets, seeing to it that a session with several matches is met once.
struct Collector<'c> {
    sessions: &'c mut Slots<Session>,
    targets: &'c mut Vec<Target>,
    publisher: Option<&'c Arc<str>>,
    fanout: u32,
    merge: bool,
    /// Filters that matched, groups aside.
    filters: usize,
}

impl Collector<'_> {
    fn filter(&mut self, entries: &[Entry], groups: &mut heapless::Vec<u32, 16>) -> bool {
        self.filters += 1;
        // Within one filter no session comes twice: only a second filter needs the marks.
        if self.merge && self.filters == 2 {
            for (at, target) in self.targets.iter().enumerate() {
                if let Some(session) = self.sessions.get_mut(target.session) {
                    session.met = (self.fanout, at as u32);
                }
            }
        }
        let mut all = true;
        for entry in entries {
            if entry.key & GROUP == 0 {
                self.entry(entry);
            } else {
                all &= groups.push(entry.key & !GROUP).is_ok();
            }
        }
        all
    }

    fn entry(&mut self, entry: &Entry) {
        let options = Options(entry.value);
        let Some(key) = self.sessions.key_at(entry.key) else { return };
        if options.no_local() && self.is_publisher(key) && !defect!("no_local_ignored") {
            return;
        }
        if self.merge && self.filters > 1 {
            let Some(session) = self.sessions.get_mut(key) else { return };
            // The number comes round again, after four thousand million: hence the second check.
            if session.met.0 == self.fanout
                && let Some(target) = self.targets.get_mut(session.met.1 as usize)
                && target.session == key
            {
                target.join(options);
                return;
            }
            session.met = (self.fanout, self.targets.len() as u32);
        }
        self.targets.push(Target::of(key, options, NO_GROUP));
    }

    /// [MQTT-3.8.3-3]: Client Identifiers are compared, so that it holds for wills too.
    fn is_publisher(&self, key: Key) -> bool {
        let client_id = self.sessions.get(key).map(|session| &session.client_id);
        client_id.is_some() && client_id == self.publisher
    }
}

impl Broker {
    /// Appends a target for each copy to be made.
    pub(super) fn find_targets(&mut self, draft: &Draft<'_>, targets: &mut Vec<Target>) {
        self.fanout = self.fanout.wrapping_add(1).max(1);
        let mut chosen: heapless::Vec<u32, 16> = heapless::Vec::new();
        let mut complete = true;
        let mut collector = Collector {
            sessions: &mut self.sessions,
            targets,
            publisher: draft.publisher,
            fanout: self.fanout,
            merge: self.config.delivery_mode == DeliveryMode::OnlyOnce
                && !defect!("overlap_delivered_twice"),
            filters: 0,
        };
        self.index.lookup(draft.topic, |entries| {
            complete &= collector.filter(entries, &mut chosen);
            true
        });
        if complete {
            for group in chosen {
                self.choose_here(draft, group, targets);
            }
            return;
        }
        // More groups than fit the stack: rare, so that it may cost an allocation.
        let mut groups = Vec::new();
        self.index.matches(draft.topic, |entries: &[Entry]| {
            groups.extend(entries.iter().map(|e| e.key).filter(|key| key & GROUP != 0));
        });
        for group in groups {
            self.choose_here(draft, group & !GROUP, targets);
        }
    }

    /// The same, unless the choice is made among all shards, or was made by another one.
    fn choose_here(&mut self, draft: &Draft<'_>, group: u32, targets: &mut Vec<Target>) {
        if draft.groups && !self.is_elsewhere(group) {
            self.choose(group, targets);
        }
    }

    /// One member of a shared group gets a copy of its own. `[MQTT-4.8.2-3]`
    pub(super) fn choose(&mut self, group: u32, targets: &mut Vec<Target>) {
        if let Some(member) = self.groups.choose(group, None)
            && let Some(key) = self.sessions.key_at(member.session)
        {
            targets.push(Target::of(key, Options(member.value), group));
            if defect!("shared_twice") {
                targets.push(Target::of(key, Options(member.value), group));
            }
        }
    }

    pub(super) fn deliver(&mut self, now: Instant, message: &Arc<Message>, target: Target) {
        let session = target.session;
        self.enqueue(now, session, copy(message, target));
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
        let left = || places.iter().map(|at| &*session.subscriptions[*at].filter);
        // With many, all that is under way is looked through rather than each filter for each.
        let due = places.len() > MANY_LEFT
            || left().any(|filter| filter.starts_with("$share/"))
            || self.jobs.iter().any(|job| match job {
                Job::Deliver { message, .. } => left().any(|f| matches(f, message.topic())),
                Job::Walk(_) | Job::Peers => false,
            });
        if due {
            for (message, target) in self.take_targets(|target| target.session == key) {
                self.deliver(now, &message, target);
            }
        }
    }

    /// The copies for groups that are under way to a session which ends.
    pub(super) fn take_group_copies(&mut self, key: Key) -> Vec<Copy> {
        let taken = self.take_targets(|target| target.session == key && target.group != NO_GROUP);
        taken.into_iter().map(|(message, target)| copy(&message, target)).collect()
    }

    /// Takes out of all deliveries what has not been handed out, in order.
    fn take_targets(&mut self, which: impl Fn(&Target) -> bool) -> Vec<(Arc<Message>, Target)> {
        let mut taken = Vec::new();
        for job in &mut self.jobs {
            if let Job::Deliver { message, targets, next, .. } = job {
                let some = targets.extract_if(*next.., |target| which(target));
                taken.extend(some.map(|target| (message.clone(), target)));
            }
        }
        taken
    }

    /// A copy of a session that is gone goes to another member of its group. `[U5-072]`
    pub(super) fn pass_on(&mut self, now: Instant, copy: &Copy) -> bool {
        // The number may belong to another group by now, which is younger than the message.
        let since = self.groups.since(copy.group);
        if since.is_none_or(|since| copy.message.arrival <= since) {
            return false;
        }
        let mut targets = Vec::new();
        self.choose(copy.group, &mut targets);
        let Some(target) = targets.pop() else { return false };
        self.deliver(now, &copy.message, target);
        true
    }

    /// Puts a job that is not done behind all others, with those that come after it.
    fn go_behind(&mut self, job: Job) {
        let place = self.place();
        let mut names = BTreeSet::from_iter(job.names(place).into_iter().flatten());
        let mut behind = Vec::from([job]);
        for _ in 0..self.jobs.len() {
            let Some(job) = self.jobs.pop_front() else { break };
            match job.names(place) {
                Some(its) if its.iter().any(|name| names.contains(name)) => {
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
            Some(Job::Deliver { source, message, targets, next }) => {
                let end = targets.len().min(next + SLICE);
                for target in &targets[next..end] {
                    self.deliver(now, &message, target.clone());
                }
                if end < targets.len() {
                    self.go_behind(Job::Deliver { source, message, targets, next: end });
                    return;
                }
                self.deliveries -= 1;
                self.held -= Job::footprint(&targets);
                match source {
                    Source::Nobody => {}
                    Source::Conn(key) => self.resume(now, key),
                    Source::Peer { from, lane, number } => self.forward_done(from, lane, number),
                }
            }
            Some(Job::Walk(key)) => {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.walking = false;
                }
                self.walk(now, key, WALK_STEPS);
            }
            Some(Job::Peers) => self.retry_some(now),
            None => {}
        }
    }
}

/// What a target is to have of a message.
fn copy(message: &Arc<Message>, target: Target) -> Copy {
    Copy {
        qos: if defect!("qos_raised") { target.qos } else { target.qos.min(message.head.qos) },
        // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        retain: (target.retain_as_published || defect!("retain_kept")) && message.head.retain,
        message: message.clone(),
        ids: target.ids,
        group: target.group,
    }
}
