//! Keeps a call to those whose users are in the Matrix room.
//!
//! # How it works
//!
//! - The issue of a token is recorded before the client has the token ([`MembershipMonitor::track`]). The participants
//!   are [`Tracked`], each with a state; their transition table is in [`participant`].
//! - While one of them is connected, the homeserver is requested for `joined_members` in regular sweeps ([`sweep`]), and
//!   whenever one connects. Participants whose users aren't among the members are removed from the SFU.
//! - A participant that a token admits, and that isn't known to be connected, is polled for at the SFU at the same
//!   intervals: the webhook of its connection may have been lost. Without an interval there are no checks at all.
//! - Members that can't be read are no reason to remove no participant: then the homeserver is requested for
//!   `is_joined` of each connected user ([`members`]), a few at a time.
//! - Connected participants are removed first, the longest untried of them. A participant that isn't connected is
//!   sought once for each token, one at a time, when nothing else is due: a user who fills the list delays no removal.
//! - Only the homeserver's own word removes a participant. A failure changes nothing; a 403 leads to `is_joined` for
//!   our own homeserver. If it isn't in the Matrix room, none of its users is, and the LiveKit room is deleted. If it
//!   is, the registration's namespace is wrong: that is logged, and all participants stay.
//! - Requests and answers overlap with webhooks and new tokens. The logical clock ([`Seq`]) orders them: a token that
//!   was issued after a sweep had begun outweighs its result, and the removal of a connection says nothing about a
//!   later one.
//! - A record ends when no token admits its participant any more ([`Tracked::expires_from_memory_at`]).

mod members;
pub(crate) mod participant;
mod poll;
mod removal;
pub mod row;
mod sweep;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::Track;
use crate::engine::action::{Action, Request, TrackedId};
use crate::engine::bounds;
use crate::engine::in_flight::{InFlight, Seq};
use crate::engine::log_event::{LogEvent, LogEventKind};
use crate::engine::membership::participant::{PresenceChange, Signal, Tracked};
use crate::engine::membership::row::TrackedRow;
use crate::engine::membership::sweep::Sweep;
use crate::engine::mutant::Mutant;
use crate::engine::webhook::WebhookEvent;
use crate::ids::{Identity, MatrixRoomId, RoomName};
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

    /// The tracked participants.
    pub(crate) fn tracked(&self) -> impl Iterator<Item = &Tracked> + Clone {
        self.tracked.values()
    }

    pub(crate) fn webhook(&mut self, now: Timestamp, event: &WebhookEvent) {
        self.signal_each(now, |tracked| tracked.read_webhook(now, event));
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
    /// connected participants, of which [`REMOVALS_AT_ONCE`](removal::REMOVALS_AT_ONCE) are in flight at a time, then the
    /// checks of single users.
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

    /// Times at which there is something to do, polls apart.
    pub(crate) fn dues(&self) -> impl Iterator<Item = Timestamp> {
        let checks = self.sweeps.iter().filter(|sweep| sweep.user_checks.is_due()).map(|_| Timestamp::default());
        let sweeps = self.due_sweeps().map(|(due, _)| due).chain(checks);
        let removals = self.tracked.values().filter_map(|tracked| tracked.removal?.due());
        let deletions = self.sweeps.iter().filter_map(|sweep| sweep.deletion?.due());
        let expiries = self.tracked.values().filter_map(Tracked::expires_from_memory_at);
        sweeps.chain(removals).chain(deletions).chain(expiries)
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

    fn log(&mut self, matrix_room_id: &MatrixRoomId, kind: LogEventKind) {
        let room = self.room().cloned();
        self.log_events.extend(room.map(|room| LogEvent::of_matrix_room(room, matrix_room_id.clone(), kind)));
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
