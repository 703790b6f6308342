//! What is measured.

use fulmar_core::{Qos, Version};

/// A load on a broker, or connections that do nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What it stresses.
    pub(super) about: &'static str,
    pub(super) load: Load,
    /// A broker that copies without parsing can serve it.
    pub(super) relay: bool,
}

/// Publishers, subscribers and what goes between them. Publisher and subscriber number `n` have
/// the topic `n % topics`, unless `wild` says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
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
    /// Another client subscribes and unsubscribes meanwhile, as fast as it can.
    pub(super) churn: bool,
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

const BASE: Load = Load {
    threads: 1,
    first: 0,
    version: Version::V311,
    properties: false,
    publishers: 50,
    subscribers: 50,
    topics: 50,
    qos: Qos::AtMostOnce,
    payload: 64,
    messages: 0,
    window: 100,
    burst: 25,
    rate: 0,
    wild: 0,
    filters: Filters::Mixed,
    churn: false,
    hoard: false,
    idle: 0,
};

const QOS1: Load = Load { qos: Qos::AtLeastOnce, window: 50, burst: 10, messages: 400_000, ..BASE };

/// A million filters, each matched by one topic.
const MANY: Load = Load {
    publishers: 10,
    subscribers: 100,
    topics: 1,
    messages: 500_000,
    wild: 10_000,
    filters: Filters::Exact,
    ..BASE
};

/// All scenarios.
pub(super) const ALL: [Scenario; 16] = [
    Scenario {
        name: "S1",
        about: "50 publishers to 50 subscribers one to one, QoS 0, bursts of 25, 100 under way",
        load: Load { messages: 2_000_000, ..BASE },
        relay: true,
    },
    Scenario {
        name: "S1u",
        about: "the same, one message at a time",
        load: Load { messages: 150_000, window: 1, burst: 1, ..BASE },
        relay: true,
    },
    Scenario {
        name: "S2",
        about: "the same, QoS 1, bursts of 10, 50 under way",
        load: QOS1,
        relay: false,
    },
    Scenario {
        name: "S3",
        about: "the same, QoS 2",
        load: Load { qos: Qos::ExactlyOnce, messages: 200_000, ..QOS1 },
        relay: false,
    },
    Scenario {
        name: "S4",
        about: "one publisher to 500 subscribers, QoS 0, bursts of 5, 20 under way",
        load: Load {
            publishers: 1,
            subscribers: 500,
            topics: 1,
            messages: 6_000,
            window: 20,
            burst: 5,
            ..BASE
        },
        relay: true,
    },
    Scenario {
        name: "S5",
        about: "500 publishers to one subscriber, QoS 1, 4 under way",
        load: Load {
            publishers: 500,
            subscribers: 1,
            topics: 1,
            messages: 200_000,
            window: 4,
            burst: 1,
            ..QOS1
        },
        relay: false,
    },
    Scenario {
        name: "S6",
        about: "payloads of 64 KiB, 10 to 10, QoS 0, 4 under way",
        load: Load {
            publishers: 10,
            subscribers: 10,
            topics: 10,
            messages: 20_000,
            payload: 65_536,
            window: 4,
            burst: 1,
            ..BASE
        },
        relay: true,
    },
    Scenario {
        name: "S7",
        about: "5,000 messages a second in all, 50 to 50, QoS 1",
        load: Load { messages: 25_000, rate: 5_000, ..QOS1 },
        relay: false,
    },
    Scenario {
        name: "S8",
        about: "19,500 connections with a subscription each, idle",
        load: Load { idle: 19_500, ..BASE },
        relay: false,
    },
    Scenario {
        name: "S9",
        about: "100,000 filters with and without wildcards, one publisher, 10 subscribers, QoS 0",
        load: Load {
            publishers: 1,
            subscribers: 10,
            topics: 1,
            messages: 200_000,
            wild: 10_000,
            ..BASE
        },
        relay: false,
    },
    Scenario {
        name: "S10",
        about: "as S2, MQTT 5.0 with topic aliases, message expiry and user properties",
        load: Load { version: Version::V5, properties: true, ..QOS1 },
        relay: false,
    },
    Scenario {
        name: "S11",
        about: "1,000,000 filters without wildcards, 10 publishers, 100 subscribers, QoS 0",
        load: MANY,
        relay: false,
    },
    Scenario {
        name: "S11c",
        about: "the same, while another client subscribes and unsubscribes as fast as it can",
        load: Load { churn: true, ..MANY },
        relay: false,
    },
    Scenario {
        name: "S12",
        about: "1,000,000 filters with wildcards, 10 publishers, 100 subscribers, QoS 0",
        load: Load { filters: Filters::Wild, ..MANY },
        relay: false,
    },
    Scenario {
        name: "S12c",
        about: "the same, while another client subscribes and unsubscribes as fast as it can",
        load: Load { filters: Filters::Wild, churn: true, ..MANY },
        relay: false,
    },
    Scenario {
        name: "S13",
        about: "100,000 messages of 1 KiB wait for 10 subscribers, are taken, and all is over",
        load: Load {
            publishers: 10,
            subscribers: 10,
            topics: 10,
            messages: 100_000,
            payload: 1024,
            hoard: true,
            ..BASE
        },
        relay: false,
    },
];

/// Groups of subscribers in the wildcard scenario; the groups get different messages.
const LEAVES: [&str; 2] = ["x", "y"];
/// Places in the topics of the wildcard scenario that share a level.
const SIDE: usize = 100;

impl Load {
    /// The same on a smaller scale: `messages` in all, few filters, few connections.
    pub(super) fn tiny(self, messages: u64) -> Self {
        Self {
            messages: if self.idle == 0 { messages } else { 0 },
            wild: self.wild.min(200),
            idle: self.idle.min(20),
            ..self
        }
    }

    /// The load dealt out to its threads. One that is not made of pairs stays whole.
    pub(super) fn parts(&self) -> Vec<Self> {
        let pairs = self.publishers;
        if self.wild > 0 || self.subscribers != pairs || self.topics != pairs {
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
