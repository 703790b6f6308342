//! A load generator: what a broker costs, and whether it loses, doubles or disorders messages.
//!
//! A thread, or several, plays all clients (`engine`) and stamps each message with time and
//! number; the numbers tell what is wrong (`check`), the times how long it took (`histogram`),
//! and `/proc` what the broker used (`usage`). Brokers are processes (`broker`), measured in
//! turn (`compare`). Everything is on loopback and ends by itself. Linux only.

mod all;
mod awake;
mod broker;
mod check;
mod churn;
mod compare;
mod engine;
#[cfg(test)]
mod fake;
mod histogram;
mod link;
mod list;
mod measure;
mod memory;
mod model;
mod names;
mod parts;
mod plot;
mod relay;
mod row;
mod scenario;
mod serve;
mod svg;
mod sweep;
mod system;
mod usage;
mod wire;

use std::error::Error;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use fulmar_core::Version;

use broker::Recipe;
use compare::Comparison;
use engine::Patience;
use list::{ALL, Scenario};
use measure::{Target, measure};
use row::Row;

use sweep::Over;

/// Measures MQTT brokers.
#[derive(Debug, Parser)]
#[command(name = "fulmar-load", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run brokers through scenarios, in turn, and print medians side by side.
    ///
    /// Runs alternate between the brokers, so that a machine with other work hurts all of them
    /// alike. Ends with 1 if the first broker, or another one whose name begins with fulmar, lost,
    /// doubled, disordered or altered a message.
    Compare {
        #[command(flatten)]
        brokers: Brokers,
        /// Names of scenarios with commas between; all if not given.
        #[arg(long, value_delimiter = ',', value_parser = scenario)]
        scenario: Vec<Scenario>,
        /// Have all clients speak MQTT 5.0.
        #[arg(long)]
        v5: bool,
        /// So many messages in each run, and few filters and connections: a test of the way.
        #[arg(long, value_name = "MESSAGES")]
        tiny: Option<u64>,
        /// Keep the cores awake meanwhile, for latency (S7): an idle virtual core takes its host
        /// milliseconds to wake. Needs `chrt` of util-linux.
        #[arg(long)]
        keep_awake: bool,
    },
    /// Measure everything that BENCHMARKS.md has, and draw the pictures.
    ///
    /// Each part becomes a file in the folder; parts that are there are not measured again, so
    /// that a run that was ended goes on. Tables of all parts are printed, and are in all.md.
    All {
        /// The folder for figures, tables and pictures.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Runs of each scenario; of each point of a series two fewer.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Only these parts, with commas between; `--list` tells their names.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Keep the cores awake during S7, as with `compare`.
        #[arg(long)]
        keep_awake: bool,
        /// Tell the names of the parts and end.
        #[arg(long)]
        list: bool,
        /// So many messages in each run, and few filters and connections: a test of the way.
        #[arg(long, value_name = "MESSAGES")]
        tiny: Option<u64>,
    },
    /// Measure a series for pictures.
    Sweep {
        #[command(flatten)]
        brokers: Brokers,
        /// Names of scenarios with commas between; not for subscriptions.
        #[arg(long, value_delimiter = ',', value_parser = scenario)]
        scenario: Vec<Scenario>,
        /// What to vary.
        #[arg(long, value_enum)]
        over: Over,
        /// The values; a choice if not given.
        #[arg(long, value_delimiter = ',')]
        at: Vec<u64>,
        /// Messages in each run.
        #[arg(long)]
        messages: Option<u64>,
    },
    /// Draw the series of a JSON file as SVG: throughput and CPU for each message.
    Plot {
        /// A file made by `sweep --json`.
        #[arg(long, value_name = "FILE")]
        json: PathBuf,
        /// The folder for the pictures.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Say what more cores would give, from a series over shards, in Markdown.
    ///
    /// See "Scale" in BENCHMARKS.md for the formula and what it assumes.
    Model {
        /// A file made by `sweep --over shards --json`.
        #[arg(long, value_name = "FILE")]
        json: PathBuf,
        /// Connections that share the load evenly: few of them are spread unevenly over shards.
        #[arg(long, default_value_t = 10_000)]
        connections: u64,
        /// Numbers of cores.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16, 32, 64])]
        cores: Vec<u64>,
    },
    /// Say what the bytes of an idle connection are, part by part.
    ///
    /// The parts of the core are measured in this process, without sockets, by the memory it
    /// takes; the rest of what the broker takes over TCP is the adapter's. The kernel's memory
    /// is not counted.
    Parts {
        /// How many; S8 has 19,500.
        #[arg(long, default_value_t = 19_500)]
        connections: usize,
        /// Append the parts to this file, an object a line.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Run one scenario against a broker that runs already, and print JSON.
    Run {
        /// Where it listens.
        #[arg(long)]
        addr: SocketAddrV4,
        /// Its process, for CPU and memory.
        #[arg(long, default_value_t = 0)]
        pid: u32,
        /// The name of a scenario.
        #[arg(long, value_parser = scenario)]
        scenario: Scenario,
        /// Messages of all publishers together.
        #[arg(long)]
        messages: Option<u64>,
    },
    /// List the scenarios.
    List,
    /// Be the broker of this repository, and tell its counters for each line on standard input.
    Serve {
        /// Its configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Threads, instead of the configured number.
        #[arg(long)]
        shards: Option<u16>,
    },
    /// Keep a core awake until the process that started it has ended; `--keep-awake` starts it.
    Spin {
        /// The number of the core.
        #[arg(long)]
        core: usize,
        /// The number of the process that started it.
        #[arg(long)]
        parent: u32,
    },
    /// Be a broker that copies bytes without reading them: QoS 0, no wildcards.
    Relay {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddrV4,
    },
}

#[derive(Debug, clap::Args)]
struct Brokers {
    /// NAME=COMMAND, where {port} is a free port, {dir} a folder with fulmar.yaml,
    /// mosquitto.conf and rumqttd.toml, {shards} a number; or one of fulmar, fulmar-2 and fulmar-4
    /// (with so many shards), relay, mosquitto, rumqttd. Several may be given; fulmar and relay if
    /// none is.
    #[arg(long = "broker", value_parser = Recipe::parse)]
    brokers: Vec<Recipe>,
    /// Runs of each.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Threads that play the clients, where publishers and subscribers are pairs.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Have publishers stop after so many seconds, with however many messages: figures are of
    /// those that were delivered. Not with a rate (S7).
    #[arg(long)]
    seconds: Option<u64>,
    /// Append every run to this file, an object a line.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Brokers {
    fn comparison(self, scenarios: Vec<Scenario>) -> Result<Comparison, String> {
        let Self { mut brokers, runs, threads, seconds, json } = self;
        if brokers.is_empty() {
            brokers = ["fulmar", broker::RELAY]
                .map(Recipe::parse)
                .into_iter()
                .collect::<Result<_, _>>()?;
        }
        let enough = seconds.map(Duration::from_secs);
        let patience = Patience { enough, ..Patience::default() };
        Ok(Comparison {
            brokers,
            scenarios,
            runs,
            threads,
            json,
            patience,
            ..Comparison::default()
        })
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let names = || ALL.map(|scenario| scenario.name).join(", ");
    let found = ALL.into_iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| format!("expected one of {}", names()))
}

/// The program; see `fulmar-load --help`.
#[must_use]
pub fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fulmar-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked, and says whether what was measured is right.
fn run(command: Command) -> Result<bool, Box<dyn Error>> {
    system::prepare();
    match command {
        Command::Compare { brokers, scenario, v5, tiny, keep_awake } => {
            let scenarios = if scenario.is_empty() { ALL.to_vec() } else { scenario };
            let scenarios = scenarios.into_iter().map(|scenario| adapted(scenario, v5, tiny));
            let mut comparison = brokers.comparison(scenarios.collect())?;
            comparison.awake = keep_awake;
            let rows = comparison.run()?;
            println!("{}", compare::table(&rows, &comparison.scenarios));
            Ok(comparison.is_clean(&rows))
        }
        Command::All { out, runs, only, keep_awake, list, tiny } => {
            let plan = all::Plan { out, runs: runs.max(1), only, keep_awake, tiny };
            if list {
                plan.names().iter().for_each(|name| println!("{name}"));
                return Ok(true);
            }
            plan.run()
        }
        Command::Sweep { brokers, scenario, over, at, messages } => {
            if over == Over::Subscriptions && !scenario.is_empty() {
                return Err("a series over subscriptions has a scenario of its own".into());
            }
            let comparison = brokers.comparison(scenario)?;
            let points = if at.is_empty() { over.points() } else { &at };
            let rows = sweep::sweep(&comparison, over, points, messages)?;
            if rows.is_empty() {
                return Err("no broker has {shards} in its command".into());
            }
            Ok(comparison.is_clean(&rows))
        }
        Command::Plot { json, out } => {
            for path in plot::plot(&Row::load(&json)?, &out)? {
                println!("{}", path.display());
            }
            Ok(true)
        }
        Command::Model { json, connections, cores } => {
            print!("{}", model::table(&Row::load(&json)?, connections, &cores)?);
            Ok(true)
        }
        Command::Parts { connections, json } => {
            let rows = parts::measure(connections)?;
            print!("{}", parts::table(&rows));
            if let Some(file) = json {
                rows.iter().try_for_each(|row| row.save(&file))?;
            }
            Ok(rows.iter().all(Row::is_clean))
        }
        Command::Run { addr, pid, scenario, messages } => {
            let mut load = scenario.load;
            load.messages = messages.unwrap_or(load.messages);
            let mut target = Target { addr, pid, running: None };
            let row = measure(&load, &mut target, Patience::default());
            let row = Row { scenario: scenario.name.into(), ..row };
            println!("{}", serde_json::to_string(&row)?);
            Ok(row.is_clean())
        }
        Command::List => {
            ALL.iter().for_each(|scenario| println!("{:4} {}", scenario.name, scenario.about));
            Ok(true)
        }
        Command::Serve { config, shards } => serve::serve(&config, shards).map(|()| true),
        Command::Spin { core, parent } => awake::spin(core, parent).map(|()| true),
        Command::Relay { listen } => Ok(relay::serve(listen).map(|()| true)?),
    }
}

/// A scenario as the options want it.
fn adapted(mut scenario: Scenario, v5: bool, tiny: Option<u64>) -> Scenario {
    if v5 {
        scenario.load.version = Version::V5;
    }
    if let Some(messages) = tiny {
        scenario.load = scenario.load.tiny(messages);
    }
    scenario
}
