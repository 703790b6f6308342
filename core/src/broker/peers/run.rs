//! Small messages on their way to another shard: many in one, each a copy of its few bytes.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::jobs::Source;
use super::super::message::{Body, Head, Message, MessageId, OVERHEAD};
use super::super::publish::Draft;
use super::msg::Parcel;
use crate::codec::{Properties, Qos};
use crate::time::Instant;

/// Bytes of topic and payload of a small message at most: a larger one is shared, not copied.
const SMALL: usize = if cfg!(fuzzing) { 8 } else { 512 };
/// Messages of a run at most, and bytes from which it takes no more: what is taken at once.
const MESSAGES: usize = if cfg!(fuzzing) { 3 } else { 64 };
const BYTES: usize = 8 * 1024;

/// A message without properties as its publisher gave it, before it is copied.
#[derive(Clone, Copy)]
pub(super) struct Small<'m> {
    pub(super) id: MessageId,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) publisher: Option<&'m Arc<str>>,
    pub(super) topic: &'m str,
    pub(super) payload: &'m [u8],
}

/// Messages of one lane, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Run {
    entries: Vec<Entry>,
    /// Each once for all its messages in a row.
    publishers: Vec<Option<Arc<str>>>,
    /// Of all messages, one after the other; none of one that has the topic of that before.
    topics: String,
    payloads: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    number: u64,
    id: MessageId,
    topic_at: u16,
    topic_len: u16,
    payload_len: u16,
    /// Its place among them.
    publisher: u16,
    qos: Qos,
    retain: bool,
}

impl<'m> Small<'m> {
    /// A message with this topic and payload, if that is all there is of it and it is small.
    fn of(self) -> Option<Self> {
        (self.topic.len() + self.payload.len() <= SMALL).then_some(self)
    }

    /// A message that a client publishes, under this name.
    pub(super) fn of_draft(draft: &Draft<'m>, id: MessageId) -> Option<Self> {
        let &Draft { topic, qos, retain, publisher, .. } = draft;
        let payload = draft.plain.filter(|_| draft.expires == Instant::NEVER)?;
        Small { id, qos, retain, publisher, topic, payload }.of()
    }

    /// A message on its way.
    pub(super) fn of_parcel(parcel: &'m Parcel) -> Option<Self> {
        Self::of_draft(&Draft::of(parcel), parcel.head.id)
    }

    /// A message that stays here, too.
    pub(super) fn of_message(message: &'m Message) -> Option<Self> {
        Self::of_draft(&Draft::of_body(&message.head, message.body()), message.head.id)
    }

    /// As it is to be handed out on another shard.
    pub(super) fn draft(&self) -> Draft<'m> {
        Draft {
            topic: self.topic,
            qos: self.qos,
            retain: self.retain,
            empty: self.payload.is_empty(),
            plain: Some(self.payload),
            expires: Instant::NEVER,
            publisher: self.publisher,
            source: Source::Nobody,
            id: None,
            groups: false,
        }
    }

    /// Bytes charged for it.
    pub(super) fn footprint(&self) -> u64 {
        (self.topic.len() + self.payload.len()) as u64 + OVERHEAD
    }

    /// As a message of its own.
    pub(super) fn parcel(&self) -> Parcel {
        Parcel { head: self.head(), body: self.body(Vec::new()) }
    }

    pub(super) fn head(&self) -> Head {
        Head {
            id: self.id,
            qos: self.qos,
            retain: self.retain,
            expires: Instant::NEVER,
            publisher: self.publisher.cloned(),
        }
    }

    /// In memory that is empty, if it fits.
    pub(super) fn body(&self, spare: Vec<u8>) -> Body {
        Body::new_in(spare, self.topic, Properties::default(), self.payload)
    }
}

impl Run {
    /// Whether it takes no more.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MESSAGES || self.topics.len() + self.payloads.len() >= BYTES
    }

    /// Messages in it.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all payloads.
    pub(super) fn payload(&self) -> usize {
        self.payloads.len()
    }

    /// Adds one; the run is not full.
    pub(super) fn push(&mut self, number: u64, small: &Small<'_>) {
        let last = self.entries.last();
        let known = last.map(|last| (self.topic(last), usize::from(last.topic_at)));
        let topic_at = match known {
            Some((topic, at)) if topic == small.topic => at,
            _ => {
                self.topics.push_str(small.topic);
                self.topics.len() - small.topic.len()
            }
        };
        if self.publishers.last().map(Option::as_ref) != Some(small.publisher) {
            self.publishers.push(small.publisher.cloned());
        }
        self.payloads.extend_from_slice(small.payload);
        self.entries.push(Entry {
            number,
            id: small.id,
            topic_at: topic_at as u16,
            topic_len: small.topic.len() as u16,
            payload_len: small.payload.len() as u16,
            publisher: (self.publishers.len() - 1) as u16,
            qos: small.qos,
            retain: small.retain,
        });
    }

    fn topic(&self, entry: &Entry) -> &str {
        let at = usize::from(entry.topic_at);
        self.topics.get(at..at + usize::from(entry.topic_len)).unwrap_or_default()
    }

    /// All messages with their numbers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Small<'_>)> {
        let mut payloads = &self.payloads[..];
        self.entries.iter().map(move |entry| {
            let payload;
            (payload, payloads) = payloads.split_at(usize::from(entry.payload_len));
            let small = Small {
                id: entry.id,
                qos: entry.qos,
                retain: entry.retain,
                publisher: self.publishers[usize::from(entry.publisher)].as_ref(),
                topic: self.topic(entry),
                payload,
            };
            (entry.number, small)
        })
    }

    /// Makes it an empty one, which keeps its memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.publishers.clear();
        self.topics.clear();
        self.payloads.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let publishers: [Arc<str>; 2] = [Arc::from("p"), Arc::from("q")];
        let small = |sequence, topic, publisher| Small {
            id: MessageId { epoch: 1, shard: 2, sequence },
            qos: Qos::AtLeastOnce,
            retain: sequence == 2,
            publisher,
            topic,
            payload: &b"payload"[..sequence as usize],
        };
        let smalls = [
            small(0, "a/b", Some(&publishers[0])),
            small(1, "a/b", Some(&publishers[0])),
            small(2, "a", Some(&publishers[1])),
            small(3, "a/b", None),
            small(4, "a/b", Some(&publishers[0])),
        ];
        let mut run = Run::default();
        for (number, small) in (7..).zip(&smalls) {
            run.push(number, small);
        }
        assert_eq!((run.len(), run.payload(), &*run.topics), (5, 10, "a/baa/b"));
        for ((number, small), expected) in run.iter().zip(&smalls) {
            assert_eq!(number, 7 + expected.id.sequence);
            assert_eq!(small.parcel(), expected.parcel());
            assert_eq!(small.footprint(), small.parcel().body.footprint());
        }
        run.clear();
        assert_eq!(run, Run::default());
    }

    #[test]
    fn a_run_is_full_by_messages_or_by_bytes() {
        let mut run = Run::default();
        let payload = [0; 500];
        let id = MessageId::default();
        let (qos, retain, publisher) = (Qos::AtMostOnce, false, None);
        let small = Small { id, qos, retain, publisher, topic: "t", payload: &payload };
        assert!(small.of().is_some());
        assert!(Small { payload: &[0; SMALL], ..small }.of().is_none());
        while !run.is_full() {
            run.push(1, &small);
        }
        assert_eq!(run.len(), 17);
        run.clear();
        while !run.is_full() {
            run.push(1, &Small { payload: b"", ..small });
        }
        assert_eq!(run.len(), MESSAGES);
    }
}
