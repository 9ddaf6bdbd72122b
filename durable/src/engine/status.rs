//! What an operator sees of a room: its delegations and tracked participants, without ids of delayed events.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::delegation::Delegation;
use crate::engine::delegation::row::StateColumn;
use crate::engine::membership::participant::{State as Presence, Tracked};
use crate::engine::room::RoomEngine;
use crate::ids::{ServerName, UserId};
use crate::time::Timestamp;

/// State of a room, for its operator. All times are in ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomStatus {
    /// Number of delegations in each state.
    pub delegations: BTreeMap<&'static str, usize>,
    /// Number of tracked participants in each state.
    pub participants: BTreeMap<&'static str, usize>,
    /// When the room's alarm has something to do next.
    pub next_due: Option<Timestamp>,
    /// The delegations with the most failures running, then those that are due first: [`LISTED`] at most.
    pub first_delegations: Vec<DelegationStatus>,
    /// The users of tracked participants, if they were asked for: [`LISTED`] at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
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
    /// Its user, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

impl RoomEngine {
    /// Returns the room's state, with ids of users only if `with_users`. Changes nothing.
    pub fn status(&self, with_users: bool) -> RoomStatus {
        let mut first: Vec<&Delegation> = self.delegations.values().collect();
        first.sort_by_key(|delegation| (std::cmp::Reverse(delegation.progress.failures), delegation.progress.due));
        let first_delegations = first.iter().take(LISTED).map(|it| DelegationStatus::of(it, with_users)).collect();
        let tracked = self.membership.tracked();
        let users = tracked.clone().take(if with_users { LISTED } else { 0 }).map(|it| it.request.user_id.clone());
        RoomStatus {
            delegations: count(self.delegations.values().map(|it| name_of(StateColumn::from(it.progress.state)))),
            participants: count(tracked.clone().map(presence_of)),
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

fn count(states: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    counts
}

fn name_of(state: StateColumn) -> &'static str {
    match state {
        StateColumn::Waiting => "waiting",
        StateColumn::Connected => "connected",
        StateColumn::Suspected => "suspected",
        StateColumn::Leaving => "leaving",
    }
}

fn presence_of(tracked: &Tracked) -> &'static str {
    match tracked.state {
        Presence::Absent => "absent",
        Presence::Missing { .. } => "missing",
        Presence::Connected => "connected",
        Presence::Unwelcome => "unwelcome",
    }
}

/// Entries of each list: a status is for reading, and a room may have thousands.
const LISTED: usize = 20;
