//! LiveKit's [webhooks](https://docs.livekit.io/home/server/webhooks/) about a room, as far as they concern
//! delegations and tracked participants.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Identity, ParticipantSid};
use crate::time::Timestamp;

/// Webhook with a verified signature. Webhooks get lost, come twice, and come out of order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEvent {
    /// `createdAt`: time of the event, rounded down to the second by the SFU. `None` where it is missing.
    pub created_at: Option<Timestamp>,
    /// The event.
    pub occurrence: Occurrence,
}

/// Event in the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Occurrence {
    /// `participant_joined`: media is connected.
    ParticipantJoined(ParticipantRef),
    /// `participant_left`.
    ParticipantLeft(ParticipantRef, DisconnectReason),
    /// `participant_connection_aborted`: the participant disconnected before its media was connected.
    ParticipantConnectionAborted(ParticipantRef, DisconnectReason),
    /// `room_finished`: the room is closed and empty.
    RoomFinished,
}

/// Connection of a participant that a webhook is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantRef {
    /// `participant.identity`.
    pub identity: Identity,
    /// `participant.sid`.
    pub sid: Option<ParticipantSid>,
    /// `participant.joinedAtMs`, or `joinedAt`: beginning of this connection.
    pub joined_at: Option<Timestamp>,
}

/// LiveKit's `DisconnectReason`, as far as it makes a difference here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisconnectReason {
    /// `CLIENT_INITIATED`: the client has ended the connection.
    ClientInitiated,
    /// `DUPLICATE_IDENTITY`: another connection of the same participant took its place.
    DuplicateIdentity,
    /// `SERVER_SHUTDOWN`: the node goes down, and its clients connect to another, or to the same again.
    ServerShutdown,
    /// `STATE_MISMATCH`: the SFU has sent the client round, to connect anew.
    StateMismatch,
    /// `MIGRATION`: the SFU moves the participant to another node.
    Migration,
    /// Any other, or none.
    #[default]
    #[serde(other)]
    Other,
}

impl DisconnectReason {
    /// Converts the number of the protobuf enum.
    pub fn from_number(number: i64) -> Self {
        match number {
            1 => Self::ClientInitiated,
            2 => Self::DuplicateIdentity,
            3 => Self::ServerShutdown,
            6 => Self::StateMismatch,
            8 => Self::Migration,
            _ => Self::Other,
        }
    }

    /// Converts the name in protojson.
    pub fn from_name(name: &str) -> Self {
        match name {
            "CLIENT_INITIATED" => Self::ClientInitiated,
            "DUPLICATE_IDENTITY" => Self::DuplicateIdentity,
            "SERVER_SHUTDOWN" => Self::ServerShutdown,
            "STATE_MISMATCH" => Self::StateMismatch,
            "MIGRATION" => Self::Migration,
            _ => Self::Other,
        }
    }

    /// Returns whether the same participant is about to connect again.
    pub fn is_reconnecting(self) -> bool {
        self.is_replaced() || matches!(self, Self::ServerShutdown | Self::StateMismatch)
    }

    /// Returns whether the SFU has another connection of the same participant, or the same one on another node.
    pub fn is_replaced(self) -> bool {
        matches!(self, Self::DuplicateIdentity | Self::Migration)
    }
}

impl WebhookEvent {
    /// Returns whether it has been under way for so long that its participant may be back by now.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.created_at.is_some_and(|created| now.since(created) > FRESH)
    }

    /// Returns whether it happened before `instant`, its rounding considered; `None` where its time is missing.
    pub fn happened_before(&self, instant: Timestamp) -> Option<bool> {
        self.created_at.map(|created| created + ROUNDING <= instant)
    }

    /// Returns whether it may have happened before or after `beginning`, of a connection, because the SFU reports one of
    /// the two in whole seconds, or both.
    pub fn is_unordered_with(&self, beginning: Timestamp) -> bool {
        self.created_at.is_some_and(|created| created <= beginning && beginning < created + ROUNDING)
    }

    /// Returns whether it certainly happened after `instant`; `None` where its time is missing.
    pub fn happened_after(&self, instant: Timestamp) -> Option<bool> {
        self.created_at.map(|created| created >= instant)
    }
}

/// Time for which a reported absence holds: no participant is back sooner without a report. Longer than a second, by
/// which `createdAt` may be too old.
pub const FRESH: Duration = Duration::from_secs(3);

/// Difference from which on two instants are in order, of which one may be rounded down to the second.
pub const ROUNDING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_reasons_mean_coming_back() {
        for number in 0..=16 {
            let reconnecting = DisconnectReason::from_number(number).is_reconnecting();
            assert_eq!(reconnecting, [2, 3, 6, 8].contains(&number), "{number}");
        }
    }

    #[test]
    fn a_reason_is_its_number_or_its_name() {
        for (number, name) in [
            (0, "UNKNOWN_REASON"),
            (1, "CLIENT_INITIATED"),
            (2, "DUPLICATE_IDENTITY"),
            (3, "SERVER_SHUTDOWN"),
            (4, "PARTICIPANT_REMOVED"),
            (6, "STATE_MISMATCH"),
            (8, "MIGRATION"),
            (14, "CONNECTION_TIMEOUT"),
        ] {
            assert_eq!(DisconnectReason::from_number(number), DisconnectReason::from_name(name), "{name}");
        }
    }

    /// Worker and object may be of different versions for a while.
    #[test]
    fn a_reason_of_a_newer_worker_is_any_other() {
        let read = |text: &str| serde_json::from_str::<DisconnectReason>(text).unwrap();
        assert_eq!(read(r#""Migration""#), DisconnectReason::Migration);
        assert_eq!(read(r#""Other""#), DisconnectReason::Other);
        assert_eq!(read(r#""SomethingNew""#), DisconnectReason::Other);
    }

    #[test]
    fn rounding_to_the_second_is_not_taken_for_earlier() {
        let event = WebhookEvent { created_at: Some(Timestamp::from_secs(10)), occurrence: Occurrence::RoomFinished };
        assert_eq!(event.happened_before(Timestamp::from_millis(10_999)), Some(false));
        assert_eq!(event.happened_before(Timestamp::from_millis(11_000)), Some(true));
        assert!([10_000, 10_999].iter().all(|at| event.is_unordered_with(Timestamp::from_millis(*at))));
        assert!(![9_999, 11_000].iter().any(|at| event.is_unordered_with(Timestamp::from_millis(*at))));
        assert!(!event.is_stale(Timestamp::from_millis(13_000)));
        assert!(event.is_stale(Timestamp::from_millis(13_001)));
    }
}
