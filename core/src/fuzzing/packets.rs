//! Framing and packets.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Write};

use super::version;
use crate::codec::{self, EncodeError, Frame, Header, Packet, Properties, PropertyPacket, Version};

/// Throws text away: for what is to be formatted, but not looked at.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> core::fmt::Result {
        Ok(())
    }
}

fn visit(value: &impl Debug) {
    write!(Nowhere, "{value:?}").expect("nothing fails here");
}

/// Headers and frames of a byte stream.
///
/// # Panics
/// If a header changes its meaning as more bytes come, or a frame is not what its header says.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while let Some(header) = stable_header(rest) {
        check_header(rest, header);
        let total = header.total();
        assert!(codec::split(rest, total - 1).is_err(), "a frame larger than allowed");
        match codec::split(rest, total) {
            Ok(Some((frame, used))) => {
                assert_eq!((frame.first, frame.minimal), (header.first, header.minimal));
                assert_eq!(used, total as usize);
                assert_eq!(frame.body, &rest[usize::from(header.header_len)..used]);
                assert_eq!(codec::split(&rest[..used - 1], total), Ok(None));
                rest = &rest[used..];
            }
            Ok(None) => {
                assert!((rest.len() as u64) < u64::from(total), "a whole frame is not seen");
                return;
            }
            Err(error) => panic!("{error} in a frame that is allowed"),
        }
    }
}

/// The header, which must be the same from the byte on that completes it. `None` if it is
/// malformed or not complete.
fn stable_header(bytes: &[u8]) -> Option<Header> {
    let mut answers = (0..=bytes.len().min(8)).map(|len| codec::header(&bytes[..len]));
    let first = answers.find(|answer| !matches!(answer, Ok(None)))?;
    assert!(answers.all(|later| later == first), "a header that changes");
    first.ok().flatten()
}

fn check_header(bytes: &[u8], header: Header) {
    let mut value = 0u64;
    for byte in bytes[1..usize::from(header.header_len)].iter().rev() {
        value = value << 7 | u64::from(byte & 0x7f);
    }
    assert_eq!(u64::from(header.remaining), value);
    let fewest = match value {
        0..0x80 => 2,
        0x80..0x4000 => 3,
        0x4000..0x20_0000 => 4,
        _ => 5,
    };
    assert_eq!(header.minimal, header.header_len == fewest);
}

/// Packets of any version: the first byte chooses it, the rest are frames.
///
/// # Panics
/// If something in a packet that was accepted cannot be read, or a string has U+0000.
pub fn decode(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let version = version(*choice);
    while let Ok(Some((frame, used))) = codec::split(rest, u32::MAX) {
        rest = &rest[used..];
        // Refusals are formatted, too.
        visit(&codec::level(frame.body));
        match codec::decode(version, frame) {
            Ok(packet) => {
                assert_eq!(packet.packet_type(), frame.packet_type());
                visit(&packet);
            }
            Err(error) => {
                write!(Nowhere, "{error}").expect("nothing fails here");
                assert!(error.reason.is_error());
            }
        }
        block(frame.body);
    }
}

/// Properties without a packet around them.
fn block(bytes: &[u8]) {
    use PropertyPacket as P;
    for packet in [P::Connect, P::Connack, P::Publish, P::Will, P::Ack, P::Subscribe, P::Auth] {
        let Ok(properties) = Properties::from_wire(packet, bytes) else { continue };
        let list: Vec<_> = properties.iter().collect();
        assert!(list.iter().all(|property| property.id().allowed_in(packet)));
        assert!(list.iter().all(|property| properties.find(property.id()).is_some()));
        assert_eq!(properties.wire_len(), bytes.len());
    }
}

/// Decode, encode, decode: the first byte chooses the version, the rest are frames.
///
/// # Panics
/// If a packet that was accepted cannot be sent, does not come back as it was, or grows.
pub fn reencode(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let version = version(*choice);
    while let Ok(Some((frame, used))) = codec::split(rest, u32::MAX) {
        rest = &rest[used..];
        if let Ok(packet) = codec::decode(version, frame) {
            again(version, frame, &packet, used);
        }
    }
}

fn again(version: Version, frame: Frame<'_>, packet: &Packet<'_>, used: usize) {
    let len = match packet.encoded_len(version) {
        Ok(len) => len as usize,
        Err(EncodeError::Inconsistent) if is_tolerated(version, packet) => return,
        Err(error) => panic!("{error}: {packet:?}"),
    };
    assert!(len <= used, "{packet:?} became longer");
    let mut bytes = vec![0; len];
    packet.encode(version, &mut bytes);
    let (second, taken) = codec::split(&bytes, len as u32).expect("a frame").expect("whole");
    assert_eq!(taken, len);
    assert!(second.minimal && second.packet_type() == frame.packet_type());
    let decoded = codec::decode(version, second).expect("what was sent can be read");
    assert_eq!(*packet, decoded);
    assert_eq!(decoded.encoded_len(version), Ok(len as u32));
    let mut third = vec![0; len];
    decoded.encode(version, &mut third);
    assert_eq!(bytes, third);
}

/// What is read from a peer but never sent.
fn is_tolerated(version: Version, packet: &Packet<'_>) -> bool {
    match packet {
        // A receiver has a reason code of its own for it. [MQTT-3.8.3-4]
        Packet::Subscribe(subscribe) => {
            let mut filters = subscribe.filters.iter();
            filters.any(|(filter, options)| options.no_local && filter.starts_with("$share/"))
        }
        // 3.1 has no failure here.
        Packet::Suback(suback) => {
            version == Version::V31 && suback.reasons.iter().any(|reason| reason.is_error())
        }
        _ => false,
    }
}
