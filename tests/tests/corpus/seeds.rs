//! Seeds and dictionary of the fuzzer, made from packets with known bytes, from the traces and from
//! the table of properties.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use fulmar_core::codec::{Properties, PropertyId, PropertyPacket};
use fulmar_core::fuzzing;
use fulmar_tests::trace::{self, Step};

use crate::program;

/// The packets of the codec's own tests, as they stand there.
const VECTORS: &str = include_str!("../../../core/tests/codec_vectors.rs");

/// Longer ones say nothing new, and the fuzzer would cut them.
const LONGEST: usize = 4096;

type Seeds = Vec<(String, Vec<u8>)>;

/// Names and contents for a target.
pub(crate) fn of(target: &str) -> Seeds {
    match target {
        "broker_ops" => [program::all(), trace_programs()].concat(),
        "client_connection" => [servers(), trace_servers()].concat(),
        "config" => configs(),
        "decode" | "reencode" => [packets(), trace_packets()].concat(),
        "frame" => frames(),
        "recording" => recordings(),
        "server_connection" => [streams(), trace_clients()].concat(),
        "shard_ops" => drawn(),
        "topics" => topics(),
        _ => Vec::new(),
    }
}

/// Programs that are drawn: every byte means something there.
fn drawn() -> Seeds {
    let mut state = 1u64;
    let mut byte = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..40).map(|n| (format!("drawn-{n}"), (0..2_000).map(|_| byte()).collect())).collect()
}

/// Bytes from hexadecimal digits; text in quotes stands for itself. `None` for other text.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (i, part) in text.split('\'').enumerate() {
        if i % 2 == 1 {
            out.extend(part.bytes());
            continue;
        }
        for digits in part.split_whitespace().filter(|part| *part != "\\") {
            let byte = u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2);
            out.push(byte?);
        }
    }
    (out.len() >= 2).then_some(out)
}

/// Versions and bytes of the vectors: 0 for 3.1, 1 for 3.1.1, 2 for 5.0.
fn vectors() -> Vec<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    let mut before = "";
    for (i, text) in VECTORS.split('"').enumerate() {
        if i % 2 == 0 {
            before = text;
        } else if let Some(bytes) = bytes(text) {
            match before {
                _ if before.ends_with("(V31, ") => out.push((0, bytes)),
                _ if before.ends_with("(V311, ") => out.push((1, bytes)),
                _ if before.ends_with("(V5, ") => out.push((2, bytes)),
                _ => out.extend((0..3).map(|version| (version, bytes.clone()))),
            }
        }
    }
    out
}

/// What happened on the connections of each trace, by its name.
fn traces() -> Vec<(String, Vec<Step>)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let entries = |folder: &Path| -> Vec<_> {
        fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let folders = entries(&top).into_iter().filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| entries(&folder));
    let mut traces: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "trace"))
        .map(|path| {
            let name = path.strip_prefix(&top).expect("below the top").with_extension("");
            let name = name.to_str().expect("UTF-8").replace(['/', '\\'], "-");
            let file = fs::read_to_string(&path).expect("a trace");
            let steps = trace::steps(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, steps)
        })
        .collect();
    traces.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(traces.len() > 100, "the traces are there");
    traces
}

/// What each connection of each trace sent and took; none that sent nothing.
fn trace_wires() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let mut wires = Vec::new();
    for (name, steps) in traces() {
        let mut found = BTreeMap::<usize, (Vec<u8>, Vec<u8>)>::new();
        for step in steps {
            match step {
                Step::Sent(number, bytes) => found.entry(number).or_default().0.extend(bytes),
                Step::Took(number, bytes) => found.entry(number).or_default().1.extend(bytes),
                Step::Open(_) | Step::Closed(_) => {}
            }
        }
        found.retain(|_, (sent, took)| !sent.is_empty() && sent.len().max(took.len()) < LONGEST);
        wires
            .extend(found.into_iter().map(|(i, (sent, took))| (format!("{name}-{i}"), sent, took)));
    }
    wires
}

