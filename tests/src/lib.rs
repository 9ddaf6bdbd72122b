//! Tests of the real build in workerd, over HTTP only, with fakes in place of homeservers and SFU.
//!
//! A test creates a [`TestSetup`], adds homeservers, deploys the worker there and sends requests to it:
//!
//! ```no_run
//! # async fn example() {
//! use black_box::{Endpoint, TestSetup};
//!
//! let setup = TestSetup::new().await;
//! let home = setup.homeserver("example.org").start().await;
//! let service = setup.deployment().full_access("example.org").start();
//!
//! let token = home.openid_token("@alice:example.org");
//! let answer = service.request_token(Endpoint::GetToken, &token).await;
//!
//! assert_eq!(answer.status, 200);
//! # }
//! ```
//!
//! Every test setup is a network of its own ([`Network`]): names, well-known ports and public addresses are real to
//! the worker, tests don't interfere, and no packet leaves the machine. The fakes are strict: they refuse unexpected
//! requests, and the test fails when the test setup is dropped.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fake that can't do its part ends the test"
)]

mod account;
mod client;
mod connection;
mod console;
mod container;
mod deployment;
mod failing_objects;
mod guide;
mod hostile_peer;
mod log;
mod meddling_proxy;
mod member;
mod namespace;
mod network;
mod own_homeserver;
mod package;
mod proxy;
mod rate_limiter;
mod release;
mod resolver;
mod secrets_store;
mod service;
mod setup;
mod silence;
mod site;
mod storage;
mod systemd;
mod timers;
mod token_request;
mod wrangler;

pub use client::Client;
pub use connection::Connection;
pub use console::{ConsoleCall, ConsoleSpy};
pub use container::{Container, RunningContainer};
pub use deployment::Deployment;
pub use failing_objects::{FailingObjects, ObjectsOfOtherVersion, ResetAfter};
pub use fakes::{
    Algorithm, Certificate, CertificateAuthority, DelayedEventCall, DelayedEvents, Departure, Fate, Gate, Homeserver,
    HomeserverPlan, OpenIdToken, Operation, Participant, Query, Removal, Reply, Request, Sfu, Strictness, Webhook,
};
pub use guide::Guide;
pub use hostile_peer::{HostilePeer, Step};
pub use log::{Log, LogLine};
pub use meddling_proxy::MeddlingProxy;
pub use member::{EntryPoint, Member};
pub use namespace::TalkativeNamespace;
pub use network::{Network, PUBLIC_V6};
pub use own_homeserver::{HomeserverPath, OwnHomeserver, Query as HomeserverQuery};
pub use package::Package;
pub use proxy::Proxy;
pub use rate_limiter::RateLimiter;
pub use release::ReleasedWorker;
pub use resolver::Resolver;
pub use secrets_store::StoredSecret;
pub use service::{Answer, Service};
pub use setup::TestSetup;
pub use silence::Silence;
pub use site::{Site, Tripwire};
pub use storage::{Storage, StorageLock};
pub use systemd::Systemd;
pub use timers::{TimerSpy, Timers};
pub use token_request::Endpoint;
pub use wrangler::Wrangler;
