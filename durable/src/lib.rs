//! Delegated leaves.
mod action;
mod backoff;
mod command;
mod connection;
mod delay;
mod delegation;
mod event;
mod fault;
mod flight;
mod milestone;
mod names;
#[cfg(feature = "object")]
mod object;
mod reading;
mod room;
mod row;
mod schedule;
#[cfg(any(feature = "object", test))]
mod schema;
#[cfg(feature = "simulation")]
pub mod simulation;
#[cfg(feature = "object")]
mod store;
mod time;
mod timing;

pub use action::{
    Action, DelayedEvent, DelegationId, HomeserverAnswer, Participant, ParticipantState, Request, SfuAnswer, Ticket,
};
pub use backoff::Jitter;
pub use command::{Delegate, RoomAnswer, RoomCommand};
pub use delay::{DelayId, DelayTimeout, InvalidDelayId, ZeroDelay};
pub use delegation::Ending;
pub use event::{DisconnectReason, Occurrence, ParticipantRef, WebhookEvent};
#[cfg(feature = "simulation")]
pub use fault::Fault;
pub use milestone::{Milestone, MilestoneEvent};
pub use names::{DelayedEventsUrl, Identity, ParticipantSid, RoomName, ServerName};
#[cfg(feature = "object")]
pub use object::{Outcome, Outside, RoomObject};
pub use room::{Input, Room, Rules};
pub use row::{AliasColumn, Change, DelegationRow, RoomRow, StateColumn};
pub use time::Timestamp;
