//! The homeserver's list of transports (MSC4143), the second place of the announcement
//! (`docs/protocol.md#how-clients-find-this-service`).
//!
//! # How it works
//!
//! - [`check`] requests `rtc/transports` in both forms, each as a client's page does, by CORS.
//! - [`check_as_user`] reads both forms as the client of a user with a login.
//! - 404 is no endpoint: older clients go on with the well-known file, newer ones find nothing.
//! - 401 is an endpoint that needs a login. It is read with the `as_token`, where that is given; otherwise its content
//!   isn't known.
//! - 200 is read, of a homeserver or of a proxy in its place. A list that is empty is worse than 404: it keeps clients
//!   from reading the well-known file.
//! - The report has the worst of the forms that are there.

use serde_json::Value;

use crate::doctor::announcement::{corrected, entry, is_livekit, judge_entries};
use crate::doctor::client_api::{self, ClientApi};
use crate::doctor::credentials::RegistrationToken;
use crate::doctor::proxy::allows_any_origin;
use crate::doctor::report::{Outcome, Status, Verdict};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::user::UserApi;
use crate::doctor::web::{Failure, ORIGIN, Request, Response, Web};

/// Checks that clients with a login find `service` in the homeserver's list.
pub(crate) async fn check(
    web: &Web,
    api: &ClientApi,
    service: &ServiceUrl,
    as_token: Option<&RegistrationToken>,
) -> Outcome {
    let mut worst = None;
    for path in PATHS {
        let outcome = match get(web, &api.url(path), as_token).await {
            Err(failure) => client_api::unreached(api.base(), &failure),
            Ok(response) => match judge(&response, path, service) {
                Some(outcome) => outcome,
                None => continue,
            },
        };
        if worst.as_ref().is_none_or(|worst| severity(&outcome) > severity(worst)) {
            worst = Some(outcome);
        }
    }
    worst.unwrap_or_else(|| no_list(service))
}

/// Checks that the client of a user finds `service`, and returns the SFUs' URLs of homeserver mode in the list.
pub(crate) async fn check_as_user(user: UserApi<'_>, service: &ServiceUrl) -> Verdict<Vec<String>> {
    let authorization = user.session.token.bearer();
    let headers = [("origin", ORIGIN), ("authorization", authorization.as_str())];
    let (mut outcomes, mut urls) = (Vec::new(), Vec::new());
    for path in PATHS {
        let response = match user.web.send(&Request::get(&user.api.url(path), &headers)).await {
            Ok(response) => response,
            Err(failure) => {
                outcomes.push(user.unreached(&failure));
                continue;
            }
        };
        match response.status {
            404 | 405 => continue,
            200 => outcomes.push(judge_list(&response, service)),
            _ => outcomes.push(user.unexpected(&format!("GET …/{path}"), &response)),
        }
        let body = response.json().unwrap_or_default();
        let announced = announced(&body).iter().filter(|entry| is_livekit(entry));
        urls.extend(announced.filter_map(|entry| entry["url"].as_str().map(str::to_owned)));
    }
    let outcome = match outcomes.into_iter().max_by_key(severity) {
        Some(outcome) if outcome.status == Status::Ok && !urls.is_empty() => {
            Outcome::ok(format!("{service}, and {} for homeserver mode", urls.join(", ")))
        }
        Some(outcome) => outcome,
        None => no_list(service),
    };
    (outcome, Some(urls))
}

/// Outcome for a homeserver without the endpoint.
fn no_list(service: &ServiceUrl) -> Outcome {
    Outcome::warning(
        "the homeserver has no list of transports (404): Element Call from 0.24 on its own, and newer SDKs, don't find the service",
        format!("{}; others: a proxy can answer, see docs/guides/announcing.md", to_set(&entry(service, None))),
    )
}

/// Requests a list, without a login if it isn't needed, then with the `as_token`.
async fn get(web: &Web, url: &str, as_token: Option<&RegistrationToken>) -> Result<Response, Failure> {
    let response = web.send(&Request::get(url, &[("origin", ORIGIN)])).await?;
    match as_token {
        Some(token) if response.status == 401 => {
            let authorization = token.bearer();
            web.send(&Request::get(url, &[("origin", ORIGIN), ("authorization", &authorization)])).await
        }
        _ => Ok(response),
    }
}

/// Judges a response; `None` if there is no endpoint.
fn judge(response: &Response, path: &str, service: &ServiceUrl) -> Option<Outcome> {
    match response.status {
        404 | 405 => None,
        401 | 403 if response.errcode().is_none() => Some(Outcome::problem(
            format!("GET …/{path} returned {}, in a response that isn't a homeserver's", response.status),
            "let the proxy forward everything below /_matrix/client to the homeserver, without a login of its own",
        )),
        401 | 403 => Some(Outcome::ok(format!(
            "clients with a login read it ({} without one), so its content isn't checked: GET …/{path} with an access token must list {}",
            response.status,
            entry(service, None)
        ))),
        200 => Some(judge_list(response, service)),
        status => Some(Outcome::problem(
            format!("the response to GET …/{path} is {status}, and isn't a homeserver's"),
            "let the proxy forward everything below /_matrix/client to the homeserver",
        )),
    }
}

