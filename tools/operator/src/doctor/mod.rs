//! The doctor: examines a deployment from outside, as clients, homeservers and SFUs reach it, and names the cause of
//! each problem and the setting to change.
//!
//! # How it works
//!
//! - [`Options`] is the command line, for any program to embed as a subcommand. It turns options and environment into
//!   a [`Subject`]: all that is known about the deployment.
//! - [`examine`] runs the table of checks (`checks`) from top to bottom. A check makes real requests and reads
//!   nothing else, so the doctor runs wherever a client does.
//! - Each check ends with one [`Finding`]: ok, warning, problem or skipped. A problem names its cause and a change.
//! - A check is skipped when an option that it needs isn't given, or when an earlier check that it needs hasn't
//!   passed; the finding gives the reason.
//! - `web` sends one request on a connection of its own, follows no redirect and gives up after ten seconds. Its
//!   errors distinguish DNS, TCP, TLS and HTTP, because the fix differs.
//! - Texts from servers are stripped of control characters and cut; secrets reach no finding.
//!
//! [`run`] is the subcommand; [`examine`] is the same without a terminal.

mod address;
pub mod announcement;
mod checks;
mod client_api;
pub(crate) mod cloudflare;
mod credentials;
mod examination;
mod federation;
mod homeserver_mode;
mod input;
pub(crate) mod livekit_cloud;
mod need;
mod options;
mod proxy;
mod report;
mod round;
mod service;
mod service_url;
mod settings;
mod sfu;
mod subject;
mod transports;
mod trust;
mod user;
mod watch;
mod web;
mod webhook;

pub use credentials::{RegistrationToken, SfuCredentials};
pub use examination::examine;
pub use options::{Options, run};
pub use report::{Finding, Outcome, Report, Status};
pub use service_url::ServiceUrl;
pub use settings::Settings;
pub use subject::Subject;
pub use trust::Trust;
pub use user::{AccessToken, Password, UserLogin};
pub use watch::Watcher;
