//! Exchange of an OpenID token for a LiveKit token at the service (`docs/protocol.md#http-surface`).
//!
//! # How it works
//!
//! - [`openid_token`] requests an OpenID token of the homeserver, as a client does before it joins a call.
//! - [`exchange`] sends it to `/get_token` or `/sfu/get`, with the headers of a client's page.
//! - [`JoinToken`] is the response: the SFU's URL, and a LiveKit token whose claims are read without a key.

use std::fmt;

use jwt_compact::UntrustedToken;
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::doctor::proxy::{unexpected, unreached};
use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::sfu::now_ms;
use crate::doctor::user::api::UserApi;
use crate::doctor::user::leave::{Accepted, DelayedLeave, ended};
use crate::doctor::user::login::{JSON, Session};
use crate::doctor::user::room::TestRoom;
use crate::doctor::web::{ORIGIN, Request, Response, Web, is_loopback};

/// OpenID token, as clients pass it on.
pub(crate) struct OpenIdToken(Value);

/// Endpoint of the service that exchanges OpenID tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/get_token`.
    GetToken,
    /// `/sfu/get`, the legacy form.
    SfuGet,
}

/// Response of a token endpoint.
pub(crate) struct JoinToken {
    /// URL of the SFU.
    pub(crate) sfu: SfuUrl,
    /// The LiveKit token.
    pub(crate) jwt: Jwt,
    /// Name of the room on the SFU.
    pub(crate) room: String,
    /// The participant's identity.
    pub(crate) identity: String,
    /// Whether the user may publish.
    pub(crate) can_publish: bool,
}

/// LiveKit token; it has no `Display`.
pub(crate) struct Jwt(String);

impl Jwt {
    /// Text of the token, for a request to the SFU.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jwt")
    }
}

/// Requests an OpenID token of the homeserver.
pub(crate) async fn openid_token(user: UserApi<'_>, server_name: &ServerName) -> Verdict<OpenIdToken> {
    let path = format!("v3/user/{}/openid/request_token", user.escaped_user_id());
    let response = match user.post(&path, &json!({})).await {
        Ok(response) => response,
        Err(failure) => return (user.unreached(&failure), None),
    };
    let token = response.json().filter(|body| body["access_token"].is_string());
    match (response.status, token) {
        (200, Some(token)) if token["matrix_server_name"] == server_name.as_str() => {
            (Outcome::ok(format!("issued, to be verified by {server_name}")), Some(OpenIdToken(token)))
        }
        (200, Some(token)) => {
            let named: String =
                token["matrix_server_name"].as_str().unwrap_or_default().chars().take(MAX_SHOWN).collect();
            let outcome = Outcome::problem(
                format!(
                    "the token names {named:?} as its homeserver, not {server_name}: the service verifies it there"
                ),
                "set the server_name of the homeserver's configuration to the part of its users' ids after the colon",
            );
            (outcome, None)
        }
        (404 | 405, _) => {
            let seen =
                format!("the homeserver issues no OpenID tokens ({}): clients report OPEN_ID_ERROR", response.status);
            let change = "let the proxy forward everything below /_matrix/client to the homeserver; with Synapse's workers, route \
                          …/openid/request_token to one that has it";
            (Outcome::problem(seen, change), None)
        }
        _ => (user.unexpected("POST …/openid/request_token", &response), None),
    }
}

impl Endpoint {
    /// Path below the service's URL.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::GetToken => "/get_token",
            Self::SfuGet => "/sfu/get",
        }
    }

    /// Body of a client's request for the call in this room.
    pub(crate) fn body(self, room: &TestRoom, session: &Session, token: &OpenIdToken) -> Value {
        match self {
            Self::GetToken => json!({
                "room_id": room.id(),
                "slot_id": SLOT,
                "openid_token": token.0,
                "member": {
                    "id": MEMBER,
                    "claimed_user_id": session.user_id.as_str(),
                    "claimed_device_id": session.device_id,
                },
            }),
            Self::SfuGet => json!({ "room": room.id(), "openid_token": token.0, "device_id": session.device_id }),
        }
    }
}

/// Sends a client's request to the service. `None` where the body has a secret that needs TLS, and there is none.
pub(crate) async fn post(web: &Web, service: &ServiceUrl, path: &str, body: &Value) -> Result<Response, Outcome> {
    if service.url().scheme() == "http" && !is_loopback(service.url()) {
        return Err(Outcome::skipped("the OpenID token isn't sent without TLS"));
    }
    let (url, body) = (service.at(path), body.to_string());
    let request = Request::post(&url, &[("origin", ORIGIN), JSON], body.as_bytes());
    web.send(&request).await.map_err(|failure| unreached(&failure))
}

