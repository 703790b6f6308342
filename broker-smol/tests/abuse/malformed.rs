//! Packets that break a rule: the peer is told which kind of rule, where its version has a way to.

use crate::harness::{
    Connect, Packet, Publish, Two, V5, V311, Version, raw, string, subscribe, unique, vbi,
};
use crate::scene::Scene;

/// Where the standard leaves open which.
const EITHER: &[u8] = &[0x81, 0x82];
const MALFORMED: &[u8] = &[0x81];
const PROTOCOL: &[u8] = &[0x82];

/// A packet of a client that is accepted, and the reasons a 5.0 client may be told.
type Case = (&'static str, Vec<u8>, &'static [u8]);

fn publish_body(version: Version, topic: &[u8], id: Option<u16>) -> Vec<u8> {
    let mut body = string(topic);
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    if version == V5 {
        body.push(0);
    }
    body.extend(b"payload");
    body
}

/// Breaks of rules that both versions have.
fn common(version: Version) -> Vec<Case> {
    let v = version;
    let none: &[u8] = if v == V5 { &[0, 9, 0] } else { &[0, 9] };
    let mut cut = raw(0x82, [none, &string("a/b"), &[0]].concat());
    let last = cut.len() - 6;
    cut[last] = 200;
    vec![
        ("Remaining Length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], MALFORMED),
        ("packet type 0", vec![0, 0], EITHER),
        ("a packet of servers", vec![0xD0, 0], PROTOCOL),
        ("second CONNECT", Connect::new(v, "again").bytes(), PROTOCOL),
        ("QoS 3", raw(0x36, publish_body(v, b"a", Some(1))), MALFORMED),
        ("DUP at QoS 0", raw(0x38, publish_body(v, b"a", None)), EITHER),
        ("identifier 0", raw(0x32, publish_body(v, b"a", Some(0))), EITHER),
        ("topic that is not UTF-8", raw(0x30, publish_body(v, b"a\xFF", None)), MALFORMED),
        ("topic with U+0000", raw(0x30, publish_body(v, b"a\0", None)), MALFORMED),
        ("topic with wildcard", raw(0x30, publish_body(v, b"a/#", None)), &[0x81, 0x82, 0x90]),
        ("topic longer than the packet", raw(0x30, [0, 200, b'a']), MALFORMED),
        ("PUBLISH without anything", raw(0x30, []), MALFORMED),
        ("empty topic", raw(0x30, publish_body(v, b"", None)), &[0x81, 0x82, 0x90]),
        ("flags of SUBSCRIBE", raw(0x80, &subscribe(v, 9, &[], &[("a", 0)])[2..]), MALFORMED),
        ("SUBSCRIBE without filter", raw(0x82, none), EITHER),
        ("SUBSCRIBE to QoS 3", subscribe(v, 9, &[], &[("a", 3)]), EITHER),
        ("filter longer than the packet", cut, MALFORMED),
        ("UNSUBSCRIBE without filter", raw(0xA2, none), EITHER),
        ("flags of PUBREL", raw(0x60, [0, 9]), MALFORMED),
        ("PINGREQ with a body", raw(0xC0, [0]), MALFORMED),
        ("too large", [&[0x30][..], &vbi(2 << 20)].concat(), &[0x95]),
        ("largest length there is", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], &[0x95]),
    ]
}

/// Breaks of rules of 5.0.
fn of_five() -> Vec<Case> {
    let with = |properties: &[u8]| raw(0x30, [&string("a")[..], properties, b"payload"].concat());
    let publish = |alias| Publish::new("a", "payload").with(Two(0x23, alias)).bytes(V5);
    let too_many: Vec<u8> =
        (1..=101).flat_map(|id| Publish::new("a", "").qos(2, id).bytes(V5)).collect();
    vec![
        ("properties longer than the packet", with(&[100, 1, 0]), MALFORMED),
        ("length of properties of five bytes", with(&[0x80, 0x80, 0x80, 0x80, 1]), MALFORMED),
        ("unknown property", with(&[2, 0x7F, 0]), MALFORMED),
        ("property of another packet", with(&[3, 0x21, 0, 5]), EITHER),
        ("property twice", with(&[4, 1, 0, 1, 0]), PROTOCOL),
        ("Subscription Identifier of a client", with(&[2, 0x0B, 1]), EITHER),
        ("alias 0", publish(0), &[0x94]),
        ("alias above the maximum", publish(17), &[0x94]),
        ("more than Receive Maximum", too_many, &[0x93]),
        (
            "No Local on a shared subscription",
            raw(0x82, [&[0, 9, 0][..], &string("$share/g/a"), &[4]].concat()),
            PROTOCOL,
        ),
        ("AUTH without method", raw(0xF0, [0x19]), EITHER),
        ("reason of DISCONNECT for servers only", raw(0xE0, [0x8E]), EITHER),
    ]
}

#[test]
fn accepted_client_is_told_what_it_did_wrong() {
    let scene = Scene::new(64, "");
    for version in [V311, V5] {
        let mut cases = common(version);
        if version == V5 {
            cases.extend(of_five());
        }
        for (what, bytes, codes) in cases {
            println!("{version:?}: {what}");
            let mut client = scene.broker.connect(version, &unique("rude"));
            client.send(&bytes);
            let mut packets = client.until_closed();
            // Whatever was right before is answered first.
            packets.retain(|packet| !matches!(packet, Packet::Ack(_)));
            match packets.as_slice() {
                [] => assert_eq!(version, V311, "{what}: closed without DISCONNECT"),
                [Packet::Disconnect { code, .. }] => {
                    assert!(codes.contains(code), "{what}: told {code:#04x}");
                }
                other => panic!("{version:?}, {what}: {other:?}"),
            }
        }
    }
    scene.finish();
}

#[test]
fn client_that_breaks_a_rule_with_connect_is_refused() {
    let scene = Scene::new(64, "");
    for version in [V311, V5] {
        let connect = |flip| Connect { flip, ..Connect::new(version, "rude") }.body();
        let mut cut = connect(0);
        cut.pop();
        let cases = [
            ("reserved flag", raw(0x10, connect(1)), EITHER),
            ("QoS 3 of a will", raw(0x10, connect(0x1C)), EITHER),
            ("cut short", raw(0x10, &cut), MALFORMED),
            ("too long", raw(0x10, [&connect(0)[..], &[0]].concat()), EITHER),
            ("flags of the fixed header", raw(0x11, connect(0)), EITHER),
            ("too large", [&[0x10][..], &vbi(300 << 10), &connect(0)].concat(), &[0x95]),
        ];
        for (what, bytes, codes) in cases {
            println!("{version:?}: {what}");
            let mut client = scene.broker.open(version);
            client.send(&bytes);
            match client.until_closed().as_slice() {
                // CONNACK is optional in 5.0 where CONNECT is malformed, and wrong before.
                [] => {}
                [Packet::Connack(connack)] => {
                    assert_eq!(version, V5, "{what}");
                    assert!(codes.contains(&connack.code), "{what}: {connack:?}");
                }
                other => panic!("{version:?}, {what}: {other:?}"),
            }
        }
        for first in [&[0xC0, 0][..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"] {
            let mut client = scene.broker.open(version);
            client.send(first);
            client.expect_closed();
        }
    }
    scene.finish();
}
