//! The server API of the SFU: Twirp's RoomService over protobuf ([LiveKit, "Room service
//! API"](https://docs.livekit.io/reference/other/roomservice-api/), `docs/protocol.md#livekits-server-api`).
//!
//! How it works:
//! - each method is a POST of an encoded message to `/twirp/livekit.RoomService/{method}` below the configured URL,
//!   with a token that has just the grant for it;
//! - 200 with another content type than protobuf is an error: some web servers return a page for every path;
//! - Twirp's `not_found` is a result, not an error: no such participant, or no such room;
//! - every other error is worded for the operator, with the setting to look at.

use std::fmt;
use std::time::Duration;

use delegated_leaves::{Identity, Participant, ParticipantSid, ParticipantState, RemovalAnswer, RoomName, Timestamp};
use prost::Message;
use thiserror::Error;

use crate::clock;
use crate::fetch::{Deadline, FetchError, FetchRequest, FetchResponse, Fetchers, MAX_ERROR_BODY, Method};
use crate::livekit::keys::ApiKey;
use crate::livekit::sfu_url::SfuUrl;
use crate::livekit::token::{Grant, MintError};

/// Client of the RoomService. Requests are aborted after 10 s.
pub struct RoomService<'a> {
    /// Sends the requests.
    pub fetchers: &'a Fetchers,
    /// The URL of the SFU.
    pub sfu: &'a SfuUrl,
    /// The key that signs the requests.
    pub key: &'a ApiKey,
    /// Settings of the rooms that it creates.
    pub rooms: RoomSettings,
}

/// Settings of a room, which the SFU takes when it is created. For each, 0 is the SFU's own setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomSettings {
    /// Time in s after which a room that was never joined is closed.
    pub empty_timeout_s: u32,
    /// Time in s after which a room that every participant has left is closed.
    pub departure_timeout_s: u32,
    /// Participants at a time.
    pub max_participants: u32,
}

