//! The developer's commands of matrixrtc-edge, `cargo xtask …`, and what its test crates share with them.

pub mod build;
pub mod cache;
pub mod debian;
pub mod demo;
pub mod dev;
pub mod e2e;
pub mod package;
pub mod program;
pub mod progress;
pub mod serve;
pub mod simulate;
pub mod size;
pub mod test;
pub mod tools;
pub mod workspace;
pub mod wrangler;
