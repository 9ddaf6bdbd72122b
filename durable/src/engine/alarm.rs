//! Times of the object's alarm, which say whether all that was due before has been done.
//!
//! # How it works
//!
//! - There is one alarm, at the next due. An engine that is loaded while it is still to come takes the restarts that
//!   were due before for made: their success isn't stored for its own sake.
//! - That holds for an alarm that follows from the engine's own dues ([`Alarm::for_due`]). It doesn't for one that only
//!   lets the object try again ([`Alarm::again_at`]): after a failure to store, with a broken configuration, or with
//!   actions in flight that may be cut off. Restarts that were due are still to be made then.
//! - A row could say which of both it is, but would have to be written when nothing can be. So the time says it: alarms
//!   of the second kind are at whole seconds, and those of the first never are.

use std::time::Duration;

use crate::engine::mutant::Mutant;
use crate::time::Timestamp;

/// Alarm of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm(Timestamp);

impl Alarm {
    /// Alarm for the next due of an engine, all earlier ones being done and stored.
    pub fn for_due(due: Timestamp) -> Self {
        Self(if is_whole_second(due) { due + INSTANT } else { due })
    }

    /// Alarm for another try at that time, or less than a second before. Nothing is known to be done.
    pub fn again_at(time: Timestamp) -> Self {
        Self(Timestamp::from_secs(time.as_millis() / 1000))
    }

    /// The alarm that is set for that time.
    pub const fn set_for(time: Timestamp) -> Self {
        Self(time)
    }

    /// When it goes off.
    pub const fn time(self) -> Timestamp {
        self.0
    }

    /// Returns the time before which all that was due has been done, if the alarm is to come, and if it says so. See
    /// [`RoomEngine::load`](crate::RoomEngine::load).
    pub fn handled_until(self, now: Timestamp) -> Option<Timestamp> {
        if is_whole_second(self.0) && !Mutant::BelieveAnyAlarm.is_injected() {
            return None;
        }
        let due = self.0 - INSTANT;
        Some(if is_whole_second(due) { due } else { self.0 }).filter(|due| *due > now)
    }
}

fn is_whole_second(time: Timestamp) -> bool {
    time.as_millis().is_multiple_of(1000)
}

/// The resolution of [`Timestamp`].
const INSTANT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_alarm_for_a_due_says_what_is_done(due in 1_u64..1 << 50) {
            let due = Timestamp::from_millis(due);
            let alarm = Alarm::for_due(due);
            prop_assert!(alarm.time() >= due && alarm.time() <= due + INSTANT);
            // One instant after a whole second, it may be for either of both: the earlier one is done in any case.
            let handled_until = Alarm::set_for(alarm.time()).handled_until(Timestamp::default());
            let either = is_whole_second(due - INSTANT).then(|| due - INSTANT);
            prop_assert!(handled_until == Some(due) || handled_until == either.filter(|due| *due > Timestamp::default()));
            prop_assert!(handled_until.is_some() || either.is_some());
            prop_assert_eq!(alarm.handled_until(due), None);
        }

        #[test]
        fn an_alarm_for_another_try_says_nothing(at in 1000_u64..1 << 50) {
            let at = Timestamp::from_millis(at);
            let alarm = Alarm::again_at(at);
            prop_assert!(alarm.time() <= at && at < alarm.time() + Duration::from_secs(1));
            prop_assert_eq!(Alarm::set_for(alarm.time()).handled_until(Timestamp::default()), None);
        }
    }

    #[test]
    fn a_due_after_a_whole_second_is_taken_for_one_at_it() {
        let due = Timestamp::from_millis(1_790_000_000_001);
        assert_eq!(Alarm::for_due(due).time(), due);
        assert_eq!(Alarm::for_due(due).handled_until(due - INSTANT - INSTANT), Some(due - INSTANT));
    }

    #[test]
    fn a_due_at_a_whole_second_is_not_done_before_its_alarm() {
        let due = Timestamp::from_secs(1_790_000_000);
        assert_eq!(Alarm::for_due(due).time(), due + INSTANT);
        assert_eq!(Alarm::for_due(due).handled_until(due - INSTANT), Some(due));
    }
}
