//! Waits before the next try.

use std::time::Duration;

use crate::delay::HOUR;
use crate::engine::action::HomeserverAnswer;
use crate::engine::mutant::Mutant;

/// Random number from [0, 1), drawn by the caller: the engine has no randomness of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// Middle of the range: it neither shortens nor lengthens a wait.
    pub(crate) const MIDDLE: Self = Self(0.5);

    /// Makes a wait as short as it may be.
    pub(crate) const SHORTEST: Self = Self(0.0);

    /// Converts a result of `Math.random()` and its like; anything outside [0, 1) counts as the nearest inside.
    pub fn new(fraction: f64) -> Self {
        Self(if fraction.is_nan() { 0.5 } else { fraction.clamp(0.0, 1.0 - f64::EPSILON) })
    }
}

/// Wait after a homeserver's answer, with `failures` before it: the back-off, or the homeserver's own `Retry-After` if
/// that is longer. It counts for an hour at most.
pub(crate) fn after_answer(answer: HomeserverAnswer, failures: u32, jitter: Jitter) -> Duration {
    let wait = after_failure(failures.saturating_add(1), jitter);
    match answer {
        HomeserverAnswer::Limited(Some(asked)) if Mutant::RetryAfterLiterally.is_injected() => asked,
        HomeserverAnswer::Limited(Some(asked)) if !Mutant::IgnoreRetryAfter.is_injected() => wait.max(asked.min(HOUR)),
        _ => wait,
    }
}

/// Wait after a server failed for the `failures`-th time running (1 is the first): 1 s, ×1.5 each time, ±50 % jitter,
/// at most 60 s.
pub(crate) fn after_failure(failures: u32, jitter: Jitter) -> Duration {
    let exponent = failures.saturating_sub(1).min(STEPS_TO_LONGEST);
    let seconds = 1.5_f64.powi(exponent.cast_signed()) * (0.5 + jitter.0);
    Duration::from_secs_f64(seconds).min(LONGEST)
}

/// Wait before the SFU is polled again after that many `polls`: 1 s doubling to 60 s.
pub(crate) fn before_polling_again(polls: u32) -> Duration {
    Duration::from_secs(1 << polls.saturating_sub(1).min(6)).min(LONGEST)
}

/// Wait before the SFU is polled again for a participant that hasn't connected yet, after that many `polls`. The first
/// [`QUICK_POLLS`] find a participant that joined before its leave was delegated, and cost no alarm: see
/// [`RoomEngine::nap_until`](crate::engine::room::RoomEngine::nap_until). The later ones make up for lost webhooks: one
/// soon, and one when a restart would be due. Each is an alarm, which is a row.
pub(crate) fn before_polling_for_waiting(polls: u32) -> Duration {
    Duration::from_secs(match polls {
        0..=QUICK_POLLS => 1 << polls.saturating_sub(1),
        _ => 3_600,
    })
}

/// Number of the first polls for a participant that hasn't connected yet.
pub(crate) const QUICK_POLLS: u32 = 5;

/// Number of polls in that time by [`before_polling_for_waiting`].
pub(crate) fn polled_for_waiting_within(span: Duration) -> u32 {
    let mut left = span;
    (1..=9)
        .take_while(|polls| {
            let wait = before_polling_for_waiting(*polls);
            let polled = left >= wait;
            left = left.saturating_sub(wait);
            polled
        })
        .last()
        .unwrap_or(0)
}

/// Approximate number of polls in that time by [`before_polling_again`]: the count to go on with after a load.
pub(crate) fn polled_within(span: Duration) -> u32 {
    span.as_secs().saturating_add(1).min(64).ilog2()
}

const LONGEST: Duration = Duration::from_secs(60);

/// 1.5¹³ s are more than twice the longest wait: from there on jitter doesn't matter.
const STEPS_TO_LONGEST: u32 = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(failures: u32, jitter: f64) -> f64 {
        after_failure(failures, Jitter::new(jitter)).as_secs_f64()
    }

    #[test]
    fn failures_are_retried_after_one_second_and_half_as_much_more_each_time() {
        assert_eq!(seconds(1, 0.5), 1.0);
        assert_eq!(seconds(2, 0.5), 1.5);
        assert_eq!(seconds(3, 0.5), 2.25);
        assert_eq!(seconds(1, 0.0), 0.5);
        assert_eq!(seconds(40, 0.0), 60.0);
    }

    #[test]
    fn the_longest_of_what_is_asked_and_the_back_off_is_waited_for() {
        let limited = |asked| HomeserverAnswer::Limited(Some(Duration::from_secs(asked)));
        for (asked, failures, wait) in [(0, 0, 1), (0, 40, 60), (30, 0, 30), (30, 40, 60), (u64::MAX, 0, 3600)] {
            assert_eq!(after_answer(limited(asked), failures, Jitter::MIDDLE), Duration::from_secs(wait), "{asked}");
        }
    }

    #[test]
    fn questions_are_repeated_after_one_second_doubling_to_sixty() {
        let waits: Vec<_> = (1..=9).map(|asked| before_polling_again(asked).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn after_a_restart_questions_go_on_where_they_were() {
        for asked in 1..=6 {
            let elapsed = (1..=asked).map(before_polling_again).sum();
            assert_eq!(polled_within(elapsed), asked);
        }
        assert_eq!(polled_within(Duration::ZERO), 0);
        assert_eq!(polled_within(Duration::MAX), 6);
    }

    proptest! {
        #[test]
        fn jitter_is_half_at_most_and_no_wait_is_longer_than_a_minute(failures in 1..u32::MAX, jitter in 0.0..1.0) {
            let middle = seconds(failures, 0.5);
            let wait = seconds(failures, jitter);
            prop_assert!(wait <= 60.0);
            prop_assert!(wait >= middle * 0.5 - 0.001 && wait <= middle * 1.5 + 0.001);
        }

        #[test]
        fn any_number_is_a_jitter(fraction: f64) {
            prop_assert!(seconds(1, fraction) >= 0.5 && seconds(1, fraction) <= 1.5);
        }
    }
}
