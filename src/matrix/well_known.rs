//! `/.well-known/matrix/server` and `/.well-known/matrix/client`: fetching them, and for how long they are kept
//! ([server-server API, "Resolving server
//! names"](https://spec.matrix.org/latest/server-server-api/#resolving-server-names), [client-server API, "Well-known
//! URI"](https://spec.matrix.org/latest/client-server-api/#well-known-uri)).
//!
//! How it works:
//! - the URL is fetched within 4 s, and up to two redirects are followed, to a well-known file of the same kind, https and allowed addresses only;
//! - the body must be JSON with the expected field; anything else counts as absent;
//! - the lifetime comes from `Cache-Control` or `Expires`: 24 h by default, between a minute and 48 h;
//! - an unreachable host is tried again after a minute, an absent file after 10 minutes.

use std::fmt::Display;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::clock;
use crate::fetch::{Deadline, FetchRequest, Fetchers, MAX_JSON_BODY, Method};
use crate::matrix::federation::discovery::AddressPolicy;
use crate::matrix::ids::server_name::{Host, ServerName};

/// GETs `https://{authority}/.well-known/matrix/{kind}`, follows a few redirects, and returns the body with its
/// lifetime.
pub async fn fetch(
    fetchers: &Fetchers,
    policy: AddressPolicy,
    authority: impl Display,
    kind: &str,
) -> Result<(Vec<u8>, Duration), WellKnownError> {
    let deadline = Deadline::after(TIMEOUT);
    let url = format!("https://{authority}/.well-known/matrix/{kind}");
    let mut url = Url::parse(&url).map_err(|_| WellKnownError::Absent)?;
    for _ in 0..=MAX_REDIRECTS {
        let call = FetchRequest {
            url: url.as_str(),
            method: Method::Get { accept: None, authorization: None },
            deadline: &deadline,
        };
        let response = fetchers.internet().send(call).await.map_err(|_| WellKnownError::Unreachable)?;
        match response.status() {
            200 => {
                let cache_control = response.header("Cache-Control");
                let expires = response.header("Expires");
                let lifetime = lifetime(cache_control.as_deref(), expires.as_deref(), clock::now_ms());
                let body = response.body(MAX_JSON_BODY).await.map_err(|_| WellKnownError::Absent)?;
                return Ok((body, lifetime));
            }
            301 | 302 | 303 | 307 | 308 => {
                let location = response.header("Location");
                let next = location.and_then(|location| redirected(policy, &url, &location, kind));
                url = next.ok_or(WellKnownError::Absent)?;
            }
            _ => return Err(WellKnownError::Absent),
        }
    }
    Err(WellKnownError::Absent)
}

/// Returns the target of a redirect that may be followed: https only, no forbidden address, and nothing but a well-known
/// file of that kind, or a stranger would choose the requests that this service makes.
pub(crate) fn redirected(policy: AddressPolicy, from: &Url, location: &str, kind: &str) -> Option<Url> {
    let to = from.join(location).ok().filter(|to| to.scheme() == "https" && is_plain(to))?;
    let path = to.path().strip_suffix(kind)?;
    path.ends_with("/.well-known/matrix/").then_some(())?;
    policy.check(&Host::of(&to)?).ok()?;
    Some(to)
}

/// Reason for a missing well-known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WellKnownError {
    /// The host doesn't respond.
    Unreachable,
    /// The host has none, or an invalid one.
    Absent,
}

impl WellKnownError {
    /// Returns the time until the next attempt.
    pub fn lifetime(self) -> Duration {
        match self {
            Self::Unreachable => MIN_LIFETIME,
            Self::Absent => ABSENT_LIFETIME,
        }
    }
}

/// Parses the delegated server name.
///
/// Returns `None` for anything but a JSON object with a valid `m.server`.
pub fn delegated_name(body: &[u8]) -> Option<ServerName> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "m.server")]
        server: String,
    }
    let body: Body = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
    ServerName::parse(&body.server).ok()
}

/// Parses the base URL of the homeserver, which must be https.
///
/// Returns `None` for anything but a JSON object with a valid `m.homeserver.base_url`.
pub fn client_base_url(body: &[u8]) -> Option<Result<Url, UnusableBaseUrl>> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "m.homeserver")]
        homeserver: Homeserver,
    }
    #[derive(Deserialize)]
    struct Homeserver {
        base_url: String,
    }
    let body: Body = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
    let base_url = body.homeserver.base_url;
    // The path behind the base URL must stay one.
    let url = (base_url.len() <= MAX_BASE_URL).then(|| Url::parse(&base_url).ok()).flatten();
    Some(url.filter(|url| url.scheme() == "https" && url.has_host() && is_plain(url)).ok_or(UnusableBaseUrl))
}

/// A base URL that isn't https, is too long, or has a query, a fragment, a user name or a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusableBaseUrl;

/// Skips the mark that some editors put at the start of a file. JSON has none, but browsers skip it too.
fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Returns whether a URL has no more than scheme, host, port and path.
pub fn is_plain(url: &Url) -> bool {
    url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none()
}

