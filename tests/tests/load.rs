//! The load generator against the broker of this repository: every scenario on a small scale.
#![cfg(target_os = "linux")]

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for something that comes soon.
const LIMIT: Duration = Duration::from_secs(60);

const SCENARIOS: [&str; 18] = [
    "S1", "S1u", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S11c", "S12",
    "S12c", "S13", "S14", "S14c",
];

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
    let mqtt = if name == "S10" || more.contains(&"--v5") { "5.0" } else { "3.1.1" };
    assert_eq!((&row["mqtt"], &row["tiny"]), (&mqtt.into(), &true.into()));
    let shards = [("fulmar", 1), ("fulmar-2", 2), ("fulmar-4", 4)];
    let shards = shards.iter().find(|(known, _)| *known == broker).map(|(_, count)| *count);
    assert_eq!(row["shards"].as_u64(), shards, "{row}");
    if name == "S8" {
        assert_eq!(number("connections"), 20.0);
        return;
    }
    // Subscribers that get a message.
    let fan = [("S4", 500.0), ("S9", 5.0)].iter().find(|(n, _)| *n == name).map_or(1.0, |f| f.1);
    assert_eq!((number("published"), number("delivered")), (200.0, 200.0 * fan), "{row}");
    if ["S11", "S11c", "S12", "S12c"].contains(&name) {
        assert!(number("bytes_per_subscription") > 0.0, "{row}");
    }
    for key in ["churned", "churn_cpu", "calm_rate"] {
        assert_eq!(number(key) > 0.0, name.ends_with('c'), "{row}");
    }
    if name == "S13" {
        // Two hundred messages of 1 KiB, and what a broker needs to serve at all.
        let left = number("memory_after") - number("memory_before");
        assert!(left < 2048.0 && number("memory_before") > 0.0, "{row}");
        return;
    }
    let latency = row["latency"].as_array().expect("a list").iter();
    let timed = latency.map(|pair| pair[1].as_u64().expect("a number")).sum::<u64>();
    assert_eq!(timed as f64, number("delivered"), "{row}");
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
    let shards = ["sweep", "--over", "shards", "--at", "1,2", "--runs", "1", "--messages", "200"];
    let output = load(&[&shards[..], &["--broker", "fulmar", "--json", json]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A relay has no shards: that is said, and not passed over.
    assert!(!load(&["sweep", "--over", "shards", "--broker", "relay"]).status.success());
    let output = load(&["model", "--json", json]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("S1, fulmar: c(n) ="), "{text}");
    assert!(text.contains("less what as many cost when nothing crosses"), "{text}");
    let output = load(&["plot", "--json", json, "--out", out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["connections.svg", "shards.svg", "subscriptions.svg"] {
        let svg = std::fs::read_to_string(folder.join(name)).expect("a picture");
        assert!(svg.starts_with("<svg") && svg.contains("<polyline"), "{svg}");
        assert_eq!(svg.contains("fulmar, nothing crosses"), name == "shards.svg", "{svg}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder is there");
}

#[test]
fn two_shards_and_four_serve_the_same() {
    for name in ["S1", "S4", "S7", "S12c", "S13", "S14c"] {
        scenario(name, "fulmar-2", &[]);
        scenario(name, "fulmar-4", &[]);
    }
}

#[test]
fn an_idle_connection_has_parts() {
    let output = load(&["parts", "--connections", "200"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("| core: connection |") && text.contains("| all, over TCP |"), "{text}");
}

/// All processes of this name with this word among their arguments.
fn processes(word: &str) -> Vec<String> {
    let folders = std::fs::read_dir("/proc").expect("the system tells").flatten();
    let lines = folders.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    // Not before `chrt` has become the process itself: at that moment it has no name at all.
    let spins = |line: &String| line.contains("fulmar-load spin") && !line.contains("chrt");
    lines.filter(|line| spins(line) && line.contains(word)).collect()
}

#[test]
fn cores_are_kept_awake_as_long_as_the_generator_lives() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar-load"));
    let arguments = ["compare", "--keep-awake", "--broker", "fulmar", "--scenario", "S7"];
    let mut child = command.args(arguments).stderr(Stdio::null()).spawn().expect("it starts");
    let (word, end) = (format!("--parent {}", child.id()), Instant::now() + LIMIT);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    while processes(&word).len() < cores {
        assert_eq!(child.try_wait().expect("it is ours"), None, "`chrt` of util-linux is needed");
        assert!(Instant::now() < end, "{:?}", processes(&word));
        thread::yield_now();
    }
    // It has no time to end them.
    child.kill().expect("it lives");
    child.wait().expect("it was killed");
    while !processes(&word).is_empty() && Instant::now() < end {
        thread::yield_now();
    }
    assert_eq!(processes(&word), Vec::<String>::new());
}

#[test]
fn who_has_no_tool_to_keep_cores_awake_is_told() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar-load"));
    let arguments = ["compare", "--keep-awake", "--broker", "fulmar", "--tiny", "10"];
    let output = command.args(arguments).env("PATH", "/nowhere").output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("`chrt` of util-linux"), "{told}");
}

#[test]
fn four_shards_are_looked_at_in_all_that_delivers() {
    let folder = std::env::temp_dir().join(format!("fulmar-load-{}-four", std::process::id()));
    let out = folder.to_str().expect("a path in UTF-8");
    let output = load(&["all", "--out", out, "--tiny", "100", "--only", "shards-4"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(folder.join("all.md")).expect("a table");
    for name in SCENARIOS.into_iter().filter(|name| *name != "S8") {
        let fan = [("S4", 500), ("S9", 5)].iter().find(|(n, _)| *n == name).map_or(1, |f| f.1);
        let line = format!("| {name} | fulmar-4 | 100 | {} | 0 | 0 | 0 | 0 | 0 |  |\n", 100 * fan);
        assert!(text.contains(&line), "{name}: {text}");
    }
    assert_eq!(text.lines().filter(|line| line.contains("fulmar-4")).count(), SCENARIOS.len() - 1);
    std::fs::remove_dir_all(&folder).expect("the folder is there");
}

#[test]
fn all_goes_on_where_it_was_ended() {
    let folder = std::env::temp_dir().join(format!("fulmar-load-{}-all", std::process::id()));
    let out = folder.to_str().expect("a path in UTF-8");
    let run = |only| load(&["all", "--out", out, "--runs", "1", "--tiny", "100", "--only", only]);
    // Peers that are not installed have rows that say so.
    let output = run("S2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(folder.join("series-shards.part"), "half a line").expect("a file");
    let output = run("S2,series-shards");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("S2 (1 of 2) is there"), "{told}");
    let text = std::fs::read_to_string(folder.join("all.md")).expect("tables");
    assert!(text.contains("S2: ") && text.contains("S4, fulmar: c(n) ="), "{text}");
    assert!(folder.join("shards.svg").exists() && !folder.join("series-shards.part").exists());
    assert!(!run("S99").status.success());
    std::fs::remove_dir_all(&folder).expect("the folder is there");
}
