//! What is refused, with which reason: bytes of a peer, and packets of the caller.

#[macro_use]
#[path = "../../tests/src/cites.rs"]
pub mod cites;
mod hex;

use fulmar_core::codec::{
    Ack, Auth, Connack, Connect, Disconnect, EncodeError, Filters, Packet, PacketId, Properties,
    Property, PropertyPacket, Publish, Qos, ReasonCode, ReasonCodes, Suback, Subscribe,
    SubscriptionOptions, TopicFilters, Unsuback, Unsubscribe, Version, Will, decode, split,
};

use Version::{V5, V31, V311};
use hex::bytes;

/// Versions, first byte, body, reason code, rule.
type Case = (&'static [Version], &'static str, &'static str, u8, &'static str);

fn check(table: &[Case]) {
    for (versions, first, body, reason, rule) in table {
        let body = bytes(body);
        assert!(body.len() < 128);
        let input = [bytes(first), vec![body.len() as u8], body].concat();
        for version in *versions {
            let (frame, _) = split(&input, 1000).expect("a header").expect("whole");
            let error = match decode(*version, frame) {
                Ok(packet) => panic!("{version:?} {input:02x?} was read as {packet:?}"),
                Err(error) => error,
            };
            let got = (error.reason as u8, error.rule);
            assert_eq!(got, (*reason, *rule), "{version:?} {input:02x?}");
        }
    }
}

const ALL: &[Version] = &[V31, V311, V5];
const OLD: &[Version] = &[V31, V311];
const NEW: &[Version] = &[V5];
const NOT_31: &[Version] = &[V311, V5];

#[test]
fn packet_types_and_flags() {
    check(&[
        (ALL, "00", "", 0x81, "U5-004"),
        (OLD, "f0", "", 0x81, "U5-004"),
        (ALL, "21", "00 00", 0x81, "MQTT-2.1.3-1"),
        (ALL, "42", "00 01", 0x81, "MQTT-2.1.3-1"),
        (ALL, "58", "00 01", 0x81, "MQTT-2.1.3-1"),
        (ALL, "60", "00 01", 0x81, "MQTT-3.6.1-1"),
        (NOT_31, "6a", "00 01", 0x81, "MQTT-3.6.1-1"),
        (ALL, "71", "00 01", 0x81, "MQTT-2.1.3-1"),
        (ALL, "80", "00 01 00 01 'a' 00", 0x81, "MQTT-3.8.1-1"),
        (NOT_31, "8a", "00 01 00 01 'a' 00", 0x81, "MQTT-3.8.1-1"),
        (ALL, "92", "00 01 00", 0x81, "MQTT-2.1.3-1"),
        (ALL, "a3", "00 01 00 01 'a'", 0x81, "MQTT-3.10.1-1"),
        (NOT_31, "aa", "00 01 00 01 'a'", 0x81, "MQTT-3.10.1-1"),
        (ALL, "b4", "00 01", 0x81, "MQTT-2.1.3-1"),
        (ALL, "c1", "", 0x81, "MQTT-2.1.3-1"),
        (ALL, "d8", "", 0x81, "MQTT-2.1.3-1"),
        (ALL, "e2", "", 0x81, "MQTT-3.14.1-1"),
        (NEW, "f1", "00 04 15 00 01 'm'", 0x81, "MQTT-3.15.1-1"),
        (ALL, "12", "00 04 'MQTT' 04 02 00 00 00 00", 0x81, "MQTT-2.1.3-1"),
        (ALL, "c0", "00", 0x81, "U5-001"),
        (ALL, "d0", "00", 0x81, "U5-001"),
        (OLD, "e0", "00", 0x81, "U5-001"),
    ]);
}

