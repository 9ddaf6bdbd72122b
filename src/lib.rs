//! The MatrixRTC authorization service: a worker that exchanges Matrix OpenID tokens for LiveKit tokens.
//!
//! How it works:
//! - `service` takes a request, and `route` finds its endpoint; `page` answers browsers that ask for HTML;
//! - `token` verifies the caller, creates the room on the SFU, hands the delayed leave to the room's object, and
//!   signs the token;
//! - `room` is that object: a Durable Object for each LiveKit room, which runs the engine of the crate
//!   `delegated_leaves`;
//! - `matrix` and `livekit` are the clients of homeservers and of the SFU, over `fetch`;
//! - `config` is one table of variables.
//!
//! `docs/protocol.md` has the protocol, and `docs/architecture.md` the reasons for this structure.

mod body;
mod clock;
pub mod cloudflare;
pub mod config;
mod error;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod livekit;
pub mod log;
pub mod matrix;
mod page;
mod rate_limit;
mod response;
mod room;
mod route;
mod service;
mod status;
mod token;

pub use room::Room;
use web_sys::{Request, Response};
use worker::{Context, Env, event};

/// Faster and smaller than Rust's own for WebAssembly (`docs/decisions.md#the-build`).
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    match page::respond(&request, &env).await {
        Some(page) => Ok(page),
        None => Ok(service::respond(&request, &env, context).await.into_web()?),
    }
}
