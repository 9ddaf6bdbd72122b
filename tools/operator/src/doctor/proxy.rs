//! What a proxy before the service does to it: recognised by answers that aren't the service's.

use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap};

use crate::doctor::report::Outcome;
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::web::{Failure, ORIGIN, Response, values};

/// Whether the headers let pages of any origin read a response; otherwise, what is wrong.
pub(crate) fn allows_any_origin(headers: &HeaderMap) -> Result<(), String> {
    match values(headers, &ACCESS_CONTROL_ALLOW_ORIGIN).as_slice() {
        ["*"] => Ok(()),
        [] => Err(String::from("there is no Access-Control-Allow-Origin header")),
        [ORIGIN] => Ok(()),
        [other] => Err(format!("Access-Control-Allow-Origin is {other} instead of *")),
        several => {
            Err(format!("Access-Control-Allow-Origin is there {} times; browsers accept it once", several.len()))
        }
    }
}

/// Why the service isn't reached, as an outcome.
pub(crate) fn unreached(failure: &Failure) -> Outcome {
    Outcome::problem(failure.to_string(), failure.change(THE_SERVICE))
}

/// What it means that something other than this service answers a request to it.
pub(crate) fn unexpected(service: &ServiceUrl, what: &str, response: &Response) -> Outcome {
    if let Some(to) = response.redirect() {
        return Outcome::problem(
            format!("{what} is redirected ({} to {to}), which turns a client's POST into a GET", response.status),
            "announce the URL that the redirect leads to, or switch the redirect off in the proxy (nginx redirects where `location` lacks the \
             slash at its end; Cloudflare where a redirect rule applies)",
        );
    }
    match response.status {
        401 | 403 => Outcome::problem(
            format!("{what} is answered with {}: something before the service refuses strangers", response.status),
            "take logins, bot challenges and firewall rules off this URL (on Cloudflare: Access, WAF, Bot Fight Mode)",
        ),
        404 | 405 => Outcome::problem(
            format!("{what} is answered with {}: this URL doesn't lead to the service", response.status),
            lead_to_it(service),
        ),
        status @ 500..=599 if response.errcode().is_none() => Outcome::problem(
            format!("{what} is answered with {status}: the proxy doesn't reach the service"),
            "see whether the service runs and whether the proxy names its address and port; on Cloudflare, look into the worker's log",
        ),
        status => Outcome::problem(
            format!("{what} is answered with {status}, which isn't the service's answer"),
            lead_to_it(service),
        ),
    }
}

/// How to lead requests to the service.
pub(crate) fn lead_to_it(service: &ServiceUrl) -> String {
    let prefix = service.prefix();
    match prefix {
        "" => String::from(
            "let the custom domain in wrangler.toml's `routes`, or the proxy's configuration, lead this name to the service",
        ),
        _ => format!(
            "let everything below {prefix}/ lead to the service: a route with the pattern `…{prefix}/*` in wrangler.toml, or \
             `location {prefix}/` in the proxy; whether the prefix is stripped doesn't matter"
        ),
    }
}

/// The party to change when the service isn't reached.
pub(crate) const THE_SERVICE: &str = "the service, or the proxy before it,";
