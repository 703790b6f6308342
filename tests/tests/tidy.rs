//! What a linter does not see: lengths, calls that the core may not make, statements that do not
//! exist, traces of the machine something was written on; and that linters are not told to look
//! away from what is public and not documented.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line.
const COLUMNS: usize = 100;
/// Lines of a function from its name to its last brace.
const FUNCTION: usize = 70;
/// Lines of code of a file, without comments, blank lines and tests.
const FILE: usize = 500;

/// Folders of things that are not part of the project.
const FOREIGN: [&str; 5] = ["target", "node_modules", ".git", ".venv", ".work"];

/// What belongs to the world outside, or would give other results at each run.
const BANNED_IN_CORE: [&str; 22] = [
    "std::net",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
    "std::os",
    "std::sync",
    "thread_local!",
    "static mut",
    "OnceLock",
    "LazyLock",
    "Instant::now",
    "SystemTime",
    "print!",
    "println!",
    "eprint!",
    "dbg!",
    "rand::",
    "getrandom",
    "HashSet",
];

/// What may end the program.
const PANICS: [&str; 8] = [
    ".unwrap()",
    ".expect(",
    "panic!(",
    "unreachable!(",
    "todo!(",
    " assert!(",
    " assert_eq!(",
    " assert_ne!(",
];

/// Files of the core that exist to panic, where it is wrong.
const CHECKERS: [&str; 2] = ["core/src/fuzzing", "core/src/broker/recount.rs"];

/// Panics of the core that are documented: a caller's memory that is too small, a shard of a broker
/// that has fewer.
const DOCUMENTED: [&str; 3] =
    ["longer than encoded_len", "the length that encoded_len answered", "no such shard"];

/// Lints that see what is public and says nothing of itself, of its errors or of its panics.
const LINTS: [&str; 4] =
    ["missing_docs", "missing_errors_doc", "missing_panics_doc", "unreachable_pub"];

struct File {
    /// From the top of the repository, with `/`.
    name: String,
    text: String,
}

impl File {
    fn is_test(&self) -> bool {
        self.name.contains("tests/") || self.name.ends_with("/tests.rs")
    }

