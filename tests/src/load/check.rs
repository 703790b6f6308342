//! Whether every message came, once, and in order.
//!
//! Each publisher numbers its messages from 0, separately for each group of subscribers that get
//! the same ones. What goes from one numbering to one subscriber is a flow: the subscriber is to
//! see every number, once, in order, as it was sent.

use std::collections::BTreeSet;

use fulmar_core::codec::{Property, Publish};

use super::row::Row;
use super::scenario::Load;
use super::wire::{self, Stamp, Templates};

/// What is to be thought of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// The next one, or a later one.
    InOrder,
    /// One that a later one overtook.
    Late,
    /// One that had come.
    Duplicate,
}

/// What a message is, as far as was looked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its stamp and its flow; `None` for a stray.
    flow: Option<(Stamp, usize)>,
    /// It is not what was sent.
    pub(super) altered: bool,
}

/// The flows, and what was wrong in them.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// The number after the highest that came, of each flow.
    next: Vec<u32>,
    /// Numbers that were skipped and have not come since, with their flow.
    skipped: BTreeSet<(usize, u32)>,
    /// The topics that the broker has given aliases, of each subscriber, where aliases are used.
    aliases: Vec<[Option<u32>; wire::ALIASES as usize]>,
    /// Messages that came, each counted once.
    pub(super) delivered: u64,
    pub(super) duplicates: u64,
    pub(super) disordered: u64,
    /// Messages that came to a subscriber that is not to get them, or that nobody had sent.
    pub(super) strays: u64,
    /// Messages that came otherwise than they were sent.
    pub(super) altered: u64,
}

impl Checker {
    pub(super) fn new(load: &Load) -> Self {
        let aliased = if load.properties { load.subscribers } else { 0 };
        let aliases = vec![[None; wire::ALIASES as usize]; aliased];
        Self { next: vec![0; load.flows()], aliases, ..Self::default() }
    }

    /// Looks at a message for a subscriber, or at its beginning with some of its payload, which has
    /// `length` bytes in all. `templates` are those of all topics, `sent` says how many messages a
    /// publisher has sent in a numbering, where there is such a one.
    #[inline]
    pub(super) fn look(
        &mut self,
        load: &Load,
        templates: &[Templates],
        subscriber: usize,
        (publish, length): (&Publish<'_>, usize),
        sent: impl FnOnce(usize, usize) -> Option<u32>,
    ) -> Seen {
        let stamp = Stamp::read(publish.payload);
        let topic = stamp.and_then(|stamp| templates.get(stamp.topic as usize));
        let flow = stamp.zip(topic).and_then(|(stamp, _)| {
            let (publisher, group) = (stamp.publisher as usize, load.group(stamp.topic as usize));
            let sent = sent(publisher, group)?;
            let flow = load.flow(publisher, group, subscriber)?;
            (stamp.number < sent).then_some((stamp, flow))
        });
        let named = stamp.zip(topic).is_none_or(|(stamp, topic)| {
            self.is_named(subscriber, stamp.topic, topic.first.topic(), publish)
        });
        Seen { flow, altered: !named || !wire::is_unaltered(load, publish, length) }
    }

    /// A message that was looked at has come whole. Gives the stamp of one that is new.
    #[inline]
    pub(super) fn take(&mut self, Seen { flow, altered }: Seen) -> Option<Stamp> {
        self.altered += u64::from(altered);
        let Some((stamp, flow)) = flow else {
            self.strays += 1;
            return None;
        };
        (self.arrived(flow, stamp.number) != Arrival::Duplicate).then_some(stamp)
    }

    /// Adds what was counted to a row; `due` is how many messages were to come.
    pub(super) fn tell(&self, due: u64, row: &mut Row) {
        row.delivered += self.delivered;
        row.lost += due.saturating_sub(self.delivered);
        row.duplicates += self.duplicates;
        row.disordered += self.disordered;
        row.strays += self.strays;
        row.altered += self.altered;
    }

    /// Whether a message has this topic, by its name or by an alias that stands for it.
    #[inline]
    fn is_named(
        &mut self,
        subscriber: usize,
        topic: u32,
        name: &[u8],
        publish: &Publish<'_>,
    ) -> bool {
        let named = publish.topic.as_bytes() == name;
        let Some(aliases) = self.aliases.get_mut(subscriber) else { return named };
        let alias = publish.properties.iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        });
        let Some(alias) = alias else { return named };
        match aliases.get_mut(usize::from(alias).wrapping_sub(1)) {
            Some(meant) if publish.topic.is_empty() => *meant == Some(topic),
            Some(meant) => {
                *meant = named.then_some(topic);
                named
            }
            // More than the subscriber allows.
            None => false,
        }
    }

    /// Message `number` of a flow came. Numbers must have been sent: the gap before one is
    /// remembered.
    #[inline]
    fn arrived(&mut self, flow: usize, number: u32) -> Arrival {
        let next = &mut self.next[flow];
        if number >= *next {
            if number > *next {
                self.skipped.extend((*next..number).map(|number| (flow, number)));
            }
            *next = number + 1;
            self.delivered += 1;
            return Arrival::InOrder;
        }
        if self.skipped.remove(&(flow, number)) {
            self.delivered += 1;
            self.disordered += 1;
            return Arrival::Late;
        }
        self.duplicates += 1;
        Arrival::Duplicate
    }
}

