//! Every statement of the standards is shown by a test that has run, or excused with a reason.
//!
//! Tests register what they show with `cites!`. `cargo test --workspace` runs this binary last: the
//! package is the last by name, and so is this file in it. The statements are in `spec`, the
//! excuses in `excuses.csv`, and the result is `CONFORMANCE.md`, written anew here and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use fulmar_tests::cites;

/// What to do when citations are missing.
const REMEDY: &str = "statements are registered by the tests that show them when they have run: \
                      run `cargo test --workspace` first";

/// The beginning of the file.
const HEAD: &str = "# Conformance

What the standards demand, and the tests that show it. The test `verify_conformance` writes this
file from the citations of the tests that have passed (`cites!` at the beginning of a test); it
fails when a statement is missing, unknown, or excused though it is shown. The statements are told
in the words of this project: the numbered ones of the standards under their numbers (`v5:` for 5.0,
`v4:` for 3.1.1), others under keys of our own.

| | Statements | Shown by tests | Not shown |
| --- | ---: | ---: | ---: |
";

/// The parts of the table: heading, file in `spec`, what its keys begin with here.
const PARTS: [(&str, &str, &str); 4] = [
    ("MQTT 5.0", "mqtt5.csv", "v5:"),
    ("MQTT 3.1.1", "mqtt311.csv", "v4:"),
    ("Rules of 5.0 and 3.1.1 without a number", "unnumbered.csv", ""),
    ("What is known of MQTT 3.1", "mqtt31.csv", ""),
];

/// From a key to the tests that cite it.
type Citations = BTreeMap<String, BTreeSet<String>>;

