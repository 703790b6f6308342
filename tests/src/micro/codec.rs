//! Bytes to packets and back.

use std::hint::black_box;

use fulmar_core::codec::{Connect, Properties, Property, Publish, Will, decode, split};
use fulmar_core::{Packet, PacketId, Qos, Version};

use super::Work;
use crate::packet;

const ADDED: [Property<'_>; 4] = [
    Property::MessageExpiryInterval(60),
    Property::TopicAlias(3),
    Property::UserProperty("device", "thermometer-7"),
    Property::UserProperty("unit", "kelvin"),
];

fn publish_v5() -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: "house/kitchen/temperature",
        packet_id: Some(PacketId::MIN),
        properties: Properties::list(&ADDED),
        payload: &[7; 64],
    })
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.append(Version::V5, &mut bytes).expect("it can be sent");
    bytes
}

/// Decodes these bytes.
fn decoding(version: Version, bytes: Vec<u8>) -> Work {
    Box::new(move || {
        let (frame, used) =
            split(black_box(&bytes), 1 << 20).expect("a packet").expect("a whole one");
        assert_eq!(used, bytes.len());
        black_box(&decode(version, frame).expect("a packet"));
    })
}

pub(super) fn decode_publish() -> Work {
    let topic = "house/kitchen/temperature";
    decoding(Version::V311, packet::publish(Version::V311, topic, &[7; 64], Qos::AtMostOnce, 0))
}

pub(super) fn decode_publish_v5() -> Work {
    decoding(Version::V5, bytes(&publish_v5()))
}

pub(super) fn encode_publish_v5() -> Work {
    let packet = publish_v5();
    let mut out = bytes(&packet);
    Box::new(move || {
        let packet = black_box(&packet);
        let len = packet.encoded_len(Version::V5).expect("it can be sent") as usize;
        packet.encode(Version::V5, &mut out[..len]);
        black_box(&out);
    })
}

pub(super) fn decode_connect_v5() -> Work {
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: true,
        topic: "house/kitchen/state",
        payload: b"offline",
        properties: Properties::list(&[Property::WillDelayInterval(5)]),
    };
    let properties = [
        Property::SessionExpiryInterval(3600),
        Property::ReceiveMaximum(100),
        Property::TopicAliasMaximum(16),
        Property::UserProperty("firmware", "1.2.3"),
    ];
    let connect = Connect {
        version: Version::V5,
        bridge: false,
        clean_start: false,
        keep_alive: 60,
        client_id: "thermometer-7",
        will: Some(will),
        username: Some("device"),
        password: Some(b"secret"),
        properties: Properties::list(&properties),
    };
    decoding(Version::V5, bytes(&Packet::Connect(connect)))
}
