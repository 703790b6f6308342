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

/// Packets as bits, for the table.
mod mask {
    use super::PropertyPacket as P;
    pub(super) const CONNECT: u16 = P::Connect as u16;
    pub(super) const CONNACK: u16 = P::Connack as u16;
    pub(super) const PUBLISH: u16 = P::Publish as u16;
    pub(super) const WILL: u16 = P::Will as u16;
    pub(super) const MESSAGE: u16 = PUBLISH | WILL;
    pub(super) const SUBSCRIBE: u16 = P::Subscribe as u16;
    pub(super) const DISCONNECT: u16 = P::Disconnect as u16;
    pub(super) const AUTH: u16 = P::Auth as u16;
    pub(super) const BOTH: u16 = CONNECT | CONNACK;
    /// Answers, which may say why.
    pub(super) const ANSWERS: u16 =
        CONNACK | P::Ack as u16 | P::Suback as u16 | P::Unsuback as u16 | DISCONNECT | AUTH;
    pub(super) const ALL: u16 = ANSWERS | CONNECT | MESSAGE | SUBSCRIBE | P::Unsubscribe as u16;
    /// No packet, of those in which a property may repeat.
    pub(super) const ONCE: u16 = 0;
}

/// How a value stands on the wire.
macro_rules! wire {
    (len u8 $v:ident) => { size_of_val($v) as u32 };
    (len bool $v:ident) => { size_of_val($v) as u32 };
    (len u16 $v:ident) => { size_of_val($v) as u32 };
    (len u32 $v:ident) => { size_of_val($v) as u32 };
    (len vbi $v:ident) => { vbi_len(*$v) };
    (len string $v:ident) => { binary_len($v.as_bytes())? };
    (len binary $v:ident) => { binary_len($v)? };
    (read u8 $r:ident) => { $r.u8()? };
    (read bool $r:ident) => {
        // [U5-017], and likewise for the other flags.
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
    (nul string $v:ident) => { $v.contains('\0') };
    (nul $other:ident $v:ident) => {{
        let _ = $v;
        false
    }};
    (type u8) => { u8 };
    (type bool) => { bool };
    (type u16) => { u16 };
    (type u32) => { u32 };
    (type vbi) => { u32 };
    (type string) => { &'a str };
    (type binary) => { &'a [u8] };
}

macro_rules! properties {
    ($(
        $id:literal $name:ident($($field:ident: $wire:ident),+) $text:literal
        $packets:expr, $repeats:expr $(, $bad:pat $(if $guard:expr)? => $error:expr)?;
    )*) => {
        /// Identifiers of properties.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $(#[doc = $text] $name = $id,)*
        }

        /// A property with its value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Property<'a> {
            $(#[doc = $text] $name($(wire!(type $wire)),+),)*
        }

        impl PropertyId {
            /// All identifiers, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The identifier of this value, if the standard has one.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Bits of the packets that may carry it.
            const fn packets(self) -> u16 {
                use mask::*;
                match self {
                    $(Self::$name => $packets,)*
                }
            }

            /// Bits of the packets that may carry it more than once.
            const fn repeats(self) -> u16 {
                use mask::*;
                match self {
                    $(Self::$name => $repeats,)*
                }
            }
        }

        impl<'a> Property<'a> {
            /// Its identifier.
            #[must_use]
            pub const fn id(&self) -> PropertyId {
                match self {
                    $(Self::$name(..) => PropertyId::$name,)*
                }
            }

            fn read(id: PropertyId, reader: &mut Reader<'a>) -> Result<Self, ProtocolError> {
                Ok(match id {
                    $(PropertyId::$name => Self::$name($(wire!(read $wire reader)),+),)*
                })
            }

            /// Refuses a value out of range.
            fn check(&self) -> Result<(), ProtocolError> {
                match *self {
                    $($(Self::$name($bad) $(if $guard)? => Err($error),)?)*
                    _ => Ok(()),
                }
            }

            /// Whether a string has U+0000, which a received one cannot have.
            fn has_nul(&self) -> bool {
                match self {
                    $(Self::$name($($field),+) => false $(|| wire!(nul $wire $field))+,)*
                }
            }

            fn checked_len(&self) -> Result<u32, EncodeError> {
                Ok(match self {
                    $(Self::$name($($field),+) => 1 $(+ wire!(len $wire $field))+,)*
                })
            }

            fn put(&self, writer: &mut Writer<'_>) {
                writer.u8(self.id() as u8);
                match self {
                    $(Self::$name($($field),+) => {
                        $(wire!(write $wire writer $field);)+
                    })*
                }
            }
        }
    };
}

use ProtocolError as Error;

// Identifier, value, what it is; packets, packets in which it may repeat, values refused.
properties! {
    0x01 PayloadFormatIndicator(value: u8) "Payload Format Indicator."
        MESSAGE, ONCE, 2.. => Error::protocol("U5-025");
    0x02 MessageExpiryInterval(value: u32) "Message Expiry Interval, in seconds." MESSAGE, ONCE;
    0x03 ContentType(value: string) "Content Type." MESSAGE, ONCE;
    0x08 ResponseTopic(value: string) "Response Topic."
        MESSAGE, ONCE, topic if topic.contains(['+', '#']) => Error::protocol("MQTT-3.3.2-14");
    0x09 CorrelationData(value: binary) "Correlation Data." MESSAGE, ONCE;
    0x0b SubscriptionIdentifier(value: vbi) "Subscription Identifier."
        PUBLISH | SUBSCRIBE, PUBLISH, 0 | 0x1000_0000.. => Error::protocol("U5-043");
    0x11 SessionExpiryInterval(value: u32) "Session Expiry Interval, in seconds."
        BOTH | DISCONNECT, ONCE;
    0x12 AssignedClientIdentifier(value: string) "Assigned Client Identifier." CONNACK, ONCE;
    0x13 ServerKeepAlive(value: u16) "Server Keep Alive, in seconds." CONNACK, ONCE;
    0x15 AuthenticationMethod(value: string) "Authentication Method." BOTH | AUTH, ONCE;
    0x16 AuthenticationData(value: binary) "Authentication Data." BOTH | AUTH, ONCE;
    0x17 RequestProblemInformation(value: bool) "Request Problem Information." CONNECT, ONCE;
    0x18 WillDelayInterval(value: u32) "Will Delay Interval, in seconds." WILL, ONCE;
    0x19 RequestResponseInformation(value: bool) "Request Response Information." CONNECT, ONCE;
    0x1a ResponseInformation(value: string) "Response Information." CONNACK, ONCE;
    0x1c ServerReference(value: string) "Server Reference." CONNACK | DISCONNECT, ONCE;
    0x1f ReasonString(value: string) "Reason String." ANSWERS, ONCE;
    0x21 ReceiveMaximum(value: u16) "Receive Maximum."
        BOTH, ONCE, 0 => Error::protocol("U5-013");
    0x22 TopicAliasMaximum(value: u16) "Topic Alias Maximum." BOTH, ONCE;
    0x23 TopicAlias(value: u16) "Topic Alias."
        PUBLISH, ONCE, 0 => Error::new(ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-8");
    0x24 MaximumQos(value: u8) "Maximum QoS, 0 or 1."
        CONNACK, ONCE, 2.. => Error::protocol("U5-028");
    0x25 RetainAvailable(value: bool) "Retain Available." CONNACK, ONCE;
    0x26 UserProperty(name: string, value: string) "User Property: name and value." ALL, ALL;
    0x27 MaximumPacketSize(value: u32) "Maximum Packet Size, in bytes."
        BOTH, ONCE, 0 => Error::protocol("U5-014");
    0x28 WildcardSubscriptionAvailable(value: bool) "Wildcard Subscription Available."
        CONNACK, ONCE;
    0x29 SubscriptionIdentifierAvailable(value: bool) "Subscription Identifier Available."
        CONNACK, ONCE;
    0x2a SharedSubscriptionAvailable(value: bool) "Shared Subscription Available."
        CONNACK, ONCE;
}

impl PropertyId {
    /// Whether this packet may carry it. `[U5-007]`
    #[must_use]
    pub const fn allowed_in(self, packet: PropertyPacket) -> bool {
        self.packets() & packet as u16 != 0
    }
}

/// What was seen of a list of properties, for the rules about more than one of them.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn has(&self, id: PropertyId) -> bool {
        self.0 & 1 << id as u8 != 0
    }

    fn add(&mut self, packet: PropertyPacket, property: &Property<'_>) -> Result<(), Error> {
        property.check()?;
        let id = property.id();
        if self.has(id) && id.repeats() & packet as u16 == 0 {
            return Err(Error::protocol("U5-035"));
        }
        self.0 |= 1 << id as u8;
        Ok(())
    }

    fn end(&self, packet: PropertyPacket) -> Result<(), Error> {
        let data_alone =
            self.has(PropertyId::AuthenticationData) && !self.has(PropertyId::AuthenticationMethod);
        if data_alone && packet == PropertyPacket::Connect {
            return Err(Error::protocol("U5-020"));
        }
        Ok(())
    }
}

impl Property<'_> {
    /// Bytes on the wire; 0 for a value that is too long to be sent.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.checked_len().map_or(0, |len| len as usize)
    }

    /// Writes it to the front of `out`, which holds [`Property::wire_len`] bytes at least, and
    /// says how many it took. Nothing is written of a value that is too long to be sent.
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
}

