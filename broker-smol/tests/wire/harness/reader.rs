//! A strict reader of what a broker sends.
//!
//! Shares no code with the broker, so that both cannot be wrong in the same way.

use super::packet::{
    Byte, Data, Four, MAXIMUM_PACKET, Pair, Prop, Publish, RECEIVE_MAXIMUM, SUBSCRIPTION_ID,
    TOPIC_ALIAS, Text, Two, USER, V5, V31, V311, Var, Version, number,
};

/// A packet of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connack(Connack),
    Publish(Publish),
    Ack(Ack),
    Suback(Suback),
    Unsuback(Suback),
    Pingresp,
    Disconnect { code: u8, props: Vec<Prop> },
    Auth { code: u8, props: Vec<Prop> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connack {
    pub(crate) present: bool,
    pub(crate) code: u8,
    pub(crate) props: Vec<Prop>,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, told apart by the first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) first: u8,
    pub(crate) id: u16,
    pub(crate) code: u8,
    pub(crate) props: Vec<Prop>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suback {
    pub(crate) id: u16,
    pub(crate) codes: Vec<u8>,
    pub(crate) props: Vec<Prop>,
}

/// Lengths of the fixed header and of the whole first packet. `None`: more bytes are needed.
pub(crate) fn split(input: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let rest = input.get(1..).unwrap_or_default();
    if rest.len() < 4 && rest.iter().all(|b| b & 128 != 0) {
        return Ok(None);
    }
    let mut r = Reader(rest);
    let length = r.vbi()? as usize;
    let header = input.len() - r.0.len();
    Ok((r.0.len() >= length).then_some((header, header + length)))
}

/// Reads a packet of a broker, and tells what is wrong with it.
pub(crate) fn parse(version: Version, first: u8, body: &[u8]) -> Result<Packet, String> {
    let mut r = Reader(body);
    if first >> 4 != 3 && first & 15 != if first >> 4 == 6 { 2 } else { 0 } {
        return Err(format!("fixed header flags of {first:#04x}"));
    }
    let five = version == V5;
    let packet = match first >> 4 {
        2 => connack(version, &mut r)?,
        3 => Packet::Publish(publish(version, first, &mut r)?),
        4..=7 => Packet::Ack(acknowledgement(version, first, &mut r)?),
        9 => Packet::Suback(suback(version, &mut r, SUBACK_CODES)?),
        11 => Packet::Unsuback(suback(version, &mut r, &[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91])?),
        13 => Packet::Pingresp,
        14 if five => {
            let (code, props) = reason(&mut r, DISCONNECT_CODES, &[0x1C, 0x1F, 0x26])?;
            Packet::Disconnect { code, props }
        }
        15 if five => {
            let (code, props) = reason(&mut r, &[0x00, 0x18], &[0x15, 0x16, 0x1F, 0x26])?;
            Packet::Auth { code, props }
        }
        _ => return Err("no packet that a broker sends".into()),
    };
    if r.0.is_empty() { Ok(packet) } else { Err(format!("{} bytes too many", r.0.len())) }
}

const CONNACK_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const PUBLISH_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const SUBACK_CODES: &[u8] = &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const DISCONNECT_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
const CONNACK_PROPS: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2A,
];
const PUBLISH_PROPS: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
const ACK_PROPS: &[u8] = &[0x1F, 0x26];

fn connack(version: Version, r: &mut Reader<'_>) -> Result<Packet, String> {
    let flags = r.byte()?;
    let code = r.byte()?;
    let props = if version == V5 { r.props(CONNACK_PROPS)? } else { Vec::new() };
    let known = if version == V5 { CONNACK_CODES.contains(&code) } else { code <= 5 };
    if flags > 1 || (flags == 1 && (code != 0 || version == V31)) || !known {
        return Err(format!("CONNACK flags {flags:#04x}, code {code:#04x}"));
    }
    Ok(Packet::Connack(Connack { present: flags == 1, code, props }))
}

fn publish(version: Version, first: u8, r: &mut Reader<'_>) -> Result<Publish, String> {
    let (dup, qos, retain) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
    if qos == 3 || (qos == 0 && dup) {
        return Err(format!("PUBLISH flags of {first:#04x}"));
    }
    let topic = r.string()?;
    let id = if qos > 0 { r.id()? } else { 0 };
    let props = if version == V5 { r.props(PUBLISH_PROPS)? } else { Vec::new() };
    if topic.contains(['+', '#']) || (topic.is_empty() && number(&props, TOPIC_ALIAS).is_none()) {
        return Err(format!("Topic Name {topic:?}"));
    }
    let payload = std::mem::take(&mut r.0).to_vec();
    Ok(Publish { dup, qos, retain, topic, id, props, payload })
}

