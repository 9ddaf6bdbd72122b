//! What happens to delegations and to those who are tracked, for the log.

use std::fmt;

use crate::command::{Delegate, Track};
use crate::engine::delegation::{Delegation, Ending, Signal, State};
use crate::ids::{Identity, MatrixRoomId, RoomName, ServerName, UserId};

/// Something worth a line in the log. It tells nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// In which room.
    pub room: RoomName,
    /// To whom, or to what.
    pub subject: Subject,
    /// What has happened.
    pub kind: LogEventKind,
}

/// What a log_event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A delegation.
    Delegation {
        /// Whose.
        identity: Identity,
        /// Whose homeserver holds the delayed event.
        server_name: ServerName,
    },
    /// A participant whose user has to be in a Matrix room.
    Participant {
        /// Who, on the SFU.
        identity: Identity,
        /// Who, in Matrix.
        user_id: UserId,
        /// The Matrix room.
        matrix_room_id: MatrixRoomId,
    },
    /// A Matrix room.
    MatrixRoom(MatrixRoomId),
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEventKind {
    /// It was accepted.
    Delegated,
    /// The participant is there, or there again.
    Connected,
    /// The participant is said to be gone; the SFU is asked.
    Suspected,
    /// The participant is gone.
    Leaving,
    /// A `restart` has failed; it is tried again.
    RestartFailed,
    /// A `send` has failed; it is tried again.
    SendFailed,
    /// It is over.
    Ended(Ending),
    /// Somebody who isn't in the Matrix room was removed from the LiveKit room.
    ParticipantRemoved,
    /// The SFU has failed to remove somebody; it is tried again.
    RemovalFailed,
    /// Our homeserver isn't in the Matrix room, and so the LiveKit room was deleted.
    RoomDeleted,
    /// The SFU has failed to delete the room; it is tried again.
    DeletionFailed,
    /// Our homeserver is in the Matrix room, but doesn't tell us who is: the namespace in our registration doesn't cover its
    /// users. Nobody is removed.
    NamespaceMisconfigured,
    /// Our homeserver didn't tell who is in the Matrix room. Everybody stays until it does.
    MembershipUnknown,
}

impl LogEventKind {
    /// Everything that may happen.
    pub const ALL: [Self; 16] = [
        Self::Delegated,
        Self::Connected,
        Self::Suspected,
        Self::Leaving,
        Self::RestartFailed,
        Self::SendFailed,
        Self::Ended(Ending::Sent),
        Self::Ended(Ending::EventGone),
        Self::Ended(Ending::GaveUp),
        Self::Ended(Ending::Replaced),
        Self::ParticipantRemoved,
        Self::RemovalFailed,
        Self::RoomDeleted,
        Self::DeletionFailed,
        Self::NamespaceMisconfigured,
        Self::MembershipUnknown,
    ];
}

impl LogEvent {
    pub(crate) fn delegated(request: &Delegate) -> Self {
        Self::of(request, LogEventKind::Delegated)
    }

    pub(crate) fn ended(delegation: &Delegation, ending: Ending) -> Self {
        Self::of(&delegation.request, LogEventKind::Ended(ending))
    }

    /// What the signal has changed, if that is worth telling.
    pub(crate) fn between(before: State, after: &Delegation, signal: Signal) -> Option<Self> {
        let state = after.progress.state;
        let kind = match (signal, state) {
            (Signal::RestartFailed(_), State::Connected | State::Suspected { .. }) => LogEventKind::RestartFailed,
            (Signal::SendFailed(_), State::Leaving { .. }) => LogEventKind::SendFailed,
            _ if std::mem::discriminant(&before) == std::mem::discriminant(&state) => return None,
            (_, State::Waiting) => return None,
            (_, State::Connected) => LogEventKind::Connected,
            (_, State::Suspected { .. }) => LogEventKind::Suspected,
            (_, State::Leaving { .. }) => LogEventKind::Leaving,
        };
        Some(Self::of(&after.request, kind))
    }

    /// Something has happened to somebody who is tracked.
    pub(crate) fn of_tracked(request: &Track, kind: LogEventKind) -> Self {
        let Track { room, matrix_room_id, user_id, identity, .. } = request.clone();
        Self { room, subject: Subject::Participant { identity, user_id, matrix_room_id }, kind }
    }

    /// Something has happened that concerns all who have to be in a Matrix room.
    pub(crate) fn of_matrix_room(room: RoomName, matrix_room_id: MatrixRoomId, kind: LogEventKind) -> Self {
        Self { room, subject: Subject::MatrixRoom(matrix_room_id), kind }
    }

    fn of(request: &Delegate, kind: LogEventKind) -> Self {
        let Delegate { room, identity, server_name, .. } = request.clone();
        Self { room, subject: Subject::Delegation { identity, server_name }, kind }
    }
}

impl fmt::Display for LogEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delegated => "delayed leave delegated",
            Self::Connected => "participant connected",
            Self::Suspected => "participant suspected to have left, polling the SFU",
            Self::Leaving => "participant gone, sending its leave",
            Self::RestartFailed => "delayed leave restart failed, retrying",
            Self::SendFailed => "delayed leave send failed, retrying",
            Self::Ended(Ending::Sent) => "leave sent",
            Self::Ended(Ending::EventGone) => "delayed leave not found at the homeserver",
            Self::Ended(Ending::GaveUp) => "delayed leave expired at the homeserver",
            Self::Ended(Ending::Replaced) => "delegation replaced",
            Self::ParticipantRemoved => "participant removed: user not in the Matrix room",
            Self::RemovalFailed => "participant removal failed, retrying",
            Self::RoomDeleted => "room deleted: homeserver not in the Matrix room",
            Self::DeletionFailed => "room deletion failed, retrying",
            Self::NamespaceMisconfigured => "joined_members forbidden although the homeserver is joined",
            Self::MembershipUnknown => "membership unknown, no participant removed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_listed_at_its_place() {
        for (place, event) in LogEventKind::ALL.into_iter().enumerate() {
            // A new event has no place until it gets one here, and then in the list.
            let expected = match event {
                LogEventKind::Delegated => 0,
                LogEventKind::Connected => 1,
                LogEventKind::Suspected => 2,
                LogEventKind::Leaving => 3,
                LogEventKind::RestartFailed => 4,
                LogEventKind::SendFailed => 5,
                LogEventKind::Ended(Ending::Sent) => 6,
                LogEventKind::Ended(Ending::EventGone) => 7,
                LogEventKind::Ended(Ending::GaveUp) => 8,
                LogEventKind::Ended(Ending::Replaced) => 9,
                LogEventKind::ParticipantRemoved => 10,
                LogEventKind::RemovalFailed => 11,
                LogEventKind::RoomDeleted => 12,
                LogEventKind::DeletionFailed => 13,
                LogEventKind::NamespaceMisconfigured => 14,
                LogEventKind::MembershipUnknown => 15,
            };
            assert_eq!(place, expected, "{event}");
        }
    }
}
