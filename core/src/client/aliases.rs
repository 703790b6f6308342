//! Topics behind the aliases a server sets. `[MQTT-3.3.2-7]`

use crate::Storage;
use crate::codec::{ProtocolError, ReasonCode};

/// Aliases a client allows at most.
pub(super) const MOST: usize = 16;

/// Topics one after the other, newest last.
#[derive(Debug)]
pub(super) struct Aliases<'s> {
    bytes: Storage<'s, u8>,
    used: usize,
    /// Start and length of the topic of each alias; no length where there is none.
    topics: [(u32, u16); MOST],
}

impl<'s> Aliases<'s> {
    pub(super) fn new(bytes: Storage<'s, u8>) -> Self {
        Self { bytes, used: 0, topics: [(0, 0); MOST] }
    }

    /// How many to announce: none without memory.
    pub(super) fn maximum(&self) -> u16 {
        if self.bytes.is_empty() { 0 } else { MOST as u16 }
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.topics = [(0, 0); MOST];
    }

    /// The place of an alias the server may use.
    fn place(&self, alias: u16) -> Result<usize, ProtocolError> {
        if alias == 0 || alias > self.maximum() {
            return Err(ProtocolError::new(ReasonCode::TopicAliasInvalid, "MQTT-3.1.2-26"));
        }
        Ok(usize::from(alias) - 1)
    }

    /// The topic of an alias.
    pub(super) fn get(&self, alias: u16) -> Result<&str, ProtocolError> {
        let (start, len) = self.topics[self.place(alias)?];
        let bytes = &self.bytes[start as usize..start as usize + usize::from(len)];
        match core::str::from_utf8(bytes) {
            Ok(topic) if !topic.is_empty() => Ok(topic),
            _ => Err(ProtocolError::protocol("U5-045")),
        }
    }

    /// Sets or replaces the topic of an alias.
    pub(super) fn set(&mut self, alias: u16, topic: &str) -> Result<(), ProtocolError> {
        let place = self.place(alias)?;
        self.remove(place);
        let Some(room) = self.bytes.get_mut(self.used..self.used + topic.len()) else {
            // The memory lent is too small for what was announced.
            return Err(ProtocolError::new(ReasonCode::QuotaExceeded, "MQTT-3.3.2-10"));
        };
        room.copy_from_slice(topic.as_bytes());
        self.topics[place] = (self.used as u32, topic.len() as u16);
        self.used += topic.len();
        Ok(())
    }

    fn remove(&mut self, place: usize) {
        let (start, len) = core::mem::take(&mut self.topics[place]);
        let (from, gap) = (start as usize, usize::from(len));
        self.bytes.copy_within(from + gap..self.used, from);
        self.used -= gap;
        for (other, _) in &mut self.topics {
            if *other > start {
                *other -= u32::from(len);
            }
        }
    }
}
