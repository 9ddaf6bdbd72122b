//! The tools of a program that starts another one on this machine and watches it.
//!
//! - [`http`] shows that the other one answers.
//! - [`Interrupt`] notices that the user wants both to end.
//! - [`last_lines`] shows the end of its log when it fails.
//!
//! No HTTP client, no TLS: everything here talks to this machine only, and `cargo xtask` has to compile in seconds.

pub mod http;
mod interrupt;
mod log;

pub use interrupt::Interrupt;
pub use log::last_lines;
