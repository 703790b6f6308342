//! The session halves against naive models: all sequences of events up to a length, exhaustively,
//! and long random ones.
//!
//! States reached by several sequences are followed once; a state is all that `Debug` shows of the
//! half and of its model, so nothing hidden is merged.
#![cfg(feature = "alloc")]

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hasher};

use fulmar_core::session::{Acked, Full, Inbound, Outbound, Recd, Resend, State, Verdict};
use fulmar_core::{PacketId, Qos, Storage};
use quickcheck::{Arbitrary, Gen, QuickCheck};

/// A half beside its model.
trait Pair: Clone + Debug {
    type Event: Clone + Debug;

    /// What can happen next.
    fn events(&self) -> Vec<Self::Event>;

    /// Lets both do it and compares their answers.
    fn apply(&mut self, event: &Self::Event);

    /// Compares everything that can be asked without changing it.
    fn compare(&self);
}

/// Writes `Debug` output into a hash.
struct Fingerprint(DefaultHasher);

impl Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn fingerprint(state: &impl Debug) -> u64 {
    let mut out = Fingerprint(DefaultHasher::new());
    write!(out, "{state:?}").unwrap();
    out.0.finish()
}

/// Follows every sequence of up to `depth` events; gives the number of different states, and how
/// many of them were first reached by the longest sequences and not followed.
fn explore<P: Pair>(start: P, depth: usize) -> (usize, usize) {
    let mut seen = BTreeSet::from([fingerprint(&start)]);
    let mut frontier = vec![start];
    for _ in 0..depth {
        if frontier.is_empty() {
            break;
        }
        let mut next = Vec::new();
        for state in &frontier {
            for event in state.events() {
                let mut after = state.clone();
                after.apply(&event);
                if seen.insert(fingerprint(&after)) {
                    after.compare();
                    next.push(after);
                }
            }
        }
        frontier = next;
    }
    (seen.len(), frontier.len())
}

/// A long random sequence: each number chooses one of the possible events, half of them one of the
/// first `favoured`.
fn wander<P: Pair>(mut state: P, favoured: usize, choices: &[u32]) {
    for choice in choices {
        let events = state.events();
        let among = if choice & 1 == 0 { favoured } else { events.len() };
        state.apply(&events[(choice >> 1) as usize % among]);
        state.compare();
    }
}

/// Numbers over their whole range, several hundred.
#[derive(Clone, Debug)]
struct Choices(Vec<u32>);

