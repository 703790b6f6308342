//! Packets of the generator, written and read with the codec of the core.

use std::io;
use std::ops::Range;

use fulmar_core::codec::{
    Ack, Connect, Filters, Frame, Properties, Property, Publish, Suback, Subscribe,
    SubscriptionOptions, TopicFilters, Unsuback, Unsubscribe, decode, header, split,
};
use fulmar_core::{Packet, PacketId, Qos, ReasonCode, Version};

use super::scenario::Load;

/// Largest packet taken.
const MAX_PACKET: u32 = 1024 * 1024;
/// Seconds; longer than any run, and a deadline for the broker all the same.
const KEEP_ALIVE: u16 = 3600;
/// Aliases that a subscriber allows.
pub(super) const ALIASES: u16 = 16;

/// Bytes from which on a message is not kept until it is whole: to copy it about would push out of
/// the caches what the broker has there.
const LARGE: usize = 4 * 1024;

/// What a payload has behind its stamp, over and over: one byte, so that it can be looked at from
/// anywhere. Small, so that little is pushed out of the caches that the broker uses, too.
static FILLING: [u8; 1024] = [b'x'; 1024];

/// What a publisher adds to each message where it uses properties.
const ADDED: [Property<'_>; 4] = [
    Property::MessageExpiryInterval(3600),
    Property::ContentType("application/octet-stream"),
    Property::UserProperty("device", "thermometer-7"),
    Property::UserProperty("unit", "kelvin"),
];

/// What each payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Nanoseconds on the monotonic clock at which it was sent, or was to be sent.
    pub(super) time: u64,
    pub(super) publisher: u32,
    /// The number of its topic in the load, which says what numbering it belongs to.
    pub(super) topic: u32,
    pub(super) number: u32,
}

impl Stamp {
    /// Bytes in a payload.
    pub(super) const LEN: usize = 20;

    #[inline]
    fn write(&self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.time.to_le_bytes());
        out[8..12].copy_from_slice(&self.publisher.to_le_bytes());
        out[12..16].copy_from_slice(&self.topic.to_le_bytes());
        out[16..20].copy_from_slice(&self.number.to_le_bytes());
    }

    /// The stamp of a payload; `None` if it is too short to have one.
    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let bytes = payload.first_chunk::<{ Self::LEN }>()?;
        let four = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let time = u64::from(four(0)) | u64::from(four(4)) << 32;
        Some(Self { time, publisher: four(8), topic: four(12), number: four(16) })
    }
}

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.append(version, &mut bytes).expect("packets of the generator can be sent");
    bytes
}

/// CONNECT with a clean session.
pub(super) fn connect(load: &Load, client_id: &str) -> Vec<u8> {
    let properties = [Property::TopicAliasMaximum(ALIASES)];
    let properties = if load.properties { &properties[..] } else { &[] };
    let connect = Connect {
        version: load.version,
        bridge: false,
        clean_start: true,
        keep_alive: KEEP_ALIVE,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::list(properties),
    };
    encoded(load.version, &Packet::Connect(connect))
}

/// SUBSCRIBE with all these filters.
pub(super) fn subscribe(load: &Load, id: PacketId, filters: &[String]) -> Vec<u8> {
    let options = SubscriptionOptions { qos: load.qos, ..SubscriptionOptions::default() };
    let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), options)).collect();
    let (properties, filters) = (Properties::EMPTY, Filters::list(&filters));
    let subscribe = Subscribe { packet_id: id, properties, filters };
    encoded(load.version, &Packet::Subscribe(subscribe))
}

/// UNSUBSCRIBE of 3.1.1 from all these filters.
pub(super) fn unsubscribe(id: PacketId, filters: &[String]) -> Vec<u8> {
    let filters: Vec<_> = filters.iter().map(String::as_str).collect();
    let (properties, filters) = (Properties::EMPTY, TopicFilters::list(&filters));
    let unsubscribe = Unsubscribe { packet_id: id, properties, filters };
    encoded(Version::V311, &Packet::Unsubscribe(unsubscribe))
}

/// DISCONNECT.
pub(super) const DISCONNECT: [u8; 2] = [0xe0, 0];
/// PINGREQ.
pub(super) const PINGREQ: [u8; 2] = [0xc0, 0];

/// A PUBLISH encoded once. Packet Identifier and stamp are put in at each use.
pub(super) struct Template {
    bytes: Vec<u8>,
    topic: Range<usize>,
    id_at: Option<usize>,
    stamp_at: usize,
}

/// What a publisher sends to one topic: first, and from then on.
pub(super) struct Templates {
    pub(super) first: Template,
    pub(super) again: Template,
}

