//! The row of a tracked participant.

use serde::{Deserialize, Serialize};

use crate::command::Track;
use crate::engine::action::TrackedId;
use crate::engine::connection::{Alias, Connection, Connections};
use crate::engine::membership::participant::Tracked;
use crate::ids::{Identity, MatrixRoomId, ParticipantSid, RoomName, UserId};
use crate::time::Timestamp;

/// Row of a tracked participant. Every field is one column: a text, an integer below 2⁵³, or null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedRow {
    /// Primary key.
    pub id: TrackedId,
    /// See [`Track::room`].
    pub room: RoomName,
    /// See [`Track::matrix_room_id`].
    pub matrix_room_id: MatrixRoomId,
    /// See [`Track::user_id`].
    pub user_id: UserId,
    /// See [`Track::identity`].
    pub identity: Identity,
    /// When the last of its tokens expires.
    pub expires_at: Timestamp,
    /// Whether it is connected: 0 or 1.
    pub connected: u8,
    /// When it was last known not to be connected, if it ever was.
    pub gone_at: Option<Timestamp>,
    /// SID of its newest connection, if one is known.
    pub participant_sid: Option<ParticipantSid>,
    /// When that connection began.
    pub joined_at: Option<Timestamp>,
    /// SIDs of ended connections, separated by spaces.
    pub ended_sids: String,
}

impl TrackedRow {
    pub(crate) fn of(tracked: &Tracked) -> Self {
        let Tracked { id, request, connections, left_at, .. } = tracked;
        let latest = connections.latest.as_ref();
        Self {
            id: *id,
            room: request.room.clone(),
            matrix_room_id: request.matrix_room_id.clone(),
            user_id: request.user_id.clone(),
            identity: request.identity.clone(),
            expires_at: request.expires_at,
            connected: tracked.is_connected().into(),
            gone_at: *left_at,
            participant_sid: latest.and_then(|latest| latest.sid.clone()),
            joined_at: latest.and_then(|latest| latest.since),
            ended_sids: connections.over_column(),
        }
    }

    /// Returns whether it is the row of that participant: as a comparison with [`of`](Self::of), but without its copies.
    /// The simulation compares all rows at every step.
    #[cfg(feature = "mutants")]
    pub(crate) fn is_of(&self, tracked: &Tracked) -> bool {
        let Self { id, room, matrix_room_id, user_id, identity, expires_at, connected, .. } = self;
        let Self { gone_at, participant_sid, joined_at, ended_sids, .. } = self;
        let Tracked { request, connections, .. } = tracked;
        let latest = connections.latest.as_ref();
        (*id, *expires_at, *gone_at) == (tracked.id, request.expires_at, tracked.left_at)
            && *connected == u8::from(tracked.is_connected())
            && *joined_at == latest.and_then(|latest| latest.since)
            && participant_sid.as_ref() == latest.and_then(|latest| latest.sid.as_ref())
            && connections.is_over_column(ended_sids)
            && (identity, user_id) == (&request.identity, &request.user_id)
            && (room, matrix_room_id) == (&request.room, &request.matrix_room_id)
    }

    /// Restores the participant, with nothing in flight.
    pub(crate) fn resume(self, now: Timestamp) -> Tracked {
        let known = self.participant_sid.is_some() || self.joined_at.is_some();
        let latest = known.then_some(Connection {
            alias: Alias::Member,
            sid: self.participant_sid,
            since: self.joined_at,
            contested: false,
        });
        let connections = Connections::from_columns(latest, &self.ended_sids);
        let request = Track {
            room: self.room,
            matrix_room_id: self.matrix_room_id,
            user_id: self.user_id,
            identity: self.identity,
            expires_at: self.expires_at,
        };
        Tracked::resume(self.id, request, self.connected != 0, self.gone_at, connections, now)
    }
}
