//! Framing, primitive types, properties (NOTES 1 to 8).

use crate::harness::*;

/// Bytes that are no UTF-8 string for MQTT, all of the length of `@@@@`.
const BAD_TEXT: [&[u8; 4]; 7] = [
    b"\xED\xA0\x80a", // surrogate
    b"\xED\xBF\xBFa",
    b"\xC0\x80aa",       // overlong
    b"\xF4\x90\x80\x80", // beyond U+10FFFF
    b"aa\xC3a",
    b"a\xFF\xFEa",
    b"a\0aa",
];

fn replace(bytes: &[u8], with: &[u8; 4]) -> Vec<u8> {
    let at = bytes.windows(4).position(|w| w == b"@@@@").expect("a place marked @@@@");
    [&bytes[..at], with, &bytes[at + 4..]].concat()
}

#[test]
fn a_fifth_length_byte_closes_at_once() {
    cites!("v5:MQTT-1.5.5-1 U5-003 U311-002");
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        c.send_hex("30 80 80 80 80 01");
        c.expect_refused(0x81);
        b.send(v, &hex("10 ff ff ff ff 01")).expect_closed();
    }
}

#[test]
fn a_padded_remaining_length_is_malformed_in_5_0_only() {
    cites!("v5:MQTT-1.5.5-1 U311-002");
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        c.send_hex("c0 80 00");
        if v == V5 {
            c.expect_refused(0x81);
        } else {
            assert_eq!(c.packet(), Packet::Pingresp);
        }
    }
}

#[test]
fn a_padded_integer_inside_a_packet_is_malformed() {
    cites!("v5:MQTT-1.5.5-1");
    let b = shared();
    for bytes in [
        "30 06 0001 61 8000 62",            // property length of PUBLISH
        "82 0a 0001 03 0b 8100 0001 61 00", // Subscription Identifier
        "82 0a 0001 8200 0b01 0001 61 00",  // property length of SUBSCRIBE
    ] {
        let mut c = b.connect(V5, &unique("c"));
        c.send_hex(bytes);
        c.expect_refused(0x81);
    }
}

#[test]
fn remaining_lengths_of_one_to_four_bytes_are_read_and_written() {
    cites!("v5:MQTT-1.5.5-1 v5:MQTT-3.3.4-1 v4:MQTT-3.3.4-1");
    let b = Broker::with("max_packet_size: 4MiB\nmax_outbound_bytes: 16MiB");
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        c.subscribe("t", 0);
        let header = if v == V5 { 4 } else { 3 };
        for remaining in [127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let payload = vec![b'x'; remaining - header];
            c.send(&Publish::new("t", &payload).bytes(v));
            assert!(c.message().payload == payload, "{remaining} bytes in {v:?}");
        }
    }
}

#[test]
fn ill_formed_strings_in_connect_are_refused() {
    cites!(
        "v5:MQTT-1.5.4-1 v5:MQTT-1.5.4-2 v5:MQTT-3.1.3-4 v5:MQTT-3.1.3-11 v5:MQTT-3.1.3-12
         v5:MQTT-3.1.4-1 v4:MQTT-1.5.3-1 v4:MQTT-1.5.3-2 v4:MQTT-3.1.3-4 v4:MQTT-3.1.3-10
         v4:MQTT-3.1.3-11 v4:MQTT-3.1.4-1"
    );
    let b = shared();
    for v in STRICT {
        let connect = Connect::new(v, "c");
        let user = Connect { username: Some("@@@@".into()), ..connect.clone() };
        for packet in [Connect::new(v, "@@@@"), connect.will(Will::new("@@@@", "w")), user] {
            for bad in BAD_TEXT {
                b.send(v, &replace(&packet.bytes(), bad)).expect_rejected(&[0x81]);
            }
        }
    }
}

