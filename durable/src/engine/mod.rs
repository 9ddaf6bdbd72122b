//! The engine: all decisions about the delegations and the tracked participants of one room, without I/O. See
//! [`room`] for how it is driven.

pub mod action;
pub mod alarm;
pub mod backoff;
mod bounds;
mod connection;
pub mod delegation;
mod dispatch;
mod in_flight;
pub mod log_event;
pub mod membership;
pub mod mutant;
pub mod pacing;
pub mod room;
pub mod status;
pub mod storage;
pub mod webhook;