#[test]
fn connect() {
    let prefix = "U5-001";
    check(&[
        (ALL, "10", "", 0x81, prefix),
        (ALL, "10", "00 04 'MQT'", 0x81, prefix),
        (ALL, "10", "00 04 'MQTX' 04 02 00 00 00 00", 0x84, "MQTT-3.1.2-1"),
        (ALL, "10", "00 04 'MQTT' 06 02 00 00 00 00", 0x84, "MQTT-3.1.2-2"),
        (ALL, "10", "00 06 'MQIsdp' 04 02 00 00 00 00", 0x84, "MQTT-3.1.2-2"),
        (ALL, "10", "00 04 'MQTT' 04 03 00 00 00 00", 0x81, "MQTT-3.1.2-3"),
        (ALL, "10", "00 04 'MQTT' 05 03 00 00 00 00 00", 0x81, "MQTT-3.1.2-3"),
        (ALL, "10", "00 04 'MQTT' 04 1e 00 00 00 00 00 01 't' 00 00", 0x81, "U5-010"),
        (ALL, "10", "00 04 'MQTT' 05 1e 00 00 00 00 00 00 00 01 't' 00 00", 0x81, "U5-010"),
        (ALL, "10", "00 04 'MQTT' 04 0a 00 00 00 00", 0x81, "MQTT-3.1.2-11"),
        (ALL, "10", "00 04 'MQTT' 04 22 00 00 00 00", 0x81, "MQTT-3.1.2-13"),
        (ALL, "10", "00 04 'MQTT' 04 42 00 00 00 00 00 00", 0x81, "v4:MQTT-3.1.2-22"),
        (ALL, "10", "00 06 'MQIsdp' 03 42 00 00 00 00 00 00", 0x81, "v4:MQTT-3.1.2-22"),
        (ALL, "10", "00 04 'MQTT' 04 82 00 00 00 00", 0x81, prefix),
        (ALL, "10", "00 04 'MQTT' 04 c2 00 00 00 00 00 00", 0x81, prefix),
        // A field that has begun must be whole in 3.1 too.
        (ALL, "10", "00 06 'MQIsdp' 03 82 00 00 00 00 00", 0x81, prefix),
        (ALL, "10", "00 04 'MQTT' 04 02 00 00 00 00 00", 0x81, prefix),
        (ALL, "10", "00 04 'MQTT' 04 02 00 00 00 01 00", 0x81, "MQTT-1.5.4-2"),
        (ALL, "10", "00 04 'MQTT' 04 02 00 00 00 02 ff fe", 0x81, "MQTT-1.5.4-1"),
        (ALL, "10", "00 06 'MQIsdp' 03 02 00 00 00 02 ff fe", 0x81, "MQTT-1.5.4-1"),
        (ALL, "10", "00 04 'MQTT' 04 82 00 00 00 00 00 01 00", 0x81, "MQTT-1.5.4-2"),
        (ALL, "10", "00 04 'MQTT' 04 06 00 00 00 00 00 00 00 00", 0x90, "MQTT-4.7.3-1"),
        (ALL, "10", "00 04 'MQTT' 04 06 00 00 00 00 00 01 '#' 00 00", 0x90, "MQTT-4.7.0-1"),
        (ALL, "10", "00 04 'MQTT' 04 06 00 00 00 00 00 02 '+' 00 00 00", 0x81, "MQTT-1.5.4-2"),
        (ALL, "10", "00 04 'MQTT' 04 06 00 00 00 00 00 01 't' 00 01", 0x81, prefix),
        (ALL, "10", "00 04 'MQTT' 05 02 00 00 02 21 00 00 00", 0x81, prefix),
        (ALL, "10", "00 04 'MQTT' 05 02 00 00 03 21 00 00 00 00", 0x82, "U5-013"),
        (ALL, "10", "00 04 'MQTT' 05 02 00 00 05 27 00 00 00 00 00 00", 0x82, "U5-014"),
        (ALL, "10", "00 04 'MQTT' 05 02 00 00 02 17 02 00 00", 0x82, "U5-017"),
        (ALL, "10", "00 04 'MQTT' 05 02 00 00 02 19 ff 00 00", 0x82, "U5-017"),
        (ALL, "10", "00 04 'MQTT' 05 02 00 00 04 16 00 01 01 00 00", 0x82, "U5-020"),
        (ALL, "10", "00 04 'MQTT' 05 02 00 00 03 13 00 01 00 00", 0x81, "U5-007"),
        (
            ALL,
            "10",
            "00 04 'MQTT' 05 06 00 00 00 00 00 03 23 00 01 00 01 't' 00 00",
            0x81,
            "U5-007",
        ),
    ]);
    // 5.0 wants the shortest length, whatever version was expected.
    let long = bytes("10 8d 00 00 04 'MQTT' 05 02 00 00 00 00 00");
    for version in ALL {
        let (frame, _) = split(&long, 100).expect("legal").expect("whole");
        assert_eq!(decode(*version, frame).expect_err("too long").rule, "MQTT-1.5.5-1");
    }
}

