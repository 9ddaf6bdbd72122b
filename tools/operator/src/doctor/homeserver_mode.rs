//! Whether homeserver and service know each other in homeserver mode (MSC4195): by the two tokens of the registration file.
//!
//! The `as_token` is sent to the homeserver's client-server API, the `hs_token` to the service, and neither anywhere else.

use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::homeserver::client_api::escaped;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use matrixrtc_edge::matrix::ids::user_id::UserId;
use serde_json::Value;

use crate::doctor::client_api::{self, ClientApi};
use crate::doctor::credentials::RegistrationToken;
use crate::doctor::proxy::{unexpected, unreached};
use crate::doctor::report::{Outcome, Verdict, unless_problem};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::web::{Failure, Request, Response, Web, is_loopback};

/// The service believes who has the `hs_token`, and nobody else. Leaves nothing where it isn't in homeserver mode.
pub(crate) async fn ping(web: &Web, service: &ServiceUrl, token: &RegistrationToken) -> Verdict<()> {
    if service.url().scheme() == "http" && !is_loopback(service.url()) {
        return (Outcome::skipped("the hs_token isn't sent without TLS"), Some(()));
    }
    let what = format!("POST {}", service.at(PING));
    let response = match post_ping(web, service, &token.bearer()).await {
        Ok(response) => response,
        Err(failure) => return (unreached(&failure), None),
    };
    match (response.status, response.errcode().as_deref()) {
        (200, None) if response.json().is_some() => {}
        (401, Some("M_UNKNOWN_TOKEN")) => {
            let seen = "the service refuses the hs_token (401): it isn't the service's LIVEKIT_HS_TOKEN";
            let change = "set LIVEKIT_HS_TOKEN (`npx wrangler secret put LIVEKIT_HS_TOKEN`) to the hs_token of the registration file";
            return (Outcome::problem(seen, change), Some(()));
        }
        (404, Some(_)) => {
            let seen = "the service isn't in homeserver mode (404)";
            let change = "set LIVEKIT_HS_SERVER_NAME, LIVEKIT_AS_TOKEN and LIVEKIT_HS_TOKEN";
            return (Outcome::problem(seen, change), None);
        }
        _ => return (unexpected(service, &what, &response), None),
    }
    let outcome = match post_ping(web, service, &format!("Bearer {MADE_UP}")).await {
        Ok(response) if (response.status, response.errcode().as_deref()) == (401, Some("M_UNKNOWN_TOKEN")) => {
            Outcome::ok("answered with the hs_token, refused with another")
        }
        Ok(response) if response.status < 300 => Outcome::problem(
            format!(
                "{what} with a wrong token is answered with {}: something answers in the service's place",
                response.status
            ),
            "let the URL lead to this service, and nothing before it answer in its place or put a token in",
        ),
        Ok(response) => unexpected(service, &format!("{what} with a wrong token"), &response),
        Err(failure) => unreached(&failure),
    };
    (outcome, Some(()))
}

/// The homeserver as an application service sees it.
pub(crate) struct Homeserver<'a> {
    /// The way there.
    pub(crate) web: &'a Web,
    /// Where it answers.
    pub(crate) api: &'a ClientApi,
    /// What it is to be called.
    pub(crate) server_name: &'a ServerName,
    /// By which it knows the service.
    pub(crate) as_token: &'a RegistrationToken,
}

