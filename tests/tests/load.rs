//! The load generator against the broker of this repository: every scenario on a small scale.
#![cfg(target_os = "linux")]

use std::process::{Command, Output};

const SCENARIOS: [&str; 11] = ["S1", "S1u", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"];

fn load(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar-load"));
    command.args(arguments).output().expect("the load generator starts")
}

/// All figures of the only row in a JSON file.
fn row(file: &std::path::Path) -> serde_json::Value {
    let text = std::fs::read_to_string(file).expect("a file of rows");
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("a row")
}

/// A scenario with 200 messages: nothing is wrong, and what the broker tells is there.
fn scenario(name: &str, broker: &str, more: &[&str]) {
    let file = std::env::temp_dir();
    let file = file.join(format!("fulmar-load-{}-{name}-{broker}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let json = file.to_str().expect("a path in UTF-8");
    let mut arguments =
        vec!["compare", "--runs", "1", "--tiny", "200", "--scenario", name, "--json", json];
    arguments.extend(["--broker", broker]);
    arguments.extend(more);
    let output = load(&arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} with {broker}: {told}");
    let row = row(&file);
    let _ = std::fs::remove_file(&file);
    let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
    assert_eq!((&row["scenario"], &row["broker"]), (&name.into(), &broker.into()));
    assert!(number("memory_peak") > 0.0, "{row}");
    if name == "S8" {
        assert_eq!(number("connections"), 20.0);
        return;
    }
    // Subscribers that get a message.
    let fan = [("S4", 500.0), ("S9", 5.0)].iter().find(|(n, _)| *n == name).map_or(1.0, |f| f.1);
    assert_eq!((number("published"), number("delivered")), (200.0, 200.0 * fan), "{row}");
    assert!(number("p50_us") > 0.0 && number("p999_us") >= number("p50_us"), "{row}");
    if broker == "fulmar" {
        // A relay tells nothing; the broker reads and writes at least once in a run.
        assert!(number("calls_per_delivery") > 0.0, "{row}");
    }
}

#[test]
fn every_scenario_runs_clean() {
    for name in SCENARIOS {
        scenario(name, "fulmar", &[]);
    }
}

#[test]
fn all_speak_5_0_if_asked_to() {
    scenario("S3", "fulmar", &["--v5"]);
}

#[test]
fn several_threads_play_the_same_clients() {
    for name in ["S2", "S5", "S7"] {
        scenario(name, "fulmar", &["--threads", "3"]);
    }
}

#[test]
fn the_floor_is_a_broker_as_far_as_it_goes() {
    for name in ["S1", "S1u", "S4", "S6"] {
        scenario(name, "relay", &[]);
    }
}

#[test]
fn the_list_has_every_scenario() {
    let output = load(&["list"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let names: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, SCENARIOS);
}

#[test]
fn a_series_becomes_pictures() {
    let folder = std::env::temp_dir().join(format!("fulmar-load-{}-plot", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (json, out) = (folder.join("rows"), folder.to_str().expect("a path in UTF-8"));
    let json = json.to_str().expect("a path in UTF-8");
    for (over, at) in [("connections", "2,10"), ("subscriptions", "10,100")] {
        let output = load(&[
            "sweep",
            "--over",
            over,
            "--at",
            at,
            "--runs",
            "1",
            "--messages",
            "200",
            "--broker",
            "fulmar",
            "--json",
            json,
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // The built-in broker is not told about shards yet: that is said, and not passed over.
    assert!(!load(&["sweep", "--over", "shards", "--broker", "relay"]).status.success());
    let output = load(&["plot", "--json", json, "--out", out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["connections.svg", "subscriptions.svg"] {
        let svg = std::fs::read_to_string(folder.join(name)).expect("a picture");
        assert!(svg.starts_with("<svg") && svg.contains("<polyline"), "{svg}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder is there");
}
