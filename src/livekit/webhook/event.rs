//! Webhooks as events: LiveKit's `WebhookEvent` in protojson, as far as it concerns delegated leaves
//! (`docs/protocol.md#webhook-body`).
//!
//! How it works:
//! - the body has been verified before it is parsed;
//! - four kinds of events have an effect on a room's object; all others, and those without a room or participant, are
//!   irrelevant, and answered with 200 all the same, so that LiveKit doesn't send them again. Those of kinds that can be
//!   switched off in LiveKit's configuration are recognised, for a hint to the operator;
//! - protojson writes 64-bit integers as strings and enums by name, but allows numbers for both, so both are read;
//! - zero and the empty string are protobuf's form of an absent value, and unknown fields are skipped.

use delegated_leaves::{
    DisconnectReason, Identity, Occurrence, ParticipantRef, ParticipantSid, RoomName, Timestamp, WebhookEvent,
};
use serde::Deserialize;

/// Parses the body of a webhook whose signature has been verified.
///
/// Fails where it is no JSON object. Unknown fields are skipped, as protojson requires; an event without an effect,
/// or without its room or participant, is [`Webhook::Irrelevant`].
pub fn parse(body: &[u8]) -> Result<Webhook, NotAnEvent> {
    let body: Body = serde_json::from_slice(body).map_err(|_| NotAnEvent)?;
    if !NEEDED.contains(&body.event.as_str()) && !SELDOM.contains(&body.event.as_str()) {
        return Ok(Webhook::Unneeded);
    }
    let Some(room) = body.room.and_then(|room| room.name).filter(|name| !name.is_empty()) else {
        return Ok(Webhook::Irrelevant);
    };
    let participant = body.participant.and_then(Participant::connection);
    let occurrence = match (body.event.as_str(), participant) {
        ("room_finished", _) => Occurrence::RoomFinished,
        ("participant_joined", Some((participant, _))) => Occurrence::ParticipantJoined(participant),
        ("participant_left", Some((participant, reason))) => Occurrence::ParticipantLeft(participant, reason),
        ("participant_connection_aborted", Some((participant, reason))) => {
            Occurrence::ParticipantConnectionAborted(participant, reason)
        }
        _ => return Ok(Webhook::Irrelevant),
    };
    let created_at = body.created_at.and_then(Integer::seconds);
    Ok(Webhook::Relevant { room: RoomName::new(room), event: WebhookEvent { created_at, occurrence } })
}

/// A parsed webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// The event may have an effect on a delegation.
    Relevant {
        /// The LiveKit room.
        room: RoomName,
        /// The event.
        event: WebhookEvent,
    },
    /// The event has no effect.
    Irrelevant,
    /// No event of its kind has an effect, and in a call there are several of them.
    Unneeded,
}

/// The kinds of events that have effects.
pub const NEEDED: [&str; 4] =
    ["participant_joined", "participant_left", "participant_connection_aborted", "room_finished"];

/// Kinds without an effect that aren't worth a hint: one a room, which the doctor sends too, and none.
const SELDOM: [&str; 2] = ["room_started", ""];

/// The body is no webhook of LiveKit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEvent;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default)]
    event: String,
    room: Option<Room>,
    participant: Option<Participant>,
    created_at: Option<Integer>,
}

