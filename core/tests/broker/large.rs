//! A large packet is read into memory of its own, which becomes the message. Nobody can tell but
//! by the time it takes.

use fulmar_core::ConnId;
use fulmar_core::broker::{Config, Outcome, Replay, Stats};
use fulmar_core::codec::{Connect, Packet, Properties};

use crate::harness::*;

/// A broker that is recorded, a subscriber to all, and a publisher.
fn scene() -> (Rig, ConnId, ConnId) {
    let mut rig = Rig::new(Config::default());
    rig.broker.record(u64::MAX);
    let s = rig.connect(V311, "s", true);
    rig.send(s, V311, &[subscribe(&filter("#", Q0))]);
    rig.take(s);
    let p = rig.connect(V311, "p", true);
    rig.take(p);
    (rig, s, p)
}

/// Copies as much of `bytes` as there is room for, as a driver would read it; gives how much.
fn fill(rig: &mut Rig, conn: ConnId, bytes: &[u8]) -> Option<usize> {
    let room = rig.broker.recv_buf(conn)?;
    let len = bytes.len().min(room.capacity() - room.len());
    room.extend_from_slice(&bytes[..len]);
    rig.broker.filled(rig.now, conn, len);
    rig.effects();
    Some(len)
}

/// What came of it: messages, answers, figures, and the recording.
type Seen = (Vec<Vec<u8>>, Vec<u8>, Stats, Vec<u8>);

fn seen(mut rig: Rig, s: ConnId, p: ConnId) -> Seen {
    let mut recording = Vec::new();
    rig.broker.recorded(&mut recording);
    (rig.messages(s, V311), rig.take(p), rig.broker.stats(), recording)
}

/// The bytes handed over in these pieces.
fn handed_over(stream: &[u8], pieces: &[usize]) -> Seen {
    let (mut rig, s, p) = scene();
    let mut rest = stream;
    for piece in pieces {
        let (now, later) = rest.split_at(*piece);
        rig.receive(p, now);
        rest = later;
    }
    assert!(rest.is_empty());
    seen(rig, s, p)
}

#[test]
fn it_is_as_if_the_bytes_were_handed_over() {
    let payloads = [vec![1; 70_000], vec![2; 300_000], vec![3; 9], vec![4; 20_000]];
    let mut messages = Vec::new();
    for (number, payload) in (1..).zip(&payloads) {
        messages.push(publish("t", payload, Q1, number));
    }
    let stream = bytes(V311, &messages);
    // What a driver reads at first, and how much at once when it reads on.
    for (start, most) in [(8_192, usize::MAX), (8_000, 10_000), (5_000, usize::MAX), (100, 1_000)] {
        let (mut rig, s, p) = scene();
        let (mut rest, mut pieces, mut filled) = (&stream[..], Vec::new(), 0);
        while !rest.is_empty() {
            let next = &rest[..rest.len().min(most)];
            let len = match fill(&mut rig, p, next) {
                Some(len) => {
                    filled += len;
                    len
                }
                None => {
                    let len = rest.len().min(start);
                    rig.receive(p, &rest[..len]);
                    len
                }
            };
            pieces.push(len);
            rest = &rest[len..];
        }
        assert!(filled > stream.len() / 2, "{filled} of {} with {start}", stream.len());
        let seen = seen(rig, s, p);
        assert_eq!(seen.0, payloads);
        assert!(seen == handed_over(&stream, &pieces), "with {start}, {most}");
        let mut replay = Replay::new(&seen.3).expect("a recording");
        let end = loop {
            match replay.step(&mut |_, _| {}) {
                Outcome::More => {}
                end => break end,
            }
        };
        assert_eq!(end, Outcome::Same);
    }
}

/// Reads into memory of this capacity, and gives it to the broker; how much came if it was taken.
fn give(rig: &mut Rig, conn: ConnId, capacity: usize, bytes: &[u8]) -> Option<usize> {
    let mut memory = Vec::with_capacity(capacity);
    memory.extend_from_slice(&bytes[..bytes.len().min(capacity)]);
    let len = memory.len();
    if let Err(memory) = rig.broker.give(rig.now, conn, memory) {
        assert_eq!(memory, bytes[..len], "it comes back as it was");
        return None;
    }
    rig.effects();
    Some(len)
}

