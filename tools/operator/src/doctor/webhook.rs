//! The SFU's webhooks, as the service receives them (`docs/protocol.md#webhooks`).

use matrixrtc_edge::livekit::keys::ApiKey;
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use serde_json::{Value, json};

use crate::doctor::cloudflare::is_from_cloudflare;
use crate::doctor::credentials::SfuCredentials;
use crate::doctor::livekit_cloud::{self, CONSOLE};
use crate::doctor::proxy::{THE_SERVICE, unexpected, unreached};
use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::sfu::{now_ms, test_room};
use crate::doctor::web::{Failure, Request, Response, Web};

/// Checks that a webhook gets through to the service, as LiveKit's client posts it.
pub(crate) async fn gets_through(web: &Web, service: &ServiceUrl) -> Verdict<()> {
    let url = service.at(PATH);
    let headers = [("content-type", CONTENT_TYPE)];
    let request = Request { user_agent: LIVEKIT, ..Request::post(&url, &headers, b"{}") };
    match web.send(&request).await {
        Err(failure @ Failure::Intercepted(_)) => {
            let seen = format!(
                "LiveKit's webhooks to {url} don't reach the service: {failure}. Without them, leaves are late by up to an hour"
            );
            (Outcome::problem(seen, failure.change(THE_SERVICE)), None)
        }
        Err(failure) => (unreached(&failure), None),
        Ok(response) if is_refused(&response) => {
            let seen = match is_from_cloudflare(&response.headers) {
                true => {
                    "a POST like LiveKit's isn't stopped on its way from here; Cloudflare also judges network and TLS, so run this \
                     once on the SFU's machine"
                }
                false => "a POST like LiveKit's isn't stopped on its way",
            };
            (Outcome::ok(seen), Some(()))
        }
        Ok(response) => (unexpected(service, &format!("POST {url}"), &response), None),
    }
}

/// Checks that the service accepts a webhook signed with the shared key pair.
pub(crate) async fn is_accepted(
    web: &Web,
    service: &ServiceUrl,
    sfu_url: Option<&SfuUrl>,
    key: &ApiKey,
) -> Verdict<()> {
    let outcome = match send(web, service, key).await {
        Ok(response) if response.status == 200 && response.json().is_some() => Outcome::ok(format!(
            "a test webhook is accepted; the service's log shows whether the SFU posts its own to {} when a user joins",
            service.at(PATH)
        )),
        Ok(response) if is_refused(&response) => Outcome::problem(
            "the service refuses a webhook signed with the key pair (401): the pair isn't the service's, or the clocks differ",
            match sfu_url.is_some_and(|url| livekit_cloud::is_project(url.client())) {
                true => format!(
                    "set the service's key pair to the one with which the webhook is signed, in the project's settings at {CONSOLE}"
                ),
                false => String::from(
                    "set the service's key pair to the one under keys: in the SFU's configuration, and api_key under webhook: to its key",
                ),
            },
        ),
        Ok(response) if response.status == 500 && response.errcode().is_some() => {
            Outcome::problem("the service fails to record a webhook (500)", "read the service's log")
        }
        Ok(response) => unexpected(service, &format!("POST {}", service.at(PATH)), &response),
        Err(SendError::NoResponse(failure)) => unreached(&failure),
        Err(SendError::NotSigned) => Outcome::skipped("no webhook could be signed"),
    };
    (outcome, Some(()))
}

/// Checks that the service refuses a webhook signed with another secret.
pub(crate) async fn forgery_is_refused(
    web: &Web,
    service: &ServiceUrl,
    credentials: Option<&SfuCredentials>,
) -> Verdict<()> {
    let name =
        credentials.map_or_else(|| String::from("matrixrtc-doctor"), |credentials| credentials.key().name.clone());
    let forger = ApiKey::new(&name, "a-secret-that-only-matrixrtc-doctor-has");
    let outcome = match send(web, service, &forger).await {
        Ok(response) if is_refused(&response) => Outcome::ok("401"),
        Ok(response) if response.status < 300 => Outcome::problem(
            format!(
                "a webhook signed with a wrong secret returned {}: forged webhooks can end calls, or the service doesn't receive any",
                response.status
            ),
            "route the URL to this service, and let nothing in front of it respond in its place",
        ),
        Ok(response) => unexpected(service, &format!("POST {}", service.at(PATH)), &response),
        Err(SendError::NoResponse(failure)) => unreached(&failure),
        Err(SendError::NotSigned) => Outcome::skipped("no webhook could be signed"),
    };
    (outcome, Some(()))
}

/// Whether the service itself refuses the webhook, because of its signature.
fn is_refused(response: &Response) -> bool {
    response.status == 401 && response.errcode().is_some()
}

/// Error of a webhook.
pub(crate) enum SendError {
    /// It couldn't be signed.
    NotSigned,
    /// There was no response.
    NoResponse(Failure),
}

/// Posts an event that changes nothing: the start of a room that has no call.
async fn send(web: &Web, service: &ServiceUrl, key: &ApiKey) -> Result<Response, SendError> {
    let room = test_room().map_err(|_| SendError::NotSigned)?;
    let event = json!({ "event": "room_started", "id": format!("EV_{room}"), "room": { "name": room } });
    post(web, service, key, &event).await
}

/// Posts an event to the service, signed with the key pair, as LiveKit does.
pub(crate) async fn post(web: &Web, service: &ServiceUrl, key: &ApiKey, event: &Value) -> Result<Response, SendError> {
    let event = event.to_string();
    let authorization = key.sign_webhook(event.as_bytes(), now_ms()).map_err(|_| SendError::NotSigned)?;
    let headers = [("authorization", authorization.as_str()), ("content-type", CONTENT_TYPE)];
    let url = service.at(PATH);
    let request = Request { user_agent: LIVEKIT, ..Request::post(&url, &headers, event.as_bytes()) };
    web.send(&request).await.map_err(SendError::NoResponse)
}

const PATH: &str = "/sfu_webhook";
const CONTENT_TYPE: &str = "application/webhook+json";
/// LiveKit's client sets no `User-Agent` of its own, so it has that of Go over HTTP/1.1, which the doctor speaks. Over
/// HTTP/2 it is `Go-http-client/2.0`.
const LIVEKIT: &str = "Go-http-client/1.1";
