//! Clients on several shards do as they like while the links are moved in any order.
//!
//! Each topic has one publisher, who counts. Whoever subscribes sees no number twice, none after a
//! higher one, each that was sent after SUBACK, and in the end nothing older than the last that was
//! retained. Who unsubscribes sees nothing after UNSUBACK, and when it subscribes again all this
//! holds anew.

use std::collections::BTreeMap;

use fulmar_core::broker::Config;
use fulmar_core::codec::Qos;

use crate::world::{Client, World, filter, publish, retained, subscribe, unsubscribe};

/// A fixed sequence of numbers.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

struct Publisher {
    client: Client,
    topic: String,
    sent: u32,
    /// The last number that was retained.
    kept: u32,
    /// Messages that await an acknowledgement, and how many were sent with one.
    acks: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    On,
    Leaving,
    Off,
}

struct Subscriber {
    client: Client,
    filter: &'static str,
    state: State,
    /// By topic: the last number before SUBACK was seen; `None` before.
    since: Option<BTreeMap<String, u32>>,
    seen: BTreeMap<String, Vec<u32>>,
}

struct Run {
    world: World,
    rng: Rng,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    mixed: bool,
    /// Bytes of a message.
    size: usize,
}

const FILTERS: [&str; 5] = ["t/a0", "t/+", "#", "t/b0", "t/a0/#"];

impl Run {
    fn new(seed: u64, shards: u16, config: &Config) -> Self {
        let mut rng = Rng(seed * 0x9e37_79b9 + 77);
        let mut world = World::with(shards, config.clone());
        let mut publishers = Vec::new();
        for topic in ["t/a0", "t/b0", "u/c"] {
            let shard = rng.below(usize::from(shards));
            let client = world.connect(shard, &format!("publisher of {topic} "));
            let topic = topic.to_string();
            publishers.push(Publisher { client, topic, sent: 0, kept: 0, acks: 0 });
        }
        world.settle();
        let mixed = rng.below(3) > 0;
        let small = config.shard_budget < 2 << 20;
        let size = if small { 40 << 10 } else { 8 };
        Self { world, rng, publishers, subscribers: Vec::new(), mixed, size }
    }

    fn act(&mut self) {
        match self.rng.below(10) {
            0 if self.subscribers.len() < 6 => self.subscribe(),
            1 if !self.subscribers.is_empty() => self.leave_or_return(),
            0..=3 => self.publish(),
            _ => {
                let busy = self.world.busy();
                if !busy.is_empty() {
                    let (from, to) = busy[self.rng.below(busy.len())];
                    for _ in 0..=self.rng.below(3) {
                        self.world.step(from, to);
                    }
                }
            }
        }
        self.look();
    }

    fn subscribe(&mut self) {
        let shard = self.rng.below(self.world.shards.len());
        let name = format!("subscriber {} ", self.subscribers.len());
        let client = self.world.connect(shard, &name);
        let filter_text = FILTERS[self.rng.below(FILTERS.len())];
        let qos = self.any_qos();
        self.world.answers(client);
        self.world.send(client, &[subscribe(&filter(filter_text, qos))]);
        let (state, since, seen) = (State::On, None, BTreeMap::new());
        self.subscribers.push(Subscriber { client, filter: filter_text, state, since, seen });
    }

    fn leave_or_return(&mut self) {
        let (at, qos) = (self.rng.below(self.subscribers.len()), self.any_qos());
        let subscriber = &mut self.subscribers[at];
        let client = subscriber.client;
        if self.world.paused.contains(&client) {
            // Its socket is not read.
            return;
        }
        match subscriber.state {
            State::On => {
                subscriber.state = State::Leaving;
                self.world.send(client, &[unsubscribe(&[subscriber.filter])]);
            }
            State::Leaving => {}
            State::Off => {
                (subscriber.state, subscriber.since) = (State::On, None);
                subscriber.seen.clear();
                self.world.send(client, &[subscribe(&filter(subscriber.filter, qos))]);
            }
        }
    }

    fn any_qos(&mut self) -> Qos {
        [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][self.rng.below(3)]
    }

