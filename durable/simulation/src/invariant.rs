//! The promises of the engine, as invariants of every simulation.

use thiserror::Error;

/// Promise of the engine. Each is checked at every step at which it could be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No `send` goes out while the SFU has the participant connected, if that connection was reported to the engine,
    /// or could have been: it has stood for longer than a fresh webhook or a poll of the SFU can be under way.
    /// Excepted are an event that the homeserver is sending by itself at that time, and a member that connects under
    /// its other identity while it is still connected under the first, if the webhook of that is lost.
    NeverEarly,
    /// No `send` goes out while the participant is about to connect again after a reported DUPLICATE_IDENTITY,
    /// MIGRATION, STATE_MISMATCH or SERVER_SHUTDOWN, or after a CLIENT_INITIATED within five seconds of the connection's
    /// beginning that the next follows within a second; with the same exceptions.
    ComingBack,
    /// The homeserver doesn't send the event by itself while the participant is connected and the engine knows it,
    /// after a minute in which process and homeserver did their work.
    KeptAlive,
    /// Minutes after the participant has left for good, its leave has been sent, by us or by the homeserver, provided
    /// that a webhook reported its end or the sanity check is on. Otherwise that takes up to two hours longer: it counts as
    /// connected until the next of the hourly polls, of which one may be left out after a load. (That is so with the webhook of its end lost, and where a connection began and
    /// ended in the second before the delegation was made, and only its beginning was reported afterwards.) One that
    /// never connected leaves when the wait is over.
    NeverLost,
    /// No action is started for a delegation that has been replaced, and the outcomes of those in flight change
    /// nothing.
    ReplacedIsSilent,
    /// A delegation that was acknowledged stays on disk until its event is finalised, or its time is up. A tracked
    /// participant stays there until its tokens have expired, and those that the SFU has issued, even to a connection
    /// that was never reported. (With two such connections, one after the other, it may be forgotten too early: each
    /// poll may miss one. Likewise where the SFU answers no poll in the twenty minutes after the expiry of the known
    /// tokens: that it has answered one isn't stored, which would be a row for each participant.)
    AcknowledgedIsKept,
    /// After each step the rows on disk are those that a crash needs.
    Recorded,
    /// A homeserver's `Retry-After` is respected.
    Patient,
    /// No participant is removed, nor the room deleted, but on an answer of our homeserver that excludes its user from
    /// the Matrix room, and that was requested after its latest token was issued. A failure removes no participant.
    MembersStay,
    /// A participant whose user isn't in the Matrix room is off the SFU within one interval, and a little more, in
    /// which homeserver, SFU and process work: from its webhook on, or else from the next sanity check.
    NonMembersGo,
    /// A tracked participant is forgotten once it has left and its tokens have expired, even those that can't be
    /// known.
    Forgotten,
    /// No room, user or homeserver has more delegations or tracked participants than the bounds allow, and the SFU is
    /// polled once a second at most.
    Limited,
    /// Homeservers that don't answer leave two of the six places to those that do.
    Fair,
    /// The leave of a participant has been sent within five seconds, whatever others do, where its homeserver works.
    LeavesSoon,
    /// Of the delayed events of one room, at a homeserver that limits requests, none runs out while another of the same
    /// delay is restarted twice.
    InTurn,
    /// Actions are bounded by time and inputs, an alarm never goes off in vain twice running, and a room without
    /// delegations has none.
    Bounded,
}

/// Broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{invariant:?}: {details}")]
pub struct Violation {
    /// The promise.
    pub invariant: Invariant,
    /// The way in which it was broken.
    pub details: String,
}

pub(crate) type Verdict = Result<(), Violation>;

pub(crate) fn broken(invariant: Invariant, details: String) -> Verdict {
    Err(Violation { invariant, details })
}
