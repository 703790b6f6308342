//! A client on two connections, one after the other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::version;
use crate::Storage as Values;
use crate::client::{Client, Event, Memory, Options, Owed, SendError, Slot, Storage, Ticket};
use crate::codec::{
    self, Auth, Connect, Packet, Properties, Property, PropertyId, Publish, Qos, ReasonCode,
    SubscriptionOptions, Version,
};
use crate::session::Held;
use crate::time::Instant;

/// Byte streams of a server: 4 bytes choose version, memory, pieces and the length of the first
/// stream, the rest are the streams of two connections. The client publishes in all QoS and
/// subscribes when it is connected.
///
/// # Panics
/// If a stream has another effect byte by byte than packet by packet, the client sends what it
/// must not send, or something under way is completed twice or not at all.
pub fn client_connection(data: &[u8]) {
    let Some((head, streams)) = data.split_first_chunk::<4>() else { return };
    let first = streams.len().min(usize::from(head[3]) * 2);
    let streams = streams.split_at(first);
    let packets = Run::drive(*head, streams, Pieces::Packets);
    let bytes = Run::drive(*head, streams, Pieces::Of(1));
    assert_eq!(packets.log, bytes.log, "byte by byte");
    assert_eq!(packets.sent, bytes.sent, "byte by byte");
    // Several packets at once may be answers to what is not sent yet: other effects are right.
    Run::drive(*head, streams, Pieces::Of(2 + usize::from(head[2] >> 3) * 8));
}

/// How a stream comes.
#[derive(Clone, Copy)]
enum Pieces {
    Packets,
    Of(usize),
}

impl Pieces {
    /// Bytes of the next piece.
    fn next(self, rest: &[u8]) -> usize {
        match self {
            Self::Of(len) => len.min(rest.len()),
            Self::Packets => match codec::split(rest, u32::MAX) {
                Ok(Some((_, used))) => used,
                _ => rest.len(),
            },
        }
    }
}

struct Run<'s> {
    client: Client<'s>,
    version: Version,
    manual: bool,
    /// CONNECT has an Authentication Method.
    method: bool,
    log: Vec<String>,
    /// Bytes to the server, for each connection.
    sent: Vec<Vec<u8>>,
    /// What is under way.
    tickets: BTreeSet<Ticket>,
    /// Those of them of QoS 0.
    qos0: BTreeSet<Ticket>,
}

/// What a program does because of an event.
enum Next {
    Nothing,
    Begin,
    Auth,
    Ack(Ticket),
    Done(Ticket),
}

