//! Commands and answers between a worker and an object of different versions: for minutes at each deployment, for
//! longer in a gradual one.
//!
//! How it works:
//! - `last_release.json` is what the last release writes, and [`last_release`] reads as it does;
//! - what it writes is read by this version, and what this version writes is read by its rules;
//! - both files are replaced at a release, and changed at no other time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

mod last_release;

use delegated_leaves::{
    DelayId, DelayTimeout, DelayedEventsUrl, Delegate, DisconnectReason, Identity, MatrixRoomId, Occurrence,
    ParticipantRef, ParticipantSid, RoomAnswer, RoomCommand, RoomName, ServerName, Timestamp, Track, UserId,
    WebhookEvent,
};
use serde_json::{Value, json};

#[test]
fn what_the_last_release_writes_is_read() {
    let fixture = fixture();
    let commands = fixture["commands"].as_object().unwrap();
    assert_eq!(commands.len(), commands_by_name().len());
    for (name, expected) in commands_by_name() {
        let read: RoomCommand = serde_json::from_value(commands[name].clone()).unwrap();
        assert_eq!(read, expected, "{name}");
    }
    let answers: Vec<RoomAnswer> = serde_json::from_value(fixture["answers"].clone()).unwrap();
    assert_eq!(answers, [RoomAnswer::Recorded, RoomAnswer::Nothing, RoomAnswer::Full]);
}

#[test]
fn what_is_written_is_read_by_the_rules_of_the_last_release() {
    for (name, command) in commands_by_name() {
        let written = serde_json::to_string(&command).unwrap();
        let read: last_release::Command = serde_json::from_str(&written).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_same(&command, &read);
    }
    for answer in [RoomAnswer::Recorded, RoomAnswer::Nothing, RoomAnswer::Full, RoomAnswer::UnknownCommand] {
        let read = serde_json::from_str::<last_release::Answer>(&serde_json::to_string(&answer).unwrap()).ok();
        let expected = match answer {
            RoomAnswer::Recorded => Some(last_release::Answer::Recorded),
            RoomAnswer::Nothing => Some(last_release::Answer::Nothing),
            RoomAnswer::Full => Some(last_release::Answer::Full),
            // Its worker knows all commands that its object knows. An answer that it can't read is a failure to it.
            RoomAnswer::UnknownCommand => None,
        };
        assert_eq!(read, expected);
    }
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    for (name, expected) in commands_by_name() {
        let mut command = serde_json::to_value(&expected).unwrap();
        add_fields(&mut command);
        let read: RoomCommand = serde_json::from_value(command).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read, expected, "{name}");
    }
}

#[test]
fn fields_that_an_earlier_version_lacks_have_defaults() {
    let mut command = fixture()["commands"]["a delegation with no more than it must have"].clone();
    let fields = command["delegate"].as_object_mut().unwrap();
    fields.retain(|name, _| !["legacy_identity", "owner", "user_id", "restricted", "restarted_at"].contains(&&**name));
    let RoomCommand::Delegate(read) = serde_json::from_value(command).unwrap() else { panic!() };
    let expected = Delegate { user_id: UserId::new(""), ..delegation() };
    assert_eq!(read, expected);
}

/// Adds a field to every object of a command, except to the one around it, whose only field is the command's name.
fn add_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for inner in fields.values_mut() {
                add_fields(inner);
            }
            // A name with a capital, or that of a command, is a variant's.
            let is_struct = fields.keys().all(|name| {
                name.starts_with(char::is_lowercase) && !["delegate", "track", "webhook"].contains(&name.as_str())
            });
            if is_struct {
                fields.insert("of_a_later_version".to_owned(), json!({"more": [1, null]}));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(add_fields),
        _ => {}
    }
}

/// The commands in the fixture.
fn commands_by_name() -> Vec<(&'static str, RoomCommand)> {
    let webhook = |created_at, occurrence| RoomCommand::Webhook(WebhookEvent { created_at, occurrence });
    let created_at = Some(Timestamp::from_secs(1_790_000_001));
    let known = ParticipantRef {
        identity: Identity::new("alice"),
        sid: ParticipantSid::new("PA_1"),
        joined_at: Some(Timestamp::from_secs(1_790_000_001)),
    };
    let unknown = ParticipantRef { identity: Identity::new("alice"), sid: None, joined_at: None };
    vec![
        (
            "a delegation with all that it may have",
            RoomCommand::Delegate(Delegate {
                legacy_identity: Some(Identity::of_device("@alice:example.com", "DEVICE")),
                owner: Some(UserId::new("@alice:example.com")),
                restricted: true,
                restarted_at: Some(Timestamp::from_millis(1_790_000_000_123)),
                ..delegation()
            }),
        ),
        ("a delegation with no more than it must have", RoomCommand::Delegate(delegation())),
        (
            "a token",
            RoomCommand::Track(Track {
                room: RoomName::new("room"),
                matrix_room_id: MatrixRoomId::new("!room:example.com"),
                user_id: UserId::new("@alice:example.com"),
                identity: Identity::new("alice"),
                expires_at: Timestamp::from_secs(1_790_003_600),
            }),
        ),
        ("an announcement", RoomCommand::Wake),
        ("a participant has joined", webhook(created_at, Occurrence::ParticipantJoined(known.clone()))),
        (
            "a participant has left",
            webhook(created_at, Occurrence::ParticipantLeft(known, DisconnectReason::Migration)),
        ),
        (
            "a connection was aborted",
            webhook(None, Occurrence::ParticipantConnectionAborted(unknown, DisconnectReason::Other)),
        ),
        ("a room is finished", webhook(created_at, Occurrence::RoomFinished)),
    ]
}