    /// The numbered lines without modules of tests, or of what only they switch on.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut in_tests = false;
        let mut before = "";
        (1..).zip(self.text.lines()).filter(move |(_, line)| {
            let only_for_tests = ["#[cfg(test)]", "#[cfg(fulmar_defects)]"].contains(&before);
            let begins = ["mod ", "pub(crate) mod "].iter().any(|word| line.starts_with(word));
            if only_for_tests && begins && line.ends_with('{') {
                in_tests = true;
            }
            let ends = in_tests && *line == "}";
            let kept = !in_tests;
            in_tests &= !ends;
            before = line;
            kept
        })
    }

    /// The numbered lines of code: no modules of tests, comments or blank lines.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, line)| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with("//")
        })
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() || FOREIGN.contains(&name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// All files of the repository that are text and end with one of these.
fn files(endings: &[&str]) -> Vec<File> {
    let root = root();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let mut files: Vec<_> = paths
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(&root).expect("below the root").to_str()?;
            let name = name.replace('\\', "/");
            let wanted = endings.iter().any(|ending| name.ends_with(ending));
            wanted.then(|| Some(File { name, text: fs::read_to_string(&path).ok()? }))?
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(files.len() >= endings.len(), "the files of the repository are there");
    files
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Where functions begin and end, as rustfmt leaves them.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"];
        let name = code.split(' ').find(|word| !words.contains(word));
        let one_line = line.ends_with(';') || line.ends_with('}');
        if name != Some("fn") || one_line {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let ends = |line: &&str| {
            let rest = line.strip_prefix(indent).unwrap_or(" ");
            rest == "}" || rest.starts_with(')') && rest.ends_with(';')
        };
        let length = lines[start..].iter().position(ends).expect("a function ends");
        functions.push((start + 1, length + 1));
    }
    functions
}

#[test]
fn lines_and_functions_and_files_are_short() {
    let mut faults = Vec::new();
    for file in files(&[".rs"]) {
        for (number, line) in (1..).zip(file.text.lines()) {
            if line.chars().count() > COLUMNS {
                faults.push(format!("{}:{number} has more than {COLUMNS} columns", file.name));
            }
        }
        for (start, length) in functions(&file.text) {
            if length > FUNCTION {
                faults.push(format!("{}:{start} has {length} lines, not {FUNCTION}", file.name));
            }
        }
        let length = file.code().count();
        if !file.is_test() && length > FILE {
            faults.push(format!("{} has {length} lines of code, not {FILE}", file.name));
        }
    }
    none(&faults);
}

#[test]
fn the_core_does_nothing_by_itself() {
    let mut faults = Vec::new();
    for file in files(&[".rs"]).iter().filter(|file| file.name.starts_with("core/src/")) {
        for (number, line) in file.code() {
            for banned in BANNED_IN_CORE {
                if line.contains(banned) {
                    faults.push(format!("{}:{number} {banned}", file.name));
                }
            }
            // Maps whose order is not the same at each run stay behind one that has no iteration.
            if line.contains("HashMap") && file.name != "core/src/map.rs" {
                faults.push(format!("{}:{number} HashMap", file.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_core_does_not_panic() {
    let mut faults = Vec::new();
    for file in files(&[".rs"]).iter().filter(|file| file.name.starts_with("core/src/")) {
        if file.is_test() || CHECKERS.iter().any(|checker| file.name.starts_with(checker)) {
            continue;
        }
        for (number, line) in file.code() {
            let panics = PANICS.iter().any(|panic| line.contains(panic));
            if panics && !DOCUMENTED.iter().any(|known| line.contains(known)) {
                faults.push(format!("{}:{number} {}", file.name, line.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_public_is_without_a_word() {
    let text = |name: &str| {
        fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let mut faults = Vec::new();
    let workspace = text("Cargo.toml");
    for lint in LINTS {
        if !workspace.contains(&format!("\n{lint} = \"warn\"")) {
            faults.push(format!("Cargo.toml: {lint} is off"));
        }
    }
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = "));
    for member in members.expect("members").split('"').skip(1).step_by(2) {
        if !text(&format!("{member}/Cargo.toml")).contains("[lints]\nworkspace = true") {
            faults.push(format!("{member}/Cargo.toml has lints of its own"));
        }
    }
    if !text(".ci/run").contains("clippy --workspace --all-targets --locked -- -D warnings") {
        faults.push(".ci/run: warnings are no errors".to_owned());
    }
    for file in files(&[".rs"]) {
        for (number, line) in file.code().filter(|(_, line)| line.contains("allow(")) {
            if LINTS.iter().any(|lint| line.contains(lint)) {
                faults.push(format!("{}:{number} {}", file.name, line.trim()));
            }
        }
    }
    none(&faults);
}

/// The keys of statements that stand in a text: numbered ones with `v4:` or `v5:`, the latter
/// where no version is given, and our own.
fn keys(text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for family in ["MQTT-", "U5-", "U311-", "U31-"] {
        for (at, _) in text.match_indices(family) {
            let rest = &text[at..];
            let end = |c: char| !c.is_ascii_digit() && c != '.' && c != '-';
            let number = &rest[family.len()..];
            let number = &number[..number.find(end).unwrap_or(number.len())];
            let number = number.trim_end_matches(['.', '-']);
            let word_before = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
            if word_before || !number.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let version = match family {
                "MQTT-" if text[..at].ends_with("v4:") => "v4:",
                "MQTT-" => "v5:",
                _ => "",
            };
            keys.push(format!("{version}{family}{number}"));
        }
    }
    keys
}

#[test]
fn statements_cited_in_code_and_text_exist() {
    let first = |line: &str| line.split(',').next().unwrap_or_default().to_owned();
    let mut known = BTreeSet::new();
    for (file, prefix) in [("mqtt5", "v5:"), ("mqtt311", "v4:"), ("unnumbered", ""), ("mqtt31", "")]
    {
        let path = root().join(format!("tests/spec/{file}.csv"));
        let csv = fs::read_to_string(path).expect("the statements");
        known.extend(csv.lines().skip(1).map(|line| format!("{prefix}{}", first(line))));
    }
    let mut faults = Vec::new();
    let mut files = files(&[".rs", ".md", ".trace"]);
    // It quotes what the standards print wrongly.
    files.retain(|file| file.name != "tests/CONFORMANCE.md");
    for file in files {
        for (number, line) in (1..).zip(file.text.lines()) {
            for key in keys(line).into_iter().filter(|key| !known.contains(key)) {
                faults.push(format!("{}:{number} {key} does not exist", file.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_tells_where_it_was_written() {
    // Written in two parts, so as not to find itself.
    let places = ["work", "home", "root", "Users"].map(|top| format!("/{top}/"));
    let mut faults = Vec::new();
    for file in files(&[".rs", ".md", ".toml", ".yaml", ".sh", ".py", ".mjs", ".json", "run"]) {
        for (number, line) in (1..).zip(file.text.lines()) {
            if places.iter().any(|place| line.contains(place.as_str())) {
                faults.push(format!("{}:{number} {line}", file.name));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_rules_here_see_what_they_should() {
    let text = "fn a() {\n    b();\n}\nfn c();\n    pub fn d(\n    ) {\n        e();\n    }\n";
    assert_eq!(functions(text), [(1, 3), (5, 4)]);
    let text = "#[cfg(test)]\nmod tests {\n    a\n}\n// b\n\nc\n";
    let file = File { name: String::new(), text: text.to_owned() };
    assert_eq!(file.code().map(|(number, _)| number).collect::<Vec<_>>(), [1, 7]);
    let found = ["v4:MQTT-3.1.2-3", "v5:MQTT-4.2.0-1", "v5:MQTT-2.2.2-1", "U311-004"];
    let text = "[v4:MQTT-3.1.2-3], v5:MQTT-4.2.0-1. (MQTT-2.2.2-1) U311-004; MQTT-packet XMQTT-1.0";
    assert_eq!(keys(text), found);
}
