//! Instants, without a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Instant in milliseconds since the Unix epoch. Arithmetic saturates, at zero and at 2⁵³ − 1: SQLite and JavaScript
/// can both hold that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Timestamp(u64);

impl Timestamp {
    /// Converts milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis < LATEST { millis } else { LATEST })
    }

    /// Converts seconds since the epoch, the unit of LiveKit's `createdAt` and `joinedAt`.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time from `earlier` until this; zero if it wasn't earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(LATEST);
        Self::from_millis(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(LATEST);
        Self(self.0.saturating_sub(millis))
    }
}

impl From<u64> for Timestamp {
    fn from(millis: u64) -> Self {
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for u64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

const LATEST: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::from_millis(u64::MAX).as_millis(), LATEST);
        assert_eq!(Timestamp::from_secs(u64::MAX) + Duration::MAX, Timestamp::from_millis(LATEST));
        assert_eq!(Timestamp::from_secs(1) - Duration::from_secs(2), Timestamp::default());
        assert_eq!(Timestamp::from_secs(1).since(Timestamp::from_secs(2)), Duration::ZERO);
    }
}
