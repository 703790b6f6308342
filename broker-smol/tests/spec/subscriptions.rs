//! Subscribing and unsubscribing while connected.

use crate::{PAYLOAD, client, expect_one, setup, subscribe};

/// After UNSUBSCRIBE nothing is received.
#[track_caller]
fn unsubscribe(qos: u8) {
    let (broker, topic) = setup("unsubscribe");
    let mut peer = client(&broker);
    subscribe(&mut peer, &topic, qos);
    peer.unsubscribe(&[&topic]);
    peer.publish(&topic, PAYLOAD, qos);
    peer.expect_nothing();
    peer.disconnect();
}

#[test]
fn unsubscribe_at_qos_0() {
    cites!("v4:MQTT-3.10.4-2");
    unsubscribe(0);
}

#[test]
fn unsubscribe_at_qos_1() {
    cites!("v4:MQTT-3.10.4-2");
    unsubscribe(1);
}

#[test]
fn unsubscribe_at_qos_2() {
    cites!("v4:MQTT-3.10.4-2");
    unsubscribe(2);
}

#[test]
fn unsubscribing_what_is_not_subscribed_is_acknowledged() {
    cites!("v4:MQTT-3.10.4-5");
    let (broker, topic) = setup("unsubscribe");
    let mut peer = client(&broker);
    peer.unsubscribe(&[&topic]);
    peer.expect_nothing();
    peer.disconnect();
}

#[test]
fn unsubscribing_one_of_two_overlapping_filters_leaves_the_other() {
    cites!("v4:MQTT-3.10.4-1");
    let (broker, topic) = setup("unsubscribe");
    let mut peer = client(&broker);
    subscribe(&mut peer, &format!("{topic}/#"), 0);
    subscribe(&mut peer, &format!("{topic}/+"), 0);
    peer.unsubscribe(&[&format!("{topic}/#")]);
    peer.publish(&format!("{topic}/foo"), PAYLOAD, 0);
    expect_one(&mut peer, &format!("{topic}/foo"), 0, false);
    peer.disconnect();
}

/// A second SUBSCRIBE with the same filter replaces the first.
#[track_caller]
fn upgrade(from: u8, to: u8) {
    let (broker, topic) = setup("upgrade");
    let mut peer = client(&broker);
    subscribe(&mut peer, &topic, from);
    subscribe(&mut peer, &topic, to);
    peer.publish(&topic, PAYLOAD, to);
    expect_one(&mut peer, &topic, to, false);
    peer.disconnect();
}

#[test]
fn subscription_is_upgraded_from_qos_0_to_1() {
    cites!("v4:MQTT-3.8.4-3");
    upgrade(0, 1);
}

#[test]
fn subscription_is_upgraded_from_qos_1_to_2() {
    cites!("v4:MQTT-3.8.4-3");
    upgrade(1, 2);
}

/// Two filters that match the same topic give one copy.
#[track_caller]
fn overlapping(wildcard: &str) {
    let (broker, topic) = setup("overlapping");
    let mut peer = client(&broker);
    let name = format!("{topic}/foo");
    subscribe(&mut peer, &format!("{topic}{wildcard}"), 0);
    subscribe(&mut peer, &name, 0);
    peer.publish(&name, PAYLOAD, 0);
    expect_one(&mut peer, &name, 0, false);
    peer.disconnect();
}

#[test]
fn overlapping_wildcard_for_one_level_gives_one_copy() {
    overlapping("/+");
}

#[test]
fn overlapping_wildcard_for_some_levels_gives_one_copy() {
    overlapping("/#");
}

#[test]
fn one_subscribe_with_several_filters_grants_each_its_qos() {
    cites!("v4:MQTT-3.8.4-5 v4:MQTT-3.9.3-1");
    let (broker, topic) = setup("multiple");
    let mut peer = client(&broker);
    let names: Vec<_> = (0..3).map(|number| format!("{topic}/{number}")).collect();
    let filters: Vec<_> = names.iter().map(String::as_str).zip(0..3).collect();
    assert_eq!(peer.subscribe_all(&filters, &[]), [0, 1, 2]);
    for (name, qos) in filters {
        peer.publish(name, PAYLOAD, 2);
        expect_one(&mut peer, name, qos, false);
    }
    peer.disconnect();
}

#[test]
fn same_filter_twice_in_one_subscribe_counts_once_with_the_last_qos() {
    cites!("v4:MQTT-3.8.4-4");
    let (broker, topic) = setup("duplicate");
    let mut peer = client(&broker);
    assert_eq!(peer.subscribe_all(&[(&topic, 0), (&topic, 1)], &[]), [0, 1]);
    peer.publish(&topic, PAYLOAD, 1);
    expect_one(&mut peer, &topic, 1, false);
    peer.disconnect();
}

#[test]
fn subscription_does_not_match_neighbours() {
    cites!("v4:MQTT-3.3.2-3");
    let (broker, topic) = setup("isolated");
    let mut peer = client(&broker);
    let name = format!("{topic}/foo");
    subscribe(&mut peer, &name, 0);
    for other in [&topic, &format!("{topic}/bar"), &format!("{topic}/foo/bar")] {
        peer.publish(other, PAYLOAD, 0);
    }
    peer.expect_nothing();
    peer.publish(&name, PAYLOAD, 0);
    expect_one(&mut peer, &name, 0, false);
    peer.disconnect();
}
