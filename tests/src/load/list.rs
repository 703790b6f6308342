//! The scenarios: what is measured, by name.

use fulmar_core::{Qos, Version};

use super::scenario::{Filters, Load};

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

/// What most have in common.
pub(super) const BASE: Load = Load {
    tiny: false,
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
    quiet: 0,
    pinned: false,
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

/// Topics that come again and again, where a cache of what matches them pays, and filters near.
const BESIDE: Load = Load { messages: 2_000_000, quiet: 16, ..BASE };

/// All scenarios.
pub(super) const ALL: [Scenario; 18] = [
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
        about: "the same, while another client subscribes and unsubscribes 5,000 times a second",
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
        about: "the same, while another client subscribes and unsubscribes 5,000 times a second",
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
    Scenario {
        name: "S14",
        about: "as S1, and a quiet client with 16 wildcard filters for topics beside these",
        load: BESIDE,
        relay: false,
    },
    Scenario {
        name: "S14c",
        about: "the same, and another one that subscribes and unsubscribes 5,000 times a second",
        load: Load { churn: true, ..BESIDE },
        relay: false,
    },
];
