//! Keeps a call to those whose users are in the Matrix room.
//!
//! # How it works
//!
//! - The issue of a token is recorded before the client has the token ([`MembershipMonitor::track`]). The participants
//!   are [`Tracked`], each with a state; their transition table is in [`participant`].
//! - While one of them is connected, the homeserver is requested for `joined_members` in regular [`Sweep`]s, and
//!   whenever one connects. Participants whose users aren't among the members are removed from the SFU.
//! - A participant that a token admits, and that isn't known to be connected, is polled for at the SFU at the same
//!   intervals: the webhook of its connection may have been lost. Without an interval there are no checks at all.
//! - Members that can't be read are no reason to remove no participant: then the homeserver is requested for
//!   `is_joined` of each connected user ([`UserChecks`]), a few at a time.
//! - Connected participants are removed first, the longest untried of them. A participant that isn't connected is
//!   sought once for each token, one at a time, when nothing else is due: a user who fills the list delays no removal.
//! - Only the homeserver's own word removes a participant. A failure changes nothing; a 403 leads to `is_joined` for
//!   our own homeserver. If it isn't in the Matrix room, none of its users is, and the LiveKit room is deleted. If it
//!   is, the registration's namespace is wrong: that is logged, and all participants stay.
//! - Requests and answers overlap with webhooks and new tokens. The logical clock ([`Seq`]) orders them: a token that
//!   was issued after a sweep had begun outweighs its result, and the removal of a connection says nothing about a
//!   later one.
//! - A record ends when no token admits its participant any more ([`Tracked::expires_from_memory_at`]).

pub(crate) mod participant;
pub mod row;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::command::Track;
use crate::engine::action::{
    Action, ActionId, MembersAnswer, Participant, RemovalAnswer, Request, ServerAnswer, TrackedId,
};
use crate::engine::backoff::Jitter;
use crate::engine::bounds;
use crate::engine::delegation::signals::Scope;
use crate::engine::in_flight::{InFlight, Seq};
use crate::engine::log_event::{LogEvent, LogEventKind};
use crate::engine::membership::participant::{Attempt, PresenceChange, Signal, State, Tracked};
use crate::engine::membership::row::TrackedRow;
use crate::engine::mutant::Mutant;
use crate::engine::webhook::WebhookEvent;
use crate::ids::{Identity, MatrixRoomId, RoomName, UserId};
use crate::time::Timestamp;

/// The participants that have to be in a Matrix room.
#[derive(Clone, Debug, Default)]
pub(crate) struct MembershipMonitor {
    /// Interval of the sweeps, and of the polls for participants that aren't known to be connected. `None`: there are none.
    interval: Option<Duration>,
    tracked: BTreeMap<Identity, Tracked>,
    sweeps: Vec<Sweep>,
    /// Polls for participants whose tokens have expired wait until then, after one that brought nothing.
    polls_paused_until: Option<Timestamp>,
    /// When the SFU is next polled for participants that a token admits, and that aren't known to be connected.
    unseen_due: Timestamp,
    latest_seq: Seq,
    newest_id: u64,
    deleted: Vec<TrackedId>,
    log_events: Vec<LogEvent>,
}

/// The regular check of one Matrix room. There is one room in practice: the LiveKit room's name is derived from it.
#[derive(Clone, Debug)]
struct Sweep {
    matrix_room_id: MatrixRoomId,
    /// When the homeserver is next requested. It counts only while a participant is connected.
    due: Option<Timestamp>,
    /// The request in flight.
    action_id: Option<ActionId>,
    /// `joined_members` was answered with 403: `is_joined` for our own homeserver is due.
    forbidden: bool,
    /// Our homeserver isn't in the Matrix room: the LiveKit room is to be deleted.
    deletion: Option<Attempt>,
    /// It is, in spite of the 403, and that has been logged.
    misconfigured: bool,
    /// The members couldn't be read: the users are checked one by one.
    user_checks: UserChecks,
}

/// The check of each connected user of one Matrix room, where the list of its members can't be read.
#[derive(Clone, Debug, Default)]
struct UserChecks {
    /// Users to request, the longest unchecked last.
    pending: Vec<UserId>,
    in_flight: BTreeMap<ActionId, UserId>,
    /// When each of the connected users was last requested.
    checked_at: BTreeMap<UserId, Timestamp>,
}

