//! The engine of one LiveKit room, as a value.
//!
//! # How it works
//!
//! - [`RoomEngine::handle`] takes an [`Input`]: a command of the worker, or the outcome of an action. It turns the
//!   input into signals for the delegations and the tracked participants that it concerns; their transition tables
//!   decide.
//! - [`RoomEngine::take_due`] returns the [`Action`]s that are due. Each is kept in flight until its outcome is
//!   handed in, or has taken too long.
//! - Each change of a delegation or participant marks its row. [`RoomEngine::take_changes`] returns the marked rows;
//!   storing them is the caller's.
//! - All times are dues: each part knows its own next ones, and [`RoomEngine::next_due`] is their minimum. There is
//!   no list of timers that could get out of step with the state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::command::{Delegate, RoomAnswer, RoomCommand};
#[cfg(feature = "mutants")]
use crate::engine::action::TrackedId;
use crate::engine::action::{
    Action, ActionId, DelayedEvent, DelegationId, HomeserverAnswer, Outcome, Request, SfuAnswer,
};
use crate::engine::backoff::Jitter;
use crate::engine::bounds;
use crate::engine::delegation::row::DelegationRow;
use crate::engine::delegation::signals::Scope;
use crate::engine::delegation::{Delegation, Ending, Progress, Signal, State};
use crate::engine::in_flight::{InFlight, InFlightAction, Seq};
use crate::engine::log_event::LogEvent;
use crate::engine::membership::MembershipMonitor;
#[cfg(feature = "mutants")]
use crate::engine::membership::row::TrackedRow;
use crate::engine::mutant::Mutant;
use crate::engine::pacing::Pacing;
use crate::engine::storage::{Change, RoomRow, Rows};
use crate::engine::webhook::WebhookEvent;
use crate::ids::Identity;
use crate::time::Timestamp;

/// The delegated leaves of one LiveKit room, and the participants that have to be in a Matrix room: an engine without
/// I/O, clock, storage and randomness. The [crate's documentation](crate) shows how it is driven.
#[derive(Clone, Debug)]
pub struct RoomEngine {
    pub(crate) config: EngineConfig,
    pub(crate) delegations: BTreeMap<DelegationId, Delegation>,
    pub(crate) membership: MembershipMonitor,
    pub(crate) in_flight: InFlight,
    pub(crate) pacing: Pacing,
    pub(crate) sanity_check_due: Option<Timestamp>,
    /// Time of the latest call.
    pub(crate) latest: Timestamp,
    /// When the SFU may be polled again.
    pub(crate) next_poll: Timestamp,
    newest: DelegationId,
    pub(crate) changed: BTreeSet<DelegationId>,
    deleted: Vec<DelegationId>,
    room_changed: bool,
    /// Whether a webhook has come since the load.
    webhook_received: bool,
    log_events: Vec<LogEvent>,
}

/// Configuration of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineConfig {
    /// Interval of the sanity checks, polls of the SFU for all connected participants. `None`: no checks.
    pub sanity_check_interval: Option<Duration>,
    /// Interval of the sweeps, requests to our homeserver for the members of the Matrix room while a participant is
    /// connected, and of polls for participants that may be. `None`: there are none, not even when a participant
    /// connects.
    pub membership_check_interval: Option<Duration>,
}

/// Input of an engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Command of the worker.
    Command(RoomCommand),
    /// Outcome of an action.
    Outcome {
        /// Id of the action.
        id: ActionId,
        /// The outcome. One of another kind than its action's counts as a failure.
        outcome: Outcome,
        /// Spreads the next attempt, should there be one.
        jitter: Jitter,
    },
}