impl Homeserver<'_> {
    /// It has read the registration file.
    pub(crate) async fn accepts_as_token(&self) -> Verdict<()> {
        let response = match self.get("v3/account/whoami").await {
            Ok(response) => response,
            Err(failure) => return (self.unreached(&failure), None),
        };
        let user = response.json().and_then(|body| UserId::parse(body["user_id"].as_str()?).ok());
        unless_problem(match (response.status, user) {
            (200, Some(user)) if user.server_name() == self.server_name.as_str() => {
                Outcome::ok(format!("the service is {user} there"))
            }
            (200, Some(user)) => Outcome::problem(
                format!(
                    "the homeserver at {} is {}, not {}: the service will take its users for others",
                    self.api.base(),
                    user.server_name(),
                    self.server_name
                ),
                "set LIVEKIT_HS_SERVER_NAME to the server_name of homeserver.yaml, and let that name's .well-known/matrix/client lead \
                 to this homeserver",
            ),
            (401, _) => Outcome::problem(
                "the homeserver refuses the as_token (401): it hasn't read the registration file, or LIVEKIT_AS_TOKEN is another",
                "name the registration file under app_service_config_files in homeserver.yaml and restart the homeserver (each of its \
                 workers, too); set LIVEKIT_AS_TOKEN to the file's as_token",
            ),
            _ => self.unlike_a_homeserver("GET …/account/whoami", &response),
        })
    }

    /// It tells the service who is joined to a room (MSC4502).
    pub(crate) async fn reports_is_joined(&self) -> Verdict<()> {
        let room = format!("!{MADE_UP}:{}", self.server_name);
        let user = format!("@{MADE_UP}:{}", self.server_name);
        let rooms = self.api.is_joined_rooms_path();
        let path = format!("{rooms}/{}/is_joined?mxid={}", escaped(&room), escaped(&user));
        let outcome = match self.get(&path).await {
            Err(failure) => self.unreached(&failure),
            Ok(response) => match (response.status, response.json()) {
                (200, Some(body)) if body["joined"] == false => {
                    Outcome::ok("told of a room that doesn't exist: nobody")
                }
                (403, _) => Outcome::problem(
                    "the homeserver doesn't let the service ask who is in a room (403): the registration file lacks the scope",
                    "in the registration file, have `io.element.msc4502.scopes: \
                     [\"urn:matrix:client:io.element.msc4502:rooms:is_joined\"]`, and restart the homeserver",
                ),
                (404, _) => Outcome::problem(
                    "the homeserver can't be asked who is in a room (404): MSC4502 is off, or not known",
                    "Synapse, 1.161 or newer: set msc4502_enabled: true under experimental_features in homeserver.yaml, and restart it",
                ),
                _ => self.unlike_a_homeserver("GET …/is_joined", &response),
            },
        };
        (outcome, Some(()))
    }

    /// It tells clients of the SFU (MSC4143): of `sfu`, if that is known.
    pub(crate) async fn announces_sfu(&self, sfu: Option<&SfuUrl>) -> Verdict<()> {
        let outcome = match self.get("unstable/org.matrix.msc4143/rtc/transports").await {
            Err(failure) => self.unreached(&failure),
            Ok(response) => match (response.status, response.json()) {
                (200, Some(body)) => judge_transports(&body, sfu),
                (404, _) => Outcome::warning(
                    "the homeserver tells clients of no SFU (404): MSC4143 is off, and no client uses homeserver mode",
                    "Synapse: set msc4143_enabled: true under experimental_features in homeserver.yaml, and restart it",
                ),
                _ => self.unlike_a_homeserver("GET …/rtc/transports", &response),
            },
        };
        (outcome, Some(()))
    }

    /// It passes its users' requests on to the service, with a token that the service takes (MSC4512).
    pub(crate) async fn forwards_requests(&self) -> Verdict<()> {
        let url = self.api.url(GET_TOKEN);
        let authorization = self.as_token.bearer();
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let outcome = match self.web.send(&Request::post(&url, &headers, b"{}")).await {
            Err(failure) => self.unreached(&failure),
            Ok(response) => match (response.status, response.errcode().as_deref()) {
                (400, Some("M_BAD_JSON")) => Outcome::ok("a request to the homeserver arrives at the service"),
                // The homeserver has taken the as_token before.
                (401, Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN")) => Outcome::problem(
                    "the homeserver passes requests on, but the service refuses its token (401): LIVEKIT_HS_TOKEN isn't the hs_token of \
                     the registration file that the homeserver has read",
                    "set LIVEKIT_HS_TOKEN to the file's hs_token; if the file has changed, restart the homeserver",
                ),
                (404 | 405, Some(_)) => Outcome::problem(
                    format!("the homeserver doesn't pass requests on to the service ({})", response.status),
                    "Synapse, 1.161 or newer: set msc4512_enabled: true under experimental_features in homeserver.yaml; in the registration \
                     file, have `io.element.msc4512.proxy_prefix: rtc/livekit` and a proxy_url that leads to this service; restart it, and \
                     let the proxy before it pass on everything below /_matrix/client",
                ),
                (500 | 502..=504, _) => Outcome::problem(
                    format!(
                        "the homeserver can't reach the service, or takes its certificate for wrong ({})",
                        response.status
                    ),
                    "in the registration file, let `io.element.msc4512.proxy_url` be the URL of this service, and let the homeserver's \
                     machine reach that; the homeserver's log says what fails",
                ),
                (429, _) => Outcome::warning("too many requests just now (429)", "ask again a minute later"),
                (status, _) => Outcome::problem(
                    format!("a request to the homeserver is passed on to something that isn't this service ({status})"),
                    "in the registration file, let `io.element.msc4512.proxy_url` be the URL of this service, with its path and without \
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

    fn unlike_a_homeserver(&self, what: &str, response: &Response) -> Outcome {
        Outcome::problem(
            format!(
                "{what} at {} is answered with {}, which isn't a homeserver's answer",
                self.api.base(),
                response.status
            ),
            "let the proxy pass everything below /_matrix/client on to the homeserver, with every method and the Authorization header",
        )
    }
}

/// Of the transports that a homeserver has announced, those of homeserver mode have a `url`.
fn judge_transports(body: &Value, sfu: Option<&SfuUrl>) -> Outcome {
    let transports = body["rtc_transports"].as_array().into_iter().flatten();
    let urls: Vec<_> =
        transports.filter(|transport| transport["type"] == "livekit").filter_map(|one| one["url"].as_str()).collect();
    let Some(first) = urls.first() else {
        return Outcome::warning(
            "the homeserver tells clients of no SFU with a `url`: no client uses homeserver mode",
            "when they shall, name LIVEKIT_URL as the url of a livekit transport, under matrix_rtc in homeserver.yaml, and restart it",
        );
    };
    let first: String = first.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    match sfu {
        None => Outcome::ok(format!("{first}, which must be LIVEKIT_URL (compared with --sfu-url)")),
        Some(sfu) if urls.iter().any(|url| bare(url) == bare(sfu.client())) => Outcome::ok(sfu.client()),
        Some(sfu) => Outcome::problem(
            format!("the homeserver tells clients of {first}, for which the service gives no token"),
            format!("let the url of the transport, under matrix_rtc in homeserver.yaml, be {}", sfu.client()),
        ),
    }
}

/// As the service compares URLs of SFUs.
fn bare(url: &str) -> &str {
    url.trim_end_matches('/')
}

async fn post_ping(web: &Web, service: &ServiceUrl, authorization: &str) -> Result<Response, Failure> {
    let headers = [("authorization", authorization), ("content-type", "application/json")];
    web.send(&Request::post(&service.at(PING), &headers, b"{}")).await
}

const PING: &str = "/_matrix/app/v1/ping";
/// In the form that homeservers have now; below `/_matrix/client/`.
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
        let legacy = json!({ "type": "livekit", "livekit_service_url": "https://rtc.example.com" });
        for (transports, known, unknown) in [
            (json!([]), Status::Warning, Status::Warning),
            (json!([legacy, { "type": "other", "url": "wss://sfu.example.com" }]), Status::Warning, Status::Warning),
            (json!([other]), Status::Problem, Status::Ok),
            (json!([legacy, other, ours]), Status::Ok, Status::Ok),
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
