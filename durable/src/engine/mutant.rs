//! Deliberate mutants of the engine: the proof that the simulation would find a real mistake.
//!
//! They work like fail points: a few places of the engine check whether their mutant is injected. Without the feature
//! `mutants` the check is a constant, and nothing of it reaches the deployed worker. The alternatives are worse: an
//! engine that is generic over its config would leave its mark on every signature; patching the source and compiling
//! it a dozen times would be too slow for a test.

/// One mistake that the engine could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// `participant_left` is believed, whichever connection it is about.
    IgnoreSid,
    /// Ended connections aren't remembered.
    ForgetEndedConnections,
    /// Reasons that mean coming back are believed at once.
    BelieveReconnecting,
    /// A `participant_left` that took minutes is believed without a poll of the SFU.
    BelieveStaleWebhooks,
    /// A failed poll of the SFU counts as "not found".
    FailedPollMeansAbsent,
    /// A poll counts although a webhook has come since it began.
    BelieveOvertakenAnswer,
    /// A leave is sent, however long ago the participant was found to have left.
    SendWithoutPolling,
    /// A participant that is back doesn't stop a leave that is being retried.
    NoWayBack,
    /// After a failed restart no other is tried.
    NoRestartAfterFailure,
    /// The next restart is due when the delay is over, not before.
    RestartTooLate,
    /// `Retry-After` is ignored.
    IgnoreRetryAfter,
    /// The results of a replaced delegation's actions are applied to the one that replaced it.
    ResultsOutliveReplacement,
    /// A leaving delegation is connected after a load.
    ForgetLeavingOnLoad,
    /// The row isn't marked as changed when a restart fails.
    ForgetToStore,
    /// A delegation isn't replaced, but joined by another.
    KeepReplaced,
    /// A leave is given up when the homeserver fails for the first time.
    GiveUpAfterFailure,
    /// The SFU is polled again at once.
    PollWithoutPause,
    /// Without sanity checks connected participants aren't polled for at all.
    NoHourlyPoll,
    /// A failed `joined_members` counts as "no members".
    FailedCheckMeansNobody,
    /// The members count against participants that were given a token since the request.
    BelieveOldMembers,
    /// The room is deleted on a 403, without `is_joined`.
    DeleteUnconfirmed,
    /// The members are checked when a participant connects, and then never again.
    CheckOnlyOnce,
    /// A participant that has left is forgotten, whatever tokens it has.
    ForgetWhenAbsent,
    /// A participant that has left is forgotten after the first poll that doesn't find it.
    ForgetAfterFirstPoll,
    /// The row isn't marked as changed when a tracked participant connects.
    ForgetConnected,
    /// There may be any number of delegations.
    NoBound,
    /// `Retry-After` is taken literally, be it zero.
    RetryAfterLiterally,
    /// Rows are deleted before others are put.
    DeleteFirst,
    /// Participants are removed in the order of their identities, connected or not.
    RemoveByIdentity,
    /// A participant that isn't connected is sought again with each sweep.
    SeekAgain,
    /// Members that can't be read count as "no members".
    UnreadableMeansNobody,
    /// Members that can't be read remove no participant.
    UnreadableRemovesNobody,
    /// No places are kept for homeservers that answer.
    NoPlacesKept,
    /// Requests to homeservers are ordered by their dues only.
    OrderByDueTime,
    /// The SFU is polled whenever a poll is due, for those that are.
    PollOneByOne,
    /// The time of the last restart, as it is stored, is believed after a load.
    BelieveStaleArming,
    /// Restarts that came due before a load count as done.
    SkipMissedRestarts,
    /// All that was due before an alarm counts as done, although the alarm is for another try of that.
    BelieveAnyAlarm,
    /// A restart before the acceptance stands for the one on connecting.
    TrustEarlyRestart,
    /// STATE_MISMATCH and SERVER_SHUTDOWN are believed at once.
    BelieveSentRound,
    /// CLIENT_INITIATED is believed at once, however young the connection.
    BelieveEarlyEnd,
    /// `room_finished` is believed, although participants are about to connect again.
    BelieveFinishedAnyway,
    /// A 429 is taken to be about one delayed event only.
    LimitOneByOne,
    /// A restart that was refused for the homeserver's rate loses its turn.
    LoseTurn,
    /// Each room finds the rate of a homeserver by itself.
    PaceEachRoom,
    /// That a restart is held back for the homeserver's rate isn't stored. Not in [`ALL`](Self::ALL): a life in which that
    /// shows is rare (seed 20130), so a unit test stands for it.
    ForgetHeld,
    /// The members are checked when a participant connects, although the checks are off.
    CheckAnyway,
    /// Participants that aren't known to be connected aren't polled for.
    SeekOnlyConnected,
    /// A proxy's response is taken for the homeserver's own word.
    TrustProxies,
    /// A command that comes again late replaces a delegation that was made since.
    BelieveLateCommands,
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static INJECTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// All mutants.
        pub const ALL: [Self; 48] = [
            Self::IgnoreSid,
            Self::ForgetEndedConnections,
            Self::BelieveReconnecting,
            Self::BelieveStaleWebhooks,
            Self::FailedPollMeansAbsent,
            Self::BelieveOvertakenAnswer,
            Self::SendWithoutPolling,
            Self::NoWayBack,
            Self::NoRestartAfterFailure,
            Self::RestartTooLate,
            Self::IgnoreRetryAfter,
            Self::ResultsOutliveReplacement,
            Self::ForgetLeavingOnLoad,
            Self::ForgetToStore,
            Self::KeepReplaced,
            Self::GiveUpAfterFailure,
            Self::PollWithoutPause,
            Self::NoHourlyPoll,
            Self::FailedCheckMeansNobody,
            Self::BelieveOldMembers,
            Self::DeleteUnconfirmed,
            Self::CheckOnlyOnce,
            Self::ForgetWhenAbsent,
            Self::ForgetAfterFirstPoll,
            Self::ForgetConnected,
            Self::NoBound,
            Self::RetryAfterLiterally,
            Self::DeleteFirst,
            Self::SeekAgain,
            Self::UnreadableMeansNobody,
            Self::UnreadableRemovesNobody,
            Self::NoPlacesKept,
            Self::OrderByDueTime,
            Self::PollOneByOne,
            Self::BelieveStaleArming,
            Self::SkipMissedRestarts,
            Self::BelieveAnyAlarm,
            Self::TrustEarlyRestart,
            Self::BelieveSentRound,
            Self::BelieveEarlyEnd,
            Self::BelieveFinishedAnyway,
            Self::LimitOneByOne,
            Self::LoseTurn,
            Self::PaceEachRoom,
            Self::CheckAnyway,
            Self::SeekOnlyConnected,
            Self::TrustProxies,
            Self::BelieveLateCommands,
        ];

        /// Runs `body` with this mutant in the engines on this thread.
        pub fn inject<R>(self, body: impl FnOnce() -> R) -> R {
            INJECTED.set(Some(self));
            let result = body();
            INJECTED.set(None);
            result
        }

        pub(crate) fn is_injected(self) -> bool {
            INJECTED.get() == Some(self)
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl Mutant {
    pub(crate) const fn is_injected(self) -> bool {
        false
    }
}