#[test]
fn connack() {
    check(&[
        (NOT_31, "20", "02 00", 0x81, "MQTT-3.2.2-1"),
        (OLD, "20", "00 06", 0x82, "MQTT-3.2.2-8"),
        (NEW, "20", "00 8d 00", 0x82, "MQTT-3.2.2-8"),
        (NEW, "20", "00 03 00", 0x82, "MQTT-3.2.2-8"),
        (&[V311], "20", "01 05", 0x82, "MQTT-3.2.2-6"),
        (NEW, "20", "01 87 00", 0x82, "MQTT-3.2.2-6"),
        (NEW, "20", "00 00", 0x81, "U5-001"),
        (OLD, "20", "00 00 00", 0x81, "U5-001"),
        (NEW, "20", "00 00 02 24 02", 0x82, "U5-028"),
        (NEW, "20", "00 00 02 25 02", 0x82, "U5-017"),
        (NEW, "20", "00 00 04 24 01 24 01", 0x82, "U5-035"),
    ]);
}

#[test]
fn publish() {
    check(&[
        (ALL, "36", "00 01 't' 00 01 00", 0x81, "MQTT-3.3.1-4"),
        (ALL, "3e", "00 01 't' 00 01 00", 0x81, "MQTT-3.3.1-4"),
        (NOT_31, "38", "00 01 't' 00", 0x81, "MQTT-3.3.1-2"),
        (ALL, "30", "", 0x81, "U5-001"),
        (ALL, "30", "00 02 't'", 0x81, "U5-001"),
        (ALL, "32", "00 01 't' 00", 0x81, "U5-001"),
        (ALL, "32", "00 01 't' 00 00 00", 0x82, "MQTT-2.2.1-3"),
        (ALL, "30", "00 01 '#' 00", 0x90, "MQTT-3.3.2-2"),
        (ALL, "30", "00 03 'a/+' 00", 0x90, "MQTT-3.3.2-2"),
        (ALL, "30", "00 03 'a' 00 'b' 00", 0x81, "MQTT-1.5.4-2"),
        // Surrogate, overlong form, beyond the last code point.
        (ALL, "30", "00 03 ed a0 80 00", 0x81, "MQTT-1.5.4-1"),
        (ALL, "30", "00 02 c0 80 00", 0x81, "MQTT-1.5.4-1"),
        (ALL, "30", "00 04 f4 90 80 80 00", 0x81, "MQTT-1.5.4-1"),
        (OLD, "30", "00 00 'x'", 0x81, "MQTT-4.7.3-1"),
        (NEW, "30", "00 00 00 'x'", 0x82, "U5-039"),
        (NEW, "30", "00 00 02 01 01", 0x82, "U5-039"),
        (NEW, "30", "00 01 't' 03 23 00 00", 0x94, "MQTT-3.3.2-8"),
        (NEW, "30", "00 01 't'", 0x81, "U5-001"),
        (NEW, "30", "00 01 't' 05 01 01", 0x81, "U5-001"),
        (NEW, "30", "00 01 't' 80 00", 0x81, "MQTT-1.5.5-1"),
        (NEW, "30", "00 01 't' 80 80 80 80 00", 0x81, "U5-003"),
        (NEW, "30", "00 01 't' 02 01 02", 0x82, "U5-025"),
        (NEW, "30", "00 01 't' 04 01 01 01 01", 0x82, "U5-035"),
        (NEW, "30", "00 01 't' 06 23 00 01 23 00 01", 0x82, "U5-035"),
        (NEW, "30", "00 01 't' 02 0b 00", 0x82, "U5-043"),
        (NEW, "30", "00 01 't' 03 0b 80 00", 0x81, "MQTT-1.5.5-1"),
        (NEW, "30", "00 01 't' 06 0b ff ff ff ff 7f", 0x81, "U5-003"),
        (NEW, "30", "00 01 't' 04 08 00 01 '#'", 0x82, "MQTT-3.3.2-14"),
        (NEW, "30", "00 01 't' 04 03 00 01 ff", 0x81, "MQTT-1.5.4-1"),
        (NEW, "30", "00 01 't' 07 26 00 01 00 00 01 'v'", 0x81, "MQTT-1.5.4-2"),
        (NEW, "30", "00 01 't' 07 26 00 01 'k' 00 01 ff", 0x81, "MQTT-1.5.4-1"),
        (NEW, "30", "00 01 't' 02 00 00", 0x81, "U5-007"),
        (NEW, "30", "00 01 't' 02 80 01", 0x81, "U5-007"),
        (NEW, "30", "00 01 't' 05 18 00 00 00 01", 0x81, "U5-007"),
    ]);
}

