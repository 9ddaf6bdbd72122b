//! What of a room is stored: one row for each delegation and each tracked participant, and one for the room where sanity
//! checks are on. Plain columns, no index but the primary key: each index would double the rows written.

use serde::{Deserialize, Serialize};

use crate::engine::action::{DelegationId, TrackedId};
use crate::engine::delegation::row::DelegationRow;
use crate::engine::membership::row::TrackedRow;
use crate::time::Timestamp;

/// What has to be stored, or deleted, so that nothing is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This delegation is over.
    Delete(DelegationId),
    /// Insert this row, or replace the one with its id.
    Put(Box<DelegationRow>),
    /// No token lets this participant in any more.
    Forget(TrackedId),
    /// Insert this row, or replace the one with its id.
    Track(Box<TrackedRow>),
    /// Insert or replace the room's only row.
    PutRoom(RoomRow),
}

/// All that is stored, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The delegations.
    pub delegations: Vec<DelegationRow>,
    /// The tracked participants.
    pub tracked: Vec<TrackedRow>,
    /// The room's own.
    pub room: RoomRow,
}

/// The room's own row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// When the SFU is next asked whether the connected participants are still there.
    pub sanity_check_due: Option<Timestamp>,
}
