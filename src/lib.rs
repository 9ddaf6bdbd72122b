//! The MatrixRTC authorization service: a worker that turns Matrix OpenID tokens into LiveKit tokens.

mod answer;
mod body;
mod clock;
pub mod config;
mod deployment;
mod error;
mod exchange;
mod homeserver_mode;
mod homeserver_request;
pub mod livekit;
pub mod log;
pub mod matrix;
mod outbound;
mod rate_limit;
mod room;
mod rooms;
mod route;
mod service;
mod srv_socket;
mod token_request;

pub use room::Room;
use web_sys::{Request, Response};
use worker::{Context, Env, event};

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    Ok(service::answer(&request, &env, context).await.into_response()?)
}
