//! Streams of packets with random damage, and of random bytes.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::harness::{
    ALL, Broker, Connect, Packet, Publish, V5, V31, Version, WAIT, Will, ack, dump, parse, raw,
    split, subscribe, unique, unsubscribe,
};
use crate::scene::Scene;

const THREADS: u64 = 4;
const STREAMS: u64 = 750;

/// SplitMix64: a counter scrambled; every seed is good.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// A packet as it should be.
fn packet(random: &mut Random, version: Version) -> Vec<u8> {
    let id = 1 + random.below(5) as u16;
    let payload = vec![b'x'; random.below(300)];
    let qos = random.below(3) as u8;
    match random.below(9) {
        0 => subscribe(version, id, &[], &[("random/#", qos), ("random/+/a", 0)]),
        1 => unsubscribe(version, id, &["random/#"]),
        2 => ack([0x40, 0x50, 0x62, 0x70][random.below(4)], id),
        3 => vec![0xC0, 0],
        4 => raw(0xE0, []),
        _ => Publish::new("random/a", payload).qos(qos, id).bytes(version),
    }
}

/// Damage of one of several kinds.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes.truncate(at + 1),
        3 => bytes.insert(at, random.next() as u8),
        4 => drop(bytes.remove(at)),
        5 => {
            let copy = bytes[at..].to_vec();
            bytes.extend(copy);
        }
        _ => *bytes = random.bytes(at + 1),
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
}

/// A stream, and whether its CONNECT is as it should be.
fn stream(random: &mut Random, version: Version) -> (Vec<u8>, bool) {
    let connect = Connect::new(version, &unique("random"));
    let will = Will { qos: random.below(3) as u8, ..Will::new("random/will", "gone") };
    let connect = if random.below(2) == 0 { connect.will(will) } else { connect };
    let mut bytes = connect.bytes();
    let sound = random.below(4) != 0;
    if !sound {
        damage(random, &mut bytes);
    }
    for _ in 0..random.below(8) {
        let mut next = packet(random, version);
        if random.below(2) == 0 {
            damage(random, &mut next);
        }
        bytes.extend(next);
    }
    (bytes, sound)
}

/// Sends a stream and reads what the broker answers until it closes.
fn exchange(broker: &Broker, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(broker.addr()).expect("the broker accepts");
    socket.set_read_timeout(Some(WAIT)).expect("read timeout");
    socket.set_write_timeout(Some(WAIT)).expect("write timeout");
    // The broker may have closed in the middle of it.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("the broker closes without a reset");
    answer
}

/// What the broker answers is packets of servers, and nothing follows DISCONNECT or a refusal.
fn check(version: Version, mut answer: &[u8]) -> Result<(), String> {
    let mut ended = false;
    while !answer.is_empty() {
        if ended {
            return Err("something after the last packet".into());
        }
        let Some((header, total)) = split(answer)? else {
            return Err("closed in the middle of a packet".into());
        };
        ended = match parse(version, answer[0], &answer[header..total])? {
            Packet::Disconnect { .. } => true,
            Packet::Connack(connack) => connack.code != 0,
            _ => false,
        };
        answer = &answer[total..];
    }
    Ok(())
}

#[test]
fn damaged_and_random_packets_do_no_harm() {
    let given = std::env::var("FULMAR_ABUSE_SEED").ok().map(|seed| seed.parse().expect("a seed"));
    let seed: u64 = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("FULMAR_ABUSE_SEED={seed}");
    let scene = Scene::new(64, "");
    thread::scope(|scope| {
        for number in 0..THREADS {
            let broker = &scene.broker;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_add(number));
                for _ in 0..STREAMS {
                    let version = ALL[random.below(3)];
                    let (bytes, sound) = stream(&mut random, version);
                    let answer = exchange(broker, &bytes);
                    if sound && let Err(error) = check(version, &answer) {
                        let (sent, got) = (dump(&bytes), dump(&answer));
                        panic!("seed {seed}, {version:?}: {error}\n sent {sent}\n got {got}");
                    }
                }
            });
        }
    });
    scene.finish();
}

#[test]
fn a_checker_that_sees_nothing_is_of_no_use() {
    assert_eq!(check(V5, &[0x20, 3, 0, 0, 0, 0xD0, 0]), Ok(()));
    for wrong in [&[0x20, 3, 0, 0][..], &[0x20, 3, 0, 0x80, 0, 0xD0, 0], &[0xC0, 0]] {
        assert!(check(V5, wrong).is_err(), "{wrong:02x?}");
    }
    assert!(check(V31, &[0xE0, 0]).is_err());
}
