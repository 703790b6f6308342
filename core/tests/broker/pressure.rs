//! The memory budget: who is slowed down, refused and shed.

use std::collections::VecDeque;

use fulmar_core::ConnId;
use fulmar_core::broker::{
    Command, Config, DisconnectReason, DropReason, Event, Input, Publication, Reply,
};
use fulmar_core::codec::{Connect, Packet, Properties, Property, Publish, Qos, ReasonCode};

use crate::harness::*;

const BUDGET: u64 = 2_000_000;

fn config() -> Config {
    Config { shard_budget: BUDGET, max_msg_queue: 100_000, ..Config::default() }
}

/// A broker with an offline session that takes everything, and a publisher.
fn filling(rig: &mut Rig) -> ConnId {
    let keep = expiry(1_000);
    let connect = Connect { properties: Properties::list(&keep), ..hello(V5, "offline") };
    let offline = rig.connect_with(connect);
    rig.send(offline, V5, &[subscribe(&filter("t", Q1))]);
    rig.hang_up(offline);
    rig.connect(V5, "publisher", true)
}

fn pressure(rig: &Rig) -> Vec<bool> {
    let on = |event: &Event| match event {
        Event::Pressure { on, used, budget } => {
            assert_eq!((*budget, *on), (BUDGET, *used > BUDGET / 100 * 80));
            Some(*on)
        }
        _ => None,
    };
    rig.events.iter().filter_map(on).collect()
}

#[test]
fn a_budget_that_fills_up_slows_refuses_and_sheds() {
    let mut rig = Rig::new(config());
    let a = filling(&mut rig);
    let message = publish("t", &[0; 10_000], Q1, 1);
    while rig.used() < BUDGET * 8 / 10 - 20_000 {
        rig.send(a, V5, std::slice::from_ref(&message));
        assert_eq!(rig.take(a), [0x40, 2, 0, 1]);
    }
    assert!(rig.paused.is_empty() && pressure(&rig).is_empty());
    // Above 80 % it is read once in each tenth of a second.
    while rig.paused.is_empty() {
        rig.send(a, V5, std::slice::from_ref(&message));
    }
    assert_eq!((pressure(&rig), &rig.paused[..]), (vec![true], &[a][..]));
    rig.advance(99_000);
    assert_eq!(rig.paused, [a]);
    rig.advance(1_000);
    assert!(rig.paused.is_empty());
    // Above 95 % nothing that stays is taken.
    rig.take(a);
    loop {
        rig.send(a, V5, std::slice::from_ref(&message));
        rig.advance(100_000);
        if rig.take(a) != [0x40, 2, 0, 1] {
            break;
        }
    }
    assert!(rig.used() > BUDGET / 100 * 95 && rig.used() <= BUDGET);
    rig.send(a, V5, std::slice::from_ref(&message));
    assert_eq!(rig.take(a), [0x40, 3, 0, 1, 0x97]);
    let before = rig.broker.stats().messages_dropped[DropReason::OutOfBudget as usize];
    rig.send(a, V5, &[publish("t", b"", Q0, 0)]);
    let after = rig.broker.stats().messages_dropped[DropReason::OutOfBudget as usize];
    assert_eq!(after, before + 1);
    rig.send(a, V5, &[subscribe(&filter("new", Q0))]);
    let sent = rig.take(a);
    assert!(sent.ends_with(&[0x97]), "{sent:?}");
    let new = rig.open();
    rig.send(new, V5, &[Packet::Connect(hello(V5, "new"))]);
    assert_eq!(rig.take(new)[..4], [0x20, 3, 0, 0x97]);
    // It lasts, and the largest queue loses the older half.
    let queued = rig.broker.stats().queued;
    rig.advance(12_000_000);
    let left = rig.broker.stats().queued;
    assert!(left <= queued / 2 + 1 && left > queued / 3, "{queued} to {left}");
    assert_eq!(pressure(&rig), [true, false]);
    let lost = |event: &Event| match event {
        Event::Dropped { client_id, why: DropReason::OutOfBudget, count, .. }
            if **client_id == *"offline" =>
        {
            *count
        }
        _ => 0,
    };
    let lost: u32 = rig.events.iter().map(lost).sum();
    assert_eq!(u64::from(lost), queued - left);
    rig.send(a, V5, &[message]);
    assert_eq!(rig.take(a), [0x40, 2, 0, 1]);
}

#[test]
fn an_older_client_that_can_be_told_nothing_is_closed() {
    let mut rig = Rig::new(config());
    let a = filling(&mut rig);
    let old = rig.connect(V311, "old", true);
    let mut number = 0;
    while rig.used() <= BUDGET / 100 * 95 {
        rig.send(a, V5, &[publish("t", &[0; 10_000], Q1, 1)]);
        rig.advance(100_000);
        number += 1;
        assert!(number < 1_000);
    }
    rig.send(old, V311, &[publish("t", b"", Q1, 1)]);
    assert_eq!((rig.take(old), &rig.closed[..]), (vec![], &[old][..]));
    let why = |event: &Event| match event {
        Event::Disconnected(end) => end.why == DisconnectReason::OutOfBudget,
        _ => false,
    };
    assert!(rig.events.iter().any(why));
}

