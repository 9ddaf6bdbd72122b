//! Requests of the engine to other servers, and their outcomes.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delay::DelayId;
use crate::engine::mutant::Mutant;
use crate::ids::{DelayedEventsUrl, Identity, MatrixRoomId, ParticipantSid, RoomName, ServerName, UserId};
use crate::time::Timestamp;

/// A request that is due now. Its [`Outcome`] goes back in [`Input::Outcome`](crate::Input::Outcome) with the same id
/// within 30 seconds; after that the action counts as failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Label of the outcome.
    pub id: ActionId,
    /// Request to perform.
    pub request: Request,
}

/// A request to another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `POST …/delayed_events/{delay_id}/restart` on the homeserver, with the look-up of its client-server URL if
    /// necessary.
    Restart(DelayedEvent),
    /// `POST …/delayed_events/{delay_id}/send`, likewise.
    Send(DelayedEvent),
    /// LiveKit's `GetParticipant`.
    GetParticipant {
        /// The room.
        room: RoomName,
        /// Identity of the participant.
        identity: Identity,
    },
    /// LiveKit's `ListParticipants`.
    ListParticipants {
        /// The room.
        room: RoomName,
    },
    /// `GET …/rooms/{room}/joined_members` on our own homeserver.
    JoinedMembers {
        /// The Matrix room.
        matrix_room_id: MatrixRoomId,
    },
    /// `GET …/rooms/{room}/is_joined?server_name=…` there, for our homeserver's own name.
    IsServerJoined {
        /// The Matrix room.
        matrix_room_id: MatrixRoomId,
    },
    /// The same for one user, where the members can't be read.
    IsUserJoined {
        /// The Matrix room.
        matrix_room_id: MatrixRoomId,
        /// The user.
        user_id: UserId,
    },
    /// LiveKit's `RemoveParticipant`.
    RemoveParticipant {
        /// The room.
        room: RoomName,
        /// Identity of the participant.
        identity: Identity,
    },
    /// LiveKit's `DeleteRoom`.
    DeleteRoom {
        /// The room.
        room: RoomName,
        /// Matrix room of its participants, in which our homeserver isn't.
        matrix_room_id: MatrixRoomId,
    },
}

/// Result of a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of [`Request::Restart`] and [`Request::Send`].
    Homeserver(HomeserverAnswer),
    /// Of [`Request::GetParticipant`] and [`Request::ListParticipants`].
    Sfu(SfuAnswer),
    /// Of [`Request::JoinedMembers`].
    Members(MembersAnswer),
    /// Of [`Request::IsServerJoined`] and [`Request::IsUserJoined`].
    Server(ServerAnswer),
    /// Of [`Request::RemoveParticipant`] and [`Request::DeleteRoom`].
    Removal(RemovalAnswer),
}

impl Request {
    /// Outcome of a request that brought none: no answer in time, no connection.
    pub fn failed(&self) -> Outcome {
        match self {
            Self::Restart(_) | Self::Send(_) => Outcome::Homeserver(HomeserverAnswer::Failed),
            Self::GetParticipant { .. } | Self::ListParticipants { .. } => Outcome::Sfu(SfuAnswer::Failed),
            Self::JoinedMembers { .. } => Outcome::Members(MembersAnswer::Failed),
            Self::IsServerJoined { .. } | Self::IsUserJoined { .. } => Outcome::Server(ServerAnswer::Failed),
            Self::RemoveParticipant { .. } | Self::DeleteRoom { .. } => Outcome::Removal(RemovalAnswer::Failed),
        }
    }
}

/// The answer in an outcome. An outcome of another kind than the request's is no answer: it counts as failed.
impl Outcome {
    pub(crate) fn homeserver(self) -> HomeserverAnswer {
        if let Self::Homeserver(answer) = self { answer } else { HomeserverAnswer::Failed }
    }

    pub(crate) fn sfu(self) -> SfuAnswer {
        if let Self::Sfu(answer) = self { answer } else { SfuAnswer::Failed }
    }

    pub(crate) fn members(self) -> MembersAnswer {
        if let Self::Members(answer) = self { answer } else { MembersAnswer::Failed }
    }

    pub(crate) fn server(self) -> ServerAnswer {
        if let Self::Server(answer) = self { answer } else { ServerAnswer::Failed }
    }

    pub(crate) fn removal(self) -> RemovalAnswer {
        if let Self::Removal(answer) = self { answer } else { RemovalAnswer::Failed }
    }
}

/// One line for traces and tests. It doesn't show the delay id.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart(event) => write!(f, "restart {}", event.delegation.as_u64()),
            Self::Send(event) => write!(f, "send {}", event.delegation.as_u64()),
            Self::GetParticipant { identity, .. } => write!(f, "get {identity}"),
            Self::ListParticipants { .. } => f.write_str("list participants"),
            Self::JoinedMembers { matrix_room_id } => write!(f, "members of {matrix_room_id}"),
            Self::IsServerJoined { matrix_room_id } => write!(f, "server in {matrix_room_id}"),
            Self::IsUserJoined { matrix_room_id, user_id } => write!(f, "{user_id} in {matrix_room_id}"),
            Self::RemoveParticipant { identity, .. } => write!(f, "remove {identity}"),
            Self::DeleteRoom { room, .. } => write!(f, "delete {room}"),
        }
    }
}

/// The delayed event of a delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedEvent {
    /// The delegation.
    pub delegation: DelegationId,
    /// Homeserver that holds it.
    pub server_name: ServerName,
    /// URL of delayed events there, at the time of the delegation.
    pub url: DelayedEventsUrl,
    /// See [`Delegate::owner`](crate::Delegate::owner).
    pub owner: Option<UserId>,
    /// Its id there.
    pub delay_id: DelayId,
}

