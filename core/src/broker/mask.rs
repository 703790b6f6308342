//! Secrets in what clients send, overwritten at equal length.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use super::ConnId;
use crate::codec::header;

/// Bytes of a CONNECT or AUTH looked into; what is longer is hidden whole from there on.
const LOOK: usize = 512 * 1024;

/// The state of each connection's stream.
#[derive(Debug, Default)]
pub(super) struct Masks(BTreeMap<ConnId, Stream>);

/// Where in a frame the stream stands.
#[derive(Debug, Default)]
struct Stream {
    /// Of the frame under way: its bytes as far as they matter for finding secrets.
    seen: Vec<u8>,
    /// Bytes of it that came, and that it has in all once its header is there.
    came: usize,
    total: Option<usize>,
}

impl Masks {
    pub(super) fn closed(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }

    /// A copy of the bytes without secrets.
    pub(super) fn received(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<u8> {
        let stream = self.0.entry(conn).or_default();
        let mut masked = bytes.to_vec();
        let mut at = 0;
        while at < bytes.len() {
            at = stream.step(bytes, &mut masked, at);
        }
        masked
    }
}

impl Stream {
    /// Handles what belongs to the frame under way, and says where it ends in `bytes`.
    fn step(&mut self, bytes: &[u8], masked: &mut [u8], at: usize) -> usize {
        if self.total.is_none() {
            self.seen.push(bytes[at]);
            self.came += 1;
            match header(&self.seen) {
                Ok(Some(header)) => self.total = Some(header.total() as usize),
                Ok(None) => {}
                // Nothing after this will be read by anyone.
                Err(_) => self.total = Some(usize::MAX),
            }
            self.end_if_whole();
            return at + 1;
        }
        let total = self.total.unwrap_or(usize::MAX);
        let end = bytes.len().min(at.saturating_add(total - self.came));
        let kind = self.seen.first().map_or(0, |first| first >> 4);
        if kind == 1 || kind == 15 {
            let start = self.came;
            let room = LOOK.saturating_sub(self.seen.len()).min(end - at);
            self.seen.extend_from_slice(&bytes[at..at + room]);
            for secret in secrets(&self.seen) {
                let from = secret.start.max(start);
                let to = secret.end.min(start + (end - at));
                if from < to {
                    masked[at + from - start..at + to - start].fill(b'x');
                }
            }
            masked[at + room..end].fill(b'x');
        }
        self.came += end - at;
        self.end_if_whole();
        end
    }

    fn end_if_whole(&mut self) {
        if self.total == Some(self.came) {
            *self = Self::default();
        }
    }
}

/// Reads fields of a frame that may be there in part only.
struct Fields<'f> {
    frame: &'f [u8],
    at: usize,
}

impl Fields<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.frame.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u16(&mut self) -> Option<usize> {
        Some(usize::from(self.u8()?) << 8 | usize::from(self.u8()?))
    }

    fn vbi(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Where a string or binary field lies, whether it is all there or not.
    fn field(&mut self) -> Option<Range<usize>> {
        let len = self.u16()?;
        let start = self.at;
        self.at += len;
        Some(start..start + len)
    }

    /// Passes a block of properties, noting Authentication Data.
    fn properties(&mut self, secrets: &mut Vec<Range<usize>>) -> Option<()> {
        let len = self.vbi()?;
        let end = self.at + len;
        while self.at < end {
            match self.u8()? {
                0x16 => secrets.push(self.field()?),
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => self.at += 1,
                0x13 | 0x21..=0x23 => self.at += 2,
                0x02 | 0x11 | 0x18 | 0x27 => self.at += 4,
                0x0b => {
                    self.vbi()?;
                }
                0x26 => {
                    self.field()?;
                    self.field()?;
                }
                _ => {
                    self.field()?;
                }
            }
        }
        self.at = end;
        Some(())
    }

    fn connect(&mut self, secrets: &mut Vec<Range<usize>>) -> Option<()> {
        self.field()?;
        let five = self.u8()? & 0x7f == 5;
        let flags = self.u8()?;
        self.u16()?;
        if five {
            self.properties(secrets)?;
        }
        self.field()?;
        if flags & 4 != 0 {
            if five {
                self.properties(secrets)?;
            }
            self.field()?;
            self.field()?;
        }
        if flags & 0x80 != 0 {
            self.field()?;
        }
        if flags & 0x40 != 0 {
            secrets.push(self.field()?);
        }
        Some(())
    }
}

/// Where the secrets of a CONNECT or AUTH lie, as far as it is there.
fn secrets(frame: &[u8]) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let Ok(Some(header)) = header(frame) else { return secrets };
    let mut fields = Fields { frame, at: usize::from(header.header_len) };
    let _ = if header.first >> 4 == 1 {
        fields.connect(&mut secrets)
    } else {
        fields.u8().and_then(|_| fields.properties(&mut secrets))
    };
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Auth, Connect, Packet, Properties, Property, ReasonCode, Version};

    fn bytes(password: &[u8], data: &[u8]) -> Vec<u8> {
        let properties = [Property::AuthenticationMethod("m"), Property::AuthenticationData(data)];
        let properties = Properties::list(&properties);
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id: "client",
            will: None,
            username: Some("user"),
            password: Some(password),
            properties,
        };
        let mut out = Vec::new();
        Packet::Connect(connect).append(Version::V5, &mut out).unwrap();
        let reason = ReasonCode::ContinueAuthentication;
        let auth = Auth { reason, properties };
        Packet::Auth(auth).append(Version::V5, &mut out).unwrap();
        out.extend_from_slice(&[0xc0, 0]);
        Packet::Auth(auth).append(Version::V5, &mut out).unwrap();
        out
    }

    #[test]
    fn secrets_are_hidden_however_the_stream_is_cut() {
        let plain = bytes(b"password", b"proof");
        let hidden = bytes(b"xxxxxxxx", b"xxxxx");
        let conn = ConnId { index: 0, generation: 0 };
        for size in 1..=plain.len() {
            let mut masks = Masks::default();
            let masked: Vec<u8> =
                plain.chunks(size).flat_map(|chunk| masks.received(conn, chunk)).collect();
            assert_eq!(masked, hidden, "pieces of {size}");
        }
    }
}
