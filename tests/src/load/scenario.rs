//! What a load is: clients, topics, filters, and who is to get what.

use fulmar_core::{Qos, Version};

/// Publishers, subscribers and what goes between them. Publisher and subscriber number `n` have
/// the topic `n % topics`, unless `wild` says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// It is on a small scale, as a test of the way.
    pub(super) tiny: bool,
    /// Threads that play the clients, where pairs of them can be dealt out; see
    /// [`parts`](Self::parts).
    pub(super) threads: usize,
    /// The number of the first publisher, subscriber and topic in names.
    pub(super) first: usize,
    pub(super) version: Version,
    /// Publishers use topic aliases, message expiry, a content type and user properties, and
    /// subscribers accept aliases. 5.0 only.
    pub(super) properties: bool,
    pub(super) publishers: usize,
    pub(super) subscribers: usize,
    pub(super) topics: usize,
    pub(super) qos: Qos,
    /// Bytes of a payload, at least those of a [`Stamp`](super::wire::Stamp).
    pub(super) payload: usize,
    /// Messages of all publishers together.
    pub(super) messages: u64,
    /// Most messages of one publisher that are unacknowledged or undelivered.
    pub(super) window: u64,
    /// A publisher sends when so many places of its window are free.
    pub(super) burst: u64,
    /// Messages a second of all publishers together; 0 for as fast as it goes.
    pub(super) rate: u64,
    /// Filters of each subscriber; 0 for one filter, the topic.
    pub(super) wild: usize,
    /// What these filters look like.
    pub(super) filters: Filters,
    /// Another client subscribes and unsubscribes meanwhile; it is measured without it, too.
    pub(super) churn: bool,
    /// Wildcard filters of one more client, which overlap and match none of the topics.
    pub(super) quiet: usize,
    /// Publisher and subscriber of each pair are on one shard, so that nothing crosses; only with
    /// a broker that tells where clients are.
    pub(super) pinned: bool,
    /// Subscribers read nothing before all is published; then it is memory that is measured.
    pub(super) hoard: bool,
    /// Connections that do nothing but subscribe; then there is no traffic.
    pub(super) idle: usize,
}

/// Filters of subscribers that have many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filters {
    /// With and without wildcards; five subscribers match each topic.
    Mixed,
    /// Without wildcards, each held by one subscriber.
    Exact,
    /// With wildcards, each held by one subscriber.
    Wild,
}

/// Groups of subscribers in the wildcard scenario; the groups get different messages.
const LEAVES: [&str; 2] = ["x", "y"];
/// Places in the topics of the wildcard scenario that share a level.
const SIDE: usize = 100;

impl Load {
    /// The same on a smaller scale: `messages` in all, few filters, few connections.
    pub(super) fn tiny(self, messages: u64) -> Self {
        Self {
            tiny: true,
            messages: if self.idle == 0 { messages } else { 0 },
            wild: self.wild.min(200),
            idle: self.idle.min(20),
            ..self
        }
    }

    /// Whether each publisher has a topic of its own, and a subscriber.
    pub(super) const fn is_pairs(&self) -> bool {
        let pairs = self.publishers;
        self.wild == 0 && self.subscribers == pairs && self.topics == pairs
    }

    /// Whether messages go from publishers to subscribers as fast as these take them.
    pub(super) const fn is_traffic(&self) -> bool {
        self.idle == 0 && !self.hoard
    }

    /// The load dealt out to its threads. One that is not made of pairs stays whole.
    pub(super) fn parts(&self) -> Vec<Self> {
        let pairs = self.publishers;
        if !self.is_pairs() {
            return vec![*self];
        }
        let threads = self.threads.clamp(1, pairs);
        let from = |all: usize, part: usize| all * part / threads;
        let part = |part: usize| {
            let share = |all: usize| from(all, part + 1) - from(all, part);
            let pairs = share(pairs);
            Self {
                threads: 1,
                first: self.first + from(self.publishers, part),
                publishers: pairs,
                subscribers: pairs,
                topics: pairs,
                messages: share(self.messages as usize) as u64,
                rate: share(self.rate as usize) as u64,
                ..*self
            }
        };
        (0..threads).map(part).collect()
    }

