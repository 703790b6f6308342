//! Topic aliases of one connection, a table for each direction. `[MQTT-3.3.2-7]`

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::codec::{Property, PropertyId, ProtocolError, Publish, ReasonCode};

/// Aliases set by the peer.
#[derive(Debug, Default)]
pub(super) struct AliasesIn {
    topics: Vec<Option<Box<str>>>,
    /// Of the topics.
    bytes: usize,
}

impl AliasesIn {
    /// Gives the PUBLISH its topic back, and remembers a new mapping.
    pub(super) fn resolve<'c>(
        &'c mut self,
        publish: Publish<'c>,
        max: u16,
    ) -> Result<Publish<'c>, ProtocolError> {
        let Some(Property::TopicAlias(alias)) = publish.properties.find(PropertyId::TopicAlias)
        else {
            return Ok(publish);
        };
        if alias == 0 || alias > max {
            // [U5-044] [MQTT-3.3.2-9]
            return Err(ProtocolError::new(ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-9"));
        }
        let at = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let topic = self.topics.get(at).and_then(|topic| topic.as_deref());
            let topic = topic.ok_or(ProtocolError::protocol("U5-045"))?;
            return Ok(Publish { topic, ..publish });
        }
        if self.topics.len() <= at {
            self.topics.resize(at + 1, None);
        }
        // [U5-046]: a mapping may be replaced.
        let known = self.topics[at].as_deref();
        if known != Some(publish.topic) {
            self.bytes = self.bytes - known.map_or(0, str::len) + publish.topic.len();
            self.topics[at] = Some(Box::from(publish.topic));
        }
        Ok(publish)
    }

    /// Bytes held.
    pub(super) fn footprint(&self) -> usize {
        self.topics.len() * size_of::<Option<Box<str>>>() + self.bytes
    }
}

/// Aliases set towards the peer: the first topics sent, as many as it allows.
#[derive(Debug, Default)]
pub(crate) struct AliasesOut {
    topics: Vec<Box<[u8]>>,
    bytes: usize,
}

/// How a topic is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alias {
    /// In full.
    None,
    /// In full, with a new alias. Not set before [`AliasesOut::set`] says so: a packet that is
    /// too large is dropped, and its mapping with it.
    New(u16),
    /// As this alias alone.
    Known(u16),
}

impl AliasesOut {
    /// How to send `topic` to a peer that allows `max` aliases. `[MQTT-3.1.2-26]`
    pub(crate) fn find(&self, topic: &[u8], max: u16) -> Alias {
        if let Some(at) = self.topics.iter().position(|known| **known == *topic) {
            return Alias::Known(at as u16 + 1);
        }
        if defect!("alias_not_set") && self.topics.is_empty() && max > 0 {
            return Alias::Known(1);
        }
        let max = max + u16::from(defect!("alias_out_of_range"));
        if self.topics.len() < usize::from(max) && topic.len() > 2 {
            return Alias::New(self.topics.len() as u16 + 1);
        }
        Alias::None
    }

    /// The alias found as new for `topic` is on its way.
    pub(crate) fn set(&mut self, topic: &[u8]) {
        self.topics.push(Box::from(topic));
        self.bytes += size_of::<Box<[u8]>>() + topic.len();
    }

    /// Bytes held.
    pub(crate) fn footprint(&self) -> usize {
        self.bytes
    }
}
