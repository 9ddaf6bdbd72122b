//! The way of a client's requests to the service: address, certificate, `/healthz`, endpoints and CORS
//! (`docs/protocol.md#http-surface`).

use hyper::header::ACCESS_CONTROL_ALLOW_HEADERS;

use crate::doctor::address;
use crate::doctor::proxy::{THE_SERVICE, allows_any_origin, route_to_service, unexpected, unreached};
use crate::doctor::report::{Outcome, Verdict, unless_problem};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::settings::Settings;
use crate::doctor::web::{Failure, ORIGIN, Request, Response, Web, authority, is_loopback, values};

/// Checks that the service's name has addresses and that all of them answer.
pub(crate) async fn address(service: &ServiceUrl) -> Verdict<()> {
    match authority(service.url()) {
        Ok((host, port)) => match address::check_for_pages(host, port, THE_SERVICE).await {
            Ok(outcome) => (outcome, Some(())),
            Err(outcome) => (outcome, None),
        },
        Err(failure) => (unreached(&failure), None),
    }
}

/// Checks that clients trust the service's certificate. Without TLS the other checks still run.
pub(crate) async fn certificate(web: &Web, service: &ServiceUrl) -> Verdict<()> {
    if service.url().scheme() == "http" {
        let outcome = match is_loopback(service.url()) {
            true => Outcome::skipped("no TLS; browsers accept that on their own machine"),
            false => Outcome::problem(
                "no TLS: pages under https:// can't send requests to an http:// URL",
                "serve it under https://, and announce that URL",
            ),
        };
        return (outcome, Some(()));
    }
    match web.handshake(service.url()).await {
        Ok(()) => (Outcome::ok("trusted"), Some(())),
        Err(failure) => (unreached(&failure), None),
    }
}

/// Checks that `/healthz` reports a complete configuration.
pub(crate) async fn healthz(web: &Web, service: &ServiceUrl, settings: &Settings) -> Verdict<()> {
    let url = service.at("/healthz");
    let outcome = match web.send(&Request::get(&url, &[])).await {
        Err(failure) => unreached(&failure),
        Ok(response) => match (response.status, response.json()) {
            (200, Some(body)) if body["status"] == "ok" => Outcome::ok("200"),
            (200, _) if response.body.is_empty() => Outcome::warning(
                "200 with an empty body: another implementation, perhaps lk-jwt-service",
                "if you have moved to this one, route the URL to it",
            ),
            (503, Some(body)) if body["variables"].is_array() => {
                let names = body["variables"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
                let names: Vec<_> = names.filter(|name| is_variable(name)).collect();
                Outcome::problem(format!("503: missing or invalid: {}", names.join(", ")), settings.variables())
            }
            (200, _) => Outcome::problem(
                format!("{url} returned 200, but not this service's {{\"status\":\"ok\"}}"),
                route_to_service(service),
            ),
            _ => unexpected(service, &url, &response),
        },
    };
    unless_problem(outcome)
}

/// Checks that the client endpoints respond to a POST with an error of the service's own, and returns those
/// responses.
pub(crate) async fn endpoints(web: &Web, service: &ServiceUrl) -> Verdict<Vec<(&'static str, Response)>> {
    let mut responses = Vec::new();
    for path in ENDPOINTS {
        match post(web, &service.at(path)).await {
            Ok(response) if is_ours(&response) => responses.push((path, response)),
            Ok(response) => return (unexpected(service, &format!("POST {}", service.at(path)), &response), None),
            Err(failure) => {
                let failed = unreached(&failure);
                let seen = format!("POST {path}: {}", failed.seen);
                return (Outcome { seen, ..failed }, None);
            }
        }
    }
    (Outcome::ok(format!("{} respond to a POST", ENDPOINTS.join(", "))), Some(responses))
}

/// Checks that a doubled slash is routed to the same endpoint.
pub(crate) async fn slashes(web: &Web, service: &ServiceUrl) -> Verdict<()> {
    let url = service.at("//sfu/get");
    let change = "announce the URL without a slash at its end; in nginx, end both `location` and `proxy_pass` with a slash, \
                  or neither";
    let outcome = match post(web, &url).await {
        Ok(response) if is_ours(&response) => Outcome::ok("//sfu/get is routed like /sfu/get"),
        Ok(response) => match response.redirect() {
            Some(to) => Outcome::warning(
                format!(
                    "POST {url} is redirected to {to}, which turns it into a GET: clients fail if the announced URL ends with a slash"
                ),
                change,
            ),
            None => Outcome::warning(
                format!("POST {url} returned {}: clients fail if the announced URL ends with a slash", response.status),
                change,
            ),
        },
        Err(failure) => Outcome::warning(format!("POST {url}: {failure}"), change),
    };
    (outcome, Some(()))
}

/// Checks that browsers let pages of any origin send requests (CORS preflight).
pub(crate) async fn preflight(web: &Web, service: &ServiceUrl) -> Verdict<()> {
    let headers = [
        ("origin", ORIGIN),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    for path in ENDPOINTS {
        let url = service.at(path);
        let request = Request { method: "OPTIONS", ..Request::get(&url, &headers) };
        let response = match web.send(&request).await {
            Ok(response) => response,
            Err(failure) => return (unreached(&failure), None),
        };
        let problem = |seen: String| {
            let change = "let the proxy forward OPTIONS to the service, without responding itself and without adding or dropping \
                          Access-Control-… headers";
            (Outcome::problem(format!("OPTIONS {path}: {seen}"), change), None)
        };
        if let Some(to) = response.redirect() {
            return problem(format!("it is redirected to {to}; browsers don't follow redirects of a preflight"));
        }
        if !(200..300).contains(&response.status) {
            return problem(format!("it returned {}; browsers require 200", response.status));
        }
        if let Err(wrong) = allows_any_origin(&response.headers) {
            return problem(wrong);
        }
        let allowed = values(&response.headers, &ACCESS_CONTROL_ALLOW_HEADERS);
        if !allowed.iter().any(|name| *name == "*" || name.eq_ignore_ascii_case("content-type")) {
            return problem(String::from("Access-Control-Allow-Headers lacks Content-Type"));
        }
    }
    (Outcome::ok("pages of any origin can send requests"), Some(()))
}

/// Checks that browsers let pages of any origin read `errors`, which are the service's.
pub(crate) async fn cors_on_errors(errors: &[(&str, Response)]) -> Verdict<()> {
    for (path, response) in errors {
        if let Err(wrong) = allows_any_origin(&response.headers) {
            let change = "leave Access-Control-… headers to the service: a proxy that adds its own doubles them, and one that hides the \
                          service's drops them from errors (in nginx, add_header applies to errors only with `always`)";
            return (
                Outcome::problem(format!("POST {path}, which returned {}: {wrong}", response.status), change),
                None,
            );
        }
    }
    (Outcome::ok("pages of any origin can read errors"), Some(()))
}

async fn post(web: &Web, url: &str) -> Result<Response, Failure> {
    web.send(&Request::post(url, &[("origin", ORIGIN), ("content-type", "application/json")], b"{}")).await
}

/// Whether the response is the service's to a body without the required fields, or to one request too many.
fn is_ours(response: &Response) -> bool {
    let errcode = response.errcode();
    matches!(
        (response.status, errcode.as_deref()),
        (400, Some("M_BAD_JSON" | "M_NOT_JSON")) | (429, Some("M_LIMIT_EXCEEDED"))
    )
}

/// Whether `name` looks like a variable; nothing else from a response is repeated.
fn is_variable(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

const ENDPOINTS: [&str; 3] = ["/get_token", "/sfu/get", "/delegate_delayed_leave"];
