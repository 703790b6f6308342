//! What shards say to each other, and its form as bytes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::calls::{Reader, data, number, optional};
use super::super::message::{Body, Head, MessageId};
use super::routes::Counts;
use super::run::{Run, Small};
use crate::codec::{Properties, PropertyPacket};
use crate::time::Instant;
use crate::topic::{TopicFilter, TopicName, split_share};

/// The version of the form as bytes.
const FORM: u8 = 1;

/// One thing a shard tells another. Links carry them in order, from one shard to another.
///
/// What it says is the shards' own affair; a driver only carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMsg(pub(super) Msg);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Msg {
    /// Subscribers of the sender have come or gone.
    Route { seq: u64, change: Change },
    /// Asks an owner for retained messages.
    Query(Query),
    /// Its answer.
    Page(Page),
    /// A message.
    Forward(Forward),
    /// Small messages for the receiver's own subscribers; without any it is memory given back.
    Run(Run),
    /// How far the sender is.
    Counters(Counters),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Of a filter without wildcards, by its fingerprint.
    Exact { fingerprint: u64, on: bool },
    /// Of a filter with wildcards.
    Wild { filter: Arc<str>, on: bool },
    /// Of a shared group, by its full text.
    Group { full: Arc<str>, counts: Counts },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    /// Comes back in the answer.
    pub(super) id: u64,
    pub(super) filter: Arc<str>,
    /// Messages stored until then are wanted; `None` at first: until now.
    pub(super) upto: Option<u64>,
    /// The topic behind which to go on.
    pub(super) after: Option<Arc<str>>,
    /// Messages wanted at most.
    pub(super) room: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    pub(super) id: u64,
    pub(super) upto: u64,
    pub(super) after: Option<Arc<str>>,
    /// Nothing follows.
    pub(super) done: bool,
    pub(super) messages: Vec<Parcel>,
}

/// A message on its way between shards. A large body is shared, not copied.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broker) struct Parcel {
    pub(in crate::broker) head: Head,
    pub(in crate::broker) body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forward {
    /// Grows from one to the next of a lane.
    pub(super) number: u64,
    /// Bytes of credit that it takes.
    pub(super) cost: u64,
    pub(super) way: Way,
    pub(super) parcel: Parcel,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// For the receiver's own subscribers.
    Deliver,
    /// To be stored, and handed to all who want it: the receiver owns the topic.
    Owner,
    /// For one member of a group; `tried` has none.
    Share { full: Arc<str>, tried: u64 },
}

impl Way {
    /// See [`Counters`].
    pub(super) fn lane(&self) -> usize {
        usize::from(matches!(self, Self::Owner))
    }
}

/// Deliveries wait for nobody.
pub(in crate::broker) const DELIVER: usize = 0;
/// What goes to an owner is taken when all it was delivered to have taken it. With one number for
/// both, three shards could wait for each other for ever.
pub(in crate::broker) const OWNER: usize = 1;

/// All cumulative: the last one says all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// The last change of routes that was carried out.
    pub(super) confirmed: u64,
    /// By lane: the number of the last message that was taken, with all before.
    pub(super) taken: [u64; 2],
    /// By lane: bytes of all that was taken, and for which there is credit again.
    pub(super) bytes: [u64; 2],
    /// Memory is short: there is little credit, and it comes back late.
    pub(super) short: bool,
}

impl PeerMsg {
    /// How many application messages it carries; 0 for all else.
    #[must_use]
    pub fn messages(&self) -> usize {
        match &self.0 {
            Msg::Forward(_) => 1,
            Msg::Run(run) => run.len(),
            _ => 0,
        }
    }

    /// Bytes of the application messages it carries; 0 for all else.
    #[must_use]
    pub fn payload(&self) -> usize {
        match &self.0 {
            Msg::Forward(forward) => forward.parcel.body.len(),
            Msg::Run(run) => run.payload(),
            _ => 0,
        }
    }

