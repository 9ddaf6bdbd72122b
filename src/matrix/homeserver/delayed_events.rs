//! Delayed events on homeservers (MSC4140, `docs/protocol.md#restart-and-send`): look-up, restart, send.
//!
//! How it works:
//! - restarting and sending need the delay id only, which is a secret, and are requested at the homeserver that it
//!   was delegated with;
//! - where that is our own homeserver and the owner is known, the request is made with the `as_token` on behalf of
//!   the owner;
//! - the API is looked up each time; if that fails, the URL from the time of the delegation is used;
//! - status and body decide: only the homeserver's own word ends a delegation. A 429 may say how long to wait;
//! - before a delegation is accepted, [`Candidate::restart_once`] finds out whether it can be kept;
//! - the look-up is for users of our own homeserver, which knows the room and the delay of their events.

use std::fmt;
use std::time::Duration;

use delegated_leaves::{DelayId, DelayTimeout, DelayedEvent, HomeserverAnswer, Timestamp};
use futures_util::future::join;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::clock;
use crate::fetch::{Deadline, FetchError, FetchRequest, FetchResponse, Fetcher, MAX_ERROR_BODY, Method};
use crate::matrix::homeserver::client_api::{self, ClientApi, ClientApis, escaped};
use crate::matrix::homeserver::{ApplicationService, Homeserver, HomeserverError, read};
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;

/// A scheduled delayed event, as the homeserver reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// The Matrix room of the event.
    pub room_id: String,
    /// Time between its last restart and its sending, in ms.
    pub delay: DelayTimeout,
}

impl Homeserver<'_> {
    /// Looks up an event of `owner`, within 5 s. `None` where no event with this id is scheduled.
    pub async fn delayed_event(&self, id: &DelayId, owner: &UserId) -> Result<Option<Scheduled>, HomeserverError> {
        self.delayed_event_within(id, owner, TIMEOUT).await
    }

    async fn delayed_event_within(
        &self,
        id: &DelayId,
        owner: &UserId,
        timeout: Duration,
    ) -> Result<Option<Scheduled>, HomeserverError> {
        let events = self.api().delayed_events_path();
        let path = format!("{events}/{}?user_id={}", escaped(id.secret()), escaped(owner.as_str()));
        let response = self.get(&path, &Deadline::after(timeout)).await?;
        if response.status() == 404 {
            return match reports_no_event(&response.body(MAX_ERROR_BODY).await?) {
                true => Ok(None),
                false => Err(HomeserverError::Status(404)),
            };
        }
        scheduled(&read(response).await?)
    }
}

/// Returns whether a 404 with this body is about the event. A homeserver without this path reports nothing about the event, and
/// a proxy doesn't either.
pub(crate) fn reports_no_event(body: &[u8]) -> bool {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    error["errcode"].as_str().is_some_and(|errcode| errcode != "M_UNRECOGNIZED")
}

/// Parses the response to the look-up of a delayed event. `None` for one that is finalised: sent, cancelled or failed.
pub(crate) fn scheduled(event: &Value) -> Result<Option<Scheduled>, HomeserverError> {
    let is_over = !matches!(event["finalised"], Value::Null | Value::Bool(false));
    // `delay` is that of earlier revisions of MSC4140.
    let delay = ["delay_ms", "delay"].iter().find_map(|name| event[*name].as_u64());
    let delay = delay.and_then(DelayTimeout::from_millis);
    match (event["room_id"].as_str(), delay) {
        (Some(_), _) if is_over => Ok(None),
        (Some(room_id), Some(delay)) => Ok(Some(Scheduled { room_id: room_id.to_owned(), delay })),
        _ => Err(HomeserverError::Malformed),
    }
}

/// A delayed event whose delegation is requested.
pub struct Candidate<'a> {
    /// The name of its homeserver.
    pub server: &'a ServerName,
    /// The client-server API of its homeserver.
    pub api: &'a ClientApi,
    /// Our registration with that homeserver and the owner of the event, where the homeserver is ours.
    pub owner: Option<(&'a ApplicationService, &'a UserId)>,
    /// The Matrix room that the event has to be in.
    pub room_id: &'a str,
    /// The identifier of the event.
    pub id: &'a DelayId,
}

/// Result of the restart before a delegation is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The instant before the restart, where that was done.
    pub restarted_at: Option<Timestamp>,
    /// The delay of the event, where our homeserver reports it.
    pub delay: Option<DelayTimeout>,
}

