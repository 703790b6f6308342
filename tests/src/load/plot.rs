//! Pictures of series: throughput and CPU for each message.

use std::io;
use std::path::{Path, PathBuf};

use super::row::{Row, median};
use super::svg::{Chart, Curve, picture};
use super::sweep::Over;

/// Medians of one figure, a curve for each broker, and for each scenario if there are several.
fn curves(rows: &[&Row], figure: fn(&Row) -> f64) -> Vec<Curve> {
    let several = rows.iter().any(|row| row.scenario != rows[0].scenario);
    let name = |row: &Row| {
        let scenario = if several { format!(", {}", row.scenario) } else { String::new() };
        let pinned = if row.pinned { ", nothing crosses" } else { "" };
        format!("{}{scenario}{pinned}", row.broker)
    };
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        if !names.contains(&name(row)) {
            names.push(name(row));
        }
    }
    let curve = |wanted: &String| {
        let rows: Vec<_> = rows.iter().filter(|row| name(row) == *wanted).collect();
        let mut places: Vec<_> = rows.iter().map(|row| row.at).collect();
        places.sort_unstable();
        places.dedup();
        let value = |at| median(rows.iter().filter(|row| row.at == at).map(|row| figure(row)));
        let points = places.into_iter().filter_map(|at| Some((at as f64, value(at)?)));
        Curve { name: wanted.clone(), points: points.collect() }
    };
    names.iter().map(curve).collect()
}

/// Writes `shards.svg`, `connections.svg` and `subscriptions.svg` into a folder, each if the rows
/// have such a series, and gives the paths. Runs that failed are left out.
///
/// # Errors
/// A file cannot be written, or there is no series at all.
pub(super) fn plot(rows: &[Row], folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for over in Over::ALL {
        let wanted = |row: &&Row| row.over == over.name() && row.error.is_empty();
        let rows: Vec<&Row> = rows.iter().filter(wanted).collect();
        if rows.is_empty() {
            continue;
        }
        let chart = |title: &str, figure| Chart {
            title: title.into(),
            below: format!("{} (logarithmic)", over.name()),
            curves: curves(&rows, figure),
        };
        let mut names: Vec<&str> = rows.iter().map(|row| row.scenario.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let title = format!("Throughput and CPU against {}", over.name());
        let about = format!("{}; medians; payloads of 64 bytes", names.join(", "));
        let charts = [
            chart("delivered, messages/s", |row| row.rate),
            chart("CPU of the broker, µs/message", |row| row.cpu_us_per_delivery),
        ];
        let svg = picture(&title, &about, &charts);
        let path = folder.join(format!("{}.svg", over.name()));
        std::fs::write(&path, svg)?;
        written.push(path);
    }
    if written.is_empty() {
        return Err(io::Error::other("there is no series in the file; measure one with `sweep`"));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(broker: &str, at: u64, rate: f64) -> Row {
        Row { broker: broker.into(), over: "shards".into(), at, rate, ..Row::default() }
    }

    #[test]
    fn curves_are_medians_in_order() {
        let rows = [row("a", 2, 5.0), row("a", 1, 1.0), row("b", 1, 9.0), row("a", 1, 3.0)];
        let curves = curves(&rows.iter().collect::<Vec<_>>(), |row| row.rate);
        assert_eq!(curves.len(), 2);
        assert_eq!(
            (curves[0].name.as_str(), &curves[0].points[..]),
            ("a", &[(1.0, 2.0), (2.0, 5.0)][..])
        );
        assert_eq!(curves[1].points, [(1.0, 9.0)]);
    }

    #[test]
    fn without_a_series_there_is_no_picture() {
        let rows = [Row::default(), Row { error: "x".into(), ..row("a", 1, 1.0) }];
        assert!(plot(&rows, Path::new("/nowhere")).is_err());
    }
}