#[test]
fn acknowledgements() {
    check(&[
        (ALL, "40", "", 0x81, "U5-001"),
        (ALL, "50", "00", 0x81, "U5-001"),
        (ALL, "40", "00 00", 0x82, "MQTT-2.2.1-3"),
        (ALL, "62", "00 00", 0x82, "MQTT-2.2.1-3"),
        (OLD, "40", "00 01 00", 0x81, "U5-001"),
        (OLD, "62", "00 01 00", 0x81, "U5-001"),
        (NEW, "40", "00 01 92", 0x82, "MQTT-3.4.2-1"),
        (NEW, "40", "00 01 7f", 0x82, "MQTT-3.4.2-1"),
        (NEW, "50", "00 01 01", 0x82, "MQTT-3.5.2-1"),
        (NEW, "62", "00 01 80", 0x82, "MQTT-3.6.2-1"),
        (NEW, "70", "00 01 10", 0x82, "MQTT-3.7.2-1"),
        (NEW, "40", "00 01 00 00 00", 0x81, "U5-001"),
        (NEW, "40", "00 01 00 05 1f 00 01 'x'", 0x81, "U5-001"),
        (NEW, "40", "00 01 00 02 01 01", 0x81, "U5-007"),
        (NEW, "40", "00 01 00 08 1f 00 01 'x' 1f 00 01 'x'", 0x82, "U5-035"),
    ]);
}

#[test]
fn subscribe_and_unsubscribe() {
    check(&[
        (ALL, "82", "00", 0x81, "U5-001"),
        (OLD, "82", "00 00 00 01 'a' 00", 0x82, "MQTT-2.2.1-3"),
        (NEW, "82", "00 00 00 00 01 'a' 00", 0x82, "MQTT-2.2.1-3"),
        (OLD, "82", "00 01", 0x82, "MQTT-3.8.3-2"),
        (NEW, "82", "00 01 00", 0x82, "MQTT-3.8.3-2"),
        (NEW, "82", "00 01", 0x81, "U5-001"),
        (OLD, "82", "00 01 00 01 'a'", 0x81, "U5-001"),
        (OLD, "82", "00 01 00 01 'a' 03", 0x81, "v4:MQTT-3.8.3-4"),
        (OLD, "82", "00 01 00 01 'a' 04", 0x81, "v4:MQTT-3.8.3-4"),
        (NEW, "82", "00 01 00 00 01 'a' 03", 0x82, "U5-055"),
        (NEW, "82", "00 01 00 00 01 'a' 30", 0x82, "U5-056"),
        (NEW, "82", "00 01 00 00 01 'a' 40", 0x81, "MQTT-3.8.3-5"),
        (NEW, "82", "00 01 00 00 01 'a' 80", 0x81, "MQTT-3.8.3-5"),
        // The second of two.
        (NEW, "82", "00 01 00 00 01 'a' 00 00 01 ff 00", 0x81, "MQTT-1.5.4-1"),
        (NEW, "82", "00 01 02 0b 00 00 01 'a' 00", 0x82, "U5-043"),
        (NEW, "82", "00 01 04 0b 01 0b 02 00 01 'a' 00", 0x82, "U5-035"),
        (NEW, "82", "00 01 04 1f 00 01 'x' 00 01 'a' 00", 0x81, "U5-007"),
        (OLD, "a2", "00 00 00 01 'a'", 0x82, "MQTT-2.2.1-3"),
        (OLD, "a2", "00 01", 0x82, "MQTT-3.10.3-2"),
        (NEW, "a2", "00 01 00", 0x82, "MQTT-3.10.3-2"),
        (OLD, "a2", "00 01 00 02 'a'", 0x81, "U5-001"),
        (OLD, "a2", "00 01 00 01 00", 0x81, "MQTT-1.5.4-2"),
    ]);
}

