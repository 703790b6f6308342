//! How soon the threads of the shards run when there is something to do.

#[cfg(target_os = "linux")]
pub use linux::shorten;

/// Other systems are left to decide themselves.
#[cfg(not(target_os = "linux"))]
pub fn shorten() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::zeroed;

    use libc::{SYS_sched_getattr, SYS_sched_setattr, c_uint, sched_attr, syscall};

    /// Nanoseconds: the least that the system grants. A turn of a shard mostly takes less.
    const SLICE: u64 = 100_000;

    /// Has the system's scheduler run this thread for short slices, and sooner for that: when
    /// messages come while another program has the core, they do not wait until its time is over,
    /// which may be milliseconds. The thread's share of the cores stays what it was. Harmless where
    /// the system does not know it (Linux before 6.12) or forbids it; a thread that somebody
    /// gave another scheduling class is left alone. A filter of system calls that kills rather than
    /// refuses must allow `sched_getattr` and `sched_setattr`.
    pub fn shorten() {
        let asked = attributes().and_then(|mut attributes| {
            if attributes.sched_policy != libc::SCHED_OTHER as u32 {
                return Ok(());
            }
            attributes.sched_runtime = SLICE;
            set(&mut attributes)
        });
        if let Err(error) = asked {
            tracing::debug!("the system grants no short slices of time: {error}");
        }
    }

    fn attributes() -> io::Result<sched_attr> {
        // SAFETY: the structure is of numbers only.
        let mut attributes: sched_attr = unsafe { zeroed() };
        let size = size_of::<sched_attr>() as c_uint;
        // SAFETY: at most that size is written there; 0 is the present thread.
        let done = unsafe { syscall(SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
        if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
    }

    fn set(attributes: &mut sched_attr) -> io::Result<()> {
        attributes.size = size_of::<sched_attr>() as u32;
        // SAFETY: as much is read as the structure says; 0 is the present thread.
        let done = unsafe { syscall(SYS_sched_setattr, 0, &raw mut *attributes, 0) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_the_slice_of_a_thread_changes() {
            let before = attributes().expect("the system tells");
            shorten();
            let after = attributes().expect("the system tells");
            assert_eq!(after.sched_policy, before.sched_policy);
            assert_eq!(after.sched_nice, before.sched_nice);
            // Before Linux 6.12 it is 0; and a test may be run in another class.
            let asked = before.sched_policy == libc::SCHED_OTHER as u32 && before.sched_runtime > 0;
            let expected = if asked { SLICE } else { before.sched_runtime };
            assert_eq!(after.sched_runtime, expected);
        }
    }
}
