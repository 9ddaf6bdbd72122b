//! Cloudflare in front of a server: recognised by its responses, which it gives in the server's place where its settings
//! say so.

use std::fmt;

use hyper::header::{CONTENT_TYPE, HeaderMap, SERVER};
use matrixrtc_edge::cloudflare::NoAnswer;
use matrixrtc_edge::livekit::sfu_url::SfuUrl;

use crate::doctor::trust::Trust;
use crate::doctor::web::{Failure, Request, Response, Web};

/// Response of Cloudflare's in place of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interception {
    /// A challenge, which only browsers pass.
    Challenge,
    /// A refusal, with the number of Cloudflare's error if it has one.
    Refusal(Option<u16>),
    /// A redirect to the login of Cloudflare Access.
    Login,
    /// A refusal because of too many requests.
    RateLimit,
    /// A refusal because the account's requests of a day are used up.
    DailyLimit,
    /// An error, as there is no response of the server.
    NoAnswer(NoAnswer),
}

impl Interception {
    /// Recognises such a response.
    pub(crate) fn of(response: &Response) -> Option<Self> {
        if response.header("cf-mitigated").is_some() {
            return Some(Self::Challenge);
        }
        let is_login = |location: &str| {
            let host = location.strip_prefix("https://").and_then(|rest| rest.split(['/', '?']).next());
            host.is_some_and(|host| host.ends_with(ACCESS))
        };
        if response.redirect().is_some_and(is_login) {
            return Some(Self::Login);
        }
        if !is_from_cloudflare(&response.headers) {
            return None;
        }
        let text = String::from_utf8_lossy(&response.body);
        let code = text.trim().strip_prefix("error code: ").and_then(|code| code.parse().ok());
        match (response.status, code) {
            (403, Some(_)) => Some(Self::Refusal(code)),
            (403, None) => {
                let kind = response.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
                kind.starts_with("text/html").then_some(Self::Refusal(None))
            }
            (429, Some(RATE_LIMIT)) => Some(Self::RateLimit),
            (429, Some(DAILY_LIMIT)) => Some(Self::DailyLimit),
            (status, _) => NoAnswer::of(status).map(Self::NoAnswer),
        }
    }

    /// Settings to change; `server` is the server behind Cloudflare.
    pub(crate) fn change(&self, server: &str) -> String {
        let settings = match self {
            Self::Challenge => {
                "switch off Bot Fight Mode, which no rule can skip, and Under Attack mode; let a WAF custom rule skip the \
                 rest for this path"
            }
            Self::Refusal(Some(1010)) => {
                "switch off Browser Integrity Check, or let a WAF custom rule skip it for this path"
            }
            Self::Refusal(_) => {
                "let a WAF custom rule skip what refuses it for this path: Security, Events names it (Browser Integrity Check, \
                 User Agent Blocking, managed or custom rules). If no event is there, it is the server behind"
            }
            Self::Login => "let this path through without a login: an Access application for it, with a Bypass policy",
            Self::RateLimit => {
                "leave this path out of the rate limiting rules: Security, Events names the one. If no event is there, it is the \
                 free plan's limit of a minute"
            }
            Self::DailyLimit => {
                return String::from(
                    "wait until 00:00 UTC, or change the account to the paid plan of Workers (docs/operations.md#the-free-plan)",
                );
            }
            Self::NoAnswer(no_answer) => return restored(*no_answer, server),
        };
        format!(
            "in Cloudflare's dashboard, for the zone of this name, {settings} (docs/guides/cloudflare.md#the-zones-settings)"
        )
    }
}

impl fmt::Display for Interception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Challenge => {
                f.write_str("Cloudflare answers with a challenge (cf-mitigated), which only browsers pass")
            }
            Self::Refusal(Some(1010)) => {
                f.write_str("Cloudflare's Browser Integrity Check refuses the request (403, error 1010)")
            }
            Self::Refusal(Some(code)) => write!(f, "Cloudflare refuses the request (403, error {code})"),
            Self::Refusal(None) => {
                f.write_str("Cloudflare, or the server behind it, refuses the request with a page for browsers (403)")
            }
            Self::Login => f.write_str("Cloudflare Access requires a login"),
            Self::RateLimit => f.write_str("Cloudflare limits the rate of requests (429, error 1015)"),
            Self::DailyLimit => f.write_str(
                "Cloudflare refuses requests until midnight, because the free plan's requests of the day are used up (429, error 1027)",
            ),
            Self::NoAnswer(no_answer) => no_answer.fmt(f),
        }
    }
}

