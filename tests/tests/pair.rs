//! How client and broker behave together, over wires that delay, split and break.

use std::time::Duration;

use fulmar_core::broker::{Command, Config};
use fulmar_core::client::{Options, SendError};
use fulmar_core::{Qos, Version};
use fulmar_tests::cites;
use fulmar_tests::pair::{AGAIN, Pair, Terms};

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

fn pair() -> Pair {
    Pair::new(Config::default())
}

/// A second.
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_message_arrives_once_at_every_qos_in_every_version() {
    cites!("v5:MQTT-4.3.2-4 v5:MQTT-4.3.3-8 v4:MQTT-4.3.1-1 v4:MQTT-4.3.2-2 v4:MQTT-4.3.3-2");
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut pair = pair();
        let a = pair.joined("a", Terms { version, ..Terms::default() });
        pair.subscribe(a, "t", Qos::ExactlyOnce);
        QOS.into_iter().for_each(|qos| pair.publish(a, "t", &format!("{qos:?}"), qos));
        assert_eq!(pair.messages(a), ["AtMostOnce", "AtLeastOnce", "ExactlyOnce"], "{version:?}");
    }
}

#[test]
fn it_does_not_matter_how_the_wire_splits() {
    for split in [1, 2, 3, 7, 100] {
        let mut pair = pair();
        pair.split = split;
        let a = pair.joined("a", Terms::default());
        pair.subscribe(a, "t/+", Qos::ExactlyOnce);
        QOS.into_iter().for_each(|qos| pair.publish(a, "t/x", &"long ".repeat(60), qos));
        assert_eq!(pair.messages(a), ["long ".repeat(60), "long ".repeat(60), "long ".repeat(60)]);
    }
}

/// Cuts the wire of the publisher or the subscriber after each byte in turn, and says how often
/// the message came.
fn cut_everywhere(qos: Qos, publisher: bool) -> Vec<usize> {
    let mut counts = Vec::new();
    for bytes in 1.. {
        let mut pair = pair();
        let (p, s) = (pair.joined("p", Terms::default()), pair.joined("s", Terms::default()));
        pair.subscribe(s, "t", qos);
        let victim = if publisher { p } else { s };
        pair.cut_after(victim, bytes);
        pair.publish(p, "t", "hi", qos);
        if pair.is_open(victim) {
            return counts;
        }
        pair.connect(victim, AGAIN);
        pair.run();
        counts.push(pair.messages(s).len());
    }
    counts
}

#[test]
fn qos_1_arrives_at_least_once_wherever_the_wire_is_cut() {
    cites!("v5:MQTT-4.4.0-1 v5:MQTT-4.3.2-3 v4:MQTT-4.4.0-1 v4:MQTT-4.3.2-1");
    let counts = [cut_everywhere(Qos::AtLeastOnce, true), cut_everywhere(Qos::AtLeastOnce, false)];
    for counts in counts {
        assert!(counts.len() > 10 && counts.iter().all(|count| (1..=2).contains(count)));
        assert!(counts.contains(&2), "the acknowledgement was never lost: {counts:?}");
    }
}

#[test]
fn qos_2_arrives_exactly_once_wherever_the_wire_is_cut() {
    cites!("v5:MQTT-4.4.0-1 v5:MQTT-4.3.3-6 v5:MQTT-4.3.3-10 v4:MQTT-4.3.3-1 v4:MQTT-4.3.3-2");
    for publisher in [true, false] {
        let counts = cut_everywhere(Qos::ExactlyOnce, publisher);
        assert!(counts.len() > 20 && counts.iter().all(|count| *count == 1), "{counts:?}");
    }
}

#[test]
fn what_came_while_a_client_was_away_comes_in_order() {
    cites!("v5:MQTT-4.5.0-1 v5:MQTT-4.6.0-5 v5:MQTT-3.1.2-5");
    let mut pair = pair();
    let (p, s) = (pair.joined("p", Terms::default()), pair.joined("s", Terms::default()));
    pair.subscribe(s, "t", Qos::ExactlyOnce);
    pair.cut(s);
    for (payload, qos) in ["1", "2", "3", "4"].into_iter().zip(QOS.into_iter().cycle()) {
        pair.publish(p, "t", payload, qos);
    }
    pair.connect(s, AGAIN);
    pair.run();
    assert_eq!(pair.messages(s), ["1", "2", "3", "4"]);
}

