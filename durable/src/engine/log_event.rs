//! Events in the life of delegations and tracked participants, for the log.

use std::fmt;

use crate::command::{Delegate, Track};
use crate::engine::delegation::{Delegation, Ending, Signal, State};
use crate::ids::{Identity, MatrixRoomId, RoomName, ServerName, UserId};

/// Event worth a line in the log. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// The LiveKit room.
    pub room: RoomName,
    /// The delegation, participant or Matrix room that it is about.
    pub subject: Subject,
    /// Kind of the event.
    pub kind: LogEventKind,
}

/// Subject of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A delegation.
    Delegation {
        /// Identity of the member.
        identity: Identity,
        /// Homeserver that holds the delayed event.
        server_name: ServerName,
    },
    /// A participant whose user has to be in a Matrix room.
    Participant {
        /// Identity on the SFU.
        identity: Identity,
        /// User in Matrix.
        user_id: UserId,
        /// The Matrix room.
        matrix_room_id: MatrixRoomId,
    },
    /// A Matrix room.
    MatrixRoom(MatrixRoomId),
}

/// Kind of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEventKind {
    /// The delegation was accepted.
    Delegated,
    /// The participant is connected, or connected again.
    Connected,
    /// The participant is reported to have left; the SFU is polled.
    Suspected,
    /// The participant has left.
    Leaving,
    /// Polls have found the participant on the SFU, and again a while later, but no webhook of the room has come: they
    /// don't seem to arrive.
    Unreported,
    /// A `restart` has failed; it is tried again.
    RestartFailed,
    /// The homeserver has limited requests (429): restarts keep to its rate from now on. Reported once an hour.
    RequestsLimited,
    /// A `send` has failed; it is tried again.
    SendFailed,
    /// The delegation has ended.
    Ended(Ending),
    /// A participant whose user isn't in the Matrix room was removed from the LiveKit room.
    ParticipantRemoved,
    /// The SFU has failed to remove a participant; it is tried again.
    RemovalFailed,
    /// Our homeserver isn't in the Matrix room, and so the LiveKit room was deleted.
    RoomDeleted,
    /// The SFU has failed to delete the room; it is tried again.
    DeletionFailed,
    /// Our homeserver is in the Matrix room, but answers `joined_members` with 403: the namespace in our registration
    /// doesn't cover its users. No participant is removed.
    NamespaceMisconfigured,
    /// Our homeserver's answer about the members of the Matrix room was a failure. All participants stay until it
    /// answers.
    MembershipUnknown,
}

impl LogEventKind {
    /// All kinds.
    pub const ALL: [Self; 18] = [
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
        Self::RequestsLimited,
        Self::Unreported,
    ];
}

impl LogEvent {
    pub(crate) fn delegated(request: &Delegate) -> Self {
        Self::of(request, LogEventKind::Delegated)
    }

    pub(crate) fn limited(request: &Delegate) -> Self {
        Self::of(request, LogEventKind::RequestsLimited)
    }

    pub(crate) fn unreported(request: &Delegate) -> Self {
        Self::of(request, LogEventKind::Unreported)
    }

    pub(crate) fn ended(delegation: &Delegation, ending: Ending) -> Self {
        Self::of(&delegation.request, LogEventKind::Ended(ending))
    }

    /// Event of the change that a signal has made, if it is worth a line.
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

    /// Event of a tracked participant.
    pub(crate) fn of_tracked(request: &Track, kind: LogEventKind) -> Self {
        let Track { room, matrix_room_id, user_id, identity, .. } = request.clone();
        Self { room, subject: Subject::Participant { identity, user_id, matrix_room_id }, kind }
    }

    /// Event of a Matrix room.
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
            Self::Unreported => "participant found on the SFU without a webhook",
            Self::RestartFailed => "delayed leave restart failed, retrying",
            Self::SendFailed => "delayed leave send failed, retrying",
            Self::RequestsLimited => {
                "delayed leave restarts limited by the homeserver (Synapse: rc_delayed_event_mgmt)"
            }
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
            // A new kind needs a place here, and then in the list.
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
                LogEventKind::RequestsLimited => 16,
                LogEventKind::Unreported => 17,
            };
            assert_eq!(place, expected, "{event}");
        }
    }
}