/// Id of one action, unique for ever: an engine loaded anew doesn't reuse the ids of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub(crate) u64);

/// Defines the primary keys of rows.
macro_rules! row_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $name(pub(crate) u64);

            impl $name {
                /// The id as a number below 2⁵³: the primary key of its row.
                pub fn as_u64(self) -> u64 {
                    self.0
                }
            }
        )*
    };
}

row_ids! {
    /// Id of one delegation in its room, unique for ever: the time of its acceptance in milliseconds since the epoch,
    /// and a little more where several came at once.
    DelegationId;
    /// Id of one tracked participant in its room, made like a [`DelegationId`].
    TrackedId;
}

/// A homeserver's answer to `restart` or `send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeserverAnswer {
    /// 2xx.
    Done,
    /// 404 or 409: the event was sent, cancelled or finalised otherwise.
    Gone,
    /// 429, with its wait, where there is one.
    Limited(Option<Duration>),
    /// 5xx, another 4xx, no answer in time, no connection, no client-server URL.
    Failed,
}

impl HomeserverAnswer {
    /// Reads a response: its status, whether it is the homeserver's own word, and for a 429 its `Retry-After`, or else its
    /// `retry_after_ms` rounded up. A proxy's page ends nothing.
    pub fn of_response(status: u16, own_word: bool, retry_after: Option<Duration>) -> Self {
        let own_word = own_word || Mutant::TrustProxies.is_injected();
        match status {
            200..=299 if own_word => Self::Done,
            404 | 409 if own_word => Self::Gone,
            429 => Self::Limited(retry_after),
            _ => Self::Failed,
        }
    }
}

/// The SFU's answer about a participant or a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SfuAnswer {
    /// The participants in the room: all of them for `ListParticipants`, one or none for `GetParticipant`, none for
    /// `not_found`.
    Participants(Vec<Participant>),
    /// Anything else: another status, no answer in time, no connection.
    Failed,
}

/// Our homeserver's answer about the members of a Matrix room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersAnswer {
    /// 200: exactly these users are joined.
    Joined(HashSet<UserId>),
    /// 403: the members are kept from us, because none of the users of our namespace is joined.
    Forbidden,
    /// 200 with members that can't be read: there are too many, or they aren't what they should be.
    Unreadable,
    /// Anything else: another status, no answer in time, no connection.
    Failed,
}

/// Our homeserver's answer about the membership in a Matrix room of itself, or of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerAnswer {
    /// 200: it is joined, or it isn't.
    Joined(bool),
    /// Anything else.
    Failed,
}

/// The SFU's answer to `RemoveParticipant` or `DeleteRoom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalAnswer {
    /// It has removed the participant, or deleted the room.
    Done,
    /// `not_found`: there was no such participant, or no such room.
    NotThere,
    /// Anything else.
    Failed,
}

/// LiveKit's `ParticipantInfo`, reduced to the fields that are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its identity.
    pub identity: Identity,
    /// Its present connection.
    pub sid: Option<ParticipantSid>,
    /// Progress of that connection.
    pub state: ParticipantState,
    /// `joined_at_ms` (17), or `joined_at` (6): beginning of that connection. `None` for 0.
    pub joined_at: Option<Timestamp>,
}

/// LiveKit's `ParticipantInfo.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParticipantState {
    /// The signalling connection stands.
    Joining,
    /// Media is being negotiated.
    Joined,
    /// Media is connected: announced by `participant_joined`.
    Active,
    /// Gone.
    Disconnected,
}

impl ParticipantState {
    /// Converts the number of the protobuf enum. An unknown state counts as not settled.
    pub fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Joined,
            2 => Self::Active,
            3 => Self::Disconnected,
            _ => Self::Joining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_as_the_table_says() {
        let wait = Some(Duration::from_secs(7));
        for (status, answer) in [
            (200, HomeserverAnswer::Done),
            (204, HomeserverAnswer::Done),
            (404, HomeserverAnswer::Gone),
            (409, HomeserverAnswer::Gone),
            (429, HomeserverAnswer::Limited(wait)),
            (302, HomeserverAnswer::Failed),
            (400, HomeserverAnswer::Failed),
            (401, HomeserverAnswer::Failed),
            (403, HomeserverAnswer::Failed),
            (405, HomeserverAnswer::Failed),
            (500, HomeserverAnswer::Failed),
            (503, HomeserverAnswer::Failed),
        ] {
            assert_eq!(HomeserverAnswer::of_response(status, true, wait), answer, "{status}");
            let of_proxy = if status == 429 { answer } else { HomeserverAnswer::Failed };
            assert_eq!(HomeserverAnswer::of_response(status, false, wait), of_proxy, "{status}");
        }
    }

    #[test]
    fn a_request_without_an_outcome_has_failed_in_its_own_kind() {
        let (room, matrix_room_id) = (RoomName::new("room"), MatrixRoomId::new("!room:b"));
        let identity = Identity::new("alice");
        assert_eq!(Request::ListParticipants { room: room.clone() }.failed(), Outcome::Sfu(SfuAnswer::Failed));
        assert_eq!(
            Request::JoinedMembers { matrix_room_id: matrix_room_id.clone() }.failed(),
            Outcome::Members(MembersAnswer::Failed)
        );
        assert_eq!(Request::IsServerJoined { matrix_room_id }.failed(), Outcome::Server(ServerAnswer::Failed));
        assert_eq!(Request::RemoveParticipant { room, identity }.failed(), Outcome::Removal(RemovalAnswer::Failed));
    }

    #[test]
    fn states_are_those_of_the_protobuf_enum() {
        use ParticipantState::*;
        assert_eq!(
            [0, 1, 2, 3, 9].map(ParticipantState::from_number),
            [Joining, Joined, Active, Disconnected, Joining]
        );
    }
}
