//! DISCONNECT, AUTH, PINGREQ and PINGRESP.

use super::read::Reader;
use super::reason::carrier;
use super::write::Writer;
use super::{
    EncodeError, Frame, Properties, PropertyId, PropertyPacket, ProtocolError, ReasonCode, Version,
    check_flags, properties_len,
};

/// DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// [`ReasonCode::Success`] before 5.0.
    pub reason: ReasonCode,
    /// 5.0 only.
    pub properties: Properties<'a>,
}

/// AUTH, in 5.0 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason: ReasonCode,
    /// With the Authentication Method at least.
    pub properties: Properties<'a>,
}

pub(super) fn decode_ping(frame: Frame<'_>) -> Result<(), ProtocolError> {
    check_flags(Version::V311, frame)?;
    Reader(frame.body).end()
}

impl<'a> Disconnect<'a> {
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        check_flags(version, frame)?;
        let mut reader = Reader(frame.body);
        let mut disconnect = Self { reason: ReasonCode::Success, properties: Properties::EMPTY };
        if version < Version::V5 {
            reader.end()?;
            return Ok(disconnect);
        }
        // [U5-063]
        if !reader.is_empty() {
            disconnect.reason = ReasonCode::from_u8(reader.u8()?)
                .filter(|reason| reason.packets() & carrier::DISCONNECT != 0)
                .ok_or(ProtocolError::protocol("MQTT-3.14.2-1"))?;
        }
        if !reader.is_empty() {
            disconnect.properties = Properties::read(PropertyPacket::Disconnect, &mut reader)?;
            reader.end()?;
        }
        Ok(disconnect)
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let properties = properties_len(version, PropertyPacket::Disconnect, self.properties)?;
        if self.reason.packets() & carrier::DISCONNECT == 0 {
            return Err(EncodeError::Inconsistent);
        }
        Ok(match version {
            Version::V5 if !self.properties.is_empty() => 1 + properties,
            Version::V5 if self.reason != ReasonCode::Success => 1,
            _ => 0,
        })
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        if version < Version::V5 {
            return;
        }
        if self.reason != ReasonCode::Success || !self.properties.is_empty() {
            writer.u8(self.reason as u8);
        }
        if !self.properties.is_empty() {
            self.properties.encode(writer);
        }
    }
}

impl<'a> Auth<'a> {
    pub(super) fn decode(frame: Frame<'a>) -> Result<Self, ProtocolError> {
        check_flags(Version::V5, frame)?;
        let mut reader = Reader(frame.body);
        // The short form lacks the method. [U5-068]
        if reader.is_empty() {
            return Err(ProtocolError::protocol("U5-068"));
        }
        let reason = ReasonCode::from_u8(reader.u8()?)
            .filter(|reason| reason.packets() & carrier::AUTH != 0)
            .ok_or(ProtocolError::protocol("MQTT-3.15.2-1"))?;
        let properties = Properties::read(PropertyPacket::Auth, &mut reader)?;
        reader.end()?;
        if properties.find(PropertyId::AuthenticationMethod).is_none() {
            return Err(ProtocolError::protocol("U5-068"));
        }
        Ok(Self { reason, properties })
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        if version < Version::V5
            || self.reason.packets() & carrier::AUTH == 0
            || self.properties.find(PropertyId::AuthenticationMethod).is_none()
        {
            return Err(EncodeError::Inconsistent);
        }
        Ok(1 + self.properties.encoded_len(PropertyPacket::Auth)?)
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.u8(self.reason as u8);
        self.properties.encode(writer);
    }
}
