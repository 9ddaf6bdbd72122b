//! Restarting and sending delayed events (MSC4140; §7 of the protocol).

use std::fmt;
use std::time::Duration;

use delegated_leaves::{DelayedEvent, DelayedEventsUrl, HomeserverAnswer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;

use super::client_api::ClientApis;
use super::server_name::ServerName;
use crate::clock;
use crate::outbound::{Call, Deadline, Method, OutboundError, Reply};

/// What to do with a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Begin its delay anew.
    Restart,
    /// Send it now.
    Send,
}

impl Operation {
    /// Does it on the homeserver's client-server API, for 5 s at most once that is found. Who knows the id needs no token.
    ///
    /// Where the API can't be found now, it is where it was when the event was delegated.
    pub async fn perform(self, apis: &ClientApis, event: &DelayedEvent) -> Result<HomeserverAnswer, DelayedEventError> {
        let server = ServerName::parse(event.server_name.as_str()).map_err(|_| DelayedEventError::ServerName)?;
        let found = apis.find(&server, &Deadline::after(DISCOVERY_TIMEOUT)).await;
        let (base, way_out) = match &found {
            Ok(api) => (api.delayed_events(), api.way_out(&apis.outbound)),
            Err(_) => (event.url.clone(), apis.outbound.internet()),
        };
        let url = self.url(&base, event.delay_id.secret());
        let deadline = Deadline::after(TIMEOUT);
        let method = Method::Post { content_type: "application/json", authorization: None, body: b"{}" };
        let reply = way_out.send(Call { url: &url, method, deadline: &deadline }).await?;
        let status = reply.status();
        let wait = match status {
            429 => retry_after(reply).await,
            _ => {
                reply.discard();
                None
            }
        };
        match HomeserverAnswer::from_status(status, wait) {
            HomeserverAnswer::Failed => Err(DelayedEventError::Status(status)),
            answer => Ok(answer),
        }
    }

    fn url(self, base: &DelayedEventsUrl, delay_id: &str) -> String {
        let segment = percent_encode(delay_id.as_bytes(), RESERVED);
        format!("{}/{segment}/{self}", base.as_str())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Send => "send",
        })
    }
}

/// Why a homeserver didn't answer with one of the answers that settle something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelayedEventError {
    /// What was delegated names no homeserver.
    ServerName,
    /// It doesn't answer.
    NoAnswer(OutboundError),
    /// It answered that something is wrong.
    Status(u16),
}

impl From<OutboundError> for DelayedEventError {
    fn from(error: OutboundError) -> Self {
        Self::NoAnswer(error)
    }
}

impl fmt::Display for DelayedEventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerName => f.write_str("the homeserver's name isn't one"),
            Self::NoAnswer(error) => write!(f, "the homeserver's client-server API doesn't answer: {error}"),
            Self::Status(status) => write!(f, "the homeserver answered {status}"),
        }
    }
}

/// How long a 429 asks to wait: `Retry-After` in seconds or as a date, else `retry_after_ms` rounded up to seconds.
async fn retry_after(reply: Reply) -> Option<Duration> {
    if let Some(wait) = reply.header("Retry-After").and_then(|header| from_header(&header, clock::now_ms())) {
        reply.discard();
        return Some(wait);
    }
    from_body(&reply.body(MAX_ERROR_BODY).await.ok()?)
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

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Well-known and `/versions` have their own limits within this.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ERROR_BODY: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_one_path_segment_whatever_is_in_it() {
        let base = DelayedEventsUrl::new("https://cs.example.com/delayed_events");
        let url = Operation::Restart.url(&base, "syd_a/../b?c#d%");
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
