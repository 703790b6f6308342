//! Packets from few bytes, with names from small pools so that they meet.

use alloc::vec;
use alloc::vec::Vec;

use super::op::Spec;
use crate::codec::{
    Ack, Auth, Connect, Disconnect, Filters, Packet, PacketId, Properties, Property, Publish, Qos,
    ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, TopicFilters, Unsubscribe, Version,
    Will,
};
use crate::fuzzing::version;
use crate::fuzzing::wire::{Flight, Wire};

const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "b", "$x/a", "$SYS/a", "a/b/c/d/e", "topic/long"];

const FILTERS: [&str; 16] = [
    "a",
    "a/b",
    "+",
    "#",
    "a/#",
    "a/+",
    "+/b",
    "b",
    "$x/#",
    "topic/long",
    "$share/g/a",
    "$share/g/#",
    "$share/h/a/b",
    "$share/h/+",
    "a/#/b",
    "$share/g",
];

const CLIENTS: [&str; 8] = ["c0", "c1", "c2", "c3", "", "c4", "c0", "c1"];

/// What authentication is called where there is any.
pub(super) const METHOD: &str = "m";

pub(super) fn topic(choice: u8) -> &'static str {
    TOPICS[usize::from(choice) % TOPICS.len()]
}

pub(super) fn topics() -> &'static [&'static str] {
    &TOPICS
}

pub(super) fn filter(choice: u8) -> &'static str {
    FILTERS[usize::from(choice) % FILTERS.len()]
}

pub(super) fn client(choice: u8) -> &'static str {
    CLIENTS[usize::from(choice) % CLIENTS.len()]
}

pub(super) fn qos(choice: u8) -> Qos {
    Qos::from_bits(choice & 3).unwrap_or_default()
}

/// A payload of up to some thousand bytes.
pub(super) fn payload(size: u8) -> Vec<u8> {
    let len = match size {
        0..200 => usize::from(size % 32),
        200..250 => usize::from(size),
        _ => 3000,
    };
    vec![b'p'; len]
}

fn id(choice: u8) -> PacketId {
    PacketId::MIN.saturating_add(u16::from(choice % 4))
}

/// The bytes of the packet in the version of this wire; none if it has no such packet.
pub(super) fn bytes(spec: Spec, wire: &Wire) -> Vec<u8> {
    let mut out = Vec::new();
    let spoken = wire.version();
    let five = spoken == Version::V5;
    // A packet that cannot be sent is none.
    let mut put = |packet: Packet<'_>| packet.append(spoken, &mut out).unwrap_or_default();
    match spec {
        Spec::Connect { .. } => return connect(spec),
        Spec::Publish { .. } => return publish(spec, spoken),
        Spec::Answer { flight, wrong } => put(answer(flight, wrong, wire)),
        Spec::Pubrel { id: choice } => put(Packet::Pubrel(ack(id(choice)))),
        Spec::Subscribe { id: choice, first, second, options, identifier } => {
            let options = subscription(options, five);
            let list = [(filter(first), options), (filter(second), options)];
            let identifiers = [Property::SubscriptionIdentifier(u32::from(identifier % 4))];
            put(Packet::Subscribe(Subscribe {
                packet_id: id(choice),
                properties: optional(five && identifier % 4 != 0, &identifiers),
                filters: Filters::list(if second % 2 == 0 { &list } else { &list[..1] }),
            }));
        }
        Spec::Unsubscribe { id: choice, filter: which } => put(Packet::Unsubscribe(Unsubscribe {
            packet_id: id(choice),
            properties: Properties::EMPTY,
            filters: TopicFilters::list(&[filter(which)]),
        })),
        Spec::Pingreq => put(Packet::Pingreq),
        Spec::Disconnect { reason, expiry } => {
            let will = five && reason % 2 == 1;
            let expiries = [Property::SessionExpiryInterval(u32::from(expiry))];
            put(Packet::Disconnect(Disconnect {
                reason: match will {
                    true => ReasonCode::DisconnectWithWill,
                    false => ReasonCode::Success,
                },
                properties: optional(five && expiry % 3 == 0, &expiries),
            }));
        }
        Spec::Auth { again, method } => {
            let list = [Property::AuthenticationMethod(if method { METHOD } else { "other" })];
            put(Packet::Auth(Auth {
                reason: match again {
                    true => ReasonCode::Reauthenticate,
                    false => ReasonCode::ContinueAuthentication,
                },
                properties: Properties::list(&list),
            }));
        }
    }
    out
}

fn optional<'a>(on: bool, list: &'a [Property<'a>]) -> Properties<'a> {
    if on { Properties::list(list) } else { Properties::EMPTY }
}

fn ack(packet_id: PacketId) -> Ack<'static> {
    Ack { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY }
}