impl RoomEngine {
    /// Loads a room as it was stored, at the time `now`. Actions that were in flight when it was last stored are due
    /// again.
    ///
    /// `handled_until` is what the alarm says of it, where one is set and hasn't gone off
    /// ([`Alarm::handled_until`](crate::Alarm::handled_until)): all that was due before has been done. `None` where there
    /// is none, where it is past, or where it doesn't say so.
    pub fn load(config: EngineConfig, now: Timestamp, rows: Rows, handled_until: Option<Timestamp>) -> Self {
        let Rows { delegations, tracked, room } = rows;
        let handled_until = handled_until.max(room.handled_until).unwrap_or_default();
        let mut delegations: BTreeMap<_, _> =
            delegations.into_iter().map(|row| (row.id, row.resume(now, handled_until))).collect();
        // Only a prefix of the changes may have been stored: a replacement, but not the end of what it replaced.
        let replaced = replaced(delegations.values().rev());
        for old in &replaced {
            delegations.remove(old);
        }
        let connected = delegations.values().any(|delegation| delegation.progress.state == State::Connected);
        let membership = MembershipMonitor::load(config.membership_check_interval, now, tracked, handled_until);
        // The interval may have been changed meanwhile, or sanity checks switched on.
        let sanity_check_due = config
            .sanity_check_interval
            .filter(|_| connected || !membership.is_empty())
            .map(|interval| room.sanity_check_due.map_or(now, |due| due.min(now + interval)));
        Self {
            config,
            newest: delegations.keys().next_back().copied().unwrap_or(DelegationId(0)),
            latest: now,
            next_poll: Timestamp::default(),
            delegations,
            membership,
            in_flight: InFlight::new(now),
            pacing: Pacing::default(),
            sanity_check_due,
            changed: BTreeSet::new(),
            deleted: replaced,
            room_changed: false,
            webhook_received: false,
            log_events: Vec::new(),
        }
    }

    /// Lets the room share the rates of homeservers that limit requests with others of its process: see
    /// [`Pacing::for_another_room`].
    pub fn share_pacing(&mut self, pacing: Pacing) {
        self.pacing = pacing;
    }