/// The properties of a packet: bytes that were checked, or a list of the caller's.
///
/// Two are equal if they hold the same properties in the same order, in whichever form.
#[derive(Clone, Copy)]
pub struct Properties<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    /// Checked for this packet.
    Wire(PropertyPacket, &'a [u8]),
    List(&'a [Property<'a>]),
}

impl Default for Properties<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl core::fmt::Debug for Properties<'_> {
    /// Authentication Data is secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut list = f.debug_list();
        for property in self.iter() {
            match property {
                Property::AuthenticationData(_) => list.entry(&"AuthenticationData(***)"),
                shown => list.entry(&shown),
            };
        }
        list.finish()
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
    pub const EMPTY: Self = Self(Repr::List(&[]));

    /// Properties to send, in this order; checked when the packet's length is asked.
    #[must_use]
    pub const fn list(list: &'a [Property<'a>]) -> Self {
        Self(Repr::List(list))
    }

    /// Properties as they stand in a packet, without the Property Length.
    ///
    /// # Errors
    /// Unknown, misplaced, repeated or wrong ones. `[U5-007]`
    pub fn from_wire(packet: PropertyPacket, bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader(bytes);
        let mut seen = Seen::default();
        while !reader.is_empty() {
            let id = PropertyId::from_u8(reader.u8()?)
                .filter(|id| id.allowed_in(packet))
                .ok_or(Error::malformed("U5-007"))?;
            seen.add(packet, &Property::read(id, &mut reader)?)?;
        }
        seen.end(packet)?;
        Ok(Self(Repr::Wire(packet, bytes)))
    }

    /// Reads a Property Length and as many bytes.
    #[inline]
    pub(super) fn read(packet: PropertyPacket, reader: &mut Reader<'a>) -> Result<Self, Error> {
        let len = reader.vbi()?;
        if len == 0 {
            return Ok(Self::EMPTY);
        }
        Self::from_wire(packet, reader.bytes(len as usize)?)
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Repr::Wire(_, bytes) => bytes.is_empty(),
            Repr::List(list) => list.is_empty(),
        }
    }

    /// The properties in order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let (mut reader, list) = match self.0 {
            Repr::Wire(_, bytes) => (Reader(bytes), &[][..]),
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

    /// The bytes of properties that came from the wire, without the Property Length; `None` for
    /// a list.
    #[must_use]
    pub const fn wire(&self) -> Option<&'a [u8]> {
        match self.0 {
            Repr::Wire(_, bytes) => Some(bytes),
            Repr::List(_) => None,
        }
    }

    /// Bytes on the wire without the Property Length. A value that is too long to be sent counts
    /// nothing.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        match self.0 {
            Repr::Wire(_, bytes) => bytes.len(),
            Repr::List(list) => list.iter().map(Property::wire_len).sum(),
        }
    }

    /// Writes them without the Property Length to the front of `out`, which holds
    /// [`Properties::wire_len`] bytes at least, and says how many it took.
    ///
    /// # Panics
    /// If `out` is too short.
    pub fn write(&self, out: &mut [u8]) -> usize {
        match self.0 {
            Repr::Wire(_, bytes) => out[..bytes.len()].copy_from_slice(bytes),
            Repr::List(list) => {
                let mut at = 0;
                for property in list {
                    at += property.write(&mut out[at..]);
                }
            }
        }
        self.wire_len()
    }

    /// Bytes with the Property Length; checked as strictly as what is received.
    pub(super) fn encoded_len(&self, packet: PropertyPacket) -> Result<u32, EncodeError> {
        let len = match self.0 {
            Repr::Wire(checked, bytes) if checked == packet => {
                u32::try_from(bytes.len()).unwrap_or(u32::MAX)
            }
            _ => self.checked_len(packet)?,
        };
        if len > super::MAX_REMAINING {
            return Err(EncodeError::TooLong);
        }
        Ok(vbi_len(len) + len)
    }

    fn checked_len(&self, packet: PropertyPacket) -> Result<u32, EncodeError> {
        let mut seen = Seen::default();
        let mut len = 0u32;
        for property in self.iter() {
            if !property.id().allowed_in(packet)
                || property.has_nul()
                || seen.add(packet, &property).is_err()
            {
                return Err(EncodeError::Property);
            }
            len = len.saturating_add(property.checked_len()?);
        }
        seen.end(packet).map_err(|_| EncodeError::Property)?;
        Ok(len)
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.vbi(self.wire_len() as u32);
        match self.0 {
            Repr::Wire(_, bytes) => writer.bytes(bytes),
            Repr::List(list) => list.iter().for_each(|property| property.put(writer)),
        }
    }
}