/// As the first byte of a seed has it: by the level of CONNECT.
fn version_byte(sent: &[u8]) -> u8 {
    let level = |name: &[u8]| {
        let at = sent.windows(name.len()).position(|bytes| bytes == name)?;
        sent.get(at + name.len()).copied()
    };
    match level(b"MQTT").or_else(|| level(b"MQIsdp")) {
        Some(3) => 0,
        Some(4) => 1,
        _ => 2,
    }
}

/// Every packet of the traces, of clients and of the broker.
fn trace_packets() -> Seeds {
    let mut packets = BTreeSet::new();
    for (_, sent, took) in trace_wires() {
        for mut rest in [&sent[..], &took[..]] {
            while let Ok(Some((_, used))) = fulmar_core::codec::split(rest, u32::MAX) {
                packets.insert([&[version_byte(&sent)], &rest[..used]].concat());
                rest = &rest[used..];
            }
        }
    }
    packets.into_iter().enumerate().map(|(i, bytes)| (format!("trace-{i:03}"), bytes)).collect()
}

/// What each client of the traces sends, to a server that accepts it, or that asks it first.
fn trace_clients() -> Seeds {
    let mut seeds = Vec::new();
    for (name, sent, _) in trace_wires() {
        for (how, choices) in [("accepted", 0b1010), ("asked", 0b1001)] {
            if how == "accepted" || name.starts_with("auth") {
                let bytes = [&[0, 0x84, choices, 0], &sent[..]].concat();
                seeds.push((format!("trace-{name}-{how}"), bytes));
            }
        }
    }
    seeds
}

/// What the broker of the traces sends to each, on a first and on a second connection.
fn trace_servers() -> Seeds {
    let mut seeds = Vec::new();
    for (name, sent, took) in trace_wires().into_iter().filter(|(_, _, took)| took.len() > 4) {
        let half = u8::try_from(took.len().div_ceil(2)).unwrap_or(u8::MAX);
        // The client has an Authentication Method, or it has not.
        let method = if name.starts_with("auth") { 0x40 } else { 0 };
        let head = [method | version_byte(&sent), 0xff, 0, half];
        // The length of the first stream is even; the first byte of PINGRESP does no harm.
        let fill: &[u8] = if took.len() % 2 == 1 { &[0xd0] } else { &[] };
        seeds.push((format!("trace-{name}"), [&head, &took[..], fill, &took[..]].concat()));
    }
    seeds
}

/// The traces as far as connections and bytes go.
fn trace_programs() -> Seeds {
    let programs = traces()
        .into_iter()
        .map(|(name, steps)| (format!("trace-{name}"), program::of_steps(&steps)));
    programs.filter(|(_, bytes)| bytes.len() < LONGEST).collect()
}

fn packets() -> Seeds {
    let with_version = |(i, (version, packet)): (usize, (u8, Vec<u8>))| {
        (format!("vector-{i:03}"), [vec![version], packet].concat())
    };
    vectors().into_iter().enumerate().map(with_version).collect()
}

fn frames() -> Seeds {
    let all: Vec<u8> = vectors().into_iter().flat_map(|(_, packet)| packet).collect();
    vec![
        ("all-vectors".into(), all),
        ("two-pings".into(), b"\xc0\0\xd0\0".to_vec()),
        ("long-length".into(), b"\x30\x80\x80\x80\x01".to_vec()),
        ("five-lengths".into(), b"\x30\xff\xff\xff\xff\x7f".to_vec()),
        ("not-minimal".into(), b"\xc0\x80\0\x30\x83\0\0\x01a".to_vec()),
    ]
}

const CONNECTS: [&[u8]; 3] = [
    b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x0a\0\x01c",
    b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c",
    b"\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01c",
];

/// With the method `m`.
const WITH_METHOD: &[u8] = b"\x10\x12\0\x04MQTT\x05\x02\0\x0a\x04\x15\0\x01m\0\x01c";

