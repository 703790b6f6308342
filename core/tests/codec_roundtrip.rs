//! Every packet of every version through the codec and back, and what is left of it when bytes
//! are missing or changed.

use fulmar_core::codec::{
    Ack, Auth, Connack, Connect, Disconnect, Filters, Frame, Packet, PacketId, Properties,
    Property, PropertyId, PropertyPacket, Publish, Qos, ReasonCode, ReasonCodes, RetainHandling,
    Suback, Subscribe, SubscriptionOptions, TopicFilters, Unsuback, Unsubscribe, Version, Will,
    decode, split,
};
use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};

/// A packet that can be sent.
///
/// What it borrows is leaked: a few megabytes in a test, and no owned twin of each packet.
#[derive(Clone, Debug)]
struct Sendable {
    version: Version,
    packet: Packet<'static>,
}

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn leak<T>(items: Vec<T>) -> &'static [T] {
    Vec::leak(items)
}

fn pick<T: Copy>(g: &mut Gen, items: &[T]) -> T {
    *g.choose(items).expect("not empty")
}

fn below(g: &mut Gen, end: usize) -> usize {
    usize::arbitrary(g) % end
}

fn binary(g: &mut Gen) -> &'static [u8] {
    leak(Vec::arbitrary(g))
}

fn string(g: &mut Gen) -> &'static str {
    String::leak(String::arbitrary(g).replace('\0', "0"))
}

fn topic(g: &mut Gen) -> &'static str {
    String::leak(format!("t{}", string(g).replace(['+', '#'], "/")))
}

fn packet_id(g: &mut Gen) -> PacketId {
    PacketId::new(u16::arbitrary(g)).unwrap_or(PacketId::MAX)
}

