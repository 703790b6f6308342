//! Messages from publisher to subscriber: QoS, wildcards, levels.

use crate::harness::{Connect, V311, Will, unique};
use crate::{PAYLOAD, client, expect_one, setup, subscribe};

/// A client that subscribes `filter` under its topic gets one message published to `name`.
#[track_caller]
fn round_trip(filter: &str, name: &str, subscribed: u8, published: u8, received: u8) {
    let (broker, topic) = setup("message");
    let mut peer = client(&broker);
    subscribe(&mut peer, &format!("{topic}{filter}"), subscribed);
    peer.publish(&format!("{topic}{name}"), PAYLOAD, published);
    expect_one(&mut peer, &format!("{topic}{name}"), received, false);
    peer.disconnect();
}

#[test]
fn publish_subscribe_at_qos_0() {
    cites!("v4:MQTT-4.3.1-1 v4:MQTT-3.3.2-3");
    round_trip("", "", 0, 0, 0);
}

#[test]
fn publish_subscribe_at_qos_1() {
    cites!("v4:MQTT-4.3.2-2 v4:MQTT-3.3.4-1");
    round_trip("", "", 1, 1, 1);
}

#[test]
fn publish_subscribe_at_qos_2() {
    cites!("v4:MQTT-4.3.3-2 v4:MQTT-3.3.4-1");
    round_trip("", "", 2, 2, 2);
}

#[test]
fn qos_0_is_kept_by_a_subscription_at_1() {
    cites!("v4:MQTT-3.8.4-6");
    round_trip("", "", 1, 0, 0);
}

#[test]
fn qos_1_is_kept_by_a_subscription_at_2() {
    cites!("v4:MQTT-3.8.4-6");
    round_trip("", "", 2, 1, 1);
}

#[test]
fn wildcard_for_one_level_matches() {
    cites!("v4:MQTT-4.7.1-3");
    round_trip("/1/+", "/1/foo", 0, 0, 0);
}

#[test]
fn wildcard_for_some_levels_matches() {
    cites!("v4:MQTT-4.7.1-2");
    round_trip("/2/#", "/2/foo/bar", 0, 0, 0);
}

#[test]
fn qos_1_is_lowered_to_0() {
    cites!("v4:MQTT-3.8.4-6");
    round_trip("", "", 0, 1, 0);
}

#[test]
fn qos_2_is_lowered_to_0() {
    cites!("v4:MQTT-3.8.4-6");
    round_trip("", "", 0, 2, 0);
}

#[test]
fn qos_2_is_lowered_to_1() {
    cites!("v4:MQTT-3.8.4-6");
    round_trip("", "", 1, 2, 1);
}

#[test]
fn leading_slash_makes_another_topic() {
    cites!("v4:MQTT-4.7.3-4");
    let (broker, topic) = setup("root");
    let mut peer = client(&broker);
    subscribe(&mut peer, &topic, 0);
    peer.publish(&format!("/{topic}"), PAYLOAD, 0);
    peer.expect_nothing();
    peer.publish(&topic, PAYLOAD, 0);
    expect_one(&mut peer, &topic, 0, false);
    peer.disconnect();
}

/// The connection of a client with a will is cut; a subscriber at the same QoS gets the will.
#[track_caller]
fn will(qos: u8) {
    let (broker, topic) = setup("will");
    let mut watcher = client(&broker);
    subscribe(&mut watcher, &topic, qos);
    let connect = Connect::new(V311, &unique("spec"));
    let connect = connect.will(Will { qos, ..Will::new(&topic, PAYLOAD) });
    broker.join(&connect).0.cut();
    expect_one(&mut watcher, &topic, qos, false);
    watcher.disconnect();
}

#[test]
fn will_at_qos_0() {
    cites!("v4:MQTT-3.1.2-8");
    will(0);
}

#[test]
fn will_at_qos_1() {
    cites!("v4:MQTT-3.1.2-8");
    will(1);
}

#[test]
fn will_at_qos_2() {
    cites!("v4:MQTT-3.1.2-8");
    will(2);
}

#[test]
fn will_is_not_published_after_disconnect() {
    cites!("v4:MQTT-3.14.4-3 v4:MQTT-3.1.2-10");
    let (broker, topic) = setup("will");
    let mut watcher = client(&broker);
    subscribe(&mut watcher, &topic, 0);
    let connect = Connect::new(V311, &unique("spec")).will(Will::new(&topic, PAYLOAD));
    broker.join(&connect).0.disconnect();
    watcher.expect_nothing();
    watcher.disconnect();
}