#[test]
fn ill_formed_strings_in_properties_of_connect_are_refused() {
    cites!("v5:MQTT-1.5.4-1 v5:MQTT-1.5.4-2 v5:MQTT-1.5.7-1 v5:MQTT-3.3.2-13 v5:MQTT-3.3.2-19");
    let b = shared();
    for bad in BAD_TEXT {
        for prop in [pair("@@@@", ""), pair("", "@@@@"), text(AUTH_METHOD, "@@@@")] {
            let connect = Connect::new(V5, "c").with(prop);
            b.send(V5, &replace(&connect.bytes(), bad)).expect_rejected(&[0x81]);
        }
        for prop in [text(CONTENT_TYPE, "@@@@"), text(RESPONSE_TOPIC, "@@@@"), pair("", "@@@@")] {
            let connect =
                Connect::new(V5, "c").will(Will { props: vec![prop], ..Will::new("t", "") });
            b.send(V5, &replace(&connect.bytes(), bad)).expect_rejected(&[0x81]);
        }
    }
}

#[test]
fn ill_formed_strings_after_connect_end_the_connection() {
    cites!(
        "v5:MQTT-1.5.4-1 v5:MQTT-1.5.4-2 v5:MQTT-1.5.7-1 v5:MQTT-3.3.2-1 v5:MQTT-3.8.3-1
         v5:MQTT-3.10.3-1 v5:MQTT-4.7.3-2 v4:MQTT-1.5.3-1 v4:MQTT-1.5.3-2 v4:MQTT-3.3.2-1
         v4:MQTT-3.8.3-1 v4:MQTT-3.10.3-1 v4:MQTT-4.7.3-2 v5:MQTT-3.3.2-13 v5:MQTT-3.3.2-19"
    );
    let b = shared();
    for v in STRICT {
        let mut packets = vec![
            Publish::new("@@@@", "").bytes(v),
            subscribe(v, 1, &[], &[("@@@@", 0)]),
            unsubscribe(v, 1, &["@@@@"]),
        ];
        if v == V5 {
            for prop in [
                pair("@@@@", ""),
                pair("", "@@@@"),
                text(CONTENT_TYPE, "@@@@"),
                text(RESPONSE_TOPIC, "@@@@"),
            ] {
                packets.push(Publish::new("t", "").with(prop).bytes(v));
            }
            packets.push(raw(0xE0, [vec![0], props(&[text(REASON_STRING, "@@@@")])].concat()));
        }
        for packet in packets {
            for bad in BAD_TEXT {
                let mut c = b.connect(v, &unique("c"));
                c.send(&replace(&packet, bad));
                c.expect_refused(0x81);
            }
        }
    }
}

#[test]
fn unusual_characters_are_neither_refused_nor_changed() {
    cites!("v5:MQTT-1.5.4-3 v5:MQTT-4.7.3-4 U5-002 v4:MQTT-1.5.3-3 v4:MQTT-4.7.3-4");
    let b = shared();
    for v in ALL {
        let plain = unique("t");
        let mut c = b.connect(v, &unique("c"));
        c.subscribe(&plain, 0);
        for odd in ["\u{FEFF}", "\u{1}", "\u{7F}", "\u{FFFF}", "\u{10FFFF}", "e\u{301}", " "] {
            let topic = format!("{odd}{plain}");
            c.subscribe(&topic, 0);
            c.send(&Publish::new(&topic, odd).bytes(v));
            assert_eq!(c.message().topic, topic);
            c.expect_nothing();
        }
    }
}

#[test]
fn a_payload_that_contradicts_its_format_indicator_is_forwarded() {
    cites!("v5:MQTT-3.3.2-4 U5-040");
    let b = shared();
    let topic = unique("t");
    let mut c = b.connect(V5, &unique("c"));
    c.subscribe(&topic, 0);
    for prop in [Byte(FORMAT_INDICATOR, 1), Byte(FORMAT_INDICATOR, 0)] {
        c.send(&Publish::new(&topic, b"\xFF\xFE").with(prop.clone()).bytes(V5));
        assert_eq!(c.message().props, [prop]);
    }
}

