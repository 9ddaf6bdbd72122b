//! Commands of the worker to a room's Durable Object, and the object's answers. Both cross the boundary as JSON.
//!
//! Worker and object run different versions for a while after each deployment, in both directions. So fields that are
//! unknown are skipped, fields that are new have defaults, and a command that is new is answered with
//! [`RoomAnswer::UnknownCommand`]. `durable/tests/wire/` holds this version to what the last release writes and reads.

use serde::{Deserialize, Serialize};

use crate::delay::{DelayId, DelayTimeout};
use crate::engine::webhook::WebhookEvent;
use crate::ids::{DelayedEventsUrl, Identity, MatrixRoomId, RoomName, ServerName, UserId};
use crate::time::Timestamp;

/// Command to the object of one LiveKit room. The object's name is the room's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomCommand {
    /// Takes over a delayed leave.
    Delegate(Delegate),
    /// Records the issue of a token whose holder has to be in a Matrix room.
    Track(Track),
    /// Announces a command: the object reads what is stored.
    Wake,
    /// Passes on a webhook of the SFU.
    Webhook(WebhookEvent),
    /// Asks for the room's state, for its operator. Its answer is a [`RoomStatus`](crate::RoomStatus) in place of a
    /// [`RoomAnswer`], or [`RoomAnswer::UnknownCommand`].
    Status {
        /// Whether the answer has ids of users.
        with_users: bool,
    },
}

/// Answer of the object. A command whose effect can't be stored is answered with an error instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomAnswer {
    /// Its effect is on disk, and the alarm is set.
    Recorded,
    /// It concerns no delegation and no participant of the room.
    Nothing,
    /// The room, its user or the homeserver has as many as it may have: nothing is recorded.
    Full,
    /// The object doesn't understand the command, which is one of a later version: nothing is recorded.
    UnknownCommand,
}

/// Delayed leave to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegate {
    /// The LiveKit room.
    pub room: RoomName,
    /// Identity of the member. A delegation for the same one is replaced.
    pub identity: Identity,
    /// Second identity under which the member may have joined: `{user_id}:{device_id}`, for delegations through
    /// `/delegate_delayed_leave` in the slot `m.call#ROOM`.
    pub legacy_identity: Option<Identity>,
    /// Homeserver that holds the delayed event.
    pub server_name: ServerName,
    /// URL of its delayed events, by the latest look-up.
    pub delayed_events_url: DelayedEventsUrl,
    /// Owner of the event, where it is known: restarts and sends go out in this user's name, as far as the caller may
    /// act for them. `None` for an event of which only the id is known.
    pub owner: Option<UserId>,
    /// Its user, whose delegations in the room are counted. Empty in a command of an older worker, which is counted for
    /// no user.
    #[serde(default = "unknown_user")]
    pub user_id: UserId,
    /// Whether the user belongs to a homeserver without full access: there are fewer delegations of those.
    #[serde(default)]
    pub restricted: bool,
    /// Id of the event there.
    pub delay_id: DelayId,
    /// Time from its last restart until the homeserver sends it by itself, in ms.
    pub delay_timeout: DelayTimeout,
    /// The instant just before a restart that succeeded, made before the acceptance: the event's time counts from
    /// there. `None` where none did.
    #[serde(default)]
    pub restarted_at: Option<Timestamp>,
    /// When the worker took up the request, before that restart. It tells an older command, which comes again late because
    /// its answer was lost, from a newer one. `None` in a command of an older worker.
    #[serde(default)]
    pub issued_at: Option<Timestamp>,
}

fn unknown_user() -> UserId {
    UserId::new("")
}

/// Token that was issued because its user is in a Matrix room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// The LiveKit room that it admits to.
    pub room: RoomName,
    /// The Matrix room that its user has to be in. It replaces an earlier one.
    pub matrix_room_id: MatrixRoomId,
    /// Its user.
    pub user_id: UserId,
    /// Identity that it admits. There is one record for each, whatever the number of tokens.
    pub identity: Identity,
    /// When it expires. A time earlier than a recorded one changes nothing.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::webhook::{DisconnectReason, Occurrence, ParticipantRef};
    use crate::ids::ParticipantSid;

    #[test]
    fn commands_survive_the_way_to_the_object() {
        let participant =
            ParticipantRef { identity: Identity::new("i"), sid: ParticipantSid::new("PA_1"), joined_at: None };
        for command in [
            RoomCommand::Delegate(Delegate {
                room: RoomName::new("r"),
                identity: Identity::new("i"),
                legacy_identity: Some(Identity::of_device("@a:b", "D")),
                server_name: ServerName::new("b"),
                delayed_events_url: DelayedEventsUrl::new("https://b"),
                owner: Some(UserId::new("@a:b")),
                user_id: UserId::new("@a:b"),
                restricted: true,
                delay_id: DelayId::new("x").unwrap(),
                delay_timeout: DelayTimeout::from_millis(8_000).unwrap(),
                restarted_at: Some(Timestamp::from_secs(7)),
                issued_at: Some(Timestamp::from_secs(7)),
            }),
            RoomCommand::Track(Track {
                room: RoomName::new("r"),
                matrix_room_id: MatrixRoomId::new("!r:b"),
                user_id: UserId::new("@a:b"),
                identity: Identity::of_homeserver_member("@a:b", "m"),
                expires_at: Timestamp::from_secs(7),
            }),
            RoomCommand::Webhook(WebhookEvent {
                created_at: Some(Timestamp::from_secs(7)),
                occurrence: Occurrence::ParticipantLeft(participant, DisconnectReason::Migration),
            }),
            RoomCommand::Webhook(WebhookEvent { created_at: None, occurrence: Occurrence::RoomFinished }),
        ] {
            let json = serde_json::to_string(&command).unwrap();
            assert_eq!(serde_json::from_str::<RoomCommand>(&json).unwrap(), command);
        }
    }

    #[test]
    fn a_command_that_no_room_understands_is_no_other() {
        let refused = [
            r#"{"delegate":{}}"#,
            r#"{"explode":{}}"#,
            r#"{"track":{"room":"r","matrix_room_id":"!r:b","user_id":"@a:b","identity":"i"}}"#,
            r#"{"delegate":{"room":"r","identity":"i","legacy_identity":null,"server_name":"b","delayed_events_url":"u","delay_id":"..","delay_timeout":1}}"#,
            r#"{"delegate":{"room":"r","identity":"i","legacy_identity":null,"server_name":"b","delayed_events_url":"u","delay_id":"x","delay_timeout":0}}"#,
        ];
        for json in refused {
            assert!(serde_json::from_str::<RoomCommand>(json).is_err(), "{json}");
        }
    }
}
