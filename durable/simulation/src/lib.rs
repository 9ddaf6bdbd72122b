//! The engine's world, simulated from a seed: clients, a SFU, homeservers, and the Durable Object around the engine.
//!
//! Participants are given tokens because they are in a Matrix room, leave it, are banned, and come back. They join, drop, come back with a new SID, are displaced, migrate and delegate again; webhooks are lost,
//! repeated, reordered and minutes late; the SFU and the homeservers fail in all their ways; the process dies between any
//! two steps, and its alarm is late or goes off twice. After a rough time everything works and everybody leaves. What has
//! to hold throughout is [`Invariant`].

mod clock;
mod homeserver;
mod invariant;
mod judge;
mod matrix;
mod member;
mod object;
mod removal;
mod runner;
mod sfu;
mod weather;
mod world;

pub use invariant::{Invariant, Violation};
pub use runner::{Failure, Progress, Totals, run, simulate, trace};
