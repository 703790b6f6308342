//! Series: the same load with more and more shards, connections or subscriptions.

use std::io;

use super::broker::Recipe;
use super::compare::{Comparison, Place};
use super::list::{ALL, Scenario};
use super::row::Row;
use super::scenario::Load;

/// What a series varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Over {
    /// Shards of the broker, for commands with `{shards}`; the work is the same. Where publishers
    /// and subscribers are pairs, fulmar is measured beside with both of each on one shard, so that
    /// nothing crosses.
    Shards,
    /// Publishers and subscribers, half each.
    Connections,
    /// Filters with and without wildcards; S9.
    Subscriptions,
}

impl Over {
    /// Its name in rows and pictures.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Connections => "connections",
            Self::Subscriptions => "subscriptions",
        }
    }

    pub(super) const ALL: [Self; 3] = [Self::Shards, Self::Connections, Self::Subscriptions];

    /// What is measured if nothing else is said.
    pub(super) const fn points(self) -> &'static [u64] {
        match self {
            Self::Shards => &[1, 2, 4, 8],
            Self::Connections => &[20, 100, 400, 2_000, 8_000, 19_000],
            Self::Subscriptions => &[100, 1_000, 10_000, 100_000, 1_000_000],
        }
    }

    /// The load at a point: that of `base`, or of S1, except for subscriptions.
    fn scenario(self, point: u64, base: Option<Scenario>) -> Scenario {
        let of = |name: &str| ALL.into_iter().find(|s| s.name == name).expect("a scenario");
        let scenario = base.unwrap_or_else(|| of("S1"));
        match self {
            Self::Shards => scenario,
            Self::Connections => {
                let pairs = (point / 2).max(1) as usize;
                let each = Load {
                    publishers: pairs,
                    subscribers: pairs,
                    topics: pairs,
                    messages: 500_000.max(100 * pairs as u64),
                    ..scenario.load
                };
                Scenario { load: each, ..scenario }
            }
            Self::Subscriptions => {
                let scenario = of("S9");
                let wild = (point / scenario.load.subscribers as u64).max(1) as usize;
                Scenario { load: Load { wild, ..scenario.load }, ..scenario }
            }
        }
    }
}

/// Measures a series of each scenario of the comparison, or of the one that belongs to it, each
/// point for each broker in turn, `runs` times. A broker that fails leaves the series.
///
/// # Errors
/// As [`Comparison::run`].
pub(super) fn sweep(
    comparison: &Comparison,
    over: Over,
    points: &[u64],
    messages: Option<u64>,
) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bases = comparison.scenarios.iter().copied().map(Some);
    let bases: Vec<_> = bases.chain(comparison.scenarios.is_empty().then_some(None)).collect();
    for base in bases {
        let able = |recipe: &&Recipe| match over {
            Over::Shards => recipe.has_shards(),
            Over::Connections | Over::Subscriptions => true,
        };
        let mut brokers: Vec<_> = comparison.brokers.iter().filter(able).collect();
        for &at in points {
            let mut scenario = over.scenario(at, base);
            scenario.load.messages = messages.unwrap_or(scenario.load.messages);
            let place = Place { over: over.name(), at };
            for _ in 0..comparison.runs {
                comparison.turn(&mut brokers, &scenario, place, &mut rows)?;
                if over == Over::Shards && scenario.load.is_pairs() {
                    let load = Load { pinned: true, ..scenario.load };
                    let pinned = Scenario { load, ..scenario };
                    let mut told: Vec<_> = brokers.iter().copied().filter(|b| b.counts).collect();
                    comparison.turn(&mut told, &pinned, place, &mut rows)?;
                }
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_fails_leaves_the_series() {
        let comparison = Comparison {
            brokers: vec![Recipe::parse("none=false").expect("a command")],
            runs: 2,
            ..Comparison::default()
        };
        let rows = sweep(&comparison, Over::Connections, &[20, 100], Some(10)).expect("no file");
        let failed: Vec<_> = rows.iter().map(|row| (row.at, row.error.is_empty())).collect();
        assert_eq!(failed, [(20, false)]);
    }

    #[test]
    fn a_point_is_as_large_as_it_says() {
        for &point in Over::Connections.points() {
            let load = Over::Connections.scenario(point, None).load;
            assert_eq!((load.publishers + load.subscribers) as u64, point);
            assert!((0..load.publishers).step_by(97).all(|p| load.flow(p, 0, p).is_some()));
        }
        for &point in Over::Subscriptions.points() {
            let load = Over::Subscriptions.scenario(point, None).load;
            let filters: usize = [0, 9].iter().map(|s| load.filters(*s).len()).sum();
            assert_eq!((filters * load.subscribers / 2) as u64, point);
        }
    }
}
