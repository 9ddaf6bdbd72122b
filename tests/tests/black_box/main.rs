//! Black-box tests: the promises of `docs/protocol.md`, checked on the production build in workerd.
//!
//! How it works:
//! - [`black_box::TestSetup`] is the test setup: fakes of homeservers, resolver and SFU on loopback addresses, with a
//!   certificate authority and a network of their own. The fakes are strict: a request that the worker must not send
//!   fails the test.
//! - A `Deployment` configures the worker and starts it in workerd, in `wrangler dev`, or as the packaged executable.
//! - A test acts as client, SFU or homeserver, over HTTP only. It then checks the response, the requests that have
//!   reached the fakes, the log, and the storage of the rooms' objects.
//! - Each test has a setup of its own, so that all of them run side by side. Tests wait for later effects (a restart, a
//!   `send`) by polling the fakes' records.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failure ends the test")]

mod addresses;
mod allowed_homeservers;
mod bodies;
mod certificates;
mod cloudflare_errors;
mod configuration;
mod counts;
mod deployments;
mod discovery;
mod discovery_heals;
mod doctor;
mod edge;
mod errors;
mod federation_overrides;
mod first_minute;
mod homeserver_mode;
mod hostile_callers;
mod hostile_peers;
mod hostile_requests;
mod key_rotation;
mod leaves;
mod location_hint;
mod logging;
mod lost_connections;
mod package;
mod page;
mod patience;
mod proxies;
mod random_bytes;
mod rate_limits;
mod release;
mod room_settings;
mod rooms;
mod secrets_store;
mod srv_connection;
mod surface;
mod tokens;
mod unit;
mod upgrades;
mod user_agent;
mod verification;
mod webhooks;
mod well_known;
