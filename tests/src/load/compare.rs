//! Brokers through the same scenarios, in turn, and the table.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use super::awake::Awake;
use super::broker::{Limits, RELAY, Recipe};
use super::engine::Patience;
use super::list::Scenario;
use super::measure::{Target, described, measure};
use super::row::{Row, median};
use super::scenario::Load;
use super::sweep::Over;

/// What to compare.
pub(super) struct Comparison {
    /// Ratios are of the first one to the others.
    pub(super) brokers: Vec<Recipe>,
    pub(super) scenarios: Vec<Scenario>,
    /// Runs of each scenario against each broker, one after the other in turn.
    pub(super) runs: usize,
    /// Threads that play the clients.
    pub(super) threads: usize,
    /// Where to append every run to.
    pub(super) json: Option<PathBuf>,
    pub(super) patience: Patience,
    /// Have the cores kept awake meanwhile.
    pub(super) awake: bool,
}

/// One run of nothing against nobody.
impl Default for Comparison {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            scenarios: Vec::new(),
            runs: 1,
            threads: 1,
            json: None,
            patience: Patience::default(),
            awake: false,
        }
    }
}

/// Where in a series a run stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) over: &'static str,
    pub(super) at: u64,
}

impl Comparison {
    /// Measures all, tells of each run on standard error, and gives the rows.
    ///
    /// # Errors
    /// The file cannot be written, or the cores not kept awake. What goes wrong with a broker
    /// stands in its rows.
    pub(super) fn run(&self) -> io::Result<Vec<Row>> {
        let _awake = self.awake.then(Awake::keep).transpose()?;
        let mut rows = Vec::new();
        for scenario in &self.scenarios {
            // What is counted there does not vary.
            let runs = if scenario.load.idle > 0 { 1 } else { self.runs };
            let able = |recipe: &&Recipe| recipe.name != RELAY || scenario.relay;
            let mut brokers: Vec<_> = self.brokers.iter().filter(able).collect();
            for _ in 0..runs {
                self.turn(&mut brokers, scenario, Place::default(), &mut rows)?;
            }
        }
        Ok(rows)
    }

    /// One run against each of these, in turn. Who fails is none of them any more: it would take
    /// long, and fail again.
    pub(super) fn turn(
        &self,
        brokers: &mut Vec<&Recipe>,
        scenario: &Scenario,
        place: Place,
        rows: &mut Vec<Row>,
    ) -> io::Result<()> {
        let before = rows.len();
        for recipe in &*brokers {
            let row = self.run_once(recipe, scenario, place);
            self.keep(row, rows)?;
        }
        let mut ran = rows[before..].iter();
        brokers.retain(|_| ran.next().is_some_and(|row| row.error.is_empty()));
        Ok(())
    }

    /// One run against a broker that is started for it.
    pub(super) fn run_once(&self, recipe: &Recipe, scenario: &Scenario, place: Place) -> Row {
        let load = &Load { threads: self.threads, ..scenario.load };
        let clients = load.publishers + load.subscribers;
        let limits = Limits {
            connections: 1000 + clients.max(load.idle),
            subscriptions: 1000 + load.wild,
            shards: if place.over == Over::Shards.name() { place.at } else { 1 },
        };
        let row = match recipe.start(&limits) {
            Ok(mut running) => {
                let (addr, pid) = (running.addr, running.pid());
                let mut target = Target { addr, pid, running: Some(&mut running) };
                measure(load, &mut target, self.patience)
            }
            Err(error) => {
                let row = Row { error: error.to_string(), ..Row::default() };
                described(load, self.patience, row)
            }
        };
        let (name, broker) = (scenario.name.to_owned(), recipe.name.clone());
        let over = place.over.to_owned();
        let (pinned, kept_awake) = (load.pinned, self.awake);
        let shards = recipe.shards(limits.shards);
        Row { scenario: name, broker, shards, over, at: place.at, pinned, kept_awake, ..row }
    }

    /// Whether all that the first broker was given came as it was sent, and so with every one that
    /// is fulmar.
    pub(super) fn is_clean(&self, rows: &[Row]) -> bool {
        let counts = |row: &&Row| row.is_ours() || row.broker == self.brokers[0].name;
        rows.iter().filter(counts).all(Row::is_clean)
    }

    /// Tells of a row, saves it, and adds it.
    fn keep(&self, row: Row, rows: &mut Vec<Row>) -> io::Result<()> {
        eprintln!("{}", line(&row));
        if let Some(file) = &self.json {
            row.save(file)?;
        }
        rows.push(row);
        Ok(())
    }
}

