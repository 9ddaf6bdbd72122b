//! The row of a delegation.

use serde::{Deserialize, Serialize};

use crate::command::Delegate;
use crate::delay::{DelayId, DelayTimeout};
use crate::engine::action::DelegationId;
use crate::engine::connection::{Alias, Connection, Connections};
use crate::engine::delegation::{Delegation, Progress, State};
use crate::engine::mutant::Mutant;
use crate::ids::{DelayedEventsUrl, Identity, ParticipantSid, RoomName, ServerName, UserId};
use crate::time::Timestamp;

/// Row of a delegation. Every field is one column: a text, an integer below 2⁵³, or null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationRow {
    /// Primary key.
    pub id: DelegationId,
    /// See [`Delegate::room`].
    pub room: RoomName,
    /// See [`Delegate::identity`].
    pub identity: Identity,
    /// See [`Delegate::legacy_identity`].
    pub legacy_identity: Option<Identity>,
    /// See [`Delegate::server_name`].
    pub server_name: ServerName,
    /// See [`Delegate::delayed_events_url`].
    pub delayed_events_url: DelayedEventsUrl,
    /// See [`Delegate::owner`].
    pub owner: Option<UserId>,
    /// See [`Delegate::user_id`]. `None` in a row of an older version: it is counted for no user.
    pub user_id: Option<UserId>,
    /// See [`Delegate::restricted`]: 0 or 1.
    pub restricted: u8,
    /// See [`Delegate::delay_id`]; a secret.
    pub delay_id: DelayId,
    /// See [`Delegate::delay_timeout`]; ms.
    pub delay_timeout: DelayTimeout,
    /// When the delegation was accepted.
    pub accepted_at: Timestamp,
    /// See [`Delegate::issued_at`].
    #[serde(default)]
    pub issued_at: Option<Timestamp>,
    /// State.
    pub state: StateColumn,
    /// Beginning of the state, where that matters: suspected, leaving.
    pub since: Option<Timestamp>,
    /// Suspected: time from which on "not found" is believed.
    pub believed_from: Option<Timestamp>,
    /// Waiting: the end of the wait. Connected, suspected: the next `restart` by the time the row was written, from which
    /// on there is one in each interval. Leaving: the next `send`.
    pub due: Timestamp,
    /// Number of failures of the homeserver running.
    pub failures: u32,
    /// When the homeserver's timer was last started, at the earliest, by the time the row was written.
    pub armed_at: Timestamp,
    /// Identity of the participant's newest connection, if one is known.
    pub connected_as: Option<AliasColumn>,
    /// Its SID.
    pub participant_sid: Option<ParticipantSid>,
    /// When it began.
    pub joined_at: Option<Timestamp>,
    /// Whether another may stand beside it: 0 or 1.
    pub contested: u8,
    /// SIDs of ended connections, separated by spaces.
    pub ended_sids: String,
}

/// State of a delegation, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateColumn {
    /// The participant hasn't connected yet.
    Waiting,
    /// The participant is connected.
    Connected,
    /// The participant is reported to have left, but may be back already, or soon.
    #[serde(rename = "doubted")]
    Suspected,
    /// The participant has left.
    Leaving,
}

impl From<State> for StateColumn {
    fn from(state: State) -> Self {
        state_columns(state).0
    }
}

/// Identity of a delegation, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AliasColumn {
    /// [`DelegationRow::identity`].
    Member,
    /// [`DelegationRow::legacy_identity`].
    Legacy,
}

impl DelegationRow {
    pub(crate) fn of(delegation: &Delegation) -> Self {
        let Delegation { id, request, accepted_at, progress, .. } = delegation;
        let (state, since, believed_from) = state_columns(progress.state);
        let latest = progress.connections.latest.as_ref();
        Self {
            id: *id,
            room: request.room.clone(),
            identity: request.identity.clone(),
            legacy_identity: request.legacy_identity.clone(),
            server_name: request.server_name.clone(),
            delayed_events_url: request.delayed_events_url.clone(),
            owner: request.owner.clone(),
            user_id: Some(request.user_id.clone()).filter(|user_id| !user_id.as_str().is_empty()),
            restricted: request.restricted.into(),
            delay_id: request.delay_id.clone(),
            delay_timeout: request.delay_timeout,
            accepted_at: *accepted_at,
            issued_at: request.issued_at,
            state,
            since,
            believed_from,
            due: delegation.stored.0,
            failures: progress.failures,
            armed_at: delegation.stored.1,
            connected_as: latest.map(|latest| alias_column(latest.alias)),
            participant_sid: latest.and_then(|latest| latest.sid.clone()),
            joined_at: latest.and_then(|latest| latest.since),
            contested: latest.is_some_and(|latest| latest.contested).into(),
            ended_sids: progress.connections.over_column(),
        }
    }