struct Statement {
    key: String,
    text: String,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(here(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fields of one line of comma-separated values.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("never empty");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

/// The rows of a table after its heading.
fn rows(csv: &str) -> impl Iterator<Item = Vec<String>> {
    csv.lines().skip(1).map(fields)
}

fn statements(file: &str, prefix: &str) -> Vec<Statement> {
    let csv = read(&format!("spec/{file}"));
    let statement = |row: Vec<String>| {
        let [key, _, _, text, ..] = row.as_slice() else { panic!("{file}: {row:?}") };
        Statement { key: format!("{prefix}{key}"), text: text.clone() }
    };
    rows(&csv).map(statement).collect()
}

fn excuses(csv: &str) -> Vec<(String, String)> {
    let excuse = |row: Vec<String>| match row.as_slice() {
        [key, reason] => (key.clone(), reason.clone()),
        _ => panic!("excuses.csv: {row:?}"),
    };
    rows(csv).map(excuse).collect()
}

/// What the tests of all binaries have registered. Counted are for each binary only the records of
/// its newest build, and only as long as that has not been replaced.
fn citations() -> Citations {
    let mut newest: BTreeMap<String, u128> = BTreeMap::new();
    let mut records = Vec::new();
    for entry in fs::read_dir(cites::folder()).into_iter().flatten() {
        let path = entry.expect("an entry of the folder of records").path();
        let record = fs::read_to_string(&path).expect("a record");
        let Some((head, lines)) = record.split_once('\n') else { continue };
        let Some((built, file)) = head.split_once(' ') else { continue };
        let Ok(built) = built.parse::<u128>() else { continue };
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in ASCII");
        let binary: String = name.splitn(3, '.').take(2).collect();
        if cites::built(Path::new(file)) == Some(built) {
            let known = newest.entry(binary.clone()).or_default();
            *known = built.max(*known);
            records.push((binary, built, lines.to_owned()));
        }
    }
    let mut citations = Citations::new();
    for (binary, built, lines) in records {
        if newest[&binary] == built {
            for (key, test) in lines.lines().filter_map(|line| line.split_once(' ')) {
                citations.entry(key.to_owned()).or_default().insert(test.to_owned());
            }
        }
    }
    citations
}

/// What is wrong with the map, one line each; empty if nothing is.
fn faults(keys: &[&str], citations: &Citations, excuses: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    let known: BTreeSet<&str> = keys.iter().copied().collect();
    if known.len() != keys.len() {
        faults.push("a key stands twice in the files of statements".to_owned());
    }
    let excused: BTreeSet<&str> = excuses.iter().map(|(key, _)| key.as_str()).collect();
    for key in &known {
        if !citations.contains_key(*key) && !excused.contains(key) {
            faults.push(format!("{key} is neither cited nor excused"));
        }
    }
    for (key, tests) in citations.iter().filter(|(key, _)| !known.contains(key.as_str())) {
        faults.push(format!("{key} is not known, but {tests:?} cite it"));
    }
    for (key, reason) in excuses {
        if !known.contains(key.as_str()) {
            faults.push(format!("{key} is excused, but not known"));
        } else if let Some(tests) = citations.get(key) {
            faults.push(format!("{key} is excused, but {tests:?} cite it"));
        }
        if reason.len() < 20 {
            faults.push(format!("{key} is excused without a reason"));
        }
    }
    faults
}

/// Text for a cell of a table in Markdown.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}

/// One part of the table, and how many of its statements are cited.
fn table(part: &[Statement], citations: &Citations, excuses: &[(String, String)]) -> String {
    let mut table = "| Key | Statement | Shown by |\n| --- | --- | --- |\n".to_owned();
    for Statement { key, text } in part {
        let shown = match citations.get(key) {
            Some(tests) => {
                let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
                tests.join("<br>")
            }
            None => {
                let excuse = excuses.iter().find(|(excused, _)| excused == key);
                format!("Not shown: {}", cell(excuse.map_or("", |(_, reason)| reason)))
            }
        };
        writeln!(table, "| {key} | {} | {shown} |", cell(text)).expect("a string takes all");
    }
    table
}

/// The whole file.
fn document(
    parts: &[Vec<Statement>],
    citations: &Citations,
    excuses: &[(String, String)],
) -> String {
    let mut document = HEAD.to_owned();
    for ((heading, ..), part) in PARTS.iter().zip(parts) {
        let shown = part.iter().filter(|s| citations.contains_key(&s.key)).count();
        let (all, missing) = (part.len(), part.len() - shown);
        writeln!(document, "| {heading} | {all} | {shown} | {missing} |").expect("a string");
    }
    for ((heading, ..), part) in PARTS.iter().zip(parts) {
        let table = table(part, citations, excuses);
        write!(document, "\n## {heading}\n\n{table}").expect("a string");
    }
    document
}

/// The binaries whose tests are named in the table, without those of `citations`.
fn not_run(table: &str, citations: &Citations) -> BTreeSet<String> {
    let binary = |test: &str| test.split_once("::").map(|(binary, _)| binary.to_owned());
    let named = table.split('`').skip(1).step_by(2).filter_map(binary);
    let ran: BTreeSet<_> = citations.values().flatten().filter_map(|test| binary(test)).collect();
    named.filter(|binary| !ran.contains(binary)).collect()
}

#[test]
fn every_statement_is_shown_by_a_test_that_ran_or_excused() {
    let parts = PARTS.map(|(_, file, prefix)| statements(file, prefix));
    assert_eq!((parts[0].len(), parts[1].len()), (251, 141), "numbered statements");
    let (citations, excuses) = (citations(), excuses(&read("excuses.csv")));
    let committed = fs::read_to_string(here("CONFORMANCE.md")).unwrap_or_default();
    let not_run = not_run(&committed, &citations);
    assert!(not_run.is_empty(), "nothing is known of the tests of {not_run:?}; {REMEDY}");
    let keys: Vec<&str> = parts.iter().flatten().map(|s| s.key.as_str()).collect();
    let faults = faults(&keys, &citations, &excuses);
    assert!(faults.is_empty(), "{}\n{REMEDY}", faults.join("\n"));
    let document = document(&parts, &citations, &excuses);
    if document != committed {
        fs::write(here("CONFORMANCE.md"), document).expect("CONFORMANCE.md can be written");
        panic!("tests/CONFORMANCE.md was not current and has been written: look and commit it");
    }
}

#[test]
fn what_is_missing_unknown_or_stale_is_named() {
    let tests = |test: &str| BTreeSet::from([test.to_owned()]);
    let citations = Citations::from([
        ("shown".to_owned(), tests("wire::a")),
        ("both".to_owned(), tests("wire::b")),
        ("unknown".to_owned(), tests("wire::c")),
    ]);
    let excuses = excuses(
        "key,reason\nexcused,\"long enough, and with a comma\"\nboth,long enough to be a reason\n\
         gone,long enough to be a reason\nshort,no reason\n",
    );
    let keys = ["shown", "both", "excused", "short", "missing"];
    let faults = faults(&keys, &citations, &excuses);
    let named = ["missing is neither", "unknown is not", "both is excused", "gone is", "short is"];
    assert_eq!(faults.len(), named.len(), "{faults:?}");
    for (fault, name) in faults.iter().zip(named) {
        assert!(fault.starts_with(name), "{faults:?}");
    }
    assert_eq!(not_run("`wire::a` `core::b` `no test`", &citations), tests("core"));
}
