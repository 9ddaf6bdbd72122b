//! Homeserver mode (MSC4195): requests of the service to the homeserver and of the homeserver to the service
//! (`docs/protocol.md#homeserver-mode`).
//!
//! # How it works
//!
//! - The registration file has two tokens. The `as_token` is sent to the homeserver's client-server API only, the
//!   `hs_token` to the service only.
//! - [`ping`] is the homeserver's request to the service, sent by the doctor: with the `hs_token`, and with a wrong
//!   one.
//! - [`Homeserver`] has the service's requests to the homeserver: its own user, the members of a room, the announced
//!   SFUs.
//! - [`Homeserver::forwards_requests`] covers both: a request to the homeserver, which forwards it to the service.

use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::homeserver::client_api::escaped;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use matrixrtc_edge::matrix::ids::user_id::UserId;
use serde_json::Value;

use crate::doctor::announcement::is_livekit;
use crate::doctor::client_api::{self, ClientApi};
use crate::doctor::credentials::RegistrationToken;
use crate::doctor::proxy::{unexpected, unreached};
use crate::doctor::report::{Outcome, Verdict, unless_problem};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::settings::Settings;
use crate::doctor::transports::announced;
use crate::doctor::web::{Failure, Request, Response, Web, is_loopback};

/// Checks that the service accepts the `hs_token` and refuses another. Fails where it isn't in homeserver mode.
pub(crate) async fn ping(
    web: &Web,
    service: &ServiceUrl,
    settings: &Settings,
    token: &RegistrationToken,
) -> Verdict<()> {
    if service.url().scheme() == "http" && !is_loopback(service.url()) {
        return (Outcome::skipped("the hs_token isn't sent without TLS"), Some(()));
    }
    let request = format!("POST {}", service.at(PING));
    let response = match post_ping(web, service, &token.bearer()).await {
        Ok(response) => response,
        Err(failure) => return (unreached(&failure), None),
    };
    match (response.status, response.errcode().as_deref()) {
        (200, None) if response.json().is_some() => {}
        (401, Some("M_UNKNOWN_TOKEN")) => {
            let seen = "the service refuses the hs_token (401): it isn't the service's LIVEKIT_HS_TOKEN";
            let change = settings.secret("LIVEKIT_HS_TOKEN", "the hs_token of the registration file");
            return (Outcome::problem(seen, change), Some(()));
        }
        (404, Some(_)) => {
            let seen = "the service isn't in homeserver mode (404)";
            let change = "set LIVEKIT_HS_SERVER_NAME, LIVEKIT_AS_TOKEN and LIVEKIT_HS_TOKEN";
            return (Outcome::problem(seen, change), None);
        }
        _ => return (unexpected(service, &request, &response), None),
    }
    let outcome = match post_ping(web, service, &format!("Bearer {MADE_UP}")).await {
        Ok(response) if (response.status, response.errcode().as_deref()) == (401, Some("M_UNKNOWN_TOKEN")) => {
            Outcome::ok("accepted with the hs_token, refused with another")
        }
        Ok(response) if response.status < 300 => Outcome::problem(
            format!("{request} with a wrong token returned {}: the response isn't the service's", response.status),
            "route the URL to this service, and let nothing in front of it respond in its place or insert a token",
        ),
        Ok(response) => unexpected(service, &format!("{request} with a wrong token"), &response),
        Err(failure) => unreached(&failure),
    };
    (outcome, Some(()))
}

/// The homeserver's client-server API, with the credentials of the application service.
pub(crate) struct Homeserver<'a> {
    /// HTTP client.
    pub(crate) web: &'a Web,
    /// Its client-server API.
    pub(crate) api: &'a ClientApi,
    /// Its expected name.
    pub(crate) server_name: &'a ServerName,
    /// Token by which it authenticates the service.
    pub(crate) as_token: &'a RegistrationToken,
}