impl RoomService<'_> {
    /// Creates the room `name`, or leaves an existing one unchanged.
    pub async fn create_room(&self, name: &RoomName) -> Result<(), RoomServiceError> {
        let request = CreateRoomRequest {
            name: name.to_string(),
            empty_timeout: self.rooms.empty_timeout_s,
            max_participants: self.rooms.max_participants,
            departure_timeout: self.rooms.departure_timeout_s,
        };
        self.call("CreateRoom", Grant::CreateRoom, request.encode_to_vec()).await?;
        Ok(())
    }

    /// Whether the SFU has the room `name`.
    pub async fn has_room(&self, name: &RoomName) -> Result<bool, RoomServiceError> {
        let request = ListRoomsRequest { name: name.to_string() };
        let response = self.call("ListRooms", Grant::ListRooms, request.encode_to_vec()).await?;
        // A list without rooms has no bytes, and one with rooms has this one.
        Ok(!response.body(MAX_ANSWER).await?.is_empty())
    }

    /// Lists the rooms of the SFU by their names.
    pub async fn room_names(&self) -> Result<Vec<RoomName>, RoomServiceError> {
        let request = ListRoomsRequest { name: String::new() };
        let response = self.call("ListRooms", Grant::ListRooms, request.encode_to_vec()).await?;
        let response: ListRoomsResponse = decode(&response.body(MAX_ANSWER).await?)?;
        Ok(response.rooms.into_iter().map(|room| RoomName::new(room.name)).collect())
    }

    /// Queries one participant of a room. `None` where the SFU reports that it has no such participant.
    pub async fn participant(
        &self,
        room: &RoomName,
        identity: &Identity,
    ) -> Result<Option<Participant>, RoomServiceError> {
        let request =
            RoomParticipantIdentity { room: room.to_string(), identity: identity.to_string(), revoke_token_ts: 0 };
        let response = self.query("GetParticipant", room, request.encode_to_vec()).await?;
        Ok(response.map(|response| decode::<ParticipantInfo>(&response)).transpose()?.map(Participant::from))
    }

    /// Lists the participants of a room; none where the SFU reports that it has no such room.
    pub async fn participants(&self, room: &RoomName) -> Result<Vec<Participant>, RoomServiceError> {
        let request = ListParticipantsRequest { room: room.to_string() };
        let response = self.query("ListParticipants", room, request.encode_to_vec()).await?.unwrap_or_default();
        let response: ListParticipantsResponse = decode(&response)?;
        Ok(response.participants.into_iter().map(Participant::from).collect())
    }

    /// Ends the connections of one participant of a room. Where the SFU knows how, tokens issued until now admit it no
    /// more; otherwise it can join again with one that is still valid.
    pub async fn remove_participant(
        &self,
        room: &RoomName,
        identity: &Identity,
    ) -> Result<RemovalAnswer, RoomServiceError> {
        let request = RoomParticipantIdentity {
            room: room.to_string(),
            identity: identity.to_string(),
            revoke_token_ts: i64::try_from(clock::now_ms() / 1000).unwrap_or_default(),
        };
        let grant = Grant::Administer { room: room.as_str() };
        self.remove("RemoveParticipant", grant, request.encode_to_vec()).await
    }

    /// Closes a room, which ends all connections to it.
    pub async fn delete_room(&self, room: &RoomName) -> Result<RemovalAnswer, RoomServiceError> {
        let request = DeleteRoomRequest { room: room.to_string() };
        self.remove("DeleteRoom", Grant::CreateRoom, request.encode_to_vec()).await
    }

    /// Sends a query about a room; `None` for `not_found`.
    async fn query(
        &self,
        method: &str,
        room: &RoomName,
        request: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, RoomServiceError> {
        match self.call(method, Grant::Administer { room: room.as_str() }, request).await {
            Ok(response) => Ok(Some(response.body(MAX_ANSWER).await?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn remove(
        &self,
        method: &str,
        grant: Grant<'_>,
        request: Vec<u8>,
    ) -> Result<RemovalAnswer, RoomServiceError> {
        match self.call(method, grant, request).await {
            Ok(_) => Ok(RemovalAnswer::Done),
            Err(error) if error.is_not_found() => Ok(RemovalAnswer::NotThere),
            Err(error) => Err(error),
        }
    }

    /// Takes and returns bytes: a function generic over the messages would be compiled once for each of them.
    async fn call(&self, method: &str, grant: Grant<'_>, request: Vec<u8>) -> Result<FetchResponse, RoomServiceError> {
        let token = self.key.api_token(grant, clock::now_ms())?;
        let deadline = Deadline::after(TIMEOUT);
        let call = FetchRequest {
            url: &format!("{}/twirp/livekit.RoomService/{method}", self.sfu.api()),
            method: Method::Post {
                content_type: PROTOBUF,
                authorization: Some(&format!("Bearer {token}")),
                body: &request,
            },
            deadline: &deadline,
        };
        let response = self.fetchers.configured().send(call).await?;
        let status = response.status();
        if status == 200 {
            // A page that a web server returns for every path is no response of the API.
            return match response.header("Content-Type") {
                Some(kind) if kind.starts_with(PROTOBUF) => Ok(response),
                _ => Err(RoomServiceError::Unreadable),
            };
        }
        let body = response.body(MAX_ERROR_BODY).await.unwrap_or_default();
        Err(RoomServiceError::Answer { status, twirp: serde_json::from_slice(&body).ok() })
    }
}

pub(crate) fn decode<T: Message + Default>(response: &[u8]) -> Result<T, RoomServiceError> {
    T::decode(response).map_err(|_| RoomServiceError::Unreadable)
}

/// Cause of a failed call to the SFU, in words an operator can act on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoomServiceError {
    /// No token could be signed for the request.
    #[error(transparent)]
    Token(#[from] MintError),
    /// No response.
    #[error("the SFU can't be reached ({0}): is LIVEKIT_URL right, does the SFU run, and is it reachable from here?")]
    NoAnswer(#[from] FetchError),
    /// A response that is not the expected protobuf message.
    #[error("what answers at LIVEKIT_URL is no LiveKit SFU (200, but no protobuf): is its path right?")]
    Unreadable,
    /// A response with another status than 200.
    #[error(fmt = explain)]
    Answer {
        /// The HTTP status.
        status: u16,
        /// The error, where it came from the API and not from a proxy.
        twirp: Option<TwirpError>,
    },
}

/// An error in Twirp's form.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct TwirpError {
    /// Twirp's error code.
    pub code: String,
    /// Text of the SFU.
    #[serde(default)]
    pub msg: String,
}

impl RoomServiceError {
    /// Whether the SFU reports that it has no such participant, or no such room.
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Answer { twirp: Some(error), .. } if error.code == "not_found")
    }
}

/// Writes the cause of a status other than 200, in words an operator can act on.
fn explain(status: &u16, twirp: &Option<TwirpError>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (status, twirp) {
        (401, _) => f.write_str(
            "the SFU refused the API key (401): LIVEKIT_KEY and LIVEKIT_SECRET must be one of the pairs under keys: in the \
             SFU's configuration",
        ),
        (_, Some(error)) if error.code != "bad_route" => {
            write!(f, "the SFU answered {status} {}: {}", error.code, error.msg)
        }
        (404, _) => f.write_str(
            "there is no LiveKit server API at LIVEKIT_URL (404): is its path the one that the proxy hands to the SFU?",
        ),
        (502..=504, _) => write!(
            f,
            "the proxy before the SFU can't reach it ({status}): does the SFU run, and does the proxy use its port?"
        ),
        (300..=399, _) => write!(
            f,
            "LIVEKIT_URL is redirected ({status}): it must be the SFU's own URL, with wss:// where there is TLS"
        ),
        _ => write!(f, "what answers at LIVEKIT_URL is no LiveKit SFU, or one that failed ({status})"),
    }
}

#[derive(Clone, PartialEq, Message)]
struct CreateRoomRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    empty_timeout: u32,
    #[prost(uint32, tag = "3")]
    max_participants: u32,
    #[prost(uint32, tag = "10")]
    departure_timeout: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RoomParticipantIdentity {
    #[prost(string, tag = "1")]
    room: String,
    #[prost(string, tag = "2")]
    identity: String,
    /// Of RemoveParticipant only.
    #[prost(int64, tag = "3")]
    revoke_token_ts: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ListRoomsRequest {
    /// On the wire a list of one name, or an empty one: all rooms.
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListRoomsResponse {
    #[prost(message, repeated, tag = "1")]
    rooms: Vec<RoomInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct RoomInfo {
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteRoomRequest {
    #[prost(string, tag = "1")]
    room: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListParticipantsRequest {
    #[prost(string, tag = "1")]
    room: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListParticipantsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) participants: Vec<ParticipantInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ParticipantInfo {
    #[prost(string, tag = "1")]
    sid: String,
    #[prost(string, tag = "2")]
    identity: String,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "6")]
    joined_at: i64,
    #[prost(int64, tag = "17")]
    joined_at_ms: i64,
}

impl From<ParticipantInfo> for Participant {
    fn from(info: ParticipantInfo) -> Self {
        let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
        let ms = positive(info.joined_at_ms).map(Timestamp::from_millis);
        Self {
            identity: Identity::new(info.identity),
            sid: ParticipantSid::new(info.sid),
            state: ParticipantState::from_number(info.state),
            joined_at: ms.or_else(|| positive(info.joined_at).map(Timestamp::from_secs)),
        }
    }
}

const PROTOBUF: &str = "application/protobuf";
/// Limit for a list of participants in bytes: room for a thousand of them with their metadata.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_participant_is_read_from_its_fields() {
        let bytes =
            ParticipantInfo { sid: "PA_1".into(), identity: "i".into(), state: 2, joined_at: 7, joined_at_ms: 7_123 };
        let expected = Participant {
            identity: Identity::new("i"),
            sid: ParticipantSid::new("PA_1"),
            state: ParticipantState::Active,
            joined_at: Some(Timestamp::from_millis(7_123)),
        };
        let read = ParticipantInfo::decode(bytes.encode_to_vec().as_slice()).unwrap();
        assert_eq!(Participant::from(read), expected);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(body: Vec<u8>) {
            if let Ok(response) = ListParticipantsResponse::decode(body.as_slice()) {
                response.participants.into_iter().map(Participant::from).for_each(drop);
            }
        }
    }
}
