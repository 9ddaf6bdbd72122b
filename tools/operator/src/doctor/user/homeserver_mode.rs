//! The user's way in homeserver mode: token and leave by the homeserver, which forwards the requests to the service
//! (`docs/protocol.md#endpoints-of-homeserver-mode`).

use matrixrtc_edge::livekit::keys::ApiKey;
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use serde_json::{Value, json};

use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::user::api::UserApi;
use crate::doctor::user::leave::{Accepted, DelayedLeave, ended};
use crate::doctor::user::participant::SeemingParticipant;
use crate::doctor::user::room::TestRoom;
use crate::doctor::user::sfu::{self, SfuRoom};
use crate::doctor::user::token::{JoinToken, MEMBER, SLOT, join_token};
use crate::doctor::web::{Response, Web};

/// Body of a request for the call in this room, on the SFU at `url`.
pub(crate) fn body(room: &TestRoom, url: &str) -> Value {
    json!({ "url": url, "room_id": room.id(), "slot_id": SLOT, "member_id": MEMBER })
}

/// Requests a LiveKit token for the SFU at `url`, as it is announced.
pub(crate) async fn token(user: UserApi<'_>, room: &TestRoom, url: &str) -> Verdict<JoinToken> {
    let Ok(sfu) = SfuUrl::parse(url) else {
        let outcome = Outcome::problem("the announced `url` isn't an SFU's", "announce LIVEKIT_URL as the `url`");
        return (outcome, None);
    };
    let response = match post(user, "get_token", &body(room, url)).await {
        Ok(response) => response,
        Err(outcome) => return (outcome, None),
    };
    let token = response.json().and_then(|body| join_token(sfu, body["jwt"].as_str()?));
    match (response.status, token) {
        (200, Some(Ok(token))) if token.can_publish => (Outcome::ok(format!("a token for {url}")), Some(token)),
        (200, Some(Ok(token))) => {
            let seen = "the token doesn't let the user publish, although users of this homeserver may";
            (
                Outcome::warning(
                    seen,
                    "let LIVEKIT_HS_SERVER_NAME be the server_name of the homeserver's configuration",
                ),
                Some(token),
            )
        }
        (200, Some(Err(outcome))) => (outcome, None),
        _ => (refusal(user, "get_token", url, &response), None),
    }
}

/// Checks that the SFU accepts such a token, and that the service has made its room: users of this homeserver may
/// always begin calls.
pub(crate) async fn accepts_token(web: &Web, token: &JoinToken) -> Verdict<()> {
    match sfu::accepts_token(web, token).await {
        (_, Some(SfuRoom::Missing)) => {
            let seen = "the SFU accepts the token, but the service hasn't made its room there";
            (Outcome::problem(seen, "let LIVEKIT_URL lead to the same SFU for clients and for the service"), None)
        }
        (outcome, room) => (outcome, room.map(drop)),
    }
}

/// Delegates the leave of `token`'s participant through the homeserver, and waits until the service has sent it. With the
/// SFU's key pair, webhooks have the participant join and leave before.
pub(crate) async fn delegates(
    user: UserApi<'_>,
    service: &ServiceUrl,
    room: &TestRoom,
    url: &str,
    token: &JoinToken,
    key: Option<&ApiKey>,
) -> Verdict<()> {
    let leave = match DelayedLeave::schedule(user, room, "through-homeserver").await {
        Ok(leave) => leave,
        Err(outcome) => return (outcome, None),
    };
    let mut body = body(room, url);
    body["delay_id"] = leave.delay_id().into();
    let outcome = match post(user, "delegate_delayed_leave", &body).await {
        Err(outcome) => outcome,
        Ok(response) if response.status == 200 => {
            let through_a_call = match key {
                Some(key) => {
                    leave.followed_through_a_call(&SeemingParticipant { web: user.web, service, key, token }).await
                }
                None => None,
            };
            match through_a_call {
                Some(outcome) => outcome,
                None => leave.followed(&Accepted::LookedUp, None).await,
            }
        }
        Ok(response) => refusal(user, "delegate_delayed_leave", url, &response),
    };
    ended(&leave, outcome).await
}

/// Sends a request to an endpoint of homeserver mode, in the form that homeservers have.
pub(crate) async fn post(user: UserApi<'_>, endpoint: &str, body: &Value) -> Result<Response, Outcome> {
    user.post(&format!("{PREFIX}/{endpoint}"), body).await.map_err(|failure| user.unreached(&failure))
}

/// Outcome of a request that isn't answered with 200.
pub(crate) fn refusal(user: UserApi<'_>, endpoint: &str, url: &str, response: &Response) -> Outcome {
    match (response.status, response.errcode().as_deref()) {
        (404 | 405, _) => Outcome::problem(
            format!(
                "the homeserver announces {url}, but doesn't forward {endpoint} to the service ({})",
                response.status
            ),
            "Synapse, 1.161 or newer: set msc4512_enabled: true under experimental_features in homeserver.yaml, and \
             io.element.msc4512.proxy_prefix: rtc/livekit in the registration file; others: announce no `url`, which is for homeserver mode",
        ),
        (400, Some("M_INVALID_PARAM")) if endpoint == "get_token" => Outcome::problem(
            format!("the service issues no token for {url} (400), which the homeserver announces"),
            "set LIVEKIT_URL, and the `url` of the homeserver's transport, to the same URL",
        ),
        (400, Some("M_INVALID_PARAM")) => Outcome::problem(
            "the service doesn't find the user's delayed event at the homeserver (400)",
            "let the users' namespace of the registration file cover this user, and restart the homeserver",
        ),
        (401, Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN")) => Outcome::problem(
            "the homeserver forwards the request, but the service refuses its token (401)",
            "set LIVEKIT_HS_TOKEN to the hs_token of the registration file that the homeserver has read",
        ),
        (403, Some(_)) => Outcome::problem(
            "the service finds that the user isn't in the test room (403)",
            "let LIVEKIT_HS_SERVER_NAME be this homeserver, and the users' namespace of the registration file cover this user",
        ),
        (500 | 502..=504, _) => Outcome::problem(
            format!(
                "{endpoint} by the homeserver returned {}: it doesn't reach the service, or that doesn't reach homeserver or SFU",
                response.status
            ),
            "read the logs of the homeserver and of the service; `io.element.msc4512.proxy_url` must be the service's URL",
        ),
        _ => user.unexpected(&format!("POST …/rtc/livekit/{endpoint}"), response),
    }
}

/// Below `/_matrix/client/`, in the unstable form that homeservers have.
const PREFIX: &str = "unstable/io.element.msc4195/rtc/livekit";