#[test]
fn wrong_fixed_header_flags_are_malformed() {
    cites!(
        "v5:MQTT-2.1.3-1 v5:MQTT-3.6.1-1 v5:MQTT-3.8.1-1 v5:MQTT-3.10.1-1 v5:MQTT-3.14.1-1
         v5:MQTT-3.15.1-1 v4:MQTT-2.2.2-1 v4:MQTT-2.2.2-2 v4:MQTT-3.6.1-1 v4:MQTT-3.8.1-1
         v4:MQTT-3.10.1-1 v4:MQTT-3.14.1-1"
    );
    let b = shared();
    let old = [
        "41 02 0001",
        "51 02 0001",
        "60 02 0001",
        "63 02 0001",
        "72 02 0001",
        "80 06 0001 0001 61 00",
        "8a 06 0001 0001 61 00",
        "a0 05 0001 0001 61",
        "a3 05 0001 0001 61",
        "c1 00",
        "c8 00",
        "e1 00",
    ];
    let new = [
        "41 02 0001",
        "51 02 0001",
        "60 02 0001",
        "63 02 0001",
        "72 02 0001",
        "80 07 0001 00 0001 61 00",
        "8a 07 0001 00 0001 61 00",
        "a0 06 0001 00 0001 61",
        "a3 06 0001 00 0001 61",
        "c1 00",
        "c8 00",
        "e1 00",
        "f1 00",
    ];
    for (v, packets) in [(V311, &old[..]), (V5, &new[..])] {
        for bytes in packets {
            let mut c = b.connect(v, &unique("c"));
            c.send_hex(bytes);
            c.expect_refused(0x81);
        }
        let connect = Connect::new(v, &unique("c"));
        b.send(v, &raw(0x11, connect.body())).expect_rejected(&[0x81]);
    }
}

#[test]
fn qos_3_is_malformed() {
    cites!("v5:MQTT-3.3.1-4 U5-036 v4:MQTT-3.3.1-4");
    let b = shared();
    for v in ALL {
        for first in [0x36, 0x37, 0x3E] {
            let mut c = b.connect(v, &unique("c"));
            let publish = Publish::new("t", "").qos(1, 1).bytes(v);
            c.send(&[&[first], &publish[1..]].concat());
            c.expect_refused(0x81);
        }
    }
}

#[test]
fn dup_at_qos_0_is_refused() {
    cites!("v5:MQTT-3.3.1-2 v4:MQTT-3.3.1-2");
    let b = shared();
    for v in STRICT {
        let mut c = b.connect(v, &unique("c"));
        c.send(&Publish::new("t", "").dup().bytes(v));
        c.expect_refused_any(&[0x81, 0x82]);
    }
}

#[test]
fn bytes_after_the_last_field_of_connect_are_refused() {
    cites!("v5:MQTT-3.1.4-1 U5-001 v4:MQTT-3.1.4-1");
    let b = shared();
    for v in STRICT {
        let body = [Connect::new(v, &unique("c")).body(), vec![0]].concat();
        b.send(v, &raw(0x10, body)).expect_rejected(&[0x81]);
    }
}

#[test]
fn connect_with_a_field_missing_is_refused() {
    cites!(
        "v5:MQTT-3.1.2-17 v5:MQTT-3.1.2-19 v5:MQTT-3.1.2-9 v4:MQTT-3.1.2-9 v4:MQTT-3.1.2-19
         v4:MQTT-3.1.2-21 v4:MQTT-3.1.3-3 v5:MQTT-3.1.3-3"
    );
    let b = shared();
    for v in STRICT {
        let full = Connect {
            username: Some("user".into()),
            password: Some("pass".into()),
            ..Connect::new(v, "id").will(Will::new("will", "payload"))
        }
        .body();
        let header = if v == V5 { 11 } else { 10 };
        for len in header..full.len() {
            b.send(v, &raw(0x10, &full[..len])).expect_rejected(&[0x81]);
        }
    }
}