    /// Returns whether it is the row of that delegation: as a comparison with [`of`](Self::of), but without its copies.
    /// The simulation compares all rows at every step.
    #[cfg(feature = "mutants")]
    pub(crate) fn is_of(&self, delegation: &Delegation) -> bool {
        let Self { id, room, identity, legacy_identity, server_name, delayed_events_url, owner, user_id, .. } = self;
        let Self { restricted, delay_id, delay_timeout, accepted_at, issued_at, state, since, believed_from, .. } =
            self;
        let Self { due, failures, armed_at, connected_as, participant_sid, joined_at, contested, ended_sids, .. } =
            self;
        let Delegation { request, progress, .. } = delegation;
        let latest = progress.connections.latest.as_ref();
        (*id, *accepted_at, *issued_at) == (delegation.id, delegation.accepted_at, request.issued_at)
            && (*state, *since, *believed_from) == state_columns(progress.state)
            && (*due, *armed_at, *failures) == (delegation.stored.0, delegation.stored.1, progress.failures)
            && *connected_as == latest.map(|latest| alias_column(latest.alias))
            && *joined_at == latest.and_then(|latest| latest.since)
            && *contested == u8::from(latest.is_some_and(|latest| latest.contested))
            && (*restricted, *delay_timeout) == (request.restricted.into(), request.delay_timeout)
            && participant_sid.as_ref() == latest.and_then(|latest| latest.sid.as_ref())
            && progress.connections.is_over_column(ended_sids)
            && (identity, legacy_identity, owner) == (&request.identity, &request.legacy_identity, &request.owner)
            && user_id.as_ref() == Some(&request.user_id).filter(|user_id| !user_id.as_str().is_empty())
            && (room, server_name, delay_id) == (&request.room, &request.server_name, &request.delay_id)
            && *delayed_events_url == request.delayed_events_url
    }

    /// Restores the delegation, with nothing in flight.
    pub(crate) fn resume(self, now: Timestamp, handled_until: Timestamp) -> Delegation {
        let since = self.since.unwrap_or(now);
        let state = match self.state {
            StateColumn::Waiting => State::Waiting,
            StateColumn::Connected => State::Connected,
            StateColumn::Leaving if Mutant::ForgetLeavingOnLoad.is_injected() => State::Connected,
            StateColumn::Suspected => State::Suspected { since, believed_from: self.believed_from.unwrap_or(now) },
            StateColumn::Leaving => State::Leaving { since },
        };
        let latest = self.connected_as.map(|alias| Connection {
            alias: match alias {
                AliasColumn::Member => Alias::Member,
                AliasColumn::Legacy => Alias::Legacy,
            },
            sid: self.participant_sid,
            since: self.joined_at,
            contested: self.contested != 0,
        });
        let progress = Progress {
            state,
            due: self.due,
            failures: self.failures,
            armed_at: self.armed_at,
            connections: Connections::from_columns(latest, &self.ended_sids),
        };
        let request = Delegate {
            room: self.room,
            identity: self.identity,
            legacy_identity: self.legacy_identity,
            server_name: self.server_name,
            delayed_events_url: self.delayed_events_url,
            owner: self.owner,
            user_id: self.user_id.unwrap_or_else(|| UserId::new("")),
            restricted: self.restricted != 0,
            delay_id: self.delay_id,
            delay_timeout: self.delay_timeout,
            restarted_at: None,
            issued_at: self.issued_at,
        };
        Delegation::resume(self.id, request, self.accepted_at, progress, now, handled_until)
    }
}

/// Columns of a state: the state, its beginning where that matters, and the time from which on "not found" is believed.
fn state_columns(state: State) -> (StateColumn, Option<Timestamp>, Option<Timestamp>) {
    match state {
        State::Waiting => (StateColumn::Waiting, None, None),
        State::Connected => (StateColumn::Connected, None, None),
        State::Suspected { since, believed_from } => (StateColumn::Suspected, Some(since), Some(believed_from)),
        State::Leaving { since } => (StateColumn::Leaving, Some(since), None),
    }
}

fn alias_column(alias: Alias) -> AliasColumn {
    match alias {
        Alias::Member => AliasColumn::Member,
        Alias::Legacy => AliasColumn::Legacy,
    }
}
