//! Proxies in front of the service: responses that can't be the service's own, their likely causes, and the change.

use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap};

use crate::doctor::report::Outcome;
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::web::{Failure, ORIGIN, Response, values};

/// Checks that a response's headers let pages of any origin read it; `Err` with the mistake.
pub(crate) fn allows_any_origin(headers: &HeaderMap) -> Result<(), String> {
    match values(headers, &ACCESS_CONTROL_ALLOW_ORIGIN).as_slice() {
        ["*"] => Ok(()),
        [] => Err(String::from("there is no Access-Control-Allow-Origin header")),
        [ORIGIN] => Ok(()),
        [other] => Err(format!("Access-Control-Allow-Origin is {other} instead of *")),
        several => {
            Err(format!("there are {} Access-Control-Allow-Origin headers; browsers accept only one", several.len()))
        }
    }
}

/// Outcome of a check that doesn't reach the service.
pub(crate) fn unreached(failure: &Failure) -> Outcome {
    Outcome::problem(failure.to_string(), failure.change(THE_SERVICE))
}

/// Outcome of a check whose `request` to the service is answered by something else.
pub(crate) fn unexpected(service: &ServiceUrl, request: &str, response: &Response) -> Outcome {
    if let Some(to) = response.redirect() {
        return Outcome::problem(
            format!("{request} is redirected ({} to {to}), which turns a client's POST into a GET", response.status),
            "announce the URL to which it is redirected, or disable the redirect in the proxy (nginx redirects where `location` lacks the \
             slash at its end; Cloudflare where a redirect rule applies)",
        );
    }
    match response.status {
        401 | 403 => Outcome::problem(
            format!(
                "{request} returned {}: something in front of the service requires authentication",
                response.status
            ),
            "exempt this URL from logins, bot challenges and firewall rules (on Cloudflare: Access, WAF, Bot Fight Mode)",
        ),
        404 | 405 => Outcome::problem(
            format!("{request} returned {}: this URL isn't routed to the service", response.status),
            route_to_service(service),
        ),
        429 if response.errcode().is_none() => Outcome::problem(
            format!("{request} returned 429: something in front of the service limits the rate of requests"),
            "raise the limit there, or exempt this URL from it",
        ),
        status @ 500..=599 if response.errcode().is_none() => Outcome::problem(
            format!("{request} returned {status}: the proxy doesn't reach the service"),
            "check that the service is running and that the proxy has its address and port; on Cloudflare, read the worker's log",
        ),
        status => Outcome::problem(
            format!("{request} returned {status}, in a response that isn't the service's"),
            route_to_service(service),
        ),
    }
}

/// Change that routes requests to the service.
pub(crate) fn route_to_service(service: &ServiceUrl) -> String {
    let prefix = service.prefix();
    match prefix {
        "" => String::from(
            "route this name to the service, by the custom domain in `routes` of wrangler's configuration or by the proxy's configuration",
        ),
        _ => format!(
            "route everything below {prefix}/ to the service: by a route with the pattern `…{prefix}/*` in wrangler's configuration, or by \
             `location {prefix}/` in the proxy, with or without stripping the prefix"
        ),
    }
}

/// Server to change if the service isn't reached.
pub(crate) const THE_SERVICE: &str = "the service, or the proxy in front of it,";
