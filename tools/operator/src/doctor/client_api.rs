//! The homeserver's client-server API and its delayed events, by which the service restarts and sends delegated
//! leaves (`docs/protocol.md#delayed-events`).

use matrixrtc_edge::matrix::ids::server_name::{Host, ServerName};
use matrixrtc_edge::matrix::well_known::client_base_url;
use url::Url;

use crate::doctor::report::{Outcome, Status, Verdict};
use crate::doctor::subject::Subject;
use crate::doctor::web::{Failure, Request, Response, Web};

/// Client-server API that responds to `/versions`.
pub(crate) struct ClientApi {
    base: String,
    delayed_events: Option<Form>,
    is_joined: Form,
}

impl ClientApi {
    /// Base URL, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// URL of `path` below `/_matrix/client/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/_matrix/client/{path}", self.base)
    }

    /// Path of delayed events (MSC4140), below `/_matrix/client/`. `None` if they aren't announced.
    pub(crate) fn delayed_events_path(&self) -> Option<String> {
        let prefix = match self.delayed_events? {
            Form::Stable => "v1",
            Form::Unstable => "unstable/org.matrix.msc4140",
        };
        Some(format!("{prefix}/delayed_events"))
    }

    /// Path of `{room}/is_joined` (MSC4502), below `/_matrix/client/`.
    pub(crate) fn is_joined_rooms_path(&self) -> &'static str {
        match self.is_joined {
            Form::Stable => "v3/rooms",
            Form::Unstable => "unstable/io.element.msc4502/rooms",
        }
    }
}

/// Form of an endpoint, as announced in `/versions`.
#[derive(Clone, Copy)]
enum Form {
    Stable,
    Unstable,
}

/// Finds the client-server API by the well-known file, or else at the server name itself, and requests its `/versions`.
pub(crate) async fn find(
    web: &Web,
    subject: &Subject,
    server_name: &ServerName,
    well_known: Option<&Response>,
) -> Verdict<ClientApi> {
    let base = well_known.and_then(|file| client_base_url(&file.body)).transpose();
    let Ok(base) = base else {
        let seen = "m.homeserver.base_url in .well-known/matrix/client is no https URL without query, user and password: \
                       leaves can't be delegated";
        return (Outcome::problem(seen, "set it to the https URL of the client-server API"), None);
    };
    if let Some(base) = base {
        if let Some(Err(error)) = Host::of(&base).map(|host| subject.addresses.check(&host)) {
            return (
                Outcome::problem(error.to_string(), "set m.homeserver.base_url to a URL with a public host"),
                None,
            );
        }
        let base = base.as_str().trim_end_matches('/').to_owned();
        return match versions(web, &base).await {
            Err(failure) => (unreached(&base, &failure), None),
            Ok(Ok(api)) => (Outcome::ok(base), Some(api)),
            Ok(Err(status)) => (
                Outcome::problem(
                    format!("the response from {base}{VERSIONS} isn't a homeserver's ({status})"),
                    "set m.homeserver.base_url to the URL of the client-server API, and let the proxy forward /_matrix to the homeserver",
                ),
                None,
            ),
        };
    }
    let base = format!("https://{}", server_name.host());
    match versions(web, &base).await {
        Ok(Ok(api)) => (Outcome::ok(format!("{base} (the server name itself, without a well-known file)")), Some(api)),
        Ok(Err(_)) | Err(_) => (
            Outcome::problem(
                format!(
                    ".well-known/matrix/client has no m.homeserver.base_url, and there is no client-server API \
                     at {base}: leaves can't be delegated"
                ),
                "add \"m.homeserver\": {\"base_url\": \"https://…\"} to it; or name the URL in LIVEKIT_CS_API_URL_OVERRIDES, \
                 which only the service can check",
            ),
            None,
        ),
    }
}

/// Requests `/versions`. `Ok(Err(_))` is the status of a response that isn't a homeserver's.
async fn versions(web: &Web, base: &str) -> Result<Result<ClientApi, u16>, Failure> {
    let response = web.send(&Request::get(&format!("{base}{VERSIONS}"), &[])).await?;
    let Some(body) = response.json().filter(|body| response.status == 200 && body["versions"].is_array()) else {
        return Ok(Err(response.status));
    };
    let has = |feature: &str| body["unstable_features"][feature] == true;
    let delayed_events = match (has("org.matrix.msc4140.stable"), has("org.matrix.msc4140")) {
        (true, _) => Some(Form::Stable),
        (_, true) => Some(Form::Unstable),
        _ => None,
    };
    let is_joined = if has("io.element.msc4502.stable") { Form::Stable } else { Form::Unstable };
    Ok(Ok(ClientApi { base: base.to_owned(), delayed_events, is_joined }))
}

