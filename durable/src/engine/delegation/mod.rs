//! One delegation, as a state table.
//!
//! # How it works
//!
//! - A delegation is in one of four states ([`State`]). Webhooks, polls of the SFU, answers of the homeserver and the
//!   time become [`Signal`]s in [`signals`] and [`timers`]; [`Delegation::handle`] is the transition table, one
//!   exhaustive `match`.
//! - While `Connected` or `Suspected`, `restart` is due before the delay `T` is over. While `Leaving`, `send` is due.
//! - A `send` needs fresh evidence that the participant isn't connected ([`AbsenceEvidence`]): seen at most
//!   [`FRESH`](crate::engine::webhook::FRESH) ago, or else the SFU is polled first. Only at the end of the window does
//!   a `send` go out without it.
//! - [`Progress`] is the part that is stored. Everything else is in memory; after a load it is due again.
//! - The success of a `restart` is stored with the next change, not for its own sake. Restarts keep to a grid, whose
//!   beginning and interval are stored: [`Delegation::resume`] finds its place in it.

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
    /// `due` and `armed_at`, as they are on disk.
    pub(crate) stored: (Timestamp, Timestamp),
    /// When a connected participant is polled for without a sanity check.
    pub(crate) hourly_due: Timestamp,
    pub(crate) poll: PresencePoll,
    /// A `restart` is in flight.
    pub(crate) restarting: bool,
    /// A `send` is in flight.
    pub(crate) sending: bool,
    /// When a poll found a participant whose connection began after the acceptance, before any webhook
    /// reported it.
    pub(crate) found_at: Option<Timestamp>,
    /// The latest try was refused for the homeserver's rate.
    pub(crate) limited: bool,
    /// A try has failed since the present `restart` or `send` came due.
    pub(crate) tried: bool,
    pub(crate) absence: AbsenceEvidence,
}

/// Part of a delegation that has to survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) state: State,
    /// Waiting: the end of the wait. Connected, suspected: the next `restart`. Leaving: the next `send`.
    pub(crate) due: Timestamp,
    /// Number of failures of the homeserver running.
    pub(crate) failures: u32,
    /// When the homeserver's timer was last started, at the earliest: the sending of the last successful `restart`, be
    /// it one before the acceptance, or the acceptance.
    pub(crate) armed_at: Timestamp,
    pub(crate) connections: Connections,
}

/// State of a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The participant hasn't connected yet.
    Waiting,
    /// The participant is connected.
    Connected,
    /// The participant is reported to have left, but may be back already, or soon. Otherwise like `Connected`.
    Suspected {
        since: Timestamp,
        /// Time from which on the SFU's "not found" is believed.
        believed_from: Timestamp,
    },
    /// The participant has left.
    Leaving { since: Timestamp },
}

/// Meaning of an input, or of the time, to a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// A new connection stands.
    Joined,
    /// A report that may be out of date hints at a connection.
    MaybeJoined,
    /// The connection has ended.
    Left,
    /// A connection has ended, but there may be a newer one.
    MaybeLeft,
    /// The connection has ended to make room for the next.
    Reconnecting,
    /// The client has ended the connection soon after its beginning, and may change it for another.
    LeftEarly,
    /// The SFU didn't have the participant when it was polled at that time.
    NotFound { polled_at: Timestamp },
    /// The SFU doesn't have one of the participant's identities.
    OneIdentityNotFound,
    /// The poll failed, or the participant is just connecting.
    Inconclusive,
    /// The homeserver has restarted its timer, at this time or later.
    Restarted(Timestamp),
    /// The homeserver hasn't restarted its timer; the next try is due after that time.
    RestartFailed(Duration),
    /// The homeserver hasn't sent the event; the next try is due after that time.
    SendFailed(Duration),
    /// The homeserver doesn't have the event any more, because of us or not.
    Finalised(Ending),
    /// The state has lasted for its longest time.
    StateTimeout,
    /// `T` has passed since the last successful restart, the latest try failed, and none is in flight.
    DelayElapsed,
}

/// End of a delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The homeserver has accepted our `send`, or had sent or cancelled the event before.
    Sent,
    /// The homeserver didn't have the event any more when it was to be restarted.
    EventGone,
    /// No try succeeded in time. By then the homeserver sends the event by itself.
    GaveUp,
    /// Another delegation has taken its place.
    Replaced,
}

