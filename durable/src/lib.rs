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
mod reading;
mod room;
mod row;
mod schedule;
#[cfg(feature = "simulation")]
pub mod simulation;
mod time;

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
pub use names::{Identity, ParticipantSid, RoomName, ServerName};
pub use room::{Input, Room, Rules};
pub use row::{AliasColumn, Change, DelegationRow, RoomRow, StateColumn};
pub use time::Timestamp;
