//! What the fuzzer starts from and what it found, replayed.
//!
//! Seeds and dictionary are made by `seeds.rs`, and written for the fuzzer by
//! `FUZZ_SEEDS=write cargo test -p fulmar-tests --test corpus`. `fuzz/cases` is what was found.

mod program;
mod seeds;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fulmar_core::fuzzing;

/// A fuzz target by its name.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 10] = [
    ("broker_ops", fuzzing::broker_ops),
    ("client_connection", fuzzing::client_connection),
    ("config", config),
    ("decode", fuzzing::decode),
    ("frame", fuzzing::frame),
    ("recording", fuzzing::recording),
    ("reencode", fuzzing::reencode),
    ("server_connection", fuzzing::server_connection),
    ("shard_ops", fuzzing::shard_ops),
    ("topics", fuzzing::topics),
];

fn config(data: &[u8]) {
    if let Ok(yaml) = std::str::from_utf8(data)
        && let Err(error) = fulmar::Settings::parse(yaml)
    {
        assert!(error.line >= 1 && error.column >= 1 && !error.message.contains('\n'), "{error}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files of a folder by name; none if there is no folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    entries
        .map(|entry| {
            let path = entry.expect("a folder that can be read").path();
            let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            (name, fs::read(&path).expect("a file that can be read"))
        })
        .collect()
}

#[test]
fn all_seeds_and_cases_pass() {
    for (target, run) in TARGETS {
        let seeds = seeds::of(target);
        assert!(!seeds.is_empty(), "{target} starts from nothing");
        for (name, bytes) in seeds.into_iter().chain(files(&folder().join("cases").join(target))) {
            println!("{target}/{name}");
            run(&bytes);
        }
    }
}

#[test]
fn every_target_of_the_fuzzer_is_replayed() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("a manifest");
    let mut paths: Vec<_> =
        manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
    paths.sort_unstable();
    let known: Vec<_> = TARGETS.iter().map(|(target, _)| format!("{target}.rs\"")).collect();
    assert_eq!(paths, known);
    for entry in fs::read_dir(folder().join("cases")).expect("a folder") {
        let name = entry.expect("a folder that can be read").file_name();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name:?}");
    }
}

#[test]
fn seeds_and_dictionary_are_written_where_wanted() {
    let dictionary = seeds::dictionary();
    assert!(dictionary.lines().filter(|line| line.contains('=')).count() > 27);
    if std::env::var_os("FUZZ_SEEDS").is_none_or(|value| value != "write") {
        return;
    }
    for (target, _) in TARGETS {
        let folder = folder().join("seeds").join(target);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in seeds::of(target) {
            fs::write(folder.join(name), bytes).expect("a file that can be written");
        }
    }
    fs::write(folder().join("dictionary"), dictionary).expect("a file that can be written");
}
