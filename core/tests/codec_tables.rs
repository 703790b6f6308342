//! The tables of the standard, written down a second time, against what the codec does.

#[macro_use]
#[path = "../../tests/src/cites.rs"]
pub mod cites;

use fulmar_core::ReasonCode;
use fulmar_core::codec::{Properties, Property, PropertyId, PropertyPacket};

/// Value, name, packet types that may carry it, whether a client's DISCONNECT may.
const REASONS: &[(u8, &str, &[u8], bool)] = &[
    (0x00, "Success", &[2, 4, 5, 6, 7, 9, 11, 14, 15], true),
    (0x01, "Granted QoS 1", &[9], false),
    (0x02, "Granted QoS 2", &[9], false),
    (0x04, "Disconnect with Will Message", &[14], true),
    (0x10, "No matching subscribers", &[4, 5], false),
    (0x11, "No subscription existed", &[11], false),
    (0x18, "Continue authentication", &[15], false),
    (0x19, "Re-authenticate", &[15], false),
    (0x80, "Unspecified error", &[2, 4, 5, 9, 11, 14], true),
    (0x81, "Malformed Packet", &[2, 14], true),
    (0x82, "Protocol Error", &[2, 14], true),
    (0x83, "Implementation specific error", &[2, 4, 5, 9, 11, 14], true),
    (0x84, "Unsupported Protocol Version", &[2], false),
    (0x85, "Client Identifier not valid", &[2], false),
    (0x86, "Bad User Name or Password", &[2], false),
    (0x87, "Not authorized", &[2, 4, 5, 9, 11, 14], false),
    (0x88, "Server unavailable", &[2], false),
    (0x89, "Server busy", &[2, 14], false),
    (0x8a, "Banned", &[2], false),
    (0x8b, "Server shutting down", &[14], false),
    (0x8c, "Bad authentication method", &[2, 14], false),
    (0x8d, "Keep Alive timeout", &[14], false),
    (0x8e, "Session taken over", &[14], false),
    (0x8f, "Topic Filter invalid", &[9, 11, 14], false),
    (0x90, "Topic Name invalid", &[2, 4, 5, 14], true),
    (0x91, "Packet Identifier in use", &[4, 5, 9, 11], false),
    (0x92, "Packet Identifier not found", &[6, 7], false),
    (0x93, "Receive Maximum exceeded", &[14], true),
    (0x94, "Topic Alias invalid", &[14], true),
    (0x95, "Packet too large", &[2, 14], true),
    (0x96, "Message rate too high", &[14], true),
    (0x97, "Quota exceeded", &[2, 4, 5, 9, 14], true),
    (0x98, "Administrative action", &[14], true),
    (0x99, "Payload format invalid", &[2, 4, 5, 14], true),
    (0x9a, "Retain not supported", &[2, 14], false),
    (0x9b, "QoS not supported", &[2, 14], false),
    (0x9c, "Use another server", &[2, 14], false),
    (0x9d, "Server moved", &[2, 14], false),
    (0x9e, "Shared Subscriptions not supported", &[9, 14], false),
    (0x9f, "Connection rate exceeded", &[2, 14], false),
    (0xa0, "Maximum connect time", &[14], false),
    (0xa1, "Subscription Identifiers not supported", &[9, 14], false),
    (0xa2, "Wildcard Subscriptions not supported", &[9, 14], false),
];

/// Identifier, a legal value in hexadecimal, packets that may carry it.
const PROPERTIES: &[(u8, &str, &str)] = &[
    (0x01, "01", "Publish Will"),
    (0x02, "00000001", "Publish Will"),
    (0x03, "000161", "Publish Will"),
    (0x08, "000161", "Publish Will"),
    (0x09, "000161", "Publish Will"),
    (0x0b, "01", "Publish Subscribe"),
    (0x11, "00000001", "Connect Connack Disconnect"),
    (0x12, "000161", "Connack"),
    (0x13, "0001", "Connack"),
    (0x15, "000161", "Connect Connack Auth"),
    (0x16, "000161", "Connect Connack Auth"),
    (0x17, "01", "Connect"),
    (0x18, "00000001", "Will"),
    (0x19, "01", "Connect"),
    (0x1a, "000161", "Connack"),
    (0x1c, "000161", "Connack Disconnect"),
    (0x1f, "000161", "Connack Ack Suback Unsuback Disconnect Auth"),
    (0x21, "0001", "Connect Connack"),
    (0x22, "0001", "Connect Connack"),
    (0x23, "0001", "Publish"),
    (0x24, "01", "Connack"),
    (0x25, "01", "Connack"),
    (
        0x26,
        "000161000162",
        "Connect Connack Publish Will Ack Subscribe Suback Unsubscribe Unsuback Disconnect Auth",
    ),
    (0x27, "00000001", "Connect Connack"),
    (0x28, "01", "Connack"),
    (0x29, "01", "Connack"),
    (0x2a, "01", "Connack"),
];

