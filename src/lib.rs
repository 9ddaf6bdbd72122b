//! The MatrixRTC authorization service: a worker that turns Matrix OpenID tokens into LiveKit tokens.

mod body;
mod clock;
pub mod config;
mod error;
mod fetch;
pub mod livekit;
pub mod log;
pub mod matrix;
mod rate_limit;
mod response;
mod room;
mod route;
mod service;
mod token;

pub use room::Room;
use web_sys::{Request, Response};
use worker::{Context, Env, event};

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    Ok(service::respond(&request, &env, context).await.into_web()?)
}