#[test]
fn suback_and_unsuback() {
    check(&[
        (OLD, "90", "00 01", 0x82, "MQTT-3.8.4-6"),
        (NEW, "90", "00 01 00", 0x82, "MQTT-3.8.4-6"),
        (OLD, "90", "00 01 03", 0x82, "MQTT-3.9.3-2"),
        (OLD, "90", "00 01 87", 0x82, "MQTT-3.9.3-2"),
        (NEW, "90", "00 01 00 00 11", 0x82, "MQTT-3.9.3-2"),
        (NEW, "90", "00 01 00 03", 0x82, "MQTT-3.9.3-2"),
        (OLD, "b0", "00 01 00", 0x81, "U5-001"),
        (NEW, "b0", "00 01 00", 0x82, "MQTT-3.11.3-1"),
        (NEW, "b0", "00 01", 0x81, "U5-001"),
        (NEW, "b0", "00 01 00 01", 0x82, "MQTT-3.11.3-2"),
    ]);
}

#[test]
fn disconnect_and_auth() {
    check(&[
        (NEW, "e0", "01", 0x82, "MQTT-3.14.2-1"),
        (NEW, "e0", "92", 0x82, "MQTT-3.14.2-1"),
        (NEW, "e0", "00 00 00", 0x81, "U5-001"),
        (NEW, "e0", "00 0a 11 00 00 00 00 11 00 00 00 00", 0x82, "U5-035"),
        (NEW, "e0", "00 03 21 00 01", 0x81, "U5-007"),
        (NEW, "f0", "", 0x82, "U5-068"),
        (NEW, "f0", "18 00", 0x82, "U5-068"),
        (NEW, "f0", "18", 0x81, "U5-001"),
        (NEW, "f0", "80 04 15 00 01 'm'", 0x82, "MQTT-3.15.2-1"),
        (NEW, "f0", "18 04 16 00 01 'd'", 0x82, "U5-068"),
        (NEW, "f0", "18 08 15 00 01 'm' 15 00 01 'm'", 0x82, "U5-035"),
        (NEW, "f0", "18 04 15 00 01 'm' 00", 0x81, "U5-001"),
    ]);
}

#[test]
fn a_length_in_too_many_bytes_is_malformed_in_5_0_only() {
    cites!("v5:MQTT-1.5.5-1 U311-002");
    for text in ["c0 80 00", "d0 80 80 00", "40 82 00 00 01", "30 83 00 00 01 't'"] {
        let input = bytes(text);
        for version in OLD {
            let (frame, _) = split(&input, 100).expect("legal").expect("whole");
            assert!(decode(*version, frame).is_ok(), "{text}");
        }
        let (frame, _) = split(&input, 100).expect("legal").expect("whole");
        let error = decode(V5, frame).expect_err("not the shortest");
        assert_eq!((error.reason, error.rule), (ReasonCode::MalformedPacket, "MQTT-1.5.5-1"));
    }
}

const NONE: Properties<'_> = Properties::EMPTY;
const INCONSISTENT: Result<u32, EncodeError> = Err(EncodeError::Inconsistent);
const PROPERTY: Result<u32, EncodeError> = Err(EncodeError::Property);

fn id() -> PacketId {
    PacketId::MIN
}

fn connect_of(version: Version) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id: "",
        will: None,
        username: None,
        password: None,
        properties: NONE,
    }
}

