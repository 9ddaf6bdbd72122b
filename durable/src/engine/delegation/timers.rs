//! Dues of one delegation: all of them follow from its state.

use std::time::Duration;

use crate::delay::HOUR;
use crate::engine::delegation::{AbsenceEvidence, Delegation, Signal, State};
use crate::engine::webhook::FRESH;
use crate::time::Timestamp;

impl Delegation {
    /// Signal of the time, if the state's longest time is over.
    pub(crate) fn timeout(&self, now: Timestamp) -> Option<Signal> {
        self.state_timeout().filter(|(at, _)| *at <= now).map(|(_, signal)| signal)
    }

    /// Times at which there is something to do or to decide, polls and actions in flight apart. A `send` that was held
    /// back until `now` waits for the next poll, if the evidence of the absence isn't fresh any more.
    pub(crate) fn dues(&self, now: Timestamp) -> [Option<Timestamp>; 3] {
        let send_at = self.send_at().filter(|at| self.is_absent_at(now.max(*at)));
        [self.state_timeout().map(|(at, _)| at), self.restart_at(), send_at]
    }

    /// When the next `restart` is due.
    pub(crate) fn restart_at(&self) -> Option<Timestamp> {
        let connected = matches!(self.progress.state, State::Connected | State::Suspected { .. });
        (connected && !self.restarting && !self.is_last_try_over(self.deadline())).then_some(self.progress.due)
    }

    /// When a request that was refused for the homeserver's rate is tried again.
    pub(crate) fn limited_until(&self) -> Option<Timestamp> {
        self.restart_at().or(self.unsent()).filter(|_| self.limited)
    }

    /// When the `send` is due, unless the participant's absence has to be confirmed anew first.
    pub(crate) fn send_at(&self) -> Option<Timestamp> {
        self.unsent().filter(|due| self.poll.action_id.is_none() && self.is_absent_at(*due))
    }

    /// Returns whether the evidence of the absence is fresh enough at that time for a `send`.
    pub(crate) fn is_absent_at(&self, time: Timestamp) -> bool {
        match self.absence {
            AbsenceEvidence::Unproven => false,
            AbsenceEvidence::Seen(at) => time <= at + FRESH,
            AbsenceEvidence::Presumed => true,
        }
    }

    /// When the SFU is to be polled for this participant, sanity checks and hourly polls apart.
    pub(crate) fn poll_at(&self) -> Option<Timestamp> {
        if self.poll.action_id.is_some() {
            return None;
        }
        match (self.progress.state, self.absence) {
            (State::Waiting | State::Suspected { .. }, _) => self.poll.due,
            (State::Connected, _) | (State::Leaving { .. }, AbsenceEvidence::Presumed) => None,
            (State::Leaving { .. }, AbsenceEvidence::Unproven) => {
                Some(self.unsent()?.max(self.poll.due.unwrap_or_default()))
            }
            (State::Leaving { .. }, AbsenceEvidence::Seen(at)) => Some(self.unsent()?.max(at + FRESH + INSTANT)),
        }
    }

    /// `T` after the last successful restart, ten seconds at least: from then on the homeserver has sent the event by
    /// itself.
    pub(crate) fn deadline(&self) -> Timestamp {
        self.progress.armed_at + self.request.delay_timeout.expiry()
    }

    /// Time until which `send` is tried: the deadline, but a second at least and an hour at most from `since`.
    pub(crate) fn send_until(&self, since: Timestamp) -> Timestamp {
        since + self.deadline().since(since).clamp(SHORTEST_WINDOW, HOUR)
    }

    /// Time at which the present state ends if nothing happens, and its signal then.
    fn state_timeout(&self) -> Option<(Timestamp, Signal)> {
        let expiry = (self.tried && !self.restarting).then(|| (self.deadline(), Signal::DelayElapsed));
        match self.progress.state {
            State::Waiting => Some((self.progress.due, Signal::StateTimeout)),
            State::Connected => expiry,
            State::Suspected { since, .. } => {
                let patience = (since + HOUR, Signal::StateTimeout);
                Some(expiry.filter(|expiry| expiry.0 <= patience.0).unwrap_or(patience))
            }
            State::Leaving { since } => {
                (self.tried && !self.sending).then(|| (self.send_until(since), Signal::StateTimeout))
            }
        }
    }

    /// When the `send` is due, if it isn't in flight and there is time for it.
    fn unsent(&self) -> Option<Timestamp> {
        match self.progress.state {
            State::Leaving { since } if !self.sending && !self.is_last_try_over(self.send_until(since)) => {
                Some(self.progress.due)
            }
            _ => None,
        }
    }

    /// Returns whether the next try would come too late. There is always one.
    fn is_last_try_over(&self, limit: Timestamp) -> bool {
        self.tried && self.progress.due >= limit
    }
}

const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// The resolution of [`Timestamp`].
const INSTANT: Duration = Duration::from_millis(1);
