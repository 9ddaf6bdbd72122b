//! Members of a Matrix room, as the homeserver reports them, and the time of the next request.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crate::engine::action::{ActionId, MembersAnswer, ServerAnswer};
use crate::engine::in_flight::Seq;
use crate::engine::log_event::LogEventKind;
use crate::engine::membership::MembershipMonitor;
use crate::engine::membership::participant::{Attempt, Signal};
use crate::engine::membership::sweep::{Sweep, UserChecks};
use crate::engine::mutant::Mutant;
use crate::ids::{MatrixRoomId, UserId};
use crate::time::Timestamp;

impl MembershipMonitor {
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

    /// The Matrix rooms that the homeserver is to be requested for, and when.
    pub(super) fn due_sweeps(&self) -> impl Iterator<Item = (Timestamp, &MatrixRoomId)> {
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

    pub(super) fn has_connected(&self, matrix_room_id: &MatrixRoomId) -> bool {
        self.tracked.values().any(|tracked| tracked.is_connected() && tracked.request.matrix_room_id == *matrix_room_id)
    }

    pub(super) fn sweep(&mut self, matrix_room_id: &MatrixRoomId) -> Option<&mut Sweep> {
        self.sweeps.iter_mut().find(|sweep| sweep.matrix_room_id == *matrix_room_id)
    }

    /// The sweep of a Matrix room, which begins with its first participant.
    pub(super) fn begin_sweep(&mut self, matrix_room_id: MatrixRoomId) -> &mut Sweep {
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
    pub(super) fn end_sweeps(&mut self) {
        self.sweeps.retain(|sweep| {
            self.tracked.values().any(|tracked| tracked.request.matrix_room_id == sweep.matrix_room_id)
        });
    }
}

/// Wait after a failed sweep where no other is to come.
const SWEEP_AGAIN: Duration = Duration::from_secs(60);
