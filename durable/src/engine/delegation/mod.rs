//! The life of one delegation, as one table: [`Delegation::hear`].

pub mod row;
pub(crate) mod signals;
mod timers;

use std::time::Duration;

use crate::command::Delegate;
use crate::delay::HOUR;
use crate::engine::action::{ActionId, DelegationId};
use crate::engine::backoff;
use crate::engine::connection::{Alias, Connections};
use crate::engine::mutant::Mutant;
use crate::ids::Identity;
use crate::time::Timestamp;

/// One delegated leave.
#[derive(Clone, Debug)]
pub(crate) struct Delegation {
    pub(crate) id: DelegationId,
    pub(crate) request: Delegate,
    pub(crate) accepted_at: Timestamp,
    pub(crate) progress: Progress,
    pub(crate) poll: PresencePoll,
    /// A `restart` is under way.
    pub(crate) restarting: bool,
    /// A `send` is under way.
    pub(crate) sending: bool,
    /// The homeserver has been tried, and failed, since the present `restart` or `send` came due.
    pub(crate) tried: bool,
    pub(crate) absence: AbsenceEvidence,
}

/// What of a delegation has to survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) state: State,
    /// Waiting: the end of the wait. Connected, suspected: the next `restart`. Leaving: the next `send`.
    pub(crate) due: Timestamp,
    /// How often running the homeserver has failed.
    pub(crate) failures: u32,
    /// When the homeserver's timer was last set, at the earliest: the sending of the last `restart` that succeeded, or
    /// the acceptance.
    pub(crate) armed_at: Timestamp,
    pub(crate) connections: Connections,
}

/// Where a delegation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The participant isn't there yet.
    Waiting,
    /// The participant is there.
    Connected,
    /// The participant is said to be gone, but may be back already, or soon. Otherwise like connected.
    Suspected {
        since: Timestamp,
        /// From when on the SFU's "not there" is believed.
        believed_from: Timestamp,
    },
    /// The participant is gone.
    Leaving { since: Timestamp },
}

/// What a delegation hears: what an input or the time means to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// A connection that wasn't known stands.
    Joined,
    /// Something that may be out of date hints at a connection.
    MaybeJoined,
    /// The connection has ended.
    Left,
    /// A connection has ended, but there may be a newer one.
    MaybeLeft,
    /// The connection has ended to make room for the next.
    Reconnecting,
    /// The SFU doesn't have the participant.
    NotFound,
    /// The SFU doesn't have one of the participant's identities.
    OneIdentityNotFound,
    /// The SFU couldn't tell, or the participant is just connecting.
    Inconclusive,
    /// The homeserver has restarted its timer, at this time or later.
    Restarted(Timestamp),
    /// The homeserver hasn't restarted its timer; it is to be asked again after that time.
    RestartFailed(Duration),
    /// The homeserver hasn't sent the event; it is to be asked again after that time.
    SendFailed(Duration),
    /// The homeserver doesn't have the event any more, because of us or not.
    Finalised(Ending),
    /// The state has lasted as long as it may.
    StateTimeout,
    /// `T` has passed since the last successful restart, the latest attempt failed, and there is none under way.
    DelayElapsed,
}

/// How a delegation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The homeserver has taken our `send`, or had sent or cancelled the event before.
    Sent,
    /// The homeserver didn't have the event any more when it was to be restarted.
    EventGone,
    /// The homeserver couldn't be told in time. By then it sends the event by itself.
    GaveUp,
    /// Another delegation has taken its place.
    Replaced,
}

/// When the SFU is asked next.
#[derive(Clone, Debug, Default)]
pub(crate) struct PresencePoll {
    pub(crate) due: Option<Timestamp>,
    count: u32,
    pub(crate) action_id: Option<ActionId>,
}

/// How well it is known that the participant isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbsenceEvidence {
    Unproven,
    /// It was so at that time.
    Seen(Timestamp),
    /// The SFU doesn't tell, and the time is up.
    Presumed,
}

impl Delegation {
    pub(crate) fn new(id: DelegationId, request: Delegate, now: Timestamp) -> Self {
        let progress = Progress {
            state: State::Waiting,
            due: now + request.delay_timeout.wait(),
            failures: 0,
            armed_at: now,
            connections: Connections::default(),
        };
        Self::resume(id, request, now, progress, now)
    }

