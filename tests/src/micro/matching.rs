//! From a topic to the filters that match.

use std::hint::black_box;

use fulmar_core::topic::Index;

use super::Work;

/// Filters in the index.
const FILTERS: u32 = 10_000;

/// An index of these filters.
fn index(filter: impl Fn(u32) -> String) -> Index {
    let mut index = Index::new(1);
    for number in 0..FILTERS {
        index.insert(&filter(number), number, 0);
    }
    index
}

/// Looks up topics in turn; each matches `count` filters.
fn looking_up(index: Index, topics: Vec<String>, count: usize) -> Work {
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % topics.len();
        let mut found = 0;
        index.matches(black_box(&topics[next]), |entries| found += entries.len());
        assert_eq!(found, count);
    })
}

/// Sixteen topics among those of the filters.
fn topics() -> Vec<String> {
    (0..16).map(|at| topic(at * 617)).collect()
}

fn topic(number: u32) -> String {
    format!("plant/{}/cell/{}/temperature", number / 100, number % 100)
}

pub(super) fn exact() -> Work {
    looking_up(index(topic), topics(), 1)
}

/// Four ways to filter for the same topic, and other topics between.
pub(super) fn wildcard() -> Work {
    let filter = |number: u32| {
        let (a, b) = (number / 4 / 100, number / 4 % 100);
        match number % 4 {
            0 => format!("plant/{a}/cell/{b}/temperature"),
            1 => format!("plant/{a}/cell/{b}/+"),
            2 => format!("plant/{a}/+/{b}/#"),
            _ => format!("+/{a}/cell/{b}/temperature"),
        }
    };
    let topics = (0..16).map(|at| topic(at * 151)).collect();
    looking_up(index(filter), topics, 4)
}
