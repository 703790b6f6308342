//! Packets with their exact bytes, as the standard gives or implies them.

#[macro_use]
#[path = "../../tests/src/cites.rs"]
pub mod cites;
mod hex;

use fulmar_core::codec::{
    Ack, Auth, Connack, Connect, Disconnect, Filters, Level, Packet, PacketId, Properties,
    Property, Publish, Qos, ReasonCode, ReasonCodes, RetainHandling, Suback, Subscribe,
    SubscriptionOptions, TopicFilters, Unsuback, Unsubscribe, Version, Will, decode, header, level,
    split,
};

use Version::{V5, V31, V311};
use hex::bytes;

const NONE: Properties<'_> = Properties::EMPTY;

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn read(version: Version, bytes: &[u8]) -> Packet<'_> {
    let (frame, used) = split(bytes, u32::MAX).expect("a header").expect("a whole packet");
    assert_eq!(used, bytes.len());
    decode(version, frame).unwrap_or_else(|error| panic!("{bytes:02x?}: {error}"))
}

/// The bytes are what the packet is sent as, and are read as the packet.
fn both(version: Version, text: &str, packet: &Packet<'_>) {
    let expected = bytes(text);
    let len = packet.encoded_len(version).expect("can be sent");
    let mut written = vec![0; len as usize];
    packet.encode(version, &mut written);
    assert_eq!(written, expected, "{packet:?}");
    assert_eq!(read(version, &expected), *packet);
}

/// The bytes are read as the packet, though we would write others.
fn reads(version: Version, text: &str, packet: &Packet<'_>) {
    assert_eq!(read(version, &bytes(text)), *packet);
}

fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive: 10,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: NONE,
    }
}

#[test]
fn connect_of_every_version() {
    let plain = |version| Packet::Connect(connect(version));
    both(V31, "10 0f 00 06 'MQIsdp' 03 02 00 0a 00 01 'c'", &plain(V31));
    both(V311, "10 0d 00 04 'MQTT' 04 02 00 0a 00 01 'c'", &plain(V311));
    both(V5, "10 0e 00 04 'MQTT' 05 02 00 0a 00 00 01 'c'", &plain(V5));
    // Flags of the standard's own example.
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: "t",
        payload: &[0, 0xff],
        properties: NONE,
    };
    let full =
        Connect { will: Some(will), username: Some("u"), password: Some(&[0xfe]), ..connect(V311) };
    let text = "10 1a 00 04 'MQTT' 04 ce 00 0a 00 01 'c' 00 01 't' 00 02 00 ff 00 01 'u' 00 01 fe";
    both(V311, text, &Packet::Connect(full));
}

#[test]
fn connect_of_5_0_has_two_blocks_of_properties() {
    let will = Will {
        qos: Qos::ExactlyOnce,
        retain: true,
        topic: "t",
        payload: b"",
        properties: Properties::list(&[Property::WillDelayInterval(5)]),
    };
    let properties = [
        Property::SessionExpiryInterval(u32::MAX),
        Property::ReceiveMaximum(20),
        Property::UserProperty("k", "v"),
    ];
    let packet = Packet::Connect(Connect {
        clean_start: false,
        keep_alive: 0,
        client_id: "",
        will: Some(will),
        // Without a user name. [U5-011]
        password: Some(b""),
        properties: Properties::list(&properties),
        ..connect(V5)
    });
    let text = "10 29 00 04 'MQTT' 05 74 00 00 0f 11 ff ff ff ff 21 00 14 26 00 01 'k' 00 01 'v' \
                00 00 05 18 00 00 00 05 00 01 't' 00 00 00 00";
    both(V5, text, &packet);
}

#[test]
fn the_version_asked_for_does_not_matter_to_connect() {
    let text = "10 0d 00 04 'MQTT' 04 02 00 0a 00 01 'c'";
    for version in [V31, V311, V5] {
        reads(version, text, &Packet::Connect(connect(V311)));
        // A length in more bytes than needed is wrong in 5.0 only.
        reads(version, &text.replace("10 0d", "10 8d 00"), &Packet::Connect(connect(V311)));
    }
}

#[test]
fn connect_of_3_1_may_be_untidy() {
    let plain = Packet::Connect(connect(V31));
    let named = Packet::Connect(Connect { username: Some("u"), ..connect(V31) });
    // Flags of the fixed header, the reserved bit, fields left out at the end.
    reads(V31, "1e 0f 00 06 'MQIsdp' 03 02 00 0a 00 01 'c'", &plain);
    reads(V31, "10 0f 00 06 'MQIsdp' 03 03 00 0a 00 01 'c'", &plain);
    reads(V31, "10 0f 00 06 'MQIsdp' 03 82 00 0a 00 01 'c'", &plain);
    reads(V31, "10 0f 00 06 'MQIsdp' 03 c2 00 0a 00 01 'c'", &plain);
    reads(V31, "10 12 00 06 'MQIsdp' 03 c2 00 0a 00 01 'c' 00 01 'u'", &named);
}