#[test]
fn memory_of_the_size_of_the_packet_in_it_is_taken_and_no_other() {
    let payloads = [vec![1; 70_000], vec![2; 70_000], vec![3; 69_999], vec![4; 9], vec![5; 70_000]];
    let mut messages = Vec::new();
    for (number, payload) in (1..).zip(&payloads) {
        messages.push(publish("t", payload, Q1, number));
    }
    let stream = bytes(V311, &messages);
    let size = bytes(V311, &messages[..1]).len();
    for most in [usize::MAX, 50_000] {
        let (mut rig, s, p) = scene();
        let (mut rest, mut pieces, mut given) = (&stream[..], Vec::new(), 0);
        while !rest.is_empty() {
            let next = &rest[..rest.len().min(most)];
            let len = if let Some(len) = fill(&mut rig, p, next) {
                len
            } else if let Some(len) = give(&mut rig, p, size, next) {
                given += 1;
                len
            } else {
                let len = next.len().min(size);
                rig.receive(p, &next[..len]);
                len
            };
            pieces.push(len);
            rest = &rest[len..];
        }
        assert_eq!(given, 2, "with {most}");
        let seen = seen(rig, s, p);
        assert_eq!(seen.0, payloads);
        assert!(seen == handed_over(&stream, &pieces), "with {most}");
    }
}

#[test]
fn memory_is_not_taken_for_a_few_bytes_of_a_large_packet_nor_from_a_stranger() {
    let (mut rig, _, p) = scene();
    let payload = vec![0; 100_000];
    let stream = bytes(V311, &[publish("t", &payload, Q0, 0)]);
    let before = rig.used();
    for few in [0, 1, 3, 4_095] {
        assert_eq!(give(&mut rig, p, stream.len(), &stream[..few]), None, "{few} bytes");
    }
    assert_eq!(rig.used(), before);
    let stranger = rig.open();
    assert_eq!(give(&mut rig, stranger, stream.len(), &stream), None);
    rig.receive(p, &stream[..1]);
    assert_eq!(rig.broker.expected(p), None, "its header is not there yet");
    assert_eq!(give(&mut rig, p, stream.len(), &stream), None, "one is under way");
    rig.receive(p, &stream[1..9]);
    assert_eq!(rig.broker.expected(p), Some((stream.len(), stream.len() - 9)));
    rig.receive(p, &stream[9..]);
    assert_eq!(rig.broker.expected(p), None, "none is under way");
    assert_eq!(give(&mut rig, p, stream.len(), &stream), Some(stream.len()));
    rig.hang_up(p);
    assert_eq!(give(&mut rig, p, stream.len(), &stream), None);
}

#[test]
fn who_claims_a_large_packet_gets_memory_in_proportion_to_what_it_sends() {
    let (mut rig, _, p) = scene();
    let payload = vec![0; 1_000_000];
    let stream = bytes(V311, &[publish("t", &payload, Q0, 0)]);
    let before = rig.used();
    for at in 0..4_095 {
        rig.receive(p, &stream[at..=at]);
        assert!(rig.broker.recv_buf(p).is_none(), "after {at} bytes");
        assert!(rig.used() - before <= 16 * 1024 + 8, "after {at} bytes");
    }
    let mut came = 4_095;
    for _ in 0..3 {
        came += match fill(&mut rig, p, &stream[came..]) {
            Some(len) => len,
            None => {
                rig.receive(p, &stream[came..came + 20_000]);
                20_000
            }
        };
        let held = rig.used() - before;
        assert!(held <= 16 * came as u64, "{held} bytes are held, {came} came");
    }
    assert!(came > 200_000, "{came}");
    rig.hang_up(p);
    assert!(rig.used() < before, "it is given back");
}

#[test]
fn nothing_is_read_into_memory_of_who_is_not_accepted_or_is_gone() {
    let (mut rig, _, p) = scene();
    let payload = vec![0; 60_000];
    let will = will("w", &payload, Properties::EMPTY);
    let connect = bytes(V5, &[Packet::Connect(Connect { will: Some(will), ..hello(V5, "c") })]);
    let stranger = rig.open();
    rig.receive(stranger, &connect[..20_000]);
    assert!(rig.broker.recv_buf(stranger).is_none());
    rig.receive(stranger, &connect[20_000..]);
    assert!(matches!(packets(V5, &rig.take(stranger))[..], [Packet::Connack(_)]), "accepted");

    // Taken over while a large packet is under way: what comes of it is thrown away.
    let stream = bytes(V311, &[publish("t", &payload, Q0, 0)]);
    rig.receive(p, &stream[..8_192]);
    assert!(rig.broker.recv_buf(p).is_some());
    let heir = rig.connect(V311, "p", true);
    assert!(rig.closed.contains(&p));
    assert_eq!(fill(&mut rig, p, &stream[8_192..]), None);
    rig.broker.filled(rig.now, p, 5);
    rig.hang_up(p);
    rig.broker.filled(rig.now, p, 5);
    assert!(rig.broker.recv_buf(p).is_none() && rig.broker.recv_buf(heir).is_none());
}