    /// Numberings that each publisher has.
    pub(super) const fn groups(&self) -> usize {
        match self.filters {
            _ if self.wild == 0 => 1,
            Filters::Mixed => LEAVES.len(),
            Filters::Exact | Filters::Wild => self.subscribers,
        }
    }

    /// The numbering that messages to a topic belong to.
    #[inline]
    pub(super) const fn group(&self, topic: usize) -> usize {
        if self.wild == 0 { 0 } else { topic % self.groups() }
    }

    /// All topics. Those of a group are every [`groups`](Self::groups)-th.
    pub(super) fn topic_names(&self) -> Vec<String> {
        if self.wild == 0 {
            return (0..self.topics).map(|topic| self.plain_topic(topic)).collect();
        }
        let topic = |j: usize, group: usize| {
            let (a, b) = (j / SIDE, j % SIDE);
            match self.filters {
                Filters::Mixed => format!("plant/{a}/cell/{b}/{}/temp", LEAVES[group]),
                Filters::Exact | Filters::Wild => {
                    format!("plant-{group}/{a}/cell/{b}/sensor/temp")
                }
            }
        };
        (0..self.wild * self.groups())
            .map(|n| topic(n / self.groups(), n % self.groups()))
            .collect()
    }

    /// The filters of a subscriber. Each topic of its group matches exactly one of them.
    pub(super) fn filters(&self, subscriber: usize) -> Vec<String> {
        if self.wild == 0 {
            return vec![self.plain_topic(subscriber % self.topics)];
        }
        let group = self.group_of(subscriber);
        let own = |j: usize| {
            let (a, b) = (j / SIDE, j % SIDE);
            let (plant, cell) = (format!("plant-{group}/{a}"), format!("cell/{b}"));
            match j % 4 {
                _ if self.filters == Filters::Exact => format!("{plant}/{cell}/sensor/temp"),
                0 => format!("{plant}/{cell}/sensor/+"),
                1 => format!("{plant}/{cell}/sensor/#"),
                2 => format!("{plant}/{cell}/+/temp"),
                _ => format!("{plant}/+/{b}/sensor/temp"),
            }
        };
        if self.filters != Filters::Mixed {
            return (0..self.wild).map(own).collect();
        }
        let leaf = LEAVES[group];
        let filter = |j: usize| {
            let (a, b) = (j / SIDE, j % SIDE);
            match subscriber % 5 {
                0 => format!("plant/{a}/cell/{b}/{leaf}/temp"),
                1 => format!("plant/{a}/cell/{b}/{leaf}/+"),
                2 => format!("plant/{a}/cell/{b}/{leaf}/#"),
                3 => format!("plant/{a}/+/{b}/{leaf}/temp"),
                _ => format!("+/{a}/cell/{b}/{leaf}/#"),
            }
        };
        (0..self.wild).map(filter).collect()
    }

    fn plain_topic(&self, number: usize) -> String {
        format!("bench/topic/{}", self.first + number)
    }

    fn group_of(&self, subscriber: usize) -> usize {
        match self.filters {
            Filters::Mixed => subscriber / 5 % LEAVES.len(),
            Filters::Exact | Filters::Wild => subscriber,
        }
    }

    /// Flows that end at one subscriber at most.
    fn flows_each(&self) -> usize {
        if self.wild == 0 { self.publishers.div_ceil(self.topics) } else { self.publishers }
    }

    /// Flows in all.
    pub(super) fn flows(&self) -> usize {
        self.flows_each() * self.subscribers
    }

