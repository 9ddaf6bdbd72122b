//! The worker in workerd alone, without wrangler, for `cargo xtask serve`, the packaged executable and the tests.

pub mod attached;
pub mod environment;
pub mod healthcheck;
pub mod listen_address;
pub mod log;
pub mod message;
pub mod objects;
pub mod schema;
pub mod serve;
pub mod state;
pub mod surroundings;
pub mod workerd;
