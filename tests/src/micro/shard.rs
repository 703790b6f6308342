//! Bytes in and bytes out, through a whole broker without sockets.

use fulmar_core::broker::{Config, ConnId};
use fulmar_core::codec::{Properties, Property, Publish};
use fulmar_core::{Packet, PacketId, Qos, Version};

use super::Work;
use crate::packet;
use crate::shard::Shard;

const TOPIC: &str = "house/door";
const PAYLOAD: [u8; 64] = [7; 64];
/// Where the Packet Identifier of a message to [`TOPIC`] stands: after fixed header and topic.
const ID_AT: usize = 2 + 2 + TOPIC.len();

/// A publisher and `subscribers` others, who subscribed to its topic.
fn house(version: Version, subscribers: u32, qos: Qos) -> (Shard, ConnId, ConnId) {
    let mut shard = Shard::new(Config::default());
    let publisher = shard.connect(version, "publisher");
    let mut last = publisher;
    for number in 0..subscribers {
        last = shard.connect(version, &format!("subscriber {number}"));
        shard.receive(last, &packet::subscribe(version, 1, "house/+", qos));
    }
    (shard, publisher, last)
}

/// Hands over a packet, and gives the identifier of the message that `to` got because of it.
fn delivered(shard: &mut Shard, from: ConnId, bytes: &[u8], to: ConnId) -> u16 {
    let mut id = None;
    shard.receive_with(from, bytes, |conn, bytes| {
        if conn == to && bytes[0] >> 4 == 3 {
            id = Some(u16::from_be_bytes([bytes[ID_AT], bytes[ID_AT + 1]]));
        }
    });
    id.expect("the message reaches the subscriber")
}

fn to_all(subscribers: u32) -> Work {
    let version = Version::V311;
    let (mut shard, publisher, _) = house(version, subscribers, Qos::AtMostOnce);
    let message = packet::publish(version, TOPIC, &PAYLOAD, Qos::AtMostOnce, 0);
    Box::new(move || {
        let before = shard.sent();
        shard.receive(publisher, &message);
        assert_eq!(shard.sent() - before, u64::from(subscribers) * message.len() as u64);
    })
}

pub(super) fn publish_qos0() -> Work {
    to_all(1)
}

pub(super) fn fan_out() -> Work {
    to_all(100)
}

/// A message of QoS 1 that arrives, and all acknowledgements.
fn acknowledged(version: Version, message: Vec<u8>) -> Work {
    let (mut shard, publisher, subscriber) = house(version, 1, Qos::AtLeastOnce);
    Box::new(move || {
        let id = delivered(&mut shard, publisher, &message, subscriber);
        shard.receive(subscriber, &packet::puback(id));
    })
}

pub(super) fn round_trip_qos1() -> Work {
    let version = Version::V311;
    acknowledged(version, packet::publish(version, TOPIC, &PAYLOAD, Qos::AtLeastOnce, 9))
}

pub(super) fn round_trip_v5() -> Work {
    let properties = [
        Property::MessageExpiryInterval(60),
        Property::UserProperty("device", "thermometer-7"),
        Property::UserProperty("unit", "kelvin"),
    ];
    let publish = Publish {
        qos: Qos::AtLeastOnce,
        topic: TOPIC,
        packet_id: Some(PacketId::MIN),
        properties: Properties::list(&properties),
        payload: &PAYLOAD,
        ..Publish::default()
    };
    let mut message = Vec::new();
    Packet::Publish(publish).append(Version::V5, &mut message).expect("it can be sent");
    acknowledged(Version::V5, message)
}

pub(super) fn round_trip_qos2() -> Work {
    let version = Version::V311;
    let (mut shard, publisher, subscriber) = house(version, 1, Qos::ExactlyOnce);
    let message = packet::publish(version, TOPIC, &PAYLOAD, Qos::ExactlyOnce, 9);
    let pubrel = packet::acknowledgement(0x62, 9);
    Box::new(move || {
        let id = delivered(&mut shard, publisher, &message, subscriber);
        shard.receive(publisher, &pubrel);
        let before = shard.sent();
        shard.receive(subscriber, &packet::acknowledgement(0x50, id));
        shard.receive(subscriber, &packet::acknowledgement(0x70, id));
        // PUBREL.
        assert_eq!(shard.sent() - before, 4);
    })
}

pub(super) fn retained() -> Work {
    let version = Version::V311;
    let (mut shard, publisher, subscriber) = house(version, 1, Qos::AtMostOnce);
    let mut message = packet::publish(version, TOPIC, &PAYLOAD, Qos::AtMostOnce, 0);
    message[0] |= 1;
    let subscribe = packet::subscribe(version, 1, "house/+", Qos::AtMostOnce);
    Box::new(move || {
        let before = shard.sent();
        shard.receive(publisher, &message);
        shard.receive(subscriber, &subscribe);
        // Live, SUBACK, and retained.
        assert_eq!(shard.sent() - before, 2 * message.len() as u64 + 5);
    })
}

pub(super) fn session_resume() -> Work {
    let version = Version::V311;
    let mut shard = Shard::new(Config::default());
    let publisher = shard.connect(version, "publisher");
    let connect = packet::connect(version, "subscriber", false);
    let subscriber = shard.open();
    shard.receive(subscriber, &connect);
    for number in 0..10 {
        let filter = format!("house/{number}/#");
        shard.receive(subscriber, &packet::subscribe(version, 1, &filter, Qos::AtLeastOnce));
    }
    shard.receive(subscriber, &packet::subscribe(version, 1, "house/+", Qos::AtLeastOnce));
    shard.closed(subscriber);
    let message = packet::publish(version, TOPIC, &PAYLOAD, Qos::AtLeastOnce, 9);
    Box::new(move || {
        for _ in 0..5 {
            shard.receive(publisher, &message);
        }
        let subscriber = shard.open();
        let mut ids = [0; 5];
        let mut next = ids.iter_mut();
        shard.receive_with(subscriber, &connect, |_, mut bytes| {
            while bytes.len() > 4 {
                // CONNACK has 4 bytes; all else are copies of the message.
                if bytes[0] >> 4 == 2 {
                    bytes = &bytes[4..];
                    continue;
                }
                let id = u16::from_be_bytes([bytes[ID_AT], bytes[ID_AT + 1]]);
                *next.next().expect("five messages") = id;
                bytes = &bytes[message.len()..];
            }
        });
        assert!(next.next().is_none(), "five messages");
        for id in ids {
            shard.receive(subscriber, &packet::puback(id));
        }
        shard.closed(subscriber);
    })
}

pub(super) fn subscribe_unsubscribe() -> Work {
    let version = Version::V311;
    let (mut shard, client, _) = house(version, 1, Qos::AtMostOnce);
    for number in 0..1_000 {
        let filter = format!("house/{number}/+");
        shard.receive(client, &packet::subscribe(version, 1, &filter, Qos::AtMostOnce));
    }
    let subscribe = packet::subscribe(version, 1, "house/500/cellar/#", Qos::AtMostOnce);
    let mut body = vec![0, 1];
    packet::string(&mut body, "house/500/cellar/#");
    let unsubscribe = packet::frame(0xa2, &body);
    Box::new(move || {
        let before = shard.sent();
        shard.receive(client, &subscribe);
        shard.receive(client, &unsubscribe);
        // SUBACK and UNSUBACK.
        assert_eq!(shard.sent() - before, 5 + 4);
    })
}