impl Arbitrary for Choices {
    fn arbitrary(g: &mut Gen) -> Self {
        Self((0..400).map(|_| u32::arbitrary(g)).collect())
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

mod outbound {
    use super::*;

    #[derive(Clone, Debug)]
    struct Entry {
        id: PacketId,
        state: State,
        what: Option<u8>,
        waits: bool,
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Sender {
        half: Outbound<'static, u8>,
        window: usize,
        limit: usize,
        entries: Vec<Entry>,
        reserved: Vec<PacketId>,
        /// What the peer sees: PUBLISH sent on this connection and not acknowledged.
        outstanding: Vec<PacketId>,
        /// Not seen in the half's `Debug`.
        has_memory: bool,
    }

    #[derive(Clone, Debug)]
    pub(crate) enum Event {
        Begin(Qos),
        Puback(PacketId),
        Pubrec(PacketId, bool),
        Pubcomp(PacketId),
        Cancel(PacketId),
        Resume(u16),
        Resend,
        Reserve,
        Release(PacketId),
        Memory(bool),
    }

    impl Sender {
        pub(crate) fn new(window: u16) -> Self {
            Self {
                half: Outbound::new(Storage::default(), window),
                window: window.into(),
                limit: window.into(),
                entries: Vec::new(),
                reserved: Vec::new(),
                outstanding: Vec::new(),
                has_memory: false,
            }
        }

        /// A sender that has given the identifier `last`, with nothing in flight.
        pub(crate) fn after(window: u16, last: u16) -> Self {
            let mut sender = Self::new(window);
            loop {
                let id = sender.half.begin(Qos::AtLeastOnce, 0).unwrap();
                assert_eq!(sender.half.puback(id), Acked::Done(0));
                if id.get() == last {
                    return sender;
                }
            }
        }

        fn quota(&self) -> usize {
            let held_back = |entry: &&Entry| entry.waits && entry.state != State::AwaitsPubcomp;
            let used = self.entries.len() - self.entries.iter().filter(held_back).count();
            self.limit.saturating_sub(used)
        }

        fn room(&self) -> bool {
            let waits = |entry: &Entry| entry.waits && entry.state != State::AwaitsPubcomp;
            !self.entries.iter().any(waits) && self.quota() > 0 && self.entries.len() < self.window
        }

        fn position(&self, id: PacketId) -> Option<usize> {
            self.entries.iter().position(|entry| entry.id == id)
        }

        fn remove(&mut self, at: usize) -> Option<u8> {
            let entry = self.entries.remove(at);
            self.outstanding.retain(|id| *id != entry.id);
            entry.what
        }

        fn send(&mut self, id: PacketId) {
            assert!(!self.outstanding.contains(&id), "sent twice on one connection");
            self.outstanding.push(id);
            assert!(self.outstanding.len() <= self.limit, "[MQTT-3.3.4-9]");
        }

        fn begin(&mut self, qos: Qos) {
            let used: Vec<u8> = self.entries.iter().filter_map(|entry| entry.what).collect();
            let what = (0..=u8::MAX).find(|what| !used.contains(what)).unwrap();
            let room = self.room();
            let given = self.half.begin(qos, what);
            assert_eq!(given.is_ok(), room);
            let Ok(id) = given else {
                assert_eq!(given, Err((Full, what)));
                return;
            };
            assert!(self.position(id).is_none() && !self.reserved.contains(&id), "in use");
            let state = match qos {
                Qos::ExactlyOnce => State::AwaitsPubrec,
                _ => State::AwaitsPuback,
            };
            self.entries.push(Entry { id, state, what: Some(what), waits: false });
            self.send(id);
        }

        fn puback(&mut self, id: PacketId) {
            let expected = match self.position(id) {
                None => Acked::Unknown,
                Some(at) if self.entries[at].state == State::AwaitsPuback => {
                    Acked::Done(self.remove(at).unwrap())
                }
                Some(_) => Acked::WrongType,
            };
            assert_eq!(self.half.puback(id), expected);
        }

        fn pubrec(&mut self, id: PacketId, failed: bool) {
            let expected = match self.position(id) {
                None => Recd::Unknown,
                Some(at) if self.entries[at].state == State::AwaitsPuback => Recd::WrongType,
                Some(at) if failed => Recd::Failed(self.remove(at)),
                Some(at) => {
                    let entry = &mut self.entries[at];
                    entry.state = State::AwaitsPubcomp;
                    entry.waits = false;
                    entry.what.take().map_or(Recd::Again, Recd::Release)
                }
            };
            assert_eq!(self.half.pubrec(id, failed), expected);
        }

        fn pubcomp(&mut self, id: PacketId) {
            let expected = match self.position(id) {
                None => Acked::Unknown,
                Some(at) if self.entries[at].state == State::AwaitsPubcomp => {
                    self.remove(at);
                    Acked::Done(())
                }
                Some(_) => Acked::WrongType,
            };
            assert_eq!(self.half.pubcomp(id), expected);
        }

        fn cancel(&mut self, id: PacketId) {
            let at = self.position(id).filter(|at| self.entries[*at].what.is_some());
            let expected = at.and_then(|at| self.remove(at));
            assert_eq!(self.half.cancel(id), expected);
        }

        fn resume(&mut self, limit: u16) {
            self.half.resume();
            self.half.limit(limit);
            self.limit = usize::from(limit).min(self.window);
            self.outstanding.clear();
            self.reserved.clear();
            for entry in &mut self.entries {
                entry.waits = true;
            }
        }

        fn resend(&mut self) {
            let quota = self.quota() > 0;
            let due =
                |entry: &&mut Entry| entry.waits && (quota || entry.state == State::AwaitsPubcomp);
            let Some(entry) = self.entries.iter_mut().find(due) else {
                assert_eq!(self.half.next_resend(), None);
                return;
            };
            entry.waits = false;
            let (id, qos) = (entry.id, entry.state.qos());
            let Some(what) = entry.what else {
                assert_eq!(self.half.next_resend(), Some(Resend::Pubrel { id }));
                return;
            };
            let expected = Resend::Publish { id, qos, what: &what };
            assert_eq!(self.half.next_resend(), Some(expected));
            self.send(id);
        }

        fn reserve(&mut self) {
            match self.half.reserve() {
                Ok(id) => {
                    assert!(self.position(id).is_none() && !self.reserved.contains(&id));
                    self.reserved.push(id);
                }
                Err(Full) => assert_eq!(self.reserved.len(), 16),
            }
        }

        fn release(&mut self, id: PacketId) {
            assert_eq!(self.half.release(id), self.reserved.contains(&id));
            self.reserved.retain(|reserved| *reserved != id);
        }

        fn memory(&mut self, back: bool) {
            let had = self.half.has_memory();
            let memory = self.half.release_memory();
            assert_eq!(memory.is_some(), had && self.entries.is_empty());
            if let Some(memory) = memory
                && back
            {
                self.half.lend_memory(memory);
            }
        }
    }

    impl Pair for Sender {
        type Event = Event;

        fn events(&self) -> Vec<Event> {
            let mut events = vec![
                Event::Begin(Qos::AtLeastOnce),
                Event::Begin(Qos::ExactlyOnce),
                Event::Resend,
                Event::Memory(false),
                Event::Memory(true),
            ];
            let stranger = (1..).map(id).find(|id| self.position(*id).is_none());
            for id in self.entries.iter().map(|entry| entry.id).chain(stranger) {
                events.extend([
                    Event::Puback(id),
                    Event::Pubrec(id, false),
                    Event::Pubrec(id, true),
                    Event::Pubcomp(id),
                    Event::Cancel(id),
                ]);
            }
            events.extend((1..=3).chain((self.window > 3).then_some(u16::MAX)).map(Event::Resume));
            if self.reserved.len() < 2 {
                events.push(Event::Reserve);
            }
            let other = self.entries.first().map_or(id(u16::MAX), |entry| entry.id);
            events.push(Event::Release(self.reserved.first().copied().unwrap_or(other)));
            events
        }

        fn apply(&mut self, event: &Event) {
            match *event {
                Event::Begin(qos) => self.begin(qos),
                Event::Puback(id) => self.puback(id),
                Event::Pubrec(id, failed) => self.pubrec(id, failed),
                Event::Pubcomp(id) => self.pubcomp(id),
                Event::Cancel(id) => self.cancel(id),
                Event::Resume(limit) => self.resume(limit),
                Event::Resend => self.resend(),
                Event::Reserve => self.reserve(),
                Event::Release(id) => self.release(id),
                Event::Memory(back) => self.memory(back),
            }
            self.has_memory = self.half.has_memory();
        }

        fn compare(&self) {
            assert_eq!(self.half.room(), self.room());
            assert_eq!(usize::from(self.half.quota()), self.quota());
            assert_eq!(self.half.in_flight(), self.entries.len());
            assert_eq!(self.half.is_empty(), self.entries.is_empty());
            let entries = self.entries.iter().map(|entry| (entry.id, entry.state, entry.what));
            assert!(
                self.half
                    .iter()
                    .map(|(id, state, what)| (id, state, what.copied()))
                    .eq(entries.clone())
            );
            assert!(self.half.clone().drain().eq(entries));
        }
    }
}

mod inbound {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Flow {
        Held,
        PubcompDue,
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Receiver {
        half: Inbound<'static>,
        receive_maximum: usize,
        max_await_rel: usize,
        flows: Vec<(PacketId, Flow)>,
        /// PUBLISH of this connection without a last acknowledgement; `None` for QoS 1.
        open: Vec<Option<PacketId>>,
        /// Not seen in the half's `Debug`.
        has_memory: bool,
    }

    #[derive(Clone, Debug)]
    pub(crate) enum Event {
        Publish(PacketId, Qos),
        Pubrel(PacketId),
        PubackSent,
        PubcompSent(PacketId),
        Refuse(PacketId),
        Limit(u16, u16),
        Reconnect,
        Memory(bool),
    }

    impl Receiver {
        pub(crate) fn new(receive_maximum: u16, max_await_rel: u16) -> Self {
            Self {
                half: Inbound::new(Storage::default(), receive_maximum, max_await_rel),
                receive_maximum: receive_maximum.into(),
                max_await_rel: max_await_rel.into(),
                flows: Vec::new(),
                open: Vec::new(),
                has_memory: false,
            }
        }

        fn flow(&self, id: PacketId) -> Option<usize> {
            self.flows.iter().position(|flow| flow.0 == id)
        }

        fn publish(&mut self, id: PacketId, qos: Qos) -> Verdict {
            let full = self.open.len() >= self.receive_maximum;
            let token = (qos == Qos::ExactlyOnce).then_some(id);
            if qos == Qos::AtMostOnce {
                return Verdict::New;
            }
            if token.is_none() || !self.open.contains(&token) {
                if full {
                    return Verdict::OverQuota;
                }
                let known = token.is_none() || self.flow(id).is_some();
                if !known && self.flows.len() >= self.max_await_rel {
                    return Verdict::Full;
                }
                self.open.push(token);
            }
            if token.is_none() {
                return Verdict::New;
            }
            match self.flow(id) {
                Some(at) if self.flows[at].1 == Flow::Held => Verdict::Repeat,
                Some(at) => {
                    self.flows[at].1 = Flow::Held;
                    Verdict::New
                }
                None => {
                    self.flows.push((id, Flow::Held));
                    Verdict::New
                }
            }
        }

        fn end(&mut self, id: PacketId, flow: Flow) {
            if self.flows.contains(&(id, flow)) {
                self.flows.retain(|known| known.0 != id);
                self.open.retain(|open| *open != Some(id));
            }
        }

        fn memory(&mut self, back: bool) {
            let had = self.half.has_memory();
            let memory = self.half.release_memory();
            assert_eq!(memory.is_some(), had && self.flows.is_empty());
            if let Some(memory) = memory
                && back
            {
                self.half.lend_memory(memory);
            }
        }
    }

    impl Pair for Receiver {
        type Event = Event;

        fn events(&self) -> Vec<Event> {
            let mut events = vec![
                Event::Publish(id(1), Qos::AtMostOnce),
                Event::Publish(id(1), Qos::AtLeastOnce),
            ];
            events.extend((1..=4).map(|number| Event::Publish(id(number), Qos::ExactlyOnce)));
            events.extend([Event::Reconnect, Event::Memory(false), Event::Memory(true)]);
            for id in (1..=4).map(id) {
                events.extend([Event::Pubrel(id), Event::PubcompSent(id), Event::Refuse(id)]);
            }
            if self.open.contains(&None) {
                events.push(Event::PubackSent);
            }
            events.extend(
                (1..=3)
                    .flat_map(|maximum| [1, 3].map(|await_rel| Event::Limit(maximum, await_rel))),
            );
            events
        }

        fn apply(&mut self, event: &Event) {
            match *event {
                Event::Publish(id, qos) => {
                    let expected = self.publish(id, qos);
                    assert_eq!(self.half.publish(id, qos), expected);
                }
                Event::Pubrel(id) => {
                    let known = self.flow(id);
                    assert_eq!(self.half.pubrel(id), known.is_some());
                    if let Some(at) = known {
                        self.flows[at].1 = Flow::PubcompDue;
                    }
                }
                Event::PubackSent => {
                    self.half.puback_sent();
                    let at = self.open.iter().position(Option::is_none).unwrap();
                    self.open.remove(at);
                }
                Event::PubcompSent(id) => {
                    self.half.pubcomp_sent(id);
                    self.end(id, Flow::PubcompDue);
                }
                Event::Refuse(id) => {
                    self.half.refuse(id);
                    self.end(id, Flow::Held);
                }
                Event::Limit(receive_maximum, max_await_rel) => {
                    self.half.limit(receive_maximum, max_await_rel);
                    self.receive_maximum = receive_maximum.into();
                    self.max_await_rel = max_await_rel.into();
                }
                Event::Reconnect => {
                    self.half.reconnect();
                    self.flows.retain(|flow| flow.1 == Flow::Held);
                    self.open.clear();
                }
                Event::Memory(back) => self.memory(back),
            }
            // The order of arrival has no meaning here.
            self.flows.sort_by_key(|flow| flow.0);
            self.open.sort_unstable();
            self.has_memory = self.half.has_memory();
        }

        fn compare(&self) {
            let held = self.flows.iter().filter(|flow| flow.1 == Flow::Held).map(|flow| flow.0);
            assert_eq!(self.half.awaiting(), held.clone().count());
            assert_eq!(self.half.open() as usize, self.open.len());
            assert_eq!(self.half.is_empty(), self.flows.is_empty());
            assert!(held.clone().all(|id| self.half.holds(id)));
            assert!(self.half.iter().eq(held));
        }
    }
}

#[test]
fn the_outbound_half_equals_its_model_for_every_sequence_of_11_events() {
    let (states, _) = explore(outbound::Sender::new(3), 11);
    assert!(states > 100_000, "{states}");
}

#[test]
fn the_outbound_half_equals_its_model_where_identifiers_start_again() {
    let (states, _) = explore(outbound::Sender::after(3, 65_517), 8);
    assert!(states > 10_000, "{states}");
}

#[test]
fn the_inbound_half_equals_its_model_for_every_sequence_of_events_of_any_length() {
    let (states, open) = explore(inbound::Receiver::new(2, 3), usize::MAX);
    assert_eq!(open, 0, "every state is followed");
    assert!(states > 1_000, "{states}");
}

#[test]
fn long_random_sequences_equal_the_models() {
    fn outbound(window: u16, choices: Choices) {
        wander(outbound::Sender::new(1 + window % 40), 2, &choices.0);
    }
    fn inbound(receive_maximum: u16, choices: Choices) {
        wander(inbound::Receiver::new(1 + receive_maximum % 5, 3), 6, &choices.0);
    }
    QuickCheck::new().quickcheck(outbound as fn(u16, Choices));
    QuickCheck::new().quickcheck(inbound as fn(u16, Choices));
}
