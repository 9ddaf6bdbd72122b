//! The worker in workerd alone, without wrangler, for `cargo xtask serve`, the packaged executable and the tests.

pub mod attached;
pub mod healthcheck;
pub mod log;
pub mod objects;
pub mod serve;
pub mod state;
pub mod workerd;
