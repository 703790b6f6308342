//! Who is it? The Client Identifier off the beginning of a CONNECT.

use super::header;

/// What the beginning of a connection says about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// Its Client Identifier; empty where it leaves the choice to the broker.
    Client(&'a str),
    /// Too little has come.
    More,
    /// It will not be accepted as it is: no CONNECT, or one that nobody needs to read further.
    Other,
}

/// Looks for the Client Identifier in the first bytes of a connection, without judging the rest.
#[must_use]
pub fn peek_connect(input: &[u8]) -> Peek<'_> {
    match input.first() {
        None => return Peek::More,
        Some(first) if first >> 4 != 1 => return Peek::Other,
        Some(_) => {}
    }
    let header = match header(input) {
        Ok(Some(header)) => header,
        Ok(None) => return Peek::More,
        Err(_) => return Peek::Other,
    };
    let start = usize::from(header.header_len);
    let body = &input[start..input.len().min(header.total() as usize)];
    let whole = input.len() >= header.total() as usize;
    match client_id(body) {
        Some(id) => core::str::from_utf8(id).map_or(Peek::Other, Peek::Client),
        None if whole => Peek::Other,
        None => Peek::More,
    }
}

/// The field, if all of it is there.
fn client_id(body: &[u8]) -> Option<&[u8]> {
    let (_, rest) = binary(body)?;
    let (level, rest) = rest.split_first()?;
    // Flags and keep alive.
    let mut rest = rest.get(3..)?;
    if level & 0x7f == 5 {
        let mut len = 0;
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            len |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = rest.get(len..)?;
    }
    binary(rest).map(|(id, _)| id)
}

/// A field with two bytes of length before it, and what follows.
fn binary(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = input.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::codec::{Connect, Packet, Properties, Property, Version};

    #[test]
    fn the_identifier_is_found_as_soon_as_it_is_there() {
        let properties = [Property::UserProperty("name", "value"), Property::ReceiveMaximum(9)];
        for version in [Version::V31, Version::V311, Version::V5] {
            for client_id in ["", "client"] {
                let connect = Connect {
                    version,
                    bridge: version == Version::V311,
                    clean_start: true,
                    keep_alive: 7,
                    client_id,
                    will: None,
                    username: Some("user"),
                    password: Some(b"password"),
                    properties: match version {
                        Version::V5 => Properties::list(&properties),
                        _ => Properties::EMPTY,
                    },
                };
                let packet = Packet::Connect(connect);
                let mut bytes = std::vec![0; packet.encoded_len(version).unwrap() as usize];
                packet.encode(version, &mut bytes);
                // User Name and Password come after it.
                let end = bytes.len() - 2 - "user".len() - 2 - "password".len();
                for len in 0..end {
                    assert_eq!(peek_connect(&bytes[..len]), Peek::More, "{len} bytes");
                }
                for len in end..=bytes.len() {
                    assert_eq!(peek_connect(&bytes[..len]), Peek::Client(client_id));
                }
                bytes.extend_from_slice(&[0xc0, 0]);
                assert_eq!(peek_connect(&bytes), Peek::Client(client_id));
            }
        }
    }

    #[test]
    fn what_is_no_connect_is_not_waited_for() {
        assert_eq!(peek_connect(b"GET / HTTP/1.1"), Peek::Other);
        assert_eq!(peek_connect(&[0x30]), Peek::Other);
        assert_eq!(peek_connect(&[0x10, 0x80, 0x80, 0x80, 0x80]), Peek::Other);
        assert_eq!(peek_connect(&[0x10, 2, 0, 9]), Peek::Other, "it ends before");
        let not_text = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, 0xff];
        assert_eq!(peek_connect(&not_text), Peek::Other);
    }

    quickcheck::quickcheck! {
        fn no_bytes_do_harm(bytes: Vec<u8>) -> bool {
            let mut connect = std::vec![0x10];
            connect.extend_from_slice(&bytes);
            let _ = (peek_connect(&bytes), peek_connect(&connect));
            true
        }
    }
}
