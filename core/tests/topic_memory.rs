//! What filters and subscribers cost.
#![cfg(feature = "alloc")]

use fulmar_core::topic::{Groups, Index, Member};

const FILTERS: u32 = 100_000;

/// Bytes for each of 100,000 filters with one subscriber.
fn cost(filter: impl Fn(u32) -> String) -> usize {
    let mut index = Index::new(1);
    let empty = index.footprint();
    for n in 0..FILTERS {
        index.insert(&filter(n), n, n);
    }
    assert_eq!(index.filters(), FILTERS as usize);
    let full = index.footprint();
    for n in 0..FILTERS {
        assert_eq!(index.remove(&filter(n), n), Some(n));
    }
    let left = index.footprint() - empty;
    assert!(left < 4096, "{left} bytes are left");
    full / FILTERS as usize
}

#[test]
fn an_exact_filter_costs_at_most_150_bytes() {
    let cost = cost(|n| format!("site/{}/device/{n}/temperature", n % 100));
    assert!((60..=150).contains(&cost), "{cost} bytes");
}

#[test]
fn a_wildcard_filter_costs_at_most_400_bytes() {
    for (name, cost) in [
        ("+ in the middle", cost(|n| format!("site/device-{n}/+/temperature"))),
        ("# at the end", cost(|n| format!("site/{}/device-{n}/#", n % 100))),
        ("+ first", cost(|n| format!("+/device-{n}"))),
    ] {
        assert!((60..=400).contains(&cost), "{name}: {cost} bytes");
    }
}

#[test]
fn a_subscriber_of_a_known_filter_costs_at_most_40_bytes() {
    let mut index = Index::new(1);
    for key in 0..FILTERS {
        index.insert("a/+", key, key);
    }
    let full = index.footprint();
    assert!(full / (FILTERS as usize) <= 40, "{full} bytes");
    // In the worst order for a search from the front.
    for key in (1..FILTERS).rev() {
        assert_eq!(index.remove("a/+", key), Some(key));
    }
    assert!(index.footprint() < 2000, "{} bytes are left", index.footprint());
}

#[test]
fn a_group_with_one_member_costs_at_most_250_bytes() {
    let mut groups = Groups::new(1);
    for session in 0..FILTERS {
        let name = format!("$share/workers/site/{session}/#");
        groups.join(&name, Member { session, value: 0 }, true);
    }
    let cost = groups.footprint() / FILTERS as usize;
    assert!((100..=250).contains(&cost), "{cost} bytes");
    for session in 0..FILTERS {
        let left = groups.leave(&format!("$share/workers/site/{session}/#"), session);
        assert!(left.is_some_and(|left| left.empty));
    }
    assert!(groups.footprint() < 2000, "{} bytes are left", groups.footprint());
}