#[test]
fn a_session_that_expired_is_lost_and_the_client_is_told() {
    cites!("v5:MQTT-4.1.0-2 v5:MQTT-3.2.2-5");
    let mut pair = pair();
    let a = pair.joined("a", Terms::default());
    pair.try_publish(a, "t", "on its way", Qos::AtLeastOnce, false).unwrap();
    pair.cut(a);
    pair.pass(3600 * SECOND);
    pair.connect(a, AGAIN);
    pair.run();
    assert_eq!(pair.told(a), ["lost", "connected anew"]);
}

#[test]
fn a_program_that_does_not_acknowledge_holds_the_server_back() {
    cites!("v5:MQTT-3.3.4-9 v5:MQTT-4.9.0-2 v5:MQTT-4.9.0-3");
    let mut pair = pair();
    let s =
        pair.client("s", Options { manual_ack: true, receive_maximum: 2, ..Options::default() });
    pair.connect(s, Terms::default());
    pair.run();
    pair.subscribe(s, "t", Qos::AtLeastOnce);
    let p = pair.joined("p", Terms::default());
    for payload in ["1", "2", "3"] {
        pair.publish(p, "t", payload, Qos::AtLeastOnce);
    }
    pair.publish(p, "t", "0", Qos::AtMostOnce);
    assert_eq!(pair.messages(s), ["1", "2", "0"]);
    pair.ack(s);
    assert_eq!(pair.messages(s), ["3"]);
}

#[test]
fn pings_keep_a_quiet_connection_open() {
    cites!("v5:MQTT-3.1.2-20 v5:MQTT-3.12.4-1 v4:MQTT-3.1.2-23 v4:MQTT-3.12.4-1");
    let mut pair = pair();
    pair.latency = SECOND;
    let a = pair.joined("a", Terms { keep_alive: 10, ..Terms::default() });
    let before = pair.carried(a);
    pair.pass(105 * SECOND);
    assert!(pair.is_open(a));
    // PINGREQ and PINGRESP, ten times.
    assert_eq!(pair.carried(a) - before, 40);
}

#[test]
fn a_wire_that_went_silent_is_noticed_at_both_ends() {
    cites!("v5:MQTT-3.1.2-22 v5:MQTT-3.1.2-8 v4:MQTT-3.1.2-24");
    let mut pair = pair();
    let w = pair.joined("w", Terms::default());
    pair.subscribe(w, "will", Qos::AtLeastOnce);
    let a = pair.joined("a", Terms { keep_alive: 10, will: Some("will"), ..Terms::default() });
    pair.silence(a);
    pair.pass(14 * SECOND);
    assert_eq!((pair.messages(w).len(), pair.told(a).len()), (0, 0));
    pair.pass(SECOND);
    assert_eq!(pair.messages(w), ["gone"]);
    pair.pass(5 * SECOND);
    assert_eq!(pair.told(a), ["failed: KeepAliveTimeout"]);
}

#[test]
fn a_will_follows_a_cut_and_not_a_disconnect() {
    cites!("v5:MQTT-3.1.2-8 v5:MQTT-3.14.4-3 v4:MQTT-3.1.2-8 v4:MQTT-3.14.4-3");
    let mut pair = pair();
    let w = pair.joined("w", Terms::default());
    pair.subscribe(w, "+", Qos::AtLeastOnce);
    let a = pair.joined("a", Terms { will: Some("a"), ..Terms::default() });
    let b = pair.joined("b", Terms { will: Some("b"), ..Terms::default() });
    pair.disconnect(a);
    pair.cut(b);
    pair.run();
    assert_eq!(pair.messages(w), ["gone"]);
}

#[test]
fn the_second_connection_of_a_client_ends_the_first() {
    cites!("v5:MQTT-3.1.4-3 v5:MQTT-3.2.2-2");
    let mut pair = pair();
    let old = pair.joined("a", Terms::default());
    let new = pair.joined("a", Terms::default());
    assert_eq!(pair.told(old), ["disconnected: Session taken over"]);
    assert!(pair.is_open(new) && !pair.is_open(old));
}

#[test]
fn a_client_without_its_memory_does_not_take_up_a_session() {
    cites!("v5:MQTT-3.2.2-4");
    let mut pair = pair();
    let old = pair.joined("a", Terms::default());
    pair.cut(old);
    let new = pair.client("a", Options::default());
    pair.connect(new, AGAIN);
    pair.run();
    assert!(!pair.is_open(new), "{:?}", pair.told(new));
}