#[test]
fn the_bridge_bit_belongs_to_old_versions() {
    let bridge = |version| Packet::Connect(Connect { bridge: true, ..connect(version) });
    both(V31, "10 0f 00 06 'MQIsdp' 83 02 00 0a 00 01 'c'", &bridge(V31));
    both(V311, "10 0d 00 04 'MQTT' 84 02 00 0a 00 01 'c'", &bridge(V311));
    let text = "10 0e 00 04 'MQTT' 85 02 00 0a 00 00 01 'c'";
    reads(V5, text, &Packet::Connect(connect(V5)));
}

#[test]
fn name_and_level_decide_what_is_answered() {
    cites!("v5:MQTT-3.1.2-1 v5:MQTT-3.1.2-2 v4:MQTT-3.1.2-1 v4:MQTT-3.1.2-2 U31-001");
    let supported = |version, bridge| Ok(Level::Supported { version, bridge });
    let table = [
        ("00 06 'MQIsdp' 03", supported(V31, false)),
        ("00 06 'MQIsdp' 83", supported(V31, true)),
        ("00 04 'MQTT' 04", supported(V311, false)),
        ("00 04 'MQTT' 84", supported(V311, true)),
        ("00 04 'MQTT' 05", supported(V5, false)),
        ("00 04 'MQTT' 85", supported(V5, false)),
        ("00 06 'MQIsdp' 04", Ok(Level::RefusedV3)),
        ("00 06 'MQIsdp' 05", Ok(Level::RefusedV3)),
        ("00 04 'MQTT' 03", Ok(Level::RefusedV3)),
        ("00 04 'MQTT' 83", Ok(Level::RefusedV3)),
        ("00 04 'MQTT' 02", Ok(Level::RefusedV5)),
        ("00 04 'MQTT' 00", Ok(Level::RefusedV5)),
        ("00 04 'MQTT' 06", Ok(Level::RefusedV5)),
        ("00 04 'MQTT' ff", Ok(Level::RefusedV5)),
        ("00 04 'mqtt' 04", Err("MQTT-3.1.2-1")),
        ("00 05 'MQTTX' 04", Err("MQTT-3.1.2-1")),
        ("00 00 04", Err("MQTT-3.1.2-1")),
        ("00 04 'MQTT'", Err("U5-001")),
        ("00 04 'MQT'", Err("U5-001")),
        ("00", Err("U5-001")),
        ("", Err("U5-001")),
    ];
    for (text, expected) in table {
        assert_eq!(level(&bytes(text)).map_err(|error| error.rule), expected, "{text}");
    }
}

#[test]
fn connack() {
    let of = |session_present, reason| {
        Packet::Connack(Connack { session_present, reason, properties: NONE })
    };
    both(V31, "20 02 00 00", &of(false, ReasonCode::Success));
    reads(V31, "20 02 01 00", &of(false, ReasonCode::Success));
    both(V311, "20 02 01 00", &of(true, ReasonCode::Success));
    both(V5, "20 03 01 00 00", &of(true, ReasonCode::Success));
    both(V5, "20 03 00 87 00", &of(false, ReasonCode::NotAuthorized));
    let properties =
        [Property::MaximumQos(1), Property::RetainAvailable(false), Property::ReasonString("no")];
    let packet = Packet::Connack(Connack {
        session_present: false,
        reason: ReasonCode::QosNotSupported,
        properties: Properties::list(&properties),
    });
    both(V5, "20 0c 00 9b 09 24 01 25 00 1f 00 02 'no'", &packet);
}

#[test]
fn return_codes_of_old_versions() {
    use ReasonCode as R;
    let sent = [
        (R::Success, 0),
        (R::UnsupportedProtocolVersion, 1),
        (R::ClientIdentifierNotValid, 2),
        (R::ServerUnavailable, 3),
        (R::ServerBusy, 3),
        (R::QuotaExceeded, 3),
        (R::ConnectionRateExceeded, 3),
        (R::BadUserNameOrPassword, 4),
        (R::NotAuthorized, 5),
        (R::Banned, 5),
    ];
    for (reason, code) in sent {
        let packet = Packet::Connack(Connack { session_present: false, reason, properties: NONE });
        let mut out = [0; 4];
        assert_eq!(packet.encoded_len(V311), Ok(4));
        packet.encode(V311, &mut out);
        assert_eq!(out, [0x20, 2, 0, code], "{reason}");
        let back = R::from_return_code(code).expect("known");
        let read_back =
            Packet::Connack(Connack { session_present: false, reason: back, properties: NONE });
        assert_eq!(read(V311, &out), read_back);
    }
}

