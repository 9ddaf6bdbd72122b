//! A sweep: the regular check of who is in a Matrix room.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::action::ActionId;
use crate::engine::membership::participant::Attempt;
use crate::ids::{MatrixRoomId, UserId};
use crate::time::Timestamp;

/// The regular check of one Matrix room. There is one room in practice: the LiveKit room's name is derived from it.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    pub(super) matrix_room_id: MatrixRoomId,
    /// When the homeserver is next requested. It counts only while a participant is connected.
    pub(super) due: Option<Timestamp>,
    /// The request in flight.
    pub(super) action_id: Option<ActionId>,
    /// `joined_members` was answered with 403: `is_joined` for our own homeserver is due.
    pub(super) forbidden: bool,
    /// Our homeserver isn't in the Matrix room: the LiveKit room is to be deleted.
    pub(super) deletion: Option<Attempt>,
    /// It is, in spite of the 403, and that has been logged.
    pub(super) misconfigured: bool,
    /// The members couldn't be read: the users are checked one by one.
    pub(super) user_checks: UserChecks,
}

/// The check of each connected user of one Matrix room, where the list of its members can't be read.
#[derive(Clone, Debug, Default)]
pub(super) struct UserChecks {
    /// Users to request, the longest unchecked last.
    pub(super) pending: Vec<UserId>,
    pub(super) in_flight: BTreeMap<ActionId, UserId>,
    /// When each of the connected users was last requested.
    pub(super) checked_at: BTreeMap<UserId, Timestamp>,
}

impl UserChecks {
    /// Begins another round for these users, whatever is left of the one before.
    pub(super) fn begin(&mut self, connected: BTreeSet<UserId>) {
        self.checked_at.retain(|user_id, _| connected.contains(user_id));
        let is_requested = |user_id: &UserId| self.in_flight.values().any(|in_flight| in_flight == user_id);
        self.pending = connected.into_iter().rev().filter(|user_id| !is_requested(user_id)).collect();
        self.pending.sort_by_key(|user_id| std::cmp::Reverse(self.checked_at.get(user_id).copied()));
    }

    pub(super) fn is_due(&self) -> bool {
        !self.pending.is_empty() && self.in_flight.len() < USER_CHECKS_AT_ONCE
    }

    pub(super) fn next(&mut self) -> Option<UserId> {
        if self.is_due() { self.pending.pop() } else { None }
    }
}

/// Checks of single users in flight at a time.
const USER_CHECKS_AT_ONCE: usize = 2;