impl Homeserver<'_> {
    /// Checks that the homeserver has read the registration file, and that its name is the expected one.
    pub(crate) async fn accepts_as_token(&self) -> Verdict<()> {
        let response = match self.get("v3/account/whoami").await {
            Ok(response) => response,
            Err(failure) => return (self.unreached(&failure), None),
        };
        let user = response.json().and_then(|body| UserId::parse(body["user_id"].as_str()?).ok());
        unless_problem(match (response.status, user) {
            (200, Some(user)) if user.server_name() == self.server_name.as_str() => {
                Outcome::ok(format!("the service's user is {user}"))
            }
            (200, Some(user)) => Outcome::problem(
                format!(
                    "the homeserver at {} is {}, not {}: the service would assign its users to another server",
                    self.api.base(),
                    user.server_name(),
                    self.server_name
                ),
                "set LIVEKIT_HS_SERVER_NAME to the server_name of homeserver.yaml, and let that name's .well-known/matrix/client name \
                 this homeserver",
            ),
            (401, _) => Outcome::problem(
                "the homeserver refuses the as_token (401): it hasn't read the registration file, or LIVEKIT_AS_TOKEN isn't the file's",
                "list the registration file under app_service_config_files in homeserver.yaml and restart the homeserver with all its \
                 workers; set LIVEKIT_AS_TOKEN to the file's as_token",
            ),
            _ => self.unlike_a_homeserver("GET …/account/whoami", &response),
        })
    }

    /// Checks that the homeserver reports to the service whether a user is joined to a room (MSC4502).
    pub(crate) async fn reports_is_joined(&self) -> Verdict<()> {
        let room = format!("!{MADE_UP}:{}", self.server_name);
        let user = format!("@{MADE_UP}:{}", self.server_name);
        let rooms = self.api.is_joined_rooms_path();
        let path = format!("{rooms}/{}/is_joined?mxid={}", escaped(&room), escaped(&user));
        let outcome = match self.get(&path).await {
            Err(failure) => self.unreached(&failure),
            Ok(response) => match (response.status, response.json()) {
                (200, Some(body)) if body["joined"] == false => {
                    Outcome::ok("a made-up user of a made-up room is reported as not joined")
                }
                (403, _) => Outcome::problem(
                    "the homeserver forbids the service to query a room's members (403): the registration file lacks the scope",
                    "in the registration file, set `io.element.msc4502.scopes: \
                     [\"urn:matrix:client:io.element.msc4502:rooms:is_joined\"]`, and restart the homeserver",
                ),
                (404, _) => Outcome::problem(
                    "the homeserver has no endpoint for a room's members (404): MSC4502 is off, or not supported",
                    "Synapse, 1.161 or newer: set msc4502_enabled: true under experimental_features in homeserver.yaml, and restart it",
                ),
                _ => self.unlike_a_homeserver("GET …/is_joined", &response),
            },
        };
        (outcome, Some(()))
    }

    /// Checks that the homeserver announces an SFU to clients (MSC4143): `sfu`, if that is given.
    pub(crate) async fn announces_sfu(&self, sfu: Option<&SfuUrl>) -> Verdict<()> {
        let outcome = match self.get("unstable/org.matrix.msc4143/rtc/transports").await {
            Err(failure) => self.unreached(&failure),
            Ok(response) => match (response.status, response.json()) {
                (200, Some(body)) => judge_transports(&body, sfu),
                (404, _) => Outcome::warning(
                    "the homeserver announces no SFU to clients (404): MSC4143 is off, and no client uses homeserver mode",
                    "Synapse: set msc4143_enabled: true under experimental_features in homeserver.yaml, and restart it",
                ),
                _ => self.unlike_a_homeserver("GET …/rtc/transports", &response),
            },
        };
        (outcome, Some(()))
    }

    /// Checks that the homeserver forwards its users' requests to the service with a token that the service accepts
    /// (MSC4512).
    pub(crate) async fn forwards_requests(&self) -> Verdict<()> {
        let url = self.api.url(GET_TOKEN);
        let authorization = self.as_token.bearer();
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let outcome = match self.web.send(&Request::post(&url, &headers, b"{}")).await {
            Err(failure) => self.unreached(&failure),
            Ok(response) => match (response.status, response.errcode().as_deref()) {
                (400, Some("M_BAD_JSON")) => Outcome::ok("a request to the homeserver arrives at the service"),
                // The homeserver has accepted the as_token before, so the service refuses.
                (401, Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN")) => Outcome::problem(
                    "the homeserver forwards requests, but the service refuses its token (401): LIVEKIT_HS_TOKEN isn't the hs_token of \
                     the registration file that the homeserver has read",
                    "set LIVEKIT_HS_TOKEN to the file's hs_token; if the file has changed, restart the homeserver",
                ),
                (404 | 405, Some(_)) => Outcome::problem(
                    format!("the homeserver doesn't forward requests to the service ({})", response.status),
                    "Synapse, 1.161 or newer: set msc4512_enabled: true under experimental_features in homeserver.yaml; in the registration \
                     file, set `io.element.msc4512.proxy_prefix: rtc/livekit` and a proxy_url that is this service's URL; restart it, and \
                     let the proxy in front of it forward everything below /_matrix/client",
                ),
                (500 | 502..=504, _) => Outcome::problem(
                    format!(
                        "the homeserver can't reach the service, or doesn't trust its certificate ({})",
                        response.status
                    ),
                    "in the registration file, set `io.element.msc4512.proxy_url` to the URL of this service, and make that reachable from the \
                     homeserver's machine; the homeserver's log has the error",
                ),
                (429, _) => Outcome::warning("too many requests at the moment (429)", "try again in a minute"),
                (status, _) => Outcome::problem(
                    format!("a request to the homeserver is forwarded to something that isn't this service ({status})"),
                    "in the registration file, set `io.element.msc4512.proxy_url` to the URL of this service, with its path and without \
                     a slash at its end; restart the homeserver",
                ),
            },
        };
        (outcome, Some(()))
    }

    async fn get(&self, path: &str) -> Result<Response, Failure> {
        let authorization = self.as_token.bearer();
        self.web.send(&Request::get(&self.api.url(path), &[("authorization", &authorization)])).await
    }

    fn unreached(&self, failure: &Failure) -> Outcome {
        client_api::unreached(self.api.base(), failure)
    }

    fn unlike_a_homeserver(&self, request: &str, response: &Response) -> Outcome {
        Outcome::problem(
            format!(
                "{request} at {} returned {}, in a response that isn't a homeserver's",
                self.api.base(),
                response.status
            ),
            "let the proxy forward everything below /_matrix/client to the homeserver, with every method and the Authorization header",
        )
    }
}

