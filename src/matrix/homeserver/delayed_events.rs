//! Delayed events on homeservers (MSC4140, `docs/protocol.md#restart-and-send`): look-up, restart, send.
//!
//! How it works:
//! - restarting and sending need the delay id only, which is a secret, and are requested at the homeserver that it
//!   was delegated with;
//! - where that is our own homeserver and the owner is known, the request is made with the `as_token` on behalf of
//!   the owner;
//! - the API is looked up each time; if that fails, the URL from the time of the delegation is used;
//! - the status decides: see [`HomeserverAnswer::from_status`]. A 429 may say how long to wait;
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
            let error: Value = serde_json::from_slice(&response.body(MAX_ERROR_BODY).await?).unwrap_or_default();
            // A homeserver without this path reports nothing about the event.
            return match error["errcode"].as_str() {
                Some("M_UNRECOGNIZED") => Err(HomeserverError::Status(404)),
                _ => Ok(None),
            };
        }
        let event = read(response).await?;
        // Synapse has `delay_ms`, from a later revision of MSC4140.
        let delay = ["delay", "delay_ms"].iter().find_map(|name| event[*name].as_u64());
        let delay = delay.and_then(DelayTimeout::from_millis);
        match (event["room_id"].as_str(), delay) {
            (Some(room_id), Some(delay)) => Ok(Some(Scheduled { room_id: room_id.to_owned(), delay })),
            _ => Err(HomeserverError::Malformed),
        }
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
        let status = response.status();
        let wait = match status {
            429 => retry_after(response).await,
            _ => {
                response.discard();
                None
            }
        };
        match HomeserverAnswer::from_status(status, wait) {
            HomeserverAnswer::Failed => Err(DelayedEventError::Status(status)),
            answer => Ok(answer),
        }
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
}

/// Returns the wait that a 429 requests: `Retry-After` in seconds or as a date, or else `retry_after_ms`, rounded up
/// to seconds.
async fn retry_after(response: FetchResponse) -> Option<Duration> {
    if let Some(wait) = response.header("Retry-After").and_then(|header| from_header(&header, clock::now_ms())) {
        response.discard();
        return Some(wait);
    }
    from_body(&response.body(MAX_ERROR_BODY).await.ok()?)
}

fn from_header(header: &str, now_ms: u64) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(header).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_millis(now_ms)))
}

fn from_body(body: &[u8]) -> Option<Duration> {
    #[derive(Deserialize)]
    struct LimitExceeded {
        retry_after_ms: u64,
    }
    let limit: LimitExceeded = serde_json::from_slice(body).ok()?;
    Some(Duration::from_secs(limit.retry_after_ms.div_ceil(1000)))
}

/// Well-known and `/versions` have their own limits within this.
const TIMEOUT: Duration = Duration::from_secs(5);

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