    /// Goes on after everything in memory was lost: what was under way is due again.
    pub(crate) fn resume(
        id: DelegationId,
        request: Delegate,
        accepted_at: Timestamp,
        progress: Progress,
        now: Timestamp,
    ) -> Self {
        let count = match progress.state {
            State::Waiting => backoff::polled_within(now.since(accepted_at)),
            State::Suspected { since, .. } => backoff::polled_within(now.since(since)),
            State::Connected | State::Leaving { .. } => 0,
        };
        Self {
            id,
            request,
            accepted_at,
            progress,
            poll: PresencePoll { due: Some(now), count, action_id: None },
            restarting: false,
            sending: false,
            tried: false,
            absence: AbsenceEvidence::Unproven,
        }
    }

    /// The transition table. What isn't in it does nothing.
    pub(crate) fn handle(&mut self, now: Timestamp, signal: Signal) -> Option<Ending> {
        use Signal::*;
        use State::{Connected, Leaving, Suspected, Waiting};

        match (self.progress.state, signal) {
            (Waiting, Joined) => self.connect(now),
            (Waiting, Left | MaybeLeft | Reconnecting) => {
                self.progress.due = self.progress.due.min(now + RECONNECT_WINDOW);
                self.poll_from(now);
            }
            (Waiting, MaybeJoined) => self.poll_from(now),
            (Waiting, NotFound | OneIdentityNotFound | Inconclusive) => self.poll_again(now, None),
            (Waiting, StateTimeout) => self.leave(now, AbsenceEvidence::Unproven),

            (Connected, Joined | MaybeJoined) => self.overtake_poll(),
            (Connected, Left | NotFound) => self.leave(now, AbsenceEvidence::Seen(now)),
            (Connected, MaybeLeft | OneIdentityNotFound) => self.suspect(now),
            (Connected | Suspected { .. }, Reconnecting) => self.await_reconnect(now),

            (Suspected { .. }, Joined) => self.trust(),
            (Suspected { .. }, Left) => self.leave(now, AbsenceEvidence::Seen(now)),
            (Suspected { .. }, MaybeJoined | MaybeLeft) => self.poll_from(now),
            (Suspected { believed_from, .. }, NotFound) if now >= believed_from => {
                self.leave(now, AbsenceEvidence::Seen(now))
            }
            (Suspected { believed_from, .. }, NotFound | OneIdentityNotFound | Inconclusive) => {
                self.poll_again(now, Some(believed_from));
            }
            (Suspected { .. }, StateTimeout) => self.leave(now, AbsenceEvidence::Unproven),

            (Leaving { .. }, Joined) if Mutant::NoWayBack.is_injected() => self.absence = AbsenceEvidence::Seen(now),
            (Leaving { .. }, Joined) => self.connect(now),
            (Leaving { .. }, MaybeJoined) => {
                self.absence = AbsenceEvidence::Unproven;
                self.poll_from(now);
            }
            (Leaving { .. }, NotFound) => self.absence = AbsenceEvidence::Seen(now),
            (Leaving { since }, OneIdentityNotFound | Inconclusive) if now >= self.send_until(since) => {
                self.absence = AbsenceEvidence::Presumed;
            }
            (Leaving { since }, OneIdentityNotFound | Inconclusive) => {
                self.absence = AbsenceEvidence::Unproven;
                self.poll_again(now, Some(self.send_until(since)));
            }
            (Leaving { .. }, StateTimeout) => return Some(Ending::GaveUp),

            (_, Finalised(ending)) => return Some(ending),
            (Connected | Suspected { .. }, Restarted(at)) => {
                self.arm(at);
                self.call_homeserver_from(at + self.restart_after());
            }
            (_, Restarted(at)) => self.arm(at),
            (Connected | Suspected { .. }, RestartFailed(_)) if Mutant::NoRestartAfterFailure.is_injected() => {
                self.progress.due = now + HOUR * 24;
            }
            (Leaving { .. }, SendFailed(_)) if Mutant::GiveUpAfterFailure.is_injected() => return Some(Ending::GaveUp),
            (Connected | Suspected { .. }, RestartFailed(wait)) | (Leaving { .. }, SendFailed(wait)) => {
                self.try_homeserver_again(now + wait);
            }
            (Connected | Suspected { .. }, DelayElapsed) => return Some(Ending::GaveUp),

            // Who is gone can't go.
            (Leaving { .. }, Left | MaybeLeft | Reconnecting) => {}
            // A sanity check that finds nothing out.
            (Connected, Inconclusive | StateTimeout) => {}
            // Results of what was under way when the state changed, and times that another state had.
            (Waiting | Leaving { .. }, RestartFailed(_) | DelayElapsed) => {}
            (Waiting | Connected | Suspected { .. }, SendFailed(_)) => {}
        }
        None
    }

