//! MQTT packets as a client writes them, well formed or not.

use std::fmt::Write as _;

pub(crate) use Prop::{Byte, Data, Four, Pair, Text, Two, Var};
pub(crate) use Version::{V5, V31, V311};

/// A protocol version; its number is the level byte of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

/// Every version.
pub(crate) const ALL: [Version; 3] = [V31, V311, V5];
/// The versions without reason codes and properties.
pub(crate) const OLD: [Version; 2] = [V31, V311];
/// The versions with numbered statements.
pub(crate) const STRICT: [Version; 2] = [V311, V5];

pub(crate) const FORMAT_INDICATOR: u8 = 0x01;
pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
pub(crate) const CONTENT_TYPE: u8 = 0x03;
pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
pub(crate) const CORRELATION: u8 = 0x09;
pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
pub(crate) const SESSION_EXPIRY: u8 = 0x11;
pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(crate) const AUTH_METHOD: u8 = 0x15;
pub(crate) const AUTH_DATA: u8 = 0x16;
pub(crate) const REQUEST_PROBLEM: u8 = 0x17;
pub(crate) const WILL_DELAY: u8 = 0x18;
pub(crate) const REQUEST_RESPONSE: u8 = 0x19;
pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
pub(crate) const REASON_STRING: u8 = 0x1F;
pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(crate) const ALIAS_MAXIMUM: u8 = 0x22;
pub(crate) const TOPIC_ALIAS: u8 = 0x23;
pub(crate) const MAXIMUM_QOS: u8 = 0x24;
pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
pub(crate) const USER: u8 = 0x26;
pub(crate) const MAXIMUM_PACKET: u8 = 0x27;
pub(crate) const WILDCARDS_AVAILABLE: u8 = 0x28;
pub(crate) const IDS_AVAILABLE: u8 = 0x29;
pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;

/// A property: its identifier and a value of one of the seven wire types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prop {
    Byte(u8, u8),
    Two(u8, u16),
    Four(u8, u32),
    Var(u8, u32),
    Text(u8, String),
    Data(u8, Vec<u8>),
    /// User Property.
    Pair(String, String),
}

impl Prop {
    pub(crate) fn id(&self) -> u8 {
        match self {
            Byte(id, _) | Two(id, _) | Four(id, _) | Var(id, _) | Text(id, _) | Data(id, _) => *id,
            Pair(..) => USER,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.id());
        match self {
            Byte(_, v) => out.push(*v),
            Two(_, v) => out.extend(v.to_be_bytes()),
            Four(_, v) => out.extend(v.to_be_bytes()),
            Var(_, v) => out.extend(vbi(*v)),
            Text(_, v) => out.extend(string(v)),
            Data(_, v) => out.extend(string(v)),
            Pair(k, v) => out.extend([string(k), string(v)].concat()),
        }
    }
}

/// A User Property.
pub(crate) fn pair(name: &str, value: &str) -> Prop {
    Pair(name.into(), value.into())
}

/// A property that is a string.
pub(crate) fn text(id: u8, value: &str) -> Prop {
    Text(id, value.into())
}

/// The number in the first property with this identifier.
pub(crate) fn number(props: &[Prop], id: u8) -> Option<u32> {
    props.iter().find(|p| p.id() == id).map(|p| match p {
        Byte(_, v) => u32::from(*v),
        Two(_, v) => u32::from(*v),
        Four(_, v) | Var(_, v) => *v,
        other => panic!("not a number: {other:?}"),
    })
}

/// The string in the first property with this identifier.
pub(crate) fn string_of(props: &[Prop], id: u8) -> Option<&str> {
    props.iter().find(|p| p.id() == id).map(|p| match p {
        Text(_, v) => v.as_str(),
        other => panic!("not a string: {other:?}"),
    })
}

/// All Subscription Identifiers in ascending order.
pub(crate) fn subscription_ids(props: &[Prop]) -> Vec<u32> {
    let mut ids: Vec<u32> =
        props.iter().filter_map(|p| if let Var(_, v) = p { Some(*v) } else { None }).collect();
    ids.sort_unstable();
    ids
}

/// A Variable Byte Integer.
pub(crate) fn vbi(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let more = value > 127;
        out.push((value & 127) as u8 | if more { 128 } else { 0 });
        value >>= 7;
        if !more {
            return out;
        }
    }
}

/// Bytes with their length in two bytes before them: a string or binary data.
pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Properties with their length before them.
pub(crate) fn props(list: &[Prop]) -> Vec<u8> {
    let mut body = Vec::new();
    for prop in list {
        prop.write(&mut body);
    }
    [vbi(body.len() as u32), body].concat()
}

