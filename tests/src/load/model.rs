//! What more cores would give, reckoned from what few of them do.
//!
//! With n shards a message costs `c(n) = c(1) + f (n - 1) / n + g (n - 1)`: what it costs with one
//! shard; the part of messages that cross to another shard, times what a crossing costs; and what
//! a shard does for each other one in a turn, however few messages there are for it. `f` and `g`
//! are fitted to the measured series; where another series says what as many threads cost when
//! nothing crosses, to the difference. On n cores n / c(n) messages pass in the same time.
//!
//! The last term cannot grow for ever: a turn with fewer messages than there are shards does
//! nothing for some. So what is reckoned with it is the least, and without it the most.

use std::fmt::Write as _;
use std::io;

use super::row::{Row, median};

/// Microseconds of CPU for a message.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    one: f64,
    crossing: f64,
    each_peer: f64,
}

impl Cost {
    /// Fits to what was measured with so many shards, one among them: least squares, and nothing
    /// below zero. `None` where one shard, or more than one, are missing.
    fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let one = points.iter().find(|(shards, _)| *shards == 1.0)?.1;
        let more: Vec<_> = points.iter().filter(|(shards, _)| *shards > 1.0).collect();
        let sum = |of: fn(f64, f64) -> f64| {
            more.iter().map(|(n, _)| of((n - 1.0) / n, n - 1.0)).sum::<f64>()
        };
        let above = |of: fn(f64) -> f64| more.iter().map(|(n, c)| of(*n) * (c - one)).sum::<f64>();
        let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
        let (xc, yc) = (above(|n| (n - 1.0) / n), above(|n| n - 1.0));
        let (det, only_f, only_g) = (xx * yy - xy * xy, xc / xx, yc / yy);
        let cost = |crossing: f64, each_peer: f64| Self { one, crossing, each_peer };
        match more.len() {
            0 => None,
            1 => Some(cost(only_f.max(0.0), 0.0)),
            _ => match ((xc * yy - yc * xy) / det, (yc * xx - xc * xy) / det) {
                (f, _) if f < 0.0 => Some(cost(0.0, only_g.max(0.0))),
                (_, g) if g < 0.0 => Some(cost(only_f.max(0.0), 0.0)),
                (f, g) => Some(cost(f, g)),
            },
        }
    }

    fn with(&self, shards: f64) -> f64 {
        let others = shards - 1.0;
        self.one + self.crossing * others / shards + self.each_peer * others
    }
}

/// How much of all shards is used when the fullest one is: connections are spread by a hash.
fn balance(shards: f64, connections: f64) -> f64 {
    1.0 / (1.0 + (2.0 * shards.ln() * shards / connections).sqrt())
}

/// What was measured with so many shards: medians of CPU for a message.
#[derive(Clone, Copy, Debug)]
struct Point {
    shards: f64,
    cpu: f64,
    /// With publisher and subscriber of each pair on one shard.
    pinned: Option<f64>,
}

impl Point {
    /// Of a scenario with a broker, for each number of shards.
    fn all(rows: &[&Row]) -> Vec<Self> {
        let mut places: Vec<_> = rows.iter().map(|row| row.at).collect();
        places.sort_unstable();
        places.dedup();
        let cpu = |at: u64, pinned: bool| {
            let rows = rows.iter().filter(|row| (row.at, row.pinned) == (at, pinned));
            median(rows.map(|row| row.cpu_us_per_delivery))
        };
        let point =
            |at: u64| Some(Self { shards: at as f64, cpu: cpu(at, false)?, pinned: cpu(at, true) });
        places.into_iter().filter_map(point).collect()
    }

    /// The part of messages that cross.
    fn part(&self) -> f64 {
        (self.shards - 1.0) / self.shards
    }

    /// What a crossing costs, from both series: what is measured less for the part that crosses.
    fn crossing(&self) -> Option<f64> {
        (self.shards > 1.0).then_some((self.cpu - self.pinned?) / self.part())
    }
}

/// The cost, from all points. Where it is known what as many threads cost when nothing crosses,
/// only what crossing adds to that is fitted: that threads are switched where there are more of
/// them than cores is left out.
fn cost(points: &[Point]) -> Option<Cost> {
    let one = points.iter().find(|point| point.shards == 1.0)?.cpu;
    let at = |point: &Point| match point.pinned {
        Some(pinned) if point.shards > 1.0 => (point.shards, one + point.cpu - pinned),
        _ => (point.shards, point.cpu),
    };
    Cost::fit(&points.iter().map(at).collect::<Vec<_>>())
}