fn acknowledgement(version: Version, first: u8, r: &mut Reader<'_>) -> Result<Ack, String> {
    let id = r.id()?;
    let codes: &[u8] = if first < 0x60 { PUBLISH_CODES } else { &[0x00, 0x92] };
    let (code, props) = match version {
        V5 => reason(r, codes, ACK_PROPS)?,
        _ => (0, Vec::new()),
    };
    Ok(Ack { first, id, code, props })
}

fn suback(version: Version, r: &mut Reader<'_>, codes: &[u8]) -> Result<Suback, String> {
    let id = r.id()?;
    let props = if version == V5 { r.props(ACK_PROPS)? } else { Vec::new() };
    let granted = std::mem::take(&mut r.0).to_vec();
    let unsuback = codes[1] == 0x11;
    for code in &granted {
        let known = match version {
            V5 => codes.contains(code),
            V311 => !unsuback && matches!(code, 0..=2 | 0x80),
            V31 => !unsuback && *code <= 2,
        };
        if !known {
            return Err(format!("code {code:#04x}"));
        }
    }
    Ok(Suback { id, codes: granted, props })
}

/// A reason code and properties, either or both of which may be left out at the end.
fn reason(r: &mut Reader<'_>, codes: &[u8], allowed: &[u8]) -> Result<(u8, Vec<Prop>), String> {
    let code = if r.0.is_empty() { 0 } else { r.byte()? };
    if !codes.contains(&code) {
        return Err(format!("reason code {code:#04x}"));
    }
    Ok((code, if r.0.is_empty() { Vec::new() } else { r.props(allowed)? }))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("packet too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn four(&mut self) -> Result<u32, String> {
        Ok(u32::from(self.two()?) << 16 | u32::from(self.two()?))
    }

    fn id(&mut self) -> Result<u16, String> {
        let id = self.two()?;
        if id == 0 { Err("Packet Identifier 0".into()) } else { Ok(id) }
    }

    fn data(&mut self) -> Result<Vec<u8>, String> {
        let len = self.two()?;
        Ok(self.take(len.into())?.to_vec())
    }

    fn string(&mut self) -> Result<String, String> {
        let text = String::from_utf8(self.data()?).map_err(|e| e.to_string())?;
        if text.contains('\0') { Err("U+0000 in a string".into()) } else { Ok(text) }
    }

    fn vbi(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= u32::from(byte & 127) << shift;
            if byte & 128 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded { Err("padded integer".into()) } else { Ok(value) };
            }
        }
        Err("integer of more than four bytes".into())
    }

    fn props(&mut self, allowed: &[u8]) -> Result<Vec<Prop>, String> {
        let len = self.vbi()?;
        let mut r = Reader(self.take(len as usize)?);
        let mut list: Vec<Prop> = Vec::new();
        while !r.0.is_empty() {
            let id = r.byte()?;
            let repeatable = matches!(id, USER | SUBSCRIPTION_ID);
            if !allowed.contains(&id) || (!repeatable && list.iter().any(|p| p.id() == id)) {
                return Err(format!("property {id:#04x} not allowed here, or twice"));
            }
            list.push(r.prop(id)?);
        }
        Ok(list)
    }

    fn prop(&mut self, id: u8) -> Result<Prop, String> {
        let prop = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Byte(id, self.byte()?),
            0x13 | 0x21..=0x23 => Two(id, self.two()?),
            0x02 | 0x11 | 0x18 | 0x27 => Four(id, self.four()?),
            0x0B => Var(id, self.vbi()?),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Text(id, self.string()?),
            0x09 | 0x16 => Data(id, self.data()?),
            0x26 => Pair(self.string()?, self.string()?),
            _ => return Err(format!("unknown property {id:#04x}")),
        };
        let wrong = match prop {
            Byte(_, v) => v > 1,
            Two(RECEIVE_MAXIMUM | TOPIC_ALIAS, v) => v == 0,
            Four(MAXIMUM_PACKET, v) | Var(_, v) => v == 0,
            _ => false,
        };
        if wrong { Err(format!("value of {prop:?}")) } else { Ok(prop) }
    }
}