impl Templates {
    /// To a topic, which has this alias where aliases are used.
    pub(super) fn new(load: &Load, topic: &str, alias: u16) -> Self {
        let mut properties = Vec::new();
        if load.properties {
            properties.extend(ADDED);
            properties.push(Property::TopicAlias(alias));
        }
        let later = if load.properties { "" } else { topic };
        Self {
            first: Template::new(load, topic, &properties),
            again: Template::new(load, later, &properties),
        }
    }
}

impl Template {
    fn new(load: &Load, topic: &str, properties: &[Property<'_>]) -> Self {
        let length = load.payload.max(Stamp::LEN);
        let payload: Vec<_> = FILLING.iter().copied().cycle().take(length).collect();
        let qos = load.qos;
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: (qos > Qos::AtMostOnce).then_some(PacketId::MIN),
            properties: Properties::list(properties),
            payload: &payload,
        };
        let bytes = encoded(load.version, &Packet::Publish(publish));
        let header = header(&bytes).ok().flatten().expect("a whole packet");
        let topic_at = usize::from(header.header_len) + 2;
        let topic = topic_at..topic_at + topic.len();
        let id_at = (qos > Qos::AtMostOnce).then_some(topic.end);
        let stamp_at = bytes.len() - payload.len();
        Self { bytes, topic, id_at, stamp_at }
    }

    /// The Topic Name, empty where an alias stands for it.
    #[inline]
    pub(super) fn topic(&self) -> &[u8] {
        &self.bytes[self.topic.clone()]
    }

