//! What the service promises (protocol 2 to 6 and 9), held against the production build in workerd.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod addresses;
mod certificates;
mod configuration;
mod counts;
mod discovery;
mod doctor;
mod edge;
mod errors;
mod first_minute;
mod homeserver_mode;
mod key_rotation;
mod leaves;
mod location_hint;
mod logging;
mod package;
mod patience;
mod proxies;
mod random_bytes;
mod rate_limits;
mod rooms;
mod secrets_store;
mod srv_connection;
mod surface;
mod tokens;
mod unit;
mod verification;
mod webhooks;
mod well_known;