fn qos(g: &mut Gen) -> Qos {
    pick(g, &[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

/// A number that is often at an edge of the lengths of a Variable Byte Integer.
fn number(g: &mut Gen) -> u32 {
    pick(g, &[1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
}

fn property(g: &mut Gen, id: PropertyId) -> Property<'static> {
    use Property as P;
    use PropertyId as Id;
    match id {
        Id::PayloadFormatIndicator => P::PayloadFormatIndicator(pick(g, &[0, 1])),
        Id::MessageExpiryInterval => P::MessageExpiryInterval(u32::arbitrary(g)),
        Id::ContentType => P::ContentType(string(g)),
        Id::ResponseTopic => P::ResponseTopic(topic(g)),
        Id::CorrelationData => P::CorrelationData(binary(g)),
        Id::SubscriptionIdentifier => P::SubscriptionIdentifier(number(g)),
        Id::SessionExpiryInterval => P::SessionExpiryInterval(u32::arbitrary(g)),
        Id::AssignedClientIdentifier => P::AssignedClientIdentifier(string(g)),
        Id::ServerKeepAlive => P::ServerKeepAlive(u16::arbitrary(g)),
        Id::AuthenticationMethod => P::AuthenticationMethod(string(g)),
        Id::AuthenticationData => P::AuthenticationData(binary(g)),
        Id::RequestProblemInformation => P::RequestProblemInformation(bool::arbitrary(g)),
        Id::WillDelayInterval => P::WillDelayInterval(u32::arbitrary(g)),
        Id::RequestResponseInformation => P::RequestResponseInformation(bool::arbitrary(g)),
        Id::ResponseInformation => P::ResponseInformation(string(g)),
        Id::ServerReference => P::ServerReference(string(g)),
        Id::ReasonString => P::ReasonString(string(g)),
        Id::ReceiveMaximum => P::ReceiveMaximum(u16::arbitrary(g).max(1)),
        Id::TopicAliasMaximum => P::TopicAliasMaximum(u16::arbitrary(g)),
        Id::TopicAlias => P::TopicAlias(u16::arbitrary(g).max(1)),
        Id::MaximumQos => P::MaximumQos(pick(g, &[0, 1])),
        Id::RetainAvailable => P::RetainAvailable(bool::arbitrary(g)),
        Id::UserProperty => P::UserProperty(string(g), string(g)),
        Id::MaximumPacketSize => P::MaximumPacketSize(u32::arbitrary(g).max(1)),
        Id::WildcardSubscriptionAvailable => P::WildcardSubscriptionAvailable(bool::arbitrary(g)),
        Id::SubscriptionIdentifierAvailable => {
            P::SubscriptionIdentifierAvailable(bool::arbitrary(g))
        }
        Id::SharedSubscriptionAvailable => P::SharedSubscriptionAvailable(bool::arbitrary(g)),
    }
}

fn property_list(g: &mut Gen, version: Version, packet: PropertyPacket) -> Vec<Property<'static>> {
    let mut list: Vec<Property<'static>> = Vec::new();
    if version < Version::V5 || bool::arbitrary(g) {
        return list;
    }
    let ids: Vec<PropertyId> =
        PropertyId::ALL.iter().copied().filter(|id| id.allowed_in(packet)).collect();
    for _ in 0..below(g, 2 + ids.len()) {
        let id = pick(g, &ids);
        let repeats = id == PropertyId::UserProperty
            || id == PropertyId::SubscriptionIdentifier && packet == PropertyPacket::Publish;
        let there = |id| list.iter().any(|property| property.id() == id);
        if repeats || !there(id) {
            if id == PropertyId::AuthenticationData && !there(PropertyId::AuthenticationMethod) {
                list.push(property(g, PropertyId::AuthenticationMethod));
            }
            list.push(property(g, id));
        }
    }
    list
}

fn properties(g: &mut Gen, version: Version, packet: PropertyPacket) -> Properties<'static> {
    Properties::list(leak(property_list(g, version, packet)))
}

fn reason(g: &mut Gen, version: Version, packet_type: u8) -> ReasonCode {
    if version < Version::V5 {
        return ReasonCode::Success;
    }
    let codes: Vec<ReasonCode> =
        ReasonCode::ALL.iter().copied().filter(|code| code.allowed_in(packet_type)).collect();
    pick(g, &codes)
}

fn connect(g: &mut Gen, version: Version) -> Packet<'static> {
    let will = bool::arbitrary(g).then(|| Will {
        qos: qos(g),
        retain: bool::arbitrary(g),
        topic: topic(g),
        payload: binary(g),
        properties: properties(g, version, PropertyPacket::Will),
    });
    let username = bool::arbitrary(g).then(|| string(g));
    let may = version == Version::V5 || username.is_some();
    Packet::Connect(Connect {
        version,
        bridge: version < Version::V5 && bool::arbitrary(g),
        clean_start: bool::arbitrary(g),
        keep_alive: u16::arbitrary(g),
        client_id: string(g),
        will,
        username,
        password: (may && bool::arbitrary(g)).then(|| binary(g)),
        properties: properties(g, version, PropertyPacket::Connect),
    })
}

fn connack(g: &mut Gen, version: Version) -> Packet<'static> {
    let reason = match version {
        Version::V5 => reason(g, version, 2),
        _ => ReasonCode::from_return_code(u8::arbitrary(g) % 6).expect("known"),
    };
    let may = !reason.is_error() && version > Version::V31;
    Packet::Connack(Connack {
        session_present: may && bool::arbitrary(g),
        reason,
        properties: properties(g, version, PropertyPacket::Connack),
    })
}

fn publish(g: &mut Gen, version: Version) -> Packet<'static> {
    let qos = qos(g);
    let acknowledged = qos > Qos::AtMostOnce;
    let properties = properties(g, version, PropertyPacket::Publish);
    let aliased = properties.find(PropertyId::TopicAlias).is_some();
    Packet::Publish(Publish {
        dup: acknowledged && bool::arbitrary(g),
        qos,
        retain: bool::arbitrary(g),
        topic: if aliased && bool::arbitrary(g) { "" } else { topic(g) },
        packet_id: acknowledged.then(|| packet_id(g)),
        properties,
        payload: binary(g),
    })
}

fn ack(g: &mut Gen, version: Version, packet_type: u8) -> Ack<'static> {
    Ack {
        packet_id: packet_id(g),
        reason: reason(g, version, packet_type),
        properties: properties(g, version, PropertyPacket::Ack),
    }
}

fn subscribe(g: &mut Gen, version: Version) -> Packet<'static> {
    let mut filters = Vec::new();
    for _ in 0..1 + below(g, 4) {
        let mut options = SubscriptionOptions { qos: qos(g), ..SubscriptionOptions::default() };
        if version == Version::V5 {
            use RetainHandling::{DoNotSend, Send, SendIfNew};
            options.no_local = bool::arbitrary(g);
            options.retain_as_published = bool::arbitrary(g);
            options.retain_handling = pick(g, &[Send, SendIfNew, DoNotSend]);
        }
        filters.push((string(g), options));
    }
    Packet::Subscribe(Subscribe {
        packet_id: packet_id(g),
        properties: properties(g, version, PropertyPacket::Subscribe),
        filters: Filters::list(leak(filters)),
    })
}

