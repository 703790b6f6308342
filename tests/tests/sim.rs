//! Seeds of the simulation, see [`fulmar_tests::sim`].
//!
//! `SIM_SEED=n` runs one seed and prints what happened; `SIM_SEEDS=count` runs so many, from
//! `SIM_FIRST` on; `SIM_SECONDS=limit` runs seeds that nobody has tried for so long, from a start
//! that is drawn and printed. How many shards there are each seed draws, unless `SIM_SHARDS=n`
//! says it. `SIM_ALL=1` does not stop at the first seed that fails, and lists all.

use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fulmar_tests::sim::{Report, Violation, run, trace};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A seed that nobody has tried.
fn fresh() -> u64 {
    RandomState::new().hash_one(0) >> 24
}

fn explain(seed: u64, violation: &Violation, lines: usize) -> String {
    let trace = trace(seed);
    // Without it the seed would draw another number.
    let shards = number("SIM_SHARDS").map_or(String::new(), |n| format!("SIM_SHARDS={n} "));
    let from = trace.len().saturating_sub(lines);
    format!(
        "{}\n{}\nSIM_FOUND seed={seed} checker={}\n{}\n\
         repeat with: {shards}SIM_SEED={seed} cargo test -p fulmar-tests --test sim",
        trace[0],
        trace[from..].join("\n"),
        violation.checker,
        violation.what,
    )
}

/// The first seed that fails, of those from `first` on, with what was found.
fn search(first: u64, count: u64, limit: Duration) -> (Report, u64, Option<(u64, Violation)>) {
    let (next, ran) = (AtomicU64::new(first), AtomicU64::new(0));
    let found: Mutex<(Report, Option<(u64, Violation)>)> = Mutex::default();
    let start = Instant::now();
    let all = number("SIM_ALL").is_some();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || start.elapsed() > limit {
                return;
            }
            let result = run(seed);
            ran.fetch_add(1, Ordering::Relaxed);
            let mut found = found.lock().expect("no thread panics here");
            match result {
                Ok(report) => {
                    found.0.calls += report.calls;
                    found.0.messages += report.messages;
                    found.0.filled += report.filled;
                    found.0.given += report.given;
                    found.0.cut += report.cut;
                }
                Err(violation) => {
                    if all {
                        println!("SIM_FOUND seed={seed} checker={}", violation.checker);
                    } else {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                    }
                    if found.1.as_ref().is_none_or(|(known, _)| seed < *known) {
                        found.1 = Some((seed, violation));
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (report, violation) = found.into_inner().expect("no thread panics here");
    (report, ran.into_inner(), violation)
}

#[test]
fn every_rule_holds_for_every_seed() {
    if let Some(seed) = number("SIM_SEED") {
        let lines = number("SIM_LINES").unwrap_or(400) as usize;
        match run(seed) {
            Ok(report) => println!("seed {seed} holds: {report:?}"),
            Err(violation) => panic!("{}", explain(seed, &violation, lines)),
        }
        return;
    }
    let limit = number("SIM_SECONDS").map(Duration::from_secs);
    let first = number("SIM_FIRST").unwrap_or_else(|| limit.map_or(1, |_| fresh()));
    let count = number("SIM_SEEDS").unwrap_or(limit.map_or(SEEDS, |_| u64::from(u32::MAX)));
    println!("seeds from {first} on");
    let (report, ran, violation) = search(first, count, limit.unwrap_or(Duration::MAX));
    if let Some((seed, violation)) = violation {
        panic!("{}", explain(seed, &violation, 60));
    }
    let Report { calls, messages, filled, given, cut } = report;
    println!("{ran} seeds, {calls} calls, {messages} messages");
    println!("{filled} reads into memory of a large packet, {given} into memory that was taken");
    println!("{cut} reads in pieces");
    assert!(ran < SEEDS || filled > 0 && given > 0, "no large packet was read into memory");
    assert!(ran < SEEDS || cut > 0, "no read was in pieces");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 3..9 {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.len() > 100);
        assert_eq!(first, second);
    }
}