fn keep<'a>(topic: &'a str, payload: &'a [u8], qos: Qos) -> Packet<'a> {
    let packet_id = (qos > Q0).then_some(id(1));
    Packet::Publish(Publish { qos, retain: true, topic, packet_id, payload, ..Publish::default() })
}

/// Fills the budget with retained messages, of topics that begin with `name`; what is left of it
/// with subscriptions.
fn retain_all(rig: &mut Rig, conn: ConnId, name: &str) {
    for number in 0.. {
        let before = rig.broker.stats().retained;
        rig.send(conn, V5, &[keep(&format!("{name}/{number}"), &[0; 10_000], Q0)]);
        if rig.broker.stats().retained == before {
            break;
        }
    }
    for number in 0.. {
        let text = format!("{name}/{number}/{}", "x".repeat(99));
        rig.send(conn, V5, &[subscribe(&filter(&text, Q0))]);
        if rig.take(conn).ends_with(&[0x97]) {
            break;
        }
    }
    assert!(rig.used() > BUDGET / 100 * 95);
    rig.send(conn, V5, &[keep("new", &[0], Q1)]);
    assert_eq!(rig.take(conn), [0x40, 3, 0, 1, 0x97], "nothing that stays is taken");
}

#[test]
fn what_clears_a_retained_message_is_taken_however_short_memory_is() {
    let mut rig = Rig::new(config());
    let (a, old) = (rig.connect(V5, "a", true), rig.connect(V311, "old", true));
    // Of each QoS, of a client that cannot be refused anything, and of the program. [MQTT-3.3.1-6]
    for (round, (conn, version, qos)) in
        [(a, V5, Q0), (a, V5, Q1), (a, V5, Q2), (old, V311, Q1)].into_iter().enumerate()
    {
        retain_all(&mut rig, a, &round.to_string());
        let (before, topic) = (rig.used(), format!("0/{round}"));
        rig.send(conn, version, &[keep(&topic, b"", qos)]);
        assert!(rig.used() + 10_000 < before + 100, "{before} before, then {}", rig.used());
        let taken: &[u8] = match (version, qos) {
            (_, Q0) => &[],
            (V311, _) => &[0x40, 2, 0, 1],
            (_, Q1) => &[0x40, 3, 0, 1, 0x10],
            (_, Q2) => &[0x50, 3, 0, 1, 0x10],
        };
        assert_eq!(rig.take(conn), taken, "{qos:?}");
    }
    retain_all(&mut rig, a, "program");
    let topic = "0/4".into();
    let publication = Publication { topic, retain: true, ..Publication::default() };
    let command = Command::Publish(Box::new(publication));
    rig.handle(Input::Command { token: 1, command });
    assert!(matches!(rig.replies[..], [Reply::Published { receivers: 0 }]), "{:?}", rig.replies);
    // There is room again.
    rig.send(a, V5, &[keep("new", &[0; 1_000], Q1)]);
    assert_eq!((rig.take(a), &rig.closed[..]), (vec![0x40, 3, 0, 1, 0x10], &[][..]));
}

#[test]
fn clearing_what_is_not_there_takes_no_memory() {
    let mut rig = Rig::new(config());
    let a = filling(&mut rig);
    retain_all(&mut rig, a, "r");
    let used = rig.used();
    for _ in 0..1_000 {
        rig.send(a, V5, &[keep("t", b"", Q1)]);
        assert_eq!(rig.take(a), [0x40, 2, 0, 1]);
    }
    assert_eq!((rig.used(), rig.broker.stats().queued), (used, 0));
    // Who would have had it is told.
    let lost = |event: &Event| match event {
        Event::Dropped { client_id, why: DropReason::OutOfBudget, count, .. }
            if **client_id == *"offline" =>
        {
            *count
        }
        _ => 0,
    };
    assert_eq!(rig.events.iter().map(lost).sum::<u32>(), 1_000);
}

