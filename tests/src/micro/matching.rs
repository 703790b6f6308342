//! From a topic to the filters that match.

use std::hint::black_box;

use fulmar_core::topic::Index;

use super::Work;

/// Filters in the index.
const FILTERS: u32 = 10_000;

/// An index of these filters.
fn index(filter: impl Fn(u32) -> String) -> Index {
    let mut index = Index::with_cache(1);
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

/// Four ways to filter for the same topic.
fn four_ways(number: u32) -> String {
    let (a, b) = (number / 4 / 100, number / 4 % 100);
    match number % 4 {
        0 => format!("plant/{a}/cell/{b}/temperature"),
        1 => format!("plant/{a}/cell/{b}/+"),
        2 => format!("plant/{a}/+/{b}/#"),
        _ => format!("+/{a}/cell/{b}/temperature"),
    }
}

/// Four ways to filter for the same topic, and other topics between.
pub(super) fn wildcard() -> Work {
    let topics = (0..16).map(|at| topic(at * 151)).collect();
    looking_up(index(four_ways), topics, 4)
}

/// The same by an index that remembers.
pub(super) fn again() -> Work {
    remembering(16)
}

/// The same with ever new topics: there are more than rounds are done.
pub(super) fn ever_new() -> Work {
    remembering(FILTERS / 4)
}

/// A filter comes and goes that matches one of many remembered topics, which is then looked up.
pub(super) fn churn() -> Work {
    let mut index = index(four_ways);
    let topics: Vec<_> = (0..300).map(topic).collect();
    for topic in &topics {
        for _ in 0..2 {
            index.lookup(topic, |_| true);
        }
    }
    Box::new(move || {
        for count in [5, 4] {
            let filter = black_box("plant/+/+/42/temperature/#");
            match count {
                5 => drop(index.insert(filter, 1, 1)),
                _ => assert_eq!(index.remove(filter, 1), Some(1)),
            }
            let mut found = 0;
            index.lookup(black_box(&topics[42]), |entries| {
                found += entries.len();
                true
            });
            assert_eq!(found, count);
        }
    })
}

/// Sixteen topics in turn, remembered, while somebody has sixteen filters more that match them all.
pub(super) fn overlapping() -> Work {
    let mut index = index(four_ways);
    for number in 0..16 {
        let level = |bit: u32, text: &'static str| if number >> bit & 1 == 0 { "+" } else { text };
        let (first, third) = (level(0, "plant"), level(1, "cell"));
        let last = level(2, "temperature");
        let rest = if number >> 3 & 1 == 0 { "/#" } else { "" };
        index.insert(&format!("{first}/+/{third}/+/{last}{rest}"), FILTERS, 0);
    }
    looking(index, 16, 20)
}

fn remembering(topics: u32) -> Work {
    looking(index(four_ways), topics, 4)
}

/// Looks up so many topics in turn with what is remembered; each matches `count` filters.
fn looking(mut index: Index, topics: u32, count: usize) -> Work {
    let topics: Vec<_> = (0..topics).map(|at| topic(at * 151 % (FILTERS / 4))).collect();
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % topics.len();
        let mut found = 0;
        index.lookup(black_box(&topics[next]), |entries| {
            found += entries.len();
            true
        });
        assert_eq!(found, count);
    })
}
