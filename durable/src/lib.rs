//! Delegated leaves: a client hands over the delayed event that takes it out of a call, and from then on it is ours.
//!
//! While the participant is connected to the SFU the homeserver's timer is restarted in time; once it is gone, the event is
//! sent. Two config decide every doubt: **a leave is never lost**, and **a leave is never sent early**.
//!
//! And who may stay: a token that was minted because its user is in a Matrix room is remembered, and whoever isn't in that room
//! any more is removed from the call. Two config again: **nobody who is in the room is removed**, and **what isn't an answer of
//! the homeserver removes nobody**.
//!
//! # The engine
//!
//! [`RoomEngine`] holds the delegations and the tracked participants of one LiveKit room. It is a value without I/O, clock, storage and randomness:
//! [`RoomEngine::handle`] takes what happens, [`RoomEngine::take_changes`] tells what to store, [`RoomEngine::next_due`] when there is
//! something to do, and [`RoomEngine::take_due`] what. Whoever drives it
//!
//! - stores the changes of an input before acknowledging it, together with an alarm for [`RoomEngine::next_due`];
//! - acts only when the alarm goes off: performs what [`RoomEngine::take_due`] returns, a few at a time, hands in each result,
//!   stores what that changes, and goes on until nothing is due and nothing is under way. While waiting for results it is
//!   needed again at [`RoomEngine::next_due_after`], and after each command;
//! - after a crash, or when it couldn't store something, loads the room anew: what was under way is due again.
//!
//! # The transition table of a delegation
//!
//! *Suspected* is connected, but said to be gone by news that is old or unclear, or by news that says it is coming back.
//!
//! | what a delegation hears | waiting | connected | suspected | leaving |
//! | --- | --- | --- | --- | --- |
//! | a new connection stands | connected | | connected | connected |
//! | a hint that one may | ask | | ask | ask before the next `send` |
//! | the connection has ended | wait 15 s at most | leaving | leaving | |
//! | one has ended, perhaps not the newest, or long ago | wait 15 s at most | suspected | ask | |
//! | it has ended, to come back | wait 15 s at most | suspected for 15 s | suspected for 15 s | |
//! | SFU: not there | ask later | leaving | leaving if it is time, else ask later | `send` |
//! | SFU: one identity isn't there | ask later | suspected | ask later | ask later |
//! | SFU: just connecting, or no answer | ask later | | ask later | ask later, `send` at the end of the window |
//! | its time is up | leaving | | leaving | given up |
//! | `restart` done | | next in time | next in time | longer window |
//! | `restart` failed | | again, with back-off | again, with back-off | |
//! | `send` failed | | | | again, with back-off |
//! | `T` has passed since the last restart | | given up | given up | |
//! | the homeserver hasn't the event any more | over | over | over | over |
//!
//! A delegation that starts to wait is asked for at once, one that becomes connected is restarted at once, one that starts to
//! leave is sent at once: if it isn't longer than three seconds ago that the participant was seen to be gone, or else after
//! the SFU was asked. It waits for `min(T, 1 h)`, doubts for an hour at most, and leaves until `T` has passed since the last
//! restart, for a second at least and an hour at most.
mod command;
mod delay;
mod engine;
mod ids;
#[cfg(feature = "object")]
mod object;
mod time;

pub use command::{Delegate, RoomAnswer, RoomCommand, Track};
pub use delay::{DelayId, DelayTimeout, InvalidDelayId, ZeroDelay};
pub use engine::action::{
    Action, ActionId, DelayedEvent, DelegationId, HomeserverAnswer, MembersAnswer, Outcome, Participant,
    ParticipantState, RemovalAnswer, Request, ServerAnswer, SfuAnswer, TrackedId,
};
pub use engine::backoff::Jitter;
pub use engine::delegation::Ending;
pub use engine::delegation::row::{AliasColumn, DelegationRow, StateColumn};
pub use engine::log_event::{LogEvent, LogEventKind, Subject};
pub use engine::membership::row::TrackedRow;
#[cfg(feature = "mutants")]
pub use engine::mutant::Mutant;
pub use engine::room::{EngineConfig, Input, RoomEngine};
pub use engine::storage::{Change, RoomRow, Rows};
pub use engine::webhook::{DisconnectReason, FRESH, Occurrence, ParticipantRef, ROUNDING, WebhookEvent};
pub use ids::{DelayedEventsUrl, Identity, MatrixRoomId, ParticipantSid, RoomName, ServerName, UserId};
#[cfg(feature = "object")]
pub use object::{RoomObject, Upstreams};
pub use time::Timestamp;