/// Polls of the SFU for the participant.
#[derive(Clone, Debug, Default)]
pub(crate) struct PresencePoll {
    pub(crate) due: Option<Timestamp>,
    count: u32,
    pub(crate) action_id: Option<ActionId>,
}

/// Evidence that the participant isn't connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbsenceEvidence {
    Unproven,
    /// The SFU or a webhook said so at that time.
    Seen(Timestamp),
    /// The SFU doesn't answer, and the window is over.
    Presumed,
}

impl Delegation {
    pub(crate) fn new(id: DelegationId, request: Delegate, now: Timestamp) -> Self {
        // Not later than now, whatever the clock of the machine says that made the restart.
        let restarted_at = request.restarted_at.map(|at| at.min(now));
        let issued_at = request.issued_at.map(|at| at.min(now));
        let request = Delegate { restarted_at, issued_at, ..request };
        let progress = Progress {
            state: State::Waiting,
            due: now + request.delay_timeout.wait(),
            failures: 0,
            armed_at: restarted_at.unwrap_or(now),
            connections: Connections::default(),
        };
        Self::resume(id, request, now, progress, now, Timestamp::default())
    }

    /// Goes on after a load: actions that were in flight are due again.
    ///
    /// All restarts that were due before `handled_until` have been started, those of this delegation not before its
    /// stored `due`. Whether one was started since can't be known: then one too many is harmless, and one too few is a
    /// leave that is sent early. That the event was last restarted long ago can't be known either, so its time counts
    /// from now.
    pub(crate) fn resume(
        id: DelegationId,
        request: Delegate,
        accepted_at: Timestamp,
        mut progress: Progress,
        now: Timestamp,
        handled_until: Timestamp,
    ) -> Self {
        let stored = (progress.due, progress.armed_at);
        // When the participant was last polled for isn't stored. A poll that was due shortly before the next alarm is made
        // with it: before the load, an hour after the last poll, it may have been due then.
        let hourly = Grid { base: accepted_at + HOUR, interval: HOUR, slack: HOURLY_SLACK };
        let hourly_due = hourly.next(now.max(handled_until), Timestamp::default()).max(handled_until);
        if matches!(progress.state, State::Connected | State::Suspected { .. }) {
            if !Mutant::BelieveStaleArming.is_injected() {
                progress.armed_at = progress.armed_at.max(now);
            }
            if progress.failures == 0 {
                let interval = request.delay_timeout.restart_after();
                progress.due = Grid { base: progress.due, interval, slack: interval }.next(now, handled_until);
            }
        }
        let count = match progress.state {
            State::Waiting => backoff::polled_for_waiting_within(now.since(accepted_at)),
            State::Suspected { since, .. } => backoff::polled_within(now.since(since)),
            State::Connected | State::Leaving { .. } => 0,
        };
        // A poll for a participant that hasn't connected is worth no alarm of its own.
        let poll_due = if progress.state == State::Waiting { now.max(handled_until) } else { now };
        Self {
            id,
            request,
            accepted_at,
            progress,
            stored,
            hourly_due,
            poll: PresencePoll { due: Some(poll_due), count, action_id: None },
            restarting: false,
            sending: false,
            found_at: None,
            limited: false,
            tried: false,
            absence: AbsenceEvidence::Unproven,
        }
    }