/// Returns the lifetime of a response, from its `Cache-Control` and `Expires` headers.
///
/// `now_ms` is the time of the response in milliseconds since the epoch. A response that forbids caching is kept for
/// [`MIN_LIFETIME`], because otherwise every request of a busy server would fetch it again.
pub fn lifetime(cache_control: Option<&str>, expires: Option<&str>, now_ms: u64) -> Duration {
    let wanted = match (cache_control.and_then(from_cache_control), expires) {
        (Some(wanted), _) => wanted,
        (None, Some(date)) => from_expires(date, now_ms),
        (None, None) => DEFAULT_LIFETIME,
    };
    wanted.clamp(MIN_LIFETIME, MAX_LIFETIME)
}

fn from_cache_control(header: &str) -> Option<Duration> {
    let mut max_age = None;
    for directive in header.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => max_age = value.trim().trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    max_age
}

/// Parses `Expires`. An invalid date means "already expired" (RFC 9111, 5.3).
fn from_expires(date: &str, now_ms: u64) -> Duration {
    httpdate::parse_http_date(date)
        .ok()
        .and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(Duration::ZERO, |date| date.saturating_sub(Duration::from_millis(now_ms)))
}

/// Shortest lifetime of a response, whatever its headers.
pub const MIN_LIFETIME: Duration = Duration::from_secs(60);
/// Time until a host without a valid well-known is tried again.
const ABSENT_LIFETIME: Duration = Duration::from_secs(600);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const MAX_LIFETIME: Duration = Duration::from_secs(48 * 3600);
const MAX_REDIRECTS: usize = 2;
const MAX_BASE_URL: usize = 1024;
/// Leaves time for the remaining steps within the 10 s of a verification: a host that drops packets to port 443 must
/// not exhaust it before SRV records and port 8448.
const TIMEOUT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_delegated_name_is_read() {
        assert_eq!(
            delegated_name(br#"{"m.server":"hs.example.com:443","x":1}"#),
            ServerName::parse("hs.example.com:443").ok()
        );
        for body in
            [&b"<html></html>"[..], b"{}", b"[]", br#"{"m.server":1}"#, br#"{"m.server":"https://example.com"}"#, b""]
        {
            assert_eq!(delegated_name(body), None);
        }
    }

    #[test]
    fn the_client_api_is_read() {
        let base = |body: &str| client_base_url(body.as_bytes()).map(|base| base.map(String::from));
        assert_eq!(
            base(r#"{"m.homeserver":{"base_url":"https://cs.example.com"},"x":1}"#),
            Some(Ok("https://cs.example.com/".into()))
        );
        for base_url in ["http://cs.example.com", "https://cs.example.com?x", "https://u@cs.example.com", "cs", ""] {
            assert_eq!(base(&format!(r#"{{"m.homeserver":{{"base_url":"{base_url}"}}}}"#)), Some(Err(UnusableBaseUrl)));
        }
        for body in [r#"{"m.homeserver":{}}"#, "{}", "<html>"] {
            assert_eq!(base(body), None, "{body}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let server = "\u{feff}{\"m.server\":\"hs.example.com:443\"}";
        assert_eq!(delegated_name(server.as_bytes()), ServerName::parse("hs.example.com:443").ok());
        let client = "\u{feff}{\"m.homeserver\":{\"base_url\":\"https://cs.example.com\"}}";
        assert_eq!(
            client_base_url(client.as_bytes()).map(|base| base.map(String::from)),
            Some(Ok("https://cs.example.com/".into()))
        );
        assert_eq!(delegated_name("\u{feff}\u{feff}{}".as_bytes()), None);
    }

    #[test]
    fn lifetimes_follow_the_headers_within_bounds() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert_eq!(lifetime(None, None, 0), hours(24));
        assert_eq!(lifetime(Some("public, max-age=7200"), None, 0), hours(2));
        assert_eq!(lifetime(Some("Max-Age=\"7200\""), Some("Thu, 01 Jan 1970 10:00:00 GMT"), 0), hours(2));
        assert_eq!(lifetime(Some("max-age=99999999"), None, 0), hours(48));
        assert_eq!(lifetime(Some("max-age=7200, no-store"), None, 0), MIN_LIFETIME);
        assert_eq!(lifetime(Some("private"), None, 0), hours(24));
        assert_eq!(lifetime(None, Some("Thu, 01 Jan 1970 10:00:00 GMT"), 3_600_000), hours(9));
        assert_eq!(lifetime(None, Some("0"), 0), MIN_LIFETIME);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(body: Vec<u8>, cache_control in "\\PC{0,40}", expires in "\\PC{0,40}", now: u64) {
            let _ = delegated_name(&body);
            let lifetime = lifetime(Some(&cache_control), Some(&expires), now);
            prop_assert!(lifetime >= MIN_LIFETIME && lifetime <= MAX_LIFETIME);
        }
    }
}
