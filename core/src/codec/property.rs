//! Properties of MQTT 5.0: one table of identifiers, types and packets.

use super::read::Reader;
use super::write::{Writer, binary_len, vbi_len};
use super::{EncodeError, ProtocolError, ReasonCode};

/// Packets with properties, and the will's own block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum PropertyPacket {
    /// CONNECT.
    Connect = 1,
    /// CONNACK.
    Connack = 1 << 1,
    /// PUBLISH.
    Publish = 1 << 2,
    /// Will Properties in CONNECT.
    Will = 1 << 3,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack = 1 << 4,
    /// SUBSCRIBE.
    Subscribe = 1 << 5,
    /// SUBACK.
    Suback = 1 << 6,
    /// UNSUBSCRIBE.
    Unsubscribe = 1 << 7,
    /// UNSUBACK.
    Unsuback = 1 << 8,
    /// DISCONNECT.
    Disconnect = 1 << 9,
    /// AUTH.
    Auth = 1 << 10,
}

mod mask {
    use super::PropertyPacket as P;
    pub(super) const CONNECT: u16 = P::Connect as u16;
    pub(super) const CONNACK: u16 = P::Connack as u16;
    pub(super) const PUBLISH: u16 = P::Publish as u16;
    pub(super) const MESSAGE: u16 = PUBLISH | P::Will as u16;
    pub(super) const WILL: u16 = P::Will as u16;
    pub(super) const SUBSCRIBE: u16 = P::Subscribe as u16;
    pub(super) const DISCONNECT: u16 = P::Disconnect as u16;
    pub(super) const AUTH: u16 = P::Auth as u16;
    pub(super) const BOTH: u16 = CONNECT | CONNACK;
    /// Answers, which may say why.
    pub(super) const ANSWERS: u16 =
        CONNACK | P::Ack as u16 | P::Suback as u16 | P::Unsuback as u16 | DISCONNECT | AUTH;
    pub(super) const ALL: u16 = ANSWERS | CONNECT | MESSAGE | SUBSCRIBE | P::Unsubscribe as u16;
}

/// How a value stands on the wire.
macro_rules! wire {
    (len u8 $v:ident) => { 1 };
    (len bool $v:ident) => { 1 };
    (len u16 $v:ident) => { 2 };
    (len u32 $v:ident) => { 4 };
    (len vbi $v:ident) => { vbi_len(*$v) };
    (len string $v:ident) => { binary_len($v.as_bytes())? };
    (len binary $v:ident) => { binary_len($v)? };
    (read u8 $r:ident) => { $r.u8()? };
    (read bool $r:ident) => {
        match $r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(ProtocolError::protocol("U5-017")),
        }
    };
    (read u16 $r:ident) => { $r.u16()? };
    (read u32 $r:ident) => { $r.u32()? };
    (read vbi $r:ident) => { $r.vbi()? };
    (read string $r:ident) => { $r.string()? };
    (read binary $r:ident) => { $r.binary()? };
    (write u8 $w:ident $v:ident) => { $w.u8(*$v) };
    (write bool $w:ident $v:ident) => { $w.u8(u8::from(*$v)) };
    (write u16 $w:ident $v:ident) => { $w.u16(*$v) };
    (write u32 $w:ident $v:ident) => { $w.u32(*$v) };
    (write vbi $w:ident $v:ident) => { $w.vbi(*$v) };
    (write string $w:ident $v:ident) => { $w.binary($v.as_bytes()) };
    (write binary $w:ident $v:ident) => { $w.binary($v) };
    (type u8) => { u8 };
    (type bool) => { bool };
    (type u16) => { u16 };
    (type u32) => { u32 };
    (type vbi) => { u32 };
    (type string) => { &'a str };
    (type binary) => { &'a [u8] };
}

macro_rules! properties {
    ($($id:literal $name:ident $wire:ident $text:literal $packets:expr;)*) => {
        /// Identifiers of properties.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $(#[doc = $text] $name = $id,)*
            /// User Property.
            UserProperty = 0x26,
        }

        /// A property with its value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Property<'a> {
            $(#[doc = $text] $name(wire!(type $wire)),)*
            /// User Property: name and value.
            UserProperty(&'a str, &'a str),
        }

        impl PropertyId {
            /// All identifiers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)* Self::UserProperty];

            /// The identifier of this value, if the standard has one.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($id => Some(Self::$name),)*
                    0x26 => Some(Self::UserProperty),
                    _ => None,
                }
            }

            /// Bits of the packets that may carry it.
            const fn packets(self) -> u16 {
                match self {
                    $(Self::$name => $packets,)*
                    Self::UserProperty => mask::ALL,
                }
            }
        }

        impl<'a> Property<'a> {
            /// Its identifier.
            #[must_use]
            pub const fn id(&self) -> PropertyId {
                match self {
                    $(Self::$name(_) => PropertyId::$name,)*
                    Self::UserProperty(..) => PropertyId::UserProperty,
                }
            }

            fn read(id: PropertyId, reader: &mut Reader<'a>) -> Result<Self, ProtocolError> {
                Ok(match id {
                    $(PropertyId::$name => Self::$name(wire!(read $wire reader)),)*
                    // [MQTT-1.5.7-1]
                    PropertyId::UserProperty => {
                        Self::UserProperty(reader.string()?, reader.string()?)
                    }
                })
            }

            fn checked_len(&self) -> Result<u32, EncodeError> {
                Ok(1 + match self {
                    $(Self::$name(_value) => { wire!(len $wire _value) })*
                    Self::UserProperty(name, value) => {
                        binary_len(name.as_bytes())? + binary_len(value.as_bytes())?
                    }
                })
            }

            fn put(&self, writer: &mut Writer<'_>) {
                writer.u8(self.id() as u8);
                match self {
                    $(Self::$name(value) => wire!(write $wire writer value),)*
                    Self::UserProperty(name, value) => {
                        writer.binary(name.as_bytes());
                        writer.binary(value.as_bytes());
                    }
                }
            }
        }
    };
}

