//! What the service does to restart and send a delayed leave: find the client-server API, and ask it (§7 of the protocol).

use matrixrtc_edge::matrix::ids::server_name::Host;
use matrixrtc_edge::matrix::well_known::client_base_url;
use url::Url;

use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::subject::Subject;
use crate::doctor::web::{Failure, Request, Response, Web};

/// A client-server API that answers.
pub(crate) struct ClientApi {
    base: String,
    delayed_events: Option<Form>,
    is_joined: Form,
}

impl ClientApi {
    /// Its base URL, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The URL of what is at `path` below `/_matrix/client/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/_matrix/client/{path}", self.base)
    }

    /// Below what rooms tell who is joined to them (MSC4502), below `/_matrix/client/`.
    pub(crate) fn is_joined_rooms_path(&self) -> &'static str {
        match self.is_joined {
            Form::Stable => "v3/rooms",
            Form::Unstable => "unstable/io.element.msc4502/rooms",
        }
    }
}

/// The form of something that it says that it has.
#[derive(Clone, Copy)]
enum Form {
    Stable,
    Unstable,
}

/// Finds it by the well-known file, and asks for its versions.
pub(crate) async fn find(web: &Web, subject: &Subject, well_known: &Response) -> Verdict<ClientApi> {
    let Some(base) = client_base_url(&well_known.body) else {
        return (
            Outcome::problem(
                ".well-known/matrix/client has no m.homeserver.base_url that begins with https://: leaves can't be taken over",
                "add \"m.homeserver\": {\"base_url\": \"https://…\"} to it; or name the URL in LIVEKIT_CS_API_URL_OVERRIDES, then \
                 nobody but the service can check it",
            ),
            None,
        );
    };
    if let Some(Err(error)) = Host::of(&base).map(|host| subject.addresses.check(&host)) {
        return (Outcome::problem(error.to_string(), "let m.homeserver.base_url name a public host"), None);
    }
    let base = base.as_str().trim_end_matches('/').to_owned();
    let url = format!("{base}/_matrix/client/versions");
    let response = match web.send(&Request::get(&url, &[])).await {
        Ok(response) => response,
        Err(failure) => return (unreached(&base, &failure), None),
    };
    match response.json() {
        Some(body) if response.status == 200 && body["versions"].is_array() => {
            let has = |feature: &str| body["unstable_features"][feature] == true;
            let delayed_events = match (has("org.matrix.msc4140.stable"), has("org.matrix.msc4140")) {
                (true, _) => Some(Form::Stable),
                (_, true) => Some(Form::Unstable),
                _ => None,
            };
            let is_joined = if has("io.element.msc4502.stable") { Form::Stable } else { Form::Unstable };
            (Outcome::ok(base.clone()), Some(ClientApi { base, delayed_events, is_joined }))
        }
        _ => (
            Outcome::problem(
                format!("what answers at {url} is no homeserver ({})", response.status),
                "let m.homeserver.base_url name the client-server API, and the proxy pass /_matrix on to the homeserver",
            ),
            None,
        ),
    }
}

/// Asks it to restart a delayed event that nobody has scheduled.
pub(crate) async fn delayed_events(web: &Web, api: &ClientApi) -> Verdict<()> {
    let Some(form) = api.delayed_events else {
        let seen = "the homeserver doesn't say in /versions that it has delayed events (org.matrix.msc4140): a crashed client stays in \
                    the call";
        let change = "Synapse: set max_event_delay_duration, 24h say, in homeserver.yaml, and restart it; others: update the homeserver";
        return (Outcome::problem(seen, change), None);
    };
    let path = match form {
        Form::Stable => "v1",
        Form::Unstable => "unstable/org.matrix.msc4140",
    };
    let url = api.url(&format!("{path}/delayed_events/{MADE_UP}/restart"));
    let outcome = match web.send(&Request::post(&url, &[("content-type", "application/json")], b"{}")).await {
        Err(failure) => unreached(&api.base, &failure),
        Ok(response) => match (response.status, response.errcode().as_deref()) {
            (404, Some("M_NOT_FOUND")) => Outcome::ok("there, and unknown ids are refused"),
            (404 | 405, Some(_)) => Outcome::problem(
                "the homeserver announces delayed events, but doesn't know `restart` without a login",
                "update the homeserver (Synapse: 1.143 or newer), and if it has workers, route delayed_events to one that serves them",
            ),
            (401 | 403, _) => Outcome::problem(
                format!(
                    "the homeserver wants a login for `restart` ({}), which this service doesn't have",
                    response.status
                ),
                "update the homeserver: who knows the id of a delayed event needs no login (Synapse: 1.143 or newer)",
            ),
            (429, _) => Outcome::warning(
                "the homeserver limits how often delayed events are asked for (429), for all that this service looks after together",
                "Synapse: raise rc_delayed_event_mgmt in homeserver.yaml",
            ),
            (status, _) => Outcome::problem(
                format!("POST …/delayed_events/…/restart is answered with {status}, where 404 M_NOT_FOUND belongs"),
                "let the proxy pass everything below /_matrix/client on to the homeserver, with every method",
            ),
        },
    };
    (outcome, Some(()))
}

/// Why the client-server API at `base` isn't reached, as an outcome.
pub(crate) fn unreached(base: &str, failure: &Failure) -> Outcome {
    let host = Url::parse(base).ok().and_then(|url| url.host_str().map(str::to_owned));
    let server = format!("the homeserver, or the proxy before it, at {}", host.as_deref().unwrap_or(base));
    Outcome::problem(format!("{base}: {failure}"), failure.change(&server))
}

const MADE_UP: &str = "made-up-by-matrixrtc-doctor";