    /// Records that a poll which covers the participant is in flight.
    pub(crate) fn poll_started(&mut self, action_id: ActionId) {
        self.poll.action_id = Some(action_id);
        self.poll.due = None;
        self.poll.count = self.poll.count.saturating_add(1);
    }

    /// Whether a new delegation takes the place of this one: it is for the same member, or for the same delayed event.
    pub(crate) fn is_replaced_by(&self, new: &Delegate) -> bool {
        let same_event = self.request.delay_id == new.delay_id && self.request.server_name == new.server_name;
        self.request.identity == new.identity || same_event
    }

    /// The identities of this delegation, by what they are to it.
    pub(crate) fn alias_of(&self, identity: &Identity) -> Option<Alias> {
        if *identity == self.request.identity {
            Some(Alias::Member)
        } else {
            (self.request.legacy_identity.as_ref() == Some(identity)).then_some(Alias::Legacy)
        }
    }

    fn connect(&mut self, now: Timestamp) {
        self.progress.state = State::Connected;
        self.call_homeserver_from(now);
        self.overtake_poll();
    }

    fn trust(&mut self) {
        self.progress.state = State::Connected;
        self.overtake_poll();
    }

    fn suspect(&mut self, now: Timestamp) {
        self.progress.state = State::Suspected { since: now, believed_from: now };
        self.poll_from(now);
    }

    fn await_reconnect(&mut self, now: Timestamp) {
        self.progress.state = State::Suspected { since: now, believed_from: now + RECONNECT_WINDOW };
        self.poll_from(now + FIRST_POLL);
        self.poll.count = 1;
    }

    fn leave(&mut self, now: Timestamp, absence: AbsenceEvidence) {
        self.progress.state = State::Leaving { since: now };
        self.absence = if Mutant::SendWithoutPolling.is_injected() { AbsenceEvidence::Presumed } else { absence };
        self.call_homeserver_from(now);
        self.poll_from(now);
    }

    fn call_homeserver_from(&mut self, due: Timestamp) {
        self.progress.due = due;
        self.progress.failures = 0;
        self.tried = false;
    }

    fn try_homeserver_again(&mut self, due: Timestamp) {
        self.progress.due = due;
        self.progress.failures = self.progress.failures.saturating_add(1);
        self.tried = true;
    }

    fn arm(&mut self, at: Timestamp) {
        self.progress.armed_at = self.progress.armed_at.max(at);
    }

    fn poll_from(&mut self, at: Timestamp) {
        self.overtake_poll();
        self.poll.due = Some(at);
        self.poll.count = 0;
    }

    /// Asks again later, but at `limit` if that is to come and sooner.
    fn poll_again(&mut self, now: Timestamp, limit: Option<Timestamp>) {
        if Mutant::PollWithoutPause.is_injected() {
            return self.poll_from(now);
        }
        let later = now + backoff::before_polling_again(self.poll.count);
        self.poll.due = Some(match limit {
            Some(limit) if limit > now => later.min(limit),
            _ => later,
        });
    }

    /// Something has been heard since the SFU was asked: its answer will tell nothing new.
    fn overtake_poll(&mut self) {
        if Mutant::BelieveOvertakenAnswer.is_injected() {
            return;
        }
        self.poll.action_id = None;
        self.poll.due = None;
    }

    fn restart_after(&self) -> Duration {
        if Mutant::RestartTooLate.is_injected() {
            return self.request.delay_timeout.span();
        }
        self.request.delay_timeout.restart_after()
    }
}

/// How long the participant may take to come back after DUPLICATE_IDENTITY and MIGRATION.
const RECONNECT_WINDOW: Duration = Duration::from_secs(15);

/// How long after DUPLICATE_IDENTITY and MIGRATION the SFU is first asked.
const FIRST_POLL: Duration = Duration::from_secs(2);