/// Requests the restart and the sending of a delayed event that doesn't exist, without a login. In homeserver mode the
/// service has one.
pub(crate) async fn delayed_events(web: &Web, api: &ClientApi, homeserver_mode: bool) -> Verdict<()> {
    let Some(path) = api.delayed_events_path() else {
        return (not_announced(software(web, api).await.as_deref()), None);
    };
    let mut best = Outcome::ok("available; an unknown id is refused");
    // Synapse's workers have `restart`, and only its main process has `send`.
    for operation in ["send", "restart"] {
        let url = api.url(&format!("{path}/{MADE_UP}/{operation}"));
        let outcome = match web.send(&Request::post(&url, &[("content-type", "application/json")], b"{}")).await {
            Err(failure) => unreached(&api.base, &failure),
            Ok(response) => judge_operation(operation, &response, homeserver_mode),
        };
        if outcome.status == Status::Problem || best.status == Status::Ok {
            best = outcome;
        }
    }
    (best, Some(()))
}

/// Outcome for a homeserver that doesn't announce delayed events, by the name of its software.
fn not_announced(software: Option<&str>) -> Outcome {
    let seen = "the homeserver doesn't announce delayed events (org.matrix.msc4140) in /versions: the user of a crashed client stays in \
                the call";
    match software {
        Some("Synapse") => Outcome::problem(
            seen,
            "set max_event_delay_duration in homeserver.yaml, for example to 24h, and restart Synapse",
        ),
        software => {
            let name = software.map_or_else(String::new, |software| format!(", {software},"));
            Outcome::warning(
                seen,
                format!(
                    "Synapse: set max_event_delay_duration in homeserver.yaml, for example to 24h; if this homeserver{name} has delayed \
                     events in no version, nothing: calls work, but for such users"
                ),
            )
        }
    }
}

/// Name of the homeserver's software, which its federation API shows; `None` if that isn't at the same place.
async fn software(web: &Web, api: &ClientApi) -> Option<String> {
    let response = web.send(&Request::get(&format!("{}{FEDERATION_VERSION}", api.base), &[])).await.ok()?;
    let body = response.json().filter(|_| response.status == 200)?;
    let name = body["server"]["name"].as_str()?;
    Some(name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect())
}

fn judge_operation(operation: &str, response: &Response, homeserver_mode: bool) -> Outcome {
    match (response.status, response.errcode().as_deref()) {
        (404, Some("M_NOT_FOUND")) => Outcome::ok("available; an unknown id is refused"),
        (404 | 405, Some(_)) if operation == "send" => Outcome::problem(
            "the homeserver has `restart` for delayed events, but no `send`: leaves are restarted, and never sent early",
            "Synapse with workers: route …/delayed_events/…/send and …/cancel to the main process, and only …/restart to workers",
        ),
        (404 | 405, Some(_)) => Outcome::problem(
            "the homeserver announces delayed events, but has no `restart` without a login",
            "update the homeserver (Synapse: 1.143 or newer); if it has workers, route delayed_events to one that serves them",
        ),
        (401 | 403, _) if homeserver_mode => Outcome::ok(format!(
            "available; `{operation}` requires a login ({}), which the service has for this homeserver's users",
            response.status
        )),
        (401 | 403, _) => Outcome::problem(
            format!(
                "the homeserver requires a login for `{operation}` ({}), which this service doesn't have: it refuses to take leaves over",
                response.status
            ),
            "set up homeserver mode, in which the service has a login (docs/guides/homeserver-mode.md), or give its tokens to the doctor; \
             Synapse before 1.143: update it",
        ),
        (429, _) => Outcome::warning(
            "the homeserver limits the rate of requests for delayed events (429), for all of this service's leaves together",
            "Synapse: in homeserver.yaml, raise rc_delayed_event_mgmt (per_second: 50, burst_count: 500); in homeserver mode, set \
             rate_limited: false in the registration file, too",
        ),
        (status, _) => Outcome::problem(
            format!("the response to POST …/delayed_events/…/{operation} is {status}; 404 M_NOT_FOUND is expected"),
            "let the proxy forward everything below /_matrix/client to the homeserver, with every method",
        ),
    }
}

/// Outcome of a check that doesn't reach the client-server API at `base`.
pub(crate) fn unreached(base: &str, failure: &Failure) -> Outcome {
    let host = Url::parse(base).ok().and_then(|url| url.host_str().map(str::to_owned));
    let server = format!("the homeserver, or the proxy in front of it, at {}", host.as_deref().unwrap_or(base));
    Outcome::problem(format!("{base}: {failure}"), failure.change(&server))
}

/// Beside the client-server API at most homeservers.
const FEDERATION_VERSION: &str = "/_matrix/federation/v1/version";
/// In characters.
const MAX_NAME: usize = 40;
const VERSIONS: &str = "/_matrix/client/versions";
const MADE_UP: &str = "made-up-by-matrixrtc-doctor";