/// A run in a line.
pub(super) fn line(row: &Row) -> String {
    let mut line = format!("{:4} {:12}", row.scenario, row.broker);
    if !row.over.is_empty() {
        let _ = write!(line, " {} {:7}", row.over, row.at);
        line += if row.pinned { " nothing crosses" } else { "" };
    }
    if row.bytes_per_subscription > 0.0 {
        let _ = write!(line, " {:4.0} B a filter", row.bytes_per_subscription);
    }
    if let Some(per_second) = row.churn_rate() {
        let _ = write!(
            line,
            " {per_second:6.0} churned/s, alone {:.1} % CPU; without {:.3} us {:.0} msg/s; with",
            row.churn_cpu * 100.0,
            row.calm_cpu_us_per_delivery,
            row.calm_rate,
        );
    }
    if row.bytes_per_connection > 0.0 {
        let _ = write!(
            line,
            " {:6.0} B and {:5.1} us a connection, {:.2} % idle",
            row.bytes_per_connection, row.cpu_us_per_connection, row.idle_percent
        );
    } else if row.p50_us == 0.0 && row.memory_after > 0 {
        let Row { memory_before, memory_peak, memory_after, .. } = row;
        let _ =
            write!(line, " {memory_before} KiB, at most {memory_peak}, then {memory_after} KiB");
    } else {
        let _ = write!(
            line,
            " {:8.3} us  {:9.0} msg/s  p50 {:6.0} p99 {:6.0} p99.9 {:6.0} us  own {:.2} s",
            row.cpu_us_per_delivery,
            row.rate,
            row.p50_us,
            row.p99_us,
            row.p999_us,
            row.own_cpu_seconds
        );
        if let Some(calls) = row.calls_per_delivery {
            let _ = write!(line, "  {calls:.3} calls");
        }
    }
    if !row.is_clean() {
        let Row { lost, duplicates, disordered, strays, altered, error, .. } = row;
        let _ = write!(
            line,
            "  WRONG: {lost} lost, {duplicates} double, {disordered} out of order, {strays} \
             astray, {altered} altered; {error}"
        );
    }
    line
}

type Figure = fn(&Row) -> Option<f64>;

/// What the table has of traffic, and of idle connections.
const TRAFFIC: [(&str, Figure); 8] = [
    ("CPU µs/message", |row| Some(row.cpu_us_per_delivery)),
    ("of the busiest thread", |row| Some(row.busiest_us_per_delivery)),
    ("messages/s", |row| Some(row.rate)),
    ("p50 µs", |row| Some(row.p50_us)),
    ("p99 µs", |row| Some(row.p99_us)),
    ("p99.9 µs", |row| Some(row.p999_us)),
    ("calls/message", |row| row.calls_per_delivery),
    ("wrong", |row| Some(row.faults() as f64)),
];
const IDLE: [(&str, Figure); 3] = [
    ("bytes/connection", |row| Some(row.bytes_per_connection)),
    ("CPU µs/connection", |row| Some(row.cpu_us_per_connection)),
    ("idle CPU %", |row| Some(row.idle_percent)),
];

/// All that is used is the most that messages cost. Less what churn costs alone it is the least: a
/// broker that is awake does the same for less.
const CHURNED: [(&str, Figure); 8] = [
    ("CPU µs/message", |row| Some(row.cpu_us_per_delivery)),
    ("less churn alone", |row| Some(row.less_churn_cpu_us_per_delivery)),
    ("without churn", |row| Some(row.calm_cpu_us_per_delivery)),
    ("messages/s", |row| Some(row.rate)),
    ("without churn", |row| Some(row.calm_rate)),
    ("churned/s", Row::churn_rate),
    ("churn alone, % of a CPU", |row| Some(row.churn_cpu * 100.0)),
    ("wrong", |row| Some(row.faults() as f64)),
];
const FILTERS: [(&str, Figure); 6] = [
    ("CPU µs/message", |row| Some(row.cpu_us_per_delivery)),
    ("of the busiest thread", |row| Some(row.busiest_us_per_delivery)),
    ("messages/s", |row| Some(row.rate)),
    ("bytes/filter", |row| Some(row.bytes_per_subscription)),
    ("p99 µs", |row| Some(row.p99_us)),
    ("wrong", |row| Some(row.faults() as f64)),
];
const BURST: [(&str, Figure); 4] = [
    ("KiB after", |row| Some(row.memory_after as f64)),
    ("KiB before", |row| Some(row.memory_before as f64)),
    ("KiB at most", |row| Some(row.memory_peak as f64)),
    ("wrong", |row| Some(row.faults() as f64)),
];

/// What the table has of a load.
fn figures(load: &Load) -> &'static [(&'static str, Figure)] {
    match load {
        load if load.idle > 0 => &IDLE,
        load if load.hoard => &BURST,
        load if load.churn => &CHURNED,
        load if load.wild > 0 => &FILTERS,
        _ => &TRAFFIC,
    }
}

