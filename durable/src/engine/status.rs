//! State of a room for its operator: its delegations and tracked participants, without ids of delayed events.

use std::cmp::Reverse;

use serde::Serialize;

use crate::engine::delegation::row::StateColumn;
use crate::engine::delegation::{Delegation, State};
use crate::engine::membership::participant::{State as Presence, Tracked};
use crate::engine::room::RoomEngine;
use crate::ids::{ServerName, UserId};
use crate::time::Timestamp;

/// State of a room, for its operator. All times are in ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomStatus {
    /// The delegations, by state.
    pub delegations: DelegationCounts,
    /// The tracked participants, by state.
    pub participants: ParticipantCounts,
    /// When the room's alarm has something to do next.
    pub next_due: Option<Timestamp>,
    /// The delegations with the most failures running, then those that are due first: 20 at most.
    pub first_delegations: Vec<DelegationStatus>,
    /// The users of tracked participants, if requested: 20 at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
}

/// Number of delegations in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the states have their documentation in the transition table")]
pub struct DelegationCounts {
    pub waiting: usize,
    pub connected: usize,
    pub suspected: usize,
    pub leaving: usize,
}

/// Number of tracked participants in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the states have their documentation in the transition table")]
pub struct ParticipantCounts {
    pub absent: usize,
    pub missing: usize,
    pub connected: usize,
    pub unwelcome: usize,
}

/// State of a delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DelegationStatus {
    /// Homeserver that holds the delayed event.
    pub homeserver: ServerName,
    /// State.
    pub state: StateColumn,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When its state's next request is due, or its time is over.
    pub due: Timestamp,
    /// Failures of the homeserver running.
    pub failures: u32,
    /// Its user, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

impl RoomEngine {
    /// Returns the room's state, with ids of users only if `with_users`. Changes nothing.
    pub fn status(&self, with_users: bool) -> RoomStatus {
        let urgency = |it: &Delegation| (Reverse(it.progress.failures), it.progress.due, it.id);
        let mut first_delegations = Vec::new();
        let mut last = None;
        while first_delegations.len() < LISTED {
            let rest = self.delegations.values().filter(|it| last.is_none_or(|last| urgency(it) > last));
            let Some(next) = rest.min_by_key(|it| urgency(it)) else { break };
            last = Some(urgency(next));
            first_delegations.push(DelegationStatus::of(next, with_users));
        }
        let tracked = self.membership.tracked();
        let users = tracked.clone().take(if with_users { LISTED } else { 0 }).map(|it| it.request.user_id.clone());
        RoomStatus {
            delegations: DelegationCounts::of(self.delegations.values()),
            participants: ParticipantCounts::of(tracked.clone()),
            next_due: self.next_due(),
            first_delegations,
            users: users.collect(),
        }
    }
}

impl DelegationStatus {
    fn of(delegation: &Delegation, with_users: bool) -> Self {
        let Delegation { request, progress, accepted_at, .. } = delegation;
        Self {
            homeserver: request.server_name.clone(),
            state: progress.state.into(),
            accepted_at: *accepted_at,
            due: progress.due,
            failures: progress.failures,
            user: Some(&request.user_id).filter(|user| with_users && !user.as_str().is_empty()).cloned(),
        }
    }
}

impl DelegationCounts {
    fn of<'a>(delegations: impl Iterator<Item = &'a Delegation>) -> Self {
        let mut counts = Self::default();
        for delegation in delegations {
            let count = match delegation.progress.state {
                State::Waiting => &mut counts.waiting,
                State::Connected => &mut counts.connected,
                State::Suspected { .. } => &mut counts.suspected,
                State::Leaving { .. } => &mut counts.leaving,
            };
            *count += 1;
        }
        counts
    }
}

impl ParticipantCounts {
    fn of<'a>(participants: impl Iterator<Item = &'a Tracked>) -> Self {
        let mut counts = Self::default();
        for participant in participants {
            let count = match participant.state {
                Presence::Absent => &mut counts.absent,
                Presence::Missing { .. } => &mut counts.missing,
                Presence::Connected => &mut counts.connected,
                Presence::Unwelcome => &mut counts.unwelcome,
            };
            *count += 1;
        }
        counts
    }
}

/// Entries of each list: a status is for reading, and a room may have thousands.
const LISTED: usize = 20;
