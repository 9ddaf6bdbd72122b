//! Client-server APIs of homeservers: their base URL, and the paths they support
//! (`docs/protocol.md#finding-the-client-server-api`).
//!
//! How it works:
//! - the base URL comes from `LIVEKIT_CS_API_URL_OVERRIDES`, or else from the client well-known of the server name, or
//!   else it is the host of that name, if it answers as a homeserver does;
//! - `/versions` then reports which MSCs are available under stable paths; for the others the unstable path is used;
//! - the result is shared by all requests of the isolate, for 4 hours or more; after a failure, and once the API stops
//!   answering as a homeserver does, for a minute;
//! - a configured URL may be private; a URL from well-known is checked against the address policy, and requested
//!   through the `internet` exit.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use delegated_leaves::DelayedEventsUrl;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use thiserror::Error;
use url::Url;

use crate::fetch::{Deadline, FetchRequest, Fetcher, Fetchers, MAX_JSON_BODY, Method};
use crate::matrix::federation::discovery::AddressPolicy;
use crate::matrix::ids::server_name::{Host, ServerName};
use crate::matrix::lookups::{SingleFlightCache, WaitUntil, Weigh};
use crate::matrix::well_known::{self, UnusableBaseUrl, WellKnownError};

/// Looks up client-server APIs, for the duration of one request to this service, or of one alarm.
#[derive(Clone)]
pub struct ClientApis {
    /// Sends the requests.
    pub fetchers: Fetchers,
    /// Addresses that well-known may name.
    pub policy: AddressPolicy,
    /// URLs that need no discovery: `LIVEKIT_CS_API_URL_OVERRIDES`.
    pub overrides: std::rc::Rc<BTreeMap<ServerName, Url>>,
    /// Keeps the invocation alive for a look-up that other requests wait for.
    pub wait_until: WaitUntil,
}

impl ClientApis {
    /// Returns the deadline for a look-up that starts now: 10 s for discovery and `/versions` together.
    pub fn deadline() -> Deadline {
        Deadline::after(LOOK_UP_TIMEOUT)
    }

    /// Returns the API of `server`, from memory or from a look-up that concurrent callers share.
    pub async fn find(&self, server: &ServerName, deadline: &Deadline) -> Result<ClientApi, ClientApiError> {
        let (apis, name) = (self.clone(), server.clone());
        let look_up = async move { apis.look_up(&name).await };
        let found = SingleFlightCache::get(&CLIENT_APIS, server, deadline, &self.wait_until, look_up).await;
        found.unwrap_or(Err(ClientApiError::TimedOut))
    }

    async fn look_up(&self, server: &ServerName) -> (Result<ClientApi, ClientApiError>, Duration) {
        let (base, configured, lifetime) = match self.overrides.get(server) {
            Some(url) => (url.clone(), true, LIFETIME),
            None => match self.by_well_known(server).await {
                Ok((url, lifetime)) => (url, false, lifetime),
                Err(ClientApiError::WellKnown(error)) => return self.by_host(server, error).await,
                Err(error) => return (Err(error), FAILURE_LIFETIME),
            },
        };
        let base = base.as_str().trim_end_matches('/').to_owned();
        let mut api = ClientApi { base, configured, features: None };
        api.features = self.features(&api).await;
        let lifetime = api.lifetime(lifetime);
        (Ok(api), lifetime)
    }

    /// Tries the host of the server name itself, which has no well-known for this reason. It counts only if it answers as
    /// a homeserver does, and no longer than a missing well-known.
    async fn by_host(
        &self,
        server: &ServerName,
        missing: WellKnownError,
    ) -> (Result<ClientApi, ClientApiError>, Duration) {
        let mut api = ClientApi { base: format!("https://{}", server.host()), configured: false, features: None };
        api.features = self.features(&api).await;
        match api.features {
            Some(_) => {
                let lifetime = api.lifetime(missing.lifetime());
                (Ok(api), lifetime)
            }
            None => (Err(ClientApiError::WellKnown(missing)), FAILURE_LIFETIME),
        }
    }