/// Change by which Cloudflare has a response of the server again.
fn restored(no_answer: NoAnswer, server: &str) -> String {
    match no_answer.status() {
        521 => format!(
            "let {server} listen at the port that Cloudflare connects to, and let its firewall pass Cloudflare's addresses"
        ),
        522 | 523 => format!(
            "correct the address in the DNS record of this name at Cloudflare, or let the firewall of {server} pass Cloudflare's \
             addresses"
        ),
        524 => format!("let {server} respond sooner: its log has the request that hangs"),
        525 | 526 => format!(
            "let {server} offer TLS with a certificate for this name, of a public authority or of Cloudflare's for origin servers"
        ),
        530 => String::from(
            "correct the DNS record of this name at Cloudflare; where it is that of a tunnel, let the tunnel run (cloudflared)",
        ),
        _ => format!(
            "let {server} send a complete response: its log may have an error, or a limit for headers that is exceeded"
        ),
    }
}

/// Whether the SFU at `url` is behind Cloudflare's proxy: one request is sent to it.
///
/// # Errors
///
/// It doesn't answer.
pub(crate) async fn is_proxied(trust: Trust, url: &str) -> Result<bool, Failure> {
    let url = SfuUrl::parse(url).map_err(|problem| Failure::NotHttp(problem.to_string()))?;
    match (Web { trust }).send(&Request::get(&format!("{}/", url.api()), &[])).await {
        Ok(response) => Ok(is_from_cloudflare(&response.headers)),
        Err(Failure::Intercepted(_)) => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// Whether a response comes from Cloudflare, or through it.
pub(crate) fn is_from_cloudflare(headers: &HeaderMap) -> bool {
    let server = headers.get(SERVER).and_then(|value| value.to_str().ok());
    headers.contains_key("cf-ray") || server.is_some_and(|server| server.eq_ignore_ascii_case("cloudflare"))
}

const ACCESS: &str = ".cloudflareaccess.com";
/// [Cloudflare, "Errors and exceptions"](https://developers.cloudflare.com/workers/observability/errors/).
const DAILY_LIMIT: u16 = 1027;
const RATE_LIMIT: u16 = 1015;

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Response { status, headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn what_cloudflare_says_in_a_server_s_place_is_recognised() {
        let cloudflare = ("server", "cloudflare");
        let login = "https://team.cloudflareaccess.com/cdn-cgi/access/login/rtc.example.com?kid=1";
        for (response, interception) in [
            (response(403, &[("cf-mitigated", "challenge")], ""), Interception::Challenge),
            (response(429, &[("cf-mitigated", "challenge"), cloudflare], ""), Interception::Challenge),
            (
                response(403, &[cloudflare, ("content-type", "text/html; charset=UTF-8")], "<html>"),
                Interception::Refusal(None),
            ),
            (
                response(403, &[cloudflare, ("content-type", "text/plain")], "error code: 1010\n"),
                Interception::Refusal(Some(1010)),
            ),
            (response(302, &[("location", login)], ""), Interception::Login),
            (response(429, &[cloudflare], "error code: 1015"), Interception::RateLimit),
            (response(429, &[cloudflare], "error code: 1027\n"), Interception::DailyLimit),
            (response(521, &[cloudflare], "error code: 521"), Interception::NoAnswer(NoAnswer::of(521).unwrap())),
            (response(530, &[("cf-ray", "1")], "error code: 1016"), Interception::NoAnswer(NoAnswer::of(530).unwrap())),
        ] {
            assert_eq!(Interception::of(&response), Some(interception), "{response:?}");
        }
    }

    #[test]
    fn an_answer_that_is_missing_is_named_with_its_cause_and_its_remedy() {
        for (status, cause, remedy) in [
            (520, "no valid response (520)", "let the SFU send a complete response"),
            (521, "nobody listens there (521)", "let the SFU listen"),
            (522, "isn't reached (522)", "DNS record"),
            (524, "takes too long (524)", "let the SFU respond sooner"),
            (526, "certificate isn't valid (526)", "with a certificate for this name"),
            (530, "isn't resolved, or its tunnel isn't connected (530)", "cloudflared"),
        ] {
            let interception = Interception::of(&response(status, &[("server", "cloudflare")], "")).unwrap();
            assert!(interception.to_string().ends_with(cause), "{interception}");
            assert!(interception.change("the SFU").contains(remedy), "{}", interception.change("the SFU"));
        }
    }

    #[test]
    fn what_a_server_says_itself_is_not() {
        let cloudflare = ("server", "cloudflare");
        for response in [
            response(200, &[cloudflare, ("content-type", "text/html")], "<html>"),
            response(403, &[("server", "nginx"), ("content-type", "text/html")], "<html>"),
            response(403, &[cloudflare, ("content-type", "application/json")], r#"{"errcode":"M_FORBIDDEN"}"#),
            response(302, &[("location", "https://example.com/team.cloudflareaccess.com")], ""),
            response(429, &[cloudflare, ("content-type", "application/json")], r#"{"errcode":"M_LIMIT_EXCEEDED"}"#),
            response(502, &[cloudflare], "error code: 502"),
            response(521, &[("server", "nginx")], ""),
        ] {
            assert_eq!(Interception::of(&response), None, "{response:?}");
        }
    }
}