    /// Appends a message. With QoS 0 `id` is not looked at.
    #[inline]
    pub(super) fn append(&self, out: &mut Vec<u8>, id: u16, stamp: &Stamp) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        if let Some(at) = self.id_at {
            packet[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        stamp.write(&mut packet[self.stamp_at..]);
    }
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP with success.
#[inline]
pub(super) fn acknowledge(
    version: Version,
    packet: fn(Ack<'static>) -> Packet<'static>,
    packet_id: PacketId,
    out: &mut Vec<u8>,
) {
    let ack = Ack { packet_id, reason: ReasonCode::Success, properties: Properties::EMPTY };
    packet(ack).append(version, out).expect("an acknowledgement can be sent");
}

/// Whether a message has all that a publisher of this load adds, its payload has the `length` of
/// one that was sent, and what is here of it is, behind the stamp, what was sent, byte by byte.
pub(super) fn is_unaltered(load: &Load, publish: &Publish<'_>, length: usize) -> bool {
    let added = |property: &Property<'_>| match property {
        // Seconds that it waited are taken off.
        Property::MessageExpiryInterval(seconds) => (1..=3600).contains(seconds),
        property => ADDED.contains(property),
    };
    let same = length == load.payload.max(Stamp::LEN)
        && publish.payload.get(Stamp::LEN..).is_some_and(is_filling);
    let count = || publish.properties.iter().filter(added).count();
    same && (!load.properties || count() == ADDED.len())
}

/// Whether this is some of what payloads have behind their stamp, from wherever.
pub(super) fn is_filling(part: &[u8]) -> bool {
    part.chunks(FILLING.len()).all(|part| *part == FILLING[..part.len()])
}

/// Whether a packet is an answer to a client that refuses nothing.
pub(super) fn is_granted(packet: &Packet<'_>) -> bool {
    match packet {
        Packet::Connack(connack) => !connack.reason.is_error(),
        Packet::Suback(Suback { reasons, .. }) | Packet::Unsuback(Unsuback { reasons, .. }) => {
            reasons.iter().all(|reason| !reason.is_error())
        }
        Packet::Pingresp => true,
        _ => false,
    }
}

/// What goes wrong where the other side is to speak MQTT.
pub(super) fn malformed(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the broker sent what is not MQTT: {what}"))
}

/// What goes wrong where the broker answers otherwise than to grant what was asked.
pub(super) fn refused(packet: &Packet<'_>) -> io::Error {
    io::Error::other(format!("the broker refused: {packet:?}"))
}

/// Takes all whole packets off `bytes`, and says how many bytes they had.
///
/// # Errors
/// What is not MQTT, or an error of `take`.
pub(super) fn packets(
    version: Version,
    bytes: &[u8],
    mut take: impl FnMut(Packet<'_>) -> io::Result<()>,
) -> io::Result<usize> {
    let mut used = 0;
    while let Some((frame, len)) = split(&bytes[used..], MAX_PACKET).map_err(malformed)? {
        take(decode(version, frame).map_err(malformed)?)?;
        used += len;
    }
    Ok(used)
}

/// The beginning of a PUBLISH that has not come whole, with some of its payload, and how many bytes
/// of that are missing; `None` for what is to be kept until more of it has come: few bytes, another
/// packet, a payload without its stamp.
pub(super) fn beginning(version: Version, bytes: &[u8]) -> Option<(Publish<'_>, usize)> {
    if bytes.len() < LARGE {
        return None;
    }
    let header = header(bytes).ok().flatten()?;
    let missing = header.total().checked_sub(bytes.len() as u32)? as usize;
    let body = &bytes[usize::from(header.header_len)..];
    let frame = Frame { first: header.first, minimal: header.minimal, body };
    match decode(version, frame) {
        // Without its stamp nothing can be said of it.
        Ok(Packet::Publish(publish)) if publish.payload.len() >= Stamp::LEN => {
            Some((publish, missing))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::ALL;
    use super::*;

    #[test]
    fn what_is_sent_comes_back_whatever_the_scenario() {
        for scenario in ALL {
            let load = scenario.load;
            let templates = Templates::new(&load, "bench/topic/7", 1);
            for (template, topic) in [(&templates.first, true), (&templates.again, false)] {
                let sent = Stamp { time: u64::MAX - 9, publisher: 3, topic: 1, number: 1 << 20 };
                let mut bytes = Vec::new();
                template.append(&mut bytes, 513, &sent);
                bytes.extend([0x40, 0]);
                let mut seen = 0;
                let used = packets(load.version, &bytes[..bytes.len() - 1], |packet| {
                    let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
                    seen += 1;
                    assert_eq!(Stamp::read(publish.payload), Some(sent));
                    let length = publish.payload.len();
                    assert!(is_unaltered(&load, &publish, length), "{}", scenario.name);
                    assert_eq!(publish.packet_id.is_some(), load.qos > Qos::AtMostOnce);
                    assert!(publish.packet_id.is_none_or(|id| id.get() == 513));
                    assert_eq!(!publish.topic.is_empty(), topic || !load.properties);
                    assert_eq!(publish.topic.as_bytes(), template.topic());
                    Ok(())
                });
                assert_eq!((used.expect("packets"), seen), (bytes.len() - 2, 1));
            }
        }
    }

    #[test]
    fn what_is_missing_or_changed_is_seen() {
        let load = ALL.iter().find(|scenario| scenario.load.properties).expect("S10").load;
        let payload = vec![b'x'; load.payload];
        let ok = Publish { payload: &payload, ..Publish::default() };
        let good = |publish: Publish<'_>| is_unaltered(&load, &publish, publish.payload.len());
        assert!(!good(ok), "properties are missing");
        let properties = Properties::list(&ADDED);
        assert!(good(Publish { properties, ..ok }));
        assert!(!good(Publish { properties, payload: &payload[1..], ..ok }));
        let mut other = ADDED;
        other[3] = Property::UserProperty("unit", "celsius");
        let properties = Properties::list(&other);
        assert!(!good(Publish { properties, ..ok }));
    }

    #[test]
    fn a_byte_that_changed_is_seen_wherever_it_is_but_in_the_stamp() {
        for length in [21, 64, FILLING.len() + 20, 2 * FILLING.len()] {
            let load = Load { payload: length, ..ALL[0].load };
            let mut payload = vec![b'x'; length];
            let good = |payload: &[u8]| {
                is_unaltered(&load, &Publish { payload, ..Publish::default() }, payload.len())
            };
            assert!(good(&payload));
            for at in [0, 19, 20, length / 2, length - 1] {
                let before = std::mem::replace(&mut payload[at], b'y');
                assert_eq!(good(&payload), at < Stamp::LEN, "byte {at} of {length}");
                payload[at] = before;
            }
        }
    }

    #[test]
    fn of_a_large_message_the_beginning_is_known_wherever_it_is_cut() {
        let load = Load { payload: 3 * LARGE, ..ALL[0].load };
        let sent = Stamp { time: 7, publisher: 3, topic: 1, number: 9 };
        let mut bytes = Vec::new();
        Templates::new(&load, "bench/topic/7", 1).first.append(&mut bytes, 513, &sent);
        for len in 0..bytes.len() {
            let begun = beginning(load.version, &bytes[..len]);
            assert_eq!(begun.is_some(), len >= LARGE, "{len} bytes");
            let Some((publish, missing)) = begun else { continue };
            assert_eq!((Stamp::read(publish.payload), missing), (Some(sent), bytes.len() - len));
            assert!(is_unaltered(&load, &publish, publish.payload.len() + missing));
            assert!(is_filling(&bytes[len..]));
        }
        // An acknowledgement has no payload, however large it is.
        bytes[0] = 0x40;
        assert!(beginning(load.version, &bytes[..LARGE]).is_none());
    }

    #[test]
    fn what_is_not_mqtt_is_an_error() {
        assert!(packets(Version::V311, &[0x00, 0x00], |_| Ok(())).is_err());
        assert!(packets(Version::V311, &[0x30, 0xff, 0xff, 0xff, 0xff], |_| Ok(())).is_err());
    }
}
