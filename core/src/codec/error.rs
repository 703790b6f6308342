//! What is wrong with bytes or packets.

use super::ReasonCode;

/// A rule of the standard was broken by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolError {
    /// The reason a 5.0 CONNACK or DISCONNECT gives for it.
    pub reason: ReasonCode,
    /// The statement of 5.0 that says so, in older versions too: `MQTT-3.1.2-3`, or `U5-003` for
    /// a rule without a number. `v4:MQTT-3.1.2-22` is a statement of 3.1.1 that 5.0 lacks.
    pub rule: &'static str,
}

impl ProtocolError {
    /// The bytes cannot be parsed.
    #[must_use]
    pub const fn malformed(rule: &'static str) -> Self {
        Self { reason: ReasonCode::MalformedPacket, rule }
    }

    /// The bytes can be parsed, but say what is not allowed.
    #[must_use]
    pub const fn protocol(rule: &'static str) -> Self {
        Self { reason: ReasonCode::ProtocolError, rule }
    }

    /// A violation with a reason code of its own.
    #[must_use]
    pub const fn new(reason: ReasonCode, rule: &'static str) -> Self {
        Self { reason, rule }
    }
}

impl core::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.reason, self.rule)
    }
}

impl core::error::Error for ProtocolError {}

/// A packet that cannot be sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes, or the packet longer than
    /// 268,435,455.
    TooLong,
    /// A property that this packet must not carry, or a value out of its range.
    Property,
    /// A field that does not go with another, or with this version.
    Inconsistent,
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than the protocol allows",
            Self::Property => "property not allowed here",
            Self::Inconsistent => "fields contradict each other",
        })
    }
}

impl core::error::Error for EncodeError {}
