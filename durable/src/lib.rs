//! Delegated leaves: a client hands over the delayed event that takes it out of a call, and this crate looks after it.
//!
//! While the participant is connected to the SFU, the homeserver's timer is restarted in time; once it has left, the
//! event is sent. Two rules decide every doubt: **a leave is never lost**, and **a leave is never sent early**.
//!
//! It looks after memberships, too: a token that was issued because its user is in a Matrix room is recorded, and the
//! participant is removed from the call once its user has left the room. Two rules again: **no member of the room is
//! removed**, and **a failure of the homeserver removes no participant**.
//!
//! # The engine
//!
//! [`RoomEngine`] holds the delegations and the tracked participants of one LiveKit room. It is a value without I/O,
//! clock, storage and randomness. Its caller
//!
//! - passes commands and outcomes to [`RoomEngine::handle`], and stores [`RoomEngine::take_changes`] before it
//!   acknowledges them, together with an alarm for [`RoomEngine::next_due`] ([`Alarm`]);
//! - acts only when the alarm goes off: performs the actions of [`RoomEngine::take_due`], a few at a time, hands in
//!   each outcome, and goes on until nothing is due and nothing is in flight. While it waits for outcomes,
//!   [`RoomEngine::next_due_after`] is when the engine needs it again, if no command comes before;
//! - loads the engine anew after a crash, or when it couldn't store something: actions that were in flight are due
//!   again, and restarts of which it isn't known whether they were made.
//!
//! As code, with a `Vec` for a disk and a loop for an alarm:
//!
//! ```
//! use delegated_leaves::*;
//!
//! /// Performs a request: here, the participant never connects, and the homeserver always works.
//! fn perform(request: &Request) -> Outcome {
//!     match request {
//!         Request::Restart(_) | Request::Send(_) => Outcome::Homeserver(HomeserverAnswer::Done),
//!         Request::GetParticipant { .. } | Request::ListParticipants { .. } => {
//!             Outcome::Sfu(SfuAnswer::Participants(Vec::new()))
//!         }
//!         request => request.failed(),
//!     }
//! }
//!
//! let mut now = Timestamp::from_secs(1_790_000_000);
//! let mut engine = RoomEngine::load(EngineConfig::default(), now, Rows::default(), None);
//!
//! // A command is stored, and then acknowledged.
//! let delegate = Delegate {
//!     room: RoomName::of_slot("!room:example.com", "m.call#ROOM"),
//!     identity: Identity::of_member("@alice:example.com", "DEVICE", "member"),
//!     legacy_identity: None,
//!     server_name: ServerName::new("example.com"),
//!     delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
//!     owner: None,
//!     user_id: UserId::new("@alice:example.com"),
//!     restricted: false,
//!     delay_id: DelayId::new("syd_1")?,
//!     delay_timeout: DelayTimeout::try_from(8_000)?,
//!     restarted_at: None,
//!     issued_at: None,
//! };
//! engine.handle(now, Input::Command(RoomCommand::Delegate(delegate)));
//! let mut disk = engine.take_changes();
//! assert!(matches!(disk.as_slice(), [Change::Put(_)]));
//!
//! // The alarm goes off whenever something is due.
//! let mut performed = Vec::new();
//! while let Some(due) = engine.next_due() {
//!     now = now.max(due);
//!     let mut in_flight = engine.take_due(now, 6);
//!     disk.extend(engine.take_changes());
//!     while let Some(action) = in_flight.pop() {
//!         let outcome = perform(&action.request);
//!         engine.handle(now, Input::Outcome { id: action.id, outcome, jitter: Jitter::new(0.5) });
//!         disk.extend(engine.take_changes());
//!         performed.push(action.request);
//!     }
//! }
//!
//! // After eight seconds without its participant, the leave was sent, and its row deleted.
//! assert!(matches!(performed.last(), Some(Request::Send(_))));
//! assert!(matches!(disk.last(), Some(Change::Delete(_))));
//! assert!(engine.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The transition table of a delegation
//!
//! Columns are the states, rows the signals of `engine/delegation/mod.rs`; each cell is an arm of
//! `Delegation::handle`. An empty cell does nothing.
//!
//! | signal | `Waiting` | `Connected` | `Suspected` | `Leaving` |
//! | --- | --- | --- | --- | --- |
//! | `Joined` | `Connected` | polls don't count | `Connected` | `Connected` |
//! | `MaybeJoined` | poll | polls don't count | poll | poll before the next `send` |
//! | `Left` | wait 15 s at most | `Leaving` | `Leaving` | |
//! | `MaybeLeft` | wait 15 s at most | `Suspected` | poll | |
//! | `Reconnecting` | wait 15 s at most | `Suspected` for 15 s | `Suspected` for 15 s | |
//! | `LeftEarly` | wait 15 s at most | `Suspected` for 1 s | `Suspected` for 1 s | |
//! | `NotFound` | poll later | `Leaving` | `Leaving` from `believed_from` on, else poll later | `send` |
//! | `OneIdentityNotFound` | poll later | `Suspected` | poll later | poll later; `send` at the end of the window |
//! | `Inconclusive` | poll later | | poll later | poll later; `send` at the end of the window |
//! | `StateTimeout` | `Leaving` | | `Leaving` | ends: `GaveUp` |
//! | `Restarted` | longer window | next in time | next in time | longer window |
//! | `RestartFailed` | | again, with back-off | again, with back-off | |
//! | `SendFailed` | | | | again, with back-off |
//! | `DelayElapsed` | | ends: `GaveUp` | ends: `GaveUp` | |
//! | `Finalised` | ends | ends | ends | ends |
//!
//! `Waiting` begins with a poll, `Connected` with a `restart` (unless it follows `Suspected`, or a restart that was made
//! for the acceptance within the last second), `Leaving` with a
//! `send`, before which the SFU is polled unless the participant was seen to be gone in the last three seconds.
//! `Waiting` lasts `min(T, 1 h)`, `Suspected` an hour at most, and `Leaving` until `T`, or ten seconds if that is longer,
//! has passed since the last restart, but a second at least and an hour at most.
//!
//! # The states of a tracked participant
//!
//! - `Absent`: not connected, as far as is known. Its token may admit it.
//! - `Missing`: not connected, after all known tokens had expired, as a first poll has confirmed. The second one ends
//!   the record.
//! - `Connected`: its user is taken to be in the Matrix room, which regular sweeps check.
//! - `Unwelcome`: connected, but its user isn't in the Matrix room. Its removal is requested until the SFU has
//!   fulfilled it.
//!
//! The transition table is at the top of `engine/membership/participant.rs`; each cell is an arm of `Tracked::handle`.
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
pub use engine::alarm::Alarm;
pub use engine::backoff::Jitter;
pub use engine::delegation::Ending;
pub use engine::delegation::row::{AliasColumn, DelegationRow, StateColumn};
pub use engine::log_event::{LogEvent, LogEventKind, Subject};
pub use engine::membership::row::TrackedRow;
#[cfg(feature = "mutants")]
pub use engine::mutant::Mutant;
pub use engine::pacing::Pacing;
pub use engine::room::{EngineConfig, Input, RoomEngine};
pub use engine::status::{DelegationCounts, DelegationStatus, ParticipantCounts, RoomStatus};
pub use engine::storage::{Change, RoomRow, Rows};
pub use engine::webhook::{DisconnectReason, FRESH, Occurrence, ParticipantRef, ROUNDING, WebhookEvent};
pub use ids::{DelayedEventsUrl, Identity, MatrixRoomId, ParticipantSid, RoomName, ServerName, UserId};
#[cfg(feature = "object")]
pub use object::{RoomObject, SCHEMA_VERSION, Upstreams};
pub use time::Timestamp;