/// Judges the transports that a homeserver announces; those of homeserver mode have a `url`.
fn judge_transports(body: &Value, sfu: Option<&SfuUrl>) -> Outcome {
    let entries = announced(body);
    let livekit = entries.iter().filter(|entry| is_livekit(entry));
    let urls: Vec<_> = livekit.filter_map(|entry| entry["url"].as_str()).collect();
    let Some(first) = urls.first() else {
        return Outcome::warning(
            "the homeserver announces no SFU with a `url`: no client uses homeserver mode",
            "to change that, add LIVEKIT_URL as the url of the livekit transport, beside its livekit_service_url, under matrix_rtc in \
             homeserver.yaml, and restart it",
        );
    };
    let first: String = first.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    match sfu {
        None => Outcome::ok(format!("{first}, which must be LIVEKIT_URL (give --sfu-url to compare)")),
        Some(sfu) if urls.iter().any(|url| bare(url) == bare(sfu.client())) => Outcome::ok(sfu.client()),
        Some(sfu) => Outcome::problem(
            format!("the homeserver announces {first}, for which the service issues no token"),
            format!("set the url of the transport, under matrix_rtc in homeserver.yaml, to {}", sfu.client()),
        ),
    }
}

/// URL of an SFU in the form in which the service compares it.
pub(crate) fn bare(url: &str) -> &str {
    url.trim_end_matches('/')
}

async fn post_ping(web: &Web, service: &ServiceUrl, authorization: &str) -> Result<Response, Failure> {
    let headers = [("authorization", authorization), ("content-type", "application/json")];
    web.send(&Request::post(&service.at(PING), &headers, b"{}")).await
}

const PING: &str = "/_matrix/app/v1/ping";
/// Below `/_matrix/client/`, in the unstable form that homeservers have.
const GET_TOKEN: &str = "unstable/io.element.msc4195/rtc/livekit/get_token";
const MADE_UP: &str = "made-up-by-matrixrtc-doctor";
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
    use proptest::prelude::*;
    use serde_json::json;

    fn sfu() -> SfuUrl {
        SfuUrl::parse("wss://sfu.example.com").unwrap()
    }

    #[test]
    fn the_transport_that_counts_is_that_of_our_sfu() {
        let other = json!({ "type": "livekit", "url": "wss://other.example.com" });
        let ours = json!({ "type": "livekit", "url": "wss://sfu.example.com/" });
        let merged = json!({ "type": "m.livekit", "url": "wss://sfu.example.com" });
        let legacy = json!({ "type": "livekit", "livekit_service_url": "https://rtc.example.com" });
        for (transports, known, unknown) in [
            (json!([]), Status::Warning, Status::Warning),
            (json!([legacy, { "type": "other", "url": "wss://sfu.example.com" }]), Status::Warning, Status::Warning),
            (json!([other]), Status::Problem, Status::Ok),
            (json!([legacy, other, ours]), Status::Ok, Status::Ok),
            (json!([merged]), Status::Ok, Status::Ok),
        ] {
            let body = json!({ "rtc_transports": transports });
            assert_eq!(judge_transports(&body, Some(&sfu())).status, known, "{body}");
            assert_eq!(judge_transports(&body, None).status, unknown, "{body}");
        }
        assert_eq!(judge_transports(&json!({}), None).status, Status::Warning);
    }

    proptest! {
        #[test]
        fn any_transport_is_read_without_panic(url in "\\PC{0,40}") {
            let body = json!({ "rtc_transports": [{ "type": "livekit", "url": url }] });
            let _ = judge_transports(&body, Some(&sfu()));
        }
    }
}
