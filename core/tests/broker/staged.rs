//! Small messages of QoS 0 are encoded at once. Nobody can tell: what becomes of a session finds
//! them where they would have waited otherwise.

use fulmar_core::ConnId;
use fulmar_core::broker::{Config, Outbox, QueueFull};
use fulmar_core::codec::{
    Connect, Filters, Packet, Properties, Property, Qos, Subscribe, SubscriptionOptions, Version,
};

use crate::harness::*;

/// A subscriber to `t` whose session is kept, and a publisher. Nothing is pulled.
fn scene(config: Config, qos: Qos) -> (Rig, ConnId, ConnId) {
    let mut rig = Rig::new(config);
    let keep = expiry(60);
    let s = Connect { properties: Properties::list(&keep), ..hello(V5, "s") };
    let s = rig.connect_with(s);
    let p = rig.connect(V5, "p", true);
    rig.send(s, V5, &[subscribe(&filter("t", qos))]);
    rig.take(s);
    rig.pull = false;
    (rig, s, p)
}

fn send(rig: &mut Rig, from: ConnId, payload: &[u8], qos: Qos, id: u16) {
    rig.send(from, V5, &[publish("t", payload, qos, id)]);
}

fn back(rig: &mut Rig, version: Version) -> Vec<Vec<u8>> {
    let s = return_of(rig, version);
    rig.messages(s, version)
}

/// The subscriber comes back to its session; what it is sent is not looked at yet.
fn return_of(rig: &mut Rig, version: Version) -> ConnId {
    rig.pull = true;
    let s = rig.open();
    let connect = Connect { clean_start: false, ..hello(version, "s") };
    rig.send(s, version, &[Packet::Connect(connect)]);
    s
}

#[test]
fn what_was_not_pulled_waits_for_the_session() {
    let (mut rig, s, p) = scene(Config::default(), Q0);
    for payload in [b"a", b"b", b"c"] {
        send(&mut rig, p, payload, Q0, 0);
    }
    rig.hang_up(s);
    assert_eq!(rig.broker.stats().queued, 3);
    // Also for a client that speaks another version by then.
    assert_eq!(back(&mut rig, V311), [b"a", b"b", b"c"]);
    assert_eq!(rig.broker.stats().queued, 0);
}

#[test]
fn order_is_kept_among_messages_of_all_kinds() {
    let (mut rig, s, p) = scene(Config::default(), Q1);
    send(&mut rig, p, b"a", Q0, 0);
    send(&mut rig, p, b"b", Q0, 0);
    send(&mut rig, p, b"c", Q1, 1);
    send(&mut rig, p, b"d", Q0, 0);
    rig.hang_up(s);
    assert_eq!(back(&mut rig, V5), [b"a", b"b", b"c", b"d"]);
}

#[test]
fn a_full_queue_drops_the_oldest_of_them() {
    let config =
        Config { max_msg_queue: 3, queue_full: QueueFull::DropOldest, ..Config::default() };
    let (mut rig, s, p) = scene(config, Q1);
    for payload in [b"a", b"b", b"c", b"d"] {
        send(&mut rig, p, payload, Q0, 0);
    }
    send(&mut rig, p, b"e", Q1, 1);
    assert_eq!(rig.broker.stats().dropped_by_qos, [2, 0, 0]);
    rig.hang_up(s);
    assert_eq!(back(&mut rig, V5), [b"c", b"d", b"e"]);
}

#[test]
fn an_ended_session_loses_them_and_says_so() {
    let (mut rig, s, p) = scene(Config::default(), Q0);
    send(&mut rig, p, b"a", Q0, 0);
    send(&mut rig, p, b"b", Q0, 0);
    rig.hang_up(s);
    rig.advance(61_000_000);
    assert_eq!(rig.broker.stats().dropped_by_qos, [2, 0, 0]);
    assert_eq!(rig.broker.stats().sessions_expired_total, 1);
}

#[test]
fn a_small_budget_leaves_the_rest_for_the_next_pull() {
    let (mut rig, s, p) = scene(Config::default(), Q0);
    for payload in [b"a", b"b", b"c"] {
        send(&mut rig, p, payload, Q0, 0);
    }
    let mut out = Outbox::new();
    // One packet, since a budget holds at least the beginning of one.
    assert!(rig.broker.transmit(rig.now, s, &mut out, 1));
    assert_eq!(packets(V5, &out.slices().flatten().copied().collect::<Vec<u8>>()).len(), 1);
    assert_eq!(rig.broker.stats().messages_sent, [1, 0, 0]);
    rig.hang_up(s);
    assert_eq!(back(&mut rig, V5), [b"b", b"c"]);
}

#[test]
fn subscription_identifiers_come_with_them() {
    let (mut rig, s, p) = scene(Config::default(), Q0);
    let identifier = [Property::SubscriptionIdentifier(7)];
    let list = [("+", SubscriptionOptions::default())];
    let again = Subscribe {
        packet_id: id(9),
        properties: Properties::list(&identifier),
        filters: Filters::list(&list),
    };
    rig.send(s, V5, &[Packet::Subscribe(again)]);
    rig.pull(s);
    rig.take(s);
    send(&mut rig, p, b"a", Q0, 0);
    rig.hang_up(s);
    let s = return_of(&mut rig, V5);
    let sent = rig.take(s);
    let [_, Packet::Publish(message)] = &packets(V5, &sent)[..] else { panic!("{sent:?}") };
    assert_eq!(message.properties, Properties::list(&identifier));
}