    /// Appends the form as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORM);
        match &self.0 {
            Msg::Route { seq, change } => {
                out.push(0);
                number(out, *seq);
                write_change(out, change);
            }
            Msg::Query(query) => {
                out.push(1);
                number(out, query.id);
                data(out, query.filter.as_bytes());
                optional(out, query.upto, number);
                optional(out, query.after.as_deref(), |out, text| data(out, text.as_bytes()));
                number(out, query.room.into());
            }
            Msg::Page(page) => {
                out.push(2);
                number(out, page.id);
                number(out, page.upto);
                optional(out, page.after.as_deref(), |out, text| data(out, text.as_bytes()));
                out.push(page.done.into());
                number(out, page.messages.len() as u64);
                page.messages.iter().for_each(|parcel| write_parcel(out, parcel));
            }
            Msg::Forward(forward) => {
                out.push(3);
                number(out, forward.number);
                number(out, forward.cost);
                match &forward.way {
                    Way::Deliver => out.push(0),
                    Way::Owner => out.push(1),
                    Way::Share { full, tried } => {
                        out.push(2);
                        data(out, full.as_bytes());
                        number(out, *tried);
                    }
                }
                write_parcel(out, &forward.parcel);
            }
            Msg::Run(run) => {
                out.push(5);
                number(out, run.len() as u64);
                for (at, small) in run.iter() {
                    number(out, at);
                    write_parcel(out, &small.parcel());
                }
            }
            Msg::Counters(c) => {
                out.push(4);
                let short = u64::from(c.short);
                for value in [c.confirmed, c.taken[0], c.taken[1], c.bytes[0], c.bytes[1], short] {
                    number(out, value);
                }
            }
        }
    }

    /// Reads the form as bytes, all of them; `None` if they are not one message.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let form = reader.u8()?;
        let msg = read(&mut reader)?;
        (form == FORM && reader.0.is_empty()).then_some(Self(msg))
    }
}

fn write_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Exact { fingerprint, on } => {
            out.extend_from_slice(&[0, u8::from(*on)]);
            number(out, *fingerprint);
        }
        Change::Wild { filter, on } => {
            out.extend_from_slice(&[1, u8::from(*on)]);
            data(out, filter.as_bytes());
        }
        Change::Group { full, counts } => {
            out.push(2);
            data(out, full.as_bytes());
            number(out, counts.members.into());
            number(out, counts.connected.into());
        }
    }
}

fn write_parcel(out: &mut Vec<u8>, Parcel { head, body }: &Parcel) {
    number(out, head.id.epoch.into());
    number(out, head.id.shard.into());
    number(out, head.id.sequence);
    out.extend_from_slice(&[head.qos as u8, u8::from(head.retain)]);
    number(out, head.expires.as_micros());
    optional(out, head.publisher.as_deref(), |out, text| data(out, text.as_bytes()));
    for part in [body.topic_bytes(), body.wire_properties(), body.payload()] {
        data(out, part);
    }
}

fn read(reader: &mut Reader<'_>) -> Option<Msg> {
    Some(match reader.u8()? {
        0 => Msg::Route { seq: reader.number()?, change: read_change(reader)? },
        1 => Msg::Query(Query {
            id: reader.number()?,
            filter: read_filter(reader)?,
            upto: reader.optional(Reader::number)?,
            after: reader.optional(read_text)?,
            room: u32::try_from(reader.number()?).ok()?,
        }),
        2 => {
            let (id, upto) = (reader.number()?, reader.number()?);
            let (after, done) = (reader.optional(read_text)?, reader.flag()?);
            let mut messages = Vec::new();
            for _ in 0..reader.number()? {
                messages.push(read_parcel(reader)?);
            }
            Msg::Page(Page { id, upto, after, done, messages })
        }
        3 => {
            let (number, cost) = (reader.number()?, reader.number()?);
            let way = match reader.u8()? {
                0 => Way::Deliver,
                1 => Way::Owner,
                2 => Way::Share { full: read_group(reader)?, tried: reader.number()? },
                _ => return None,
            };
            Msg::Forward(Forward { number, cost, way, parcel: read_parcel(reader)? })
        }
        4 => {
            let mut n = [0; 6];
            for value in &mut n {
                *value = reader.number()?;
            }
            let (taken, bytes) = ([n[1], n[2]], [n[3], n[4]]);
            Msg::Counters(Counters { confirmed: n[0], taken, bytes, short: n[5] != 0 })
        }
        5 => {
            let mut run = Run::default();
            for _ in 0..reader.number()? {
                let number = reader.number()?;
                let parcel = read_parcel(reader)?;
                let small = Small::of_parcel(&parcel).filter(|_| !run.is_full())?;
                run.push(number, &small);
            }
            Msg::Run(run)
        }
        _ => return None,
    })
}

fn read_text(reader: &mut Reader<'_>) -> Option<Arc<str>> {
    Some(Arc::from(core::str::from_utf8(reader.data()?).ok()?))
}

fn read_filter(reader: &mut Reader<'_>) -> Option<Arc<str>> {
    read_text(reader).filter(|text| TopicFilter::new(text, u16::MAX).is_ok())
}

fn read_group(reader: &mut Reader<'_>) -> Option<Arc<str>> {
    read_text(reader).filter(|text| matches!(split_share(text), Ok(Some(_))))
}

fn read_change(reader: &mut Reader<'_>) -> Option<Change> {
    Some(match reader.u8()? {
        0 => {
            let on = reader.flag()?;
            Change::Exact { on, fingerprint: reader.number()? }
        }
        1 => {
            let on = reader.flag()?;
            Change::Wild { on, filter: read_filter(reader)? }
        }
        2 => {
            let full = read_group(reader)?;
            let mut count = || u32::try_from(reader.number()?).ok();
            let (members, connected) = (count()?, count()?);
            Change::Group { full, counts: Counts { members, connected } }
        }
        _ => return None,
    })
}

