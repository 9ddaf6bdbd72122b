//! Cloudflare in front of a server: recognised by its responses, which it gives in the server's place where its settings
//! say so.

use std::fmt;

use hyper::header::{CONTENT_TYPE, HeaderMap, SERVER};
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
        if response.status != 403 || !is_from_cloudflare(&response.headers) {
            return None;
        }
        let text = String::from_utf8_lossy(&response.body);
        let code = text.trim().strip_prefix("error code: ").and_then(|code| code.parse().ok());
        let kind = response.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        (code.is_some() || kind.starts_with("text/html")).then_some(Self::Refusal(code))
    }

    /// Settings to change.
    pub(crate) fn change(&self) -> String {
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
        }
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
        ] {
            assert_eq!(Interception::of(&response), Some(interception), "{response:?}");
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
        ] {
            assert_eq!(Interception::of(&response), None, "{response:?}");
        }
    }
}