#[test]
fn a_connect_that_contradicts_itself_is_not_sent() {
    cites!("v4:MQTT-3.1.2-22 v5:MQTT-4.7.0-1");
    let len = |connect: Connect<'_>| Packet::Connect(connect).encoded_len(connect.version);
    for version in OLD {
        let connect = Connect { password: Some(b"p"), ..connect_of(*version) };
        assert_eq!(len(connect), INCONSISTENT);
        let list = [Property::ReceiveMaximum(1)];
        let connect = Connect { properties: Properties::list(&list), ..connect_of(*version) };
        assert_eq!(len(connect), INCONSISTENT);
    }
    assert_eq!(len(Connect { bridge: true, ..connect_of(V5) }), INCONSISTENT);
    assert_eq!(len(Connect { client_id: "\0", ..connect_of(V5) }), INCONSISTENT);
    assert_eq!(len(Connect { username: Some("\0"), ..connect_of(V5) }), INCONSISTENT);
    let data = [Property::AuthenticationData(b"d")];
    assert_eq!(len(Connect { properties: Properties::list(&data), ..connect_of(V5) }), PROPERTY);
    for topic in ["", "a/#", "+", "a\0"] {
        let will =
            Will { qos: Qos::AtMostOnce, retain: false, topic, payload: b"", properties: NONE };
        assert_eq!(len(Connect { will: Some(will), ..connect_of(V5) }), INCONSISTENT, "{topic}");
    }
    let delay = [Property::WillDelayInterval(1)];
    let properties = Properties::list(&delay);
    let will = Will { qos: Qos::AtMostOnce, retain: false, topic: "t", payload: b"", properties };
    assert!(len(Connect { will: Some(will), ..connect_of(V5) }).is_ok());
    assert_eq!(len(Connect { will: Some(will), ..connect_of(V311) }), INCONSISTENT);
}

#[test]
fn fields_have_at_most_65535_bytes() {
    let long = "x".repeat(65_536);
    let most = &long[1..];
    let too_long = Err(EncodeError::TooLong);
    let len = |connect: Connect<'_>| Packet::Connect(connect).encoded_len(V311);
    assert!(len(Connect { client_id: most, ..connect_of(V311) }).is_ok());
    assert_eq!(len(Connect { client_id: &long, ..connect_of(V311) }), too_long);
    assert_eq!(len(Connect { username: Some(&long), ..connect_of(V311) }), too_long);
    let name = Connect { username: Some("u"), ..connect_of(V311) };
    assert_eq!(len(Connect { password: Some(long.as_bytes()), ..name }), too_long);
    let will = |topic, payload| {
        let will = Will { qos: Qos::AtMostOnce, retain: false, topic, payload, properties: NONE };
        len(Connect { will: Some(will), ..connect_of(V311) })
    };
    assert!(will(most, most.as_bytes()).is_ok());
    assert_eq!(will(&long, b""), too_long);
    assert_eq!(will("t", long.as_bytes()), too_long);
    let publish = |topic, properties| {
        let publish = Publish { topic, properties, ..Publish::default() };
        Packet::Publish(publish).encoded_len(V5)
    };
    assert!(publish(most, NONE).is_ok());
    assert_eq!(publish(&long, NONE), too_long);
    let list = [Property::UserProperty("", &long)];
    assert_eq!(publish("t", Properties::list(&list)), too_long);
    let list = [Property::CorrelationData(long.as_bytes())];
    assert_eq!(publish("t", Properties::list(&list)), too_long);
    let filters = [(&*long, SubscriptionOptions::default())];
    let filters = Filters::list(&filters);
    let subscribe = Subscribe { packet_id: id(), properties: NONE, filters };
    assert_eq!(Packet::Subscribe(subscribe).encoded_len(V5), too_long);
    let filters = [&*long];
    let filters = TopicFilters::list(&filters);
    let unsubscribe = Unsubscribe { packet_id: id(), properties: NONE, filters };
    assert_eq!(Packet::Unsubscribe(unsubscribe).encoded_len(V5), too_long);
}

#[test]
fn a_packet_has_at_most_268435455_bytes_after_its_header() {
    let payload = vec![0; 268_435_455 - 2];
    let publish = Publish { topic: "t", payload: &payload[1..], ..Publish::default() };
    assert_eq!(Packet::Publish(publish).encoded_len(V311), Ok(268_435_455 + 5));
    let publish = Publish { payload: &payload, ..publish };
    assert_eq!(Packet::Publish(publish).encoded_len(V311), Err(EncodeError::TooLong));
    let text = "x".repeat(65_535);
    let list = vec![Property::UserProperty(&text, &text); 2049];
    let properties = Properties::list(&list);
    let publish = Publish { topic: "t", properties, ..Publish::default() };
    assert_eq!(Packet::Publish(publish).encoded_len(V5), Err(EncodeError::TooLong));
}

