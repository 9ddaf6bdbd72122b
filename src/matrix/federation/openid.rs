//! Verification of an OpenID token by the homeserver that issued it ([server-server API,
//! "OpenID"](https://spec.matrix.org/latest/server-server-api/#openid),
//! `docs/protocol.md#verifying-an-openid-token`).
//!
//! How it works:
//! - the homeserver's federation API returns the user of a token at `/openid/userinfo`, within 10 s;
//! - the user must belong to the homeserver of the request: otherwise any homeserver could vouch for any user;
//! - the access token is in the URL of this request, so neither the URL nor the token is ever logged.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::fetch::Deadline;
use crate::matrix::federation::{Federation, FederationError};
use crate::matrix::ids::server_name::{InvalidServerName, ServerName};
use crate::matrix::ids::user_id::UserId;

/// An OpenID token, as issued to a client by its homeserver.
pub struct OpenIdToken {
    /// The homeserver that issued it.
    pub server: ServerName,
    /// The secret part.
    pub access_token: AccessToken,
}

impl OpenIdToken {
    /// Returns the user of the token, as reported by its homeserver within 10 s. The user always belongs to that
    /// homeserver.
    pub async fn verify(&self, federation: &Federation) -> Result<UserId, OpenIdError> {
        let deadline = Deadline::after(TIMEOUT);
        let query: String = url::form_urlencoded::byte_serialize(self.access_token.0.as_bytes()).collect();
        let path = format!("/_matrix/federation/v1/openid/userinfo?access_token={query}");
        let (status, body) = federation.get(&self.server, &path, &deadline).await?;
        if !is_homeserver_s(&body) {
            federation.doubt(&self.server);
            return Err(OpenIdError::NotTheHomeserver(status));
        }
        match status {
            200 => subject(&body, &self.server),
            // Whatever its code: M_UNKNOWN_TOKEN of Synapse and Dendrite, M_UNAUTHORIZED of Conduit and its descendants.
            401 => Err(OpenIdError::Refused),
            403 if federation_is_off(&body) => Err(OpenIdError::FederationOff),
            status => Err(OpenIdError::Status(status)),
        }
    }
}

/// The secret part of an OpenID token; it can't be printed.
pub struct AccessToken(String);

impl AccessToken {
    /// Wraps the token of a request.
    pub fn new(token: String) -> Self {
        Self(token)
    }
}

/// Reason for not accepting a token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenIdError {
    /// `matrix_server_name` is not a server name.
    #[error("matrix_server_name is {0}")]
    ServerName(InvalidServerName),
    /// The homeserver was not reached.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// The homeserver rejects the token: unknown, or expired.
    #[error("the homeserver doesn't know the token (401)")]
    Refused,
    /// The homeserver has its federation API switched off.
    #[error("the homeserver's federation is disabled (403)")]
    FederationOff,
    /// The homeserver returned any other status.
    #[error("the homeserver's userinfo endpoint answered {0}")]
    Status(u16),
    /// The response isn't a homeserver's, but that of a web server or a proxy, with its status.
    #[error(
        "what answers there is no homeserver ({0}, and neither sub nor errcode): do m.server in .well-known/matrix/server \
         and the proxy lead to its federation API?"
    )]
    NotTheHomeserver(u16),
    /// The response isn't `{"sub": "@user:server"}`.
    #[error("the homeserver's userinfo answer is not a JSON object with a valid sub")]
    Malformed,
    /// The homeserver returned a user of another server.
    #[error("the homeserver named a user of another server")]
    ForeignSubject,
}

/// Whether a response is a homeserver's own: a JSON object with `sub` or `errcode`.
pub(crate) fn is_homeserver_s(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    ["sub", "errcode"].iter().any(|name| body.get(*name).is_some())
}

/// Whether an error's text says that the homeserver's federation is disabled. It has no code of its own.
pub fn federation_is_off(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = body["error"].as_str().unwrap_or_default().to_ascii_lowercase();
    text.contains("federation") && text.contains("disabled")
}

pub(crate) fn subject(body: &[u8], server: &ServerName) -> Result<UserId, OpenIdError> {
    #[derive(Deserialize)]
    struct UserInfo {
        sub: String,
    }
    let info: UserInfo = serde_json::from_slice(body).map_err(|_| OpenIdError::Malformed)?;
    let user = UserId::parse(&info.sub).map_err(|_| OpenIdError::Malformed)?;
    match user.server_name() == server.as_str() {
        true => Ok(user),
        false => Err(OpenIdError::ForeignSubject),
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> ServerName {
        ServerName::parse("example.com").unwrap()
    }

    #[test]
    fn the_subject_must_belong_to_the_server() {
        let of = |body: &str| subject(body.as_bytes(), &example()).map(|user| user.to_string());
        assert_eq!(of(r#"{"sub":"@alice:example.com"}"#), Ok("@alice:example.com".into()));
        for sub in ["@alice:evil.com", "@alice:example.com:8448", "@alice:Example.com"] {
            assert_eq!(of(&format!(r#"{{"sub":"{sub}"}}"#)), Err(OpenIdError::ForeignSubject), "{sub}");
        }
        for body in
            ["", "[]", "{}", r#"{"sub":5}"#, r#"{"sub":"alice"}"#, r#"{"sub":"@alice:evil.com:example.com"}"#, "<html>"]
        {
            assert_eq!(of(body), Err(OpenIdError::Malformed), "{body}");
        }
    }

    #[test]
    fn a_homeserver_answers_with_a_subject_or_an_error() {
        for body in [r#"{"sub":"@alice:example.com"}"#, r#"{"errcode":"M_UNKNOWN_TOKEN"}"#, r#"{"sub":5}"#] {
            assert!(is_homeserver_s(body.as_bytes()), "{body}");
        }
        for body in ["", "<html>", "{}", "[]", "null", r#""sub""#, r#"["errcode"]"#, r#"{"error":"no"}"#] {
            assert!(!is_homeserver_s(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn federation_that_is_off_is_recognised_by_its_text() {
        assert!(federation_is_off(br#"{"errcode":"M_FORBIDDEN","error":"Federation is disabled."}"#));
        for body in ["", "{}", r#"{"errcode":"M_FORBIDDEN"}"#, r#"{"error":"Federation denied"}"#, r#"{"error":5}"#] {
            assert!(!federation_is_off(body.as_bytes()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(body: Vec<u8>, sub in "@?\\PC{0,20}:?(example.com)?") {
            let _ = (is_homeserver_s(&body), federation_is_off(&body), subject(&body, &example()));
            let body = serde_json::json!({"sub": sub}).to_string();
            if let Ok(user) = subject(body.as_bytes(), &example()) {
                prop_assert_eq!(user.server_name(), "example.com");
            }
        }
    }
}
