//! What was sent and what a subscriber saw of it: nothing lost, doubled, changed or out of order.

use std::collections::{BTreeMap, BTreeSet};

/// What a publisher sends on one topic is numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) publisher: u8,
    pub(crate) topic: u8,
}

/// Bytes of a payload before its filling.
const HEAD: usize = 6;

/// The payload of a message: most are short, some are shared between subscribers, a few are larger
/// than what one read takes.
pub(crate) fn payload(flow: Flow, number: u32) -> Vec<u8> {
    let filling = match number % 64 {
        63 => 70_000,
        n if n % 16 == 15 => 5_000,
        n => n as usize,
    };
    let mut payload = vec![flow.publisher, flow.topic];
    payload.extend(number.to_be_bytes());
    payload.resize(HEAD + filling, number as u8);
    payload
}

/// Which message this is; nothing if it was altered.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Flow, u32)> {
    let [publisher, topic, number @ ..] = bytes.first_chunk::<HEAD>()?;
    let (flow, number) = (
        Flow { publisher: *publisher, topic: *topic },
        u32::from_be_bytes(number.first_chunk().copied()?),
    );
    (payload(flow, number) == bytes).then_some((flow, number))
}

/// What one subscriber saw.
#[derive(Debug, Default)]
pub(crate) struct Book {
    name: String,
    /// The number that is due.
    next: BTreeMap<Flow, u32>,
    /// Where it may see a message again: its publisher, or itself, was cut off.
    repeats: BTreeSet<u8>,
    /// It came late, and sees the first of a flow whatever its number is.
    late: bool,
    /// It gets a part of the messages.
    part: bool,
    pub(crate) faults: Vec<String>,
    pub(crate) count: u64,
}

impl Book {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Messages of these publishers may come again, after a later one too.
    pub(crate) fn repeats(mut self, publishers: impl IntoIterator<Item = u8>) -> Self {
        self.repeats = publishers.into_iter().collect();
        self
    }

    pub(crate) fn late(mut self) -> Self {
        self.late = true;
        self
    }

    pub(crate) fn part(mut self) -> Self {
        self.part = true;
        self
    }

    /// A message came; says which it is if it had not come before.
    pub(crate) fn saw(&mut self, payload: &[u8]) -> Option<(Flow, u32)> {
        let Some((flow, number)) = parse(payload) else {
            self.fault(format!("not what was sent: {} bytes", payload.len()));
            return None;
        };
        self.count += 1;
        let unseen = if self.late { number } else { 0 };
        let next = self.next.entry(flow).or_insert(unseen);
        let due = *next;
        *next = due.max(number + 1);
        if number == due || self.part && number > due {
            return Some((flow, number));
        }
        if number > due {
            self.fault(format!("{flow:?}: {number}, not {due}"));
            return Some((flow, number));
        }
        if !self.repeats.contains(&flow.publisher) {
            self.fault(format!("{flow:?}: {number} though {due} is due"));
        }
        None
    }

    /// A retained message came to a new subscription: live ones go on behind it.
    pub(crate) fn saw_retained(&mut self, payload: &[u8]) -> Option<(Flow, u32)> {
        let Some((flow, number)) = parse(payload) else {
            self.fault(format!("not what was retained: {} bytes", payload.len()));
            return None;
        };
        if self.next.insert(flow, number + 1).is_some() {
            self.fault(format!("{flow:?}: {number} is retained, but something came before"));
        }
        Some((flow, number))
    }

    pub(crate) fn fault(&mut self, what: String) {
        self.faults.push(format!("{}: {what}", self.name));
    }

    /// The number due next in a flow.
    pub(crate) fn due(&self, flow: Flow) -> u32 {
        self.next.get(&flow).copied().unwrap_or_default()
    }

    /// It must have seen `count` messages of each of these flows.
    pub(crate) fn assert_whole(&self, flows: impl IntoIterator<Item = Flow>, count: u32) {
        self.assert_faultless();
        for flow in flows {
            assert_eq!(self.due(flow), count, "{}: {flow:?}", self.name);
        }
    }

    pub(crate) fn assert_faultless(&self) {
        assert!(self.faults.is_empty(), "{:#?}", &self.faults[..self.faults.len().min(20)]);
    }
}

#[test]
fn a_book_sees_what_is_lost_doubled_changed_or_out_of_order() {
    let flow = Flow { publisher: 1, topic: 0 };
    let saw = |mut book: Book, numbers: &[u32]| {
        for number in numbers {
            book.saw(&payload(flow, *number));
        }
        (book.faults.len(), book.due(flow))
    };
    let book = || Book::new("b");
    assert_eq!(saw(book(), &[0, 1, 2]), (0, 3));
    assert_eq!(saw(book(), &[0, 2]), (1, 3));
    assert_eq!(saw(book(), &[1, 0]), (2, 2));
    assert_eq!(saw(book(), &[0, 1, 1]), (1, 2));
    assert_eq!(saw(book().repeats([1]), &[0, 1, 0, 1, 2]), (0, 3));
    assert_eq!(saw(book().repeats([1]), &[0, 1, 0, 1, 3]), (1, 4));
    assert_eq!(saw(book().late(), &[5, 6]), (0, 7));
    assert_eq!(saw(book().late(), &[5, 7]), (1, 8));
    assert_eq!(saw(book().part(), &[1, 4]), (0, 5));
    assert_eq!(saw(book().part(), &[4, 1]), (1, 5));
    let mut other = payload(flow, 70);
    *other.last_mut().expect("a filling") += 1;
    assert_eq!(book().saw(&other), None);
    let mut book = book();
    book.saw_retained(&payload(flow, 8));
    book.saw(&payload(flow, 9));
    assert_eq!(book.faults.len(), 0);
    book.saw_retained(&payload(flow, 9));
    assert_eq!(book.faults.len(), 1);
}
