//! Client of the Durable Objects of the rooms.
//!
//! How it works:
//! - an object's name is its room's, within the configured jurisdiction; a command and its answer are JSON, and an
//!   answer means that the effect is stored;
//! - the platform resets objects, at each deployment and at updates of its own: requests under way fail, and so does
//!   every other request of the same stub. The command is sent again then, a few times, each time through a new stub;
//! - such a command may have been stored before its answer was lost. Each has the same effect the second time: a
//!   delegation that is there already is left as it is, and so is a newer one in its place; a token's record is replaced
//!   by an equal one, and a webhook that comes twice is nothing new to the engine;
//! - an object that is overloaded would be more so with another request, and an answer, whatever it is, would be the
//!   same again: neither is a reason to send anything again;
//! - worker and object may be of different versions for a while: a command or an answer that the other side doesn't know
//!   is an error of its own;
//! - all requests of a command together have a deadline, shorter than the time for which callers wait.

use std::time::Duration;

use delegated_leaves::{RoomAnswer, RoomCommand, RoomName};
use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect};
use serde_json::{Value, json};
use thiserror::Error;
use wasm_bindgen::prelude::*;
use worker::{Delay, Env};

use crate::config::Config;
use crate::config::jurisdiction::Jurisdiction;
use crate::config::location_hint::LocationHint;
use crate::error::ApiError;
use crate::fetch::Deadline;
use crate::log::{Level, Log};
use crate::room::recent;

/// The objects, one for each LiveKit room.
#[derive(Clone, Copy)]
pub struct RoomClient<'a> {
    env: &'a Env,
    location: Option<LocationHint>,
    jurisdiction: Option<Jurisdiction>,
    log: &'a Log,
}

impl<'a> RoomClient<'a> {
    /// Returns the client for this deployment, in a request with this log.
    pub fn of(env: &'a Env, config: &Config, log: &'a Log) -> Self {
        Self { env, location: config.location_hint, jurisdiction: config.jurisdiction, log }
    }

    /// Sends `command` to the object of `room`, again where the object fails. When this returns without an error, the
    /// effect of the command is stored, if it has one.
    pub async fn send(self, room: &RoomName, command: &RoomCommand) -> Result<(), RoomError> {
        recent::remember(room);
        let command = as_json(command)?;
        let deadline = Deadline::after(ANSWERED_WITHIN);
        match deadline.bound(self.send_once(room, &command)).await {
            None => Err(RoomError::NoAnswer),
            Some(Err(RoomError::Lost(cause))) => self.send_again(room, &command, cause, &deadline).await,
            Some(outcome) => outcome,
        }
    }

    /// Announces a command to the object of `room`, so that it is in memory by then. A failure is none of the caller's
    /// concern: it is seen, and the object tried again, when that command is sent.
    pub async fn wake(self, room: &RoomName) {
        if let Ok(command) = as_json(&RoomCommand::Wake) {
            let _ = Deadline::after(AWAKE_WITHIN).bound(self.send_once(room, &command)).await;
        }
    }

    /// Returns the states of `rooms`, for their operator: each an object with `room`, the name, to which the state is
    /// added; in place of one, `error` with the reason.
    pub async fn states(self, rooms: Vec<Value>, with_users: bool) -> Result<Value, RoomError> {
        let command = as_json(&RoomCommand::Status { with_users })?;
        let location = self.location.map(LocationHint::as_str);
        let states = send_to_all(&self.namespace()?, &Value::from(rooms).to_string(), location, &command);
        let states = JsFuture::from(states).await.map_err(lost)?.as_string().unwrap_or_default();
        serde_json::from_str(&states).map_err(|_| RoomError::UnknownAnswer)
    }

    /// Sends a command again that was lost, with this `cause`.
    async fn send_again(
        self,
        room: &RoomName,
        command: &JsValue,
        cause: String,
        deadline: &Deadline,
    ) -> Result<(), RoomError> {
        let mut latest = cause.clone();
        let repeated = async {
            for wait in WAITS {
                self.log.write(Level::Debug, "room command repeated", json!({"cause": latest}));
                // Requests that failed together don't come back together.
                Delay::from(wait.mul_f64(0.5 + js_sys::Math::random())).await;
                match self.send_once(room, command).await {
                    Err(RoomError::Lost(cause)) => latest = cause,
                    outcome => return outcome,
                }
            }
            Err(RoomError::Lost(latest))
        };
        deadline.bound(repeated).await.unwrap_or(Err(RoomError::OutOfTime(cause)))
    }

    async fn send_once(self, room: &RoomName, command: &JsValue) -> Result<(), RoomError> {
        let location = self.location.map(LocationHint::as_str);
        let answer = send(&self.namespace()?, room.as_str(), location, command);
        let answer = JsFuture::from(answer).await.map_err(lost)?;
        if let Some(status) = answer.as_f64() {
            return Err(RoomError::Status(status as u16));
        }
        match serde_json::from_str(&answer.as_string().unwrap_or_default()) {
            Ok(RoomAnswer::Recorded | RoomAnswer::Nothing) => Ok(()),
            Ok(RoomAnswer::Full) => Err(RoomError::Full),
            Ok(RoomAnswer::UnknownCommand) => Err(RoomError::UnknownCommand),
            Err(_) => Err(RoomError::UnknownAnswer),
        }
    }