#[test]
fn a_publish_that_contradicts_itself_is_not_sent() {
    let plain = Publish { topic: "t", ..Publish::default() };
    let len = |publish, version| Packet::Publish(publish).encoded_len(version);
    let expiry = [Property::MessageExpiryInterval(1)];
    for version in ALL {
        assert_eq!(len(Publish { packet_id: Some(id()), ..plain }, *version), INCONSISTENT);
        assert_eq!(len(Publish { qos: Qos::AtLeastOnce, ..plain }, *version), INCONSISTENT);
        assert_eq!(len(Publish { dup: true, ..plain }, *version), INCONSISTENT);
        for topic in ["", "a/+", "#", "a\0"] {
            assert_eq!(len(Publish { topic, ..plain }, *version), INCONSISTENT, "{topic}");
        }
        let with = Publish { properties: Properties::list(&expiry), ..plain };
        assert_eq!(len(with, *version).is_ok(), *version == V5);
    }
    let alias = [Property::TopicAlias(1)];
    let aliased = Publish { properties: Properties::list(&alias), topic: "", ..plain };
    assert!(len(aliased, V5).is_ok());
    assert_eq!(len(aliased, V311), INCONSISTENT);
}

#[test]
fn properties_that_are_not_legal_are_not_sent() {
    let lists: [&[Property<'_>]; 13] = [
        &[Property::PayloadFormatIndicator(2)],
        &[Property::SubscriptionIdentifier(0)],
        &[Property::SubscriptionIdentifier(268_435_456)],
        &[Property::TopicAlias(0)],
        &[Property::ResponseTopic("a/#")],
        &[Property::ResponseTopic("\0")],
        &[Property::ContentType("\0")],
        &[Property::UserProperty("\0", "")],
        &[Property::UserProperty("", "\0")],
        &[Property::TopicAlias(1), Property::TopicAlias(1)],
        &[Property::WillDelayInterval(1)],
        &[Property::ReasonString("")],
        &[Property::MaximumQos(1)],
    ];
    for list in lists {
        let properties = Properties::list(list);
        let publish = Publish { topic: "t", properties, ..Publish::default() };
        assert_eq!(Packet::Publish(publish).encoded_len(V5), PROPERTY, "{list:?}");
    }
    let lists: [&[Property<'_>]; 5] = [
        &[Property::MaximumQos(2)],
        &[Property::ReceiveMaximum(0)],
        &[Property::MaximumPacketSize(0)],
        &[Property::ReasonString("a\0")],
        &[Property::ReasonString("a"), Property::ReasonString("a")],
    ];
    for list in lists {
        let properties = Properties::list(list);
        let reason = ReasonCode::Success;
        let connack = Packet::Connack(Connack { session_present: false, reason, properties });
        assert_eq!(connack.encoded_len(V5), PROPERTY, "{list:?}");
    }
}

#[test]
fn properties_read_from_one_packet_are_checked_for_another() {
    let delay = [0x18, 0, 0, 0, 5];
    let properties = Properties::from_wire(PropertyPacket::Will, &delay).expect("legal");
    let publish = Publish { topic: "t", properties, ..Publish::default() };
    assert_eq!(Packet::Publish(publish).encoded_len(V5), PROPERTY);
    let expiry = [2, 0, 0, 0, 5];
    let properties = Properties::from_wire(PropertyPacket::Will, &expiry).expect("legal");
    let publish = Publish { topic: "t", properties, ..Publish::default() };
    assert_eq!(Packet::Publish(publish).encoded_len(V5), Ok(2 + 3 + 1 + 5));
    let twice = [0x0b, 1, 0x0b, 2];
    let properties = Properties::from_wire(PropertyPacket::Publish, &twice).expect("legal");
    let filters = [("t", SubscriptionOptions::default())];
    let filters = Filters::list(&filters);
    let subscribe = Subscribe { packet_id: id(), properties, filters };
    assert_eq!(Packet::Subscribe(subscribe).encoded_len(V5), PROPERTY);
}

#[test]
fn reason_codes_stay_in_their_packets() {
    cites!(
        "v5:MQTT-3.2.2-6 v5:MQTT-3.2.2-8 v5:MQTT-3.4.2-1 v5:MQTT-3.5.2-1 v5:MQTT-3.6.2-1
         v5:MQTT-3.7.2-1 v5:MQTT-3.14.2-1 v4:MQTT-3.2.2-4"
    );
    let ack = |reason| Ack { packet_id: id(), reason, properties: NONE };
    let packets = [
        Packet::Puback(ack(ReasonCode::PacketIdentifierNotFound)),
        Packet::Pubrec(ack(ReasonCode::GrantedQos1)),
        Packet::Pubrel(ack(ReasonCode::UnspecifiedError)),
        Packet::Pubcomp(ack(ReasonCode::NoMatchingSubscribers)),
        Packet::Disconnect(Disconnect { reason: ReasonCode::GrantedQos2, properties: NONE }),
        Packet::Connack(Connack {
            session_present: false,
            reason: ReasonCode::KeepAliveTimeout,
            properties: NONE,
        }),
    ];
    for packet in packets {
        assert_eq!(packet.encoded_len(V5), INCONSISTENT, "{packet:?}");
    }
    let session_present = true;
    let refused = Connack { session_present, reason: ReasonCode::ServerBusy, properties: NONE };
    assert_eq!(Packet::Connack(refused).encoded_len(V5), INCONSISTENT);
    // 3.1 has no Session Present.
    let accepted = Connack { reason: ReasonCode::Success, ..refused };
    assert_eq!(Packet::Connack(accepted).encoded_len(V31), INCONSISTENT);
    assert_eq!(Packet::Connack(accepted).encoded_len(V311), Ok(4));
}

#[test]
fn lists_are_checked_before_they_are_sent() {
    let subscribe = |filters: &[(&str, SubscriptionOptions)], version| {
        let filters = Filters::list(filters);
        Packet::Subscribe(Subscribe { packet_id: id(), properties: NONE, filters })
            .encoded_len(version)
    };
    let options = SubscriptionOptions::default();
    let no_local = SubscriptionOptions { no_local: true, ..options };
    assert_eq!(subscribe(&[], V311), INCONSISTENT);
    assert_eq!(subscribe(&[("a\0", options)], V5), INCONSISTENT);
    assert_eq!(subscribe(&[("a", no_local)], V311), INCONSISTENT);
    assert!(subscribe(&[("a", no_local)], V5).is_ok());
    // [MQTT-3.8.3-4]
    assert_eq!(subscribe(&[("$share/g/a", no_local)], V5), INCONSISTENT);
    let unsubscribe = |filters: &[&str]| {
        let filters = TopicFilters::list(filters);
        Packet::Unsubscribe(Unsubscribe { packet_id: id(), properties: NONE, filters })
            .encoded_len(V5)
    };
    assert_eq!(unsubscribe(&[]), INCONSISTENT);
    assert_eq!(unsubscribe(&["a", "\0"]), INCONSISTENT);
    let suback = |reasons: &[ReasonCode], version| {
        let reasons = ReasonCodes::list(reasons);
        Packet::Suback(Suback { packet_id: id(), properties: NONE, reasons }).encoded_len(version)
    };
    assert_eq!(suback(&[], V5), INCONSISTENT);
    assert_eq!(suback(&[ReasonCode::NoSubscriptionExisted], V5), INCONSISTENT);
    // 3.1 cannot say that a subscription failed.
    assert_eq!(suback(&[ReasonCode::NotAuthorized], V31), INCONSISTENT);
    let unsuback = |reasons: &[ReasonCode], version| {
        let reasons = ReasonCodes::list(reasons);
        Packet::Unsuback(Unsuback { packet_id: id(), properties: NONE, reasons })
            .encoded_len(version)
    };
    assert_eq!(unsuback(&[], V5), INCONSISTENT);
    assert_eq!(unsuback(&[ReasonCode::Success], V311), INCONSISTENT);
    assert_eq!(unsuback(&[ReasonCode::GrantedQos1], V5), INCONSISTENT);
}

#[test]
fn auth_needs_5_0_and_a_method() {
    let method = [Property::AuthenticationMethod("m")];
    let auth = |reason, list| Packet::Auth(Auth { reason, properties: Properties::list(list) });
    let proceed = ReasonCode::ContinueAuthentication;
    assert!(auth(proceed, &method).encoded_len(V5).is_ok());
    assert_eq!(auth(proceed, &method).encoded_len(V311), INCONSISTENT);
    assert_eq!(auth(proceed, &[]).encoded_len(V5), INCONSISTENT);
    assert_eq!(auth(ReasonCode::NotAuthorized, &method).encoded_len(V5), INCONSISTENT);
}
