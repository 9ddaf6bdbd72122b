//! Times of the simulation.

use std::time::Duration;

use delegated_leaves::Timestamp;

/// Beginning of every simulation: a day in 2026.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// Delay from which on a late alarm, or a late outcome, counts as a fault.
pub(crate) const PROMPT: Duration = Duration::from_millis(500);