const NOW: Instant = Instant::from_micros(1_000_000);
const METHOD: Property<'static> = Property::AuthenticationMethod("m");
const PROPERTIES: [Property<'static>; 2] = [METHOD, Property::SessionExpiryInterval(100)];

/// What a run leaves behind.
struct Seen {
    log: Vec<String>,
    sent: Vec<Vec<u8>>,
}

impl Run<'_> {
    fn drive(head: [u8; 4], streams: (&[u8], &[u8]), pieces: Pieces) -> Seen {
        let [choice, memory, flags, _] = head;
        let mut rx = alloc::vec![0; 32 + usize::from(memory & 15) * 32];
        let mut tx = alloc::vec![0; 192 + usize::from(memory >> 4) * 32];
        let mut slots: [_; 4] = [Slot::EMPTY; 4];
        let mut held = [Held::default(); 3];
        let mut owed = [Owed::default(); 3];
        let (mut aliases_in, mut aliases_out) = ([0; 256], [0; 40]);
        let mut storage = Storage {
            rx: (&mut rx[..]).into(),
            tx: (&mut tx[..]).into(),
            slots: (&mut slots[..]).into(),
            held: (&mut held[..]).into(),
            owed: (&mut owed[..]).into(),
            aliases_in: (&mut aliases_in[..]).into(),
            aliases_out: (&mut aliases_out[..]).into(),
        };
        if choice & 0x80 != 0 {
            storage.slots = Values::Heap(Vec::new());
            storage.tx = Memory::heap(storage.tx.limit());
        }
        let manual = flags & 1 != 0;
        let options = Options {
            manual_ack: manual,
            receive_maximum: 3,
            foreign_session: flags & 8 == 0,
            ..Options::default()
        };
        let mut run = Run {
            client: Client::new(storage, options),
            version: version(choice & 0x3f),
            manual,
            method: choice & 0x40 != 0,
            log: Vec::new(),
            sent: Vec::new(),
            tickets: BTreeSet::new(),
            qos0: BTreeSet::new(),
        };
        run.connect(flags & 2 != 0);
        run.stream(streams.0, pieces);
        run.connect(flags & 4 != 0);
        run.stream(streams.1, pieces);
        // A clean start ends what is still under way.
        run.connect(true);
        run.pump();
        assert!(run.tickets.is_empty(), "{:?} never ended", run.tickets);
        run.sent.iter().for_each(|bytes| check_sent(run.version, bytes));
        Seen { log: run.log, sent: run.sent }
    }

    /// Ends the connection there is and begins another.
    fn connect(&mut self, clean_start: bool) {
        self.client.closed(NOW);
        self.pump();
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start,
            keep_alive: 10,
            client_id: "c",
            will: None,
            username: None,
            password: None,
            properties: match self.version {
                Version::V5 => Properties::list(&PROPERTIES[usize::from(!self.method)..]),
                _ => Properties::EMPTY,
            },
        };
        self.sent.push(Vec::new());
        self.client.connect(NOW, &connect).expect("room for CONNECT, always");
        self.pump();
    }

    fn stream(&mut self, mut rest: &[u8], pieces: Pieces) {
        while !rest.is_empty() {
            let (mut piece, later) = rest.split_at(pieces.next(rest));
            rest = later;
            while !piece.is_empty() {
                let len = self.client.receive(NOW, piece);
                piece = &piece[len..];
                self.pump();
                // The rest is not read, for whatever reason the client has.
                if len == 0 {
                    break;
                }
            }
        }
        let deadline = self.client.poll_timeout();
        assert!(deadline.is_none_or(|deadline| deadline > NOW));
    }

    /// Lets events and bytes out until nothing moves.
    fn pump(&mut self) {
        loop {
            let mut moved = false;
            while let Some(event) = self.client.poll_event() {
                moved = true;
                // QoS 0 is complete when it is sent, which has no place among what comes.
                if !matches!(&event, Event::Published { ticket, .. } if self.qos0.contains(ticket))
                {
                    self.log.push(format!("{event:?}"));
                }
                let next = next(&event);
                self.act(next);
            }
            let bytes = self.client.transmit();
            if !bytes.is_empty() {
                let len = bytes.len();
                self.sent.last_mut().expect("a connection").extend_from_slice(bytes);
                self.client.transmitted(NOW, len);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn act(&mut self, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Begin => self.begin(),
            Next::Auth => {
                let reason = ReasonCode::ContinueAuthentication;
                let properties = Properties::list(&[METHOD]);
                let _ = self.client.auth(&Auth { reason, properties });
            }
            Next::Ack(ticket) if self.manual => self.client.ack(ticket),
            Next::Ack(_) => {}
            Next::Done(ticket) => {
                assert!(self.tickets.remove(&ticket), "{ticket:?} ended and was not under way");
            }
        }
    }

    fn begin(&mut self) {
        for qos in [Qos::ExactlyOnce, Qos::AtLeastOnce, Qos::AtMostOnce, Qos::AtLeastOnce] {
            let publish = Publish { qos, topic: "topic", payload: b"x", ..Publish::default() };
            let result = self.client.publish(&publish);
            self.qos0.extend(result.iter().filter(|_| qos == Qos::AtMostOnce));
            self.asked(result);
        }
        let filters = [("t", SubscriptionOptions::default())];
        let result = self.client.subscribe(&filters, Properties::EMPTY);
        self.asked(result);
        let result = self.client.unsubscribe(&["u"], Properties::EMPTY);
        self.asked(result);
    }

    fn asked(&mut self, result: Result<Ticket, SendError>) {
        self.log.push(format!("{result:?}"));
        if let Ok(ticket) = result {
            assert!(self.tickets.insert(ticket), "{ticket:?} is under way already");
        }
    }
}

fn next(event: &Event<'_>) -> Next {
    match event {
        Event::Connected { .. } => Next::Begin,
        Event::Auth { reason: ReasonCode::ContinueAuthentication, .. } => Next::Auth,
        Event::Message(message) => Next::Ack(message.ticket),
        Event::Published { ticket, .. }
        | Event::Subscribed { ticket, .. }
        | Event::Unsubscribed { ticket, .. }
        | Event::Lost { ticket } => Next::Done(*ticket),
        _ => Next::Nothing,
    }
}

/// Looks at all that a client sent on one connection.
fn check_sent(version: Version, bytes: &[u8]) {
    let mut rest = bytes;
    let mut number = 0;
    let mut last = false;
    let mut aliases = BTreeMap::new();
    while let Some((frame, used)) = codec::split(rest, u32::MAX).expect("frames") {
        rest = &rest[used..];
        assert!(!last, "more after DISCONNECT");
        let packet = codec::decode(version, frame).expect("what is sent can be read");
        assert_eq!(matches!(packet, Packet::Connect(_)), number == 0, "{packet:?}");
        number += 1;
        match packet {
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                panic!("a client must not send {packet:?}")
            }
            Packet::Publish(publish) => {
                if let Some(Property::TopicAlias(alias)) =
                    publish.properties.find(PropertyId::TopicAlias)
                {
                    // One that is kept means the same on every connection.
                    assert_eq!(publish.qos, Qos::AtMostOnce);
                    let known = aliases.insert(alias, "topic");
                    assert_eq!(publish.topic.is_empty(), known.is_some());
                } else {
                    assert_eq!(publish.topic, "topic");
                }
            }
            Packet::Disconnect(_) => last = true,
            _ => {}
        }
    }
    assert!(rest.is_empty(), "half a packet");
}