    async fn by_well_known(&self, server: &ServerName) -> Result<(Url, Duration), ClientApiError> {
        self.policy.check(server.host()).map_err(|_| ClientApiError::Forbidden)?;
        let found = well_known::fetch(&self.fetchers, self.policy, server, "client").await;
        let (body, lifetime) = found.map_err(ClientApiError::WellKnown)?;
        let url = match well_known::client_base_url(&body) {
            Some(Ok(url)) => url,
            Some(Err(UnusableBaseUrl)) => return Err(ClientApiError::UnusableBaseUrl),
            None => return Err(ClientApiError::WellKnown(WellKnownError::Absent)),
        };
        let host = Host::of(&url).ok_or(ClientApiError::Forbidden)?;
        self.policy.check(&host).map_err(|_| ClientApiError::Forbidden)?;
        Ok((url, lifetime.max(LIFETIME)))
    }

    /// Queries the features of the homeserver; `None` where it doesn't report them.
    async fn features(&self, api: &ClientApi) -> Option<Features> {
        let deadline = Deadline::after(VERSIONS_TIMEOUT);
        let method = Method::Get { accept: None, authorization: None };
        let call = FetchRequest { url: &api.url("versions"), method, deadline: &deadline };
        let response = api.fetcher(&self.fetchers).send(call).await.ok()?;
        if response.status() != 200 {
            return None;
        }
        Features::parse(&response.body(MAX_JSON_BODY).await.ok()?)
    }
}

/// A homeserver's client-server API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientApi {
    base: String,
    configured: bool,
    /// `None` where the homeserver didn't report them.
    features: Option<Features>,
}

/// Features that a homeserver reports, and those of them that it has under stable paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    delayed_events: bool,
    stable_delayed_events: bool,
    stable_is_joined: bool,
    stable_fed_proxy: bool,
}

impl Features {
    /// Parses the response of `/versions`. `None` for anything but a JSON object with a list of `versions`.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Versions {
            #[serde(rename = "versions")]
            _versions: Vec<IgnoredAny>,
            #[serde(default)]
            unstable_features: Value,
        }
        let versions: Versions = serde_json::from_slice(body).ok()?;
        let has = |flag: &str| versions.unstable_features[flag] == Value::Bool(true);
        let stable_delayed_events = has("org.matrix.msc4140.stable");
        Some(Self {
            delayed_events: stable_delayed_events || has("org.matrix.msc4140"),
            stable_delayed_events,
            stable_is_joined: has("io.element.msc4502.stable"),
            stable_fed_proxy: has("io.element.msc4512.stable"),
        })
    }
}

impl ClientApi {
    /// Returns the time for which this may be kept, where its URL may be kept for `lifetime`.
    fn lifetime(&self, lifetime: Duration) -> Duration {
        match self.has_delayed_events() {
            Some(true) => lifetime,
            // An operator who has just switched them on mustn't wait for long.
            Some(false) => lifetime.min(WITHOUT_DELAYED_EVENTS_LIFETIME),
            None => FAILURE_LIFETIME,
        }
    }

    /// Returns the URL of `path` below `/_matrix/client/`, always on this homeserver.
    pub fn url(&self, path: &str) -> String {
        format!("{}/_matrix/client/{path}", self.base)
    }

    /// Whether the homeserver has delayed events (MSC4140), where it reports its features. A "no" is at most ten
    /// minutes old.
    pub fn has_delayed_events(&self) -> Option<bool> {
        self.features.map(|features| features.delayed_events)
    }

    /// Returns the URL of delayed events.
    pub fn delayed_events(&self) -> DelayedEventsUrl {
        DelayedEventsUrl::new(self.url(self.delayed_events_path()))
    }

    /// Returns the path of delayed events (MSC4140), below `/_matrix/client/`.
    pub fn delayed_events_path(&self) -> &'static str {
        match self.features.is_some_and(|features| features.stable_delayed_events) {
            true => "v1/delayed_events",
            false => "unstable/org.matrix.msc4140/delayed_events",
        }
    }

    /// Returns the path of the rooms that have `is_joined` (MSC4502), below `/_matrix/client/`.
    pub fn is_joined_rooms_path(&self) -> &'static str {
        match self.features.is_some_and(|features| features.stable_is_joined) {
            true => "v3/rooms",
            false => "unstable/io.element.msc4502/rooms",
        }
    }

    /// Returns the paths of the relay to other servers (MSC4512), below `/_matrix/client/`, the one to try first.
    pub fn fed_proxy_paths(&self) -> [&'static str; 2] {
        let (stable, unstable) = ("v1/appservice/fed_proxy", "unstable/io.element.msc4512/appservice/fed_proxy");
        match self.features.is_some_and(|features| features.stable_fed_proxy) {
            true => [stable, unstable],
            false => [unstable, stable],
        }
    }

    /// Returns the exit for requests to this API: only an operator may name a private address.
    pub fn fetcher<'a>(&self, fetchers: &'a Fetchers) -> &'a Fetcher {
        if self.configured { fetchers.configured() } else { fetchers.internet() }
    }
}

