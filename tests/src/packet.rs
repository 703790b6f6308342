//! Packets as a client writes them, without the codec of the core: a mistake made there does not
//! hide itself.
//!
//! The functions trust their arguments: strings are at most 65,535 bytes and packets at most
//! 268,435,455 bytes after the fixed header.

use fulmar_core::{Qos, Version};

/// CONNECT without will, credentials or properties, and with keep alive 0.
///
/// `clean` is Clean Session, or Clean Start in 5.0.
#[must_use]
pub fn connect(version: Version, client_id: &str, clean: bool) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, if version == Version::V31 { "MQIsdp" } else { "MQTT" });
    body.extend([version as u8, u8::from(clean) << 1, 0, 0]);
    no_properties(&mut body, version);
    string(&mut body, client_id);
    frame(0x10, &body)
}

/// SUBSCRIBE with one filter, without properties or options beside the QoS.
#[must_use]
pub fn subscribe(version: Version, id: u16, filter: &str, qos: Qos) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    no_properties(&mut body, version);
    string(&mut body, filter);
    body.push(qos as u8);
    frame(0x82, &body)
}

/// PUBLISH without properties. `id` stands in it only where `qos` is above 0.
#[must_use]
pub fn publish(version: Version, topic: &str, payload: &[u8], qos: Qos, id: u16) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, topic);
    if qos != Qos::AtMostOnce {
        body.extend(id.to_be_bytes());
    }
    no_properties(&mut body, version);
    body.extend_from_slice(payload);
    frame(0x30 | (qos as u8) << 1, &body)
}

/// PUBACK with reason Success.
#[must_use]
pub fn puback(id: u16) -> [u8; 4] {
    acknowledgement(0x40, id)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with reason Success; `first` is its first byte.
#[must_use]
pub fn acknowledgement(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

fn no_properties(body: &mut Vec<u8>, version: Version) {
    if version == Version::V5 {
        body.push(0);
    }
}

/// Appends a string with its length before it.
pub fn string(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// A packet of this first byte and all that follows the Remaining Length.
#[must_use]
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_standard() {
        let connect = connect(Version::V311, "a", true);
        assert_eq!(connect, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a");
        let publish = publish(Version::V5, "t", b"xy", Qos::AtLeastOnce, 7);
        assert_eq!(publish, b"\x32\x08\x00\x01t\x00\x07\x00xy");
        assert_eq!(frame(0x30, &[0; 321])[..3], [0x30, 193, 2]);
    }
}
