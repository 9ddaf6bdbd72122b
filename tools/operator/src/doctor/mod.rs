//! The doctor: checks a deployment from outside, in the order in which a client, a homeserver and an SFU meet it, and says of
//! each problem what causes it and what to change where.
//!
//! It makes real requests and looks at nothing else, so it runs wherever clients do. Every request is given up after ten
//! seconds. What can't be checked, because something isn't told or something before it failed, is *skipped* with the reason.
//!
//! [`Options`] are its command line, for any program to embed as a subcommand; [`run`] is that subcommand. [`examine`] is the
//! same without a terminal.

mod address;
pub mod announcement;
mod checks;
mod client_api;
mod credentials;
mod examination;
mod federation;
mod homeserver_mode;
mod options;
mod proxy;
mod report;
mod service;
mod service_url;
mod sfu;
mod subject;
mod trust;
mod watch;
mod web;
mod webhook;

pub use credentials::{RegistrationToken, SfuCredentials};
pub use examination::examine;
pub use options::{Options, run};
pub use report::{Finding, Outcome, Report, Status};
pub use service_url::ServiceUrl;
pub use subject::Subject;
pub use trust::Trust;
pub use watch::Watcher;
