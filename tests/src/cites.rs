//! Which statements of the standard a test shows, said by the test itself when it has passed.
//!
//! A test begins with [`cites!`](crate::cites!). What it names is written down when the test ends
//! without a panic, one file for each test, in the folder `conformance` beside the folder of test
//! binaries; the test `verify_conformance` reads all of them. Test binaries of other packages take
//! this file in with `#[path]`, so that no package of the workspace depends on another for it.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{env, fs, thread};

/// Names the statements that the test shows, once at its beginning: one string literal of keys
/// with white space between them, as `v5:MQTT-3.1.2-1 v4:MQTT-3.1.2-1 U5-011`.
#[macro_export]
macro_rules! cites {
    ($keys:literal) => {
        fn here() {}
        let _cited = $crate::cites::cites(::core::any::type_name_of_val(&here), $keys);
    };
}

/// What `cites` gives: dropped without a panic, it registers what was cited.
#[must_use = "the statements are registered when this is dropped at the end of the test"]
#[derive(Debug)]
pub struct Cited {
    file: PathBuf,
    record: String,
}

/// The same as [`cites!`](crate::cites!) for a test that runs several cases: `test` is the path of
/// one case from the name of its test binary on, as `traces::qos_1`.
///
/// # Panics
///
/// If the folder of the records cannot be written to.
pub fn cites(test: &str, keys: &str) -> Cited {
    let test = test.strip_suffix("::here").unwrap_or(test);
    let folder = folder();
    fs::create_dir_all(&folder).expect("a folder for the records");
    let file = folder.join(format!("{}.{}.txt", env!("CARGO_PKG_NAME"), test.replace("::", ".")));
    // What an earlier run has shown counts no more.
    let _ = fs::remove_file(&file);
    let (binary, built) = this_binary();
    let mut record = format!("{built} {}\n", binary.display());
    for key in keys.split_ascii_whitespace() {
        record += &format!("{key} {test}\n");
    }
    Cited { file, record }
}

impl Drop for Cited {
    fn drop(&mut self) {
        if !thread::panicking() {
            fs::write(&self.file, &self.record).expect("the record of a test can be written");
        }
    }
}

/// Where the records are. The name of each begins with the package and the test binary, and its
/// first line says when that was built and where it is, so that records of binaries built anew
/// since can be told; then comes one line for each key.
///
/// # Panics
///
/// If the system does not tell where this binary is.
#[must_use]
pub fn folder() -> PathBuf {
    let (binary, _) = this_binary();
    let binaries = binary.parent().expect("a test binary lies in a folder");
    binaries.parent().unwrap_or(binaries).join("conformance")
}

/// This test binary, and when it was built in nanoseconds since 1970.
fn this_binary() -> (PathBuf, u128) {
    let binary = env::current_exe().expect("a test binary knows where it is");
    let built = built(&binary).expect("a test binary that runs exists");
    (binary, built)
}

/// When this file was written last, in nanoseconds since 1970; `None` if it is not there.
#[must_use]
pub fn built(binary: &Path) -> Option<u128> {
    let modified = fs::metadata(binary).ok()?.modified().ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}