/// Exchanges the OpenID token for a LiveKit token.
pub(crate) async fn exchange(
    web: &Web,
    service: &ServiceUrl,
    sfu: Option<&SfuUrl>,
    endpoint: Endpoint,
    body: &Value,
) -> Verdict<JoinToken> {
    let response = match post(web, service, endpoint.path(), body).await {
        Ok(response) => response,
        Err(outcome) => return (outcome, None),
    };
    match (response.status, response.errcode().as_deref()) {
        (200, None) => read(service, sfu, endpoint, &response),
        (status, Some(_)) => (refusal(service, endpoint.path(), status, &response), None),
        _ => (unexpected(service, &format!("POST {}", service.at(endpoint.path())), &response), None),
    }
}

/// Delegates a leave through the service, and waits until the service has restarted and sent it.
pub(crate) async fn delegates(
    user: UserApi<'_>,
    service: &ServiceUrl,
    room: &TestRoom,
    token: &OpenIdToken,
    restricted: bool,
) -> Verdict<()> {
    let leave = match DelayedLeave::schedule(user, room, "through-service").await {
        Ok(leave) => leave,
        Err(outcome) => return (outcome, None),
    };
    let scheduled = leave.running_since().await;
    let mut body = Endpoint::GetToken.body(room, user.session, token);
    leave.add_to(&mut body);
    let outcome = match post(user.web, service, DELEGATE, &body).await {
        Err(outcome) => outcome,
        Ok(response) => match (response.status, response.errcode().as_deref()) {
            (200, None) => leave.followed(&Accepted::Restarted, scheduled).await,
            (400, Some("M_BAD_JSON")) => Outcome::problem(
                "the service refuses to take the user's leave over (400): it finds no client-server API of the homeserver, or that one                  refuses `restart`",
                "read the service's log: \"client-server API not found\", or \"delayed leave not taken over\", has a cause",
            ),
            (403, Some(_)) if restricted => Outcome::warning(
                "the service takes no leaves over from this restricted user, whose room isn't on the SFU (403)",
                "see `user: access`; LIVEKIT_RESTRICTED_CAN_DELEGATE allows it for rooms that exist",
            ),
            (status, Some(_)) => refusal(service, DELEGATE, status, &response),
            _ => unexpected(service, &format!("POST {}", service.at(DELEGATE)), &response),
        },
    };
    ended(&leave, outcome).await
}

/// Outcome of a request with a valid OpenID token that the service refuses.
pub(crate) fn refusal(service: &ServiceUrl, path: &str, status: u16, response: &Response) -> Outcome {
    match status {
        401 => Outcome::problem(
            format!(
                "POST {path}: the service can't verify the user's OpenID token (401): clients report OPEN_ID_ERROR"
            ),
            "read `cause` of \"OpenID token verification failed\" in the service's log: it has to reach the homeserver's federation \
             API, which must know the token",
        ),
        403 => Outcome::problem(
            format!("POST {path}: the service gives this user no token (403)"),
            "add the homeserver to LIVEKIT_ALLOWED_HOMESERVERS; if LIVEKIT_REQUIRE_MEMBERSHIP is on, the service's homeserver must know \
             the room",
        ),
        429 => Outcome::warning("the service takes no more requests at the moment (429)", "try again in a minute"),
        500 => Outcome::problem(
            format!("POST {path}: the service fails to make the room on the SFU, or to sign the token (500)"),
            "read the service's log: \"SFU room creation failed\" has a cause; LIVEKIT_URL, LIVEKIT_KEY and LIVEKIT_SECRET must be the \
             SFU's",
        ),
        502 => Outcome::problem(
            format!("POST {path}: the service can't find out whether the user is in the Matrix room (502)"),
            "read the service's log; in the registration file, set `io.element.msc4502.scopes`, and let the service reach the homeserver",
        ),
        _ => unexpected(service, &format!("POST {}", service.at(path)), response),
    }
}

/// Reads the response with a token.
fn read(service: &ServiceUrl, sfu: Option<&SfuUrl>, endpoint: Endpoint, response: &Response) -> Verdict<JoinToken> {
    let unreadable = || {
        let seen = format!("POST {} returned 200, but no URL with a token", service.at(endpoint.path()));
        (Outcome::problem(seen, "route the URL to this service"), None)
    };
    let Some(body) = response.json() else { return unreadable() };
    let (Some(url), Some(jwt)) = (body["url"].as_str(), body["jwt"].as_str()) else { return unreadable() };
    let Ok(url) = SfuUrl::parse(url) else { return unreadable() };
    // The API's URL is without the slashes at the end, which make no difference to clients.
    if let Some(expected) = sfu.filter(|expected| expected.api() != url.api()) {
        let shown: String = url.client().chars().take(MAX_SHOWN).collect();
        let seen = format!("clients get {shown} as the SFU's URL, not {}, as given to the doctor", expected.client());
        let change =
            "set the service's LIVEKIT_URL, or the doctor's --sfu-url, to the one that is right, and deploy again";
        return (Outcome::problem(seen, change), None);
    }
    let Some(token) = join_token(url, jwt) else { return unreadable() };
    match token {
        Ok(token) => (Outcome::ok(format!("a token for {}", token.sfu.client())), Some(token)),
        Err(outcome) => (outcome, None),
    }
}

