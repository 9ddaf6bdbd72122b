//! The SFU's server API: Twirp's RoomService over protobuf ([LiveKit, "Room service
//! API"](https://docs.livekit.io/reference/other/roomservice-api/)).

use std::fmt;
use std::time::Duration;

use prost::Message;

use super::keys::ApiKey;
use super::sfu_url::SfuUrl;
use super::token::{Grant, MintError};
use crate::clock;
use crate::outbound::{Call, Deadline, Method, Outbound, OutboundError};

/// A client of the RoomService.
pub struct RoomService<'a> {
    /// The way out.
    pub outbound: &'a Outbound,
    /// Where the SFU is.
    pub sfu: &'a SfuUrl,
    /// What signs the requests.
    pub key: &'a ApiKey,
}

impl RoomService<'_> {
    /// Creates the room `name`, or leaves it as it is where it exists. 10 s at most.
    pub async fn create_room(&self, name: &str) -> Result<(), RoomServiceError> {
        let request = CreateRoomRequest {
            name: name.to_owned(),
            empty_timeout: EMPTY_TIMEOUT_S,
            max_participants: 0,
            departure_timeout: DEPARTURE_TIMEOUT_S,
        };
        self.call("CreateRoom", Grant::CreateRoom, &request).await
    }

    async fn call(&self, method: &str, grant: Grant<'_>, request: &impl Message) -> Result<(), RoomServiceError> {
        let token = self.key.mint(None, grant, clock::now_ms(), API_TOKEN_LIFETIME_S)?;
        let deadline = Deadline::after(TIMEOUT);
        let call = Call {
            url: &format!("{}/twirp/livekit.RoomService/{method}", self.sfu.api()),
            method: Method::Post {
                content_type: "application/protobuf",
                authorization: &format!("Bearer {token}"),
                body: &request.encode_to_vec(),
            },
            deadline: &deadline,
        };
        let reply = self.outbound.configured().send(call).await?;
        let status = reply.status();
        if status == 200 {
            reply.discard();
            return Ok(());
        }
        let body = reply.body(MAX_ERROR_BODY).await.unwrap_or_default();
        Err(RoomServiceError::Answer { status, twirp: serde_json::from_slice(&body).ok() })
    }
}

/// Why a call to the SFU failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomServiceError {
    /// There is no token to call it with.
    Token(MintError),
    /// There is no answer.
    NoAnswer(OutboundError),
    /// It isn't the wanted one.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The error, where it is one of the API's own and not a proxy's.
        twirp: Option<TwirpError>,
    },
}

/// An error in Twirp's form.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct TwirpError {
    /// Twirp's error code.
    pub code: String,
    /// What the SFU says of it.
    #[serde(default)]
    pub msg: String,
}

impl From<MintError> for RoomServiceError {
    fn from(error: MintError) -> Self {
        Self::Token(error)
    }
}

impl From<OutboundError> for RoomServiceError {
    fn from(error: OutboundError) -> Self {
        Self::NoAnswer(error)
    }
}

impl fmt::Display for RoomServiceError {
    /// The cause, in words an operator can act on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => error.fmt(f),
            Self::NoAnswer(error) => write!(
                f,
                "the SFU can't be reached ({error}): is LIVEKIT_URL right, does the SFU run, and is it reachable from here?"
            ),
            Self::Answer { status: 401, .. } => f.write_str(
                "the SFU refused the API key (401): LIVEKIT_KEY and LIVEKIT_SECRET must be one of the pairs under keys: in the \
                 SFU's configuration",
            ),
            Self::Answer { status, twirp: Some(error) } => {
                write!(f, "the SFU answered {status} {}: {}", error.code, error.msg)
            }
            Self::Answer { status: 404, .. } => f.write_str(
                "there is no LiveKit server API at LIVEKIT_URL (404): is its path the one that the proxy hands to the SFU?",
            ),
            Self::Answer { status: status @ 502..=504, .. } => write!(
                f,
                "the proxy before the SFU can't reach it ({status}): does the SFU run, and does the proxy use its port?"
            ),
            Self::Answer { status: status @ 300..=399, .. } => write!(
                f,
                "LIVEKIT_URL is redirected ({status}): it must be the SFU's own URL, with wss:// where there is TLS"
            ),
            Self::Answer { status, .. } => {
                write!(f, "what answers at LIVEKIT_URL is no LiveKit SFU, or one that failed ({status})")
            }
        }
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

const EMPTY_TIMEOUT_S: u32 = 300;
const DEPARTURE_TIMEOUT_S: u32 = 20;
/// Long enough for an SFU whose clock is some minutes off.
const API_TOKEN_LIFETIME_S: u32 = 600;
const MAX_ERROR_BODY: usize = 16 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
