//! A homeserver and an SFU that are as strict as the real ones, for the tests and for `cargo xtask dev`.
//!
//! - [`Homeserver`] answers federation requests, [`DelayedEvents`] is its client-server API, [`Sfu`] is LiveKit's.
//! - Each listens where it is asked to: the tests give them public addresses of a network namespace, `dev` ports of loopback.
//! - They refuse whatever they don't expect, and note it as a breach ([`Strictness`]): a test fails for it.
//! - They record what they were asked, for a test to look at.

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
pub use delayed_events::{DelayedEventCall, DelayedEvents, Fate, ForService, Operation, Rest, decoded, error};
pub use homeserver::{Homeserver, HomeserverPlan, OpenIdToken};
pub use participants::{Departure, Participant, Question, Removal};
pub use reply::{Gate, Reply};
pub use server::{Handler, Observer, Request, Server, Serving};
pub use sfu::Sfu;
pub use strictness::Strictness;
pub use webhook::{Algorithm, Webhook, WebhookReceiver};

/// The addresses of names.
pub trait Names {
    /// Returns the address of a DNS name or of an IP literal.
    fn address_of(&self, host: &str) -> IpAddr;
}
