//! Reason codes: one table of values, names and the packets that may carry them.

/// Packets with a reason code, as bits of a mask.
pub(super) mod carrier {
    pub(in crate::codec) const CONNACK: u16 = 1;
    pub(in crate::codec) const PUBACK: u16 = 1 << 1;
    pub(in crate::codec) const PUBREC: u16 = 1 << 2;
    pub(in crate::codec) const PUBREL: u16 = 1 << 3;
    pub(in crate::codec) const PUBCOMP: u16 = 1 << 4;
    pub(in crate::codec) const SUBACK: u16 = 1 << 5;
    pub(in crate::codec) const UNSUBACK: u16 = 1 << 6;
    /// DISCONNECT from a client, and from a server.
    pub(in crate::codec) const CLIENT_DISCONNECT: u16 = 1 << 7;
    pub(in crate::codec) const SERVER_DISCONNECT: u16 = 1 << 8;
    pub(in crate::codec) const DISCONNECT: u16 = CLIENT_DISCONNECT | SERVER_DISCONNECT;
    pub(in crate::codec) const AUTH: u16 = 1 << 9;
    pub(in crate::codec) const PUBLISHED: u16 = PUBACK | PUBREC;
    pub(in crate::codec) const RELEASED: u16 = PUBREL | PUBCOMP;
    pub(in crate::codec) const SUBSCRIBED: u16 = SUBACK | UNSUBACK;

    /// The bits of a packet type; none for one without reason codes.
    pub(in crate::codec) const fn of(packet_type: u8) -> u16 {
        match packet_type {
            2 => CONNACK,
            4 => PUBACK,
            5 => PUBREC,
            6 => PUBREL,
            7 => PUBCOMP,
            9 => SUBACK,
            11 => UNSUBACK,
            14 => DISCONNECT,
            15 => AUTH,
            _ => 0,
        }
    }
}

macro_rules! reason_codes {
    ($($code:literal $name:ident $text:literal $packets:expr;)*) => {
        /// A reason code of MQTT 5.0. An older version's return codes are mapped onto it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $text] $name = $code,)*
        }

        impl ReasonCode {
            /// All codes, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code of this value, if the standard has one.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name the standard gives it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Bits of the packets that may carry it.
            pub(super) const fn packets(self) -> u16 {
                use carrier::*;
                match self {
                    $(Self::$name => $packets,)*
                }
            }
        }
    };
}

