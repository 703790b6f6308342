//! CONNECT, its will, and CONNACK.

use super::read::Reader;
use super::reason::carrier;
use super::write::{Writer, binary_len};
use super::{
    EncodeError, Frame, Properties, PropertyPacket, ProtocolError, Qos, ReasonCode, Version,
    check_flags, is_topic_name, properties_len, sum,
};

/// CONNECT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Protocol version.
    pub version: Version,
    /// The bridge bit of the protocol level, an unofficial habit of 3.1 and 3.1.1.
    pub bridge: bool,
    /// Clean Start, or Clean Session before 5.0.
    pub clean_start: bool,
    /// Seconds; 0 for none.
    pub keep_alive: u16,
    /// Client Identifier; may be empty.
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// User Name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// 5.0 only.
    pub properties: Properties<'a>,
}

impl Default for Connect<'_> {
    /// 5.0 with Clean Start, without keep alive and with an empty Client Identifier.
    fn default() -> Self {
        Self {
            version: Version::V5,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id: "",
            will: None,
            username: None,
            password: None,
            properties: Properties::EMPTY,
        }
    }
}

impl core::fmt::Debug for Connect<'_> {
    /// Leaves the password out, and properties that may hold authentication data.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("bridge", &self.bridge)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The will in a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Will QoS.
    pub qos: Qos,
    /// Will Retain.
    pub retain: bool,
    /// Will Topic.
    pub topic: &'a str,
    /// Will Payload.
    pub payload: &'a [u8],
    /// Will Properties, 5.0 only.
    pub properties: Properties<'a>,
}

/// CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Session Present.
    pub session_present: bool,
    /// Before 5.0 the return code, as the reason code that means the same.
    pub reason: ReasonCode,
    /// 5.0 only.
    pub properties: Properties<'a>,
}

/// What name and level of a CONNECT ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A version spoken here.
    Supported {
        /// Which.
        version: Version,
        /// The bridge bit.
        bridge: bool,
    },
    /// Another level of an old protocol: answer CONNACK `20 02 00 01`, then close.
    RefusedV3,
    /// Another level of MQTT: answer CONNACK `20 03 00 84 00`, then close.
    RefusedV5,
}

/// Reads protocol name and level from the body of a CONNECT, nothing else.
///
/// # Errors
/// An unknown name, or a body that is too short: close without a word. `[MQTT-3.1.2-1]`
pub fn level(body: &[u8]) -> Result<Level, ProtocolError> {
    let mut reader = Reader(body);
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(ProtocolError::new(ReasonCode::UnsupportedProtocolVersion, "MQTT-3.1.2-1"));
    }
    let level = reader.u8()?;
    let bridge = level & 0x80 != 0;
    Ok(match (name, level & 0x7f) {
        (b"MQIsdp", 3) => Level::Supported { version: Version::V31, bridge },
        (b"MQTT", 4) => Level::Supported { version: Version::V311, bridge },
        // 5.0 has options for what a bridge wants.
        (b"MQTT", 5) => Level::Supported { version: Version::V5, bridge: false },
        (b"MQIsdp", _) | (_, 3) => Level::RefusedV3,
        _ => Level::RefusedV5,
    })
}

/// The bits of Connect Flags.
struct Flags(u8);

impl Flags {
    fn has(&self, bit: u8) -> bool {
        self.0 & 1 << bit != 0
    }

    fn check(&self, version: Version) -> Result<Qos, ProtocolError> {
        if self.has(0) && version > Version::V31 {
            return Err(ProtocolError::malformed("MQTT-3.1.2-3"));
        }
        let qos = Qos::from_bits(self.0 >> 3 & 3).ok_or(ProtocolError::malformed("U5-010"))?;
        if !self.has(2) && qos > Qos::AtMostOnce {
            return Err(ProtocolError::malformed("MQTT-3.1.2-11"));
        }
        if !self.has(2) && self.has(5) {
            return Err(ProtocolError::malformed("MQTT-3.1.2-13"));
        }
        // [U5-011]: a password alone is allowed in 5.0 only.
        if version < Version::V5 && self.has(6) && !self.has(7) {
            return Err(ProtocolError::malformed("v4:MQTT-3.1.2-22"));
        }
        Ok(qos)
    }
}

impl<'a> Connect<'a> {
    pub(super) fn decode(frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let Level::Supported { version, bridge } = level(frame.body)? else {
            return Err(ProtocolError::new(ReasonCode::UnsupportedProtocolVersion, "MQTT-3.1.2-2"));
        };
        // Clients of 3.1 exist that leave flags set here.
        if version > Version::V31 {
            check_flags(version, frame)?;
        }
        if version == Version::V5 && !frame.minimal {
            return Err(ProtocolError::malformed("MQTT-1.5.5-1"));
        }
        let mut reader = Reader(frame.body);
        reader.binary()?;
        reader.u8()?;
        let flags = Flags(reader.u8()?);
        let will_qos = flags.check(version)?;
        let keep_alive = reader.u16()?;
        let properties = match version {
            Version::V5 => Properties::read(PropertyPacket::Connect, &mut reader)?,
            _ => Properties::EMPTY,
        };
        let client_id = reader.string()?;
        let will = match flags.has(2) {
            true => Some(Will::decode(version, will_qos, flags.has(5), &mut reader)?),
            false => None,
        };
        // A client of 3.1 may set a flag and leave the field out.
        let missing = |reader: &Reader<'_>| version == Version::V31 && reader.is_empty();
        let username = match flags.has(7) && !missing(&reader) {
            true => Some(reader.string()?),
            false => None,
        };
        let password = match flags.has(6) && !missing(&reader) {
            true => Some(reader.binary()?),
            false => None,
        };
        reader.end()?;
        let clean_start = flags.has(1);
        Ok(Self {
            version,
            bridge,
            clean_start,
            keep_alive,
            client_id,
            will,
            username,
            password,
            properties,
        })
    }

