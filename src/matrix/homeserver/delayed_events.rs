//! Delayed events on homeservers (MSC4140, `docs/protocol.md#restart-and-send`): look-up, restart, send.
//!
//! How it works:
//! - restarting and sending need the delay id only, which is a secret, and are requested at the homeserver that it
//!   was delegated with;
//! - where that is our own homeserver and the owner is known, the request is made with the `as_token` on behalf of
//!   the owner;
//! - the API is looked up each time; if that fails, the URL from the time of the delegation is used;
//! - the status decides: see [`HomeserverAnswer::of_response`]. A 429 may say how long to wait;
//! - the look-up serves homeserver mode, where our homeserver knows the room and the delay of an event.

use std::fmt;
use std::time::Duration;

use delegated_leaves::{DelayId, DelayTimeout, DelayedEvent, HomeserverAnswer};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::clock;
use crate::fetch::{Deadline, FetchError, FetchRequest, FetchResponse, MAX_ERROR_BODY, Method};
use crate::matrix::homeserver::client_api::{ClientApis, escaped};
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
    /// Looks up an event of `owner`. `None` where there is no event with this id.
    pub async fn delayed_event(&self, id: &DelayId, owner: &UserId) -> Result<Option<Scheduled>, HomeserverError> {
        let events = self.api().delayed_events_path();
        let path = format!("{events}/{}?user_id={}", escaped(id.secret()), escaped(owner.as_str()));
        let response = self.get(&path, &Deadline::after(TIMEOUT)).await?;
        if response.status() == 404 {
            return match reports_no_event(&response.body(MAX_ERROR_BODY).await?) {
                true => Ok(None),
                false => Err(HomeserverError::Status(404)),
            };
        }
        scheduled(&read(response).await?).map(Some)
    }
}

/// Returns whether a 404 with this body is about the event. A homeserver without this path reports nothing about the event, and
/// a proxy doesn't either.
pub(crate) fn reports_no_event(body: &[u8]) -> bool {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    error["errcode"].as_str().is_some_and(|errcode| errcode != "M_UNRECOGNIZED")
}

/// Parses the response to the look-up of a delayed event.
pub(crate) fn scheduled(event: &Value) -> Result<Scheduled, HomeserverError> {
    // Synapse has `delay_ms`, from a later revision of MSC4140.
    let delay = ["delay", "delay_ms"].iter().find_map(|name| event[*name].as_u64());
    let delay = delay.and_then(DelayTimeout::from_millis);
    match (event["room_id"].as_str(), delay) {
        (Some(room_id), Some(delay)) => Ok(Scheduled { room_id: room_id.to_owned(), delay }),
        _ => Err(HomeserverError::Malformed),
    }
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
        let discovery = ClientApis::deadline();
        let as_owner = match (service, &event.owner) {
            (Some(service), Some(owner)) if *service.server_name() == server => {
                service.homeserver(apis, &discovery).await.ok().zip(Some(owner))
            }
            _ => None,
        };
        let response = match as_owner {
            Some((homeserver, owner)) => {
                let path = self.below(homeserver.api().delayed_events_path(), &event.delay_id);
                let path = format!("{path}?user_id={}", escaped(owner.as_str()));
                homeserver.post(&path, b"{}", &Deadline::after(TIMEOUT)).await?
            }
            None => {
                let found = apis.find(&server, &discovery).await;
                let (base, fetcher) = match &found {
                    Ok(api) => (api.delayed_events(), api.fetcher(&apis.fetchers)),
                    Err(_) => (event.url.clone(), apis.fetchers.internet()),
                };
                let url = self.below(base.as_str(), &event.delay_id);
                let method = Method::Post { content_type: "application/json", authorization: None, body: b"{}" };
                fetcher.send(FetchRequest { url: &url, method, deadline: &Deadline::after(TIMEOUT) }).await?
            }
        };
        Self::outcome(response).await
    }

    /// Reads a response by the table in `docs/protocol.md#delayed-events`. Only the homeserver's own word ends a delegation: a
    /// proxy answers 404 in HTML or plain text while the homeserver behind it restarts.
    async fn outcome(response: FetchResponse) -> Result<HomeserverAnswer, DelayedEventError> {
        let status = response.status();
        if !matches!(status, 200..=299 | 404 | 409 | 429) {
            response.discard();
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

    fn below(self, delayed_events: &str, id: &DelayId) -> String {
        format!("{delayed_events}/{}/{self}", escaped(id.secret()))
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

/// Well-known and `/versions` have their own limits within this.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_one_path_segment_whatever_is_in_it() {
        let id = DelayId::new("syd_a/../b?c#d%").unwrap();
        let url = Action::Restart.below("https://cs.example.com/delayed_events", &id);
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
