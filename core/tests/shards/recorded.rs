//! What several shards record: each is run again alone.

use std::collections::BTreeMap;

use fulmar_core::broker::{Input, Outcome, Step};
use fulmar_core::codec::{Connect, Packet};

use crate::world::{
    Q0, Q1, Q2, World, ack, filter, hello, id, publish, replay, retained, subscribe, subscriber,
    will,
};

/// A client handed over, messages of each QoS and in a run, retained ones of an owner elsewhere,
/// a shared group with members on two shards, and a will.
fn story() -> World {
    let mut world = World::new(3);
    let kept = world.topic(2, "kept");
    let publisher = world.connect(0, "publisher");
    let watcher = subscriber(&mut world, 1, "watcher", "t/#", Q2);
    let members = [1, 2].map(|shard| subscriber(&mut world, shard, "member", "$share/g/jobs", Q1));
    world.answers(publisher);

    // It belongs to shard 2.
    let name = world.name(2, "moves");
    let wrong = world.open(0);
    let connect = Connect {
        will: will("t/will", b"gone", false),
        username: Some("user"),
        password: Some(b"very-secret"),
        ..hello(&name)
    };
    world.send(wrong, &[Packet::Connect(connect), publish("t/hi", "hi", Q1, 1)]);
    assert_eq!(world.moving, [(wrong, 2)]);
    let moved = world.shards[0].hand_over(world.now, wrong.conn).expect("it was asked for");
    let right = world.open(2);
    world.send_bytes(right, &moved.bytes);
    world.settle();
    assert_eq!(world.answers(right), ["CONNACK", "PUBACK"]);

    world.send(publisher, &[publish("t/2", "twice", Q2, 1), Packet::Pubrel(ack(id(1)))]);
    let run: Vec<String> = (0..40).map(|n| format!("run {n}")).collect();
    let packets: Vec<_> = run.iter().map(|text| publish("t/run", text, Q0, 0)).collect();
    world.send(publisher, &packets);
    world.settle();
    let jobs = ["1", "2", "3", "4"].map(|text| publish("jobs", text, Q1, 2));
    for job in &jobs {
        world.send(publisher, std::slice::from_ref(job));
        world.settle();
    }
    world.send(publisher, &[retained(&kept, "old", Q2, 3), retained(&kept, "new", Q1, 4)]);
    world.settle();
    let late = world.connect(1, "late");
    world.send(late, &[subscribe(&filter(&kept, Q2))]);
    world.settle();
    world.hang_up(right);
    world.settle();

    let before = ["hi".to_string(), "twice".to_string()];
    let all: Vec<String> = before.into_iter().chain(run).chain(["gone".to_string()]).collect();
    assert_eq!(world.payloads(watcher), all);
    assert_eq!(members.map(|member| world.payloads(member).len()), [2, 2]);
    assert_eq!(world.payloads(late), ["new"]);
    world
}

#[test]
fn each_shard_does_alone_again_what_it_did_with_the_others() {
    let mut world = story();
    for (shard, recording) in world.recordings().iter().enumerate() {
        let mut kinds = BTreeMap::<&str, u32>::new();
        let mut sent = Vec::new();
        let mut carried = 0;
        let outcome = replay(recording, &mut |step| {
            let kind = match step {
                Step::Open { .. } => "open",
                Step::Handle(Input::Received { .. }) => "received",
                Step::HandOver(_) => "hand over",
                Step::Peer { .. } => "peer",
                Step::TakePeer { messages, .. } => {
                    carried += messages.len();
                    "take peer"
                }
                Step::Transmit { bytes, .. } => {
                    sent.extend_from_slice(bytes);
                    "transmit"
                }
                _ => "other",
            };
            *kinds.entry(kind).or_default() += 1;
        });
        assert_eq!(outcome, Outcome::Same, "shard {shard}");
        for kind in ["open", "received", "peer", "take peer", "transmit"] {
            assert!(kinds.contains_key(kind), "shard {shard} has no {kind}: {kinds:?}");
        }
        assert_eq!(kinds.get("hand over"), (shard == 0).then_some(&1));
        assert!(carried > 10, "shard {shard} says {carried} things");
        // To the very bytes of its clients.
        let holds = |text: &[u8]| sent.windows(text.len()).any(|part| part == text);
        let seen = [holds(b"run 39"), holds(b"twice"), holds(b"new"), holds(b"gone")];
        assert_eq!(seen, [shard == 1; 4], "shard {shard}");
        assert!(!recording.windows(5).any(|part| part == b"secre"), "shard {shard}");
    }
}

#[test]
fn a_replay_finds_out_what_another_shard_said_otherwise() {
    let mut world = story();
    let mut recordings = world.recordings();
    // Of a message that crossed and is delivered on shard 1.
    let recording = &mut recordings[1];
    let at = recording.windows(6).position(|part| part == b"run 17").expect("it crossed");
    recording[at] = b'p';
    let outcome = replay(recording, &mut |_| {});
    assert!(matches!(outcome, Outcome::Diverged(call) if call > 10), "{outcome:?}");
}
