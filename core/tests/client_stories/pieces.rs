use fulmar_core::client::{Client, Fixed, Options, Sizes, Storage};
use fulmar_core::codec::{
    Ack, Packet, PacketId, Properties, Property, Publish, Qos, ReasonCode, ReasonCodes, Suback,
    SubscriptionOptions, Version,
};
use quickcheck::quickcheck;

use super::{Scene, keeping};

/// A packet of the server, of a small choice.
fn packet(kind: u8, id: u8, version: Version) -> Vec<u8> {
    let packet_id = PacketId::new(u16::from(id % 6) + 1).unwrap();
    let five = version == Version::V5;
    let reason = match id % 5 {
        4 if five => ReasonCode::QuotaExceeded,
        _ => ReasonCode::Success,
    };
    let ack = Ack { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY };
    let alias = [Property::TopicAlias(u16::from(id % 3) + 1)];
    let message = |bits: u8| {
        let qos = Qos::from_bits(bits).unwrap();
        let topic = if five && id.is_multiple_of(4) { "" } else { "topic" };
        let properties = Properties::list(if five && id.is_multiple_of(2) { &alias } else { &[] });
        let packet_id = (bits > 0).then_some(packet_id);
        Packet::Publish(Publish { qos, topic, packet_id, properties, ..Publish::default() })
    };
    let packet = match kind % 16 {
        0..=2 => message(0),
        3..=5 => message(1),
        6..=8 => message(2),
        9 => Packet::Puback(Ack { reason, ..ack }),
        10 => Packet::Pubrec(Ack { reason, ..ack }),
        11 | 12 => Packet::Pubrel(ack),
        13 => Packet::Pubcomp(ack),
        14 => {
            let packet_id = PacketId::new(65520 + u16::from(id % 2)).unwrap();
            let reasons = ReasonCodes::list(&[ReasonCode::Success]);
            Packet::Suback(Suback { packet_id, properties: Properties::EMPTY, reasons })
        }
        _ => Packet::Pingresp,
    };
    let mut bytes = Vec::new();
    // A topic that is empty with no alias to stand for it cannot be sent.
    let _ = packet.append(version, &mut bytes);
    bytes
}

/// What a client with some requests under way tells and sends for these bytes, given in pieces.
fn run(storage: Storage<'_>, version: Version, mut bytes: &[u8], cuts: &[usize]) -> Vec<String> {
    let options = Options { topic_alias_maximum: 2, window: 4, ..Options::default() };
    let mut scene = Scene::on(storage, version, options);
    scene.connect(&keeping(version), false, &[]);
    let mut told = scene.events();
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::AtLeastOnce] {
        scene.publish("t", qos).unwrap();
    }
    let filters = [("a", SubscriptionOptions::default())];
    scene.tickets.push(scene.client.subscribe(&filters, Properties::EMPTY).unwrap());
    told.extend(scene.sent());
    let mut cuts = cuts.iter().cycle();
    while !bytes.is_empty() {
        let n = cuts.next().map_or(bytes.len(), |cut| (cut % 20 + 1).min(bytes.len()));
        let taken = scene.client.receive(scene.now, &bytes[..n]);
        bytes = &bytes[taken..];
        told.extend(scene.events());
        if taken < n {
            break;
        }
    }
    loop {
        let sent = scene.sent();
        let events = scene.events();
        if sent.is_empty() && events.is_empty() {
            break;
        }
        told.extend(sent);
        told.extend(events);
    }
    told.extend(scene.cut());
    told
}

fn heap() -> Storage<'static> {
    Storage::heap(Sizes::default())
}

quickcheck! {
    fn any_division_into_pieces_gives_the_same(
        packets: Vec<(u8, u8)>, five: bool, cuts: Vec<usize>
    ) -> bool {
        let version = if five { Version::V5 } else { Version::V311 };
        let bytes: Vec<_> =
            packets.iter().flat_map(|(kind, id)| packet(*kind, *id, version)).collect();
        let whole = run(heap(), version, &bytes, &[]);
        whole == run(heap(), version, &bytes, &[0]) && whole == run(heap(), version, &bytes, &cuts)
    }

    fn borrowed_memory_and_the_heap_do_the_same(packets: Vec<(u8, u8)>, five: bool) -> bool {
        let version = if five { Version::V5 } else { Version::V311 };
        let bytes: Vec<_> =
            packets.iter().flat_map(|(kind, id)| packet(*kind, *id, version)).collect();
        let mut memory = Box::new(Fixed::<4096, 1024, 4, 64, 512>::new());
        let sizes = Sizes { rx: 4096, tx: 1024, aliases: 512 };
        // More identifiers than are used fit into both.
        let borrowed = run(memory.storage(), version, &bytes, &[]);
        borrowed == run(Storage::heap(sizes), version, &bytes, &[])
    }

    fn no_bytes_of_a_server_do_harm(bytes: Vec<u8>, five: bool, cuts: Vec<usize>) -> bool {
        let version = if five { Version::V5 } else { Version::V311 };
        run(heap(), version, &bytes, &[]) == run(heap(), version, &bytes, &cuts)
    }

    fn no_changed_byte_of_a_server_does_harm(
        packets: Vec<(u8, u8)>, five: bool, place: usize, value: u8
    ) -> bool {
        let version = if five { Version::V5 } else { Version::V311 };
        let mut bytes: Vec<_> =
            packets.iter().flat_map(|(kind, id)| packet(*kind, *id, version)).collect();
        if let Some(index) = place.checked_rem(bytes.len()) {
            bytes[index] = value;
        }
        run(heap(), version, &bytes, &[]) == run(heap(), version, &bytes, &[0])
    }
}

#[test]
fn late_calls_are_harmless() {
    let mut client = Client::new(heap(), Options::default());
    let now = fulmar_core::Instant::ZERO;
    assert!(client.recv_buf().is_empty() && client.transmit().is_empty());
    client.received(now, 9);
    client.transmitted(now, 9);
    client.handle_timeout(now);
    client.closed(now);
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.poll_event(), None);
    assert!(!client.wants_close() && !client.is_connected());
}