/// The queue is shed while its client has a message to acknowledge: with the acknowledgement the
/// retained messages that are left go on.
#[test]
fn retained_messages_go_on_when_their_queue_was_shed() {
    const COUNT: usize = 26;
    let mut rig =
        Rig::new(Config { max_msg_queue_bytes: 250_000, max_packet_size: 100_000, ..config() });
    let a = rig.connect(V5, "a", true);
    for number in 0..=COUNT {
        // The last one, of another topic, makes memory short.
        let topic = if number < COUNT { format!("r/{number}") } else { "other".into() };
        let (retain, packet_id, payload) = (true, Some(id(1)), &[0; 60_000][..]);
        let publish =
            Publish { qos: Q1, retain, packet_id, topic: &topic, payload, ..Publish::default() };
        if number == COUNT {
            assert_eq!(pressure(&rig), []);
        }
        rig.send(a, V5, &[Packet::Publish(publish)]);
    }
    assert_eq!(pressure(&rig), [true]);
    let one = [Property::ReceiveMaximum(1)];
    let b = rig.connect_with(Connect { properties: Properties::list(&one), ..hello(V5, "b") });
    rig.send(b, V5, &[subscribe(&filter("r/#", Q1))]);
    assert!(rig.broker.stats().queued > 0, "the first is sent, others wait for its PUBACK");
    rig.advance(20_000_000);
    assert_eq!(rig.broker.stats().queued, 0);
    let shed = rig.broker.stats().messages_dropped[DropReason::OutOfBudget as usize];
    assert!(shed > 0);
    assert_eq!(rig.messages(b, V5).len() as u64, COUNT as u64 - shed);
}

#[test]
fn parts_of_packets_do_not_pass_the_budget() {
    let mut rig = Rig::new(config());
    let mut conns = Vec::new();
    for number in 0..50 {
        let conn = rig.connect(V5, &number.to_string(), true);
        rig.receive(conn, &[0x30, 0x80, 0x80, 0x3f]);
        conns.push(conn);
    }
    let mut most = 0;
    for _ in 0..30 {
        for conn in &conns {
            // A driver hands over what it has read before it is told to stop.
            rig.receive(*conn, &[0; 32 * 1024]);
            most = most.max(rig.used());
        }
        rig.advance(100_000);
    }
    assert!(most < BUDGET + 100_000, "{most}");
    assert!(rig.closed.len() > 40, "{}", rig.closed.len());
    let sent = rig.take(rig.closed[0]);
    assert_eq!(sent, [0xe0, 1, 0x97]);
    let other = rig.connect(V5, "other", true);
    rig.send(other, V5, &[Packet::Pingreq]);
    assert_eq!(rig.take(other), [0xd0, 0]);
}

/// A client that sends as fast as it may, and reads only then.
struct Flooder {
    conn: ConnId,
    topic: &'static str,
    unsent: VecDeque<u16>,
    open: usize,
    acks: Vec<u16>,
    taken: usize,
    received: usize,
}

impl Flooder {
    fn new(rig: &mut Rig, name: &str, topic: &'static str, other: &str, count: u16) -> Self {
        let conn = rig.connect(V5, name, true);
        rig.send(conn, V5, &[subscribe(&filter(other, Q1))]);
        rig.pull(conn);
        rig.take(conn);
        let unsent = (1..=count).collect();
        Self { conn, topic, unsent, open: 0, acks: vec![], taken: 0, received: 0 }
    }

    fn turn(&mut self, rig: &mut Rig) {
        if !rig.paused.contains(&self.conn) {
            let mut out = Vec::new();
            for ack_id in self.acks.drain(..) {
                out.extend(bytes(V5, &[Packet::Puback(ack(id(ack_id)))]));
            }
            while self.open < 100
                && out.len() < 64 * 1024
                && let Some(number) = self.unsent.pop_front()
            {
                out.extend(bytes(V5, &[publish(self.topic, &[0; 4_000], Q1, number)]));
                self.open += 1;
            }
            rig.receive(self.conn, &out);
        }
        rig.pull(self.conn);
        let sent = rig.take(self.conn);
        for packet in packets(V5, &sent) {
            match packet {
                Packet::Publish(publish) => {
                    self.received += 1;
                    self.acks.push(publish.packet_id.expect("QoS 1").get());
                }
                Packet::Puback(answer) => {
                    self.open -= 1;
                    if answer.reason == ReasonCode::QuotaExceeded {
                        self.unsent.push_back(answer.packet_id.get());
                    } else {
                        self.taken += 1;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn two_clients_that_flood_each_other_never_stop_for_ever() {
    let mut rig = Rig::new(config());
    rig.pull = false;
    // So much is held elsewhere that hardly anything is left for them.
    let a = filling(&mut rig);
    while rig.used() < BUDGET / 100 * 78 {
        rig.send(a, V5, &[publish("t", &[0; 10_000], Q1, 1)]);
        rig.pull(a);
    }
    let mut one = Flooder::new(&mut rig, "one", "1", "2", 2_000);
    let mut two = Flooder::new(&mut rig, "two", "2", "1", 2_000);
    let mut rounds = 0;
    while one.taken + two.taken < 4_000 || one.received + two.received < 4_000 {
        one.turn(&mut rig);
        two.turn(&mut rig);
        rig.advance(10_000);
        rounds += 1;
        assert!(rounds < 5_000, "{} {} of 2,000", one.received, two.received);
        assert!(rig.used() < BUDGET + 200_000);
    }
    assert!(!pressure(&rig).is_empty(), "they were slowed down");
    assert_eq!((one.received, two.received), (2_000, 2_000), "nothing is lost or doubled");
}