fn suback(g: &mut Gen, version: Version) -> Packet<'static> {
    use ReasonCode as R;
    let old = [R::Success, R::GrantedQos1, R::GrantedQos2, R::UnspecifiedError];
    let mut reasons = Vec::new();
    for _ in 0..1 + below(g, 4) {
        reasons.push(match version {
            Version::V31 => pick(g, &old[..3]),
            Version::V311 => pick(g, &old),
            Version::V5 => reason(g, version, 9),
        });
    }
    Packet::Suback(Suback {
        packet_id: packet_id(g),
        properties: properties(g, version, PropertyPacket::Suback),
        reasons: ReasonCodes::list(leak(reasons)),
    })
}

fn unsubscribe(g: &mut Gen, version: Version) -> Packet<'static> {
    let filters = (0..1 + below(g, 4)).map(|_| string(g)).collect();
    Packet::Unsubscribe(Unsubscribe {
        packet_id: packet_id(g),
        properties: properties(g, version, PropertyPacket::Unsubscribe),
        filters: TopicFilters::list(leak(filters)),
    })
}

fn unsuback(g: &mut Gen, version: Version) -> Packet<'static> {
    let count = if version == Version::V5 { 1 + below(g, 4) } else { 0 };
    let reasons = (0..count).map(|_| reason(g, version, 11)).collect();
    Packet::Unsuback(Unsuback {
        packet_id: packet_id(g),
        properties: properties(g, version, PropertyPacket::Unsuback),
        reasons: ReasonCodes::list(leak(reasons)),
    })
}

fn auth(g: &mut Gen) -> Packet<'static> {
    let mut list = property_list(g, Version::V5, PropertyPacket::Auth);
    if !list.iter().any(|property| property.id() == PropertyId::AuthenticationMethod) {
        list.push(property(g, PropertyId::AuthenticationMethod));
    }
    let properties = Properties::list(leak(list));
    Packet::Auth(Auth { reason: reason(g, Version::V5, 15), properties })
}

fn packet(g: &mut Gen, version: Version, packet_type: u8) -> Packet<'static> {
    match packet_type {
        1 => connect(g, version),
        2 => connack(g, version),
        3 => publish(g, version),
        4 => Packet::Puback(ack(g, version, 4)),
        5 => Packet::Pubrec(ack(g, version, 5)),
        6 => Packet::Pubrel(ack(g, version, 6)),
        7 => Packet::Pubcomp(ack(g, version, 7)),
        8 => subscribe(g, version),
        9 => suback(g, version),
        10 => unsubscribe(g, version),
        11 => unsuback(g, version),
        12 => Packet::Pingreq,
        13 => Packet::Pingresp,
        14 => Packet::Disconnect(Disconnect {
            reason: reason(g, version, 14),
            properties: properties(g, version, PropertyPacket::Disconnect),
        }),
        _ => auth(g),
    }
}

impl Arbitrary for Sendable {
    fn arbitrary(g: &mut Gen) -> Self {
        let version = pick(g, &VERSIONS);
        let last = if version == Version::V5 { 15 } else { 14 };
        let packet_type = 1 + below(g, last) as u8;
        Self { version, packet: packet(g, version, packet_type) }
    }
}

/// The packet's bytes, in memory that shows what was left unwritten.
fn encode(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let len = packet.encoded_len(version).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    let mut zeros = vec![0; len as usize];
    let mut ones = vec![0xff; len as usize];
    packet.encode(version, &mut zeros);
    packet.encode(version, &mut ones);
    assert_eq!(zeros, ones);
    zeros
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    let (frame, used) = split(bytes, bytes.len() as u32).expect("legal").expect("whole");
    assert_eq!(used, bytes.len());
    frame
}

/// Enough for each of the 44 kinds of packet to come up often.
fn check<F: quickcheck::Testable>(property: F) {
    QuickCheck::new().tests(4000).min_tests_passed(4000).quickcheck(property);
}

#[test]
fn decode_after_encode_is_the_identity() {
    fn property(Sendable { version, packet }: Sendable) {
        let bytes = encode(version, &packet);
        let frame = whole(&bytes);
        assert!(frame.minimal);
        assert_eq!(frame.packet_type(), packet.packet_type());
        let read = decode(version, frame).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
        assert_eq!(read, packet);
        // What borrows from bytes is written as what borrows from lists.
        assert_eq!(encode(version, &read), bytes);
    }
    check(property as fn(Sendable));
}

