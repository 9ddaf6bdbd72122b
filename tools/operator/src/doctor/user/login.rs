//! The user's session at the homeserver, given by an access token or begun with a password.

use std::fmt;

use matrixrtc_edge::matrix::homeserver::Token;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use matrixrtc_edge::matrix::ids::user_id::UserId;
use serde_json::{Value, json};

use crate::doctor::client_api::{self, ClientApi};
use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::web::{Request, Response, Web};

/// Access token of a user; its `Debug` output doesn't show it.
#[derive(Clone)]
pub struct AccessToken(String);

impl AccessToken {
    /// Parses a token, trimmed. `None` if it can't be sent in a header.
    pub fn parse(text: &str) -> Option<Self> {
        Token::parse(text).map(|_| Self(text.trim().to_owned()))
    }

    /// Value of the `Authorization` header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken")
    }
}

/// Password of a user; its `Debug` output doesn't show it.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Wraps a password as it was typed.
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Proof of a user's identity, as given to the doctor.
#[derive(Clone, Debug)]
pub enum UserLogin {
    /// Access token of a session, which stays.
    AccessToken(AccessToken),
    /// User with a password, by which the doctor begins a session of its own.
    Password {
        /// Localpart, or whole id.
        user: String,
        /// Password.
        password: Password,
    },
}

/// Session of the user.
pub(crate) struct Session {
    /// The user.
    pub(crate) user_id: UserId,
    /// Device of the session.
    pub(crate) device_id: String,
    /// Its access token.
    pub(crate) token: AccessToken,
    /// Whether the doctor has begun it, and has to end it.
    is_own: bool,
}

/// Begins a session, or identifies the given one, and checks that its user belongs to `server_name`.
pub(crate) async fn log_in(
    web: &Web,
    api: &ClientApi,
    server_name: &ServerName,
    login: &UserLogin,
) -> Verdict<Session> {
    let session = match login {
        UserLogin::AccessToken(token) => identify(web, api, token).await,
        UserLogin::Password { user, password } => begin(web, api, user, password).await,
    };
    match session {
        Err(outcome) => (outcome, None),
        Ok(session) if session.user_id.server_name() == server_name.as_str() => {
            let begun = if session.is_own { ", in a session of the doctor's own" } else { "" };
            (Outcome::ok(format!("{}{begun}", session.user_id)), Some(session))
        }
        Ok(session) => {
            let outcome = Outcome::problem(
                format!(
                    "the homeserver at {} has the user {}, who isn't of {server_name}: the service looks for it elsewhere",
                    api.base(),
                    session.user_id
                ),
                format!(
                    "pass --server-name {}, the server_name of the homeserver's configuration; or let {server_name}'s \
                     .well-known/matrix/client name its own homeserver",
                    session.user_id.server_name()
                ),
            );
            if session.is_own {
                log_out(web, api, &session).await;
            }
            (outcome, None)
        }
    }
}

/// Ends a session that the doctor has begun.
pub(crate) async fn log_out(web: &Web, api: &ClientApi, session: &Session) -> Verdict<()> {
    if !session.is_own {
        return (Outcome::ok("not necessary: the session of the given access token stays"), Some(()));
    }
    let authorization = session.token.bearer();
    let headers = [("authorization", authorization.as_str()), JSON];
    let outcome = match web.send(&Request::post(&api.url("v3/logout"), &headers, b"{}")).await {
        Ok(response) if response.status == 200 => Outcome::ok("the doctor's session is ended"),
        ended => {
            let seen = match ended {
                Ok(response) => format!("the homeserver doesn't end the doctor's session ({})", response.status),
                Err(failure) => format!("the doctor's session isn't ended: {failure}"),
            };
            Outcome::warning(seen, format!("in a client, end the session {DEVICE:?} of {}", session.user_id))
        }
    };
    (outcome, Some(()))
}