fn subscription(options: u8, five: bool) -> SubscriptionOptions {
    let qos = qos(options);
    if !five {
        return SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    }
    SubscriptionOptions {
        qos,
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        retain_handling: match options >> 4 & 3 {
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => RetainHandling::Send,
        },
    }
}

/// What the flight waits for; an error, a repeat or nonsense where `wrong` says so.
fn answer(flight: u8, wrong: u8, wire: &Wire) -> Packet<'static> {
    let at = usize::from(flight) % wire.flights.len().max(1);
    let Some((packet_id, flight)) = wire.flights.iter().nth(at) else {
        return Packet::Puback(ack(id(flight)));
    };
    let right = ack(*packet_id);
    let refused = match wire.version() {
        Version::V5 if wrong % 8 == 1 => ReasonCode::QuotaExceeded,
        _ => ReasonCode::Success,
    };
    let refused = Ack { reason: refused, ..right };
    match (wrong % 16, flight) {
        (14, _) => Packet::Pubcomp(right),
        (15, _) => Packet::Pubrec(right),
        (_, Flight::Publish(Qos::ExactlyOnce)) => Packet::Pubrec(refused),
        (_, Flight::Publish(_)) => Packet::Puback(refused),
        (_, Flight::Pubrec | Flight::Pubrel | Flight::Resumed) => Packet::Pubcomp(right),
    }
}

fn connect(spec: Spec) -> Vec<u8> {
    let Spec::Connect { client: which, version: spoken, flags, expiry, limits, will } = spec else {
        return Vec::new();
    };
    let version = version(spoken);
    let five = version == Version::V5;
    let mut list = Vec::new();
    if five {
        list.extend(expiries(expiry).map(Property::SessionExpiryInterval));
        let maximum = [None, Some(1), Some(2), Some(10)][usize::from(limits & 3)];
        list.extend(maximum.map(Property::ReceiveMaximum));
        let size = [None, Some(40), Some(300), Some(5)][usize::from(limits >> 2 & 3)];
        list.extend(size.map(Property::MaximumPacketSize));
        let aliases = [None, Some(1), Some(3), None][usize::from(limits >> 4 & 3)];
        list.extend(aliases.map(Property::TopicAliasMaximum));
        list.extend((flags & 0x10 != 0).then_some(Property::AuthenticationMethod(METHOD)));
        list.extend((flags & 0x20 != 0).then_some(Property::RequestProblemInformation(false)));
        list.extend((flags & 0x40 != 0).then_some(Property::RequestResponseInformation(true)));
    }
    let delays = [Property::WillDelayInterval(u32::from(expiry & 3)), expiring(expiry)];
    let message = Will {
        qos: qos(will),
        retain: will & 4 != 0,
        topic: topic(will >> 5),
        payload: if will & 16 == 0 { b"will" } else { b"" },
        properties: optional(five && will & 8 != 0, &delays),
    };
    let connect = Connect {
        version,
        bridge: !five && flags & 8 != 0,
        clean_start: flags & 1 != 0,
        keep_alive: u16::from(flags >> 1 & 3) * 10,
        client_id: client(which),
        will: (will & 3 != 3).then_some(message),
        username: (flags & 0x80 != 0).then_some("user"),
        password: None,
        properties: Properties::list(&list),
    };
    let mut out = Vec::new();
    let _ = Packet::Connect(connect).append(version, &mut out);
    out
}

fn expiries(choice: u8) -> Option<u32> {
    [None, Some(0), Some(1), Some(10), Some(u32::MAX), Some(10), Some(u32::MAX), None]
        [usize::from(choice >> 2) % 8]
}

fn expiring(choice: u8) -> Property<'static> {
    Property::MessageExpiryInterval(u32::from(choice >> 5))
}

fn publish(spec: Spec, version: Version) -> Vec<u8> {
    let Spec::Publish { topic: name, flags, id: choice, size, properties } = spec else {
        return Vec::new();
    };
    let qos = qos(flags);
    let mut list = Vec::new();
    if version == Version::V5 {
        list.extend((properties & 1 != 0).then(|| expiring(properties)));
        let alias = u16::from(properties >> 2 & 7);
        list.extend((properties & 2 != 0).then_some(Property::TopicAlias(alias.max(1))));
        list.extend((properties & 0x80 != 0).then_some(Property::UserProperty("k", "v")));
    }
    let aliased = list.iter().any(|property| matches!(property, Property::TopicAlias(_)));
    let payload = payload(size);
    let publish = Publish {
        dup: flags & 4 != 0 && qos > Qos::AtMostOnce,
        qos,
        retain: flags & 8 != 0,
        topic: if aliased && flags & 16 != 0 { "" } else { topic(name) },
        packet_id: (qos > Qos::AtMostOnce).then(|| id(choice)),
        properties: Properties::list(&list),
        payload: &payload,
    };
    let mut out = Vec::new();
    let _ = Packet::Publish(publish).append(version, &mut out);
    out
}