/// Each vector in a stream after CONNECT, and what needs more than one packet. Four bytes in
/// front choose wide limits and who is accepted.
fn streams() -> Seeds {
    let wide = [0, 0x84, 0b1010, 0];
    let stream = |head: [u8; 4], parts: &[&[u8]]| [&head, &parts.concat()[..]].concat();
    let mut out = Vec::new();
    for (i, (version, packet)) in vectors().iter().enumerate() {
        let parts: &[&[u8]] = match packet[0] >> 4 {
            1 => &[packet],
            _ => &[CONNECTS[usize::from(*version)], packet, b"\xc0\0"],
        };
        out.push((format!("vector-{i:03}"), stream(wide, parts)));
    }
    let next = b"\xf0\x06\x18\x04\x15\0\x01m";
    let again = b"\xf0\x06\x19\x04\x15\0\x01m";
    out.push(("auth".into(), stream([0, 0x84, 0b1001, 0], &[WITH_METHOD, next, again])));
    out.push(("auth-refused".into(), stream([0, 0x84, 0b0001, 0], &[WITH_METHOD, next])));
    let set: &[u8] = b"\x30\x08\0\x01t\x03\x23\0\x02x";
    let use_it: &[u8] = b"\x30\x07\0\0\x03\x23\0\x02y";
    out.push(("alias".into(), stream(wide, &[CONNECTS[2], set, use_it])));
    out.push(("unknown-alias".into(), stream(wide, &[CONNECTS[2], use_it])));
    out.push(("keep-alive".into(), stream([0, 0x84, 0b1111, 9], &[CONNECTS[2]])));
    let small: &[u8] = b"\x10\x13\0\x04MQTT\x05\x02\0\x0a\x05\x27\0\0\0\x06\0\x01c";
    let qos_1: &[u8] = b"\x32\x06\0\x01t\0\x01\0";
    out.push(("small-packets".into(), stream(wide, &[small, qos_1])));
    out.push(("level-6".into(), stream(wide, &[b"\x10\x06\0\x04MQTT\x06"])));
    out.push(("level-2".into(), stream(wide, &[b"\x10\x08\0\x06MQIsdp\x02"])));
    out
}

const CONNACKS: [&[u8]; 3] = [b"\x20\x02\0\0", b"\x20\x02\x01\0", b"\x20\x03\x01\0\0"];

/// Answers to what the client asks for when it is connected, in the order of their identifiers.
const ANSWERS: &[u8] = b"\x50\x02\0\x01\x40\x02\0\x02\x40\x02\0\x03\x70\x02\0\x01";

/// Each vector in a stream after CONNACK, with the answers on a second connection.
fn servers() -> Seeds {
    let mut out = Vec::new();
    for (i, (version, packet)) in vectors().iter().enumerate() {
        let connack = CONNACKS[usize::from(*version)];
        let first = [connack, packet].concat();
        let length = first.len().div_ceil(2) as u8;
        let head = [*version, 0xff, 0, length];
        // Lengths are even: PINGRESP is, too, and one byte of it more or less does not matter.
        let bytes = [&head, &first[..], connack, ANSWERS, packet, b"\xd0\0"].concat();
        out.push((format!("vector-{i:03}"), bytes));
    }
    let all = |head: [u8; 4], parts: &[&[u8]]| [&head, &parts.concat()[..]].concat();
    let message: &[u8] = b"\x34\x07\0\x01t\0\x05\0x";
    let release: &[u8] = b"\x62\x02\0\x05";
    let alias: &[u8] = b"\x30\x08\0\x01t\x03\x23\0\x01x\x30\x07\0\0\x03\x23\0\x01y";
    let subscribed: &[u8] = b"\x90\x04\xff\xf0\0\0\xb0\x04\xff\xf1\0\0";
    let five = CONNACKS[2];
    out.push(("qos-2-in".into(), all([2, 0xff, 0, 255], &[five, message, release, ANSWERS])));
    out.push(("aliases-in".into(), all([2, 0xff, 0, 255], &[five, alias, subscribed])));
    let limits: &[u8] = b"\x20\x0b\0\0\x08\x21\0\x01\x27\0\0\0\x20";
    out.push(("limits".into(), all([2, 0xff, 0, 255], &[limits, ANSWERS, ANSWERS])));
    let auth: &[u8] = b"\xf0\x06\x18\x04\x15\0\x01m";
    let accepted: &[u8] = b"\x20\x07\x01\0\x04\x15\0\x01m";
    out.push(("auth".into(), all([0x42, 0xff, 0, 255], &[auth, accepted, ANSWERS])));
    let resumed = [2, 0xff, 1, (five.len() + message.len()).div_ceil(2) as u8];
    let again: &[u8] = b"\x3c\x07\0\x01t\0\x05\0x";
    out.push(("qos-2-again".into(), all(resumed, &[five, message, five, again, release])));
    let aliases_out: &[u8] = b"\x20\x06\0\0\x03\x22\0\x01";
    out.push(("aliases-out".into(), all([2, 0xff, 0, 255], &[aliases_out, ANSWERS])));
    out
}

