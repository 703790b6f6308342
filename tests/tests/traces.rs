//! Protocol traces: each file of `traces/` against its snapshot.
//!
//! `INSTA_UPDATE=always cargo test -p fulmar-tests --test traces` writes the snapshots anew; read
//! the difference before you commit it. `TRACE=part` runs those whose path has that part.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fulmar_tests::cites::cites;
use fulmar_tests::trace::{self, Several, outside};

const SNAPSHOTS: &str = "snapshots";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces")
}

/// The name of each trace, `folder/file` without the ending, and its path.
fn traces() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for folder in fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()) {
        if !folder.is_dir() || folder.ends_with(SNAPSHOTS) {
            continue;
        }
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            assert!(file.extension().is_some_and(|end| end == "trace"), "no trace: {file:?}");
            let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_string();
            found.push((format!("{}/{}", stem(&folder), stem(&file)), file));
        }
    }
    found.sort();
    found
}

fn snapshot(name: &str) -> String {
    name.replace('/', "__")
}

fn check(name: &str, path: &Path) {
    let file = fs::read_to_string(path).unwrap();
    let listing = trace::run(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
    let head = trace::head(&file);
    let _cited = cites(&format!("traces::{}", name.replace('/', "::")), &head.cites.join(" "));
    assert!(!head.text.is_empty(), "{name} does not say what it shows");
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(folder().join(SNAPSHOTS));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(head.text);
    settings.bind(|| insta::assert_snapshot!(snapshot(name), listing));
}

#[test]
fn every_trace_gives_what_its_snapshot_says() {
    let only = std::env::var("TRACE").unwrap_or_default();
    let mut failed = Vec::new();
    let traces = traces();
    for (name, path) in traces.iter().filter(|(name, _)| name.contains(&only)) {
        if catch_unwind(AssertUnwindSafe(|| check(name, path))).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} traces differ: {failed:#?}", failed.len());
    let snapshots: BTreeSet<String> = traces.iter().map(|(name, _)| snapshot(name)).collect();
    for entry in fs::read_dir(folder().join(SNAPSHOTS)).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.trim_end_matches(".new").trim_end_matches(".snap");
        assert!(snapshots.contains(name), "{file} belongs to no trace");
    }
}

/// Compares with the listing of one shard; gives how many connections were handed over, and how
/// many messages went from shard to shard.
fn check_with(name: &str, path: &Path, shards: u16) -> [u64; 2] {
    let file = fs::read_to_string(path).unwrap();
    let sorted = match trace::head(&file).several {
        Several::Same => false,
        Several::Order => true,
        Several::One => return [0; 2],
    };
    let listing = trace::run(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (several, moved) = trace::run_on(&file, shards).unwrap_or_else(|e| panic!("{name}: {e}"));
    let [one, several] = [listing, several].map(|listing| outside(&listing, sorted));
    let differing = one.lines().zip(several.lines()).find(|(one, several)| one != several);
    assert_eq!(differing, None, "{name} with {shards} shards");
    assert_eq!(one.len(), several.len(), "{name} with {shards} shards");
    moved
}

#[test]
fn several_shards_are_one_broker_to_whoever_looks_from_outside() {
    let only = std::env::var("TRACE").unwrap_or_default();
    let traces = traces();
    let mut failed = Vec::new();
    for shards in [2, 3] {
        let mut moved = [0, 0];
        for (name, path) in traces.iter().filter(|(name, _)| name.contains(&only)) {
            match catch_unwind(AssertUnwindSafe(|| check_with(name, path, shards))) {
                Ok(more) => moved.iter_mut().zip(more).for_each(|(sum, count)| *sum += count),
                Err(_) => failed.push((shards, name)),
            }
        }
        println!("{shards} shards: {moved:?}");
        let least = if only.is_empty() { [150, 800] } else { [0; 2] };
        let enough = moved.iter().zip(least).all(|(count, least)| *count >= least);
        assert!(enough, "{moved:?} connections handed over and messages between shards");
    }
    assert!(failed.is_empty(), "{} traces differ: {failed:#?}", failed.len());
}