/// Reads the claims of a LiveKit token. `None` if it isn't one; `Err` if its time isn't now.
pub(crate) fn join_token(sfu: SfuUrl, jwt: &str) -> Option<Result<JoinToken, Outcome>> {
    let untrusted = UntrustedToken::new(jwt).ok()?;
    let claims = untrusted.deserialize_claims_unchecked::<Grants>().ok()?;
    let now = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
    let begins = claims.not_before.map(|at| at.timestamp());
    let ends = claims.expiration.map(|at| at.timestamp());
    if begins.is_some_and(|at| at > now.saturating_add(LEEWAY_S)) || ends.is_some_and(|at| at < now) {
        return Some(Err(Outcome::problem(
            "the token isn't valid now: the service's clock differs from this machine's",
            "set the clocks of the service's machine and of this one (NTP)",
        )));
    }
    let Grants { identity, video: VideoGrant { room, can_publish } } = claims.custom;
    Some(Ok(JoinToken { sfu, jwt: Jwt(jwt.to_owned()), room, identity, can_publish }))
}

/// Claims of a LiveKit token that concern the user.
#[derive(Deserialize)]
struct Grants {
    #[serde(rename = "sub")]
    identity: String,
    video: VideoGrant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VideoGrant {
    room: String,
    /// LiveKit allows what isn't mentioned.
    #[serde(default = "allowed")]
    can_publish: bool,
}

fn allowed() -> bool {
    true
}

const DELEGATE: &str = "/delegate_delayed_leave";
/// Slot of a room's call.
pub(crate) const SLOT: &str = "m.call#ROOM";
/// Id of the user's membership in the test's call.
pub(crate) const MEMBER: &str = "matrixrtc-doctor";
/// LiveKit's leeway for different clocks.
const LEEWAY_S: i64 = 60;
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
    use hyper::header::HeaderMap;
    use matrixrtc_edge::livekit::keys::ApiKey;
    use matrixrtc_edge::livekit::token::Grant;
    use proptest::prelude::*;

    fn service() -> ServiceUrl {
        ServiceUrl::parse("https://rtc.example.com").unwrap()
    }

    fn jwt(can_publish: bool, now_ms: u64) -> String {
        let grant = Grant::Join { room: "room", can_publish, can_update_own_metadata: false };
        ApiKey::new("key", "secret").mint(Some("alice"), grant, now_ms, 600).unwrap()
    }

    fn judged(body: &Value, sfu: Option<&str>) -> Verdict<JoinToken> {
        let response = Response { status: 200, headers: HeaderMap::new(), body: body.to_string().into_bytes() };
        let sfu = sfu.map(|url| SfuUrl::parse(url).unwrap());
        read(&service(), sfu.as_ref(), Endpoint::SfuGet, &response)
    }

    #[test]
    fn the_grants_of_a_token_are_read_without_its_key() {
        for can_publish in [true, false] {
            let body = json!({ "url": "wss://sfu.example.com", "jwt": jwt(can_publish, now_ms()) });
            let (outcome, token) = judged(&body, Some("wss://sfu.example.com"));
            assert_eq!((outcome.status, token.unwrap().can_publish), (Status::Ok, can_publish), "{:?}", outcome.seen);
        }
    }

    #[test]
    fn a_slash_at_the_end_makes_no_other_sfu() {
        for (url, given) in [
            ("wss://sfu.example.com/", "wss://sfu.example.com"),
            ("wss://sfu.example.com", "wss://sfu.example.com/"),
            ("wss://sfu.example.com/livekit/sfu//", "wss://SFU.example.com:443/livekit/sfu"),
        ] {
            let (outcome, token) = judged(&json!({ "url": url, "jwt": jwt(true, now_ms()) }), Some(given));
            assert!(outcome.status == Status::Ok && token.is_some(), "{outcome:?}");
        }
    }

    #[test]
    fn a_token_of_another_time_or_sfu_is_a_problem_and_never_shown() {
        let current = jwt(true, now_ms());
        for (jwt, sfu, cause) in [
            (jwt(true, now_ms() - 3_600_000), None, "clock differs"),
            (jwt(true, now_ms() + 3_600_000), None, "clock differs"),
            (current, Some("wss://other.example.com"), "not wss://other.example.com"),
            (String::from("eyJ.nobody.sees"), None, "no URL with a token"),
        ] {
            let (outcome, token) = judged(&json!({ "url": "wss://sfu.example.com", "jwt": jwt }), sfu);
            assert!(
                token.is_none() && outcome.status == Status::Problem && outcome.seen.contains(cause),
                "{outcome:?}"
            );
            assert!(!format!("{outcome:?}").contains("eyJ"));
        }
    }

    proptest! {
        #[test]
        fn any_response_is_read_without_panic(body: Vec<u8>, url in "\\PC{0,30}", jwt in "\\PC{0,60}") {
            let response = Response { status: 200, headers: HeaderMap::new(), body };
            let _ = read(&service(), None, Endpoint::GetToken, &response);
            let _ = judged(&json!({ "url": url, "jwt": jwt }), None);
        }
    }
}
