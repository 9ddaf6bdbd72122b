//! The engine's world, simulated from a seed: clients, an SFU, homeservers, and the Durable Object around the engine.
//!
//! # How it works
//!
//! - [`simulate`] draws a world from its seed: the number of members, their delays, and the frequency of every fault
//!   (`weather`). The same seed always makes the same world.
//! - The world (`world`) is a queue of events in simulated time. Members are given tokens because they are in a
//!   Matrix room, leave it, are banned, and come back. They join, drop, come back with a new SID, are displaced,
//!   migrate and delegate again.
//! - Webhooks are lost, repeated, reordered and minutes late; the SFU and the homeservers fail in all their ways; the
//!   process dies between any two steps, its configuration breaks, and its alarm is late or goes off twice. After a rough
//!   time everything works
//!   and all members leave.
//! - Some seeds have worlds of their own beside it: a room under siege (`siege`), and rooms that share the rate limit of
//!   one homeserver (`limit`).
//! - Two judges (`judge`, `removal`) watch from outside, with the truth at hand: at every step they check each
//!   [`Invariant`] that the step could break.
//! - Each mutant of the engine ([`delegated_leaves::Mutant`]) must break an invariant: the proof that the judges see.

mod clock;
mod homeserver;
mod invariant;
mod judge;
mod limit;
mod matrix;
mod member;
mod object;
mod removal;
mod runner;
mod sfu;
mod siege;
mod weather;
mod world;

pub use invariant::{Invariant, Violation};
pub use runner::{Failure, Progress, Totals, run, simulate, trace};
