//! Who is to have a message.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::message::Message;
use super::publish::Draft;
use super::queue::{Copy, Ids, NO_GROUP};
use super::session::{Options, Session};
use super::slots::{Key, Slots};
use super::{Broker, DeliveryMode};
use crate::codec::Qos;
use crate::time::Instant;
use crate::topic::Entry;

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
        self.enqueue(now, session, copy(message.clone(), target));
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
}

/// What a target is to have of a message.
pub(super) fn copy(message: Arc<Message>, target: Target) -> Copy {
    Copy {
        qos: if defect!("qos_raised") { target.qos } else { target.qos.min(message.head.qos) },
        // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        retain: (target.retain_as_published || defect!("retain_kept")) && message.head.retain,
        message,
        ids: target.ids,
        group: target.group,
    }
}
