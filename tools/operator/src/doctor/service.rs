//! What a client meets on its way to the service (§2 of the protocol).

use hyper::header::ACCESS_CONTROL_ALLOW_HEADERS;

use crate::doctor::address;
use crate::doctor::proxy::{THE_SERVICE, allows_any_origin, lead_to_it, unexpected, unreached};
use crate::doctor::report::{Outcome, Verdict, unless_problem};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::web::{Failure, ORIGIN, Request, Response, Web, authority, is_loopback, values};

/// Its name has addresses, and they answer.
pub(crate) async fn address(service: &ServiceUrl) -> Verdict<()> {
    match authority(service.url()) {
        Ok((host, port)) => match address::check(host, port, THE_SERVICE).await {
            Ok(outcome) => (outcome, Some(())),
            Err(outcome) => (outcome, None),
        },
        Err(failure) => (unreached(&failure), None),
    }
}

/// Clients trust it.
pub(crate) async fn certificate(web: &Web, service: &ServiceUrl) -> Verdict<()> {
    if service.url().scheme() == "http" {
        let outcome = match is_loopback(service.url()) {
            true => Outcome::skipped("no TLS, which browsers take on their own machine"),
            false => Outcome::problem(
                "no TLS: pages under https:// may not ask an http:// URL",
                "serve it under https://, and announce that",
            ),
        };
        return (outcome, Some(()));
    }
    match web.handshake(service.url()).await {
        Ok(()) => (Outcome::ok("trusted"), Some(())),
        Err(failure) => (unreached(&failure), None),
    }
}

/// It says that it is well.
pub(crate) async fn healthz(web: &Web, service: &ServiceUrl) -> Verdict<()> {
    let url = service.at("/healthz");
    let outcome = match web.send(&Request::get(&url, &[])).await {
        Err(failure) => unreached(&failure),
        Ok(response) => match (response.status, response.json()) {
            (200, Some(body)) if body["status"] == "ok" => Outcome::ok("200"),
            (200, _) if response.body.is_empty() => Outcome::warning(
                "200, but with nothing in it: that is another implementation, lk-jwt-service perhaps",
                "if you have moved to this one, let the URL lead to it",
            ),
            (503, Some(body)) if body["variables"].is_array() => {
                let names = body["variables"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
                let names: Vec<_> = names.filter(|name| is_variable(name)).collect();
                Outcome::problem(
                    format!("503: missing or wrong are {}", names.join(", ")),
                    "set them: in [vars] of wrangler.toml, with `npx wrangler secret put NAME`, or in the environment of a local run; \
                     the service's log says what is wrong with each",
                )
            }
            (200, _) => Outcome::problem(
                format!("something else answers at {url}: 200, but not this service's {{\"status\":\"ok\"}}"),
                lead_to_it(service),
            ),
            _ => unexpected(service, &url, &response),
        },
    };
    unless_problem(outcome)
}

/// The client endpoints answer a POST with an error of the service's own. Leaves those errors.
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
    (Outcome::ok(format!("{} answer a POST", ENDPOINTS.join(", "))), Some(responses))
}

/// A doubled slash leads to the same.
pub(crate) async fn slashes(web: &Web, service: &ServiceUrl) -> Verdict<()> {
    let url = service.at("//sfu/get");
    let change = "announce the URL without a slash at its end; with nginx, end both `location` and `proxy_pass` with a slash, \
                  or neither";
    let outcome = match post(web, &url).await {
        Ok(response) if is_ours(&response) => Outcome::ok("//sfu/get is taken as /sfu/get"),
        Ok(response) => match response.redirect() {
            Some(to) => Outcome::warning(
                format!(
                    "POST {url} is redirected to {to}, which turns it into a GET: clients that are told a URL with a slash at its end fail"
                ),
                change,
            ),
            None => Outcome::warning(
                format!(
                    "POST {url} is answered with {}: clients that are told a URL with a slash at its end fail",
                    response.status
                ),
                change,
            ),
        },
        Err(failure) => Outcome::warning(format!("POST {url}: {failure}"), change),
    };
    (outcome, Some(()))
}

/// A browser may ask.
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
            let change = "let the proxy pass OPTIONS on to the service, and neither answer it nor add or drop \
                          Access-Control-… headers";
            (Outcome::problem(format!("OPTIONS {path}: {seen}"), change), None)
        };
        if let Some(to) = response.redirect() {
            return problem(format!("it is redirected to {to}; browsers don't follow"));
        }
        if !(200..300).contains(&response.status) {
            return problem(format!("the answer is {}; browsers want 200", response.status));
        }
        if let Err(wrong) = allows_any_origin(&response.headers) {
            return problem(wrong);
        }
        let allowed = values(&response.headers, &ACCESS_CONTROL_ALLOW_HEADERS);
        if !allowed.iter().any(|name| *name == "*" || name.eq_ignore_ascii_case("content-type")) {
            return problem(String::from("Access-Control-Allow-Headers lacks Content-Type"));
        }
    }
    (Outcome::ok("pages of any origin may ask"), Some(()))
}

/// A browser may read the service's errors, which these are.
pub(crate) async fn cors_on_errors(errors: &[(&str, Response)]) -> Verdict<()> {
    for (path, response) in errors {
        if let Err(wrong) = allows_any_origin(&response.headers) {
            let change = "leave Access-Control-… headers to the service: a proxy that adds its own doubles them, and one that hides the \
                          service's drops them from errors (nginx's add_header works for errors only with `always`)";
            return (
                Outcome::problem(format!("POST {path}, answered with {}: {wrong}", response.status), change),
                None,
            );
        }
    }
    (Outcome::ok("pages of any origin may read errors"), Some(()))
}

async fn post(web: &Web, url: &str) -> Result<Response, Failure> {
    web.send(&Request::post(url, &[("origin", ORIGIN), ("content-type", "application/json")], b"{}")).await
}

/// Whether this is how the service answers a body without the required fields, or to one request too many.
fn is_ours(response: &Response) -> bool {
    let errcode = response.errcode();
    matches!(
        (response.status, errcode.as_deref()),
        (400, Some("M_BAD_JSON" | "M_NOT_JSON")) | (429, Some("M_LIMIT_EXCEEDED"))
    )
}

/// Nothing that an answer says is repeated unless it looks like what it should be.
fn is_variable(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

const ENDPOINTS: [&str; 3] = ["/get_token", "/sfu/get", "/delegate_delayed_leave"];
