//! What the system says of a process.

use std::collections::BTreeMap;
use std::fs;

/// What a process has used.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// Seconds of CPU of the whole process, in steps of a tick (10 ms).
    ticks: f64,
    /// Seconds on a CPU of each thread that lives, by its number, in steps of a nanosecond.
    scheduled: BTreeMap<u32, f64>,
    /// KiB in memory.
    pub(super) memory: u64,
    /// KiB in memory at most so far.
    pub(super) peak: u64,
}

impl Usage {
    /// Of a process; zero of one that is gone, or of number 0.
    pub(super) fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let stat = read("stat").unwrap_or_default();
        let status = read("status").unwrap_or_default();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let scheduled = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let nanos = text.split_whitespace().next()?.parse::<f64>().ok()?;
            Some((task.file_name().to_str()?.parse().ok()?, nanos / 1e9))
        });
        Self {
            ticks: ticks(&stat) / rustix::param::clock_ticks_per_second() as f64,
            scheduled: scheduled.collect(),
            memory: kibibytes(&status, "VmRSS:"),
            peak: kibibytes(&status, "VmHWM:"),
        }
    }

    /// Seconds of CPU since `before`: what the scheduler counted, or ticks where that is too
    /// little, because threads have ended meanwhile.
    pub(super) fn seconds_since(&self, before: &Self) -> f64 {
        let ticks = self.ticks - before.ticks;
        let sum = |usage: &Self| usage.scheduled.values().sum::<f64>();
        let scheduled = sum(self) - sum(before);
        if scheduled + 0.05 < ticks { ticks } else { scheduled }
    }

    /// Seconds of CPU since `before` of the thread that used most of those that live.
    pub(super) fn busiest_since(&self, before: &Self) -> f64 {
        let used = self.scheduled.iter().map(|(thread, seconds)| {
            seconds - before.scheduled.get(thread).copied().unwrap_or(0.0)
        });
        used.fold(0.0, f64::max)
    }
}

/// User and system time of `/proc/PID/stat`.
fn ticks(stat: &str) -> f64 {
    // The name of the program may have spaces and brackets; the fields after it have none.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum()
}

fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a ) 9 b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(ticks(stat), 300.0);
        assert_eq!(ticks(""), 0.0);
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t  1234 kB\n", "VmRSS:"), 1234);
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let before = Usage::of(std::process::id());
        assert!(before.memory > 0 && before.peak >= before.memory);
        let mut rounds = 0u64;
        while Usage::of(std::process::id()).seconds_since(&before) < 0.02 {
            rounds += 1;
            assert!(rounds < 10_000_000, "no time is counted");
        }
        let after = Usage::of(std::process::id());
        let busiest = after.busiest_since(&before);
        assert!(busiest > 0.0 && busiest <= after.seconds_since(&before) + 0.05, "{busiest}");
        assert_eq!(Usage::of(0).memory, 0);
    }
}