    /// The flow of a publisher's numbering to a subscriber, if it is to get it.
    #[inline]
    pub(super) fn flow(&self, publisher: usize, group: usize, subscriber: usize) -> Option<usize> {
        let start = self.flows_each() * subscriber;
        if self.wild > 0 {
            return (group == self.group_of(subscriber)).then_some(start + publisher);
        }
        // Common, and without a division.
        let same = publisher == subscriber && publisher < self.topics
            || publisher % self.topics == subscriber % self.topics;
        let among = if publisher < self.topics { 0 } else { publisher / self.topics };
        (same && group == 0).then_some(start + among)
    }

    /// Subscribers that get a message of this numbering.
    pub(super) fn fan(&self, publisher: usize, group: usize) -> u64 {
        let gets = |s: &usize| self.flow(publisher, group, *s).is_some();
        (0..self.subscribers).filter(gets).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use fulmar_core::topic::matches;

    use super::super::list::{ALL, BASE};
    use super::*;

    #[test]
    fn flows_are_what_filters_match() {
        for scenario in ALL {
            let load = Load { wild: scenario.load.wild.min(120), ..scenario.load };
            let (publishers, topics) = (load.publishers.min(60), load.topic_names());
            let mut seen = vec![0; load.flows()];
            for subscriber in 0..load.subscribers {
                let filters = load.filters(subscriber);
                for publisher in 0..publishers {
                    for group in 0..load.groups() {
                        // One topic of those that the publisher sends with this numbering.
                        let at = if load.wild == 0 { publisher % load.topics } else { group };
                        let topic = &topics[at];
                        let count = filters.iter().filter(|filter| matches(filter, topic)).count();
                        let flow = load.flow(publisher, group, subscriber);
                        assert_eq!(count, usize::from(flow.is_some()), "{} {topic}", load.wild);
                        flow.into_iter().for_each(|flow| seen[flow] += 1);
                    }
                }
            }
            assert!(seen.iter().all(|count| *count <= 1), "{}: a flow is shared", scenario.name);
        }
    }

    #[test]
    fn every_topic_matches_one_filter_of_each_subscriber_of_its_group() {
        for filters in [Filters::Mixed, Filters::Exact, Filters::Wild] {
            let load = Load { wild: 205, subscribers: 10, filters, ..BASE };
            let topics = load.topic_names();
            for subscriber in 0..10 {
                let filters = load.filters(subscriber);
                for (at, topic) in topics.iter().enumerate() {
                    let count = filters.iter().filter(|filter| matches(filter, topic)).count();
                    let expected = load.flow(0, at % load.groups(), subscriber).is_some();
                    assert_eq!(count, usize::from(expected), "{topic} for {subscriber}");
                }
            }
        }
    }

    #[test]
    fn parts_are_the_whole_and_share_nothing() {
        for scenario in ALL {
            for threads in [1, 3, 7] {
                let parts = Load { threads, ..scenario.load }.parts();
                let sum = |get: fn(&Load) -> u64| parts.iter().map(get).sum::<u64>();
                assert_eq!(sum(|part| part.messages), scenario.load.messages);
                assert_eq!(sum(|part| part.rate), scenario.load.rate);
                assert_eq!(sum(|part| part.publishers as u64), scenario.load.publishers as u64);
                assert_eq!(sum(|part| part.subscribers as u64), scenario.load.subscribers as u64);
                let mut topics: Vec<_> = parts.iter().flat_map(Load::topic_names).collect();
                topics.sort_unstable();
                topics.dedup();
                assert_eq!(topics.len(), scenario.load.topic_names().len());
            }
        }
        assert_eq!(Load { threads: 3, ..BASE }.parts().len(), 3);
    }

    #[test]
    fn fans_are_those_of_the_names() {
        let fan = |name: &str| {
            let scenario = ALL.iter().find(|scenario| scenario.name == name);
            scenario.expect("a scenario").load.fan(0, 0)
        };
        assert_eq!(["S1", "S4", "S5", "S9", "S10", "S12"].map(fan), [1, 500, 1, 5, 1, 1]);
    }
}
