//! Two shards, and publishers that have more under way than the credit between them allows.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use fulmar_adapters::broker::{Config, Event, Notice, Options};
use smol::block_on;

use super::running::Running;
use super::wire::{Wire, packet, string};

/// Bytes that each shard may hold: the least there is.
const BUDGET: u64 = 1 << 20;
/// What may be under way from one shard to the other.
const CREDIT: usize = BUDGET as usize / 4;
const PUBLISHERS: u8 = 8;
/// Messages of one publisher in one round: together half as much again as there is credit, and not
/// more than a queue holds.
const MESSAGES: u16 = 64;
/// Rounds in which both shards run.
const ROUNDS: u16 = 20;
/// Its shard stands still when it goes.
const GATE: &str = "gate";
const PATIENCE: Duration = Duration::from_secs(30);

/// Which threads have which clients.
type Places = Arc<Mutex<HashMap<String, ThreadId>>>;

/// Small ones travel together, others alone.
fn size(number: u16) -> usize {
    if number.is_multiple_of(2) { 100 } else { 1_500 }
}

fn payload(publisher: u8, number: u16) -> Vec<u8> {
    let mut payload = [&[publisher], &number.to_be_bytes()[..]].concat();
    payload.resize(size(number), number as u8);
    payload
}

/// The messages of publishers on one shard, as a subscriber sees them.
#[derive(Default)]
struct Book {
    /// By publisher, how many have come.
    next: [u16; PUBLISHERS as usize],
    bytes: usize,
}

impl Book {
    /// They come in order, none twice and none changed.
    fn saw(&mut self, bytes: &[u8]) {
        let next = &mut self.next[usize::from(bytes[0])];
        assert_eq!(bytes, payload(bytes[0], *next), "message {next} of publisher {}", bytes[0]);
        *next += 1;
        self.bytes += bytes.len();
    }

    fn has(&self, messages: u16) -> bool {
        self.next.iter().all(|next| *next == messages)
    }
}

/// Who is on one shard.
struct Side {
    publishers: Vec<Wire>,
    /// Has what is published on its own shard, as soon as it is let on to the other one.
    near: Wire,
    seen: Book,
    /// Has what is published on the other shard, eight at a time.
    far: Wire,
    got: Book,
}

impl Side {
    /// Clients on the shard of a thread, or on the other one.
    fn new(broker: &Running, places: &Places, here: bool, own: &str, other: &str) -> Self {
        let is_here = |name: &str| {
            let places = places.lock().expect("nobody failed");
            (places[name] == places[GATE]) == here
        };
        // Who does not belong here goes again.
        let mut names = (0..).map(|n| format!("{own} {n}"));
        let mut client = |bytes: &dyn Fn(&str) -> Vec<u8>| {
            let own = names.by_ref().find_map(|name| {
                let mut wire = Wire::open(broker.address);
                wire.0.set_write_timeout(Some(PATIENCE)).expect("it is a socket");
                wire.send(&bytes(&name));
                let (first, body) = wire.packet();
                assert_eq!((first, body[1]), (0x20, 0), "CONNACK {body:x?}");
                is_here(&name).then_some(wire)
            });
            own.expect("there is always another name")
        };
        let quick = |name: &str| super::connect(4, name);
        let publishers = (0..PUBLISHERS).map(|_| client(&quick)).collect();
        let (mut near, mut far) = (client(&quick), client(&connect_with_window));
        near.subscribe(own);
        far.send(&packet(0x82, &[&[0, 1, 0], &string(other)[..], &[1]].concat()));
        assert_eq!(far.packet(), (0x90, vec![0, 1, 0, 1]), "SUBACK");
        let (seen, got) = (Book::default(), Book::default());
        Self { publishers, near, seen, far, got }
    }

    /// Each publisher sends its messages of a round, all at once.
    fn publish(&mut self, topic: &str, round: u16) {
        for (publisher, wire) in (0..).zip(&mut self.publishers) {
            let mut bytes = Vec::new();
            for id in 1..=MESSAGES {
                let payload = payload(publisher, round * MESSAGES + id - 1);
                let body = [string(topic), id.to_be_bytes().to_vec(), payload].concat();
                bytes.extend(packet(0x32, &body));
            }
            wire.send(&bytes);
        }
    }

