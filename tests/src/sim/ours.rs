//! The client machine as a client of the simulation, on the same wires, with checks of its own:
//! each ticket comes back once, and messages are told in the order in which they came.

use std::collections::{BTreeSet, VecDeque};

use fulmar_core::client::{Client, Event, Failure, Options, SendError, Sizes, Storage, Ticket};
use fulmar_core::codec::{
    Connect, Disconnect, Packet, Properties, Property, PropertyId, Publish, SubscriptionOptions,
    decode, split,
};
use fulmar_core::{Instant, Qos, Version};

use super::peer::Took;
use super::rng::Rng;

/// A machine and what is known of it from outside.
pub(super) struct Ours {
    client: Client<'static>,
    manual: bool,
    version: Version,
    /// Requests that were taken and have not come back.
    open: BTreeSet<Ticket>,
    /// PUBLISH that came on this connection and were not told.
    coming: VecDeque<(Qos, u64)>,
    /// Told, and not acknowledged.
    owed: VecDeque<(Ticket, Qos, u64)>,
    /// Arrived, and the machine has no room for it.
    unread: Vec<u8>,
    /// The beginning of a packet that is on its way.
    part: Vec<u8>,
    /// It ended its session, which the broker may not have heard: the next one starts clean.
    pub(super) anew: bool,
    /// Its last CONNACK said that its session goes on.
    pub(super) resumed: bool,
    /// It was told of a session that it does not have. `[MQTT-3.2.2-4]`
    pub(super) disbelieves: bool,
    /// What the application was told, and the simulation was not.
    pub(super) took: Vec<Took>,
    /// What it did wrong.
    pub(super) wrong: Option<String>,
}

/// An event, without what it borrows.
enum Told {
    Took(Took),
    /// Whether its session goes on.
    Accepted(bool),
    Message(Ticket, Qos, u64),
    Done(Ticket),
    Failed(Failure),
    Closed,
}