async fn identify(web: &Web, api: &ClientApi, token: &AccessToken) -> Result<Session, Outcome> {
    let authorization = token.bearer();
    let response = web.send(&Request::get(&api.url("v3/account/whoami"), &[("authorization", &authorization)])).await;
    let response = response.map_err(|failure| client_api::unreached(api.base(), &failure))?;
    match (response.status, response.json().and_then(|body| session(&body, token.clone(), false))) {
        (200, Some(session)) => Ok(session),
        (401, _) => Err(Outcome::problem(
            "the homeserver refuses the access token (401): it has expired, or is that of another homeserver",
            "take a fresh one from a client of this user (Element Web: All settings, Help & About, Access token), or use --login",
        )),
        _ => Err(unlike_a_homeserver(api, "GET …/account/whoami", &response)),
    }
}

async fn begin(web: &Web, api: &ClientApi, user: &str, password: &Password) -> Result<Session, Outcome> {
    let body = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password.0,
        "initial_device_display_name": DEVICE,
    });
    let response = web.send(&Request::post(&api.url("v3/login"), &[JSON], body.to_string().as_bytes())).await;
    let response = response.map_err(|failure| client_api::unreached(api.base(), &failure))?;
    let begun = response.json().and_then(|body| {
        let token = AccessToken::parse(body["access_token"].as_str()?)?;
        session(&body, token, true)
    });
    match (response.status, begun, response.errcode().as_deref()) {
        (200, Some(session), _) => Ok(session),
        (403, _, Some("M_FORBIDDEN")) => Err(Outcome::problem(
            "the homeserver refuses the user, or the password (403)",
            "check both; where users log in through another provider, pass an access token with MATRIX_ACCESS_TOKEN",
        )),
        (429, _, _) => Err(Outcome::problem(
            "the homeserver takes no more logins at the moment (429)",
            "try again later, or pass an access token with MATRIX_ACCESS_TOKEN",
        )),
        (400 | 403 | 404 | 405, _, Some(_)) => Err(Outcome::problem(
            format!("the homeserver has no login with a password ({})", response.status),
            "pass an access token with MATRIX_ACCESS_TOKEN: that of a client of this user (Element Web: All settings, Help & About, \
             Access token)",
        )),
        _ => Err(unlike_a_homeserver(api, "POST …/login", &response)),
    }
}

/// Session of a response to `login` or `whoami`.
fn session(body: &Value, token: AccessToken, is_own: bool) -> Option<Session> {
    let user_id = UserId::parse(body["user_id"].as_str()?).ok()?;
    // A session without a device, as of an application service, gets a name like one.
    let device_id = body["device_id"].as_str().filter(|id| id.len() <= MAX_DEVICE_ID).unwrap_or(DEVICE).to_owned();
    Some(Session { user_id, device_id, token, is_own })
}

/// Outcome of a request to the client-server API whose response isn't a homeserver's.
pub(super) fn unlike_a_homeserver(api: &ClientApi, request: &str, response: &Response) -> Outcome {
    Outcome::problem(
        format!("{request} at {} returned {}, which isn't expected of a homeserver", api.base(), response.status),
        "let the proxy forward everything below /_matrix/client to the homeserver, with every method and the Authorization header; read \
         the homeserver's log",
    )
}

/// Header of a request with a body.
pub(super) const JSON: (&str, &str) = ("content-type", "application/json");
/// Name of the doctor's session, which the user's other clients show.
const DEVICE: &str = "matrixrtc-doctor";
/// Bound of the service's for a device id, in bytes.
const MAX_DEVICE_ID: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let token = AccessToken::parse(" nobody-may-see\n").unwrap();
        assert_eq!(token.bearer(), "Bearer nobody-may-see");
        let password = Password::new(String::from("nobody-may-see"));
        let login = UserLogin::Password { user: String::from("alice"), password };
        assert!(!format!("{token:?} {login:?}").contains("nobody"));
        assert!(AccessToken::parse("two words").is_none() && AccessToken::parse(" ").is_none());
    }

    #[test]
    fn a_session_without_a_device_has_a_name_like_one() {
        let token = AccessToken::parse("token").unwrap();
        let session = session(&json!({ "user_id": "@alice:example.com" }), token.clone(), false).unwrap();
        assert_eq!(session.device_id, DEVICE);
        assert!(super::session(&json!({ "user_id": "alice" }), token, false).is_none());
    }
}