/// Medians of all runs that ended, in Markdown; ratios are of the first broker to the others.
pub(super) fn table(rows: &[Row], scenarios: &[Scenario]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let rows: Vec<_> = rows.iter().filter(|row| row.scenario == scenario.name).collect();
        let mut brokers: Vec<&str> = Vec::new();
        for row in &rows {
            if !brokers.contains(&row.broker.as_str()) {
                brokers.push(&row.broker);
            }
        }
        let figures = figures(&scenario.load);
        let _ = writeln!(text, "\n{}: {}\n", scenario.name, scenario.about);
        let names = figures.iter().map(|(name, _)| format!(" {name} |")).collect::<String>();
        let first = brokers.first().copied().unwrap_or_default();
        let _ = writeln!(text, "| broker |{names} {first} is |");
        let _ = writeln!(text, "|---|{}---|", "---|".repeat(figures.len()));
        let figure = |broker: &str, figure: Figure| {
            let good = rows.iter().filter(|row| row.broker == broker && row.error.is_empty());
            median(good.filter_map(|row| figure(row)))
        };
        for broker in &brokers {
            let _ = write!(text, "| {broker} |");
            for (_, get) in figures {
                let value = figure(broker, *get).map(three_digits).unwrap_or_default();
                let _ = write!(text, " {value} |");
            }
            let ratio = figure(first, figures[0].1).zip(figure(broker, figures[0].1));
            let ratio = ratio.map(|(own, other)| three_digits(own / other)).unwrap_or_default();
            let _ = writeln!(text, " {ratio} |");
        }
    }
    text
}

/// What was lost, doubled and so on, a line for each run, in Markdown.
pub(super) fn faults(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n| scenario | broker | sent | delivered | lost | doubled | out of order | astray | \
         altered | ended by |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Row { scenario, broker, published, delivered, error, .. } = row;
        let Row { lost, duplicates, disordered, strays, altered, .. } = row;
        let _ = writeln!(
            text,
            "| {scenario} | {broker} | {published} | {delivered} | {lost} | {duplicates} | \
             {disordered} | {strays} | {altered} | {error} |"
        );
    }
    text
}

/// A number with three digits that count, and no fewer than it has before the point.
fn three_digits(value: f64) -> String {
    let whole = if value >= 1.0 { value.log10() as usize + 1 } else { 0 };
    let leading = if value > 0.0 && value < 0.1 { (-value.log10()) as usize } else { 0 };
    let digits = if value == 0.0 { 0 } else { (3 + leading).saturating_sub(whole) };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::super::list::ALL;
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0, 0.01234, 0.3421, 3.456, 45.67, 456.7, 45678.9].map(three_digits);
        assert_eq!(shown, ["0", "0.0123", "0.342", "3.46", "45.7", "457", "45679"]);
    }

    #[test]
    fn a_fault_of_the_first_broker_or_of_any_that_is_fulmar_is_one_of_the_comparison() {
        let clean = |first: &str, faulty: &str| {
            let brokers = [first, "fulmar-2", "other=false"];
            let brokers = brokers.map(|name| Recipe::parse(name).expect("a broker")).into();
            let comparison = Comparison { brokers, ..Comparison::default() };
            let row = |broker: &str, lost| Row { broker: broker.into(), lost, ..Row::default() };
            let names = comparison.brokers.iter().map(|recipe| &recipe.name);
            let rows: Vec<_> = names.map(|name| row(name, u64::from(name == faulty))).collect();
            comparison.is_clean(&rows)
        };
        assert!(clean("fulmar", ""));
        assert!(!clean("fulmar", "fulmar") && !clean("fulmar", "fulmar-2"));
        assert!(clean("fulmar", "other"), "another one may lose what it likes");
        assert!(!clean("mine=false", "mine") && !clean("mine=false", "fulmar-2"));
    }

    #[test]
    fn the_table_has_medians_and_ratios_and_leaves_out_runs_that_failed() {
        let row = |broker: &str, cpu| Row {
            scenario: "S1".into(),
            broker: broker.into(),
            cpu_us_per_delivery: cpu,
            ..Row::default()
        };
        let failed = Row { error: "x".into(), ..row("a", 9.0) };
        let rows = [row("a", 1.0), row("b", 4.0), row("a", 3.0), row("a", 2.0), failed];
        let text = table(&rows, &ALL[..1]);
        assert!(text.contains("| broker | CPU µs/message |"), "{text}");
        assert!(text.contains("| a | 2.00 |") && text.contains("| b | 4.00 |"), "{text}");
        assert!(text.contains("| 1.00 |\n") && text.contains("| 0.500 |\n"), "{text}");
    }
}