properties! {
    0x01 PayloadFormatIndicator u8 "Payload Format Indicator." mask::MESSAGE;
    0x02 MessageExpiryInterval u32 "Message Expiry Interval, in seconds." mask::MESSAGE;
    0x03 ContentType string "Content Type." mask::MESSAGE;
    0x08 ResponseTopic string "Response Topic." mask::MESSAGE;
    0x09 CorrelationData binary "Correlation Data." mask::MESSAGE;
    0x0b SubscriptionIdentifier vbi "Subscription Identifier." mask::PUBLISH | mask::SUBSCRIBE;
    0x11 SessionExpiryInterval u32 "Session Expiry Interval, in seconds."
        mask::BOTH | mask::DISCONNECT;
    0x12 AssignedClientIdentifier string "Assigned Client Identifier." mask::CONNACK;
    0x13 ServerKeepAlive u16 "Server Keep Alive, in seconds." mask::CONNACK;
    0x15 AuthenticationMethod string "Authentication Method." mask::BOTH | mask::AUTH;
    0x16 AuthenticationData binary "Authentication Data." mask::BOTH | mask::AUTH;
    0x17 RequestProblemInformation bool "Request Problem Information." mask::CONNECT;
    0x18 WillDelayInterval u32 "Will Delay Interval, in seconds." mask::WILL;
    0x19 RequestResponseInformation bool "Request Response Information." mask::CONNECT;
    0x1a ResponseInformation string "Response Information." mask::CONNACK;
    0x1c ServerReference string "Server Reference." mask::CONNACK | mask::DISCONNECT;
    0x1f ReasonString string "Reason String." mask::ANSWERS;
    0x21 ReceiveMaximum u16 "Receive Maximum." mask::BOTH;
    0x22 TopicAliasMaximum u16 "Topic Alias Maximum." mask::BOTH;
    0x23 TopicAlias u16 "Topic Alias." mask::PUBLISH;
    0x24 MaximumQos u8 "Maximum QoS." mask::CONNACK;
    0x25 RetainAvailable bool "Retain Available." mask::CONNACK;
    0x27 MaximumPacketSize u32 "Maximum Packet Size, in bytes." mask::BOTH;
    0x28 WildcardSubscriptionAvailable bool "Wildcard Subscription Available." mask::CONNACK;
    0x29 SubscriptionIdentifierAvailable bool "Subscription Identifier Available." mask::CONNACK;
    0x2a SharedSubscriptionAvailable bool "Shared Subscription Available." mask::CONNACK;
}

impl Property<'_> {
    /// Bytes on the wire; 0 for a value that is too long to be sent.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.checked_len().map_or(0, |len| len as usize)
    }

    /// Writes it to the front of `out`, which holds [`Property::wire_len`] bytes at least, and
    /// says how many it took.
    ///
    /// # Panics
    /// If `out` is too short.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let len = self.wire_len();
        if len > 0 {
            self.put(&mut Writer(&mut out[..len]));
        }
        len
    }

    /// The range of values.
    fn check(&self) -> Result<(), ProtocolError> {
        let rule = match *self {
            Self::PayloadFormatIndicator(2..) => "U5-025",
            Self::SubscriptionIdentifier(0) => "U5-043",
            Self::ReceiveMaximum(0) => "U5-013",
            Self::MaximumPacketSize(0) => "U5-014",
            Self::MaximumQos(2..) => "U5-028",
            Self::TopicAlias(0) => {
                return Err(ProtocolError::new(ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-8"));
            }
            Self::ResponseTopic(topic) if topic.contains(['+', '#']) => "MQTT-3.3.2-14",
            _ => return Ok(()),
        };
        Err(ProtocolError::protocol(rule))
    }
}

/// The properties of a packet: bytes that were checked, or a list of the caller's.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a>(Repr<'a>);

#[derive(Clone, Copy, Debug)]
enum Repr<'a> {
    Wire(&'a [u8]),
    List(&'a [Property<'a>]),
}