reason_codes! {
    0x00 Success "Success" CONNACK | PUBLISHED | RELEASED | SUBSCRIBED | DISCONNECT | AUTH;
    0x01 GrantedQos1 "Granted QoS 1" SUBACK;
    0x02 GrantedQos2 "Granted QoS 2" SUBACK;
    0x04 DisconnectWithWill "Disconnect with Will Message" CLIENT_DISCONNECT;
    0x10 NoMatchingSubscribers "No matching subscribers" PUBLISHED;
    0x11 NoSubscriptionExisted "No subscription existed" UNSUBACK;
    0x18 ContinueAuthentication "Continue authentication" AUTH;
    0x19 Reauthenticate "Re-authenticate" AUTH;
    0x80 UnspecifiedError "Unspecified error" CONNACK | PUBLISHED | SUBSCRIBED | DISCONNECT;
    0x81 MalformedPacket "Malformed Packet" CONNACK | DISCONNECT;
    0x82 ProtocolError "Protocol Error" CONNACK | DISCONNECT;
    0x83 ImplementationSpecificError "Implementation specific error"
        CONNACK | PUBLISHED | SUBSCRIBED | DISCONNECT;
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version" CONNACK;
    0x85 ClientIdentifierNotValid "Client Identifier not valid" CONNACK;
    0x86 BadUserNameOrPassword "Bad User Name or Password" CONNACK;
    0x87 NotAuthorized "Not authorized" CONNACK | PUBLISHED | SUBSCRIBED | SERVER_DISCONNECT;
    0x88 ServerUnavailable "Server unavailable" CONNACK;
    0x89 ServerBusy "Server busy" CONNACK | SERVER_DISCONNECT;
    0x8a Banned "Banned" CONNACK;
    0x8b ServerShuttingDown "Server shutting down" SERVER_DISCONNECT;
    // The standard lists it for DISCONNECT in one of two tables: taken, but not sent by us.
    0x8c BadAuthenticationMethod "Bad authentication method" CONNACK | DISCONNECT;
    0x8d KeepAliveTimeout "Keep Alive timeout" SERVER_DISCONNECT;
    0x8e SessionTakenOver "Session taken over" SERVER_DISCONNECT;
    0x8f TopicFilterInvalid "Topic Filter invalid" SUBSCRIBED | SERVER_DISCONNECT;
    0x90 TopicNameInvalid "Topic Name invalid" CONNACK | PUBLISHED | DISCONNECT;
    0x91 PacketIdentifierInUse "Packet Identifier in use" PUBLISHED | SUBSCRIBED;
    0x92 PacketIdentifierNotFound "Packet Identifier not found" RELEASED;
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded" DISCONNECT;
    0x94 TopicAliasInvalid "Topic Alias invalid" DISCONNECT;
    0x95 PacketTooLarge "Packet too large" CONNACK | DISCONNECT;
    0x96 MessageRateTooHigh "Message rate too high" DISCONNECT;
    0x97 QuotaExceeded "Quota exceeded" CONNACK | PUBLISHED | SUBACK | DISCONNECT;
    0x98 AdministrativeAction "Administrative action" DISCONNECT;
    0x99 PayloadFormatInvalid "Payload format invalid" CONNACK | PUBLISHED | DISCONNECT;
    0x9a RetainNotSupported "Retain not supported" CONNACK | SERVER_DISCONNECT;
    0x9b QosNotSupported "QoS not supported" CONNACK | SERVER_DISCONNECT;
    0x9c UseAnotherServer "Use another server" CONNACK | SERVER_DISCONNECT;
    0x9d ServerMoved "Server moved" CONNACK | SERVER_DISCONNECT;
    0x9e SharedSubscriptionsNotSupported "Shared Subscriptions not supported"
        SUBACK | SERVER_DISCONNECT;
    0x9f ConnectionRateExceeded "Connection rate exceeded" CONNACK | SERVER_DISCONNECT;
    0xa0 MaximumConnectTime "Maximum connect time" SERVER_DISCONNECT;
    0xa1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported"
        SUBACK | SERVER_DISCONNECT;
    0xa2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported"
        SUBACK | SERVER_DISCONNECT;
}

impl ReasonCode {
    /// Whether the code tells of a failure: 0x80 or above.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether packets of this type, 1 to 15, may carry it, in either direction. `[MQTT-3.4.2-1]`
    #[must_use]
    pub const fn allowed_in(self, packet_type: u8) -> bool {
        self.packets() & carrier::of(packet_type) != 0
    }

    /// Whether CONNACK may carry it. `[MQTT-3.2.2-8]`
    #[must_use]
    pub const fn allowed_in_connack(self) -> bool {
        self.packets() & carrier::CONNACK != 0
    }

    /// Whether a client's DISCONNECT may carry it. `[MQTT-3.14.2-1]`
    #[must_use]
    pub const fn sent_by_client(self) -> bool {
        self.packets() & carrier::CLIENT_DISCONNECT != 0
    }

    /// The Connect Return Code of MQTT 3.1 and 3.1.1 that comes nearest.
    #[must_use]
    pub const fn return_code(self) -> u8 {
        match self {
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::Banned | Self::BadAuthenticationMethod => 5,
            code if code.is_error() => 3,
            _ => 0,
        }
    }

    /// Whether a Connect Return Code says the truth about it. Without one the connection is closed
    /// without CONNACK. `[v4:MQTT-3.2.2-6]`
    #[must_use]
    pub const fn has_return_code(self) -> bool {
        // Code 3 would ask the client to try the same once more.
        let about_will = matches!(
            self,
            Self::TopicNameInvalid | Self::QosNotSupported | Self::RetainNotSupported
        );
        !about_will
    }

    /// What a Connect Return Code of MQTT 3.1 and 3.1.1 means.
    #[must_use]
    pub const fn from_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::UnsupportedProtocolVersion,
            2 => Self::ClientIdentifierNotValid,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }
}

impl core::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_return_codes_go_both_ways() {
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(*code as u8), Some(*code));
            assert_ne!(code.packets(), 0, "{code}");
        }
        assert_eq!(ReasonCode::from_u8(0x03), None);
        for code in 0..=5 {
            assert_eq!(ReasonCode::from_return_code(code).map(ReasonCode::return_code), Some(code));
        }
        assert_eq!(ReasonCode::QuotaExceeded.return_code(), 3);
    }
}