impl Candidate<'_> {
    /// Restarts the event once, within 2 s, and at the same time looks it up where its owner is known. A delegation
    /// that can't be kept must not be accepted: its client would stop restarting the event
    /// (`docs/protocol.md#acceptance`).
    ///
    /// An answer that isn't the homeserver's own, or none at all, is no reason to refuse.
    pub async fn restart_once(&self, apis: &ClientApis) -> Result<Acceptance, Refusal> {
        if self.api.has_delayed_events() == Some(false) {
            return Err(Refusal::NoDelayedEvents);
        }
        let restarted_at = Timestamp::from_millis(clock::now_ms());
        let deadline = Deadline::after(ACCEPTANCE_TIMEOUT);
        let homeserver = self.owner.map(|(service, owner)| (service.at(self.api.clone(), apis), owner));
        let owner = self.owner.map(|(service, owner)| (service, owner.as_str()));
        let restart = Action::Restart.at(self.api, owner, self.id);
        let look_up = async {
            match &homeserver {
                None => Ok(None),
                Some((homeserver, owner)) => {
                    let event = homeserver.delayed_event_within(self.id, owner, ACCEPTANCE_TIMEOUT).await;
                    self.delay_of(event)
                }
            }
        };
        let (response, delay) = join(restart.post(self.api.fetcher(&apis.fetchers), &deadline), look_up).await;
        let (is_done, delay) = (self.is_restarted(response).await, delay?);
        Ok(Acceptance { restarted_at: is_done?.then_some(restarted_at), delay })
    }

    /// Returns whether the restart was done. An error is the homeserver's refusal.
    async fn is_restarted(&self, response: Result<FetchResponse, FetchError>) -> Result<bool, Refusal> {
        let (status, body) = match response {
            Ok(response) => (Some(response.status()), response.body(MAX_BODY).await.unwrap_or_default()),
            Err(_) => (None, Vec::new()),
        };
        if !serde_json::from_slice(&body).is_ok_and(|body: Value| body.is_object()) {
            client_api::doubt(self.server);
        }
        match status {
            Some(status @ (401 | 403 | 405)) => Err(match self.owner {
                Some(_) => Refusal::AsOwner(HomeserverError::Status(status)),
                None => Refusal::Status(status),
            }),
            Some(status @ (200..=299 | 404 | 409)) => match settled(status, &body) {
                Ok(HomeserverAnswer::Done) => Ok(true),
                Ok(HomeserverAnswer::Gone) => Err(Refusal::Gone),
                Err(DelayedEventError::Unrecognized) => {
                    client_api::doubt_features(self.server);
                    Err(Refusal::Unrecognized)
                }
                _ => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// Returns the delay of the event that was looked up. A look-up that failed says nothing about the event.
    fn delay_of(&self, event: Result<Option<Scheduled>, HomeserverError>) -> Result<Option<DelayTimeout>, Refusal> {
        match event {
            Ok(Some(event)) if event.room_id == self.room_id => Ok(Some(event.delay)),
            Ok(_) => Err(Refusal::NotInRoom),
            Err(_) => Ok(None),
        }
    }
}

/// Reason for not taking over a delayed event, in words an operator can act on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// By its `/versions`, the homeserver has no delayed events.
    #[error("the homeserver has no delayed events (MSC4140): its /versions lists none")]
    NoDelayedEvents,
    /// The homeserver doesn't have the path.
    #[error("the homeserver has no delayed events (MSC4140): it answered 404 M_UNRECOGNIZED")]
    Unrecognized,
    /// The homeserver doesn't restart the event for a caller without a login, or not at all.
    #[error(
        "the homeserver doesn't let this service restart the event ({0}): does it want a login? Then only homeserver \
         mode, for its own users, can take over leaves"
    )]
    Status(u16),
    /// Our own homeserver doesn't restart the event on behalf of its owner.
    #[error(transparent)]
    AsOwner(HomeserverError),
    /// The event is sent, cancelled, or was never scheduled.
    #[error("the homeserver doesn't have the event (any more)")]
    Gone,
    /// Our homeserver has no such event of the user in the room.
    #[error("the homeserver has no such event of this user in this room")]
    NotInRoom,
}

/// Action on a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Starts the delay anew.
    Restart,
    /// Sends the event now.
    Send,
}