fn judge_list(response: &Response, service: &ServiceUrl) -> Outcome {
    let Some(body) = response.json().filter(Value::is_object) else {
        return Outcome::problem(
            "the homeserver's list of transports isn't JSON",
            "let the proxy forward everything below /_matrix/client to the homeserver",
        );
    };
    let entries = announced(&body);
    if entries.is_empty() {
        return Outcome::problem(
            "the homeserver has a list of transports, and it is empty: clients that read it don't look into .well-known/matrix/client, \
             and find no transport",
            to_set(&entry(service, None)),
        );
    }
    match judge_entries("the homeserver's list of transports", entries, service) {
        Err(seen) => Outcome::problem(seen, to_set(&corrected(entries, service))),
        Ok(outcome) => match allows_any_origin(&response.headers) {
            Err(wrong) if outcome.status == Status::Ok => Outcome::problem(
                format!("pages of other origins can't read the homeserver's list of transports: {wrong}"),
                "serve it with `Access-Control-Allow-Origin: *`, exactly once, and respond to OPTIONS likewise",
            ),
            _ => outcome,
        },
    }
}

/// Entries of a homeserver's list.
pub(crate) fn announced(body: &Value) -> &[Value] {
    KEYS.iter().find_map(|key| body[key].as_array()).map_or(&[], Vec::as_slice)
}

/// Change that makes a homeserver announce this entry.
fn to_set(entry: &Value) -> String {
    format!(
        "Synapse: in homeserver.yaml, set msc4143_enabled: true under experimental_features and matrix_rtc: {{\"transports\": \
         [{entry}]}}, and restart it; continuwuity: foci under [global.matrix_rtc]; tuwunel: livekit_url under [global.well_known]"
    )
}

fn severity(outcome: &Outcome) -> u8 {
    match outcome.status {
        Status::Skipped | Status::Ok => 0,
        Status::Warning => 1,
        Status::Problem => 2,
    }
}

/// Below `/_matrix/client/`; the first one is deployed.
const PATHS: [&str; 2] = ["unstable/org.matrix.msc4143/rtc/transports", "v1/rtc/transports"];
/// Key of the list, as deployed and as merged.
const KEYS: [&str; 2] = ["rtc_transports", "transports"];

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderMap;
    use proptest::prelude::*;
    use serde_json::json;

    fn service() -> ServiceUrl {
        ServiceUrl::parse("https://rtc.example.com/livekit/jwt").unwrap()
    }

    fn response(status: u16, body: &Value) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", "*".parse().unwrap());
        Response { status, headers, body: body.to_string().into_bytes() }
    }

    fn judged(body: &Value) -> Outcome {
        judge(&response(200, body), "path", &service()).unwrap()
    }

    #[test]
    fn the_list_is_read_under_both_keys_and_types() {
        let ours = entry(&service(), Some("wss://sfu.example.com"));
        let merged = json!({ "type": "m.livekit", "livekit_service_url": service().as_str() });
        assert_eq!(judged(&json!({ "rtc_transports": [ours] })).status, Status::Ok);
        assert_eq!(judged(&json!({ "transports": [ours] })).status, Status::Ok);
        assert_eq!(judged(&json!({ "transports": [merged] })).status, Status::Warning);
    }

    #[test]
    fn an_empty_list_is_a_problem_with_the_entry_to_set() {
        for body in [json!({}), json!({ "rtc_transports": [] }), json!({ "rtc_transports": null })] {
            let outcome = judged(&body);
            assert!(outcome.status == Status::Problem && outcome.seen.contains("it is empty"), "{outcome:?}");
            let change = outcome.change.unwrap();
            assert!(change.contains("msc4143_enabled: true") && change.contains("\"livekit_service_url\""), "{change}");
        }
    }

    #[test]
    fn an_entry_with_url_alone_is_a_problem_and_keeps_its_url() {
        let outcome = judged(&json!({ "rtc_transports": [{ "type": "livekit", "url": "wss://sfu.example.com" }] }));
        assert!(outcome.status == Status::Problem && outcome.seen.contains("before 0.28.1"), "{outcome:?}");
        let change = outcome.change.unwrap();
        assert!(change.contains("wss://sfu.example.com") && change.contains(service().as_str()), "{change}");
    }

    #[test]
    fn the_status_tells_whether_there_is_an_endpoint() {
        let body = json!({ "errcode": "M_MISSING_TOKEN" });
        let status = |status| judge(&response(status, &body), "path", &service()).map(|outcome| outcome.status);
        assert_eq!(status(404), None);
        assert_eq!(status(405), None);
        assert_eq!(status(401), Some(Status::Ok));
        assert_eq!(status(502), Some(Status::Problem));
        let of_a_proxy = judge(&response(401, &json!({})), "path", &service()).unwrap();
        assert_eq!(of_a_proxy.status, Status::Problem);
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_panic(body: Vec<u8>, url in "\\PC{0,40}") {
            let _ = judge_list(&Response { body, ..response(200, &json!({})) }, &service());
            let _ = judged(&json!({ "rtc_transports": [{ "type": "livekit", "livekit_service_url": url }] }));
        }
    }
}
