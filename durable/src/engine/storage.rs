//! The rows of a room: one for each delegation and each tracked participant, and one for the room where sanity checks
//! are on. Plain columns, no index but the primary key: each index would double the rows written.

use serde::{Deserialize, Serialize};

use crate::engine::action::{DelegationId, TrackedId};
use crate::engine::delegation::row::DelegationRow;
use crate::engine::membership::row::TrackedRow;
use crate::time::Timestamp;

/// Change to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Deletes a delegation's row: it has ended.
    Delete(DelegationId),
    /// Inserts a row, or replaces the one with its id.
    Put(Box<DelegationRow>),
    /// Deletes a tracked participant's row: no token admits it any more.
    Forget(TrackedId),
    /// Inserts a row, or replaces the one with its id.
    Track(Box<TrackedRow>),
    /// Inserts or replaces the room's only row.
    PutRoom(RoomRow),
}

/// All rows, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The delegations.
    pub delegations: Vec<DelegationRow>,
    /// The tracked participants.
    pub tracked: Vec<TrackedRow>,
    /// The room's own row.
    pub room: RoomRow,
}

/// The room's own row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// When the next sanity check is due.
    pub sanity_check_due: Option<Timestamp>,
    /// Time before which no restart was left undone when the row was written. It is written with the rest of the row,
    /// never for its own sake.
    pub handled_until: Option<Timestamp>,
}