    /// All of them are acknowledged.
    fn acknowledged(&mut self) {
        for wire in &mut self.publishers {
            for id in 1..=MESSAGES {
                assert_eq!(wire.packet(), (0x40, id.to_be_bytes().to_vec()), "PUBACK");
            }
        }
    }

    /// What its shard has let on by now.
    fn look_near(&mut self) {
        self.near.send(&[0xc0, 0]);
        loop {
            match self.near.packet() {
                (0xd0, _) => return,
                (0x30, body) => self.seen.saw(&body[3..]),
                other => panic!("{other:x?}"),
            }
        }
    }

    /// Reads, and acknowledges, all that is published on the other shard.
    fn read_far(&mut self, messages: u16) {
        while !self.got.has(messages) {
            let (first, body) = self.far.packet();
            assert_eq!(first, 0x32, "{body:x?}");
            // A topic of one letter, identifier, no properties.
            self.got.saw(&body[6..]);
            self.far.send(&packet(0x40, &body[3..5]));
        }
    }
}

/// A CONNECT of a 5.0 client that takes eight messages before it has acknowledged one.
fn connect_with_window(client_id: &str) -> Vec<u8> {
    let head = [string("MQTT"), vec![5, 2, 0, 60, 3, 0x21, 0, 8]].concat();
    packet(0x10, &[head, string(client_id)].concat())
}

/// A broker of two shards, one of which stands still when `GATE` goes: that is told by the first
/// end of a channel, until something comes on the second or it is gone.
fn start() -> (Running, Places, Receiver<()>, Sender<()>) {
    let places = Places::default();
    let (told, held) = channel();
    let (go_on, gone_on) = channel::<()>();
    let known = Arc::clone(&places);
    let observe = Box::new(move |notice: &Notice| {
        let Notice::Event { event, .. } = notice else { return };
        match event {
            Event::Connected(connected) => {
                let name = connected.client_id.to_string();
                known.lock().expect("nobody failed").insert(name, thread::current().id());
            }
            Event::Disconnected(ended) if ended.client_id.as_deref() == Some(GATE) => {
                // The test may be over.
                let _ = told.send(());
                let _ = gone_on.recv_timeout(PATIENCE);
            }
            _ => {}
        }
    });
    let config = Config { shard_budget: 2 * BUDGET, ..Config::default() };
    let broker = Running::start(Options { config, shards: 2, observe, ..Options::default() });
    (broker, places, held, go_on)
}

#[test]
fn publishers_without_credit_wait_and_go_on() {
    let (broker, places, held, go_on) = start();
    let mut gate = Wire::connect(broker.address, 4, GATE);
    let mut there = Side::new(&broker, &places, true, "t", "h");
    let mut here = Side::new(&broker, &places, false, "h", "t");

    // The other shard takes nothing: all that there is credit for is let on, and no more.
    gate.send(&[0xe0, 0]);
    held.recv_timeout(PATIENCE).expect("the shard stands still");
    here.publish("h", 0);
    let all: usize = (0..MESSAGES).map(size).sum::<usize>() * usize::from(PUBLISHERS);
    assert!(all > CREDIT + CREDIT / 2, "{all} bytes are little");
    while here.seen.bytes < CREDIT * 3 / 4 {
        here.look_near();
    }
    // In so many turns all would have been read.
    for _ in 0..50 {
        here.look_near();
    }
    let most = CREDIT + size(1);
    assert!(here.seen.bytes < most, "{} bytes of {most}", here.seen.bytes);
    // It takes them, and the rest follows. The subscriber's queue is not waited for.
    go_on.send(()).expect("the shard waits");
    here.acknowledged();
    there.read_far(MESSAGES);

    // From both sides at once, as the threads will have it.
    for round in 0..ROUNDS {
        here.publish("h", round + 1);
        there.publish("t", round);
        here.acknowledged();
        there.acknowledged();
        there.read_far((round + 2) * MESSAGES);
        here.read_far((round + 1) * MESSAGES);
        here.look_near();
        there.look_near();
        assert!(here.seen.has((round + 2) * MESSAGES), "round {round}");
        assert!(there.seen.has((round + 1) * MESSAGES), "round {round}");
    }
    let stats = block_on(broker.handle.stats()).expect("the broker runs").core;
    assert_eq!(stats.messages_dropped.iter().sum::<u64>(), 0, "nothing is lost");
    broker.abort();
}