impl Ours {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let options = Options {
            manual_ack: rng.chance(500),
            window: *rng.pick(&[1, 3, 20]),
            receive_maximum: *rng.pick(&[1, 3, 20]),
            topic_alias_maximum: rng.below(4) as u16,
            topic_alias_out: rng.below(4) as u16,
            ..Options::default()
        };
        let sizes = Sizes { rx: 16 * 1024, tx: 64 * 1024, aliases: 1024 };
        Self {
            client: Client::new(Storage::heap(sizes), options),
            manual: options.manual_ack,
            version: Version::V311,
            open: BTreeSet::new(),
            coming: VecDeque::new(),
            owed: VecDeque::new(),
            unread: Vec::new(),
            part: Vec::new(),
            anew: false,
            resumed: false,
            disbelieves: false,
            took: Vec::new(),
            wrong: None,
        }
    }

    pub(super) fn connect(&mut self, now: Instant, connect: &Connect<'_>) -> Vec<u8> {
        self.version = connect.version;
        self.anew |= connect.clean_start;
        if let Err(error) = self.client.connect(now, connect) {
            self.blame(format!("does not connect: {error}"));
        }
        self.pump(now)
    }

    pub(super) fn publish(&mut self, now: Instant, publish: &Publish<'_>) -> Vec<u8> {
        let taken = self.client.publish(publish);
        self.taken(now, taken)
    }

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        filters: &[(&str, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Vec<u8> {
        let taken = self.client.subscribe(filters, properties);
        self.taken(now, taken)
    }

    pub(super) fn unsubscribe(&mut self, now: Instant, filters: &[&str]) -> Vec<u8> {
        let taken = self.client.unsubscribe(filters, Properties::EMPTY);
        self.taken(now, taken)
    }

    pub(super) fn disconnect(&mut self, now: Instant, disconnect: &Disconnect<'_>) -> Vec<u8> {
        let secs = disconnect.properties.find(PropertyId::SessionExpiryInterval);
        // An error: it is closing, or has not begun.
        if self.client.disconnect(now, disconnect).is_ok() {
            self.anew |= secs == Some(Property::SessionExpiryInterval(0));
        }
        self.pump(now)
    }

    fn taken(&mut self, now: Instant, taken: Result<Ticket, SendError>) -> Vec<u8> {
        if let Ok(ticket) = taken
            && !self.open.insert(ticket)
        {
            self.blame(format!("{ticket:?} is given twice"));
        }
        // A request that is refused is none.
        self.pump(now)
    }

    /// Bytes arrived. Answers what is to be sent, as all of these do.
    pub(super) fn read(&mut self, now: Instant, bytes: &[u8]) -> Vec<u8> {
        self.part.extend_from_slice(bytes);
        let mut at = 0;
        while let Ok(Some((frame, used))) = split(&self.part[at..], u32::MAX) {
            at += used;
            if let Ok(Packet::Publish(publish)) = decode(self.version, frame) {
                self.coming.push_back((publish.qos, key(publish.payload)));
            }
        }
        self.part.drain(..at);
        self.unread.extend_from_slice(bytes);
        self.pump(now)
    }

    /// The time may have come for something.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<u8> {
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        self.pump(now)
    }

    /// Whether the application has messages to acknowledge.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// The application acknowledges the oldest message it has.
    pub(super) fn acknowledge(&mut self, now: Instant) -> Vec<u8> {
        let Some((ticket, qos, key)) = self.owed.pop_front() else { return Vec::new() };
        self.client.ack(ticket);
        if qos == Qos::ExactlyOnce {
            self.took.push(Took::Message(qos, key));
        }
        self.pump(now)
    }

    /// The connection is gone.
    pub(super) fn lose(&mut self, now: Instant) {
        self.client.closed(now);
        self.unread.clear();
        self.pump(now);
        self.part.clear();
        self.coming.clear();
        self.owed.clear();
    }

    pub(super) fn wants_close(&mut self) -> bool {
        self.client.wants_close()
    }

    /// What it waits for.
    pub(super) fn waits(&self) -> Option<String> {
        let (flying, open, owed) = (self.client.in_flight(), &self.open, &self.owed);
        let unread = self.unread.len();
        let rest = flying + open.len() + owed.len() + unread;
        (rest > 0).then(|| format!("{flying} in flight, {open:?}, {owed:?}, {unread} unread"))
    }

    fn blame(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Goes round until nothing moves.
    fn pump(&mut self, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut moved = false;
            while let Some(told) = self.client.poll_event().and_then(told) {
                moved = true;
                let took = self.hear(told);
                self.took.extend(took);
            }
            let sent = self.client.transmit();
            if !sent.is_empty() {
                let count = sent.len();
                bytes.extend_from_slice(sent);
                self.client.transmitted(now, count);
                moved = true;
            }
            if !self.unread.is_empty() {
                let count = self.client.receive(now, &self.unread);
                self.unread.drain(..count);
                moved |= count > 0;
            }
            if !moved {
                return bytes;
            }
        }
    }

    fn hear(&mut self, told: Told) -> Option<Took> {
        match told {
            Told::Took(took) => return Some(took),
            Told::Accepted(resumed) => {
                (self.anew, self.resumed) = (false, resumed);
                return Some(Took::Accepted);
            }
            Told::Done(ticket) => {
                if !self.open.remove(&ticket) {
                    self.blame(format!("{ticket:?} comes back, and is not open"));
                }
            }
            Told::Message(ticket, qos, key) => {
                self.check_order(qos, key);
                if self.manual && qos > Qos::AtMostOnce {
                    self.owed.push_back((ticket, qos, key));
                }
                // Of QoS 2 the application has it when it says so.
                let has = !self.manual || qos < Qos::ExactlyOnce;
                return has.then_some(Took::Message(qos, key));
            }
            Told::Failed(Failure::Protocol(error)) if error.rule == "MQTT-3.2.2-4" => {
                (self.anew, self.disbelieves) = (true, true);
            }
            Told::Failed(Failure::Protocol(error)) => {
                self.blame(format!("finds fault with the broker: {error}"));
            }
            Told::Failed(_) | Told::Closed => {}
        }
        None
    }

    /// What it tells is what came, in that order; it keeps back repeats of QoS 2 alone.
    fn check_order(&mut self, qos: Qos, key: u64) {
        while let Some(came) = self.coming.pop_front() {
            if came == (qos, key) {
                return;
            }
            if came.0 != Qos::ExactlyOnce {
                self.blame(format!("tells {key}, {qos:?}, before {came:?}"));
                return;
            }
        }
        self.blame(format!("tells {key}, {qos:?}, which did not come"));
    }
}

fn key(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn told(event: Event<'_>) -> Option<Told> {
    Some(match event {
        Event::Connected { session_present, .. } => Told::Accepted(session_present),
        Event::Refused { .. } => Told::Took(Took::Refused),
        Event::Message(message) => Told::Message(message.ticket, message.qos, key(message.payload)),
        Event::Published { ticket, .. }
        | Event::Subscribed { ticket, .. }
        | Event::Unsubscribed { ticket, .. }
        | Event::Lost { ticket } => Told::Done(ticket),
        Event::Failed(failure) => Told::Failed(failure),
        Event::Closed => Told::Closed,
        _ => Told::Took(Took::Nothing),
    })
}