impl Action {
    /// Performs the action on the homeserver's client-server API, for 5 s at most after the look-up of the API.
    ///
    /// Where `service` belongs to the homeserver and the owner of the event is known, the request is made on behalf
    /// of the owner. Otherwise the delay id alone is enough. Where the look-up fails, the URL of the delegation is
    /// used.
    pub async fn perform(
        self,
        apis: &ClientApis,
        service: Option<&ApplicationService>,
        event: &DelayedEvent,
    ) -> Result<HomeserverAnswer, DelayedEventError> {
        let server = ServerName::parse(event.server_name.as_str()).map_err(|_| DelayedEventError::ServerName)?;
        let service = service.filter(|service| *service.server_name() == server);
        let found = apis.find(&server, &ClientApis::deadline()).await;
        let (request, fetcher) = match &found {
            Ok(api) => {
                let owner = service.zip(event.owner.as_ref().map(|owner| owner.as_str()));
                (self.at(api, owner, &event.delay_id), api.fetcher(&apis.fetchers))
            }
            // It was found by the same look-up when the leave was delegated.
            Err(_) => {
                let owner = service.zip(event.owner.as_ref().map(|owner| owner.as_str()));
                (self.below(event.url.as_str(), owner, &event.delay_id), apis.fetchers.internet())
            }
        };
        let outcome = match request.post(fetcher, &Deadline::after(TIMEOUT)).await {
            Ok(response) => Self::outcome(response).await,
            Err(error) => Err(error.into()),
        };
        match &outcome {
            Ok(_) => {}
            Err(DelayedEventError::Unrecognized) => client_api::doubt_features(&server),
            Err(_) => client_api::doubt(&server),
        }
        outcome
    }

    /// Returns the request: to our own homeserver on behalf of the owner, to another one by the delay id alone.
    fn at(self, api: &ClientApi, owner: Option<(&ApplicationService, &str)>, id: &DelayId) -> EventRequest {
        self.below(&api.url(api.delayed_events_path()), owner, id)
    }

    fn below(self, delayed_events: &str, owner: Option<(&ApplicationService, &str)>, id: &DelayId) -> EventRequest {
        let url = format!("{delayed_events}/{}/{self}", escaped(id.secret()));
        match owner {
            None => EventRequest { url, authorization: None },
            Some((service, owner)) => EventRequest {
                url: format!("{url}?user_id={}", escaped(owner)),
                authorization: Some(service.authorization()),
            },
        }
    }

    /// Reads a response by the table in `docs/protocol.md#delayed-events`. Only the homeserver's own word ends a delegation: a
    /// proxy answers 404 in HTML or plain text while the homeserver behind it restarts.
    async fn outcome(response: FetchResponse) -> Result<HomeserverAnswer, DelayedEventError> {
        let status = response.status();
        if !matches!(status, 200..=299 | 404 | 409 | 429) {
            return Err(DelayedEventError::Status(status));
        }
        let retry_after = response.header("Retry-After");
        let body = response.body(MAX_BODY).await;
        if status == 429 {
            let by_header = retry_after.and_then(|header| from_header(&header, clock::now_ms()));
            return Ok(HomeserverAnswer::Limited(by_header.max(from_body(&body.unwrap_or_default()))));
        }
        settled(status, &body?)
    }
}

/// Request to act on a delayed event.
struct EventRequest {
    url: String,
    authorization: Option<String>,
}

impl EventRequest {
    async fn post(&self, fetcher: &Fetcher, deadline: &Deadline) -> Result<FetchResponse, FetchError> {
        let authorization = self.authorization.as_deref();
        let method = Method::Post { content_type: "application/json", authorization, body: b"{}" };
        fetcher.send(FetchRequest { url: &self.url, method, deadline }).await
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Send => "send",
        })
    }
}

/// Reason for an inconclusive response of a homeserver.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DelayedEventError {
    /// No valid server name in the delegation.
    #[error("the homeserver's name isn't one")]
    ServerName,
    /// No response.
    #[error("the homeserver's client-server API doesn't answer: {0}")]
    NoAnswer(#[from] FetchError),
    /// An inconclusive status.
    #[error("the homeserver answered {0}")]
    Status(u16),
    /// A response that isn't the homeserver's own, but a proxy's, with its status.
    #[error("a proxy answered {0} in place of the homeserver: the body isn't the homeserver's JSON")]
    NotTheHomeserver(u16),
    /// No delayed events at that path.
    #[error("the homeserver has no delayed events at this path (404 M_UNRECOGNIZED)")]
    Unrecognized,
}

/// Returns what a 2xx, 404 or 409 with this body settles, if it is the homeserver's own.
pub(crate) fn settled(status: u16, body: &[u8]) -> Result<HomeserverAnswer, DelayedEventError> {
    let not_its_own = || DelayedEventError::NotTheHomeserver(status);
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return Err(not_its_own()) };
    if matches!(status, 200..=299) {
        return Ok(HomeserverAnswer::Done);
    }
    match body.get("errcode").and_then(Value::as_str) {
        // Without this path the homeserver reports nothing about the event.
        Some("M_UNRECOGNIZED") if status == 404 => Err(DelayedEventError::Unrecognized),
        Some(_) => Ok(HomeserverAnswer::Gone),
        None => Err(not_its_own()),
    }
}