fn read_parcel(reader: &mut Reader<'_>) -> Option<Parcel> {
    let id = MessageId {
        epoch: u32::try_from(reader.number()?).ok()?,
        shard: u16::try_from(reader.number()?).ok()?,
        sequence: reader.number()?,
    };
    let head = Head {
        id,
        qos: reader.qos()?,
        retain: reader.flag()?,
        expires: Instant::from_micros(reader.number()?),
        publisher: reader.optional(read_text)?,
    };
    let topic = read_text(reader)?;
    let wire = reader.data()?;
    TopicName::new(&topic, u16::MAX).ok()?;
    let properties = Properties::from_wire(PropertyPacket::Publish, wire).ok()?;
    let body = Body::new(&topic, properties, reader.data()?);
    // What it forwards is all it may have.
    (body.wire_properties() == wire).then_some(Parcel { head, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Property, Qos};

    fn parcel(payload: &[u8]) -> Parcel {
        let properties = [Property::ContentType("c"), Property::UserProperty("k", "v")];
        let head = Head {
            id: MessageId { epoch: 3, shard: 2, sequence: 9 },
            qos: Qos::ExactlyOnce,
            retain: true,
            expires: Instant::from_micros(55),
            publisher: Some(Arc::from("p")),
        };
        Parcel { head, body: Body::new("a/b", Properties::list(&properties), payload) }
    }

    fn samples() -> Vec<PeerMsg> {
        let full: Arc<str> = Arc::from("$share/g/a/#");
        let counts = Counts { members: 2, connected: 1 };
        let forward =
            |way| Msg::Forward(Forward { number: 7, cost: 9, way, parcel: parcel(b"payload") });
        let query = Query {
            id: 1,
            filter: Arc::from("a/#"),
            upto: Some(4),
            after: Some(Arc::from("a/b")),
            room: 32,
        };
        let (id, upto, after, done) = (1, 4, None, true);
        let messages = [parcel(b""), parcel(b"x")].to_vec();
        let mut run = Run::default();
        let mut small = parcel(b"small");
        small.body = Body::new("a/b", Properties::default(), b"small");
        small.head.expires = Instant::NEVER;
        for number in 3..6 {
            run.push(number, &Small::of_parcel(&small).expect("a small message"));
            small.head.publisher = None;
        }
        [
            Msg::Run(run),
            Msg::Route { seq: 1, change: Change::Exact { fingerprint: 5, on: true } },
            Msg::Route { seq: 2, change: Change::Wild { filter: Arc::from("+"), on: false } },
            Msg::Route { seq: 3, change: Change::Group { full: full.clone(), counts } },
            Msg::Query(Query { upto: None, after: None, ..query.clone() }),
            Msg::Query(query),
            Msg::Page(Page { id, upto, after, done, messages }),
            forward(Way::Deliver),
            forward(Way::Owner),
            forward(Way::Share { full, tried: 5 }),
            Msg::Counters(Counters { confirmed: 1, taken: [2, 3], bytes: [4, 5], short: true }),
        ]
        .map(PeerMsg)
        .to_vec()
    }

    #[test]
    fn every_message_comes_back_as_it_was_and_no_part_of_it_does() {
        for msg in samples() {
            let mut bytes = Vec::new();
            msg.encode(&mut bytes);
            assert_eq!(PeerMsg::decode(&bytes).as_ref(), Some(&msg));
            for end in 0..bytes.len() {
                assert_eq!(PeerMsg::decode(&bytes[..end]), None, "{end} bytes of {msg:?}");
            }
            bytes.push(0);
            assert_eq!(PeerMsg::decode(&bytes), None);
        }
    }

    quickcheck::quickcheck! {
        fn no_bytes_do_harm(kind: u8, bytes: Vec<u8>) -> bool {
            let bytes = [&[FORM, kind % 7][..], &bytes].concat();
            let _ = PeerMsg::decode(&bytes);
            true
        }

        fn whatever_is_decoded_encodes_to_the_same_meaning(
            sample: usize, at: usize, byte: u8, more: Vec<u8>
        ) -> bool {
            let mut bytes = Vec::new();
            let samples = samples();
            samples[sample % samples.len()].encode(&mut bytes);
            let at = at % bytes.len();
            bytes[at] = byte;
            if more.len() % 4 == 3 {
                bytes.splice(at.., more);
            }
            let Some(msg) = PeerMsg::decode(&bytes) else { return true };
            let mut again = Vec::new();
            msg.encode(&mut again);
            PeerMsg::decode(&again) == Some(msg)
        }
    }
}
