//! Performs the requests of the engine at homeservers and the SFU.
//!
//! How it works:
//! - each [`Request`] of the engine becomes one request to an upstream, and its response an [`Outcome`];
//! - an upstream that fails is logged here, with the cause; the engine learns only that the request failed, and
//!   concludes nothing from it;
//! - restarting and sending a delayed event goes to the homeserver of its user, queries and removals go to the SFU,
//!   membership queries to our own homeserver;
//! - [`LogEvent`]s of the engine are written to the log with their level and fields.

use std::cell::RefCell;
use std::rc::Rc;

use delegated_leaves::{
    Ending, HomeserverAnswer, LogEvent, LogEventKind, MatrixRoomId, MembersAnswer, Outcome, RemovalAnswer, Request,
    ServerAnswer, SfuAnswer, Subject, Upstreams,
};
use serde_json::{Value, json};

use crate::clock;
use crate::config::Config;
use crate::fetch::{FetchError, Fetchers};
use crate::livekit::room_service::{RoomService, RoomServiceError};
use crate::log::{Level, Log};
use crate::matrix::homeserver::client_api::ClientApis;
use crate::matrix::homeserver::delayed_events::Action;
use crate::matrix::homeserver::members::Party;
use crate::matrix::homeserver::{Homeserver, HomeserverError};
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::user_id::UserId;

/// Returns the severity of an event of the engine.
pub fn level_of(event: LogEventKind) -> Level {
    match event {
        LogEventKind::NamespaceMisconfigured => Level::Error,
        LogEventKind::RestartFailed
        | LogEventKind::SendFailed
        | LogEventKind::RequestsLimited
        | LogEventKind::RemovalFailed
        | LogEventKind::DeletionFailed
        | LogEventKind::MembershipUnknown
        | LogEventKind::Unreported
        | LogEventKind::Ended(Ending::GaveUp) => Level::Warn,
        _ => Level::Info,
    }
}

/// Upstreams of an object, for the duration of one command or alarm.
pub struct WorkerUpstreams<'a> {
    /// The deployment's configuration.
    pub config: &'a Config,
    /// Sends the requests.
    pub fetchers: Fetchers,
    /// The homeservers' client-server API.
    pub apis: ClientApis,
    /// The log for failures.
    pub log: Log,
    /// Takes the latest of these failures.
    pub latest_failure: LatestFailure,
}

/// The latest failure of an upstream since the object was loaded, as it was logged, with its time.
pub type LatestFailure = Rc<RefCell<Option<Value>>>;

impl Upstreams for WorkerUpstreams<'_> {
    async fn perform(&self, request: Request) -> Outcome {
        let (sfu, key) = (&self.config.sfu, self.config.keys.signing());
        let sfu = RoomService { fetchers: &self.fetchers, sfu, key, rooms: self.config.room_settings() };
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
                let queried = self.membership(&matrix_room_id, async |homeserver, room| {
                    match homeserver.joined_members(room).await {
                        Err(error @ (HomeserverError::Malformed | HomeserverError::NoAnswer(FetchError::TooLarge))) => {
                            self.log_failed_query(&matrix_room_id, &error);
                            Ok(MembersAnswer::Unreadable)
                        }
                        answer => answer,
                    }
                });
                Outcome::Members(queried.await.unwrap_or(MembersAnswer::Failed))
            }
            Request::IsServerJoined { matrix_room_id } => {
                let queried = self.membership(&matrix_room_id, async |homeserver, room| {
                    homeserver.is_joined(room, Party::Server(homeserver.server_name())).await
                });
                Outcome::Server(queried.await.map_or(ServerAnswer::Failed, ServerAnswer::Joined))
            }
            Request::IsUserJoined { matrix_room_id, user_id } => {
                let Ok(user) = UserId::parse(user_id.as_str()) else { return Outcome::Server(ServerAnswer::Failed) };
                let queried = self.membership(&matrix_room_id, async |homeserver, room| {
                    homeserver.is_joined(room, Party::User(&user)).await
                });
                Outcome::Server(queried.await.map_or(ServerAnswer::Failed, ServerAnswer::Joined))
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
        let level = level_of(log_event.kind);
        match log_event.kind {
            // Where webhooks don't arrive, they don't for all participants.
            LogEventKind::Unreported => self.log.write_once(level, &log_event.kind.to_string(), fields),
            kind => self.log.write(level, &kind.to_string(), fields),
        }
    }

    fn stored(&self, rows: usize) {
        self.log.write(Level::Debug, "rows written", json!({"rows": rows}));
    }

    fn not_stored(&self, error: &worker::Error) {
        self.log.write(Level::Error, "room storage failed", json!({"cause": error.to_string()}));
    }
}

impl WorkerUpstreams<'_> {
    /// Logs a failure, and remembers it as the latest.
    fn failed(&self, level: Level, msg: &str, mut fields: Value) {
        self.log.write(level, msg, fields.clone());
        fields["what"] = msg.into();
        fields["at"] = clock::now_ms().into();
        self.latest_failure.replace(Some(fields));
    }

    fn or_failed<E: ToString>(&self, homeserver: &str, outcome: Result<HomeserverAnswer, E>) -> HomeserverAnswer {
        outcome.unwrap_or_else(|error| {
            let fields = json!({"homeserver": homeserver, "cause": error.to_string()});
            self.failed(Level::Warn, "delayed event request failed", fields);
            HomeserverAnswer::Failed
        })
    }

    /// Runs `query` about a Matrix room at our homeserver; `None` where that fails.
    async fn membership<T>(
        &self,
        matrix_room: &MatrixRoomId,
        query: impl AsyncFnOnce(&Homeserver<'_>, &RoomId) -> Result<T, HomeserverError>,
    ) -> Option<T> {
        // Participants are tracked only in homeserver mode and with a valid room, so neither is missing here.
        let service = self.config.application_service.as_ref()?;
        let room = RoomId::parse(matrix_room.as_str()).ok()?;
        let outcome = match service.homeserver(&self.apis, &ClientApis::deadline()).await {
            Ok(homeserver) => query(&homeserver, &room).await,
            Err(error) => Err(error.into()),
        };
        outcome.inspect_err(|error| self.log_failed_query(matrix_room, error)).ok()
    }

    fn log_failed_query(&self, matrix_room: &MatrixRoomId, error: &HomeserverError) {
        let fields = json!({"matrix_room": matrix_room.as_str(), "cause": error.to_string()});
        self.failed(Level::Warn, "homeserver membership query failed", fields);
    }

    fn removal(&self, room: &str, outcome: Result<RemovalAnswer, RoomServiceError>) -> RemovalAnswer {
        outcome.unwrap_or_else(|error| {
            self.failed(Level::Warn, "SFU removal failed", json!({"room": room, "cause": error.to_string()}));
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
                self.failed(Level::Warn, "SFU query failed", json!({"room": room, "cause": error.to_string()}));
                SfuAnswer::Failed
            }
        }
    }
}
