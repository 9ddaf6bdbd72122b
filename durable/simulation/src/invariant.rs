//! The promises of the engine.

use thiserror::Error;

/// A promise of the engine. Each is checked at every step at which it could be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No `send` goes out while the SFU has the participant connected, if the engine has been told of that connection, or
    /// could have been: it has stood for longer than a fresh webhook or an answer of the SFU can be under way. Excepted are
    /// an event that the homeserver is sending by itself at that time, and a member that connects under its other identity
    /// while it is still connected under the first, if the webhook of that is lost.
    NeverEarly,
    /// No `send` goes out while the participant is on its way back after DUPLICATE_IDENTITY or MIGRATION, once told; with
    /// the same exceptions.
    ComingBack,
    /// The homeserver doesn't send the event by itself while the participant is connected and the engine knows it, after
    /// a minute in which process and homeserver did their work.
    KeptAlive,
    /// Minutes after the participant is gone for good, its leave has been sent, by us or by the homeserver, provided that
    /// a webhook told of its end or the sanity check is on. (With that webhook lost and the sanity check off, the event
    /// goes on being restarted: nothing tells the participant from one that says nothing.) One that never connected leaves
    /// when the wait is over.
    NeverLost,
    /// Nothing is done for a delegation that has been replaced, and the results of what was under way change nothing.
    ReplacedIsSilent,
    /// A delegation that was acknowledged stays on disk until its event is finalised, or its time is up. Whoever is tracked
    /// stays there until its tokens have expired, and those that the SFU has given it, even by a connection that nobody has
    /// told of. (By two of them, one after the other, it may be forgotten too early: each look at the SFU may miss one.)
    AcknowledgedIsKept,
    /// After each step the rows on disk are those that a crash needs.
    Recorded,
    /// A homeserver's `Retry-After` is respected.
    Patient,
    /// Nobody is removed, nor the room deleted, but on an answer of our homeserver that says that its user isn't in the Matrix
    /// room, and that was asked for after its latest token was minted. What isn't an answer removes nobody.
    MembersStay,
    /// Whoever isn't in the Matrix room is off the SFU within one interval, and a little more, in which homeserver, SFU and
    /// process work: from when its webhook came, or else from the next sanity check on.
    NonMembersGo,
    /// Whoever is tracked is forgotten once it is gone and its tokens have expired, even those that nobody can know of.
    Forgotten,
    /// Actions are bounded by time and inputs, an alarm never goes off in vain twice running, and a room without
    /// delegations has none.
    Bounded,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{invariant:?}: {what}")]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// How.
    pub what: String,
}

pub(crate) type Verdict = Result<(), Violation>;

pub(crate) fn broken(invariant: Invariant, what: String) -> Verdict {
    Err(Violation { invariant, what })
}
