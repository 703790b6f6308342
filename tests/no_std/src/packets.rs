//! Codec and session halves.

use fulmar_core::codec::{Packet, Properties, Property, Publish, decode, split};
use fulmar_core::session::{Acked, Held, Inbound, Outbound, Recd, Slot, Verdict};
use fulmar_core::topic::{TopicFilter, matches};
use fulmar_core::{PacketId, Qos, Storage, Version};

/// Encodes a packet, splits and decodes it, and matches its topic.
pub fn bytes_to_packets_and_back() {
    let publish = Publish {
        topic: "a/b",
        qos: Qos::AtLeastOnce,
        packet_id: PacketId::new(7),
        properties: Properties::list(&[Property::ContentType("text")]),
        payload: b"hi",
        ..Publish::default()
    };
    let mut memory = [0; 64];
    let packet = Packet::Publish(publish);
    let len = packet.encoded_len(Version::V5).expect("can be sent") as usize;
    packet.encode(Version::V5, &mut memory[..len]);
    let (frame, used) = split(&memory, 64).expect("a frame").expect("a whole one");
    assert_eq!(used, len);
    assert_eq!(decode(Version::V5, frame), Ok(packet));
    let filter = TopicFilter::new("a/+", 8).expect("a filter");
    assert!(matches(filter.as_str(), publish.topic));
}

/// A QoS 2 message from one half to the other, in borrowed memory.
pub fn both_halves_of_a_session() {
    let (mut slots, mut held) = ([Slot::EMPTY; 2], [Held::default(); 2]);
    let mut out = Outbound::new(Storage::from(&mut slots[..]), 2);
    let mut inbound = Inbound::new(Storage::from(&mut held[..]), 2, 2);
    let id = out.begin(Qos::ExactlyOnce, 5u8).expect("room");
    assert_eq!(inbound.publish(id, Qos::ExactlyOnce), Verdict::New);
    assert_eq!(inbound.publish(id, Qos::ExactlyOnce), Verdict::Repeat);
    assert!(matches!(out.pubrec(id, false), Recd::Release(5)));
    assert!(inbound.pubrel(id));
    inbound.pubcomp_sent(id);
    assert!(matches!(out.pubcomp(id), Acked::Done(())));
    assert!(out.is_empty() && inbound.is_empty());
}
