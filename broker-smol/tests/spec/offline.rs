//! What a session keeps while its client is away: packets, subscriptions, messages.

use crate::harness::{Client, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, V311, ack, unique};
use crate::{PAYLOAD, client, expect_one, resume, setup, subscribe};

/// The first identifier of a session.
const FIRST: u16 = 1;

/// The next packet is PUBLISH with the first identifier and payload `test`.
#[track_caller]
fn expect_publish(peer: &mut Client, topic: &str, qos: u8, dup: bool) {
    let expected = Publish { dup, ..Publish::new(topic, PAYLOAD).qos(qos, FIRST) };
    assert_eq!(peer.message(), expected);
}

/// PUBREC is answered with PUBREL, and PUBCOMP is sent.
#[track_caller]
fn complete(peer: &mut Client) {
    peer.send(&ack(PUBREC, FIRST));
    assert_eq!(peer.ack(PUBREL, FIRST), 0);
    peer.send(&ack(PUBCOMP, FIRST));
}

/// A message is sent again after a cut before the first acknowledgement; `acknowledge` ends it.
/// With `again` the client subscribes once more when it is back, as services do.
#[track_caller]
fn resend(qos: u8, again: bool, acknowledge: impl Fn(&mut Client)) {
    let (broker, topic) = setup("resend");
    let id = unique("spec");
    let (mut peer, present) = resume(&broker, &id);
    assert!(!present);
    subscribe(&mut peer, &topic, qos);
    let mut publisher = client(&broker);
    publisher.publish(&topic, PAYLOAD, qos);
    expect_publish(&mut peer, &topic, qos, false);
    peer.cut();
    let (mut peer, present) = resume(&broker, &id);
    assert!(present);
    expect_publish(&mut peer, &topic, qos, true);
    if again {
        subscribe(&mut peer, &topic, qos);
    }
    acknowledge(&mut peer);
    peer.expect_nothing();
    peer.disconnect();
    let (mut peer, _) = resume(&broker, &id);
    peer.expect_nothing();
    peer.disconnect();
    broker.forget(V311, &id);
}

#[test]
fn publish_is_sent_again_at_qos_1() {
    cites!("v4:MQTT-4.4.0-1 v4:MQTT-3.3.1-1");
    resend(1, false, |peer| peer.send(&ack(PUBACK, FIRST)));
}

#[test]
fn publish_is_sent_again_at_qos_2() {
    cites!("v4:MQTT-4.4.0-1 v4:MQTT-3.3.1-1");
    resend(2, false, complete);
}

#[test]
fn service_that_failed_gets_the_message_again_at_qos_1() {
    cites!("v4:MQTT-4.4.0-1 v4:MQTT-3.8.4-3");
    resend(1, true, |peer| peer.send(&ack(PUBACK, FIRST)));
}

#[test]
fn service_that_failed_gets_the_message_again_at_qos_2() {
    cites!("v4:MQTT-4.4.0-1 v4:MQTT-3.8.4-3");
    resend(2, true, complete);
}

#[test]
fn pubrel_is_sent_again_at_qos_2() {
    cites!("v4:MQTT-4.4.0-1 v4:MQTT-4.3.3-1");
    let (broker, topic) = setup("resend");
    let id = unique("spec");
    let (mut peer, _) = resume(&broker, &id);
    subscribe(&mut peer, &topic, 2);
    client(&broker).publish(&topic, PAYLOAD, 2);
    expect_publish(&mut peer, &topic, 2, false);
    peer.send(&ack(PUBREC, FIRST));
    assert_eq!(peer.ack(PUBREL, FIRST), 0);
    peer.cut();
    let (mut peer, present) = resume(&broker, &id);
    assert!(present);
    let next = peer.packet();
    assert!(matches!(&next, Packet::Ack(a) if (a.first, a.id) == (PUBREL, FIRST)), "{next:?}");
    peer.send(&ack(PUBCOMP, FIRST));
    peer.expect_nothing();
    peer.disconnect();
    broker.forget(V311, &id);
}

/// A subscription outlives the connection.
#[track_caller]
fn stored(qos: u8) {
    let (broker, topic) = setup("stored");
    let id = unique("spec");
    let (mut peer, _) = resume(&broker, &id);
    subscribe(&mut peer, &topic, qos);
    peer.disconnect();
    let (mut peer, present) = resume(&broker, &id);
    assert!(present);
    peer.publish(&topic, PAYLOAD, qos);
    expect_one(&mut peer, &topic, qos, false);
    peer.disconnect();
    broker.forget(V311, &id);
}

