//! Messages from one shard to another, and others on the way back.

use fulmar_core::broker::{Config, ConnId};
use fulmar_core::{Qos, Version};

use super::Work;
use crate::crossing::Crossing;
use crate::packet;

const VERSION: Version = Version::V311;
const TOPICS: [&str; 2] = ["there/door", "back/door"];
const PAYLOAD: [u8; 64] = [7; 64];
/// Messages a publisher sends at once.
const BURST: usize = 25;

/// On each shard a publisher, and a subscriber to what is published on the other.
fn houses(qos: Qos) -> (Crossing, [ConnId; 2], [ConnId; 2]) {
    let mut shards = Crossing::new(&Config::default());
    let publishers = [0, 1].map(|shard| shards.connect(shard, VERSION, "publisher"));
    let subscribers = [0, 1].map(|shard| shards.connect(shard, VERSION, "subscriber"));
    for (shard, topic) in [(1, TOPICS[0]), (0, TOPICS[1])] {
        let packet = packet::subscribe(VERSION, 1, topic, qos);
        shards.receive(shard, subscribers[usize::from(shard)], &packet, |_, _| {});
    }
    (shards, publishers, subscribers)
}

/// Bursts of QoS 0, one each way.
pub(super) fn qos0() -> Work {
    let (mut shards, publishers, _) = houses(Qos::AtMostOnce);
    let message = |topic| packet::publish(VERSION, topic, &PAYLOAD, Qos::AtMostOnce, 0);
    let bursts = TOPICS.map(|topic| message(topic).repeat(BURST));
    Box::new(move || {
        let before = shards.sent();
        for (shard, burst) in (0..).zip(&bursts) {
            shards.receive(shard, publishers[usize::from(shard)], burst, |_, _| {});
        }
        let bytes: usize = bursts.iter().map(Vec::len).sum();
        assert_eq!(shards.sent() - before, bytes as u64);
    })
}

/// A burst of QoS 0, and nothing back.
pub(super) fn one_way() -> Work {
    let (mut shards, publishers, _) = houses(Qos::AtMostOnce);
    let burst = packet::publish(VERSION, TOPICS[0], &PAYLOAD, Qos::AtMostOnce, 0).repeat(BURST);
    Box::new(move || {
        let before = shards.sent();
        shards.receive(0, publishers[0], &burst, |_, _| {});
        assert_eq!(shards.sent() - before, burst.len() as u64);
    })
}

/// Two houses, and a message for each way.
struct Both {
    shards: Crossing,
    publishers: [ConnId; 2],
    subscribers: [ConnId; 2],
    messages: [Vec<u8>; 2],
}

impl Both {
    fn new(qos: Qos) -> Self {
        let (shards, publishers, subscribers) = houses(qos);
        let messages = TOPICS.map(|topic| packet::publish(VERSION, topic, &PAYLOAD, qos, 9));
        Self { shards, publishers, subscribers, messages }
    }

    /// Publishes from one shard; gives the identifier with which the message reaches the other.
    /// The publisher must be answered with a packet of this type.
    fn cross(&mut self, from: usize, answer: u8) -> u16 {
        let (subscriber, id_at) = (self.subscribers[1 - from], 4 + TOPICS[from].len());
        let (mut id, mut answered) = (None, false);
        let (publisher, message) = (self.publishers[from], &self.messages[from]);
        self.shards.receive(from as u16, publisher, message, |conn, bytes| {
            answered |= bytes[0] >> 4 == answer;
            if conn == subscriber {
                id = Some(u16::from_be_bytes([bytes[id_at], bytes[id_at + 1]]));
            }
        });
        assert!(answered, "the answer comes when the other shard has the message");
        id.expect("it reaches the subscriber")
    }

    fn acknowledge(&mut self, at: usize, packet: &[u8]) {
        self.shards.receive(at as u16, self.subscribers[at], packet, |_, _| {});
    }
}

/// One message of QoS 1 each way, and all acknowledgements.
pub(super) fn qos1() -> Work {
    let mut both = Both::new(Qos::AtLeastOnce);
    Box::new(move || {
        for from in 0..2 {
            let id = both.cross(from, 4);
            both.acknowledge(1 - from, &packet::puback(id));
        }
    })
}

/// One message of QoS 2 each way, and all acknowledgements.
pub(super) fn qos2() -> Work {
    let mut both = Both::new(Qos::ExactlyOnce);
    let pubrel = packet::acknowledgement(0x62, 9);
    Box::new(move || {
        for from in 0..2 {
            let id = both.cross(from, 5);
            both.shards.receive(from as u16, both.publishers[from], &pubrel, |_, _| {});
            let before = both.shards.sent();
            for first in [0x50, 0x70] {
                both.acknowledge(1 - from, &packet::acknowledgement(first, id));
            }
            // PUBREL.
            assert_eq!(both.shards.sent() - before, 4);
        }
    })
}

/// Fifteen topics in turn, each in a message of its own, to a subscriber on the other shard that
/// has thousands of filters with wildcards, of six shapes of which one matches; and one that nobody
/// wants, so that all are looked for.
pub(super) fn shapes() -> Work {
    let mut shards = Crossing::new(&Config { max_subscriptions: 20_000, ..Config::default() });
    let publisher = shards.connect(0, VERSION, "publisher");
    let subscriber = shards.connect(1, VERSION, "subscriber");
    let mut subscribe = |filter: &str| {
        let packet = packet::subscribe(VERSION, 1, filter, Qos::AtMostOnce);
        shards.receive(1, subscriber, &packet, |_, _| {});
    };
    (0..4096).for_each(|n| subscribe(&format!("tree/{n}/+")));
    for n in 0..100 {
        let own = ["+/house/{}", "house/+/{}", "house/{}/+", "house/{}/#", "+/+/{}", "+/{}/+"];
        own.iter().for_each(|filter| subscribe(&filter.replace("{}", &format!("x{n}"))));
    }
    (0..15).for_each(|n| subscribe(&format!("house/+/{n}")));
    let message = |n| {
        let topic = format!("house/door/{n}");
        packet::publish(VERSION, &topic, &PAYLOAD, Qos::AtMostOnce, 0)
    };
    let messages: Vec<_> = (0..16).map(message).collect();
    Box::new(move || {
        let before = shards.sent();
        for message in &messages {
            shards.receive(0, publisher, message, |_, _| {});
        }
        let bytes: usize = messages[..15].iter().map(Vec::len).sum();
        assert_eq!(shards.sent() - before, bytes as u64);
    })
}

/// A message of QoS 0 to a shared group that has its only member on the other shard.
pub(super) fn group() -> Work {
    let mut shards = Crossing::new(&Config::default());
    let publisher = shards.connect(0, VERSION, "publisher");
    let member = shards.connect(1, VERSION, "member");
    let packet = packet::subscribe(VERSION, 1, "$share/guests/there/+", Qos::AtMostOnce);
    shards.receive(1, member, &packet, |_, _| {});
    let message = packet::publish(VERSION, TOPICS[0], &PAYLOAD, Qos::AtMostOnce, 0);
    Box::new(move || {
        let before = shards.sent();
        shards.receive(0, publisher, &message, |_, _| {});
        assert_eq!(shards.sent() - before, message.len() as u64);
    })
}
