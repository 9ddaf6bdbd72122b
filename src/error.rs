//! Errors of this service: their status, error code and text for the client (`docs/protocol.md#errors`), and their
//! cause for the log.
//!
//! How it works:
//! - every failure of a request ends as one [`ApiError`]; its `Display` is the text for the client;
//! - the text never reveals whether a user, device or room exists, nor what an upstream returned;
//! - [`ApiError::cause`] has the details, for the log only;
//! - the one exception is [`ApiError::Refused`]: the response of another homeserver, passed on to the user it is
//!   meant for.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::livekit::room_service::RoomServiceError;
use crate::livekit::token::MintError;
use crate::livekit::webhook::signature::SignatureError;
use crate::matrix::federation::openid::OpenIdError;
use crate::matrix::homeserver::client_api::ClientApiError;
use crate::matrix::homeserver::delayed_events::Refusal;
use crate::matrix::homeserver::{HomeserverError, HomeserverTokenError};
use crate::rate_limit::OverLimit;

/// Failure of a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApiError {
    /// The body isn't a JSON object of the right shape; the text says where.
    #[error("{0}")]
    NotJson(String),
    /// A field is missing, empty or out of range; the text names it.
    #[error("{0}")]
    BadJson(String),
    /// A field or a header has an invalid value; the text names it.
    #[error("{0}")]
    InvalidParam(String),
    /// The identity of the caller is not proven.
    #[error("{}", text_of(.0))]
    Unauthorized(Unauthorized),
    /// The request doesn't come from our homeserver.
    #[error(transparent)]
    NotTheHomeserver(HomeserverTokenError),
    /// Our homeserver left out this header, which names the requesting user or server.
    #[error("{0} is missing")]
    NoRequester(&'static str),
    /// The operator has not allowed users of this homeserver.
    #[error("Users of this homeserver may not use this service")]
    HomeserverNotAllowed(String),
    /// The user, or a server, isn't in the Matrix room.
    #[error("Only members of the room may join its calls, and only on SFUs of its members' homeservers")]
    NotJoined,
    /// A homeserver requests a token for another homeserver's user.
    #[error("user_id is not a user of the requesting homeserver")]
    NotOfOrigin,
    /// Our homeserver didn't report the membership of the Matrix room.
    #[error("The members of the room are not known now")]
    MembershipUnknown(HomeserverError),
    /// Our homeserver didn't report the state of the delayed event.
    #[error("The delayed event could not be looked up")]
    DelayedEventUnknown(HomeserverError),
    /// Another homeserver returned no token, or was not reached.
    #[error("The other homeserver gave no token")]
    NotRelayed(String),
    /// Another homeserver refused, with a reason that is passed on to the client.
    #[error("{errcode}")]
    Refused {
        /// Its HTTP status.
        status: u16,
        /// Its error code.
        errcode: &'static str,
        /// Its response.
        content: Value,
    },
    /// The caller may not delegate leaves.
    #[error("Users of this homeserver may not delegate leaves here")]
    DelegationForbidden,
    /// The homeserver doesn't let this service keep the delayed leave.
    #[error("delay_id can't be used: this service can't restart the delayed event at its homeserver")]
    LeaveRefused(Refusal),
    /// A request of the homeserver's took too long: it won't wait for the response any longer.
    #[error("This took too long")]
    OutOfTime,
    /// The homeserver's client-server API was not found, so its delayed events are out of reach.
    #[error("delay_id can't be used: the client-server API of openid_token.matrix_server_name was not found")]
    NoClientApi(ClientApiError),
    /// The room's object didn't store the command.
    #[error("This could not be stored")]
    NotStored(String),
    /// The body is larger than the limit.
    #[error("The body is too large")]
    TooLarge,
    /// The body broke off while it was read.
    #[error("The body could not be read")]
    Unreadable,
    /// No endpoint has this path.
    #[error("There is nothing at this path")]
    Unrecognized,
    /// The endpoint at this path has other methods: those of this `Allow` header.
    #[error("This method is not allowed here")]
    MethodNotAllowed(&'static str),
    /// The SFU didn't create the room.
    #[error("The room could not be created on the SFU")]
    Sfu(#[from] RoomServiceError),
    /// No token could be signed.
    #[error("No token could be made")]
    Mint(#[from] MintError),
    /// The caller sends too many requests.
    #[error("There are too many requests")]
    RateLimited(#[from] OverLimit),
    /// The room, its user or the homeserver has as many delegations or participants as it may have.
    #[error("There are too many participants")]
    RoomFull,
    /// The webhook was not signed by the SFU.
    #[error("The webhook's signature could not be verified")]
    Webhook(SignatureError),
    /// The state of the rooms is for the holder of the API key.
    #[error("This needs a link that the operator has signed within the last ten minutes")]
    NotTheOperator(SignatureError),
    /// The deployment is misconfigured: the names of the variables.
    #[error("This service is misconfigured; its log says what is wrong")]
    Misconfigured(Vec<&'static str>),
}

/// Reason for not accepting the identity of a caller.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unauthorized {
    /// The OpenID token is not verified.
    #[error(transparent)]
    OpenId(OpenIdError),
    /// The OpenID token is for another user.
    #[error("member.claimed_user_id is not the user of the OpenID token")]
    ClaimedUserDiffers,
}

impl ApiError {
    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotJson(_)
            | Self::BadJson(_)
            | Self::InvalidParam(_)
            | Self::NoClientApi(_)
            | Self::LeaveRefused(_)
            | Self::Unreadable => 400,
            Self::Unauthorized(_)
            | Self::Webhook(_)
            | Self::NotTheOperator(_)
            | Self::NotTheHomeserver(_)
            | Self::NoRequester(_) => 401,
            Self::DelegationForbidden | Self::HomeserverNotAllowed(_) | Self::NotJoined | Self::NotOfOrigin => 403,
            Self::Unrecognized => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::TooLarge => 413,
            Self::RateLimited(_) | Self::RoomFull => 429,
            Self::Sfu(_) | Self::Mint(_) | Self::NotStored(_) => 500,
            Self::MembershipUnknown(_) | Self::NotRelayed(_) | Self::OutOfTime => 502,
            Self::DelayedEventUnknown(_) | Self::Misconfigured(_) => 503,
            Self::Refused { status, .. } => *status,
        }
    }

    /// Returns the Matrix error code.
    pub fn errcode(&self) -> &'static str {
        match self {
            Self::NotJson(_) | Self::Unreadable => "M_NOT_JSON",
            Self::BadJson(_) | Self::NoClientApi(_) | Self::LeaveRefused(_) => "M_BAD_JSON",
            Self::InvalidParam(_) => "M_INVALID_PARAM",
            Self::Unauthorized(_) | Self::Webhook(_) | Self::NotTheOperator(_) | Self::NoRequester(_) => {
                "M_UNAUTHORIZED"
            }
            Self::NotTheHomeserver(HomeserverTokenError::Missing) => "M_MISSING_TOKEN",
            Self::NotTheHomeserver(HomeserverTokenError::Wrong) => "M_UNKNOWN_TOKEN",
            Self::DelegationForbidden | Self::HomeserverNotAllowed(_) | Self::NotJoined | Self::NotOfOrigin => {
                "M_FORBIDDEN"
            }
            Self::Unrecognized | Self::MethodNotAllowed(_) => "M_UNRECOGNIZED",
            Self::TooLarge => "M_TOO_LARGE",
            Self::RateLimited(_) | Self::RoomFull => "M_LIMIT_EXCEEDED",
            Self::Sfu(_)
            | Self::Mint(_)
            | Self::NotStored(_)
            | Self::MembershipUnknown(_)
            | Self::DelayedEventUnknown(_)
            | Self::NotRelayed(_)
            | Self::OutOfTime
            | Self::Misconfigured(_) => "M_UNKNOWN",
            Self::Refused { errcode, .. } => errcode,
        }
    }

    /// Returns the body of the response.
    pub fn body(&self) -> Value {
        if let Self::Refused { content, .. } = self {
            return content.clone();
        }
        let mut body = Map::new();
        body.insert("errcode".to_owned(), self.errcode().into());
        body.insert("error".to_owned(), self.to_string().into());
        if let Self::RateLimited(_) | Self::RoomFull = self {
            body.insert("retry_after_ms".to_owned(), (u64::from(OverLimit::RETRY_AFTER_S) * 1000).into());
        }
        if let Self::Misconfigured(variables) = self {
            body.insert("variables".to_owned(), variables.as_slice().into());
        }
        Value::Object(body)
    }

    /// Returns the details for the log, where there are more than the client gets.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Unauthorized(cause) => Some(cause.to_string()),
            Self::Sfu(cause) => Some(cause.to_string()),
            Self::Mint(cause) => Some(cause.to_string()),
            Self::Webhook(cause) | Self::NotTheOperator(cause) => Some(cause.to_string()),
            Self::NoClientApi(cause) => Some(cause.to_string()),
            Self::LeaveRefused(cause) => Some(cause.to_string()),
            Self::RateLimited(cause) => Some(cause.to_string()),
            Self::HomeserverNotAllowed(server) => Some(format!("{server} is not among LIVEKIT_ALLOWED_HOMESERVERS")),
            Self::NotStored(cause) | Self::NotRelayed(cause) => Some(cause.clone()),
            Self::MembershipUnknown(cause) | Self::DelayedEventUnknown(cause) => Some(cause.to_string()),
            _ => None,
        }
    }
}

