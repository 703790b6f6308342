//! How many instructions each piece of work takes, against stored values.
//!
//! `cachegrind` of valgrind counts the instructions of a whole program; the program does `FEW`
//! rounds of one piece of work, then in another run `MANY`. The difference is what the rounds took,
//! without start, preparation and growth of what is kept. The same program gives the same count on
//! every run, so a count above the stored one is a change of the program.
//!
//! What a count depends on besides, and what is done about it:
//!
//! - functions of the C library chosen by the CPU's features: those of the oldest are asked for;
//! - environment and arguments, which move the stack: the environment is emptied;
//! - the compiler: its version is stored, and another one gets a wider tolerance, since it decides
//!   anew what to inline; a clear message asks for new values.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::{ALL, Micro};

/// Rounds of the two runs. The first ones bring every vector to its size.
const FEW: u64 = 300;
const MANY: u64 = 1_300;
/// What a count may be above the stored one, in percent; and with another compiler.
const TOLERANCE: f64 = 3.0;
const OTHER_COMPILER: f64 = 10.0;
/// Instructions that a count may be above the stored one in any case.
const ROUNDING: f64 = 2.0;

/// No use of newer instructions in `memcpy` and its kin, whatever the CPU has.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable,-AVX,\
    -ERMS,-FSRM,-BMI2,-MOVBE,-LZCNT,-RTM,-SSE4_2,-SSSE3,-Fast_Unaligned_Copy,\
    -AVX_Fast_Unaligned_Load,-Prefer_No_VZEROUPPER";

const USAGE: &str = "\
fulmar-budget               count instructions and compare with the stored values
fulmar-budget --renew       count, and store what was counted
fulmar-budget round NAME N  do a piece of work N times";

/// The stored values: `name instructions` in each line, and where they are from.
struct Stored {
    compiler: String,
    counts: BTreeMap<String, f64>,
}

impl Stored {
    fn parse(text: &str) -> Result<Self, String> {
        let mut stored = Self { compiler: String::new(), counts: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match line.strip_prefix('#') {
                Some(comment) => {
                    if let Some(compiler) = comment.trim().strip_prefix("compiler: ") {
                        stored.compiler = compiler.into();
                    }
                }
                None => {
                    let mut words = line.split_whitespace();
                    let name = words.next().unwrap_or_default().to_owned();
                    let count = words.next().and_then(|word| word.parse().ok());
                    stored.counts.insert(name, count.ok_or(format!("not a value: {line}"))?);
                }
            }
        }
        Ok(stored)
    }

    fn show(compiler: &str, counts: &[(&str, f64)]) -> String {
        let mut text = format!(
            "# Instructions of one round of each piece of work; see tests/src/micro. Renew with\n\
             # cargo run --release --package fulmar-tests --bin fulmar-budget -- --renew\n\
             # compiler: {compiler}\n"
        );
        for (name, count) in counts {
            let _ = writeln!(text, "{name:24} {count:.1}");
        }
        text
    }
}

/// What is to be thought of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    /// So far below that the stored value should be renewed.
    Renew,
    /// So far below that it guards nothing any more: what was won could be lost again unseen.
    TooFew,
    TooMany,
    /// Nothing is stored.
    New,
}

fn judge(count: f64, stored: Option<f64>, tolerance: f64) -> Verdict {
    let Some(stored) = stored else { return Verdict::New };
    let slack = (stored * tolerance / 100.0).max(ROUNDING);
    match count - stored {
        more if more > slack => Verdict::TooMany,
        more if more < -2.0 * slack => Verdict::TooFew,
        more if more < -slack => Verdict::Renew,
        _ => Verdict::Right,
    }
}

/// The program; see the head of this file.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => compare(),
        ["--renew"] => renew(),
        ["round", name, rounds] => round(name, rounds).map(|()| true),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fulmar-budget: {error}");
            ExitCode::FAILURE
        }
    }
}

fn round(name: &str, rounds: &str) -> Result<(), String> {
    let found = ALL.iter().find(|micro| micro.name == name);
    let mut work = (found.ok_or(format!("no piece of work is called {name}"))?.prepare)();
    for _ in 0..rounds.parse().map_err(|_| USAGE)? {
        work();
    }
    Ok(())
}