#[test]
fn publish() {
    let plain = Publish { topic: "a/b", payload: b"hi", ..Publish::default() };
    let first = Publish { qos: Qos::AtLeastOnce, packet_id: Some(id(10)), ..plain };
    let again = Publish { dup: true, qos: Qos::ExactlyOnce, retain: true, ..first };
    for version in [V31, V311] {
        both(version, "30 07 00 03 'a/b' 'hi'", &Packet::Publish(plain));
        both(version, "32 09 00 03 'a/b' 00 0a 'hi'", &Packet::Publish(first));
        both(version, "3d 09 00 03 'a/b' 00 0a 'hi'", &Packet::Publish(again));
    }
    both(V5, "30 08 00 03 'a/b' 00 'hi'", &Packet::Publish(plain));
    both(V5, "3d 0a 00 03 'a/b' 00 0a 00 'hi'", &Packet::Publish(again));
    let empty = Publish { topic: "t", retain: true, ..Publish::default() };
    both(V311, "31 03 00 01 't'", &Packet::Publish(empty));
    // A repeat of what is never repeated was not ruled out in 3.1.
    reads(V31, "38 07 00 03 'a/b' 'hi'", &Packet::Publish(plain));
}

#[test]
fn publish_with_properties() {
    let alias = [Property::TopicAlias(1)];
    let aliased = Publish { properties: Properties::list(&alias), ..Publish::default() };
    both(V5, "30 06 00 00 03 23 00 01", &Packet::Publish(aliased));
    let list = [
        Property::PayloadFormatIndicator(1),
        Property::MessageExpiryInterval(60),
        Property::SubscriptionIdentifier(128),
        Property::SubscriptionIdentifier(128),
        Property::CorrelationData(&[0]),
        Property::ResponseTopic("r"),
        Property::UserProperty("", ""),
    ];
    let packet = Publish {
        topic: "t",
        properties: Properties::list(&list),
        payload: &[0],
        ..Publish::default()
    };
    let text = "30 1f 00 01 't' 1a 01 01 02 00 00 00 3c 0b 80 01 0b 80 01 09 00 01 00 \
                08 00 01 'r' 26 00 00 00 00 00";
    both(V5, text, &Packet::Publish(packet));
}

#[test]
fn strings_are_utf_8() {
    cites!("v5:MQTT-1.5.4-3 v4:MQTT-1.5.3-3 U5-002");
    // The example of the standard: U+2A6D4. A byte order mark is kept. [MQTT-1.5.4-3]
    let topic = "A\u{2a6d4}\u{feff}";
    let packet = Publish { topic, ..Publish::default() };
    both(V311, "30 0a 00 08 41 f0 aa 9b 94 ef bb bf", &Packet::Publish(packet));
    // Control characters and non-characters may be refused, and are not. [U5-002]
    let topic = "\u{1}\u{7f}\u{ffff}";
    let packet = Publish { topic, ..Publish::default() };
    both(V311, "30 07 00 05 01 7f ef bf bf", &Packet::Publish(packet));
}

