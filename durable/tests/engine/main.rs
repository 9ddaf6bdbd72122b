//! The promises of the engine, one by one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on has failed")]

mod bounds;
mod call;
mod coming_back;
mod connected;
mod leaving;
mod membership;
mod outcomes;
mod pacing;
mod properties;
mod replacement;
mod sanity;
mod schedule;
mod storage;
mod waiting;
mod webhooks;
