//! What the server said of itself with CONNACK.

use crate::codec::{Connack, Properties, Property, PropertyId, Qos};

/// What the server takes; the default is what holds before 5.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) receive_maximum: u16,
    pub(super) max_packet_size: u32,
    pub(super) max_qos: Qos,
    pub(super) retain: bool,
    /// Topic aliases that may be set.
    pub(super) aliases: u16,
    pub(super) wildcards: bool,
    pub(super) shared: bool,
    pub(super) identifiers: bool,
    pub(super) keep_alive: Option<u16>,
    /// Session Expiry Interval, if it differs from the one asked for. `[U5-027]`
    pub(super) expiry: Option<u32>,
    /// Fingerprint of its Authentication Method.
    pub(super) method: Option<u64>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            max_packet_size: u32::MAX,
            max_qos: Qos::ExactlyOnce,
            retain: true,
            aliases: 0,
            wildcards: true,
            shared: true,
            identifiers: true,
            keep_alive: None,
            expiry: None,
            method: None,
        }
    }
}

impl Server {
    pub(super) fn of(connack: &Connack<'_>) -> Self {
        let mut server = Self { method: method(connack.properties), ..Self::default() };
        for property in connack.properties.iter() {
            match property {
                Property::ReceiveMaximum(max) => server.receive_maximum = max,
                Property::MaximumPacketSize(size) => server.max_packet_size = size,
                Property::MaximumQos(max) => {
                    server.max_qos = Qos::from_bits(max).unwrap_or_default();
                }
                Property::RetainAvailable(on) => server.retain = on,
                Property::TopicAliasMaximum(max) => server.aliases = max,
                Property::WildcardSubscriptionAvailable(on) => server.wildcards = on,
                Property::SharedSubscriptionAvailable(on) => server.shared = on,
                Property::SubscriptionIdentifierAvailable(on) => server.identifiers = on,
                Property::ServerKeepAlive(secs) => server.keep_alive = Some(secs),
                Property::SessionExpiryInterval(secs) => server.expiry = Some(secs),
                _ => {}
            }
        }
        server
    }

    /// Whether it takes this PUBLISH, made for an earlier connection.
    pub(super) fn takes(&self, frame: &[u8]) -> bool {
        let first = frame.first().copied().unwrap_or(0);
        frame.len() as u64 <= u64::from(self.max_packet_size)
            && first >> 1 & 3 <= self.max_qos as u8
            && (self.retain || first & 1 == 0)
    }
}

/// Fingerprint of the Authentication Method, to know it again without memory for it: FNV-1a.
pub(super) fn method(properties: Properties<'_>) -> Option<u64> {
    match properties.find(PropertyId::AuthenticationMethod) {
        Some(Property::AuthenticationMethod(method)) => {
            Some(method.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            }))
        }
        _ => None,
    }
}

/// Whether CONNECT with these properties lets the server say why, and what else, in any packet.
pub(super) fn problems(properties: Properties<'_>) -> bool {
    let found = properties.find(PropertyId::RequestProblemInformation);
    found != Some(Property::RequestProblemInformation(false))
}

/// Whether there is a Reason String or a User Property.
pub(super) fn has_problem(properties: Properties<'_>) -> bool {
    [PropertyId::ReasonString, PropertyId::UserProperty]
        .into_iter()
        .any(|id| properties.find(id).is_some())
}

/// The Session Expiry Interval in seconds.
pub(super) fn expiry(properties: Properties<'_>) -> Option<u32> {
    match properties.find(PropertyId::SessionExpiryInterval) {
        Some(Property::SessionExpiryInterval(secs)) => Some(secs),
        _ => None,
    }
}
