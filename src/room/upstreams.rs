//! The engine's requests, as Matrix and LiveKit get them.

use std::time::Duration;

use delegated_leaves::{
    Ending, HomeserverAnswer, LogEvent, LogEventKind, MatrixRoomId, MembersAnswer, Outcome, RemovalAnswer, Request,
    ServerAnswer, SfuAnswer, Subject, Upstreams,
};
use serde_json::json;

use crate::config::Config;
use crate::fetch::{Deadline, FetchError, Fetchers};
use crate::livekit::room_service::{RoomService, RoomServiceError};
use crate::log::{Level, Log};
use crate::matrix::homeserver::client_api::ClientApis;
use crate::matrix::homeserver::delayed_events::Action;
use crate::matrix::homeserver::party::Party;
use crate::matrix::homeserver::{Homeserver, HomeserverError};
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::user_id::UserId;

/// How important it is what has happened.
pub fn level_of(event: LogEventKind) -> Level {
    match event {
        LogEventKind::NamespaceMisconfigured => Level::Error,
        LogEventKind::RestartFailed
        | LogEventKind::SendFailed
        | LogEventKind::RemovalFailed
        | LogEventKind::DeletionFailed
        | LogEventKind::MembershipUnknown
        | LogEventKind::Ended(Ending::GaveUp) => Level::Warn,
        _ => Level::Info,
    }
}

/// What is outside of an object, for the time of one command or alarm.
pub struct WorkerUpstreams<'a> {
    /// The deployment's configuration.
    pub config: &'a Config,
    /// Sends the requests.
    pub fetchers: Fetchers,
    /// The homeservers' client-server API.
    pub apis: ClientApis,
    /// Where failures are logged.
    pub log: Log,
}

impl Upstreams for WorkerUpstreams<'_> {
    async fn perform(&self, request: Request) -> Outcome {
        let sfu = RoomService { fetchers: &self.fetchers, sfu: &self.config.sfu, key: self.config.keys.signing() };
        let service = self.config.application_service.as_ref();
        match request {
            Request::Restart(event) => {
                let outcome = Action::Restart.perform(&self.apis, service, &event).await;
                Outcome::Homeserver(self.or_failed(event.server_name.as_str(), outcome))
            }
            Request::Send(event) => {
                let outcome = Action::Send.perform(&self.apis, service, &event).await;
                Outcome::Homeserver(self.or_failed(event.server_name.as_str(), outcome))
            }
            Request::GetParticipant { room, identity } => {
                let found = sfu.participant(&room, &identity).await;
                Outcome::Sfu(self.participants(room.as_str(), found.map(|found| found.into_iter().collect())))
            }
            Request::ListParticipants { room } => {
                Outcome::Sfu(self.participants(room.as_str(), sfu.participants(&room).await))
            }
            Request::JoinedMembers { matrix_room_id } => {
                let asked = self.membership(&matrix_room_id, async |homeserver, room| {
                    match homeserver.joined_members(room).await {
                        Err(HomeserverError::Malformed | HomeserverError::NoAnswer(FetchError::TooLarge)) => {
                            Ok(MembersAnswer::Unreadable)
                        }
                        answer => answer,
                    }
                });
                Outcome::Members(asked.await.unwrap_or(MembersAnswer::Failed))
            }
            Request::IsServerJoined { matrix_room_id } => {
                let asked = self.membership(&matrix_room_id, async |homeserver, room| {
                    homeserver.is_joined(room, Party::Server(homeserver.server_name())).await
                });
                Outcome::Server(asked.await.map_or(ServerAnswer::Failed, ServerAnswer::Joined))
            }
            Request::IsUserJoined { matrix_room_id, user_id } => {
                let Ok(user) = UserId::parse(user_id.as_str()) else { return Outcome::Server(ServerAnswer::Failed) };
                let asked = self.membership(&matrix_room_id, async |homeserver, room| {
                    homeserver.is_joined(room, Party::User(&user)).await
                });
                Outcome::Server(asked.await.map_or(ServerAnswer::Failed, ServerAnswer::Joined))
            }
            Request::RemoveParticipant { room, identity } => {
                let outcome = sfu.remove_participant(&room, &identity).await;
                Outcome::Removal(self.removal(room.as_str(), outcome))
            }
            Request::DeleteRoom { room, .. } => {
                Outcome::Removal(self.removal(room.as_str(), sfu.delete_room(&room).await))
            }
        }
    }

    fn report(&self, log_event: &LogEvent) {
        let room = log_event.room.as_str();
        let fields = match &log_event.subject {
            Subject::Delegation { identity, server_name } => {
                json!({"room": room, "identity": identity.as_str(), "homeserver": server_name.as_str()})
            }
            Subject::Participant { identity, user_id, matrix_room_id } => json!({
                "room": room,
                "identity": identity.as_str(),
                "user": user_id.as_str(),
                "matrix_room": matrix_room_id.as_str(),
            }),
            Subject::MatrixRoom(matrix_room_id) => json!({"room": room, "matrix_room": matrix_room_id.as_str()}),
        };
        self.log.write(level_of(log_event.kind), &log_event.kind.to_string(), fields);
    }

    fn stored(&self, rows: usize) {
        self.log.write(Level::Debug, "rows written", json!({"rows": rows}));
    }

    fn not_stored(&self, error: &worker::Error) {
        self.log.write(Level::Error, "the room's storage fails", json!({"cause": error.to_string()}));
    }
}

