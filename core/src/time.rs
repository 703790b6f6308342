//! Points in time, handed in by whoever drives a machine.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Microseconds since an arbitrary start chosen by the driver; never goes backwards.
///
/// A driver keeps the moment it started and passes the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start.
    pub const ZERO: Self = Self(0);
    /// Later than everything; a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `micros` microseconds after the start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// `seconds` later, at most [`Instant::NEVER`].
    #[must_use]
    pub const fn after_secs(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    /// Later by `by`, at most [`Instant::NEVER`].
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let a = Instant::from_micros(5);
        assert_eq!(a.since(Instant::NEVER), Duration::ZERO);
        assert_eq!(a + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant::NEVER.after_secs(1), Instant::NEVER);
        assert_eq!(a.after_secs(1) - a, Duration::from_secs(1));
    }
}