impl UserChecks {
    /// Begins another round for these users, whatever is left of the one before.
    fn begin(&mut self, connected: BTreeSet<UserId>) {
        self.checked_at.retain(|user_id, _| connected.contains(user_id));
        let is_requested = |user_id: &UserId| self.in_flight.values().any(|in_flight| in_flight == user_id);
        self.pending = connected.into_iter().rev().filter(|user_id| !is_requested(user_id)).collect();
        self.pending.sort_by_key(|user_id| std::cmp::Reverse(self.checked_at.get(user_id).copied()));
    }

    fn is_due(&self) -> bool {
        !self.pending.is_empty() && self.in_flight.len() < USER_CHECKS_AT_ONCE
    }

    fn next(&mut self) -> Option<UserId> {
        if self.is_due() { self.pending.pop() } else { None }
    }
}

impl MembershipMonitor {
    /// Loads what is stored. Connected participants are checked at once: a request in flight may have been about them.
    /// Takes all that was due before `handled_until` for done.
    pub(crate) fn load(
        interval: Option<Duration>,
        now: Timestamp,
        rows: Vec<TrackedRow>,
        handled_until: Timestamp,
    ) -> Self {
        let tracked: BTreeMap<_, _> = rows
            .into_iter()
            .map(|row| row.resume(now))
            .map(|tracked| (tracked.request.identity.clone(), tracked))
            .collect();
        let mut monitor = Self {
            interval: interval.map(|interval| interval.max(SHORTEST_INTERVAL)),
            newest_id: tracked.values().map(|tracked| tracked.id.as_u64()).max().unwrap_or_default(),
            tracked,
            unseen_due: now.max(handled_until),
            ..Self::default()
        };
        let rooms: Vec<_> = monitor.tracked.values().map(|tracked| tracked.request.matrix_room_id.clone()).collect();
        for matrix_room_id in rooms {
            monitor.begin_sweep(matrix_room_id).due = Some(now);
        }
        monitor
    }

    /// Returns whether the participant of a token goes over a bound. One that is tracked already doesn't.
    pub(crate) fn is_full_for(&self, request: &Track) -> bool {
        let others = || self.tracked.values();
        let of_user = others().filter(|tracked| tracked.request.user_id == request.user_id).count();
        !self.tracked.contains_key(&request.identity)
            && (others().count() >= bounds::TRACKED || of_user >= bounds::OF_ONE_USER)
    }

    /// Records the issue of a token.
    pub(crate) fn track(&mut self, now: Timestamp, request: Track) {
        self.latest_seq.0 += 1;
        let seq = self.latest_seq;
        self.begin_sweep(request.matrix_room_id.clone()).deletion = None;
        self.put_off_unseen(now);
        match self.tracked.get_mut(&request.identity) {
            Some(tracked) => {
                if tracked.renew(now, request, seq) {
                    self.end_sweeps();
                    self.sweeps.iter_mut().for_each(|sweep| sweep.due = Some(now));
                }
            }
            None => {
                self.newest_id = now.as_millis().max(self.newest_id + 1);
                let tracked = Tracked::new(TrackedId(self.newest_id), request, seq);
                self.tracked.insert(tracked.request.identity.clone(), tracked);
            }
        }
    }

    pub(crate) fn webhook(&mut self, now: Timestamp, event: &WebhookEvent) {
        self.signal_each(now, |tracked| tracked.read_webhook(now, event));
    }

    /// Takes the result of a poll that began at these times: the participants, or `None` where the SFU didn't answer.
    pub(crate) fn polled(
        &mut self,
        now: Timestamp,
        (started_at, started_seq): (Timestamp, Seq),
        scope: &Scope,
        participants: Option<&[Participant]>,
    ) {
        if let Some(participants) = participants {
            self.signal_each(now, |tracked| {
                let in_scope = match scope {
                    Scope::All => true,
                    Scope::One(identity) => tracked.request.identity == *identity,
                };
                let overtaken = tracked.presence_seq > started_seq;
                (in_scope && !overtaken).then(|| tracked.read_participants(started_at, participants)).flatten()
            });
        }
        if self.poll_due().is_some_and(|due| due <= now) {
            self.polls_paused_until = Some(now + self.poll_pause());
        }
    }