/// A packet of a first byte and a body.
pub(crate) fn raw(first: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [&[first], vbi(body.len() as u32).as_slice(), body].concat()
}

/// The bytes written in hexadecimal; blanks are skipped.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let digit = |b: u8| char::from(b).to_digit(16).expect("hexadecimal digit") as u8;
    digits.chunks(2).map(|two| digit(two[0]) << 4 | digit(two[1])).collect()
}

/// Hexadecimal for people, cut after 64 bytes.
pub(crate) fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes.iter().take(64) {
        let _ = write!(out, "{byte:02x} ");
    }
    if bytes.len() > 64 {
        let _ = write!(out, ".. ({} bytes)", bytes.len());
    }
    out
}

/// A CONNECT to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    /// What to send instead of the version's own level.
    pub(crate) level: Option<u8>,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) id: String,
    pub(crate) props: Vec<Prop>,
    pub(crate) will: Option<Will>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// Bits to flip in the Connect Flags.
    pub(crate) flip: u8,
}

/// A will of a CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) props: Vec<Prop>,
}

impl Will {
    /// A will with QoS 0, not retained.
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        let (topic, payload) = (topic.into(), payload.into());
        Self { topic, payload, qos: 0, retain: false, props: Vec::new() }
    }
}

impl Connect {
    /// A client that starts clean, without keep alive.
    pub(crate) fn new(version: Version, id: &str) -> Self {
        Self {
            version,
            level: None,
            clean: true,
            keep_alive: 0,
            id: id.into(),
            props: Vec::new(),
            will: None,
            username: None,
            password: None,
            flip: 0,
        }
    }

    /// A client that resumes its session, which outlives the connection for 60 s at least.
    pub(crate) fn resume(version: Version, id: &str) -> Self {
        let props = if version == V5 { vec![Four(SESSION_EXPIRY, 60)] } else { Vec::new() };
        Self { clean: false, props, ..Self::new(version, id) }
    }

    pub(crate) fn with(mut self, prop: Prop) -> Self {
        self.props.push(prop);
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    fn flags(&self) -> u8 {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.username.is_some()) << 7;
        flags ^ self.flip
    }

    /// The packet's body.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut out = string(if self.version == V31 { "MQIsdp" } else { "MQTT" });
        out.push(self.level.unwrap_or(self.version as u8));
        out.push(self.flags());
        out.extend(self.keep_alive.to_be_bytes());
        if self.version == V5 {
            out.extend(props(&self.props));
        }
        out.extend(string(&self.id));
        if let Some(will) = &self.will {
            if self.version == V5 {
                out.extend(props(&will.props));
            }
            out.extend(string(&will.topic));
            out.extend(string(&will.payload));
        }
        for field in [&self.username, &self.password].into_iter().flatten() {
            out.extend(string(field));
        }
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        raw(0x10, self.body())
    }
}

/// A PUBLISH in either direction. `id` is 0 at QoS 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) id: u16,
    pub(crate) props: Vec<Prop>,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    /// QoS 0, not retained.
    pub(crate) fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        let (topic, payload) = (topic.into(), payload.as_ref().to_vec());
        Self { dup: false, qos: 0, retain: false, topic, id: 0, props: Vec::new(), payload }
    }

    pub(crate) fn qos(mut self, qos: u8, id: u16) -> Self {
        (self.qos, self.id) = (qos, id);
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub(crate) fn with(mut self, prop: Prop) -> Self {
        self.props.push(prop);
        self
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap_or("(not UTF-8)")
    }

    pub(crate) fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = string(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if version == V5 {
            body.extend(props(&self.props));
        }
        body.extend(&self.payload);
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        raw(0x30 | flags, body)
    }
}

/// SUBSCRIBE with an options byte for each filter.
pub(crate) fn subscribe(
    version: Version,
    id: u16,
    list: &[Prop],
    filters: &[(&str, u8)],
) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == V5 {
        body.extend(props(list));
    }
    for (filter, options) in filters {
        body.extend(string(filter));
        body.push(*options);
    }
    raw(0x82, body)
}

/// UNSUBSCRIBE.
pub(crate) fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(string(filter));
    }
    raw(0xA2, body)
}

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;

/// An acknowledgement in its short form.
pub(crate) fn ack(first: u8, id: u16) -> Vec<u8> {
    raw(first, id.to_be_bytes())
}

/// An acknowledgement with a reason code (5.0).
pub(crate) fn ack_with(first: u8, id: u16, code: u8) -> Vec<u8> {
    raw(first, [&id.to_be_bytes()[..], &[code]].concat())
}