#[test]
fn bytes_too_many_or_too_few_are_malformed() {
    cites!("U311-007 U5-001 v4:MQTT-4.8.0-1 v5:MQTT-4.13.1-1");
    let b = shared();
    let old = [
        "40 03 0001 00",
        "50 03 0001 00",
        "62 03 0001 00",
        "70 03 0001 00",
        "40 01 00",
        "40 00",
        "c0 01 00",
        "e0 01 00",
        "82 01 00",
        "82 05 0001 0001 61",
        "82 04 0001 0005",
        "82 07 0001 0001 61 00 00",
        "a2 04 0001 0002",
        "30 01 00",
        "30 02 0005",
        "32 03 0001 61",
    ];
    let new = [
        "40 01 00",
        "40 00",
        "40 04 0001 00 05",
        "40 05 0001 00 00 00",
        "c0 01 00",
        "82 01 00",
        "82 02 0001",
        "82 06 0001 00 0001 61",
        "82 05 0001 00 0005",
        "82 03 0001 09",
        "a2 05 0001 00 0002",
        "30 01 00",
        "30 03 0001 61",
        "30 04 0001 61 05",
        "e0 03 00 00 00",
        "e0 02 00 05",
        "32 04 0001 61 00",
    ];
    for (v, packets) in [(V31, &old[..]), (V311, &old[..]), (V5, &new[..])] {
        for bytes in packets {
            let mut c = b.connect(v, &unique("c"));
            c.send_hex(bytes);
            c.expect_refused(0x81);
        }
    }
}

#[test]
fn acknowledgements_are_understood_in_all_three_forms() {
    cites!("U5-050 U5-063");
    let b = shared();
    let topic = unique("t");
    let mut p = b.connect(V5, &unique("p"));
    for tail in ["", "00", "00 00"] {
        let first = Connect::new(V5, &unique("s")).with(Two(RECEIVE_MAXIMUM, 1));
        let (mut s, _) = b.join(&first);
        s.subscribe(&topic, 2);
        for qos in [1, 2, 1] {
            p.publish(&topic, "x", qos);
            let id = s.message().id;
            let body = [&id.to_be_bytes()[..], &hex(tail)].concat();
            if qos == 1 {
                s.send(&raw(PUBACK, &body));
            } else {
                s.send(&raw(PUBREC, &body));
                s.ack(PUBREL, id);
                s.send(&raw(PUBCOMP, &body));
            }
        }
        s.expect_nothing();
        s.send(&raw(0xE0, hex(tail)));
        s.expect_closed();
    }
}

#[test]
fn properties_that_do_not_belong_there_are_malformed() {
    cites!("U5-007 U5-008 v5:MQTT-4.13.1-1");
    let b = shared();
    let unknown = Byte(0x7F, 0);
    for prop in
        [Four(SESSION_EXPIRY, 1), Four(WILL_DELAY, 1), Two(RECEIVE_MAXIMUM, 1), unknown.clone()]
    {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&Publish::new("t", "").with(prop).bytes(V5));
        c.expect_refused(0x81);
    }
    for prop in [Two(TOPIC_ALIAS, 1), Four(MESSAGE_EXPIRY, 1), text(REASON_STRING, "")] {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&subscribe(V5, 1, &[prop], &[("t", 0)]));
        c.expect_refused(0x81);
    }
    for prop in [Two(TOPIC_ALIAS, 1), Byte(MAXIMUM_QOS, 1), Var(SUBSCRIPTION_ID, 1), unknown] {
        b.send(V5, &Connect::new(V5, "c").with(prop).bytes()).expect_rejected(&[0x81]);
    }
    for prop in [Two(TOPIC_ALIAS, 1), Four(SESSION_EXPIRY, 1), Var(SUBSCRIPTION_ID, 1)] {
        let connect = Connect::new(V5, "c").will(Will { props: vec![prop], ..Will::new("t", "") });
        b.send(V5, &connect.bytes()).expect_rejected(&[0x81]);
    }
    let mut c = b.connect(V5, &unique("c"));
    c.send(&raw(0xE0, [vec![0], props(&[Two(SERVER_KEEP_ALIVE, 1)])].concat()));
    c.expect_refused(0x81);
}