    /// Takes the answer to `joined_members`, as of `started_seq`.
    pub(crate) fn members_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        answer: MembersAnswer,
    ) {
        let Some(sweep) = self.sweep(matrix_room_id).filter(|sweep| sweep.action_id == Some(action_id)) else {
            return;
        };
        sweep.action_id = None;
        let joined = match answer {
            MembersAnswer::Joined(joined) => joined,
            MembersAnswer::Forbidden if Mutant::DeleteUnconfirmed.is_injected() => {
                sweep.deletion.get_or_insert(Attempt::new(now));
                return;
            }
            MembersAnswer::Forbidden => {
                sweep.user_checks.pending.clear();
                sweep.forbidden = true;
                return;
            }
            MembersAnswer::Unreadable if Mutant::UnreadableMeansNobody.is_injected() => HashSet::new(),
            MembersAnswer::Unreadable if Mutant::UnreadableRemovesNobody.is_injected() => {
                return self.sweep_failed(now, matrix_room_id);
            }
            MembersAnswer::Unreadable => {
                let connected = self.connected_users(matrix_room_id);
                if let Some(sweep) = self.sweep(matrix_room_id) {
                    sweep.user_checks.begin(connected);
                }
                return;
            }
            MembersAnswer::Failed if Mutant::FailedCheckMeansNobody.is_injected() => HashSet::new(),
            MembersAnswer::Failed => return self.sweep_failed(now, matrix_room_id),
        };
        sweep.misconfigured = false;
        sweep.deletion = None;
        sweep.user_checks.pending.clear();
        self.apply_membership(now, matrix_room_id, started_seq, |user_id| Some(joined.contains(user_id)));
    }

    /// Takes the answer to `is_joined` for our own homeserver, as of `started_seq`.
    pub(crate) fn server_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        answer: ServerAnswer,
    ) {
        let Some(sweep) = self.sweep(matrix_room_id).filter(|sweep| sweep.action_id == Some(action_id)) else {
            return;
        };
        sweep.action_id = None;
        match answer {
            ServerAnswer::Failed => self.sweep_failed(now, matrix_room_id),
            ServerAnswer::Joined(true) => {
                sweep.deletion = None;
                let is_logged = std::mem::replace(&mut sweep.misconfigured, true);
                // An earlier answer about its users doesn't count any more.
                self.apply_membership(now, matrix_room_id, started_seq, |_| Some(true));
                if !is_logged {
                    self.log(matrix_room_id, LogEventKind::NamespaceMisconfigured);
                }
            }
            ServerAnswer::Joined(false) => {
                sweep.misconfigured = false;
                let alone = self.sweeps.len() == 1;
                let renewed = self.tracked.values().any(|tracked| tracked.token_seq > started_seq);
                // A room that is deleted must hold no other participants: of no other Matrix room, and with no newer
                // token.
                match self.sweep(matrix_room_id) {
                    Some(sweep) if alone && !renewed => {
                        sweep.deletion.get_or_insert(Attempt::new(now)).hasten(now);
                    }
                    _ => self.apply_membership(now, matrix_room_id, started_seq, |_| Some(false)),
                }
            }
        }
    }

    /// Takes the answer to `is_joined` for one user, as of `started_seq`. A failure removes no participant; the user's
    /// turn comes again.
    pub(crate) fn user_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        matrix_room_id: &MatrixRoomId,
        user_id: &UserId,
        started_seq: Seq,
        answer: ServerAnswer,
    ) {
        let Some(sweep) = self.sweep(matrix_room_id) else { return };
        if sweep.user_checks.in_flight.remove(&action_id).is_none() {
            return;
        }
        match answer {
            ServerAnswer::Failed => self.sweep_failed(now, matrix_room_id),
            ServerAnswer::Joined(joined) => {
                if joined {
                    sweep.deletion = None;
                }
                self.apply_membership(now, matrix_room_id, started_seq, |other| (other == user_id).then_some(joined));
            }
        }
    }

    /// Takes the answer to a `RemoveParticipant` that was requested at `started_seq`. Returns whether the participant
    /// isn't connected any more.
    pub(crate) fn removal_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        identity: &Identity,
        started_seq: Seq,
        answer: RemovalAnswer,
        jitter: Jitter,
    ) -> bool {
        let Some(tracked) = self.tracked.get_mut(identity) else { return false };
        let awaited = tracked.removal.is_some_and(|attempt| attempt.action_id == Some(action_id));
        match answer {
            RemovalAnswer::Failed if awaited => {
                self.log_events.push(LogEvent::of_tracked(&tracked.request, LogEventKind::RemovalFailed));
                tracked.handle(now, Signal::RemovalFailed(jitter));
                return false;
            }
            RemovalAnswer::Failed => return false,
            RemovalAnswer::Done => {
                self.log_events.push(LogEvent::of_tracked(&tracked.request, LogEventKind::ParticipantRemoved));
            }
            RemovalAnswer::NotThere => {}
        }
        if tracked.presence_seq > started_seq {
            if awaited {
                tracked.handle(now, Signal::RemovalSuperseded);
            }
            return false;
        }
        tracked.removed(now, answer);
        self.put_off_unseen(now);
        true
    }

    /// Takes the answer to a `DeleteRoom` that was requested at `started_seq`. Returns the participants that aren't
    /// connected any more because of it.
    pub(crate) fn deletion_answered(
        &mut self,
        now: Timestamp,
        action_id: ActionId,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        answer: RemovalAnswer,
        jitter: Jitter,
    ) -> Vec<Identity> {
        let has_connected = self.has_connected(matrix_room_id);
        self.put_off_unseen(now);
        if let Some(sweep) = self.sweep(matrix_room_id)
            && let Some(attempt) = sweep.deletion.as_mut().filter(|attempt| attempt.action_id == Some(action_id))
        {
            if answer == RemovalAnswer::Failed && has_connected {
                attempt.fail(now, jitter);
            } else {
                sweep.deletion = None;
            }
        }
        match answer {
            RemovalAnswer::Done => self.log(matrix_room_id, LogEventKind::RoomDeleted),
            RemovalAnswer::NotThere => {}
            RemovalAnswer::Failed => {
                self.log(matrix_room_id, LogEventKind::DeletionFailed);
                return Vec::new();
            }
        }
        let removed =
            self.tracked.values_mut().filter(|tracked| tracked.presence_seq <= started_seq && tracked.is_connected());
        removed
            .map(|tracked| {
                // It says nothing about a connection that was migrating just then.
                tracked.removed(now, RemovalAnswer::NotThere);
                tracked.request.identity.clone()
            })
            .collect()
    }

    /// Ends the records of participants that no token admits any more.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        let is_over = |tracked: &Tracked| tracked.expires_from_memory_at().is_some_and(|at| at <= now);
        let deleted = self.deleted.len();
        self.deleted.extend(self.tracked.values().filter(|tracked| is_over(tracked)).map(|tracked| tracked.id));
        if self.deleted.len() > deleted {
            self.tracked.retain(|_, tracked| !is_over(tracked));
            self.end_sweeps();
        }
    }

    /// Adds due actions to `actions`, up to `limit`: first one request for each Matrix room, then the removals of
    /// connected participants, of which [`REMOVALS_AT_ONCE`] are in flight at a time, then the checks of single users.
    pub(crate) fn take_due(
        &mut self,
        now: Timestamp,
        limit: usize,
        in_flight: &mut InFlight,
        actions: &mut Vec<Action>,
    ) {
        let seq = self.latest_seq;
        let due: Vec<_> = self.due_sweeps().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone()).collect();
        for matrix_room_id in due.into_iter().take(limit.saturating_sub(actions.len())) {
            let interval = self.interval.filter(|_| !Mutant::CheckOnlyOnce.is_injected());
            let Some(sweep) = self.sweep(&matrix_room_id) else { continue };
            let request = if std::mem::take(&mut sweep.forbidden) {
                Request::IsServerJoined { matrix_room_id }
            } else {
                sweep.due = interval.map(|interval| now + interval);
                Request::JoinedMembers { matrix_room_id }
            };
            let action = in_flight.start(now, seq, request);
            sweep.action_id = Some(action.id);
            actions.push(action);
        }
        self.take_due_removals(now, limit, in_flight, actions);
        for sweep in &mut self.sweeps {
            while actions.len() < limit
                && let Some(user_id) = sweep.user_checks.next()
            {
                let matrix_room_id = sweep.matrix_room_id.clone();
                let action =
                    in_flight.start(now, seq, Request::IsUserJoined { matrix_room_id, user_id: user_id.clone() });
                sweep.user_checks.in_flight.insert(action.id, user_id.clone());
                sweep.user_checks.checked_at.insert(user_id, now);
                actions.push(action);
            }
        }
    }

    /// Adds the due removal of a participant that isn't known to be connected to `actions`, unless one is in flight.
    pub(crate) fn take_due_searches(
        &mut self,
        now: Timestamp,
        limit: usize,
        in_flight: &mut InFlight,
        actions: &mut Vec<Action>,
    ) {
        let is_searching = |tracked: &Tracked| tracked.removal.is_some_and(|attempt| attempt.action_id.is_some());
        if actions.len() >= limit
            || self.tracked.values().any(|tracked| !tracked.is_connected() && is_searching(tracked))
        {
            return;
        }
        let seq = self.latest_seq;
        let due = |tracked: &Tracked| tracked.removal?.due().filter(|due| *due <= now && !tracked.is_connected());
        let Some(tracked) =
            self.tracked.values_mut().filter(|tracked| due(tracked).is_some()).min_by_key(|tracked| due(tracked))
        else {
            return;
        };
        let Track { room, identity, .. } = tracked.request.clone();
        let action = in_flight.start(now, seq, Request::RemoveParticipant { room, identity });
        tracked.removal_started(now, action.id);
        actions.push(action);
    }

    /// Times at which there is something to do, polls apart.
    pub(crate) fn dues(&self) -> impl Iterator<Item = Timestamp> {
        let checks = self.sweeps.iter().filter(|sweep| sweep.user_checks.is_due()).map(|_| Timestamp::default());
        let sweeps = self.due_sweeps().map(|(due, _)| due).chain(checks);
        let removals = self.tracked.values().filter_map(|tracked| tracked.removal?.due());
        let deletions = self.sweeps.iter().filter_map(|sweep| sweep.deletion?.due());
        let expiries = self.tracked.values().filter_map(Tracked::expires_from_memory_at);
        sweeps.chain(removals).chain(deletions).chain(expiries)
    }

    /// When the SFU is to be polled for participants whose tokens have expired.
    pub(crate) fn poll_due(&self) -> Option<Timestamp> {
        let due = self.tracked.values().filter_map(Tracked::poll_due).min();
        let due = due.map(|due| due.max(self.polls_paused_until.unwrap_or_default()));
        [due, self.unseen_due()].into_iter().flatten().min()
    }

    /// When the SFU is to be polled for participants that a token admits, and that aren't known to be connected.
    fn unseen_due(&self) -> Option<Timestamp> {
        let due = self.interval.filter(|_| !Mutant::SeekOnlyConnected.is_injected()).map(|_| self.unseen_due)?;
        self.tracked.values().any(|tracked| tracked.may_connect_at(due)).then_some(due)
    }

    /// Pause after a poll. As long as one that may have connected unnoticed wasn't polled for since its known tokens have
    /// expired, polls keep to the interval: one of the SFU's own tokens may admit it.
    fn poll_pause(&self) -> Duration {
        let unseen = self.tracked.values().any(|tracked| tracked.state == State::Absent);
        self.interval.filter(|_| unseen).map_or(POLL_PAUSE, |interval| interval.min(POLL_PAUSE))
    }

    /// Leaves such a participant an interval before the SFU is polled for it.
    fn put_off_unseen(&mut self, now: Timestamp) {
        if self.unseen_due <= now {
            self.unseen_due = now + self.interval.unwrap_or_default();
        }
    }

    /// Scopes of the participants to poll the SFU for. A sanity check covers all of them, connected or not: the
    /// webhook of a connection may have been lost.
    pub(crate) fn poll_scopes(&mut self, now: Timestamp, soon: Timestamp, sanity_check: bool) -> Vec<Scope> {
        let unseen = self.unseen_due().is_some_and(|due| due <= soon);
        if unseen || sanity_check {
            self.unseen_due = now + self.interval.unwrap_or_default();
        }
        let poll = self.poll_due().is_some_and(|due| due <= soon);
        let is_due = |tracked: &&Tracked| {
            sanity_check
                || (unseen && tracked.may_connect_at(soon))
                || (poll && tracked.poll_due().is_some_and(|due| due <= soon))
        };
        self.tracked.values().filter(is_due).map(|tracked| Scope::One(tracked.request.identity.clone())).collect()
    }

    /// The LiveKit room, if a participant is tracked in it.
    pub(crate) fn room(&self) -> Option<&RoomName> {
        self.tracked.values().next().map(|tracked| &tracked.request.room)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }

    pub(crate) fn latest_seq(&self) -> Seq {
        self.latest_seq
    }

    /// Takes the participants whose rows are to be deleted since the last call.
    pub(crate) fn take_deleted(&mut self) -> Vec<TrackedId> {
        std::mem::take(&mut self.deleted)
    }

    /// Takes the rows that have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = TrackedRow> {
        let changed = self.tracked.values_mut().filter(|tracked| tracked.changed);
        changed.map(|tracked| {
            tracked.changed = false;
            TrackedRow::of(tracked)
        })
    }

    pub(crate) fn take_log_events(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.log_events)
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn is_stored_as(&self, rows: &BTreeMap<TrackedId, TrackedRow>) -> bool {
        let is_stored = |tracked: &Tracked| rows.get(&tracked.id).is_some_and(|row| row.is_of(tracked));
        rows.len() == self.tracked.len() && self.tracked.values().all(is_stored)
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn rows(&self) -> Vec<TrackedRow> {
        let mut rows: Vec<_> = self.tracked.values().map(TrackedRow::of).collect();
        rows.sort_unstable_by_key(|row| row.id);
        rows
    }

    /// Gives each participant the signal that `read` finds for it. All of them get one value of the logical clock.
    fn signal_each(&mut self, now: Timestamp, mut read: impl FnMut(&mut Tracked) -> Option<Signal>) {
        let seq = Seq(self.latest_seq.0 + 1);
        let mut has_left = false;
        for tracked in self.tracked.values_mut() {
            let was_changed = tracked.changed;
            let change = tracked.changing(|tracked| {
                let signal = read(tracked)?;
                tracked.handle(now, signal)
            });
            if Mutant::ForgetConnected.is_injected() && change == Some(PresenceChange::Joined) {
                tracked.changed = was_changed;
            }
            let Some(change) = change else { continue };
            self.latest_seq = seq;
            tracked.presence_seq = seq;
            has_left |= change == PresenceChange::Left;
            if change == PresenceChange::Joined
                && let Some(sweep) =
                    self.sweeps.iter_mut().find(|sweep| sweep.matrix_room_id == tracked.request.matrix_room_id)
            {
                sweep.due = Some(sweep.due.map_or(now, |due| due.min(now)));
            }
        }
        if has_left {
            self.put_off_unseen(now);
        }
    }

    /// Applies an answer as of `started_seq` to all participants that it is about, but those that were given a token
    /// since.
    fn apply_membership(
        &mut self,
        now: Timestamp,
        matrix_room_id: &MatrixRoomId,
        started_seq: Seq,
        is_joined: impl Fn(&UserId) -> Option<bool>,
    ) {
        for tracked in self.tracked.values_mut() {
            let renewed = tracked.token_seq > started_seq && !Mutant::BelieveOldMembers.is_injected();
            if tracked.request.matrix_room_id == *matrix_room_id
                && !renewed
                && let Some(joined) = is_joined(&tracked.request.user_id)
            {
                tracked.handle(now, if joined { Signal::Member } else { Signal::NotMember });
            }
        }
    }

    /// Leaves everything as it is until the next sweep, or one after a while where none is to come.
    fn sweep_failed(&mut self, now: Timestamp, matrix_room_id: &MatrixRoomId) {
        if let Some(sweep) = self.sweep(matrix_room_id) {
            sweep.due = sweep.due.or(Some(now + SWEEP_AGAIN));
        }
        self.log(matrix_room_id, LogEventKind::MembershipUnknown);
    }

    fn take_due_removals(&mut self, now: Timestamp, limit: usize, in_flight: &mut InFlight, actions: &mut Vec<Action>) {
        let seq = self.latest_seq;
        // A search in flight takes no place of these.
        let searches = self.tracked.values().filter(|tracked| !tracked.is_connected());
        let searching = searches.filter_map(|tracked| tracked.removal?.action_id).count();
        let by_identity = Mutant::RemoveByIdentity.is_injected();
        let removing = in_flight.removing().saturating_sub(if by_identity { 0 } else { searching });
        let slots = REMOVALS_AT_ONCE.saturating_sub(removing).min(limit.saturating_sub(actions.len()));
        let is_due = |attempt: &&mut Attempt| attempt.due().is_some_and(|due| due <= now);
        let room = self.room().cloned();
        let deletions = self.sweeps.iter_mut().filter_map(|sweep| {
            let attempt = sweep.deletion.as_mut().filter(is_due)?;
            Some((attempt, Request::DeleteRoom { room: room.clone()?, matrix_room_id: sweep.matrix_room_id.clone() }))
        });
        let before = actions.len();
        for (attempt, request) in deletions.take(slots) {
            let action = in_flight.start(now, seq, request);
            attempt.action_id = Some(action.id);
            actions.push(action);
        }
        let is_due = |tracked: &&mut Tracked| {
            let connected = tracked.is_connected() || by_identity;
            connected && tracked.removal.is_some_and(|attempt| attempt.due().is_some_and(|due| due <= now))
        };
        let mut removals: Vec<&mut Tracked> = self.tracked.values_mut().filter(is_due).collect();
        if !by_identity {
            removals.sort_by_key(|tracked| tracked.tried_at);
        }
        for tracked in removals.into_iter().take(slots.saturating_sub(actions.len() - before)) {
            let Track { room, identity, .. } = tracked.request.clone();
            let action = in_flight.start(now, seq, Request::RemoveParticipant { room, identity });
            tracked.removal_started(now, action.id);
            actions.push(action);
        }
    }

    /// The Matrix rooms that the homeserver is to be requested for, and when.
    fn due_sweeps(&self) -> impl Iterator<Item = (Timestamp, &MatrixRoomId)> {
        let is_on = self.interval.is_some() || Mutant::CheckAnyway.is_injected();
        self.sweeps
            .iter()
            .filter(move |sweep| is_on && sweep.action_id.is_none() && self.has_connected(&sweep.matrix_room_id))
            .filter_map(|sweep| {
                let due = if sweep.forbidden { Timestamp::default() } else { sweep.due? };
                Some((due, &sweep.matrix_room_id))
            })
    }

    fn connected_users(&self, matrix_room_id: &MatrixRoomId) -> BTreeSet<UserId> {
        let connected = self.tracked.values().filter(|tracked| tracked.is_connected()).map(|tracked| &tracked.request);
        connected.filter(|token| token.matrix_room_id == *matrix_room_id).map(|token| token.user_id.clone()).collect()
    }

    fn has_connected(&self, matrix_room_id: &MatrixRoomId) -> bool {
        self.tracked.values().any(|tracked| tracked.is_connected() && tracked.request.matrix_room_id == *matrix_room_id)
    }

    fn sweep(&mut self, matrix_room_id: &MatrixRoomId) -> Option<&mut Sweep> {
        self.sweeps.iter_mut().find(|sweep| sweep.matrix_room_id == *matrix_room_id)
    }

    /// The sweep of a Matrix room, which begins with its first participant.
    fn begin_sweep(&mut self, matrix_room_id: MatrixRoomId) -> &mut Sweep {
        let index = self.sweeps.iter().position(|sweep| sweep.matrix_room_id == matrix_room_id).unwrap_or_else(|| {
            self.sweeps.push(Sweep {
                matrix_room_id,
                due: None,
                action_id: None,
                forbidden: false,
                deletion: None,
                misconfigured: false,
                user_checks: UserChecks::default(),
            });
            self.sweeps.len() - 1
        });
        &mut self.sweeps[index]
    }

    /// Ends the sweeps of Matrix rooms that have no participant any more.
    fn end_sweeps(&mut self) {
        self.sweeps.retain(|sweep| {
            self.tracked.values().any(|tracked| tracked.request.matrix_room_id == sweep.matrix_room_id)
        });
    }

    fn log(&mut self, matrix_room_id: &MatrixRoomId, kind: LogEventKind) {
        let room = self.room().cloned();
        self.log_events.extend(room.map(|room| LogEvent::of_matrix_room(room, matrix_room_id.clone(), kind)));
    }
}

/// Checks of single users in flight at a time.
const USER_CHECKS_AT_ONCE: usize = 2;

/// Removals of connected participants in flight at a time: the other slots are for the delegated leaves.
const REMOVALS_AT_ONCE: usize = 2;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Wait after a failed sweep where no other is to come.
const SWEEP_AGAIN: Duration = Duration::from_secs(60);

/// Longest pause of the polls after one that the SFU didn't answer.
const POLL_PAUSE: Duration = Duration::from_secs(600);
