//! How long messages took.

use super::row::Row;

/// Steps between a power of two and the next: a value is at most 1/64 too low.
const STEPS: usize = 64;

/// Counts of durations in nanoseconds.
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], total: 0, longest: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanos);
    }

    /// Adds all that another one has.
    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// Puts what is of interest into a row.
    pub(super) fn tell(&self, row: &mut Row) {
        [row.p50_us, row.p99_us, row.p999_us] = [0.5, 0.99, 0.999].map(|part| self.quantile(part));
        row.max_us = self.longest as f64 / 1e3;
        row.latency = self.octaves();
    }

    /// How many took less microseconds than a power of two, and no less than half of it, for all
    /// powers for which there are any. One bucket may lie across a bound, as exact as the rest.
    fn octaves(&self) -> Vec<(u64, u64)> {
        let mut octaves: Vec<(u64, u64)> = Vec::new();
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let bound = (lowest(index) / 1000 + 1).next_power_of_two();
            match octaves.last_mut() {
                Some((last, sum)) if *last == bound => *sum += count,
                _ => octaves.push((bound, *count)),
            }
        }
        octaves
    }

    /// Microseconds that this part of all took at most; 0 if there are none.
    fn quantile(&self, part: f64) -> f64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0.0, |index| lowest(index) as f64 / 1e3)
    }
}

/// Values below 128 have a bucket each, all above share it with those of the same 7 high bits.
fn bucket(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    let dropped = bits.saturating_sub(7);
    dropped as usize * STEPS + (value >> dropped) as usize
}

/// The lowest value of a bucket.
fn lowest(index: usize) -> u64 {
    let dropped = (index / STEPS).saturating_sub(1);
    ((index - dropped * STEPS) as u64) << dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        let mut before = None;
        for shift in 0..63 {
            for value in [1u64 << shift, (1 << shift) + (1 << shift) / 3] {
                let low = lowest(bucket(value));
                assert!(low <= value && value - low <= value / 64, "{value} is put at {low}");
                assert!(before <= Some(bucket(value)));
                before = Some(bucket(value));
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let (mut histogram, mut other) = (Histogram::new(), Histogram::new());
        assert_eq!(histogram.quantile(0.5), 0.0);
        (1..=300).for_each(|micros| histogram.add(micros * 1000));
        (301..=1000).for_each(|micros| other.add(micros * 1000));
        histogram.merge(&other);
        for (part, micros) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = histogram.quantile(part);
            assert!(found <= micros && found >= micros * 63.0 / 64.0, "{part}: {found}");
        }
        let few = [(1, 0), (2, 1), (4, 2), (8, 4), (16, 8), (32, 16), (64, 32), (128, 64)];
        let octaves = histogram.octaves();
        assert_eq!(octaves.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        for ((bound, count), exact) in octaves.iter().zip(&few[1..]) {
            // A value on a bound may have been put in the bucket below.
            assert!(*bound == exact.0 && count.abs_diff(exact.1) <= 1, "{octaves:?}");
        }
        assert_eq!(octaves.last().map(|last| last.0), Some(1024));
        histogram.add(0);
        histogram.add(u64::MAX);
        let octaves = histogram.octaves();
        assert_eq!((octaves[0], octaves.len()), ((1, 1), 12));
        let mut row = Row::default();
        histogram.tell(&mut row);
        assert_eq!((row.p50_us, row.latency), (histogram.quantile(0.5), octaves));
    }
}