    /// Handles an input. It starts no action: see [`take_due`](Self::take_due). The answer is that to a command; where
    /// it is [`RoomAnswer::Full`], nothing has changed.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> RoomAnswer {
        self.set_now(now);
        match input {
            Input::Command(RoomCommand::Delegate(request)) => {
                if self.is_full_for(&request) {
                    return RoomAnswer::Full;
                }
                self.delegate(now, request);
            }
            Input::Command(RoomCommand::Track(request)) => {
                if self.membership.is_full_for(&request) {
                    return RoomAnswer::Full;
                }
                self.membership.track(now, request);
                self.schedule_sanity_check(now);
            }
            Input::Command(RoomCommand::Wake | RoomCommand::Status { .. }) => {}
            Input::Command(RoomCommand::Webhook(event)) => self.webhook(now, &event),
            Input::Outcome { id, outcome, jitter } => {
                if let Some(action) = self.in_flight.complete(id) {
                    self.outcome(now, id, action, outcome, jitter);
                }
            }
        }
        if self.is_empty() { RoomAnswer::Nothing } else { RoomAnswer::Recorded }
    }

    /// Returns whether a delegation goes over a bound. Those that it replaces don't count.
    fn is_full_for(&self, request: &Delegate) -> bool {
        let others = self.delegations.values().filter(|old| !old.is_replaced_by(request)).map(|old| &old.request);
        !Mutant::NoBound.is_injected() && bounds::is_full_for(others, request)
    }

    /// Returns the actions that are due, the most urgent first and `limit` at the most. Each is in flight until its
    /// outcome is handed in. It is to be called again after each outcome, until it returns nothing and nothing is in
    /// flight.
    pub fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<Action> {
        self.set_now(now);
        for (id, action) in self.in_flight.timed_out(now) {
            let outcome = action.request.failed();
            self.outcome(now, id, action, outcome, Jitter::MIDDLE);
        }
        self.membership.forget(now);
        if self.is_empty() {
            self.sanity_check_due = None;
        }
        let overdue: Vec<_> = self
            .delegations
            .values()
            .filter_map(|delegation| Some((delegation.id, delegation.timeout(now)?)))
            .collect();
        for (id, signal) in overdue {
            self.signal(now, id, |_| Some(signal));
        }
        let mut actions = Vec::new();
        if limit > 0 {
            actions.extend(self.take_due_poll(now));
        }
        self.membership.take_due(now, limit, &mut self.in_flight, &mut actions);
        self.take_due_homeserver_requests(now, limit, &mut actions);
        self.membership.take_due_searches(now, limit, &mut self.in_flight, &mut actions);
        actions
    }

    /// Returns when [`take_due`](Self::take_due) is next needed; that may be past. `None`: not before another input.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.dues().min()
    }

    /// Returns the same for a caller that has just called it, and waits for outcomes: dues that were held back wait
    /// for them too.
    pub fn next_due_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.dues().filter(|due| *due > now).min()
    }

    /// Takes the changes to store since the last call, in this order: what is new comes before what is deleted, so that
    /// a failure in the middle leaves more than the truth on disk, and never less. After a failure to store them the
    /// engine is ahead of the storage: it has to be dropped and loaded anew.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut deletions: Vec<_> = self.deleted.drain(..).map(Change::Delete).collect();
        deletions.extend(self.membership.take_deleted().into_iter().map(Change::Forget));
        let mut changes = Vec::new();
        changes.extend(self.membership.take_changed().map(|row| Change::Track(Box::new(row))));
        for id in std::mem::take(&mut self.changed) {
            if let Some(delegation) = self.delegations.get(&id) {
                changes.push(Change::Put(Box::new(DelegationRow::of(delegation))));
            }
        }
        // The room's row is dropped with all the rest where nothing is left.
        if std::mem::take(&mut self.room_changed) && !self.is_empty() {
            changes.push(Change::PutRoom(self.room_row()));
        }
        if Mutant::DeleteFirst.is_injected() {
            deletions.append(&mut changes);
            return deletions;
        }
        changes.append(&mut deletions);
        changes
    }

    /// Takes the events for the log since the last call.
    pub fn take_log_events(&mut self) -> Vec<LogEvent> {
        let mut log_events = std::mem::take(&mut self.log_events);
        log_events.extend(self.membership.take_log_events());
        log_events
    }

    /// Returns all rows, by their ids, as they ought to be stored by now.
    #[cfg(feature = "mutants")]
    pub fn rows(&self) -> Rows {
        Rows {
            delegations: self.delegations.values().map(DelegationRow::of).collect(),
            tracked: self.membership.rows(),
            room: self.room_row(),
        }
    }

    /// Returns whether these are all rows of delegations and participants as they ought to be stored by now.
    #[cfg(feature = "mutants")]
    pub fn is_stored_as(
        &self,
        delegations: &BTreeMap<DelegationId, DelegationRow>,
        tracked: &BTreeMap<TrackedId, TrackedRow>,
    ) -> bool {
        let mut pairs = delegations.values().zip(self.delegations.values());
        delegations.len() == self.delegations.len()
            && pairs.all(|(row, delegation)| row.is_of(delegation))
            && self.membership.is_stored_as(tracked)
    }

    /// Returns whether there is neither a delegation nor a tracked participant: nothing to store, nothing to do.
    pub fn is_empty(&self) -> bool {
        self.delegations.is_empty() && self.membership.is_empty()
    }

    /// Returns the number of delegations.
    pub fn len(&self) -> usize {
        self.delegations.len()
    }

    /// Returns whether actions are in flight.
    pub fn has_actions_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    fn room_row(&self) -> RoomRow {
        // A restart in flight isn't done yet, and a delegation may connect at any time from now on.
        let restarts = self.delegations.values().filter_map(|delegation| match delegation.progress.state {
            State::Connected | State::Suspected { .. } => Some(delegation.progress.due),
            State::Waiting | State::Leaving { .. } => None,
        });
        RoomRow { sanity_check_due: self.sanity_check_due, handled_until: restarts.chain([self.latest]).min() }
    }

    fn dues(&self) -> impl Iterator<Item = Timestamp> {
        let polls = self.poll_dues().map(|due| Some(due.max(self.next_poll)));
        let polling = self.in_flight.polling();
        let refused = self.refused(self.latest);
        let others = self.delegations.values().flat_map(move |delegation| {
            let [timeout, restart_at, send_at] = delegation.dues(self.latest);
            // One that isn't known to be held back has to be, once it is due.
            let held = |at: Timestamp| match delegation.progress.failures {
                0 if !Mutant::ForgetHeld.is_injected() => at,
                _ => at.max(self.held_until(self.latest, delegation, &refused)),
            };
            [timeout, restart_at.map(held), send_at]
        });
        polls
            .filter(move |_| !polling)
            .chain(others)
            .chain([self.in_flight.next_timeout()])
            .flatten()
            .chain(self.membership.dues())
    }

    /// When the SFU is to be polled, polls in flight and the pause after the last one apart.
    pub(crate) fn poll_dues(&self) -> impl Iterator<Item = Timestamp> {
        let hourly = self.delegations.values().filter_map(|delegation| self.hourly_due(delegation));
        let delegations = self.delegations.values().map(Delegation::poll_at);
        delegations.chain(hourly.map(Some)).chain([self.sanity_check_due, self.membership.poll_due()]).flatten()
    }

    /// When the SFU is to be polled for a connected participant although sanity checks are off: an SFU that died without
    /// webhooks must not keep its participants for ever.
    pub(crate) fn hourly_due(&self, delegation: &Delegation) -> Option<Timestamp> {
        let connected = delegation.progress.state == State::Connected && delegation.poll.action_id.is_none();
        let is_on = self.config.sanity_check_interval.is_none() && !Mutant::NoHourlyPoll.is_injected();
        (connected && is_on).then_some(delegation.hourly_due)
    }

    /// Returns until when the caller may wait without an alarm, if nothing is in flight: a poll for a participant that
    /// was delegated seconds ago is due then. An alarm would be a row.
    pub fn nap_until(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.delegations.values().filter(|delegation| delegation.progress.state == State::Waiting);
        let polls = waiting.filter_map(Delegation::poll_at).map(|due| due.max(self.next_poll));
        polls.min().filter(|due| *due <= now + LONGEST_NAP && self.next_due() == Some(*due))
    }

    fn delegate(&mut self, now: Timestamp, request: Delegate) {
        if self.delegations.values().any(|known| known.was_made_by(&request) || known.supersedes(now, &request)) {
            return;
        }
        let id = DelegationId(now.as_millis().max(self.newest.0 + 1));
        self.newest = id;
        let replaced: Vec<_> =
            self.delegations.values().filter(|old| old.is_replaced_by(&request)).map(|old| old.id).collect();
        for old in replaced {
            if Mutant::ResultsOutliveReplacement.is_injected() {
                self.in_flight.hand_over(old, id);
            }
            if !Mutant::KeepReplaced.is_injected() {
                self.end(old, Ending::Replaced);
            }
        }
        self.log_events.push(LogEvent::delegated(&request));
        self.delegations.insert(id, Delegation::new(id, request, now));
        self.changed.insert(id);
    }

    fn webhook(&mut self, now: Timestamp, event: &WebhookEvent) {
        self.webhook_received = true;
        let ids: Vec<_> = self.delegations.keys().copied().collect();
        for id in ids {
            self.signal(now, id, |delegation| delegation.read_webhook(now, event));
        }
        self.membership.webhook(now, event);
    }

    /// Passes the outcome of an action to the delegations and participants that it is about.
    fn outcome(&mut self, now: Timestamp, id: ActionId, action: InFlightAction, outcome: Outcome, jitter: Jitter) {
        let InFlightAction { request, started_at, started_seq } = action;
        match request {
            Request::Restart(event) => {
                let answer = self.homeserver_answer(now, &event, outcome, now.since(started_at));
                self.signal(now, event.delegation, |delegation| {
                    delegation.restarting = false;
                    delegation.limited = matches!(answer, HomeserverAnswer::Limited(_));
                    Some(delegation.read_restart(now, started_at, answer, jitter))
                });
            }
            Request::Send(event) => {
                let answer = self.homeserver_answer(now, &event, outcome, now.since(started_at));
                self.signal(now, event.delegation, |delegation| {
                    delegation.sending = false;
                    delegation.limited = matches!(answer, HomeserverAnswer::Limited(_));
                    Some(delegation.read_send(answer, jitter))
                });
            }
            Request::GetParticipant { identity, .. } => {
                self.polled(now, id, (started_at, started_seq), &Scope::One(identity), outcome.sfu());
            }
            Request::ListParticipants { .. } => {
                self.polled(now, id, (started_at, started_seq), &Scope::All, outcome.sfu());
            }
            Request::JoinedMembers { matrix_room_id } => {
                self.membership.members_answered(now, id, &matrix_room_id, started_seq, outcome.members());
            }
            Request::IsServerJoined { matrix_room_id } => {
                self.membership.server_answered(now, id, &matrix_room_id, started_seq, outcome.server());
            }
            Request::IsUserJoined { matrix_room_id, user_id } => {
                let answer = outcome.server();
                self.membership.user_answered(now, id, &matrix_room_id, &user_id, started_seq, answer);
            }
            Request::RemoveParticipant { identity, .. } => {
                let answer = outcome.removal();
                if self.membership.removal_answered(now, id, &identity, started_seq, answer, jitter) {
                    self.removed(now, &[identity]);
                }
            }
            Request::DeleteRoom { matrix_room_id, .. } => {
                let answer = outcome.removal();
                let removed = self.membership.deletion_answered(now, id, &matrix_room_id, started_seq, answer, jitter);
                self.removed(now, &removed);
            }
        }
    }

    fn homeserver_answer(
        &mut self,
        now: Timestamp,
        event: &DelayedEvent,
        outcome: Outcome,
        took: Duration,
    ) -> HomeserverAnswer {
        let answer = outcome.homeserver();
        let mut delegations = self.delegations.values();
        if let Some(delegation) = delegations.find(|other| other.request.server_name == event.server_name) {
            self.in_flight.record_answer(&event.server_name, answer, took);
            if self.pacing.answered(now, &event.server_name, answer) {
                let delegation = self.delegations.get(&event.delegation).unwrap_or(delegation);
                self.log_events.push(LogEvent::limited(&delegation.request));
            }
        }
        answer
    }

    fn polled(&mut self, now: Timestamp, id: ActionId, started: (Timestamp, Seq), scope: &Scope, answer: SfuAnswer) {
        let participants = match &answer {
            SfuAnswer::Participants(participants) => Some(participants.as_slice()),
            SfuAnswer::Failed => None,
        };
        self.membership.polled(now, started, scope, participants);
        let polled: Vec<_> = self
            .delegations
            .values()
            .filter(|delegation| delegation.poll.action_id == Some(id))
            .map(|delegation| delegation.id)
            .collect();
        for delegation in polled {
            self.signal(now, delegation, |delegation| {
                delegation.poll.action_id = None;
                Some(match participants {
                    Some(participants) => delegation.read_participants(started.0, scope, participants),
                    None if Mutant::FailedPollMeansAbsent.is_injected() => Signal::NotFound { polled_at: started.0 },
                    None => Signal::Inconclusive,
                })
            });
            if participants.is_some() {
                self.log_unreported(now, delegation);
            }
        }
        let shown: Vec<_> = match (scope, participants) {
            (Scope::All, Some(participants)) => {
                let shown = self.delegations.values().filter(|delegation| delegation.is_shown_by(participants));
                shown.filter(|delegation| delegation.poll.action_id.is_none()).map(|delegation| delegation.id).collect()
            }
            _ => Vec::new(),
        };
        // What has happened since that poll was started isn't known: they are polled for anew.
        for delegation in shown {
            self.signal(now, delegation, |_| Some(Signal::MaybeJoined));
        }
    }

    /// Logs, once, a connected participant that a poll found long ago, and no webhook has reported.
    fn log_unreported(&mut self, now: Timestamp, id: DelegationId) {
        let Some(delegation) = self.delegations.get_mut(&id).filter(|_| !self.webhook_received) else { return };
        let connected = delegation.progress.state == State::Connected;
        if connected && delegation.found_at.is_some_and(|found_at| now.since(found_at) >= REPORTED_WITHIN) {
            delegation.found_at = None;
            self.log_events.push(LogEvent::unreported(&delegation.request));
        }
    }

    /// Handles the removal of participants from the SFU. Their leaves are sent as soon as that is confirmed: by a
    /// webhook, or else by a poll.
    fn removed(&mut self, now: Timestamp, identities: &[Identity]) {
        let connected: Vec<_> = self
            .delegations
            .values()
            .filter(|delegation| {
                let removed = identities.iter().any(|identity| delegation.alias_of(identity).is_some());
                delegation.progress.state == State::Connected && removed
            })
            .map(|delegation| delegation.id)
            .collect();
        for id in connected {
            self.signal(now, id, |_| Some(Signal::MaybeLeft));
        }
    }

    /// Gives a delegation the signal that `read` finds for it, and marks its row if it changes.
    fn signal(&mut self, now: Timestamp, id: DelegationId, read: impl FnOnce(&mut Delegation) -> Option<Signal>) {
        let Some(delegation) = self.delegations.get_mut(&id) else { return };
        let before = delegation.progress.clone();
        let Some(signal) = read(delegation) else {
            if delegation.progress != before {
                delegation.store();
                self.changed.insert(id);
            }
            return;
        };
        if let Some(ending) = delegation.handle(now, signal) {
            return self.end(id, ending);
        }
        let restarted =
            Progress { due: delegation.progress.due, armed_at: delegation.progress.armed_at, ..before.clone() };
        // A restart's success is stored with the next change.
        let untold = matches!(signal, Signal::Restarted(_))
            && matches!(before.state, State::Connected | State::Suspected { .. })
            && delegation.progress == restarted;
        let forgotten = Mutant::ForgetToStore.is_injected() && matches!(signal, Signal::RestartFailed(_));
        if delegation.progress != before && !untold && !forgotten {
            delegation.store();
            self.changed.insert(id);
        }
        self.log_events.extend(LogEvent::between(before.state, delegation, signal));
        if delegation.progress.state == State::Connected {
            self.schedule_sanity_check(now);
        }
    }

    fn end(&mut self, id: DelegationId, ending: Ending) {
        if let Some(delegation) = self.delegations.remove(&id) {
            self.log_events.push(LogEvent::ended(&delegation, ending));
            self.changed.remove(&id);
            self.deleted.push(id);
            let server_name = &delegation.request.server_name;
            if !self.delegations.values().any(|other| other.request.server_name == *server_name) {
                self.in_flight.forget_standing(server_name);
            }
            if self.is_empty() {
                self.sanity_check_due = None;
            }
        }
    }

    /// Schedules a sanity check, if there is none.
    fn schedule_sanity_check(&mut self, now: Timestamp) {
        if let Some(interval) = self.config.sanity_check_interval
            && self.sanity_check_due.is_none()
        {
            self.set_sanity_check(Some(now + interval));
        }
    }

    pub(crate) fn set_sanity_check(&mut self, due: Option<Timestamp>) {
        self.room_changed |= self.sanity_check_due != due;
        self.sanity_check_due = due;
    }
}

/// Time after which the webhook of a connection is overdue.
const REPORTED_WITHIN: Duration = Duration::from_secs(10);

/// The longest of the first waits between polls, and a little more.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// Returns the delegations that another one replaces, given the newest first. See [`Delegation::is_replaced_by`].
fn replaced<'a>(newest_first: impl Iterator<Item = &'a Delegation>) -> Vec<DelegationId> {
    let (mut members, mut events) = (HashSet::new(), HashSet::new());
    let mut is_replaced = |delegation: &&'a Delegation| {
        let Delegate { identity, delay_id, server_name, .. } = &delegation.request;
        let new_member = members.insert(identity);
        let new_event = events.insert((delay_id, server_name));
        !new_member || !new_event
    };
    newest_first.filter(|delegation| is_replaced(delegation)).map(|delegation| delegation.id).collect()
}