/// A table in Markdown for each scenario and broker of the rows.
///
/// # Errors
/// There is no series with one shard and more.
pub(super) fn table(rows: &[Row], connections: u64, cores: &[u64]) -> io::Result<String> {
    let mut names: Vec<(&str, &str)> = Vec::new();
    let good = || rows.iter().filter(|row| row.over == "shards" && row.error.is_empty());
    for row in good() {
        let name = (row.scenario.as_str(), row.broker.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut text = String::new();
    for (scenario, broker) in names {
        let rows = good().filter(|row| (&*row.scenario, &*row.broker) == (scenario, broker));
        let points = Point::all(&rows.collect::<Vec<_>>());
        let Some(cost) = cost(&points) else { continue };
        describe(&mut text, (scenario, broker), &points, &cost);
        // Of one publisher, who is a shard's work, more cores are not reckoned than were tried. It
        // has no pairs that could be on one shard.
        let pairs = points.iter().any(|point| point.pinned.is_some());
        let tried = |cores: &&u64| points.iter().any(|point| point.shards == **cores as f64);
        for &cores in cores.iter().filter(|cores| pairs || tried(cores)) {
            let n = cores as f64;
            let measured = points.iter().find(|point| point.shards == n);
            let (part, even) = (100.0 * (n - 1.0) / n, balance(n, connections as f64));
            let most = Cost { each_peer: 0.0, ..cost };
            let (least, most) = (n / cost.with(n), n / most.with(n));
            let _ = writeln!(
                text,
                "| {cores} | {part:.0} % | {} | {} | {} | {:.3} | {least:.2} to {most:.2} | {:.1} \
                 to {:.1} | {:.1} to {:.1} |",
                shown(measured.map(|point| point.cpu)),
                shown(measured.and_then(|point| point.pinned)),
                shown(measured.and_then(Point::crossing)),
                cost.with(n),
                least * cost.one,
                most * cost.one,
                least * cost.one * even,
                most * cost.one * even
            );
        }
    }
    if text.is_empty() {
        let what = "no series over shards, with one and more of them, is in the file";
        return Err(io::Error::other(what));
    }
    Ok(text)
}

fn shown(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.3}")).unwrap_or_default()
}

fn describe(text: &mut String, name: (&str, &str), points: &[Point], cost: &Cost) {
    let (scenario, broker) = name;
    let numbers: Vec<_> = points.iter().map(|point| point.shards.to_string()).collect();
    let less = match points.iter().any(|point| point.pinned.is_some()) {
        true => ", less what as many cost when nothing crosses",
        false => "",
    };
    let _ = writeln!(
        text,
        "\n{scenario}, {broker}: c(n) = {:.3} + {:.3} (n - 1) / n + {:.4} (n - 1) µs, fitted to \
         {} shards{less}.\n",
        cost.one,
        cost.crossing,
        cost.each_peer,
        numbers.join(", ")
    );
    let _ = writeln!(
        text,
        "| cores | messages that cross | measured µs | nothing crosses, measured µs | a crossing, \
         measured µs | c(n) µs | million messages/s | times one core | the same, spread by a hash \
         |\n|---|---|---|---|---|---|---|---|---|"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_that_follows_the_formula_is_found_again() {
        let known = Cost { one: 0.3, crossing: 0.2, each_peer: 0.01 };
        let points = |cost: Cost| [1.0, 2.0, 4.0, 8.0].map(|n| (n, cost.with(n)));
        let found = Cost::fit(&points(known)).expect("a series");
        assert!((found.crossing - 0.2).abs() < 1e-9 && (found.each_peer - 0.01).abs() < 1e-9);
        let free = Cost { crossing: 0.0, each_peer: 0.0, ..known };
        assert!((Cost::fit(&points(free)).expect("a series").with(64.0) - 0.3).abs() < 1e-9);
        let two = Cost::fit(&[(1.0, 0.3), (2.0, 0.4)]).expect("two points");
        assert!((two.crossing - 0.2).abs() < 1e-9 && two.each_peer == 0.0);
        assert_eq!(Cost::fit(&[(1.0, 0.3)]), None);
        assert_eq!(Cost::fit(&[(2.0, 0.3), (4.0, 0.3)]), None);
    }

    #[test]
    fn nothing_becomes_cheaper_with_more_shards() {
        for points in [
            [(1.0, 0.3), (2.0, 0.2), (4.0, 0.1)],
            [(1.0, 0.3), (2.0, 0.6), (4.0, 0.4)],
            [(1.0, 0.3), (2.0, 0.2), (4.0, 0.9)],
        ] {
            let cost = Cost::fit(&points).expect("a series");
            assert!(cost.crossing >= 0.0 && cost.each_peer >= 0.0, "{cost:?}");
        }
    }

    #[test]
    fn one_shard_is_balanced_and_many_with_few_connections_are_not() {
        assert_eq!(balance(1.0, 100.0), 1.0);
        assert!(balance(64.0, 1e4) < balance(16.0, 1e4) && balance(64.0, 1e7) > 0.99);
    }

    #[test]
    fn the_table_has_a_line_for_each_number_of_cores() {
        let row = |at, cpu| Row {
            scenario: "S1".into(),
            broker: "a".into(),
            over: "shards".into(),
            at,
            cpu_us_per_delivery: cpu,
            ..Row::default()
        };
        let rows = [row(1, 0.5), row(2, 0.75)];
        let text = table(&rows, 1_000_000, &[1, 2, 16]).expect("a series");
        assert!(
            text.contains("| 1 | 0 % | 0.500 |  |  | 0.500 | 2.00 to 2.00 | 1.0 to 1.0 |"),
            "{text}"
        );
        assert!(text.contains("| 2 | 50 % | 0.750 |  |  | 0.750 |"), "{text}");
        assert!(!text.contains("| 16 |"), "nobody knows whether it has pairs: {text}");
        assert!(table(&rows[..1], 100, &[1]).is_err());
        // Two threads without a crossing cost more than one, too: so much less a crossing.
        let pinned = |at, cpu| Row { pinned: true, ..row(at, cpu) };
        let rows = [row(1, 0.5), row(2, 0.75), pinned(1, 0.5), pinned(2, 0.625)];
        let text = table(&rows, 1_000_000, &[2, 64]).expect("a series");
        assert!(text.contains("c(n) = 0.500 + 0.250 (n - 1) / n + 0.0000 (n - 1)"), "{text}");
        assert!(text.contains("| 2 | 50 % | 0.750 | 0.625 | 0.250 | 0.625 |"), "{text}");
        assert!(text.contains("| 64 | 98 % |  |  |  | 0.746 | 85.78 to 85.78 |"), "{text}");
    }
}
