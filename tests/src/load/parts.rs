//! What the bytes of an idle connection are.

use std::error::Error;
use std::fmt::Write as _;

use fulmar_core::broker::Config;
use fulmar_core::{Qos, Version};

use super::broker::Recipe;
use super::compare::{Comparison, Place};
use super::list::{ALL, Scenario};
use super::row::Row;
use super::scenario::Load;
use super::usage::Usage;
use crate::packet;
use crate::shard::Shard;

/// Their name in rows.
const NAME: &str = "parts";

/// Measures the parts: a row each, its name where that of the broker is; the whole comes last.
///
/// # Errors
/// The broker cannot be started. What goes wrong later stands in the last row.
pub(super) fn measure(connections: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = core(connections);
    let s8 = ALL.into_iter().find(|scenario| scenario.name == "S8").expect("S8");
    let scenario = Scenario { load: Load { idle: connections, ..s8.load }, ..s8 };
    let recipe = Recipe::parse("fulmar")?;
    let whole = Comparison::default().run_once(&recipe, &scenario, Place::default());
    let inside: f64 = rows.iter().map(|row| row.bytes_per_connection).sum();
    rows.push(part(
        "adapter: socket, poller, what the allocator adds",
        whole.bytes_per_connection - inside,
    ));
    let broker = "all, over TCP".into();
    rows.push(Row { scenario: NAME.into(), broker, ..whole });
    Ok(rows)
}

fn part(name: &str, bytes: f64) -> Row {
    let (scenario, broker) = (NAME.into(), name.into());
    Row { scenario, broker, bytes_per_connection: bytes, ..Row::default() }
}

/// The parts of the core: as many connections as asked for, each step for all of them, and what
/// memory each step took.
fn core(connections: usize) -> Vec<Row> {
    let count = connections.max(1) as f64;
    let config = Config {
        max_connections: u32::MAX,
        max_unauthenticated: u32::MAX,
        max_unauthenticated_per_address: u32::MAX,
        ..Config::default()
    };
    let mut shard = Shard::new(config);
    let mut rows = Vec::new();
    let memory = || Usage::of(std::process::id()).memory as f64 * 1024.0;
    let mut before = memory();
    let mut add = |name: &str, rows: &mut Vec<Row>| {
        let now = memory();
        rows.push(part(name, (now - before) / count));
        before = now;
    };
    let open: Vec<_> = (0..connections).map(|_| shard.open()).collect();
    // The list is ours.
    let own = size_of_val(&open[..]) as f64 / count;
    add("core: connection", &mut rows);
    rows[0].bytes_per_connection -= own;
    for (number, conn) in open.iter().enumerate() {
        let client_id = format!("fulmar-load-idle-{number}");
        shard.receive(*conn, &packet::connect(Version::V311, &client_id, true));
    }
    add("core: session, from CONNECT on", &mut rows);
    for (number, conn) in open.iter().enumerate() {
        let filter = format!("device/{number}/command");
        shard.receive(*conn, &packet::subscribe(Version::V311, 1, &filter, Qos::AtMostOnce));
    }
    add("core: subscription, its filter and the index", &mut rows);
    rows
}

/// The parts in Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from("| part of an idle connection | bytes |\n|---|---|\n");
    for row in rows.iter().filter(|row| row.scenario == NAME) {
        let _ = writeln!(text, "| {} | {:.0} |", row.broker, row.bytes_per_connection);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_has_three_parts_and_each_takes_memory() {
        let rows = core(5_000);
        let bytes: Vec<_> = rows.iter().map(|row| row.bytes_per_connection).collect();
        assert_eq!(bytes.len(), 3);
        assert!(bytes.iter().sum::<f64>() > 500.0, "{bytes:?}");
        assert_eq!(table(&rows).lines().count(), 2 + 3);
    }
}
