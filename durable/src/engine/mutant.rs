//! Deliberate mutants of the engine: the proof that the simulation would find a real one.
//!
//! They work like fail points: a few places of the engine ask whether their mutant is switched on. Without the feature
//! `mutants` the answer is a constant, and nothing of it reaches the deployed worker. The alternative, an engine that is
//! generic over its config, would leave its mark on every signature; patching the source and compiling it a dozen times
//! would be too slow for a test.

/// One thing that the engine could do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// `participant_left` is believed whatever connection it is about.
    IgnoreSid,
    /// It isn't remembered which connections are over.
    ForgetEndedConnections,
    /// DUPLICATE_IDENTITY and MIGRATION are believed at once.
    BelieveReconnecting,
    /// A `participant_left` that took minutes is believed without a look at the SFU.
    BelieveStaleWebhooks,
    /// A failure to ask the SFU counts as "not there".
    FailedPollMeansAbsent,
    /// An answer of the SFU counts although a webhook has come since the question.
    BelieveOvertakenAnswer,
    /// A leave is sent however long ago the participant was found to be gone.
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
    /// A delegation that was leaving is connected after a restart of everything.
    ForgetLeavingOnLoad,
    /// The row isn't marked as changed when a restart succeeds.
    ForgetToStore,
    /// A delegation isn't replaced, but joined by another.
    KeepReplaced,
    /// A leave is given up when the homeserver fails for the first time.
    GiveUpAfterFailure,
    /// The SFU is asked again at once.
    PollWithoutPause,
    /// A failure to ask who is in the Matrix room counts as "nobody".
    FailedCheckMeansNobody,
    /// An answer about who is in the Matrix room counts against those who were given a token since the question.
    BelieveOldMembers,
    /// The room is deleted when the homeserver doesn't tell us who is in the Matrix room.
    DeleteUnconfirmed,
    /// Who is in the Matrix room is checked when somebody connects, and then never again.
    CheckOnlyOnce,
    /// Who is gone is forgotten, whatever tokens it has.
    ForgetWhenAbsent,
    /// Who is gone is forgotten when the SFU has been asked for it once.
    ForgetAfterFirstPoll,
    /// The row isn't marked as changed when a tracked participant connects.
    ForgetConnected,
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static INJECTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// All of them.
        pub const ALL: [Self; 24] = [
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
            Self::FailedCheckMeansNobody,
            Self::BelieveOldMembers,
            Self::DeleteUnconfirmed,
            Self::CheckOnlyOnce,
            Self::ForgetWhenAbsent,
            Self::ForgetAfterFirstPoll,
            Self::ForgetConnected,
        ];

        /// Runs `body` with engines on this thread having this mutant.
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
