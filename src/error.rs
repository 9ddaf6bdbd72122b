//! The errors that clients are told (§2.2 of the protocol), with what the log is told besides.

use std::fmt;

use serde_json::{Value, json};

use crate::livekit::room_service::RoomServiceError;
use crate::livekit::token::MintError;
use crate::livekit::webhook::signature::SignatureError;
use crate::matrix::federation::openid::OpenIdError;
use crate::matrix::homeserver::client_api::ClientApiError;
use crate::matrix::homeserver::{HomeserverError, HomeserverTokenError};
use crate::rate_limit::OverLimit;

/// Why a request gets no answer of its own kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The body isn't a JSON object of the right shape; the text says where.
    NotJson(String),
    /// A field is missing, empty or out of range; the text names it.
    BadJson(String),
    /// A field or a header has a value that can't be; the text names it.
    InvalidParam(String),
    /// The caller isn't who they say they are.
    Unauthorized(Unauthorized),
    /// It isn't our homeserver that asks.
    NotTheHomeserver(HomeserverTokenError),
    /// Our homeserver doesn't say who asks: it should, in this header.
    NoRequester(&'static str),
    /// The user, or a server, isn't in the Matrix room.
    NotJoined,
    /// A homeserver speaks for another one's user.
    NotOfOrigin,
    /// Our homeserver doesn't tell who is in the Matrix room.
    MembershipUnknown(HomeserverError),
    /// Our homeserver doesn't tell what is known of the delayed event.
    DelayedEventUnknown(HomeserverError),
    /// Another homeserver gave no token, for its own reasons or because it wasn't reached.
    NotRelayed(String),
    /// Another homeserver refused, in a way that clients are told.
    Refused {
        /// Its status.
        status: u16,
        /// Its error code.
        errcode: &'static str,
        /// Its answer.
        content: Value,
    },
    /// The caller may not delegate leaves.
    DelegationForbidden,
    /// The homeserver's client-server API isn't found, so its delayed events are out of reach.
    NoClientApi(ClientApiError),
    /// The room's object couldn't store what it was told.
    NotStored(String),
    /// The body is larger than what is read.
    TooLarge,
    /// The body broke off while it was read.
    Unreadable,
    /// There is nothing at this path.
    Unrecognized,
    /// There is something at this path, for other methods: those of the `Allow` header.
    MethodNotAllowed(&'static str),
    /// The SFU didn't create the room.
    Sfu(RoomServiceError),
    /// No token could be signed.
    Mint(MintError),
    /// The caller asks too often.
    RateLimited(OverLimit),
    /// The room, its user or the homeserver has as many delegations or participants as it may have.
    RoomFull,
    /// The webhook isn't the SFU's.
    Webhook(SignatureError),
    /// The deployment is misconfigured; with the names of the variables.
    Misconfigured(Vec<&'static str>),
}

/// Why a caller isn't believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// The OpenID token isn't verified.
    OpenId(OpenIdError),
    /// It is somebody else's token.
    ClaimedUserDiffers,
}

impl ApiError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotJson(_) | Self::BadJson(_) | Self::InvalidParam(_) | Self::NoClientApi(_) | Self::Unreadable => {
                400
            }
            Self::Unauthorized(_) | Self::Webhook(_) | Self::NotTheHomeserver(_) | Self::NoRequester(_) => 401,
            Self::DelegationForbidden | Self::NotJoined | Self::NotOfOrigin => 403,
            Self::Unrecognized => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::TooLarge => 413,
            Self::RateLimited(_) | Self::RoomFull => 429,
            Self::Sfu(_) | Self::Mint(_) | Self::NotStored(_) => 500,
            Self::MembershipUnknown(_) | Self::NotRelayed(_) => 502,
            Self::DelayedEventUnknown(_) | Self::Misconfigured(_) => 503,
            Self::Refused { status, .. } => *status,
        }
    }

    /// Matrix's error code.
    pub fn errcode(&self) -> &'static str {
        match self {
            Self::NotJson(_) | Self::Unreadable => "M_NOT_JSON",
            Self::BadJson(_) | Self::NoClientApi(_) => "M_BAD_JSON",
            Self::InvalidParam(_) => "M_INVALID_PARAM",
            Self::Unauthorized(_) | Self::Webhook(_) | Self::NoRequester(_) => "M_UNAUTHORIZED",
            Self::NotTheHomeserver(HomeserverTokenError::Missing) => "M_MISSING_TOKEN",
            Self::NotTheHomeserver(HomeserverTokenError::Wrong) => "M_UNKNOWN_TOKEN",
            Self::DelegationForbidden | Self::NotJoined | Self::NotOfOrigin => "M_FORBIDDEN",
            Self::Unrecognized | Self::MethodNotAllowed(_) => "M_UNRECOGNIZED",
            Self::TooLarge => "M_TOO_LARGE",
            Self::RateLimited(_) | Self::RoomFull => "M_LIMIT_EXCEEDED",
            Self::Sfu(_)
            | Self::Mint(_)
            | Self::NotStored(_)
            | Self::MembershipUnknown(_)
            | Self::DelayedEventUnknown(_)
            | Self::NotRelayed(_)
            | Self::Misconfigured(_) => "M_UNKNOWN",
            Self::Refused { errcode, .. } => errcode,
        }
    }

    /// The body of the answer. It never tells whether a user, device or room exists, nor what an upstream said, but for what
    /// another homeserver has to say to its guest.
    pub fn body(&self) -> Value {
        let error = match self {
            Self::NotJson(text) | Self::BadJson(text) | Self::InvalidParam(text) => text,
            Self::Unreadable => "The body could not be read",
            Self::Unauthorized(Unauthorized::OpenId(_)) => "The OpenID token could not be verified",
            Self::Unauthorized(Unauthorized::ClaimedUserDiffers) => {
                "member.claimed_user_id is not the user of the OpenID token"
            }
            Self::Webhook(_) => "The webhook's signature could not be verified",
            Self::NotTheHomeserver(HomeserverTokenError::Missing) => "The homeserver's token is missing",
            Self::NotTheHomeserver(HomeserverTokenError::Wrong) => "This is not the homeserver's token",
            Self::NoRequester(header) => return self.body_with(&format!("{header} is missing")),
            Self::NotJoined => {
                "Only members of the room may join its calls, and only on SFUs of its members' homeservers"
            }
            Self::NotOfOrigin => "user_id is not a user of the requesting homeserver",
            Self::MembershipUnknown(_) => "The members of the room are not known now",
            Self::DelayedEventUnknown(_) => "The delayed event could not be looked up",
            Self::NotRelayed(_) => "The other homeserver gave no token",
            Self::Refused { content, .. } => return content.clone(),
            Self::DelegationForbidden => "Users of this homeserver may not delegate leaves here",
            Self::NoClientApi(_) => {
                "delay_id can't be used: the client-server API of openid_token.matrix_server_name was not found"
            }
            Self::NotStored(_) => "This could not be stored",
            Self::TooLarge => "The body is too large",
            Self::Unrecognized => "There is nothing at this path",
            Self::MethodNotAllowed(_) => "This method is not allowed here",
            Self::Sfu(_) => "The room could not be created on the SFU",
            Self::Mint(_) => "No token could be made",
            Self::RateLimited(_) | Self::RoomFull => {
                let full = matches!(self, Self::RoomFull);
                return json!({
                    "errcode": self.errcode(),
                    "error": if full { "There are too many participants" } else { "There are too many requests" },
                    "retry_after_ms": u64::from(OverLimit::RETRY_AFTER_S) * 1000,
                });
            }
            Self::Misconfigured(variables) => {
                return json!({
                    "errcode": self.errcode(),
                    "error": "This service is misconfigured; its log says what is wrong",
                    "variables": variables,
                });
            }
        };
        self.body_with(error)
    }

    fn body_with(&self, error: &str) -> Value {
        json!({"errcode": self.errcode(), "error": error})
    }

    /// What the log is told of the cause, where it is told more than the client.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Unauthorized(cause) => Some(cause.to_string()),
            Self::Sfu(cause) => Some(cause.to_string()),
            Self::Mint(cause) => Some(cause.to_string()),
            Self::Webhook(cause) => Some(cause.to_string()),
            Self::NoClientApi(cause) => Some(cause.to_string()),
            Self::RateLimited(cause) => Some(cause.to_string()),
            Self::NotStored(cause) | Self::NotRelayed(cause) => Some(cause.clone()),
            Self::MembershipUnknown(cause) | Self::DelayedEventUnknown(cause) => Some(cause.to_string()),
            _ => None,
        }
    }
}

impl fmt::Display for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenId(error) => error.fmt(f),
            Self::ClaimedUserDiffers => f.write_str("member.claimed_user_id is not the user of the OpenID token"),
        }
    }
}

impl From<OpenIdError> for ApiError {
    fn from(error: OpenIdError) -> Self {
        Self::Unauthorized(Unauthorized::OpenId(error))
    }
}

impl From<RoomServiceError> for ApiError {
    fn from(error: RoomServiceError) -> Self {
        Self::Sfu(error)
    }
}

impl From<OverLimit> for ApiError {
    fn from(error: OverLimit) -> Self {
        Self::RateLimited(error)
    }
}

impl From<MintError> for ApiError {
    fn from(error: MintError) -> Self {
        Self::Mint(error)
    }
}
