//! Simulated time.

use std::time::Duration;

use delegated_leaves::Timestamp;

/// Some day in 2026.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// An alarm that is later than this counts as trouble, and so does an answer.
pub(crate) const PROMPT: Duration = Duration::from_millis(500);