/// What the operations on a broker give when they are recorded.
fn recordings() -> Seeds {
    let recorded = |(name, bytes): (String, Vec<u8>)| Some((name, fuzzing::recorded(&bytes)?));
    program::all().into_iter().filter_map(recorded).collect()
}

fn topics() -> Seeds {
    let text = |name: &str, lines: &[&str]| (name.to_owned(), lines.join("\n").into_bytes());
    vec![
        text("index", &["i1a/+", "i2#", "i1a/#", "i3a/b", "m0a/b", "r1a/+", "m0a", "m0$x"]),
        text("shared", &["i1$share/g/a/#", "i2$share//a", "i3$share/g", "m0a"]),
        text("retained", &["s0a", "s0a/b", "s0a!", "s3b", "w1a/#", "w3#", "t5", "x9", "w9+"]),
        text("walk", &["s0a", "s0b", "s0c", "p0#", "n1", "d0b", "s0c", "s0d", "n1", "n9"]),
        text(
            "limits",
            &["s0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/b", "s1$x/y", "w2+/+"],
        ),
        text("wrong", &["i0a#", "i0#/a", "m0a+", "i0a/b/c/d/e/f/g/h/i", "s0"]),
    ]
}

fn configs() -> Seeds {
    let example = include_bytes!("../../../broker-smol/fulmar.example.yaml").to_vec();
    let mut out: Seeds = vec![("example".into(), example)];
    let keys: Vec<String> = fulmar::config::key_names().map(|key| format!("{key}: 1\n")).collect();
    for (i, some) in keys.chunks(8).enumerate() {
        out.push((format!("keys-{i}"), some.concat().into_bytes()));
    }
    out.push((
        "lists".into(),
        b"listen: [localhost:1883, '[::1]:1884', {a: &x 1, b: *x}]".to_vec(),
    ));
    out.push(("units".into(), b"max_packet_size: 64KiB\nconnect_timeout: 500ms\n".to_vec()));
    out
}

/// Properties with a value each, and other words of the protocol.
pub(crate) fn dictionary() -> String {
    let mut text = String::from("# Made by tests/tests/corpus/seeds.rs.\n");
    for id in PropertyId::ALL {
        let value = value(*id);
        text += &format!("{id:?}=\"{}\"\n", escape(&[&[*id as u8], value].concat()));
    }
    for (name, word) in [
        ("Mqtt5", &b"\0\x04MQTT\x05"[..]),
        ("Mqtt311", b"\0\x04MQTT\x04"),
        ("Mqisdp", b"\0\x06MQIsdp\x03"),
        ("Share", b"$share/g/"),
        ("Wildcards", b"/+/#"),
    ] {
        text += &format!("{name}=\"{}\"\n", escape(word));
    }
    text
}

/// A value that the property can have: found out, since the table of types is the codec's own.
fn value(id: PropertyId) -> &'static [u8] {
    use PropertyPacket as P;
    let packets =
        [P::Connect, P::Connack, P::Publish, P::Will, P::Subscribe, P::Disconnect, P::Auth];
    let values: [&[u8]; 5] = [b"\x01", b"\0\x01", b"\0\0\0\x01", b"\0\x01x", b"\0\x01k\0\x01v"];
    let fits = |value: &&&[u8]| {
        let bytes = [&[id as u8], **value].concat();
        // Authentication Data stands with its method only, except where that is not looked at.
        packets.iter().any(|packet| Properties::from_wire(*packet, &bytes).is_ok())
    };
    values.iter().find(fits).unwrap_or_else(|| panic!("{id:?} has no value"))
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}