#[test]
fn a_retained_message_waits_for_subscribers() {
    cites!("v5:MQTT-3.3.1-5 v5:MQTT-3.3.1-6 v5:MQTT-3.3.1-9 v4:MQTT-3.3.1-6");
    let mut pair = pair();
    let p = pair.joined("p", Terms::default());
    pair.try_publish(p, "t", "kept", Qos::AtLeastOnce, true).unwrap();
    pair.subscribe(p, "t", Qos::AtLeastOnce);
    pair.try_publish(p, "t", "", Qos::AtLeastOnce, true).unwrap();
    pair.subscribe(p, "+", Qos::AtLeastOnce);
    assert_eq!(pair.messages(p), ["kept (retained)", ""]);
}

#[test]
fn members_of_a_group_share_the_messages() {
    cites!("v5:MQTT-4.8.2-3 U5-072");
    let mut pair = pair();
    let seats = ["a", "b", "c"].map(|name| pair.joined(name, Terms::default()));
    seats.into_iter().for_each(|seat| pair.subscribe(seat, "$share/g/t", Qos::AtLeastOnce));
    (0..9).for_each(|number| pair.publish(seats[0], "t", &number.to_string(), Qos::AtLeastOnce));
    let got = seats.map(|seat| pair.messages(seat));
    assert_eq!(got.each_ref().map(Vec::len), [3, 3, 3]);
    let mut all = got.concat();
    all.sort();
    assert_eq!(all.concat(), "012345678");
}

#[test]
fn a_topic_that_comes_again_is_shorter_on_the_wire() {
    cites!("v5:MQTT-3.3.2-10 v5:MQTT-3.3.2-11 v5:MQTT-3.1.2-26");
    let mut pair = pair();
    let (p, s) = (pair.joined("p", Terms::default()), pair.joined("s", Terms::default()));
    pair.subscribe(s, "#", Qos::AtMostOnce);
    let lengths = [1, 2, 3].map(|_| {
        let before = pair.carried(s);
        pair.publish(p, "house/kitchen/window/temperature", "21", Qos::AtMostOnce);
        pair.carried(s) - before
    });
    assert_eq!(lengths, [42, 10, 10]);
    assert_eq!(pair.messages(s), ["21", "21", "21"]);
}

#[test]
fn messages_do_not_wait_for_acknowledgements_of_others() {
    let mut pair = pair();
    let a = pair.joined("a", Terms::default());
    pair.subscribe(a, "t", Qos::ExactlyOnce);
    let start = pair.now();
    pair.latency = SECOND;
    (0..20).for_each(|_| pair.try_publish(a, "t", "x", Qos::ExactlyOnce, false).unwrap());
    pair.run();
    assert_eq!(pair.messages(a).len(), 20);
    // There, back with the message, and two more round trips of each side's exchange.
    assert!(pair.now().since(start) <= 6 * SECOND, "{:?}", pair.now().since(start));
}

#[test]
fn a_message_too_large_for_a_client_does_not_stop_the_next() {
    cites!("v5:MQTT-3.1.2-24 v5:MQTT-3.1.2-25");
    let mut pair = pair();
    let (p, s) = (pair.joined("p", Terms::default()), pair.joined("s", Terms::default()));
    pair.subscribe(s, "t", Qos::AtLeastOnce);
    pair.publish(p, "t", &"x".repeat(1024), Qos::AtLeastOnce);
    pair.publish(p, "t", "small", Qos::AtLeastOnce);
    assert_eq!((pair.messages(s), pair.lost()), (vec!["small".into()], 1));
}

#[test]
fn a_full_window_refuses_and_an_acknowledgement_makes_room() {
    cites!("v5:MQTT-3.3.4-7 v5:MQTT-4.9.0-1");
    let mut pair = Pair::new(Config { receive_maximum: 2, ..Config::default() });
    let a = pair.joined("a", Terms::default());
    let [one, two, three] =
        ["1", "2", "3"].map(|text| pair.try_publish(a, "t", text, Qos::ExactlyOnce, false));
    assert_eq!((one, two, three), (Ok(()), Ok(()), Err(SendError::Full)));
    pair.run();
    assert_eq!(pair.try_publish(a, "t", "3", Qos::ExactlyOnce, false), Ok(()));
}

#[test]
fn a_broker_that_stops_tells_its_clients() {
    cites!("v5:MQTT-3.14.4-2 v5:MQTT-4.13.2-1");
    let mut pair = pair();
    let a = pair.joined("a", Terms::default());
    let b = pair.joined("b", Terms { version: Version::V311, ..Terms::default() });
    pair.command(Command::Shutdown);
    assert_eq!(pair.told(a), ["disconnected: Server shutting down"]);
    assert_eq!((pair.told(b).len(), pair.is_open(a), pair.is_open(b)), (0, false, false));
}