    fn publish(&mut self) {
        let at = self.rng.below(self.publishers.len());
        let publisher = &mut self.publishers[at];
        if self.world.paused.contains(&publisher.client) {
            // Its socket is not read.
            return;
        }
        publisher.sent += 1;
        let (number, topic) = (publisher.sent, publisher.topic.clone());
        let text = format!("{number:<0$}", self.size);
        let qos = self.any_qos();
        let publisher = &mut self.publishers[at];
        let packet_id = if qos == Qos::AtMostOnce { 0 } else { number as u16 };
        publisher.acks += u32::from(packet_id > 0);
        let retain = self.rng.below(if self.mixed { 2 } else { 4 }) == 0;
        let packet = if retain {
            publisher.kept = number;
            retained(&topic, &text, qos, packet_id)
        } else {
            publish(&topic, &text, qos, packet_id)
        };
        let client = publisher.client;
        self.world.send(client, &[packet]);
    }

    /// What the clients see now.
    fn look(&mut self) {
        let last: BTreeMap<String, u32> =
            self.publishers.iter().map(|p| (p.topic.clone(), p.sent)).collect();
        for subscriber in &mut self.subscribers {
            for got in self.world.messages(subscriber.client) {
                assert!(subscriber.state != State::Off, "it has unsubscribed");
                let number: u32 = got.payload.trim_end().parse().expect("a number");
                let seen = subscriber.seen.entry(got.topic.clone()).or_default();
                if let Some(before) = seen.last() {
                    assert!(*before < number, "{}: {number} after {before}", got.topic);
                }
                seen.push(number);
            }
            for answer in self.world.answers(subscriber.client) {
                match answer {
                    "SUBACK" => {
                        assert!(subscriber.since.is_none(), "one SUBACK");
                        subscriber.since = Some(last.clone());
                    }
                    "UNSUBACK" => subscriber.state = State::Off,
                    _ => {}
                }
            }
        }
    }

    fn finish(mut self) -> u64 {
        self.world.settle();
        self.look();
        for subscriber in &self.subscribers {
            let since = subscriber.since.as_ref().expect("SUBACK comes");
            assert!(subscriber.state != State::Leaving, "UNSUBACK comes");
            if subscriber.state == State::Off {
                continue;
            }
            for publisher in &self.publishers {
                let topic = &publisher.topic;
                let seen = subscriber.seen.get(topic).map_or(&[][..], |seen| seen);
                if !fulmar_core::topic::matches(subscriber.filter, topic) {
                    assert!(seen.is_empty(), "{topic} was not asked for");
                    continue;
                }
                let missing = (since[topic] + 1..=publisher.sent).find(|n| !seen.contains(n));
                assert_eq!(missing, None, "{} saw {seen:?} of {topic}", subscriber.filter);
                let newest = seen.last().copied().unwrap_or(0);
                assert!(newest >= publisher.kept, "{} is stale: {seen:?}", subscriber.filter);
            }
        }
        for publisher in &self.publishers {
            let out = &self.world.out[&publisher.client];
            let mut last = [0; 2];
            let mut count = 0;
            for (name, id, code) in &out.packets {
                let kind = match *name {
                    "PUBACK" => 0,
                    "PUBREC" => 1,
                    _ => continue,
                };
                assert!(*id > last[kind], "{name} {id} after {}", last[kind]);
                assert!(*code < 0x80);
                last[kind] = *id;
                count += 1;
            }
            assert_eq!(count, publisher.acks, "every message is acknowledged");
        }
        self.world.crossed
    }
}

fn runs(seeds: u64, shards: &[u16], config: &Config) {
    for &shards in shards {
        let mut crossed = 0;
        for seed in 1..=seeds {
            let mut run = Run::new(seed, shards, config);
            for _ in 0..120 {
                run.act();
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.finish()));
            match result {
                Ok(bytes) => crossed += bytes,
                Err(_) => panic!("{shards} shards, seed {seed}"),
            }
        }
        assert_eq!(crossed > 0, shards > 1, "shards speak to each other if there are several");
    }
}

#[test]
fn nothing_is_lost_doubled_or_stale_in_any_order_of_the_links() {
    runs(150, &[1, 2, 3, 8], &Config::default());
}

#[test]
fn nor_with_hardly_any_credit() {
    // Two or three messages use up what a link may hold; nothing else is near its limit.
    let config = Config { shard_budget: 1 << 20, ..Config::default() };
    runs(40, &[2, 3, 8], &config);
}
