//! The class of the rooms' Durable Objects: [`RoomObject`] with a way to homeservers and the SFU.
#![expect(missing_docs, reason = "the macro of the class makes public methods without any")]

pub mod client;

use std::rc::Rc;
use std::time::Duration;

use delegated_leaves::{
    Ending, EngineConfig, HomeserverAnswer, LogEvent, LogEventKind, MatrixRoomId, MembersAnswer, Outcome,
    RemovalAnswer, Request as ActionRequest, RoomCommand, RoomObject, ServerAnswer, SfuAnswer, Subject, Upstreams,
};
use serde_json::json;
use worker::{DurableObject, Env, Request, Response, State, durable_object};

use crate::config::Config;
use crate::config::bindings;
use crate::fetch::{Deadline, Outbound};
use crate::livekit::room_service::{RoomService, RoomServiceError};
use crate::log::{Level, Log};
use crate::matrix::homeserver::client_api::ClientApis;
use crate::matrix::homeserver::delayed_events::Operation;
use crate::matrix::homeserver::party::Party;
use crate::matrix::homeserver::{Homeserver, HomeserverError};
use crate::matrix::ids::room_id::RoomId;

/// The Durable Object of one LiveKit room. What it stores, and how it is bound: see `delegated_leaves`.
#[durable_object(alarm)]
pub struct Room {
    object: RoomObject,
    state: Rc<State>,
    env: Env,
}

impl DurableObject for Room {
    fn new(state: State, env: Env) -> Self {
        Self { object: RoomObject::new(&state), state: Rc::new(state), env }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let command: RoomCommand = serde_json::from_str(&request.text().await?)?;
        let deployment = bindings::configuration(&self.env).await;
        let Ok(config) = deployment.as_ref() else { return Response::error("misconfigured", 503) };
        let answer = self.object.command(engine_config(config), &self.upstreams(config), command).await?;
        Response::ok(serde_json::to_string(&answer)?)
    }

    async fn alarm(&self) -> worker::Result<Response> {
        let deployment = bindings::configuration(&self.env).await;
        match deployment.as_ref() {
            Ok(config) => self.object.alarm(engine_config(config), &self.upstreams(config)).await?,
            // What is due stays due until somebody has mended the configuration.
            Err(errors) => {
                let log = Log::of_new_request(Level::Info);
                log.write(Level::Error, "misconfigured", json!({"problems": errors.to_string()}));
                self.state.storage().set_alarm(UNTIL_MENDED_MS).await?;
            }
        }
        Response::empty()
    }
}

impl Room {
    fn upstreams<'a>(&self, config: &'a Config) -> WorkerUpstreams<'a> {
        let outbound = Outbound::from_env(&self.env);
        let state = Rc::clone(&self.state);
        let apis = ClientApis {
            outbound: outbound.clone(),
            policy: config.addresses,
            overrides: Rc::clone(&config.cs_api_url_overrides),
            wait_until: Rc::new(move |promise| {
                // It fails only where the object is gone, and then nobody waits.
                let _ = state.as_raw().wait_until(promise);
            }),
        };
        WorkerUpstreams { config, outbound, apis, log: Log::of_new_request(config.log_level) }
    }
}

/// How important it is what has happened.
pub(crate) fn level_of(event: LogEventKind) -> Level {
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

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        sanity_check_interval: config.sanity_check_interval,
        membership_check_interval: config.membership_check_interval,
    }
}

/// What is outside of an object, for the time of one command or alarm.
struct WorkerUpstreams<'a> {
    config: &'a Config,
    outbound: Outbound,
    apis: ClientApis,
    log: Log,
}

impl Upstreams for WorkerUpstreams<'_> {
    async fn perform(&self, request: ActionRequest) -> Outcome {
        let sfu = RoomService { outbound: &self.outbound, sfu: &self.config.sfu, key: self.config.keys.signing() };
        let service = self.config.application_service.as_ref();
        match request {
            ActionRequest::Restart(event) => {
                let outcome = Operation::Restart.perform(&self.apis, service, &event).await;
                Outcome::Homeserver(self.or_failed(event.server_name.as_str(), outcome))
            }
            ActionRequest::Send(event) => {
                let outcome = Operation::Send.perform(&self.apis, service, &event).await;
                Outcome::Homeserver(self.or_failed(event.server_name.as_str(), outcome))
            }
            ActionRequest::GetParticipant { room, identity } => {
                let found = sfu.participant(&room, &identity).await;
                Outcome::Sfu(self.participants(room.as_str(), found.map(|found| found.into_iter().collect())))
            }
            ActionRequest::ListParticipants { room } => {
                Outcome::Sfu(self.participants(room.as_str(), sfu.participants(&room).await))
            }
            ActionRequest::JoinedMembers { matrix_room_id } => {
                let asked =
                    self.membership(&matrix_room_id, async |homeserver, room| homeserver.joined_members(room).await);
                Outcome::Members(asked.await.unwrap_or(MembersAnswer::Failed))
            }
            ActionRequest::IsServerJoined { matrix_room_id } => {
                let asked = self.membership(&matrix_room_id, async |homeserver, room| {
                    homeserver.is_joined(room, Party::Server(homeserver.server_name())).await
                });
                Outcome::Server(asked.await.map_or(ServerAnswer::Failed, ServerAnswer::Joined))
            }
            ActionRequest::RemoveParticipant { room, identity } => {
                let outcome = sfu.remove_participant(&room, &identity).await;
                Outcome::Removal(self.removal(room.as_str(), outcome))
            }
            ActionRequest::DeleteRoom { room, .. } => {
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
const UNTIL_MENDED_MS: i64 = 60_000;
