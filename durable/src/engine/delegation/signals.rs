//! The signals that webhooks and answers are to one delegation.
//!
//! A webhook may be about a connection that ended long ago, or be minutes old itself. So it is only believed where it
//! can't be out of date; otherwise it is a reason to poll the SFU.

use std::time::Duration;

use crate::command::Delegate;
use crate::engine::action::{HomeserverAnswer, Participant, ParticipantState};
use crate::engine::backoff::{self, Jitter};
use crate::engine::connection::{Alias, Beginning, Connection, End};
use crate::engine::delegation::{Delegation, Ending, Signal, State};
use crate::engine::mutant::Mutant;
use crate::engine::webhook::{DisconnectReason, Occurrence, ParticipantRef, ROUNDING, WebhookEvent};
use crate::ids::Identity;
use crate::time::Timestamp;

/// Scope of a poll of the SFU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One identity, with `GetParticipant`.
    One(Identity),
    /// All participants, with `ListParticipants`.
    All,
}

impl Delegation {
    /// Signal of a webhook, if it is about this delegation. Records which connections have begun and ended.
    pub(crate) fn read_webhook(&mut self, now: Timestamp, event: &WebhookEvent) -> Option<Signal> {
        match &event.occurrence {
            Occurrence::ParticipantJoined(participant) => self.read_joined(now, event, participant),
            Occurrence::ParticipantLeft(participant, reason) => self.read_left(now, event, participant, *reason),
            // The participant may try again with the same identity; if it doesn't, the wait ends as it would have.
            Occurrence::ParticipantConnectionAborted(participant, reason) => {
                let waiting = self.is_waiting();
                self.read_left(now, event, participant, *reason).filter(|_| !waiting)
            }
            Occurrence::RoomFinished => self.read_room_finished(now, event),
        }
    }

    /// Signal of a poll that showed these participants.
    pub(crate) fn read_participants(
        &mut self,
        asked_at: Timestamp,
        scope: &Scope,
        participants: &[Participant],
    ) -> Signal {
        let mut here: Vec<(Alias, &Participant)> = participants
            .iter()
            .filter(|participant| participant.state != ParticipantState::Disconnected)
            .filter_map(|participant| Some((self.alias_of(&participant.identity)?, participant)))
            .filter(|(_, participant)| !self.progress.connections.is_over(participant.sid.as_ref()))
            .collect();
        if here.is_empty() {
            return match scope {
                Scope::One(_) if self.request.legacy_identity.is_some() => Signal::OneIdentityNotFound,
                Scope::One(_) | Scope::All => Signal::NotFound { polled_at: asked_at },
            };
        }
        // Where both of a delegation's identities are connected, the known one stays the one.
        let known = self.progress.connections.latest.as_ref();
        let latest = known.and_then(|known| known.sid.clone());
        here.sort_by_key(|(_, participant)| participant.sid != latest);
        let Some((alias, participant)) = here.iter().find(|(_, there)| there.state == ParticipantState::Active) else {
            return Signal::Inconclusive;
        };
        let contested = match scope {
            // A single poll doesn't change whether another may stand beside it.
            Scope::One(_) if participant.sid == latest => known.is_some_and(|known| known.contested),
            Scope::One(_) => self.request.legacy_identity.is_some(),
            Scope::All => here.len() > 1,
        };
        if self.is_waiting() && participant.joined_at.is_some_and(|joined_at| joined_at > self.accepted_at) {
            self.found_at = Some(asked_at);
        }
        let since = Some(participant.joined_at.unwrap_or(asked_at));
        let seen = Connection { alias: *alias, sid: participant.sid.clone(), since, contested };
        self.progress.connections.see(seen);
        Signal::Joined
    }

    /// Returns whether a list of all participants, which wasn't requested for this delegation, shows one for whose
    /// connection it waits.
    pub(crate) fn is_shown_by(&self, participants: &[Participant]) -> bool {
        self.is_waiting()
            && participants.iter().any(|participant| {
                participant.state == ParticipantState::Active
                    && self.alias_of(&participant.identity).is_some()
                    && !self.progress.connections.is_over(participant.sid.as_ref())
            })
    }

    /// Signal of the answer to a `restart` that was sent at `started_at`. Where a homeserver limits requests, the last try
    /// before the deadline isn't put off beyond it by chance.
    pub(crate) fn read_restart(
        &self,
        now: Timestamp,
        started_at: Timestamp,
        answer: HomeserverAnswer,
        jitter: Jitter,
    ) -> Signal {
        match answer {
            HomeserverAnswer::Limited(_)
                if now + backoff::after_answer(answer, self.progress.failures, jitter) >= self.deadline() =>
            {
                Signal::RestartFailed(backoff::after_answer(answer, self.progress.failures, Jitter::SHORTEST))
            }
            HomeserverAnswer::Done => Signal::Restarted(started_at),
            HomeserverAnswer::Gone => Signal::Finalised(Ending::EventGone),
            HomeserverAnswer::Limited(_) | HomeserverAnswer::Failed => {
                Signal::RestartFailed(backoff::after_answer(answer, self.progress.failures, jitter))
            }
        }
    }

    /// Signal of the answer to a `send`.
    pub(crate) fn read_send(&self, answer: HomeserverAnswer, jitter: Jitter) -> Signal {
        match answer {
            HomeserverAnswer::Done | HomeserverAnswer::Gone => Signal::Finalised(Ending::Sent),
            HomeserverAnswer::Limited(_) | HomeserverAnswer::Failed => {
                Signal::SendFailed(backoff::after_answer(answer, self.progress.failures, jitter))
            }
        }
    }