#[test]
fn properties_given_twice_in_connect_are_protocol_errors() {
    cites!("U5-012 U5-013 U5-014 U5-016 U5-017 U5-018 U5-019 U5-021 U5-024 v5:MQTT-3.1.4-1");
    let b = shared();
    for prop in [
        Four(SESSION_EXPIRY, 1),
        Two(RECEIVE_MAXIMUM, 9),
        Four(MAXIMUM_PACKET, 999),
        Two(ALIAS_MAXIMUM, 9),
        Byte(REQUEST_RESPONSE, 1),
        Byte(REQUEST_PROBLEM, 1),
        text(AUTH_METHOD, "m"),
    ] {
        let connect = Connect::new(V5, "c").with(prop.clone()).with(prop);
        b.send(V5, &connect.bytes()).expect_rejected(&[0x82]);
    }
    for prop in [
        Four(WILL_DELAY, 1),
        Byte(FORMAT_INDICATOR, 1),
        Four(MESSAGE_EXPIRY, 1),
        text(CONTENT_TYPE, "c"),
        text(RESPONSE_TOPIC, "r"),
        Data(CORRELATION, b"d".to_vec()),
    ] {
        let will = Will { props: vec![prop.clone(), prop], ..Will::new("t", "") };
        b.send(V5, &Connect::new(V5, "c").will(will).bytes()).expect_rejected(&[0x82]);
    }
}

#[test]
fn properties_given_twice_after_connect_are_protocol_errors() {
    cites!("U5-041 U5-042 U5-051 U5-053 U5-065 v5:MQTT-4.13.1-1");
    let b = shared();
    let mut packets = Vec::new();
    for prop in [
        Two(TOPIC_ALIAS, 1),
        Byte(FORMAT_INDICATOR, 1),
        Four(MESSAGE_EXPIRY, 1),
        text(CONTENT_TYPE, "c"),
        text(RESPONSE_TOPIC, "r"),
        Data(CORRELATION, b"d".to_vec()),
    ] {
        packets.push(Publish::new("t", "").with(prop.clone()).with(prop).bytes(V5));
    }
    let id = Var(SUBSCRIPTION_ID, 1);
    packets.push(subscribe(V5, 1, &[id.clone(), id], &[("t", 0)]));
    let twice = props(&[text(REASON_STRING, "r"), text(REASON_STRING, "r")]);
    packets.push(raw(PUBACK, [vec![0, 1, 0], twice.clone()].concat()));
    packets.push(raw(0xE0, [vec![0], twice].concat()));
    let twice = props(&[Four(SESSION_EXPIRY, 0), Four(SESSION_EXPIRY, 0)]);
    packets.push(raw(0xE0, [vec![0], twice].concat()));
    for packet in packets {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&packet);
        c.expect_refused(0x82);
    }
}

#[test]
fn property_values_out_of_range_are_protocol_errors() {
    cites!("U5-013 U5-014 U5-017 U5-018 U5-025 U5-043 U5-053");
    let b = shared();
    for prop in [
        Two(RECEIVE_MAXIMUM, 0),
        Four(MAXIMUM_PACKET, 0),
        Byte(REQUEST_RESPONSE, 2),
        Byte(REQUEST_PROBLEM, 2),
    ] {
        b.send(V5, &Connect::new(V5, "c").with(prop).bytes()).expect_rejected(&[0x82]);
    }
    let will = Will { props: vec![Byte(FORMAT_INDICATOR, 2)], ..Will::new("t", "") };
    b.send(V5, &Connect::new(V5, "c").will(will).bytes()).expect_rejected(&[0x82]);
    for packet in [
        Publish::new("t", "").with(Byte(FORMAT_INDICATOR, 2)).bytes(V5),
        subscribe(V5, 1, &[Var(SUBSCRIPTION_ID, 0)], &[("t", 0)]),
    ] {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&packet);
        c.expect_refused(0x82);
    }
}