fn delegation() -> Delegate {
    Delegate {
        room: RoomName::new("room"),
        identity: Identity::new("alice"),
        legacy_identity: None,
        server_name: ServerName::new("example.com"),
        delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
        owner: None,
        user_id: UserId::new("@alice:example.com"),
        restricted: false,
        delay_id: DelayId::new("syd_1").unwrap(),
        delay_timeout: DelayTimeout::from_millis(8_000).unwrap(),
        restarted_at: None,
        issued_at: None,
    }
}

/// Checks that the last release understands a command as it is meant. A command that it doesn't know has no place here:
/// it must not be needed before the next release.
fn assert_same(command: &RoomCommand, read: &last_release::Command) {
    match (command, read) {
        (RoomCommand::Delegate(meant), last_release::Command::Delegate(read)) => {
            let ids = [&read.room, &read.identity, &read.server_name, &read.delayed_events_url, &read.user_id];
            let meant_ids = [
                meant.room.as_str(),
                meant.identity.as_str(),
                meant.server_name.as_str(),
                meant.delayed_events_url.as_str(),
                meant.user_id.as_str(),
            ];
            assert_eq!(ids, meant_ids);
            assert_eq!(read.legacy_identity.as_deref(), meant.legacy_identity.as_ref().map(Identity::as_str));
            assert_eq!(read.owner.as_deref(), meant.owner.as_ref().map(UserId::as_str));
            assert_eq!(read.restricted, meant.restricted);
            assert_eq!((read.delay_id.as_str(), read.delay_timeout), (meant.delay_id.secret(), 8_000));
            assert_eq!(read.restarted_at, meant.restarted_at.map(Timestamp::as_millis));
        }
        (RoomCommand::Track(meant), last_release::Command::Track(read)) => {
            let ids = [&read.room, &read.matrix_room_id, &read.user_id, &read.identity];
            let meant_ids =
                [meant.room.as_str(), meant.matrix_room_id.as_str(), meant.user_id.as_str(), meant.identity.as_str()];
            assert_eq!(ids, meant_ids);
            assert_eq!(read.expires_at, meant.expires_at.as_millis());
        }
        (RoomCommand::Wake, last_release::Command::Wake) => {}
        (RoomCommand::Webhook(meant), last_release::Command::Webhook(read)) => {
            assert_eq!(read.created_at, meant.created_at.map(Timestamp::as_millis));
            assert_same_occurrence(&meant.occurrence, &read.occurrence);
        }
        (command, read) => panic!("{command:?} is read as {read:?}"),
    }
}

fn assert_same_occurrence(meant: &Occurrence, read: &last_release::Occurrence) {
    let assert_same_participant = |meant: &ParticipantRef, read: &last_release::Participant| {
        assert_eq!(read.identity, meant.identity.as_str());
        assert_eq!(read.sid.as_deref(), meant.sid.as_ref().map(ParticipantSid::as_str));
        assert_eq!(read.joined_at, meant.joined_at.map(Timestamp::as_millis));
    };
    match (meant, read) {
        (Occurrence::ParticipantJoined(meant), last_release::Occurrence::ParticipantJoined(read)) => {
            assert_same_participant(meant, read);
        }
        (Occurrence::ParticipantLeft(meant, _), last_release::Occurrence::ParticipantLeft(read, reason)) => {
            assert_same_participant(meant, read);
            assert_eq!(*reason, last_release::Reason::Migration);
        }
        (
            Occurrence::ParticipantConnectionAborted(meant, _),
            last_release::Occurrence::ParticipantConnectionAborted(read, reason),
        ) => {
            assert_same_participant(meant, read);
            assert_eq!(*reason, last_release::Reason::Other);
        }
        (Occurrence::RoomFinished, last_release::Occurrence::RoomFinished) => {}
        (meant, read) => panic!("{meant:?} is read as {read:?}"),
    }
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("last_release.json")).unwrap()
}
