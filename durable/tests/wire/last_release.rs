//! The rules by which the last release reads commands and answers: its types, with the strictness of its parser.
//!
//! A copy, made at the release, that stays as it is until the next one.

use serde::Deserialize;

/// A command, as the last release's object reads it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Delegate(Delegate),
    Track(Track),
    Wake,
    Webhook(Webhook),
}

/// An answer, as the last release's worker reads it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Recorded,
    Nothing,
    Full,
}

#[derive(Debug, Deserialize)]
pub struct Delegate {
    pub room: String,
    pub identity: String,
    pub legacy_identity: Option<String>,
    pub server_name: String,
    pub delayed_events_url: String,
    pub owner: Option<String>,
    #[serde(default)]
    pub user_id: String,
    #[serde(default)]
    pub restricted: bool,
    pub delay_id: String,
    pub delay_timeout: u64,
    #[serde(default)]
    pub restarted_at: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct Track {
    pub room: String,
    pub matrix_room_id: String,
    pub user_id: String,
    pub identity: String,
    pub expires_at: u64,
}

#[derive(Debug, Deserialize)]
pub struct Webhook {
    pub created_at: Option<u64>,
    pub occurrence: Occurrence,
}

#[derive(Debug, Deserialize)]
pub enum Occurrence {
    ParticipantJoined(Participant),
    ParticipantLeft(Participant, Reason),
    ParticipantConnectionAborted(Participant, Reason),
    RoomFinished,
}

#[derive(Debug, Deserialize)]
pub struct Participant {
    pub identity: String,
    pub sid: Option<String>,
    pub joined_at: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub enum Reason {
    ClientInitiated,
    DuplicateIdentity,
    ServerShutdown,
    StateMismatch,
    Migration,
    #[serde(other)]
    Other,
}
