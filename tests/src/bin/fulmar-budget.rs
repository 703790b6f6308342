//! Counts instructions of small pieces of work of the core; see `fulmar_tests::micro`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fulmar_tests::micro::budget()
}
