//! Removals of participants from the SFU, and of whole rooms.

use crate::command::Track;
use crate::engine::action::{Action, ActionId, RemovalAnswer, Request};
use crate::engine::backoff::Jitter;
use crate::engine::in_flight::{InFlight, Seq};
use crate::engine::log_event::{LogEvent, LogEventKind};
use crate::engine::membership::MembershipMonitor;
use crate::engine::membership::participant::{Attempt, Signal, Tracked};
use crate::engine::mutant::Mutant;
use crate::ids::{Identity, MatrixRoomId};
use crate::time::Timestamp;

impl MembershipMonitor {
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

    pub(super) fn take_due_removals(
        &mut self,
        now: Timestamp,
        limit: usize,
        in_flight: &mut InFlight,
        actions: &mut Vec<Action>,
    ) {
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
}

/// Removals of connected participants in flight at a time: the other slots are for the delegated leaves.
pub(super) const REMOVALS_AT_ONCE: usize = 2;
