//! Everything that BENCHMARKS.md has, part by part, each in a file of its own.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use super::awake::Awake;
use super::broker::Recipe;
use super::compare::{Comparison, faults, table};
use super::engine::Patience;
use super::list::{ALL, Scenario};
use super::row::Row;
use super::sweep::{Over, sweep};
use super::{model, parts, plot};

/// A broker that takes longer for one run has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Publishers send no longer than this: of a slow broker fewer messages are measured.
const ENOUGH: Duration = Duration::from_secs(5);
/// What all brokers are compared in.
const TRAFFIC: [&str; 11] = ["S1", "S1u", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"];
const BROKERS: [&str; 5] = ["fulmar", "fulmar-2", "mosquitto", "rumqttd", "relay"];
/// What is about memory and filters, and takes long with some.
const MEMORY: [&str; 7] = ["S11", "S11c", "S12", "S12c", "S13", "S14", "S14c"];
const THREE: [&str; 3] = ["fulmar", "fulmar-2", "mosquitto"];
const TWO: [&str; 2] = ["fulmar", "mosquitto"];
/// What is looked at once with more shards than cores, for loss, doubles and order: all that
/// delivers messages.
const MANY_SHARDS: &str = "shards-4";
const MANY: &str = "fulmar-4";
/// Series over shards.
const SHARDED: [&str; 3] = ["S1", "S2", "S4"];
const PARTS: &str = "parts";
const SERIES: &str = "series-";
/// The part whose figures are about latency.
const LATENCY: &str = "S7";
/// Seconds that parts take with five runs on two quiet cores, where it is not the usual time. They
/// say how parts are to each other: what is left is reckoned from those that were measured.
const SECONDS: [(&str, u64); 15] = [
    ("S1", 90),
    ("S4", 100),
    ("S7", 120),
    ("S8", 90),
    ("S9", 125),
    ("S11", 100),
    ("S11c", 100),
    ("S12", 100),
    ("S12c", 100),
    ("S13", 120),
    ("shards-4", 130),
    ("parts", 20),
    ("series-shards", 140),
    ("series-connections", 250),
    ("series-subscriptions", 220),
];
const USUAL: u64 = 60;

/// What is to be measured, and where it goes.
pub(super) struct Plan {
    pub(super) out: PathBuf,
    pub(super) runs: usize,
    /// Names of parts; all if there is none.
    pub(super) only: Vec<String>,
    /// Keep the cores awake while latency is measured.
    pub(super) keep_awake: bool,
    pub(super) tiny: Option<u64>,
}

impl Plan {
    /// All parts, in the order in which they are measured.
    pub(super) fn names(&self) -> Vec<String> {
        let series = Over::ALL.map(|over| format!("{SERIES}{}", over.name()));
        let scenarios = TRAFFIC.into_iter().chain(MEMORY).map(Into::into);
        scenarios.chain([MANY_SHARDS, PARTS].map(Into::into)).chain(series).collect()
    }

    /// Measures what is missing, draws, and writes the tables. Says whether all that fulmar was
    /// given came as it was sent.
    ///
    /// # Errors
    /// A part is not known, or a file cannot be written.
    pub(super) fn run(&self) -> Result<bool, Box<dyn Error>> {
        let names = self.names();
        if let Some(other) = self.only.iter().find(|name| !names.contains(name)) {
            return Err(format!("no part is called {other}: {}", names.join(", ")).into());
        }
        if self.keep_awake {
            // Rather now than after a quarter of an hour.
            drop(Awake::keep()?);
        }
        fs::create_dir_all(&self.out)?;
        let wanted = |name: &&String| self.only.is_empty() || self.only.contains(name);
        let wanted: Vec<_> = names.iter().filter(wanted).collect();
        let mut pace = Pace::default();
        for (at, name) in wanted.iter().enumerate() {
            let (file, part) = (self.file(name), self.out.join(format!("{name}.part")));
            let (number, count) = (at + 1, wanted.len());
            if file.exists() {
                eprintln!("-- {name} ({number} of {count}) is there");
                continue;
            }
            let missing = wanted[at..].iter().filter(|name| !self.file(name).exists());
            let left = pace.left(missing.map(|name| seconds(name)).sum());
            eprintln!("-- {name} ({number} of {count}, about {} min left)", left.div_ceil(60));
            let start = Instant::now();
            // Left by a run that was ended.
            let _ = fs::remove_file(&part);
            self.measure(name, &part)?;
            fs::rename(part, file)?;
            pace.add(seconds(name), start.elapsed());
        }
        self.tell(&names)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.out.join(format!("{name}.json"))
    }

    fn measure(&self, name: &str, file: &Path) -> Result<(), Box<dyn Error>> {
        if name == PARTS {
            if self.tiny.is_some() {
                let rows = parts::measure(100)?;
                return Ok(rows.iter().try_for_each(|row| row.save(file))?);
            }
            // Not in this process: what the parts before have left would be used first.
            let mut own = Command::new(env::current_exe()?);
            let status = own.arg("parts").arg("--json").arg(file).stdout(Stdio::null()).status()?;
            return if status.success() { Ok(()) } else { Err("parts: not measured".into()) };
        }
        let series = Over::ALL.into_iter().find(|over| name == format!("{SERIES}{}", over.name()));
        if let Some(over) = series {
            let brokers: &[&str] = if over == Over::Shards { &["fulmar"] } else { &TWO };
            let scenarios = if over == Over::Shards { &SHARDED[..] } else { &[] };
            let runs = self.runs.saturating_sub(2).max(1);
            let comparison = self.comparison(brokers, scenarios, runs, file)?;
            let few: Vec<_> = over.points().iter().copied().take(2).collect();
            let points = if self.tiny.is_some() { &few } else { over.points() };
            sweep(&comparison, over, points, self.tiny)?;
        } else if name == MANY_SHARDS {
            let scenarios = ALL.iter().filter(|scenario| scenario.load.idle == 0);
            let scenarios: Vec<_> = scenarios.map(|scenario| scenario.name).collect();
            self.comparison(&[MANY], &scenarios, 1, file)?.run()?;
        } else if MEMORY.contains(&name) {
            self.comparison(&THREE, &[name], self.runs.min(3), file)?.run()?;
        } else {
            let mut comparison = self.comparison(&BROKERS, &[name], self.runs, file)?;
            comparison.awake = self.keep_awake && name == LATENCY;
            comparison.run()?;
        }
        Ok(())
    }

    fn comparison(
        &self,
        brokers: &[&str],
        scenarios: &[&str],
        runs: usize,
        json: &Path,
    ) -> Result<Comparison, String> {
        Ok(Comparison {
            brokers: brokers.iter().map(|name| Recipe::parse(name)).collect::<Result<_, _>>()?,
            scenarios: scenarios.iter().map(|name| self.scenario(name)).collect(),
            runs,
            json: Some(json.to_owned()),
            patience: Patience { limit: LIMIT, enough: Some(ENOUGH), ..Patience::default() },
            ..Comparison::default()
        })
    }

    fn scenario(&self, name: &str) -> Scenario {
        let found = ALL.into_iter().find(|scenario| scenario.name == name).expect("a scenario");
        let load = self.tiny.map_or(found.load, |messages| found.load.tiny(messages));
        Scenario { load, ..found }
    }

    /// Writes tables and pictures of all that is there.
    fn tell(&self, names: &[String]) -> Result<bool, Box<dyn Error>> {
        let rows = |name: &str| Row::load(&self.file(name));
        let (mut text, mut series, mut clean) = (String::new(), Vec::new(), true);
        for name in names.iter().filter(|name| self.file(name).exists()) {
            let rows = rows(name)?;
            let ours = rows.iter().filter(|row| row.is_ours());
            clean &= ours.clone().all(Row::is_clean);
            if name == PARTS {
                let _ = write!(text, "\n{}", parts::table(&rows));
            } else if name.starts_with(SERIES) {
                series.extend(rows);
            } else if name == MANY_SHARDS {
                text += "\nWith four shards, once:\n";
                text += &faults(&rows);
            } else {
                text += &table(&rows, &[self.scenario(name)]);
            }
        }
        if !series.is_empty() {
            plot::plot(&series, &self.out)?;
        }
        if let Ok(model) = model::table(&series, 10_000, &[1, 2, 4, 8, 16, 32, 64]) {
            text += &model;
        }
        fs::write(self.out.join("all.md"), &text)?;
        write_out(&text)?;
        Ok(clean)
    }
}

/// Seconds that a part takes with five runs on two quiet cores.
fn seconds(name: &str) -> u64 {
    SECONDS.iter().find(|(part, _)| *part == name).map_or(USUAL, |(_, seconds)| *seconds)
}

/// How long the parts measured so far took, beside what was expected.
#[derive(Debug, Default)]
struct Pace {
    expected: u64,
    took: Duration,
}

impl Pace {
    fn add(&mut self, expected: u64, took: Duration) {
        self.expected += expected;
        self.took += took;
    }

    /// Seconds that parts take for which so many are expected.
    fn left(&self, expected: u64) -> u64 {
        if self.expected == 0 {
            return expected;
        }
        (expected as f64 * self.took.as_secs_f64() / self.expected as f64) as u64
    }
}

/// Prints, whether or not anybody reads.
fn write_out(text: &str) -> io::Result<()> {
    io::Write::write_all(&mut io::stdout().lock(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_reckoned_from_what_the_parts_took_so_far() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(600), 600);
        pace.add(100, Duration::from_secs(50));
        pace.add(100, Duration::from_secs(250));
        assert_eq!(pace.left(600), 900);
    }
}
