//! A delayed event on a homeserver ([MSC4140](https://github.com/matrix-org/matrix-spec-proposals/pull/4140)): its
//! id, and its delay with all times that derive from it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Id of a delayed event. It is all that is needed to restart, send or cancel the event, so `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DelayId(String);

impl DelayId {
    /// Parses an id. Refuses texts that can't be one path segment: the empty one, `.`, `..`, and more than 255 bytes.
    /// Percent-encoding is left to the caller that builds the URL.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidDelayId> {
        let id = id.into();
        match id.as_str() {
            "" | "." | ".." => Err(InvalidDelayId),
            _ if id.len() > MAX_BYTES => Err(InvalidDelayId),
            _ => Ok(Self(id)),
        }
    }

    /// The id itself, for the homeserver only.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelayId(…)")
    }
}

impl TryFrom<String> for DelayId {
    type Error = InvalidDelayId;

    fn try_from(id: String) -> Result<Self, InvalidDelayId> {
        Self::new(id)
    }
}

impl From<DelayId> for String {
    fn from(id: DelayId) -> Self {
        id.0
    }
}

/// Error of a text that is no delay id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the id of a delayed event")]
pub struct InvalidDelayId;

/// `T`: time from the last restart until the homeserver sends a delayed event by itself, two seconds at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct DelayTimeout(u64);

impl DelayTimeout {
    /// Converts milliseconds; less than two seconds count as two, more than a year as a year. `None` for zero.
    pub fn from_millis(millis: u64) -> Option<Self> {
        (millis > 0).then(|| Self(millis.clamp(SHORTEST_MS, LONGEST_MS)))
    }

    /// `T` as a duration.
    pub fn span(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Time from the sending of a restart until the next is due: `T - max(T/5, min(T/2, 5 s))`, a second at least.
    pub fn restart_after(self) -> Duration {
        let headroom = (self.0 / 5).max((self.0 / 2).min(5_000));
        Duration::from_millis(self.0.saturating_sub(headroom))
    }

    /// Time after a restart until the homeserver is taken to have sent the event: `T`, ten seconds at least. Some
    /// clients claim a delay that isn't the event's, and the homeserver knows better when the event is gone.
    pub(crate) fn expiry(self) -> Duration {
        self.span().max(SHORTEST_EXPIRY)
    }

    /// Time that a delegation waits for its participant to connect: `min(T, 1 h)`.
    pub fn wait(self) -> Duration {
        self.span().min(HOUR)
    }
}

impl TryFrom<u64> for DelayTimeout {
    type Error = ZeroDelay;

    fn try_from(millis: u64) -> Result<Self, ZeroDelay> {
        Self::from_millis(millis).ok_or(ZeroDelay)
    }
}

impl From<DelayTimeout> for u64 {
    fn from(timeout: DelayTimeout) -> Self {
        timeout.0
    }
}

/// Error of a delay of zero, which is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the delay is zero")]
pub struct ZeroDelay;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const SHORTEST_EXPIRY: Duration = Duration::from_secs(10);
/// So that a tiny `T` doesn't become a stream of requests.
const SHORTEST_MS: u64 = 2_000;
const LONGEST_MS: u64 = 365 * 24 * 3_600_000;
const MAX_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn restart_after(millis: u64) -> u128 {
        DelayTimeout::from_millis(millis).unwrap().restart_after().as_millis()
    }

    #[test]
    fn restarts_leave_a_fifth_of_the_delay_or_five_seconds() {
        assert_eq!(restart_after(3_600_000), 2_880_000);
        assert_eq!(restart_after(25_000), 20_000);
        assert_eq!(restart_after(20_000), 15_000);
        assert_eq!(restart_after(8_000), 4_000);
        assert_eq!(restart_after(2_000), 1_000);
        assert_eq!(restart_after(1), 1_000);
    }

    #[test]
    fn the_wait_is_an_hour_at_most() {
        assert_eq!(DelayTimeout::from_millis(8_000).unwrap().wait(), Duration::from_secs(8));
        assert_eq!(DelayTimeout::from_millis(1).unwrap().wait(), Duration::from_secs(2));
        assert_eq!(DelayTimeout::from_millis(u64::MAX).unwrap().wait(), HOUR);
        assert_eq!(DelayTimeout::from_millis(0), None);
    }

    #[test]
    fn an_id_that_is_no_path_segment_is_refused() {
        for id in ["", ".", "..", &"x".repeat(256)] {
            assert_eq!(DelayId::new(id), Err(InvalidDelayId), "{id}");
        }
        assert_eq!(DelayId::new("../x").unwrap().secret(), "../x");
    }

    #[test]
    fn debug_does_not_tell_the_id() {
        assert_eq!(format!("{:?}", DelayId::new("syd_secret").unwrap()), "DelayId(…)");
    }
}