#[cfg(test)]
mod tests {
    use fulmar_core::Version;
    use fulmar_core::codec::Properties;

    use super::super::list::BASE;
    use super::*;

    /// A broker that passes on these numbers of two flows of `sent` messages each.
    fn check(sent: u32, arrivals: &[(usize, u32)]) -> (u64, u64, u64) {
        let mut checker = Checker { next: vec![0; 2], ..Checker::default() };
        for &(flow, number) in arrivals {
            checker.arrived(flow, number);
        }
        let lost = u64::from(2 * sent) - checker.delivered;
        (lost, checker.duplicates, checker.disordered)
    }

    #[test]
    fn a_topic_is_the_one_that_a_message_was_sent_to_also_behind_an_alias() {
        let load = Load { properties: true, version: Version::V5, ..BASE };
        let names = load.topic_names();
        let mut checker = Checker::new(&load);
        let mut named = |topic, name: &str, alias: Option<u16>| {
            let properties: Vec<_> = alias.into_iter().map(Property::TopicAlias).collect();
            let properties = Properties::list(&properties);
            let publish = Publish { topic: name, properties, ..Publish::default() };
            checker.is_named(3, topic, names[topic as usize].as_bytes(), &publish)
        };
        assert!(named(3, &names[3], None) && !named(3, &names[4], None));
        assert!(!named(3, "", None) && !named(3, "", Some(1)), "it was given to none");
        assert!(named(3, &names[3], Some(1)) && named(3, "", Some(1)));
        assert!(!named(4, "", Some(1)) && !named(3, "", Some(2)), "it stands for another");
        assert!(named(4, &names[4], Some(1)) && named(4, "", Some(1)) && !named(3, "", Some(1)));
        assert!(named(3, &names[3], Some(16)));
        assert!(!named(3, &names[3], Some(17)), "so many are not allowed");
    }

    #[test]
    fn a_faithful_broker_has_no_faults() {
        assert_eq!(check(3, &[(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]), (0, 0, 0));
    }

    #[test]
    fn a_loss_is_seen_at_the_beginning_in_the_middle_and_at_the_end() {
        let all = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        for lost in all {
            let rest: Vec<_> = all.into_iter().filter(|arrival| *arrival != lost).collect();
            assert_eq!(check(3, &rest), (1, 0, 0), "{lost:?}");
        }
        assert_eq!(check(3, &[]), (6, 0, 0));
    }

    #[test]
    fn a_second_copy_is_a_duplicate_at_once_or_later() {
        assert_eq!(check(2, &[(0, 0), (0, 0), (0, 1), (1, 0), (1, 1)]), (0, 1, 0));
        assert_eq!(check(2, &[(0, 0), (0, 1), (0, 0), (1, 0), (1, 1), (1, 1)]), (0, 2, 0));
    }

    #[test]
    fn an_exchange_is_disorder_and_neither_loss_nor_duplicate() {
        assert_eq!(check(2, &[(0, 1), (0, 0), (1, 0), (1, 1)]), (0, 0, 1));
        // The late one comes twice.
        assert_eq!(check(2, &[(0, 1), (0, 0), (0, 0), (1, 0), (1, 1)]), (0, 1, 1));
    }
}
