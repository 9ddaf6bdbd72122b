//! A homeserver and an SFU that are as strict as the real ones, for the tests and for `cargo xtask dev`.
//!
//! - [`Homeserver`] is a federation API, [`DelayedEvents`] a client-server API, [`Sfu`] LiveKit's server API.
//! - Each listens at the address that it is given: public ones of a network namespace in tests, loopback's in `dev`.
//! - An unexpected request is refused, and noted as a breach ([`Strictness`]), for which a test fails.
//! - Requests are recorded, for tests to compare.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fake that can't do its part ends the test"
)]

use std::net::IpAddr;

mod certificate;
mod delayed_events;
mod homeserver;
mod participants;
mod reply;
mod server;
mod sfu;
mod strictness;
mod webhook;

pub use certificate::{Certificate, CertificateAuthority};
pub use delayed_events::{
    DelayedEventCall, DelayedEvents, Fate, ForService, Operation, OwnedEvents, Rest, decoded, error,
};
pub use homeserver::{Homeserver, HomeserverPlan, OpenIdIssuer, OpenIdToken};
pub use participants::{Departure, Participant, Query, Removal};
pub use reply::{Gate, Reply};
pub use server::{Handler, Observer, Request, Server, Serving};
pub use sfu::Sfu;
pub use strictness::Strictness;
pub use webhook::{Algorithm, Webhook, WebhookReceiver};

/// Addresses of names.
pub trait Names {
    /// Returns the address of a DNS name or of an IP literal.
    fn address_of(&self, host: &str) -> IpAddr;
}