const PACKETS: [PropertyPacket; 11] = [
    PropertyPacket::Connect,
    PropertyPacket::Connack,
    PropertyPacket::Publish,
    PropertyPacket::Will,
    PropertyPacket::Ack,
    PropertyPacket::Subscribe,
    PropertyPacket::Suback,
    PropertyPacket::Unsubscribe,
    PropertyPacket::Unsuback,
    PropertyPacket::Disconnect,
    PropertyPacket::Auth,
];

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn reason_codes_are_those_of_the_standard() {
    cites!(
        "v5:MQTT-3.2.2-8 v5:MQTT-3.4.2-1 v5:MQTT-3.5.2-1 v5:MQTT-3.6.2-1 v5:MQTT-3.7.2-1
         v5:MQTT-3.9.3-2 v5:MQTT-3.11.3-2 v5:MQTT-3.14.2-1 v5:MQTT-3.15.2-1"
    );
    for value in 0..=255 {
        let row = REASONS.iter().find(|row| row.0 == value);
        let code = ReasonCode::from_u8(value);
        assert_eq!(code.is_some(), row.is_some(), "{value:#04x}");
        let (Some(code), Some((_, name, packets, client))) = (code, row) else { continue };
        assert_eq!((code as u8, code.to_string().as_str()), (value, *name));
        assert_eq!(code.is_error(), value >= 0x80);
        assert_eq!(code.allowed_in_connack(), packets.contains(&2), "{name}");
        // The one code that is accepted although only one of two tables of the standard has it.
        assert_eq!(code.sent_by_client(), *client || value == 0x8c, "{name}");
        for packet in 0..=16 {
            assert_eq!(code.allowed_in(packet), packets.contains(&packet), "{name} {packet}");
        }
    }
    assert_eq!(ReasonCode::ALL.len(), REASONS.len());
    assert!(ReasonCode::ALL.is_sorted());
}

#[test]
fn properties_are_in_the_packets_of_the_standard_once_or_more_often() {
    cites!("U5-007 U5-035");
    assert_eq!(PROPERTIES.len(), 27);
    assert_eq!(PropertyId::ALL.len(), 27);
    for value in 0..=255 {
        let row = PROPERTIES.iter().find(|row| row.0 == value);
        let id = PropertyId::from_u8(value);
        assert_eq!(id.is_some(), row.is_some(), "{value:#04x}");
        for packet in PACKETS {
            let bytes = [vec![value], hex(row.map_or("01", |row| row.1))].concat();
            let name = format!("{packet:?}");
            let allowed = row.is_some_and(|row| row.2.split(' ').any(|place| place == name));
            assert_eq!(id.is_some_and(|id| id.allowed_in(packet)), allowed, "{id:?} {name}");
            let mut bytes_there = bytes.clone();
            if (value, packet) == (0x16, PropertyPacket::Connect) {
                // Authentication Data does not come alone here.
                bytes_there.extend([0x15, 0, 1, b'm']);
            }
            let read = Properties::from_wire(packet, &bytes_there);
            if !allowed {
                assert_eq!(read.map_err(|error| error.rule), Err("U5-007"), "{value:#04x} {name}");
                continue;
            }
            let read = read.unwrap_or_else(|error| panic!("{id:?} {name} {error}"));
            assert_eq!(read.iter().next().map(|property| property.id()), id);
            let twice = [bytes_there, bytes].concat();
            let twice = Properties::from_wire(packet, &twice);
            let repeats = value == 0x26 || (value, packet) == (0x0b, PropertyPacket::Publish);
            match twice {
                Ok(both) => assert!(repeats && both.iter().count() == 2, "{id:?} {name}"),
                Err(error) => {
                    assert!(!repeats, "{id:?} {name}");
                    assert_eq!(error.reason, ReasonCode::ProtocolError);
                }
            }
        }
    }
}

#[test]
fn properties_cut_short_are_malformed() {
    for (id, value, places) in PROPERTIES {
        let bytes = [vec![*id], hex(value)].concat();
        let packet = PACKETS.into_iter().find(|packet| {
            let name = format!("{packet:?}");
            places.split(' ').any(|place| place == name)
        });
        let packet = packet.expect("each is in some packet");
        for len in 1..bytes.len() {
            let error = Properties::from_wire(packet, &bytes[..len]).expect_err("too short");
            assert_eq!(error.reason, ReasonCode::MalformedPacket, "{id:#04x} of {len} bytes");
        }
    }
}

#[test]
fn properties_have_the_same_bytes_as_a_list_and_from_the_wire() {
    let list = [
        Property::UserProperty("b", "1"),
        Property::SubscriptionIdentifier(268_435_455),
        Property::UserProperty("a", ""),
        Property::CorrelationData(&[0, 0xff]),
        Property::UserProperty("b", "1"),
    ];
    let given = Properties::list(&list);
    let mut bytes = [0; 64];
    let len = given.write(&mut bytes);
    assert_eq!(len, given.wire_len());
    assert_eq!(len, list.iter().map(Property::wire_len).sum());
    let read = Properties::from_wire(PropertyPacket::Publish, &bytes[..len]).expect("legal");
    assert_eq!(read, given);
    assert_eq!(read.iter().collect::<Vec<_>>(), list);
    assert_eq!((read.wire(), given.wire()), (Some(&bytes[..len]), None));
    assert_eq!(read.wire_len(), len);
    let mut again = [0; 64];
    assert_eq!(read.write(&mut again), len);
    assert_eq!(again, bytes);
    assert_eq!(read.find(PropertyId::UserProperty), Some(list[0]));
    assert_eq!(read.find(PropertyId::ContentType), None);
    assert!(Properties::EMPTY.is_empty() && !read.is_empty() && !given.is_empty());
    assert_eq!(Properties::EMPTY, Properties::list(&[]));
    assert_ne!(Properties::EMPTY, read);
}

#[test]
fn a_value_too_long_to_be_sent_is_not_written() {
    let long = "x".repeat(65_536);
    let property = Property::ContentType(&long);
    assert_eq!(property.wire_len(), 0);
    assert_eq!(property.write(&mut []), 0);
    let fits = Property::ContentType(&long[1..]);
    assert_eq!(fits.wire_len(), 3 + 65_535);
}
