//! Keeps the cores awake while latency is measured: a virtual core with nothing to do takes its
//! host milliseconds to wake, more than any broker needs.
//!
//! On each core a process of the scheduling class for idle time counts on and on. It gives way to
//! everything else at once, and ends when the process that started it has ended, however.

use std::error::Error;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, getppid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What a spinner says when it begins.
const READY: &str = "spins";
/// `SCHED_IDLE` as the system numbers it.
const IDLE: &str = "5";
/// Where the class stands among the fields behind the name in `/proc/PID/stat`.
const CLASS: usize = 38;
/// A spinner ends after this, whatever else does not.
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// Counted between two looks at whether it is to end: a fraction of a millisecond.
const ROUND: u64 = 200_000;

/// Processes that keep the cores awake until it is dropped.
pub(super) struct Awake(Vec<Child>);

impl Awake {
    /// Starts one for each core that this process may use.
    ///
    /// # Errors
    /// `chrt` of util-linux is not there, or the system does not allow it.
    pub(super) fn keep() -> io::Result<Self> {
        let cores = sched_getaffinity(None)?;
        let mut awake = Self(Vec::new());
        for core in (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core)) {
            awake.start(core)?;
        }
        Ok(awake)
    }

    fn start(&mut self, core: usize) -> io::Result<()> {
        let failed = |why: &str| {
            let text = format!("cores are kept awake with `chrt` of util-linux: {why}");
            io::Error::other(text)
        };
        let mut child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(std::env::current_exe()?)
            .args(["spin", "--core", &core.to_string()])
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        let out = child.stdout.take().map(BufReader::new);
        self.0.push(child);
        let mut line = String::new();
        out.map(|mut out| out.read_line(&mut line)).transpose()?;
        if line.trim_end() == READY { Ok(()) } else { Err(failed("it did not start")) }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps a core awake until its parent, which has this number, is gone.
///
/// # Errors
/// It is not of the class for idle time, or may not use this core.
pub(super) fn spin(core: usize, parent: u32) -> Result<(), Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    if class(&stat) != Some(IDLE) {
        return Err("it would take time from others: start it with `chrt --idle 0`".into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)?;
    writeln!(io::stdout(), "{READY}")?;
    let (start, mut count) = (Instant::now(), 0u64);
    let has_parent = || getppid().map(Pid::as_raw_pid) == Some(parent as i32);
    while has_parent() && start.elapsed() < LIMIT {
        for _ in 0..ROUND {
            count = black_box(count.wrapping_add(1));
        }
    }
    Ok(())
}

/// The scheduling class in a line of `/proc/PID/stat`.
fn class(stat: &str) -> Option<&str> {
    // The name of the program may have spaces and brackets; the fields after it have none.
    stat.rsplit_once(')')?.1.split_whitespace().nth(CLASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_take_time_from_others_does_not_spin() {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("it runs");
        assert_eq!(class(&stat), Some("0"), "{stat}");
        assert!(spin(0, std::process::id()).is_err());
    }
}