pub(crate) fn from_header(header: &str, now_ms: u64) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(header).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_millis(now_ms)))
}

pub(crate) fn from_body(body: &[u8]) -> Option<Duration> {
    #[derive(Deserialize)]
    struct LimitExceeded {
        retry_after_ms: u64,
    }
    let limit: LimitExceeded = serde_json::from_slice(body).ok()?;
    Some(Duration::from_secs(limit.retry_after_ms.div_ceil(1000)))
}

/// Limit for the requests before an acceptance, which run beside the creation of the room.
const ACCEPTANCE_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_id_is_one_path_segment_whatever_is_in_it() {
        let id = DelayId::new("syd_a/../b?c#d%").unwrap();
        let url = Action::Restart.below("https://cs.example.com/delayed_events", None, &id).url;
        assert_eq!(url, "https://cs.example.com/delayed_events/syd_a%2F..%2Fb%3Fc%23d%25/restart");
    }

    #[test]
    fn only_the_homeserver_s_own_word_settles_anything() {
        let gone = br#"{"errcode":"M_NOT_FOUND","error":"no"}"#.as_slice();
        assert_eq!(settled(200, b"{}"), Ok(HomeserverAnswer::Done));
        assert_eq!(settled(204, br#"{"x":1}"#), Ok(HomeserverAnswer::Done));
        assert_eq!(settled(404, gone), Ok(HomeserverAnswer::Gone));
        assert_eq!(settled(409, gone), Ok(HomeserverAnswer::Gone));
        assert_eq!(settled(409, br#"{"errcode":"M_UNRECOGNIZED"}"#), Ok(HomeserverAnswer::Gone));
        assert_eq!(settled(404, br#"{"errcode":"M_UNRECOGNIZED"}"#), Err(DelayedEventError::Unrecognized));
        for status in [200, 204, 404, 409] {
            for body in ["", "<html>", "404 page not found", "null", "[]", "\"M_NOT_FOUND\"", "{"] {
                let expected = Err(DelayedEventError::NotTheHomeserver(status));
                assert_eq!(settled(status, body.as_bytes()), expected, "{status} {body}");
            }
        }
        for body in ["{}", r#"{"errcode":5}"#, r#"{"error":"no"}"#] {
            assert_eq!(settled(404, body.as_bytes()), Err(DelayedEventError::NotTheHomeserver(404)), "{body}");
        }
    }

    #[test]
    fn an_event_is_read_in_both_forms_and_none_that_is_over() {
        let read = |event: Value| scheduled(&event).map(|event| event.map(|event| u64::from(event.delay)));
        assert_eq!(read(json!({"room_id": "!r", "delay_ms": 8000, "delayed_since_ts": 1})), Ok(Some(8000)));
        assert_eq!(
            read(json!({"room_id": "!r", "delay": 8000, "running_since": 1, "finalised": null})),
            Ok(Some(8000))
        );
        assert_eq!(read(json!({"room_id": "!r", "delay_ms": 9000, "delay": 8000, "finalised": false})), Ok(Some(9000)));
        for over in [json!({"outcome": "sent"}), json!("cancel"), json!(true), json!({})] {
            assert_eq!(read(json!({"room_id": "!r", "delay_ms": 8000, "finalised": over})), Ok(None));
        }
        for event in [json!({}), json!({"delay_ms": 8000}), json!({"room_id": "!r"}), json!({"finalised": {}})] {
            assert_eq!(read(event), Err(HomeserverError::Malformed));
        }
    }

    #[test]
    fn the_header_is_seconds_or_a_date() {
        assert_eq!(from_header(" 7 ", 0), Some(Duration::from_secs(7)));
        assert_eq!(from_header("Thu, 01 Jan 1970 00:01:00 GMT", 20_000), Some(Duration::from_secs(40)));
        assert_eq!(from_header("Thu, 01 Jan 1970 00:01:00 GMT", 90_000), Some(Duration::ZERO));
        assert_eq!(from_header("soon", 0), None);
    }

    #[test]
    fn the_body_counts_milliseconds_and_is_rounded_up() {
        assert_eq!(from_body(br#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1001}"#), Some(Duration::from_secs(2)));
        assert_eq!(from_body(b"{}"), None);
        assert_eq!(from_body(b"<html>"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(header in "\\PC{0,40}", body: Vec<u8>, now: u64) {
            let _ = from_header(&header, now);
            let _ = from_body(&body);
        }
    }
}