    /// The transition table. The [crate's documentation](crate#the-transition-table-of-a-delegation) has it as a
    /// table.
    pub(crate) fn handle(&mut self, now: Timestamp, signal: Signal) -> Option<Ending> {
        use Signal::*;
        use State::{Connected, Leaving, Suspected, Waiting};

        match (self.progress.state, signal) {
            (Waiting, Joined) => self.connect(now),
            (Waiting, Left | LeftEarly | MaybeLeft | Reconnecting) => {
                self.progress.due = self.progress.due.min(now + RECONNECT_WINDOW);
                self.poll_from(now);
            }
            (Waiting, MaybeJoined) => self.poll_from(now),
            (Waiting, NotFound { .. } | OneIdentityNotFound | Inconclusive) => self.poll_again(now, None),
            (Waiting, StateTimeout) => self.leave(now, AbsenceEvidence::Unproven),

            (Connected, Joined | MaybeJoined) => self.overtake_poll(),
            (Connected, Left | NotFound { .. }) => self.leave(now, AbsenceEvidence::Seen(now)),
            (Connected, MaybeLeft | OneIdentityNotFound) => self.suspect(now),
            (Connected | Suspected { .. }, Reconnecting) => self.await_reconnect(now, RECONNECT_WINDOW, FIRST_POLL),
            (Connected | Suspected { .. }, LeftEarly) => self.await_reconnect(now, CHANGE_WINDOW, CHANGE_WINDOW),

            (Suspected { .. }, Joined) => self.trust(),
            (Suspected { .. }, Left) => self.leave(now, AbsenceEvidence::Seen(now)),
            (Suspected { .. }, MaybeJoined | MaybeLeft) => self.poll_from(now),
            (Suspected { believed_from, .. }, NotFound { polled_at }) if polled_at >= believed_from => {
                self.leave(now, AbsenceEvidence::Seen(now))
            }
            (Suspected { believed_from, .. }, NotFound { .. } | OneIdentityNotFound | Inconclusive) => {
                self.poll_again(now, Some(believed_from));
            }
            (Suspected { .. }, StateTimeout) => self.leave(now, AbsenceEvidence::Unproven),

            (Leaving { .. }, Joined) if Mutant::NoWayBack.is_injected() => self.absence = AbsenceEvidence::Seen(now),
            (Leaving { .. }, Joined) => self.connect(now),
            (Leaving { .. }, MaybeJoined) => {
                self.absence = AbsenceEvidence::Unproven;
                self.poll_from(now);
            }
            (Leaving { .. }, NotFound { .. }) => self.absence = AbsenceEvidence::Seen(now),
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
                let next = match self.progress.failures {
                    0 => Grid::next_after(self.progress.due, self.restart_after(), at),
                    _ => at + self.restart_after(),
                };
                self.call_homeserver_from(next);
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

            // It has left already.
            (Leaving { .. }, Left | LeftEarly | MaybeLeft | Reconnecting) => {}
            // A sanity check without a result.
            (Connected, Inconclusive | StateTimeout) => {}
            // Outcomes of actions that were in flight when the state changed, and timeouts of another state.
            (Waiting | Leaving { .. }, RestartFailed(_) | DelayElapsed) => {}
            (Waiting | Connected | Suspected { .. }, SendFailed(_)) => {}
        }
        None
    }

    /// Marks its row as written, with all that is known by now.
    pub(crate) fn store(&mut self) {
        self.stored = (self.progress.due, self.progress.armed_at);
    }

    /// Records that a poll which covers the participant is in flight.
    pub(crate) fn poll_started(&mut self, now: Timestamp, action_id: ActionId) {
        self.hourly_due = now + HOUR;
        self.poll.action_id = Some(action_id);
        self.poll.due = None;
        self.poll.count = self.poll.count.saturating_add(1);
    }

    /// Returns whether a new delegation replaces this one: it is for the same member, or for the same delayed event.
    pub(crate) fn is_replaced_by(&self, new: &Delegate) -> bool {
        let same_event = self.request.delay_id == new.delay_id && self.request.server_name == new.server_name;
        self.request.identity == new.identity || same_event
    }

    /// Returns whether `command` is the one that has made this delegation: it comes again where its answer was lost. The
    /// times tell it from that of a client which delegates an event once more.
    pub(crate) fn was_made_by(&self, command: &Delegate) -> bool {
        let Delegate { identity, legacy_identity, server_name, delay_id, delay_timeout, .. } = &self.request;
        let same_time = match (command.issued_at, self.request.issued_at) {
            (Some(issued_at), Some(own)) => issued_at == own,
            _ => command.restarted_at.is_some() && command.restarted_at == self.restarted_at(),
        };
        same_time
            && (&command.identity, &command.legacy_identity) == (identity, legacy_identity)
            && (&command.server_name, &command.delay_id) == (server_name, delay_id)
            && command.delay_timeout == *delay_timeout
    }

    /// Returns whether `command` is older than the one that has made this delegation, which would be replaced by it: it
    /// comes again late, because its answer was lost, and its client has delegated anew since. Commands come again
    /// within [`REPEATED_FOR`], so that a clock which is set back costs no delegation that is accepted later.
    pub(crate) fn supersedes(&self, now: Timestamp, command: &Delegate) -> bool {
        let is_recent = self.accepted_at <= now && now < self.accepted_at + REPEATED_FOR;
        let is_older = match (command.issued_at, self.request.issued_at) {
            (Some(issued_at), Some(own)) => issued_at < own,
            _ => {
                let since = self.restarted_at().unwrap_or(self.accepted_at);
                command.restarted_at.is_some_and(|restarted_at| restarted_at < since)
            }
        };
        is_recent && is_older && self.is_replaced_by(command) && !Mutant::BelieveLateCommands.is_injected()
    }