impl WorkerUpstreams<'_> {
    fn or_failed<E: ToString>(&self, homeserver: &str, outcome: Result<HomeserverAnswer, E>) -> HomeserverAnswer {
        outcome.unwrap_or_else(|error| {
            let fields = json!({"homeserver": homeserver, "cause": error.to_string()});
            self.log.write(Level::Warn, "delayed event out of reach", fields);
            HomeserverAnswer::Failed
        })
    }

    /// What the homeserver answers to a question about a Matrix room; `None` where that tells nothing.
    async fn membership<T>(
        &self,
        matrix_room: &MatrixRoomId,
        ask: impl AsyncFnOnce(&Homeserver<'_>, &RoomId) -> Result<T, HomeserverError>,
    ) -> Option<T> {
        // Without one of the two nobody has been let in by their membership.
        let service = self.config.application_service.as_ref()?;
        let room = RoomId::parse(matrix_room.as_str()).ok()?;
        let answer = match service.homeserver(&self.apis, &Deadline::after(CLIENT_API_TIMEOUT)).await {
            Ok(homeserver) => ask(&homeserver, &room).await,
            Err(error) => Err(error.into()),
        };
        answer
            .inspect_err(|error| {
                let fields = json!({"matrix_room": matrix_room.as_str(), "cause": error.to_string()});
                self.log.write(Level::Warn, "homeserver doesn't tell who is joined", fields);
            })
            .ok()
    }

    fn removal(&self, room: &str, outcome: Result<RemovalAnswer, RoomServiceError>) -> RemovalAnswer {
        outcome.unwrap_or_else(|error| {
            self.log.write(Level::Warn, "SFU removes nobody", json!({"room": room, "cause": error.to_string()}));
            RemovalAnswer::Failed
        })
    }

    fn participants(
        &self,
        room: &str,
        outcome: Result<Vec<delegated_leaves::Participant>, RoomServiceError>,
    ) -> SfuAnswer {
        match outcome {
            Ok(participants) => SfuAnswer::Participants(participants),
            Err(error) => {
                self.log.write(Level::Warn, "SFU not asked", json!({"room": room, "cause": error.to_string()}));
                SfuAnswer::Failed
            }
        }
    }
}

const CLIENT_API_TIMEOUT: Duration = Duration::from_secs(10);
