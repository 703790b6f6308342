//! Retained messages.

use crate::harness::{Broker, Client, Connect, Publish, V311, Will, unique};
use crate::{PAYLOAD, client, expect_one, setup, subscribe};

/// Another client publishes this retained message and leaves.
#[track_caller]
fn publish_retained(broker: &Broker, topic: &str, payload: &str, qos: u8) {
    let mut publisher = client(broker);
    publisher.put(Publish::new(topic, payload).qos(qos, 0).retain());
    publisher.disconnect();
}

/// A retained message published before reaches a subscriber of `filter` under its topic.
#[track_caller]
fn retained(filter: &str, name: &str, published: u8, subscribed: u8) {
    let (broker, topic) = setup("retained");
    let name = format!("{topic}{name}");
    publish_retained(&broker, &name, PAYLOAD, published);
    let mut peer = client(&broker);
    subscribe(&mut peer, &format!("{topic}{filter}"), subscribed);
    expect_one(&mut peer, &name, published.min(subscribed), true);
    peer.disconnect();
}

#[test]
fn retained_at_qos_0() {
    cites!("v4:MQTT-3.3.1-7 v4:MQTT-3.3.1-8");
    retained("", "", 0, 0);
}

#[test]
fn retained_at_qos_1() {
    cites!("v4:MQTT-3.3.1-5 v4:MQTT-3.3.1-8");
    retained("", "", 1, 1);
}

#[test]
fn retained_at_qos_2() {
    cites!("v4:MQTT-3.3.1-5 v4:MQTT-3.3.1-8");
    retained("", "", 2, 2);
}

#[test]
fn retained_qos_1_is_lowered_to_0() {
    cites!("v4:MQTT-3.8.4-6");
    retained("", "", 1, 0);
}

#[test]
fn retained_qos_2_is_lowered_to_0() {
    cites!("v4:MQTT-3.8.4-6");
    retained("", "", 2, 0);
}

#[test]
fn retained_qos_2_is_lowered_to_1() {
    cites!("v4:MQTT-3.8.4-6");
    retained("", "", 2, 1);
}

#[test]
fn retained_for_a_wildcard_for_one_level() {
    cites!("v4:MQTT-3.3.1-6 v4:MQTT-4.7.1-3");
    retained("/foo/+", "/foo/bar", 0, 0);
}

#[test]
fn retained_for_a_wildcard_for_some_levels() {
    cites!("v4:MQTT-3.3.1-6 v4:MQTT-4.7.1-2");
    retained("/foo/#", "/foo/bar/baz", 0, 0);
}

/// A fresh subscriber of the topic.
#[track_caller]
fn subscriber(broker: &Broker, topic: &str) -> Client {
    let mut peer = client(broker);
    subscribe(&mut peer, topic, 0);
    peer
}

#[test]
fn retained_is_replaced() {
    cites!("v4:MQTT-3.3.1-7 v4:MQTT-3.3.1-6");
    let (broker, topic) = setup("retained");
    publish_retained(&broker, &topic, "before", 0);
    publish_retained(&broker, &topic, PAYLOAD, 0);
    expect_one(&mut subscriber(&broker, &topic), &topic, 0, true);
}

#[test]
fn retained_is_cleared() {
    cites!("v4:MQTT-3.3.1-10 v4:MQTT-3.3.1-11");
    let (broker, topic) = setup("retained");
    publish_retained(&broker, &topic, PAYLOAD, 0);
    expect_one(&mut subscriber(&broker, &topic), &topic, 0, true);
    publish_retained(&broker, &topic, "", 0);
    subscriber(&broker, &topic).expect_nothing();
}

#[test]
fn retained_message_reaches_a_subscriber_of_before_without_retain() {
    cites!("v4:MQTT-3.3.1-9");
    let (broker, topic) = setup("retained");
    let mut peer = subscriber(&broker, &topic);
    publish_retained(&broker, &topic, PAYLOAD, 0);
    expect_one(&mut peer, &topic, 0, false);
}

#[test]
fn clearing_message_reaches_a_subscriber_of_before_without_retain() {
    cites!("v4:MQTT-3.3.1-9 v4:MQTT-3.3.1-10 U311-006");
    let (broker, topic) = setup("retained");
    publish_retained(&broker, &topic, PAYLOAD, 0);
    let mut peer = subscriber(&broker, &topic);
    expect_one(&mut peer, &topic, 0, true);
    publish_retained(&broker, &topic, "", 0);
    assert_eq!(peer.take(), Publish::new(&topic, ""));
    peer.expect_nothing();
    subscriber(&broker, &topic).expect_nothing();
}

#[test]
fn will_is_retained() {
    cites!("v4:MQTT-3.1.2-17");
    let (broker, topic) = setup("retained");
    let will = Will { retain: true, ..Will::new(&topic, PAYLOAD) };
    let mut watcher = subscriber(&broker, &topic);
    broker.join(&Connect::new(V311, &unique("spec")).will(will)).0.cut();
    expect_one(&mut watcher, &topic, 0, false);
    expect_one(&mut subscriber(&broker, &topic), &topic, 0, true);
}

#[test]
fn retained_is_sent_again_for_each_subscribe() {
    cites!("v4:MQTT-3.8.4-3");
    let (broker, topic) = setup("retained");
    publish_retained(&broker, &topic, PAYLOAD, 0);
    let mut peer = client(&broker);
    for _ in 0..3 {
        subscribe(&mut peer, &topic, 0);
        expect_one(&mut peer, &topic, 0, true);
    }
}