/// Where the values are stored: they are of one architecture.
fn file() -> PathBuf {
    let name = format!("budgets-{}.txt", std::env::consts::ARCH);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn compiler() -> Result<String, String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.map_err(|error| format!("rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn renew() -> Result<bool, String> {
    let mut counts = Vec::new();
    for micro in &ALL {
        let count = count(micro)?;
        println!("{:24} {count:10.1}", micro.name);
        counts.push((micro.name, count));
    }
    let text = Stored::show(&compiler()?, &counts);
    std::fs::write(file(), text).map_err(|error| format!("{}: {error}", file().display()))?;
    println!("stored");
    Ok(true)
}

fn compare() -> Result<bool, String> {
    let text = std::fs::read_to_string(file()).map_err(|error| {
        format!("{}: {error}; store values of this architecture with --renew", file().display())
    })?;
    let (stored, compiler) = (Stored::parse(&text)?, compiler()?);
    let mut tolerance = TOLERANCE;
    if stored.compiler != compiler {
        tolerance = OTHER_COMPILER;
        println!(
            "The values are of {}, this is {compiler}: the tolerance is {tolerance} % instead of \
             {TOLERANCE} %. Renew them with --renew from a state known to be good.",
            stored.compiler
        );
    }
    let (mut good, mut renew) = (true, false);
    for micro in &ALL {
        let count = count(micro)?;
        let before = stored.counts.get(micro.name).copied();
        let verdict = judge(count, before, tolerance);
        let words = match verdict {
            Verdict::Right => "",
            Verdict::Renew => "fewer: renew the stored value",
            Verdict::TooFew => "MUCH FEWER: renew the stored value",
            Verdict::TooMany => "TOO MANY",
            Verdict::New => "NOT STORED",
        };
        good &= matches!(verdict, Verdict::Right | Verdict::Renew);
        renew |= verdict == Verdict::Renew;
        let before = before.unwrap_or(count);
        let change = (count - before) / before * 100.0;
        println!("{:24} {before:10.1} {count:10.1} {change:+7.2} % {words}", micro.name);
    }
    for name in stored.counts.keys().filter(|name| ALL.iter().all(|micro| micro.name != **name)) {
        println!("{name:24} is stored, but there is no such work: renew");
        good = false;
    }
    if !good || renew {
        println!(
            "If that is meant: cargo run --release --package fulmar-tests --bin fulmar-budget -- \
             --renew"
        );
    }
    Ok(good)
}

/// Instructions of a round.
fn count(micro: &Micro) -> Result<f64, String> {
    let few = instructions(micro.name, FEW)?;
    let many = instructions(micro.name, MANY)?;
    Ok((many as f64 - few as f64) / (MANY - FEW) as f64)
}

/// Instructions of this program doing so many rounds.
fn instructions(name: &str, rounds: u64) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(own)
        .args(["round", name, &rounds.to_string()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let count = total(&told).filter(|_| output.status.success());
    count.ok_or_else(|| format!("valgrind gave no count for {name}: {told}"))
}

/// The number in a line `==7== I refs: 1,234,567`.
fn total(told: &str) -> Option<u64> {
    let line = told.lines().find_map(|line| Some(line.split_once("I ")?.1.trim_start()))?;
    let digits = line.strip_prefix("refs:")?.replace([',', ' '], "");
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_judged() {
        assert_eq!(total("==7== \n==7== I   refs:      1,234,567\n==7== \n"), Some(1_234_567));
        assert_eq!(total("==7== nothing"), None);
        assert_eq!(judge(100.0, None, 3.0), Verdict::New);
        for (count, verdict) in [
            (1030.0, Verdict::Right),
            (1031.0, Verdict::TooMany),
            (970.0, Verdict::Right),
            (969.0, Verdict::Renew),
            (940.0, Verdict::Renew),
            (939.0, Verdict::TooFew),
        ] {
            assert_eq!(judge(count, Some(1000.0), 3.0), verdict, "{count}");
        }
        // Of few instructions a single one is more than the tolerance.
        assert_eq!(judge(22.0, Some(20.0), 3.0), Verdict::Right);
        assert_eq!(judge(22.1, Some(20.0), 3.0), Verdict::TooMany);
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let counts = [("a", 12.5), ("b", 100.0)];
        let stored = Stored::parse(&Stored::show("rustc 1", &counts)).expect("values");
        assert_eq!(stored.compiler, "rustc 1");
        assert_eq!(
            stored.counts.into_iter().collect::<Vec<_>>(),
            [("a".into(), 12.5), ("b".into(), 100.0)]
        );
        assert!(Stored::parse("a b").is_err());
    }

    #[test]
    fn every_piece_of_work_can_be_done_and_is_named_once() {
        let mut names: Vec<_> = ALL.iter().map(|micro| micro.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        names.iter().for_each(|name| round(name, "3").expect("it can be done"));
        assert!(round("nothing", "1").is_err());
    }
}
