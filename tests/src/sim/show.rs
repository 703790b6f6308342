//! Packets as short lines, for traces.

use std::fmt::Write;

use fulmar_core::Version;
use fulmar_core::codec::{Packet, Property, decode, split};

/// Whole packets by name and what tells them apart; other bytes by their number.
pub(super) fn packets(version: Version, bytes: &[u8]) -> String {
    let (mut text, mut at) = (String::new(), 0);
    while let Ok(Some((frame, used))) = split(&bytes[at..], u32::MAX) {
        at += used;
        let _ = match decode(version, frame) {
            Ok(packet) => packet_line(&mut text, &packet),
            Err(error) => write!(text, " [{error}]"),
        };
    }
    if at < bytes.len() {
        let _ = write!(text, " and {} bytes", bytes.len() - at);
    }
    text
}

fn packet_line(text: &mut String, packet: &Packet<'_>) -> std::fmt::Result {
    match packet {
        Packet::Publish(p) => {
            let key = p.payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            let (id, dup) = (p.packet_id.map_or(0, |id| id.get()), if p.dup { " dup" } else { "" });
            let retain = if p.retain { " retain" } else { "" };
            write!(text, " [PUBLISH {} {key} q{} i{id}{dup}{retain}", p.topic, p.qos as u8)?;
            for property in p.properties.iter() {
                match property {
                    Property::UserProperty(..) => {}
                    other => write!(text, " {other:?}")?,
                }
            }
            write!(text, " {}b]", p.payload.len())
        }
        Packet::Puback(a) => write!(text, " [PUBACK {} {:?}]", a.packet_id, a.reason),
        Packet::Pubrec(a) => write!(text, " [PUBREC {} {:?}]", a.packet_id, a.reason),
        Packet::Pubrel(a) => write!(text, " [PUBREL {} {:?}]", a.packet_id, a.reason),
        Packet::Pubcomp(a) => write!(text, " [PUBCOMP {} {:?}]", a.packet_id, a.reason),
        Packet::Connect(c) => {
            write!(text, " [{c:?} {:?} {:?}]", c.properties, c.will.map(|will| will.properties))
        }
        other => write!(text, " [{other:?}]"),
    }
}
