//! A user's way through the deployment: from the login to a delegated leave, with the requests of the user's client.
//!
//! # How it works
//!
//! - [`UserLogin`] is an access token, or a user with a password. [`log_in`] makes a [`Session`] of it, and ends with
//!   [`log_out`] the one that it has begun itself.
//! - [`UserApi`] sends requests to the homeserver's client-server API as that user.
//! - [`room`] has the Matrix room of the test: private, named as a test, left and forgotten at the end.
//! - [`token`] exchanges an OpenID token at the service, and [`homeserver_mode`] requests the same of the homeserver.
//! - [`sfu`] shows the token to the SFU, and [`access`] says whether the user has full access, and why not.
//! - [`leave`] schedules a delayed event in the room, delegates it, and waits until the service has restarted and sent
//!   it. [`participant`] has somebody join the call and leave it.
//! - Access token, password, OpenID token, LiveKit token and delay id reach no finding: their types have no `Display`.

pub(crate) mod access;
mod api;
pub(crate) mod homeserver_mode;
pub(crate) mod leave;
mod login;
mod participant;
pub(crate) mod room;
pub(crate) mod sfu;
pub(crate) mod token;

pub(crate) use api::UserApi;
pub use login::{AccessToken, Password, UserLogin};
pub(crate) use login::{Session, log_in, log_out};