/// Notes that the API of `server` doesn't answer as a homeserver does. It is looked up again a minute later.
pub fn doubt(server: &ServerName) {
    CLIENT_APIS.with(|known| known.forget_after(server, FAILURE_LIFETIME));
}

/// Notes that the API of `server` doesn't have a path that it should have by its features. They are looked up again
/// ten minutes later.
pub fn doubt_features(server: &ServerName) {
    CLIENT_APIS.with(|known| known.forget_after(server, WITHOUT_DELAYED_EVENTS_LIFETIME));
}

/// Escapes `text` for one segment of a path, or one value in a query.
pub fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Reason for a missing client-server API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientApiError {
    /// No override, no valid client well-known, and no homeserver at the host itself.
    #[error(fmt = explain)]
    WellKnown(WellKnownError),
    /// A client well-known whose base URL is none.
    #[error("m.homeserver.base_url in /.well-known/matrix/client must be an https URL without query, user or password")]
    UnusableBaseUrl,
    /// A private address.
    #[error("the client-server API is at a private address")]
    Forbidden,
    /// The look-up took too long.
    #[error("the client-server API wasn't found in time")]
    TimedOut,
}

fn explain(well_known: &WellKnownError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(match well_known {
        WellKnownError::Unreachable => {
            "/.well-known/matrix/client can't be reached, and the host itself doesn't answer as a homeserver does"
        }
        WellKnownError::Absent => {
            "/.well-known/matrix/client has no valid m.homeserver.base_url, and the host itself doesn't answer as a \
             homeserver does"
        }
    })
}

impl Weigh for ClientApi {
    fn bytes(&self) -> usize {
        self.base.len()
    }
}

thread_local! {
    static CLIENT_APIS: SingleFlightCache<Result<ClientApi, ClientApiError>> = SingleFlightCache::default();
}

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const LIFETIME: Duration = Duration::from_secs(4 * 3600);
const FAILURE_LIFETIME: Duration = Duration::from_secs(60);
const WITHOUT_DELAYED_EVENTS_LIFETIME: Duration = Duration::from_secs(600);
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
const VERSIONS_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn delayed_events(body: &str) -> Option<(bool, bool)> {
        Features::parse(body.as_bytes()).map(|features| (features.delayed_events, features.stable_delayed_events))
    }

    #[test]
    fn a_homeserver_reports_whether_it_has_delayed_events() {
        let with = |flags: &str| delayed_events(&format!(r#"{{"versions":["v1.1"],"unstable_features":{{{flags}}}}}"#));
        assert_eq!(with(r#""org.matrix.msc4140":true"#), Some((true, false)));
        assert_eq!(with(r#""org.matrix.msc4140.stable":true"#), Some((true, true)));
        assert_eq!(with(r#""org.matrix.msc4140":false"#), Some((false, false)));
        assert_eq!(with(r#""org.matrix.msc4140":1,"x":[]"#), Some((false, false)));
        assert_eq!(with(""), Some((false, false)));
        assert_eq!(delayed_events(r#"{"versions":[],"unstable_features":null}"#), Some((false, false)));
        assert_eq!(delayed_events(r#"{"versions":[]}"#), Some((false, false)));
    }

    #[test]
    fn a_homeserver_without_delayed_events_is_asked_again_after_ten_minutes() {
        let api = |body: &[u8]| ClientApi {
            base: "https://cs.example.org".to_owned(),
            configured: false,
            features: Features::parse(body),
        };
        let kept_for = |body: &[u8], lifetime| api(body).lifetime(Duration::from_secs(lifetime)).as_secs();
        let (without, with) =
            (br#"{"versions":[]}"#, br#"{"versions":[],"unstable_features":{"org.matrix.msc4140":true}}"#);
        assert_eq!((kept_for(without, 14_400), kept_for(without, 300)), (600, 300));
        assert_eq!(kept_for(with, 14_400), 14_400);
        assert_eq!(kept_for(b"502 Bad Gateway", 14_400), 60);
    }

    #[test]
    fn anything_else_reports_nothing() {
        for body in ["", "<html>", "[]", "{}", r#"{"versions":"v1.1"}"#, r#"{"errcode":"M_UNRECOGNIZED"}"#] {
            assert_eq!(delayed_events(body), None, "{body}");
        }
    }
}