/// Returns the text for the client, which has fewer details than the log.
fn text_of(unauthorized: &Unauthorized) -> &'static str {
    match unauthorized {
        Unauthorized::OpenId(_) => "The OpenID token could not be verified",
        Unauthorized::ClaimedUserDiffers => "member.claimed_user_id is not the user of the OpenID token",
    }
}

impl From<OpenIdError> for ApiError {
    fn from(error: OpenIdError) -> Self {
        Self::Unauthorized(Unauthorized::OpenId(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::FetchError;
    use serde_json::json;

    #[test]
    fn the_cause_is_for_the_log_only() {
        let cause = RoomServiceError::NoAnswer(FetchError::Failed("secret upstream".to_owned()));
        let error = ApiError::from(cause);
        assert!(error.cause().unwrap().contains("secret upstream"));
        assert_eq!(error.body(), json!({"errcode": "M_UNKNOWN", "error": "The room could not be created on the SFU"}));
    }

    #[test]
    fn two_errors_have_a_field_more() {
        let body = ApiError::from(OverLimit::Address).body();
        let text = "There are too many requests";
        assert_eq!(body, json!({"errcode": "M_LIMIT_EXCEEDED", "error": text, "retry_after_ms": 10_000}));
        let body = ApiError::Misconfigured(vec!["LIVEKIT_URL"]).body();
        let text = "This service is misconfigured; its log says what is wrong";
        assert_eq!(body, json!({"errcode": "M_UNKNOWN", "error": text, "variables": ["LIVEKIT_URL"]}));
    }

    #[test]
    fn the_claim_is_the_only_reason_that_clients_learn() {
        let body = ApiError::Unauthorized(Unauthorized::ClaimedUserDiffers).body();
        assert_eq!(body["error"], "member.claimed_user_id is not the user of the OpenID token");
        let body = ApiError::from(OpenIdError::Refused).body();
        assert_eq!(body["error"], "The OpenID token could not be verified");
    }
}