#[test]
fn acknowledgements_take_the_shortest_form() {
    cites!("U5-050");
    type Kind = fn(Ack<'static>) -> Packet<'static>;
    let kinds: [(u8, Kind, ReasonCode); 4] = [
        (0x40, Packet::Puback, ReasonCode::QuotaExceeded),
        (0x50, Packet::Pubrec, ReasonCode::QuotaExceeded),
        (0x62, Packet::Pubrel, ReasonCode::PacketIdentifierNotFound),
        (0x70, Packet::Pubcomp, ReasonCode::PacketIdentifierNotFound),
    ];
    for (first, packet, reason) in kinds {
        let ok = Ack { packet_id: id(0x1234), reason: ReasonCode::Success, properties: NONE };
        for version in [V31, V311, V5] {
            both(version, &format!("{first:02x} 02 12 34"), &packet(ok));
        }
        let code = reason as u8;
        let failed = Ack { reason, ..ok };
        both(V5, &format!("{first:02x} 03 12 34 {code:02x}"), &packet(failed));
        let said = Ack { properties: Properties::list(&[Property::ReasonString("x")]), ..ok };
        both(V5, &format!("{first:02x} 08 12 34 00 04 1f 00 01 'x'"), &packet(said));
        // The long forms are read as well.
        reads(V5, &format!("{first:02x} 03 12 34 00"), &packet(ok));
        reads(V5, &format!("{first:02x} 04 12 34 00 00"), &packet(ok));
        reads(V5, &format!("{first:02x} 04 12 34 {code:02x} 00"), &packet(failed));
        // An old version has no room for a reason.
        let mut out = [0; 4];
        assert_eq!(packet(failed).encoded_len(V311), Ok(4));
        packet(failed).encode(V311, &mut out);
        assert_eq!(out, [first, 2, 0x12, 0x34]);
    }
    let ok = Ack { packet_id: id(1), reason: ReasonCode::Success, properties: NONE };
    reads(V31, "6a 02 00 01", &Packet::Pubrel(ok));
}

#[test]
fn subscribe_and_suback() {
    let options = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let filters = [("a/b", options(Qos::AtLeastOnce)), ("c/d", options(Qos::ExactlyOnce))];
    let packet = Packet::Subscribe(Subscribe {
        packet_id: id(10),
        properties: NONE,
        filters: Filters::list(&filters),
    });
    both(V31, "82 0e 00 0a 00 03 'a/b' 01 00 03 'c/d' 02", &packet);
    both(V311, "82 0e 00 0a 00 03 'a/b' 01 00 03 'c/d' 02", &packet);
    both(V5, "82 0f 00 0a 00 00 03 'a/b' 01 00 03 'c/d' 02", &packet);
    reads(V31, "8a 0e 00 0a 00 03 'a/b' 01 00 03 'c/d' 02", &packet);
    let all = SubscriptionOptions {
        qos: Qos::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let some = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..SubscriptionOptions::default()
    };
    let filters = [("#", all), ("#", some)];
    let packet = Packet::Subscribe(Subscribe {
        packet_id: id(1),
        properties: Properties::list(&[Property::SubscriptionIdentifier(1)]),
        filters: Filters::list(&filters),
    });
    both(V5, "82 0d 00 01 02 0b 01 00 01 '#' 2e 00 01 '#' 10", &packet);
    use ReasonCode as R;
    let suback = |reasons| {
        let reasons = ReasonCodes::list(reasons);
        Packet::Suback(Suback { packet_id: id(10), properties: NONE, reasons })
    };
    both(V31, "90 04 00 0a 00 02", &suback(&[R::Success, R::GrantedQos2]));
    let failed = [R::Success, R::GrantedQos2, R::UnspecifiedError];
    both(V311, "90 05 00 0a 00 02 80", &suback(&failed));
    both(V5, "90 06 00 0a 00 00 02 80", &suback(&failed));
    // One code for all failures before 5.0.
    let refused = suback(&[R::NotAuthorized, R::TopicFilterInvalid]);
    both(V5, "90 05 00 0a 00 87 8f", &refused);
    let mut out = [0; 6];
    assert_eq!(refused.encoded_len(V311), Ok(6));
    refused.encode(V311, &mut out);
    assert_eq!(out, [0x90, 4, 0, 10, 0x80, 0x80]);
}

#[test]
fn unsubscribe_and_unsuback() {
    let packet = Packet::Unsubscribe(Unsubscribe {
        packet_id: id(10),
        properties: NONE,
        filters: TopicFilters::list(&["a/b", "c"]),
    });
    both(V31, "a2 0a 00 0a 00 03 'a/b' 00 01 'c'", &packet);
    both(V311, "a2 0a 00 0a 00 03 'a/b' 00 01 'c'", &packet);
    both(V5, "a2 0b 00 0a 00 00 03 'a/b' 00 01 'c'", &packet);
    reads(V31, "aa 0a 00 0a 00 03 'a/b' 00 01 'c'", &packet);
    let unsuback = |reasons| {
        let reasons = ReasonCodes::list(reasons);
        Packet::Unsuback(Unsuback { packet_id: id(10), properties: NONE, reasons })
    };
    both(V31, "b0 02 00 0a", &unsuback(&[]));
    both(V311, "b0 02 00 0a", &unsuback(&[]));
    let reasons = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    both(V5, "b0 05 00 0a 00 00 11", &unsuback(&reasons));
}

#[test]
fn pings_disconnect_and_auth() {
    for version in [V31, V311, V5] {
        both(version, "c0 00", &Packet::Pingreq);
        both(version, "d0 00", &Packet::Pingresp);
        let plain = Disconnect { reason: ReasonCode::Success, properties: NONE };
        both(version, "e0 00", &Packet::Disconnect(plain));
    }
    let plain = Disconnect { reason: ReasonCode::Success, properties: NONE };
    reads(V5, "e0 01 00", &Packet::Disconnect(plain));
    reads(V5, "e0 02 00 00", &Packet::Disconnect(plain));
    let will = Disconnect { reason: ReasonCode::DisconnectWithWill, ..plain };
    both(V5, "e0 01 04", &Packet::Disconnect(will));
    let method = Disconnect { reason: ReasonCode::BadAuthenticationMethod, ..plain };
    both(V5, "e0 01 8c", &Packet::Disconnect(method));
    let expiry = [Property::SessionExpiryInterval(0)];
    let packet = Disconnect { properties: Properties::list(&expiry), ..plain };
    both(V5, "e0 07 00 05 11 00 00 00 00", &Packet::Disconnect(packet));
    let list = [Property::AuthenticationMethod("m"), Property::AuthenticationData(&[1])];
    let packet = Packet::Auth(Auth {
        reason: ReasonCode::ContinueAuthentication,
        properties: Properties::list(&list),
    });
    both(V5, "f0 0a 18 08 15 00 01 'm' 16 00 01 01", &packet);
}

#[test]
fn remaining_length_at_its_edges() {
    let table = [
        ("00", 0),
        ("7f", 127),
        ("80 01", 128),
        ("ff 7f", 16_383),
        ("80 80 01", 16_384),
        ("ff ff 7f", 2_097_151),
        ("80 80 80 01", 2_097_152),
        ("ff ff ff 7f", 268_435_455),
    ];
    for (text, remaining) in table {
        let input = bytes(&format!("30 {text}"));
        for len in 0..input.len() {
            assert_eq!(header(&input[..len]), Ok(None), "{text}");
        }
        let read = header(&input).expect("legal").expect("whole");
        assert_eq!((read.first, read.remaining, read.minimal), (0x30, remaining, true));
        assert_eq!(usize::from(read.header_len), input.len());
        assert_eq!(read.total(), remaining + input.len() as u32);
    }
    for text in ["80 00", "ff 00", "80 80 00", "81 80 80 00"] {
        let read = header(&bytes(&format!("30 {text}"))).expect("legal").expect("whole");
        assert!(!read.minimal, "{text}");
    }
    // The fourth byte says that a fifth follows: no need to wait for it.
    assert!(header(&bytes("30 80 80 80")).expect("not yet").is_none());
    assert_eq!(header(&bytes("30 80 80 80 80")).expect_err("too long").rule, "U5-003");
}

#[test]
fn written_lengths_take_the_fewest_bytes() {
    cites!("v5:MQTT-1.5.5-1");
    for (payload, header_len) in
        [(123, 2), (124, 3), (16_379, 3), (16_380, 4), (2_097_147, 4), (2_097_148, 5)]
    {
        let payload = vec![7; payload];
        let publish = Publish { topic: "ab", payload: &payload, ..Publish::default() };
        let packet = Packet::Publish(publish);
        let len = packet.encoded_len(V311).expect("can be sent") as usize;
        assert_eq!(len, header_len + 4 + payload.len());
        let mut out = vec![0; len];
        packet.encode(V311, &mut out);
        let (frame, used) = split(&out, u32::MAX).expect("legal").expect("whole");
        assert!(frame.minimal && used == len);
        assert_eq!(decode(V311, frame), Ok(packet));
    }
}

#[test]
fn a_packet_may_be_as_large_as_the_limit_and_no_larger() {
    cites!("v5:MQTT-3.2.2-15");
    let input = bytes("30 04 00 01 't' 'x' c0 00");
    let (frame, used) = split(&input, 6).expect("allowed").expect("whole");
    assert_eq!((frame.first, frame.body, used), (0x30, &input[2..6], 6));
    // Refused as soon as the header is there.
    let error = split(&input[..2], 5).expect_err("too large");
    assert_eq!((error.reason, error.rule), (ReasonCode::PacketTooLarge, "MQTT-3.2.2-15"));
    assert_eq!(split(&input[..5], 6), Ok(None));
    assert_eq!(split(&input[..1], 1), Ok(None));
}

#[test]
fn a_password_is_not_shown() {
    let packet = Packet::Connect(Connect {
        username: Some("someone"),
        password: Some(b"hunter2"),
        ..connect(V311)
    });
    let shown = format!("{packet:?}");
    assert!(shown.contains("someone"));
    assert!(!shown.contains("hunter2") && !shown.contains(&format!("{:?}", b"hunter2")));
}

#[test]
#[should_panic(expected = "encoded_len")]
fn encoding_into_memory_of_another_length_panics() {
    Packet::Pingreq.encode(V5, &mut [0; 3]);
}
