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
