//! The load generator; see `fulmar-load --help` and BENCHMARKS.md.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    fulmar_tests::load::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("fulmar-load: needs Linux: it reads /proc");
    ExitCode::FAILURE
}