#[derive(Deserialize)]
struct Room {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Participant {
    identity: Option<String>,
    sid: Option<String>,
    joined_at: Option<Integer>,
    joined_at_ms: Option<Integer>,
    disconnect_reason: Option<Enumerator>,
}

impl Participant {
    fn connection(self) -> Option<(ParticipantRef, DisconnectReason)> {
        let identity = self.identity.filter(|identity| !identity.is_empty())?;
        let joined_at_ms = self.joined_at_ms.and_then(Integer::positive).map(Timestamp::from_millis);
        let participant = ParticipantRef {
            identity: Identity::new(identity),
            sid: self.sid.and_then(ParticipantSid::new),
            joined_at: joined_at_ms.or_else(|| self.joined_at.and_then(Integer::seconds)),
        };
        let reason = match self.disconnect_reason {
            Some(Enumerator::Name(name)) => DisconnectReason::from_name(&name),
            Some(Enumerator::Number(number)) => DisconnectReason::from_number(number),
            None => DisconnectReason::default(),
        };
        Some((participant, reason))
    }
}

/// A 64-bit integer, written as a string or as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Integer {
    Number(i64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Integer {
    /// Returns the value, where it is more than zero: zero is the absent value of protobuf.
    fn positive(self) -> Option<u64> {
        match self {
            Self::Number(number) => u64::try_from(number).ok(),
            Self::Text(text) => text.parse().ok(),
            Self::Other(_) => None,
        }
        .filter(|value| *value > 0)
    }

    fn seconds(self) -> Option<Timestamp> {
        self.positive().map(Timestamp::from_secs)
    }
}

/// An enumerator, written as its name or its number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Enumerator {
    Number(i64),
    Name(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(body: &Value) -> Result<Webhook, NotAnEvent> {
        parse(body.to_string().as_bytes())
    }

    fn event(webhook: Result<Webhook, NotAnEvent>) -> WebhookEvent {
        match webhook {
            Ok(Webhook::Relevant { event, .. }) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_numbers_strings_and_integers_mean_the_same() {
        let participant = ParticipantRef {
            identity: Identity::new("@a:b:D"),
            sid: ParticipantSid::new("PA_1"),
            joined_at: Some(Timestamp::from_secs(1_700_000_000)),
        };
        let expected = WebhookEvent {
            created_at: Some(Timestamp::from_secs(1_700_000_009)),
            occurrence: Occurrence::ParticipantLeft(participant, DisconnectReason::DuplicateIdentity),
        };
        for (joined_at, created_at, reason) in [
            (json!("1700000000"), json!("1700000009"), json!("DUPLICATE_IDENTITY")),
            (json!(1_700_000_000), json!(1_700_000_009), json!(2)),
        ] {
            let webhook = read(&json!({
                "event": "participant_left", "id": "EV_1", "createdAt": created_at, "new": {"field": 1},
                "room": {"name": "room", "sid": "RM_1"},
                "participant": {"identity": "@a:b:D", "sid": "PA_1", "joinedAt": joined_at, "disconnectReason": reason},
            }));
            assert_eq!(event(webhook), expected);
        }
    }

    #[test]
    fn the_finer_joining_time_wins() {
        let webhook = read(&json!({
            "event": "participant_joined", "room": {"name": "room"},
            "participant": {"identity": "i", "joinedAt": "1700000000", "joinedAtMs": "1700000000123"},
        }));
        let Occurrence::ParticipantJoined(participant) = event(webhook).occurrence else { panic!() };
        assert_eq!(participant.joined_at, Some(Timestamp::from_millis(1_700_000_000_123)));
    }

    #[test]
    fn what_moves_nobody_is_irrelevant() {
        for body in [
            json!({"event": "room_started", "room": {"name": "room"}}),
            json!({"event": "participant_left", "room": {"name": "room"}}),
            json!({"event": "participant_left", "participant": {"identity": "i"}}),
            json!({"event": "room_finished", "room": null}),
            json!({}),
        ] {
            assert_eq!(read(&body), Ok(Webhook::Irrelevant), "{body}");
        }
        for body in [
            json!({"event": "track_published", "room": {"name": "room"}, "participant": {"identity": "i"}}),
            json!({"event": "track_unpublished"}),
            json!({"event": "egress_started", "egressInfo": {}}),
            json!({"event": "of_a_later_livekit", "room": {"name": "room"}}),
        ] {
            assert_eq!(read(&body), Ok(Webhook::Unneeded), "{body}");
        }
        for body in [json!([]), json!(5), json!({"event": 5})] {
            assert_eq!(read(&body), Err(NotAnEvent), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(body: Vec<u8>, number: i64, text in "\\PC{0,20}") {
            let _ = parse(&body);
            let _ = read(&json!({
                "event": "participant_left", "createdAt": number, "room": {"name": text},
                "participant": {"identity": text, "sid": text, "joinedAt": text, "joinedAtMs": number, "disconnectReason": number},
            }));
        }
    }
}