#[test]
fn subscription_is_stored_at_qos_0() {
    cites!("v4:MQTT-3.1.2-4");
    stored(0);
}

#[test]
fn subscription_is_stored_at_qos_1() {
    cites!("v4:MQTT-3.1.2-4");
    stored(1);
}

#[test]
fn subscription_is_stored_at_qos_2() {
    cites!("v4:MQTT-3.1.2-4");
    stored(2);
}

#[test]
fn clean_session_removes_stored_subscriptions() {
    cites!("v4:MQTT-3.1.2-6");
    let (broker, topic) = setup("stored");
    let id = unique("spec");
    let (mut peer, _) = resume(&broker, &id);
    subscribe(&mut peer, &topic, 0);
    peer.disconnect();
    let mut peer = broker.connect(V311, &id);
    peer.publish(&topic, PAYLOAD, 0);
    peer.expect_nothing();
    peer.disconnect();
    let (peer, present) = resume(&broker, &id);
    assert!(!present);
    peer.disconnect();
    broker.forget(V311, &id);
}

#[test]
fn unsubscribe_removes_a_stored_subscription() {
    cites!("v4:MQTT-3.10.4-1");
    let (broker, topic) = setup("stored");
    let id = unique("spec");
    let (mut peer, _) = resume(&broker, &id);
    subscribe(&mut peer, &topic, 0);
    peer.disconnect();
    let (mut peer, _) = resume(&broker, &id);
    peer.unsubscribe(&[&topic]);
    peer.disconnect();
    let (mut peer, present) = resume(&broker, &id);
    assert!(present);
    peer.publish(&topic, PAYLOAD, 0);
    peer.expect_nothing();
    peer.disconnect();
    broker.forget(V311, &id);
}

/// A message published while the client is away is delivered when it comes back, at the lower
/// QoS and without RETAIN even if it was published with it.
#[track_caller]
fn offline(subscribed: u8, published: u8, retain: bool) {
    let (broker, topic) = setup("offline");
    let id = unique("spec");
    let (mut peer, _) = resume(&broker, &id);
    subscribe(&mut peer, &topic, subscribed);
    peer.disconnect();
    let message = Publish::new(&topic, PAYLOAD).qos(published, 0);
    client(&broker).put(Publish { retain, ..message });
    let (mut peer, present) = resume(&broker, &id);
    assert!(present);
    expect_one(&mut peer, &topic, subscribed.min(published), false);
    peer.disconnect();
    broker.forget(V311, &id);
}

// The predecessors left open whether messages of QoS 0 wait; here they do.

#[test]
fn message_waits_for_qos_0_published_at_0() {
    offline(0, 0, false);
}

#[test]
fn message_waits_for_qos_0_published_at_1() {
    cites!("v4:MQTT-3.1.2-5 v4:MQTT-3.8.4-6");
    offline(0, 1, false);
}

#[test]
fn message_waits_for_qos_1_published_at_0() {
    offline(1, 0, false);
}

#[test]
fn message_waits_for_qos_1_published_at_1() {
    cites!("v4:MQTT-3.1.2-5");
    offline(1, 1, false);
}

#[test]
fn message_waits_for_qos_1_published_at_2() {
    cites!("v4:MQTT-3.1.2-5 v4:MQTT-3.8.4-6");
    offline(1, 2, false);
}

#[test]
fn message_waits_for_qos_2_published_at_1() {
    cites!("v4:MQTT-3.1.2-5 v4:MQTT-3.8.4-6");
    offline(2, 1, false);
}

#[test]
fn message_waits_for_qos_2_published_at_2() {
    cites!("v4:MQTT-3.1.2-5");
    offline(2, 2, false);
}

#[test]
fn retained_message_waits_at_qos_0() {
    cites!("v4:MQTT-3.3.1-9");
    offline(0, 0, true);
}

#[test]
fn retained_message_waits_at_qos_1() {
    cites!("v4:MQTT-3.3.1-9");
    offline(1, 1, true);
}

#[test]
fn retained_message_waits_at_qos_2() {
    cites!("v4:MQTT-3.3.1-9");
    offline(2, 2, true);
}