    /// Returns when the event was restarted before the acceptance. After a load, only that of the homeserver's timer is
    /// known, until the participant connects.
    fn restarted_at(&self) -> Option<Timestamp> {
        let waiting = self.progress.state == State::Waiting;
        self.request.restarted_at.or_else(|| waiting.then_some(self.progress.armed_at))
    }

    /// Returns which of this delegation's identities that is.
    pub(crate) fn alias_of(&self, identity: &Identity) -> Option<Alias> {
        if *identity == self.request.identity {
            Some(Alias::Member)
        } else {
            (self.request.legacy_identity.as_ref() == Some(identity)).then_some(Alias::Legacy)
        }
    }

    fn connect(&mut self, now: Timestamp) {
        self.progress.state = State::Connected;
        let trusted = self.request.restarted_at.is_some() && Mutant::TrustEarlyRestart.is_injected();
        self.call_homeserver_from(if trusted { now + self.restart_after() } else { now });
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

    fn await_reconnect(&mut self, now: Timestamp, window: Duration, first_poll: Duration) {
        self.progress.state = State::Suspected { since: now, believed_from: now + window };
        self.poll_from(now + first_poll);
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

    /// Polls again later, but at `limit` if that is to come and sooner.
    fn poll_again(&mut self, now: Timestamp, limit: Option<Timestamp>) {
        if Mutant::PollWithoutPause.is_injected() {
            return self.poll_from(now);
        }
        let count = self.poll.count;
        let (wait, limit) = match self.progress.state {
            // The last one is in time for a restart, should the participant be found.
            State::Waiting if count >= backoff::QUICK_POLLS => {
                let last = self.progress.armed_at + self.restart_after();
                (backoff::before_polling_for_waiting(count), Some(last))
            }
            State::Waiting => (backoff::before_polling_for_waiting(count), limit),
            _ => (backoff::before_polling_again(count), limit),
        };
        let later = now + wait;
        self.poll.due = Some(match limit {
            Some(limit) if limit > now => later.min(limit),
            _ => later,
        });
    }

    /// Ignores the poll in flight: a report has come since it began, so it will say nothing new.
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

/// Regular dues, of which only the base is stored.
struct Grid {
    base: Timestamp,
    interval: Duration,
    /// Time after a due until which it is worth making up for.
    slack: Duration,
}

impl Grid {
    /// The next due after a load, if all before `handled_until` have been made.
    fn next(&self, now: Timestamp, handled_until: Timestamp) -> Timestamp {
        let latest = Self::next_after(self.base, self.interval, now) - self.interval;
        let open = latest >= self.base
            && latest >= handled_until
            && now < latest + self.slack
            && !Mutant::SkipMissedRestarts.is_injected();
        match handled_until > now || !open {
            true => Self::next_after(self.base, self.interval, now.max(handled_until - INSTANT)),
            false => latest,
        }
    }

    /// The first due after `instant`.
    fn next_after(base: Timestamp, interval: Duration, instant: Timestamp) -> Timestamp {
        if base > instant {
            return base;
        }
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let elapsed_ms = instant.as_millis().saturating_sub(base.as_millis());
        base + Duration::from_millis((elapsed_ms / interval_ms).saturating_add(1).saturating_mul(interval_ms))
    }
}

/// The resolution of [`Timestamp`].
const INSTANT: Duration = Duration::from_millis(1);

/// Time after which an hourly poll that may have been missed isn't made up for: the next one is as good.
const HOURLY_SLACK: Duration = Duration::from_secs(600);

/// Time in which the participant may come back where the SFU has announced it.
const RECONNECT_WINDOW: Duration = Duration::from_secs(15);

/// Time in which the worker repeats a command whose answer is lost, and a little more.
const REPEATED_FOR: Duration = Duration::from_secs(15);

/// Time in which a client changes its connection for another.
const CHANGE_WINDOW: Duration = Duration::from_secs(1);

/// Time from that announcement to the first poll.
const FIRST_POLL: Duration = Duration::from_secs(2);