    /// Returns the objects within the jurisdiction. workerd has none: there they are where the operator has put them.
    /// Anywhere else, no object is made outside of it.
    fn namespace(self) -> Result<Namespace, RoomError> {
        let namespace = Reflect::get(self.env, &BINDING.into()).ok().filter(JsValue::is_object);
        let namespace: Namespace = namespace.ok_or(RoomError::NoBinding)?.unchecked_into();
        let Some(jurisdiction) = self.jurisdiction else { return Ok(namespace) };
        match namespace.jurisdiction(jurisdiction.as_str()) {
            Ok(within) => Ok(within),
            Err(error) => {
                let cause = message_of(&error);
                if !cause.contains(NOT_IN_WORKERD) {
                    return Err(RoomError::NoJurisdiction(cause));
                }
                self.log.write_once(Level::Warn, "jurisdiction ignored", json!({"cause": cause}));
                Ok(namespace)
            }
        }
    }
}

/// Failure of a command. Nothing is stored, except where the object has failed: then that isn't known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoomError {
    /// The object, or the way there, has failed.
    #[error("{0}")]
    Lost(String),
    /// The object took too long.
    #[error("the room's object didn't answer in time")]
    NoAnswer,
    /// The object has failed, and then took too long.
    #[error("{0}; then the room's object didn't answer in time")]
    OutOfTime(String),
    /// The object has more requests than it can handle.
    #[error("the room's object is overloaded: {0}")]
    Overloaded(String),
    /// The object hasn't carried out the command: it is misconfigured.
    #[error("the room's object answered {0}")]
    Status(u16),
    /// The room, its user or the homeserver has as many delegations or participants as it may have.
    #[error("the room is full")]
    Full,
    /// The object is of an earlier version, which hasn't got this command. Deployments replace all objects within
    /// minutes, gradual ones when they are done.
    #[error("the room's object is still of another version, which doesn't know this command")]
    UnknownCommand,
    /// The object is of another version, which has other answers.
    #[error("the room's object is of another version, whose answer isn't known here")]
    UnknownAnswer,
    /// The platform refuses the jurisdiction.
    #[error("LIVEKIT_JURISDICTION can't be kept: {0}")]
    NoJurisdiction(String),
    /// The command is no JSON.
    #[error("the command can't be sent")]
    NotSent,
    /// The worker has no namespace of objects.
    #[error("there is no binding {BINDING}")]
    NoBinding,
}

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Full => Self::RoomFull,
            error => Self::NotStored(error.to_string()),
        }
    }
}

fn as_json(command: &RoomCommand) -> Result<JsValue, RoomError> {
    serde_json::to_string(command).map(JsValue::from).map_err(|_| RoomError::NotSent)
}

/// Converts an error of the platform, which has properties of its own ([Durable Objects, "Error
/// handling"](https://developers.cloudflare.com/durable-objects/best-practices/error-handling/)).
fn lost(error: JsValue) -> RoomError {
    let message = message_of(&error);
    let overloaded = error.is_object() && Reflect::get(&error, &"overloaded".into()).is_ok_and(|it| it.is_truthy());
    if overloaded { RoomError::Overloaded(message) } else { RoomError::Lost(message) }
}

fn message_of(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => error.as_string().unwrap_or_else(|| String::from("an unknown error")),
    }
}

#[wasm_bindgen]
extern "C" {
    type Namespace;

    #[wasm_bindgen(method, catch)]
    fn jurisdiction(this: &Namespace, name: &str) -> Result<Namespace, JsValue>;
}

#[wasm_bindgen(module = "/src/room/client.js")]
extern "C" {
    /// Sends a command once, through a new stub: one that has failed fails for ever. Returns the answer, or the status
    /// where that isn't 200.
    fn send(namespace: &Namespace, room: &str, location_hint: Option<&str>, command: &JsValue) -> Promise;

    /// Sends a command to many rooms, a JSON array, and returns them with the answers.
    #[wasm_bindgen(js_name = sendToAll)]
    fn send_to_all(namespace: &Namespace, rooms: &str, location_hint: Option<&str>, command: &JsValue) -> Promise;
}

const BINDING: &str = "ROOMS";
/// Part of workerd's error where a jurisdiction is requested. It says so itself, so that no other platform says it.
const NOT_IN_WORKERD: &str = "not implemented in workerd";
/// Waits before the second, third and fourth request of a command, each half as long or half as much again by chance.
const WAITS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_millis(1_500)];
/// Time for all requests of a command. Homeservers wait for 30 s altogether, and a response to them is out of time after
/// 24 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Time for an announcement. An object that takes longer isn't waited for twice.
const AWAKE_WITHIN: Duration = Duration::from_secs(2);