#[test]
fn every_kind_of_packet_is_generated() {
    let mut seen = std::collections::BTreeSet::new();
    let mut g = Gen::new(10);
    for _ in 0..4000 {
        let sendable = Sendable::arbitrary(&mut g);
        seen.insert((sendable.version, sendable.packet.packet_type()));
    }
    assert_eq!(seen.len(), 14 + 14 + 15);
}

#[cfg(feature = "alloc")]
#[test]
fn append_adds_the_same_bytes() {
    fn property(Sendable { version, packet }: Sendable, before: Vec<u8>) {
        let mut out = before.clone();
        packet.append(version, &mut out).expect("can be sent");
        assert_eq!(out, [before, encode(version, &packet)].concat());
    }
    check(property as fn(Sendable, Vec<u8>));
}

#[test]
fn every_truncation_needs_more_bytes() {
    fn property(Sendable { version, packet }: Sendable) {
        let bytes = encode(version, &packet);
        for len in 0..bytes.len() {
            assert_eq!(split(&bytes[..len], u32::MAX), Ok(None));
        }
    }
    check(property as fn(Sendable));
}

#[test]
fn a_body_cut_short_is_refused_or_another_packet() {
    fn property(Sendable { version, packet }: Sendable) {
        let bytes = encode(version, &packet);
        let frame = whole(&bytes);
        for len in 0..frame.body.len() {
            let cut = Frame { body: &frame.body[..len], ..frame };
            assert_ne!(decode(version, cut).as_ref(), Ok(&packet), "{len} bytes");
        }
    }
    check(property as fn(Sendable));
}

#[test]
fn a_body_with_bytes_to_spare_is_refused_or_another_packet() {
    fn property(Sendable { version, packet }: Sendable, more: u8) {
        let bytes = encode(version, &packet);
        let frame = whole(&bytes);
        let longer = [frame.body, &[more]].concat();
        let read = decode(version, Frame { body: &longer, ..frame });
        // Success written out is still success.
        let written_out = matches!(
            packet,
            Packet::Puback(_)
                | Packet::Pubrec(_)
                | Packet::Pubrel(_)
                | Packet::Pubcomp(_)
                | Packet::Disconnect(_)
        ) && more == 0;
        assert!(written_out || read.as_ref() != Ok(&packet), "{read:?}");
    }
    check(property as fn(Sendable, u8));
}

/// Uses all that a decoded packet offers; what can be sent again is read as the same.
fn exercise(version: Version, frame: Frame<'_>) -> bool {
    let Ok(packet) = decode(version, frame) else { return false };
    assert!(!format!("{packet:?}").is_empty());
    assert_eq!(packet, packet.clone());
    let version = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    if packet.encoded_len(version).is_ok() {
        let bytes = encode(version, &packet);
        assert_eq!(decode(version, whole(&bytes)), Ok(packet));
    } else {
        // Read, but not to be sent by us: a failure in 3.1, No Local on a shared subscription.
        assert!(matches!(packet, Packet::Suback(_) | Packet::Subscribe(_)), "{packet:?}");
    }
    true
}

#[test]
fn no_input_panics() {
    fn property(first: u8, body: Vec<u8>, minimal: bool) {
        for version in VERSIONS {
            exercise(version, Frame { first, minimal, body: &body });
        }
        let stream = [vec![first], body].concat();
        if let Ok(Some((frame, used))) = split(&stream, 1000) {
            assert!(used <= stream.len() && frame.body.len() < used);
        }
    }
    QuickCheck::new()
        .tests(10_000)
        .min_tests_passed(10_000)
        .quickcheck(property as fn(u8, Vec<u8>, bool));
}

#[test]
fn no_damaged_packet_panics() {
    fn property(
        Sendable { version, packet }: Sendable,
        changes: Vec<(usize, u8, u8)>,
    ) -> TestResult {
        let bytes = encode(version, &packet);
        let frame = whole(&bytes);
        let mut body = frame.body.to_vec();
        for (at, kind, byte) in changes.into_iter().take(4) {
            if body.is_empty() {
                return TestResult::discard();
            }
            let at = at % body.len();
            match kind % 4 {
                0 => body[at] = byte,
                1 => body[at] ^= 1 << (byte % 8),
                2 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        for version in VERSIONS {
            exercise(version, Frame { body: &body, ..frame });
        }
        TestResult::passed()
    }
    type Property = fn(Sendable, Vec<(usize, u8, u8)>) -> TestResult;
    check(property as Property);
}
