//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use super::read::Reader;
use super::reason::carrier;
use super::write::{Writer, binary_len};
use super::{
    EncodeError, Frame, PacketId, Properties, PropertyPacket, ProtocolError, Qos, ReasonCode,
    Version, check_flags, properties_len, sum,
};

/// Subscription Options. Before 5.0 there is only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: Qos,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent because of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always.
    #[default]
    Send = 0,
    /// If the subscription did not exist.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl SubscriptionOptions {
    fn from_byte(version: Version, byte: u8) -> Result<Self, ProtocolError> {
        if version < Version::V5 {
            let qos = Qos::from_bits(byte).ok_or(ProtocolError::malformed("v4:MQTT-3.8.3-4"))?;
            return Ok(Self { qos, ..Self::default() });
        }
        if byte & 0xc0 != 0 {
            return Err(ProtocolError::malformed("MQTT-3.8.3-5"));
        }
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(ProtocolError::protocol("U5-056")),
        };
        Ok(Self {
            qos: Qos::from_bits(byte & 3).ok_or(ProtocolError::protocol("U5-055"))?,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling,
        })
    }

    fn byte(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// Wire bytes that were checked, or a list of the caller's.
#[derive(Clone, Copy)]
enum Repr<'a, T> {
    Wire(Version, &'a [u8]),
    List(&'a [T]),
}

/// A list in a packet, by the name of its items.
macro_rules! list {
    ($(#[$doc:meta])* $name:ident $item:ty, $out:ty) => {
        $(#[$doc])*
        ///
        /// Two are equal if they hold the same items in the same order.
        #[derive(Clone, Copy)]
        pub struct $name<'a>(Repr<'a, $item>);

        impl core::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl Eq for $name<'_> {}

        impl<'a> $name<'a> {
            /// Items to send, in this order.
            #[must_use]
            pub const fn list(list: &'a [$item]) -> Self {
                Self(Repr::List(list))
            }

            /// The items in order.
            pub fn iter(&self) -> impl Iterator<Item = $out> + use<'a> {
                let (version, mut reader, list) = match self.0 {
                    Repr::Wire(version, bytes) => (version, Reader(bytes), &[][..]),
                    Repr::List(list) => (Version::V5, Reader(&[]), list),
                };
                let wire = core::iter::from_fn(move || Self::item(version, &mut reader).ok());
                wire.chain(list.iter().copied())
            }

            /// Number of items; takes time in proportion.
            #[must_use]
            pub fn len(&self) -> usize {
                self.iter().count()
            }

            /// Whether there are none.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.iter().next().is_none()
            }

            /// Checks all that is left as items.
            fn read(version: Version, reader: Reader<'a>) -> Result<Self, ProtocolError> {
                let mut rest = reader;
                while !rest.is_empty() {
                    Self::item(version, &mut rest)?;
                }
                Ok(Self(Repr::Wire(version, reader.0)))
            }
        }
    };
}

list! {
    /// Topic Filters with their options. UTF-8, and not checked further.
    Filters (&'a str, SubscriptionOptions), (&'a str, SubscriptionOptions)
}

list! {
    /// Topic Filters. UTF-8, and not checked further.
    TopicFilters &'a str, &'a str
}

list! {
    /// Reason codes, one for each filter.
    ReasonCodes ReasonCode, ReasonCode
}

impl<'a> Filters<'a> {
    fn item(
        version: Version,
        reader: &mut Reader<'a>,
    ) -> Result<(&'a str, SubscriptionOptions), ProtocolError> {
        let filter = reader.string()?;
        Ok((filter, SubscriptionOptions::from_byte(version, reader.u8()?)?))
    }
}

impl<'a> TopicFilters<'a> {
    fn item(_: Version, reader: &mut Reader<'a>) -> Result<&'a str, ProtocolError> {
        reader.string()
    }
}

impl<'a> ReasonCodes<'a> {
    fn item(version: Version, reader: &mut Reader<'a>) -> Result<ReasonCode, ProtocolError> {
        let code = reader.u8()?;
        let known = match version {
            Version::V5 => ReasonCode::from_u8(code),
            _ if code <= 2 || code == 0x80 => ReasonCode::from_u8(code),
            _ => None,
        };
        known.ok_or(ProtocolError::protocol("MQTT-3.9.3-2"))
    }

    fn check(&self, packets: u16, rule: &'static str) -> Result<(), ProtocolError> {
        match self.iter().all(|reason| reason.packets() & packets != 0) {
            true => Ok(()),
            false => Err(ProtocolError::protocol(rule)),
        }
    }
}

/// SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet Identifier.
    pub packet_id: PacketId,
    /// 5.0 only.
    pub properties: Properties<'a>,
    /// One at least.
    pub filters: Filters<'a>,
}

/// SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    /// Of the SUBSCRIBE. `[MQTT-3.8.4-2]`
    pub packet_id: PacketId,
    /// 5.0 only.
    pub properties: Properties<'a>,
    /// In the order of the filters; before 5.0 every failure is 0x80.
    pub reasons: ReasonCodes<'a>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet Identifier.
    pub packet_id: PacketId,
    /// 5.0 only.
    pub properties: Properties<'a>,
    /// One at least.
    pub filters: TopicFilters<'a>,
}

/// UNSUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// 5.0 only.
    pub properties: Properties<'a>,
    /// In the order of the filters; none before 5.0.
    pub reasons: ReasonCodes<'a>,
}

/// Packet Identifier and properties, with which all four begin.
fn begin<'a>(
    version: Version,
    packet: PropertyPacket,
    frame: Frame<'a>,
) -> Result<(PacketId, Properties<'a>, Reader<'a>), ProtocolError> {
    check_flags(version, frame)?;
    let mut reader = Reader(frame.body);
    let packet_id = reader.packet_id()?;
    let properties = match version {
        Version::V5 => Properties::read(packet, &mut reader)?,
        _ => Properties::EMPTY,
    };
    Ok((packet_id, properties, reader))
}

fn encode_begin(
    version: Version,
    packet_id: PacketId,
    properties: Properties<'_>,
    writer: &mut Writer<'_>,
) {
    writer.packet_id(packet_id);
    if version == Version::V5 {
        properties.encode(writer);
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let (packet_id, properties, reader) = begin(version, PropertyPacket::Subscribe, frame)?;
        let filters = Filters::read(version, reader)?;
        if reader.is_empty() {
            return Err(ProtocolError::protocol("MQTT-3.8.3-2"));
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let mut len =
            sum(&[2, properties_len(version, PropertyPacket::Subscribe, self.properties)?]);
        let mut any = false;
        for (filter, options) in self.filters.iter() {
            let plain = SubscriptionOptions { qos: options.qos, ..Default::default() };
            // [MQTT-3.8.3-4]
            if version < Version::V5 && options != plain
                || options.no_local && filter.starts_with("$share/")
                || filter.contains('\0')
            {
                return Err(EncodeError::Inconsistent);
            }
            len = sum(&[len, binary_len(filter.as_bytes())?, 1]);
            any = true;
        }
        if any { Ok(len) } else { Err(EncodeError::Inconsistent) }
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        encode_begin(version, self.packet_id, self.properties, writer);
        for (filter, options) in self.filters.iter() {
            writer.binary(filter.as_bytes());
            writer.u8(options.byte());
        }
    }
}

impl<'a> Suback<'a> {
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let (packet_id, properties, reader) = begin(version, PropertyPacket::Suback, frame)?;
        let reasons = ReasonCodes::read(version, reader)?;
        if reader.is_empty() {
            return Err(ProtocolError::protocol("MQTT-3.8.4-6"));
        }
        reasons.check(carrier::SUBACK, "MQTT-3.9.3-2")?;
        Ok(Self { packet_id, properties, reasons })
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let properties = properties_len(version, PropertyPacket::Suback, self.properties)?;
        let failed = self.reasons.iter().any(ReasonCode::is_error);
        if self.reasons.is_empty()
            || self.reasons.check(carrier::SUBACK, "").is_err()
            || version == Version::V31 && failed
        {
            return Err(EncodeError::Inconsistent);
        }
        Ok(sum(&[2, properties, self.reasons.len() as u32]))
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        encode_begin(version, self.packet_id, self.properties, writer);
        for reason in self.reasons.iter() {
            let old = version < Version::V5 && reason.is_error();
            writer.u8(if old { 0x80 } else { reason as u8 });
        }
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let (packet_id, properties, reader) = begin(version, PropertyPacket::Unsubscribe, frame)?;
        let filters = TopicFilters::read(version, reader)?;
        if reader.is_empty() {
            return Err(ProtocolError::protocol("MQTT-3.10.3-2"));
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let properties = properties_len(version, PropertyPacket::Unsubscribe, self.properties)?;
        let mut len = sum(&[2, properties]);
        for filter in self.filters.iter() {
            if filter.contains('\0') {
                return Err(EncodeError::Inconsistent);
            }
            len = sum(&[len, binary_len(filter.as_bytes())?]);
        }
        if self.filters.is_empty() { Err(EncodeError::Inconsistent) } else { Ok(len) }
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        encode_begin(version, self.packet_id, self.properties, writer);
        self.filters.iter().for_each(|filter| writer.binary(filter.as_bytes()));
    }
}

impl<'a> Unsuback<'a> {
    pub(super) fn decode(version: Version, frame: Frame<'a>) -> Result<Self, ProtocolError> {
        let (packet_id, properties, reader) = begin(version, PropertyPacket::Unsuback, frame)?;
        if version < Version::V5 {
            reader.end()?;
        } else if reader.is_empty() {
            return Err(ProtocolError::protocol("MQTT-3.11.3-1"));
        }
        let reasons = ReasonCodes::read(version, reader)?;
        reasons.check(carrier::UNSUBACK, "MQTT-3.11.3-2")?;
        Ok(Self { packet_id, properties, reasons })
    }

    pub(super) fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let properties = properties_len(version, PropertyPacket::Unsuback, self.properties)?;
        if self.reasons.is_empty() == (version == Version::V5)
            || self.reasons.check(carrier::UNSUBACK, "").is_err()
        {
            return Err(EncodeError::Inconsistent);
        }
        Ok(sum(&[2, properties, self.reasons.len() as u32]))
    }

    pub(super) fn encode(&self, version: Version, writer: &mut Writer<'_>) {
        encode_begin(version, self.packet_id, self.properties, writer);
        self.reasons.iter().for_each(|reason| writer.u8(reason as u8));
    }
}
