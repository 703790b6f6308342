//! What one run gave, as it stands in the JSON file: an object a line.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One run of one scenario against one broker. What does not apply is 0.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    pub(super) scenario: String,
    pub(super) broker: String,
    /// The generator that measured, and its version; empty in rows from before it was written down,
    /// as is what stands here up to `tiny`.
    pub(super) generator: String,
    /// The version of MQTT that clients spoke: 3.1.1 or 5.0.
    pub(super) mqtt: String,
    /// Threads that played the clients.
    pub(super) threads: u64,
    /// Shards of the broker, where its command tells.
    pub(super) shards: Option<u64>,
    /// Seconds after which publishers sent no more, where there was such a limit.
    pub(super) enough_seconds: Option<f64>,
    /// It was on a small scale, as a test of the way.
    pub(super) tiny: bool,
    /// What a series varies: `shards`, `connections` or `subscriptions`; empty without a series.
    pub(super) over: String,
    /// Its value.
    pub(super) at: u64,
    /// Publisher and subscriber of each pair were on one shard.
    pub(super) pinned: bool,
    /// The cores were kept awake meanwhile.
    pub(super) kept_awake: bool,
    /// What ended the run early; empty if nothing did.
    pub(super) error: String,
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) disordered: u64,
    pub(super) strays: u64,
    pub(super) altered: u64,
    pub(super) seconds: f64,
    /// Deliveries a second.
    pub(super) rate: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    /// How long messages took, of those that were timed: of each pair the second is how many took
    /// less microseconds than the first, a power of two, but no less than half of it. Pairs
    /// without messages are left out.
    pub(super) latency: Vec<(u64, u64)>,
    /// Of the broker, all threads.
    pub(super) cpu_seconds: f64,
    pub(super) cpu_us_per_delivery: f64,
    /// Of the thread of the broker that used most: where each has a core, no more pass in a second
    /// than go into it.
    pub(super) busiest_us_per_delivery: f64,
    /// Of the generator.
    pub(super) own_cpu_seconds: f64,
    /// System calls of the broker that read, wrote, waited or woke, where it tells them.
    pub(super) calls_per_delivery: Option<f64>,
    pub(super) connections: u64,
    /// KiB of the broker in memory before and after the traffic or the connections, and at most.
    pub(super) memory_before: u64,
    pub(super) memory_after: u64,
    pub(super) memory_peak: u64,
    /// Of the broker in memory for each subscription, where there are many.
    pub(super) bytes_per_subscription: f64,
    /// SUBSCRIBE and UNSUBSCRIBE of another client meanwhile.
    pub(super) churned: u64,
    pub(super) churned_per_second: f64,
    /// Seconds of CPU a second for these while nothing else went on.
    pub(super) churn_cpu: f64,
    /// Without as much; what is above has it in.
    pub(super) less_churn_cpu_us_per_delivery: f64,
    /// The same load in the same broker without churn.
    pub(super) calm_cpu_us_per_delivery: f64,
    pub(super) calm_rate: f64,
    /// Of idle connections.
    pub(super) bytes_per_connection: f64,
    pub(super) cpu_us_per_connection: f64,
    /// Part of a CPU that the broker uses while nothing happens, in percent.
    pub(super) idle_percent: f64,
}

impl Row {
    /// Whether everything came once, in order, as it was sent.
    pub(super) fn is_clean(&self) -> bool {
        self.error.is_empty() && self.faults() == 0
    }

    /// Whether the broker was that of this repository, with however many shards.
    pub(super) fn is_ours(&self) -> bool {
        self.broker.starts_with("fulmar")
    }

    /// SUBSCRIBE and UNSUBSCRIBE a second, if there were any; rows of before have it not written
    /// down.
    pub(super) fn churn_rate(&self) -> Option<f64> {
        (self.churned > 0 && self.seconds > 0.0).then(|| self.churned as f64 / self.seconds)
    }

    /// Messages lost, doubled, out of order, astray or altered.
    pub(super) fn faults(&self) -> u64 {
        self.lost + self.duplicates + self.disordered + self.strays + self.altered
    }

    /// Appends it to a file.
    pub(super) fn save(&self, file: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        writeln!(file, "{}", serde_json::to_string(self)?)
    }

    /// All rows of a file.
    pub(super) fn load(file: &Path) -> io::Result<Vec<Self>> {
        let text = std::fs::read_to_string(file)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// The middle one, or the mean of the two in the middle; `None` without values.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values[values.len() / 2]);
    Some(f64::midpoint(*low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_row_survives_its_file_and_faults_are_faults() {
        let row = Row { scenario: "S1".into(), rate: 1.5, ..Row::default() };
        let row = Row { shards: Some(4), latency: vec![(64, 5), (128, 7)], ..row };
        let text = serde_json::to_string(&row).expect("JSON");
        let back: Row = serde_json::from_str(&text).expect("a row");
        assert!(back.is_clean() && back.rate == 1.5 && back.calls_per_delivery.is_none());
        assert_eq!((back.shards, &back.latency), (row.shards, &row.latency));
        // As rows were before they said what was run.
        let old = r#"{"scenario":"S1","broker":"fulmar","lost":2,"rate":1.5,"churned":9}"#;
        let old: Row = serde_json::from_str(old).expect("a row");
        assert!((old.lost, old.shards) == (2, None) && old.generator.is_empty(), "{old:?}");
        assert!(!Row { error: "x".into(), ..row.clone() }.is_clean());
        let rows = [
            Row { lost: 1, ..row.clone() },
            Row { duplicates: 1, ..row.clone() },
            Row { disordered: 1, ..row.clone() },
            Row { strays: 1, ..row.clone() },
            Row { altered: 1, ..row },
        ];
        assert!(rows.iter().all(|row| !row.is_clean()));
    }
}
