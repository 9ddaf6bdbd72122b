//! The class of the rooms' Durable Objects: [`RoomObject`] with access to homeservers and the SFU.
//!
//! How it works:
//! - the platform calls `fetch` with a command from [`client`], and `alarm` when a deadline of the engine is due;
//! - both read the configuration, which may have changed since the last call, and run the engine in [`RoomObject`];
//! - [`upstreams`] performs the engine's requests;
//! - in a misconfigured deployment a command fails, and an alarm is postponed by a minute.
#![expect(missing_docs, reason = "the macro of the class makes public methods without any")]

pub mod client;
pub mod recent;
pub mod upstreams;

use std::rc::Rc;
use std::time::Duration;

use delegated_leaves::{EngineConfig, RoomAnswer, RoomCommand, RoomObject, RoomStatus};
use serde::Serialize;
use serde_json::{Value, json};
use worker::{DurableObject, Env, Request, Response, State, durable_object};

use crate::config::Config;
use crate::config::bindings;
use crate::fetch::Fetchers;
use crate::log::{Level, Log};
use crate::matrix::homeserver::client_api::ClientApis;
use crate::room::upstreams::{LatestFailure, WorkerUpstreams};

/// The Durable Object of one LiveKit room. `delegated_leaves` documents its storage and its binding.
#[durable_object(alarm)]
pub struct Room {
    object: RoomObject,
    state: Rc<State>,
    env: Env,
    latest_failure: LatestFailure,
}

impl DurableObject for Room {
    fn new(state: State, env: Env) -> Self {
        Self { object: RoomObject::new(&state), state: Rc::new(state), env, latest_failure: LatestFailure::default() }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        let Ok(command) = serde_json::from_str::<RoomCommand>(&request.text().await?) else {
            // The worker that has sent it is of a later version.
            return Response::ok(serde_json::to_string(&RoomAnswer::UnknownCommand)?);
        };
        let deployment = bindings::configuration(&self.env).await;
        let Ok(config) = deployment.as_ref() else { return Response::error("misconfigured", 503) };
        if let RoomCommand::Status { with_users } = command {
            let state = self.object.status(engine_config(config), with_users).await?;
            let latest_failure = self.latest_failure.borrow().clone();
            return Response::ok(serde_json::to_string(&StatusAnswer { state, latest_failure })?);
        }
        let answer = self.object.command(engine_config(config), &self.upstreams(config), command).await?;
        Response::ok(serde_json::to_string(&answer)?)
    }

    async fn alarm(&self) -> worker::Result<Response> {
        let deployment = bindings::configuration(&self.env).await;
        match deployment.as_ref() {
            Ok(config) => self.object.alarm(engine_config(config), &self.upstreams(config)).await?,
            // Due actions wait until the configuration is corrected.
            Err(errors) => {
                let log = Log::of_new_request(Level::Info);
                log.write(Level::Error, "misconfigured", json!({"problems": errors.to_string()}));
                self.object.put_off(UNTIL_MENDED).await?;
            }
        }
        Response::empty()
    }
}

impl Room {
    fn upstreams<'a>(&self, config: &'a Config) -> WorkerUpstreams<'a> {
        let fetchers = Fetchers::from_env(&self.env);
        let state = Rc::clone(&self.state);
        let apis = ClientApis {
            fetchers: fetchers.clone(),
            policy: config.addresses,
            overrides: Rc::clone(&config.cs_api_url_overrides),
            wait_until: Rc::new(move |promise| {
                // Fails only where the object is gone, and then nothing depends on it.
                let _ = state.as_raw().wait_until(promise);
            }),
        };
        WorkerUpstreams {
            config,
            fetchers,
            apis,
            log: Log::of_new_request(config.log_level),
            latest_failure: Rc::clone(&self.latest_failure),
        }
    }
}

/// Answer to [`RoomCommand::Status`].
#[derive(Serialize)]
struct StatusAnswer {
    state: RoomStatus,
    latest_failure: Option<Value>,
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        sanity_check_interval: config.sanity_check_interval,
        membership_check_interval: config.membership_check_interval,
    }
}

const UNTIL_MENDED: Duration = Duration::from_secs(60);
