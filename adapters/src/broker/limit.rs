//! How many files, and so connections, the process may have open.

use std::io;

/// Raises the limit of open files as far as the system lets this process, and gives it.
/// `u64::MAX` means that there is none. Calling it again is harmless.
///
/// # Errors
/// The system refused; the old limit stays.
pub fn raise_file_limit() -> io::Result<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let maximum = limit.maximum;
            setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        }
        Ok(limit.maximum.unwrap_or(u64::MAX))
    }
    #[cfg(not(unix))]
    Ok(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_the_second_time() {
        let first = raise_file_limit().expect("the limit can be raised");
        assert!(first >= 64);
        assert_eq!(raise_file_limit().expect("nothing is left to raise"), first);
    }
}