#[test]
fn user_properties_are_accepted_in_every_packet_of_a_client() {
    cites!("v5:MQTT-1.5.7-1 v5:MQTT-2.2.2-1");
    let b = shared();
    let user = [pair("a", "1"), pair("a", "1")];
    let block = props(&user);
    let mut c = b.join(&Connect { props: user.to_vec(), ..Connect::new(V5, &unique("c")) }).0;
    let topic = unique("t");
    assert_eq!(c.subscribe_all(&[(&topic, 2)], &user), [2]);
    c.send(&raw(0xA2, [vec![0, 9], block.clone(), string("none")].concat()));
    assert!(matches!(c.packet(), Packet::Unsuback(_)));
    c.send(&Publish::new(&topic, "x").qos(2, 1).bytes(V5));
    assert_eq!(c.ack(PUBREC, 1), 0);
    c.send(&raw(PUBREL, [vec![0, 1, 0], block.clone()].concat()));
    assert_eq!(c.ack(PUBCOMP, 1), 0);
    let id = c.message().id.to_be_bytes();
    c.send(&raw(PUBREC, [&id[..], &[0], &block].concat()));
    c.ack(PUBREL, u16::from_be_bytes(id));
    c.send(&raw(PUBCOMP, [&id[..], &[0], &block].concat()));
    c.expect_nothing();
    c.send(&raw(0xE0, [vec![0], block].concat()));
    c.expect_closed();
}

#[test]
fn reserved_packet_types_end_the_connection() {
    cites!("U5-004 U311-001 v4:MQTT-4.8.0-1");
    let b = shared();
    for v in ALL {
        let mut c = b.connect(v, &unique("c"));
        c.send_hex("00 00");
        c.expect_refused(0x81);
    }
    for v in OLD {
        let mut c = b.connect(v, &unique("c"));
        c.send_hex("f0 00");
        c.expect_closed();
    }
}

#[test]
fn packets_only_a_server_may_send_are_protocol_errors() {
    cites!("U5-001 v5:MQTT-4.13.1-1 v4:MQTT-4.8.0-1");
    let b = shared();
    for (v, packets) in [
        (V31, ["20 02 00 00", "90 03 0001 00", "b0 02 0001", "d0 00"]),
        (V311, ["20 02 00 00", "90 03 0001 00", "b0 02 0001", "d0 00"]),
        (V5, ["20 03 00 00 00", "90 04 0001 00 00", "b0 04 0001 00 00", "d0 00"]),
    ] {
        for bytes in packets {
            let mut c = b.connect(v, &unique("c"));
            c.send_hex(bytes);
            c.expect_refused(0x82);
        }
    }
}

#[test]
fn bytes_may_come_one_at_a_time_or_all_at_once() {
    cites!("v5:MQTT-4.2.0-1 v4:MQTT-7.1.1-1");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let conversation = [
            Connect::new(v, &unique("c")).bytes(),
            subscribe(v, 1, &[], &[(&topic, 1)]),
            Publish::new(&topic, "hello").qos(1, 2).bytes(v),
            vec![0xC0, 0],
        ]
        .concat();
        for size in [1, 7, conversation.len()] {
            let mut c = b.open(v);
            for piece in conversation.chunks(size) {
                c.send(piece);
            }
            c.connack();
            c.suback(1);
            assert_eq!(c.ack(PUBACK, 2), 0);
            c.wait("PINGRESP", |p| *p == Packet::Pingresp);
            assert_eq!(c.take().text(), "hello");
        }
    }
}