    /// Scope of a poll for this delegation: a connected participant by its identity, any other by all that it may
    /// have.
    pub(crate) fn scope(&self) -> Scope {
        let Delegate { identity, legacy_identity, .. } = &self.request;
        let connected = match (self.progress.state, &self.progress.connections.latest) {
            (State::Connected, Some(latest)) => Some(latest.alias),
            _ => None,
        };
        match (connected, legacy_identity) {
            (_, None) | (Some(Alias::Member), _) => Scope::One(identity.clone()),
            (Some(Alias::Legacy), Some(legacy)) => Scope::One(legacy.clone()),
            (None, Some(_)) => Scope::All,
        }
    }

    fn read_joined(&mut self, now: Timestamp, event: &WebhookEvent, participant: &ParticipantRef) -> Option<Signal> {
        let alias = self.alias_of(&participant.identity)?;
        let connections = &mut self.progress.connections;
        // If it had ended before the delegation was made, no webhook would have reached us.
        let same_second = event.happened_after(self.accepted_at) == Some(false);
        if event.happened_before(self.accepted_at) == Some(true) || (same_second && event.is_stale(now)) {
            return connections.suspect(alias, participant.sid.as_ref()).then_some(Signal::MaybeJoined);
        }
        // The same goes for a connection that has made room for the next since, or migrated: it is polled for.
        let before_news = match self.progress.state {
            State::Suspected { since, .. } | State::Leaving { since } => event.happened_before(since),
            State::Waiting | State::Connected => None,
        };
        let suspected = matches!(self.progress.state, State::Suspected { .. });
        let since = participant.joined_at.or(event.created_at);
        let connection = Connection { alias, sid: participant.sid.clone(), since, contested: false };
        match (connections.begin(connection), before_news) {
            (Beginning::New, Some(true)) if suspected => Some(Signal::MaybeJoined),
            (Beginning::New, _) | (Beginning::Known, Some(false)) => Some(Signal::Joined),
            (Beginning::Known, _) => Some(Signal::MaybeJoined),
            (Beginning::Over, _) => None,
        }
    }

    fn read_left(
        &mut self,
        now: Timestamp,
        event: &WebhookEvent,
        participant: &ParticipantRef,
        reason: DisconnectReason,
    ) -> Option<Signal> {
        let alias = self.alias_of(&participant.identity)?;
        let latest = self.progress.connections.latest.as_ref();
        let contested = latest.is_some_and(|latest| latest.contested);
        let since = latest.and_then(|latest| latest.since).filter(|_| participant.sid.is_none());
        if since.is_some_and(|since| event.happened_before(since) == Some(true)) {
            return None;
        }
        let doubtful = is_doubtful(event, now) || since.is_some_and(|since| event.is_unordered_with(since));
        let returning = reason.is_reconnecting()
            && !Mutant::BelieveReconnecting.is_injected()
            && (reason.is_replaced() || !Mutant::BelieveSentRound.is_injected());
        let began = latest.filter(|latest| participant.sid.is_none() || participant.sid == latest.sid);
        let began = participant.joined_at.or_else(|| began.and_then(|latest| latest.since));
        let ended = event.created_at.unwrap_or(now);
        let early = reason == DisconnectReason::ClientInitiated
            && began.is_none_or(|began| ended <= began + EARLY + ROUNDING)
            && !Mutant::BelieveEarlyEnd.is_injected();
        let for_good = reason != DisconnectReason::Migration && !Mutant::ForgetEndedConnections.is_injected();
        let end = match self.progress.connections.end(alias, participant, for_good) {
            End::Older if Mutant::IgnoreSid.is_injected() => End::Latest,
            end => end,
        };
        match end {
            // It has been connected since the delegation was made, or it doesn't count.
            _ if self.is_waiting() => {
                (event.happened_before(self.accepted_at) == Some(false)).then_some(Signal::MaybeLeft)
            }
            End::Older => None,
            End::Later | End::Latest if returning => Some(Signal::Reconnecting),
            End::Later | End::Latest if early && !doubtful => Some(Signal::LeftEarly),
            End::Latest if !contested && !doubtful => Some(Signal::Left),
            End::Later | End::Latest => Some(Signal::MaybeLeft),
        }
    }

    fn read_room_finished(&mut self, now: Timestamp, event: &WebhookEvent) -> Option<Signal> {
        let latest = self.progress.connections.latest.as_ref().filter(|_| !self.is_waiting())?;
        let since = latest.since;
        // It is about an earlier room of that name.
        if since.is_some_and(|since| event.happened_before(since) == Some(true)) {
            return None;
        }
        // A room that was empty before then says nothing about a participant that may have come back since: all clients of
        // a node that goes down leave its rooms empty, and webhooks take their time.
        if let State::Suspected { believed_from, .. } = self.progress.state
            && event.happened_after(believed_from) != Some(true)
            && !Mutant::BelieveFinishedAnyway.is_injected()
        {
            return None;
        }
        // Or it may be: a room that is made again in the same second has the same times.
        let unordered = since.is_some_and(|since| event.is_unordered_with(since));
        Some(if unordered || is_doubtful(event, now) { Signal::MaybeLeft } else { Signal::Left })
    }

    fn is_waiting(&self) -> bool {
        self.progress.state == State::Waiting
    }
}

/// Age up to which a connection that its client ends may be followed by another at once: Element Call changes its
/// connection while it joins.
const EARLY: Duration = Duration::from_secs(5);

fn is_doubtful(event: &WebhookEvent, now: Timestamp) -> bool {
    event.is_stale(now) && !Mutant::BelieveStaleWebhooks.is_injected()
}