impl Default for Properties<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Properties<'_> {}

impl<'a> Properties<'a> {
    /// None.
    pub const EMPTY: Self = Self(Repr::Wire(&[]));

    /// Properties to send, in this order.
    #[must_use]
    pub const fn list(list: &'a [Property<'a>]) -> Self {
        Self(Repr::List(list))
    }

    /// Properties as they stand in a packet, without the Property Length.
    ///
    /// # Errors
    /// Unknown, misplaced, repeated or wrong ones. `[U5-007]`
    pub fn from_wire(packet: PropertyPacket, bytes: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader(bytes);
        let mut seen = 0u64;
        while !reader.is_empty() {
            let id = PropertyId::from_u8(reader.u8()?)
                .filter(|id| id.packets() & packet as u16 != 0)
                .ok_or(ProtocolError::malformed("U5-007"))?;
            let property = Property::read(id, &mut reader)?;
            property.check()?;
            let bit = 1 << id as u8;
            if seen & bit != 0 && !may_repeat(id, packet) {
                return Err(ProtocolError::protocol("U5-035"));
            }
            seen |= bit;
        }
        let authentication = 1u64 << PropertyId::AuthenticationData as u8;
        let method = 1u64 << PropertyId::AuthenticationMethod as u8;
        if seen & authentication != 0 && seen & method == 0 {
            return Err(ProtocolError::protocol("U5-020"));
        }
        Ok(Self(Repr::Wire(bytes)))
    }

    /// Reads a Property Length and as many bytes.
    pub(super) fn read(
        packet: PropertyPacket,
        reader: &mut Reader<'a>,
    ) -> Result<Self, ProtocolError> {
        let len = reader.vbi()?;
        if len == 0 {
            return Ok(Self::EMPTY);
        }
        Self::from_wire(packet, reader.bytes(len as usize)?)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Repr::Wire(bytes) => bytes.is_empty(),
            Repr::List(list) => list.is_empty(),
        }
    }

    /// The properties in order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let (mut reader, list) = match self.0 {
            Repr::Wire(bytes) => (Reader(bytes), &[][..]),
            Repr::List(list) => (Reader(&[]), list),
        };
        let wire = core::iter::from_fn(move || {
            let id = PropertyId::from_u8(reader.u8().ok()?)?;
            Property::read(id, &mut reader).ok()
        });
        wire.chain(list.iter().copied())
    }

    /// The first property with this identifier.
    #[must_use]
    pub fn find(&self, id: PropertyId) -> Option<Property<'a>> {
        self.iter().find(|property| property.id() == id)
    }

    /// Bytes with the Property Length; the list is checked as strictly as what is received.
    pub(super) fn encoded_len(&self, packet: PropertyPacket) -> Result<u32, EncodeError> {
        let len = match self.0 {
            Repr::Wire(bytes) => bytes.len() as u32,
            Repr::List(list) => {
                let mut seen = 0u64;
                let mut len = 0u32;
                for property in list {
                    let id = property.id();
                    let bit = 1 << id as u8;
                    if id.packets() & packet as u16 == 0
                        || property.check().is_err()
                        || seen & bit != 0 && !may_repeat(id, packet)
                        || matches!(property, Property::SubscriptionIdentifier(0x1000_0000..))
                        || has_nul(property)
                    {
                        return Err(EncodeError::Property);
                    }
                    seen |= bit;
                    len = len.saturating_add(property.checked_len()?);
                }
                len
            }
        };
        if len > super::MAX_REMAINING {
            return Err(EncodeError::TooLong);
        }
        Ok(vbi_len(len) + len)
    }

    /// Bytes without the Property Length, of properties that were checked.
    fn body_len(&self) -> u32 {
        match self.0 {
            Repr::Wire(bytes) => bytes.len() as u32,
            Repr::List(list) => list.iter().map(|property| property.wire_len() as u32).sum(),
        }
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.vbi(self.body_len());
        match self.0 {
            Repr::Wire(bytes) => writer.bytes(bytes),
            Repr::List(list) => list.iter().for_each(|property| property.put(writer)),
        }
    }
}

/// User Property everywhere, Subscription Identifier where a server sends it.
const fn may_repeat(id: PropertyId, packet: PropertyPacket) -> bool {
    match id {
        PropertyId::UserProperty => true,
        PropertyId::SubscriptionIdentifier => matches!(packet, PropertyPacket::Publish),
        _ => false,
    }
}

fn has_nul(property: &Property<'_>) -> bool {
    match property {
        Property::ContentType(text)
        | Property::ResponseTopic(text)
        | Property::AssignedClientIdentifier(text)
        | Property::AuthenticationMethod(text)
        | Property::ResponseInformation(text)
        | Property::ServerReference(text)
        | Property::ReasonString(text) => text.contains('\0'),
        Property::UserProperty(name, value) => name.contains('\0') || value.contains('\0'),
        _ => false,
    }
}