    pub(super) fn remaining(&self) -> Result<u32, EncodeError> {
        let version = self.version;
        if version < Version::V5 && self.password.is_some() && self.username.is_none()
            || self.bridge && version == Version::V5
            || self.client_id.contains('\0')
            || self.username.is_some_and(|name| name.contains('\0'))
        {
            return Err(EncodeError::Inconsistent);
        }
        let name = if version == Version::V31 { 8 } else { 6 };
        let properties = properties_len(version, PropertyPacket::Connect, self.properties)?;
        let will = self.will.map_or(Ok(0), |will| will.encoded_len(version))?;
        let username = self.username.map_or(Ok(0), |name| binary_len(name.as_bytes()))?;
        let password = self.password.map_or(Ok(0), binary_len)?;
        let client_id = binary_len(self.client_id.as_bytes())?;
        Ok(sum(&[name, 4, properties, client_id, will, username, password]))
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        let name: &[u8] = if self.version == Version::V31 { b"MQIsdp" } else { b"MQTT" };
        writer.binary(name);
        writer.u8(self.version as u8 | u8::from(self.bridge) << 7);
        let will =
            self.will.map_or(0, |will| 1 << 2 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
        let password = u8::from(self.password.is_some()) << 6;
        let username = u8::from(self.username.is_some()) << 7;
        writer.u8(u8::from(self.clean_start) << 1 | will | password | username);
        writer.u16(self.keep_alive);
        if self.version == Version::V5 {
            self.properties.encode(writer);
        }
        writer.binary(self.client_id.as_bytes());
        if let Some(will) = self.will {
            if self.version == Version::V5 {
                will.properties.encode(writer);
            }
            writer.binary(will.topic.as_bytes());
            writer.binary(will.payload);
        }
        if let Some(username) = self.username {
            writer.binary(username.as_bytes());
        }
        if let Some(password) = self.password {
            writer.binary(password);
        }
    }
}

impl<'a> Will<'a> {
    fn decode(
        version: Version,
        qos: Qos,
        retain: bool,
        reader: &mut Reader<'a>,
    ) -> Result<Self, ProtocolError> {
        let properties = match version {
            Version::V5 => Properties::read(PropertyPacket::Will, reader)?,
            _ => Properties::EMPTY,
        };
        let topic = reader.topic_name("MQTT-4.7.0-1")?;
        if topic.is_empty() {
            return Err(ProtocolError::new(ReasonCode::TopicNameInvalid, "MQTT-4.7.3-1"));
        }
        let payload = reader.binary()?;
        Ok(Self { qos, retain, topic, payload, properties })
    }

    fn encoded_len(&self, version: Version) -> Result<u32, EncodeError> {
        if self.topic.is_empty() || !is_topic_name(self.topic) {
            return Err(EncodeError::Inconsistent);
        }
        let properties = properties_len(version, PropertyPacket::Will, self.properties)?;
        Ok(sum(&[properties, binary_len(self.topic.as_bytes())?, binary_len(self.payload)?]))
    }
}

impl<'a> Connack<'a> {
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        check_flags(version, frame)?;
        let mut reader = Reader(frame.body);
        let flags = match (version, reader.u8()?) {
            // Reserved in 3.1, which does not say what a server writes there.
            (Version::V31, _) => 0,
            (_, flags) => flags,
        };
        if flags > 1 {
            return Err(ProtocolError::malformed("MQTT-3.2.2-1"));
        }
        let code = reader.u8()?;
        let reason = match version {
            Version::V5 => {
                ReasonCode::from_u8(code).filter(|reason| reason.packets() & carrier::CONNACK != 0)
            }
            _ => ReasonCode::from_return_code(code),
        };
        let reason = reason.ok_or(ProtocolError::protocol("MQTT-3.2.2-8"))?;
        if flags == 1 && reason.is_error() {
            return Err(ProtocolError::protocol("MQTT-3.2.2-6"));
        }
        let properties = match version {
            Version::V5 => Properties::read(PropertyPacket::Connack, &mut reader)?,
            _ => Properties::EMPTY,
        };
        reader.end()?;
        Ok(Self { session_present: flags == 1, reason, properties })
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        // [MQTT-3.2.2-6]
        if !self.reason.allowed_in_connack()
            || self.session_present && (self.reason.is_error() || version == Version::V31)
        {
            return Err(EncodeError::Inconsistent);
        }
        Ok(2 + properties_len(version, PropertyPacket::Connack, self.properties)?)
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        writer.u8(u8::from(self.session_present));
        if version == Version::V5 {
            writer.u8(self.reason as u8);
            self.properties.encode(writer);
        } else {
            writer.u8(self.reason.return_code());
        }
    }
}
