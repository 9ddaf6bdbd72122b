//! The developer's commands of matrixrtc-edge, `cargo xtask …`, and their parts that tests and benchmarks share.
//!
//! - Each command installs the pinned tools that it needs ([`tools`]), once per machine ([`cache`]) or per clone.
//! - [`build`] makes the worker; most other commands begin with it.
//! - A command that needs an HTTP or TLS stack is a program of its own, which is compiled and run ([`program`]).

pub mod build;
pub mod cache;
pub mod debian;
pub mod demo;
pub mod dev;
pub mod e2e;
pub mod machine_paths;
pub mod package;
mod page;
pub mod program;
pub mod progress;
mod python;
pub mod release;
pub mod serve;
pub mod simulate;
pub mod size;
pub mod test;
pub mod tools;
pub mod traefik;
pub mod workspace;
pub mod wrangler;
