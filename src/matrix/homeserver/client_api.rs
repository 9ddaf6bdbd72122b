//! Where a homeserver's client-server API answers, and which of what it has there is in its stable form (§7 of the protocol).

use std::collections::BTreeMap;
use std::time::Duration;

use delegated_leaves::DelayedEventsUrl;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use thiserror::Error;
use url::Url;

use crate::fetch::{Deadline, FetchRequest, Fetcher, Fetchers, MAX_JSON_BODY, Method};
use crate::matrix::federation::discovery::AddressPolicy;
use crate::matrix::ids::server_name::{Host, ServerName};
use crate::matrix::lookups::{SingleFlightCache, WaitUntil};
use crate::matrix::well_known::{self, WellKnownError};

/// Finds client-server APIs, for as long as one request to this service, or one alarm, lasts.
#[derive(Clone)]
pub struct ClientApis {
    /// The ways out.
    pub fetchers: Fetchers,
    /// Which addresses well-known may name.
    pub policy: AddressPolicy,
    /// URLs that need no discovery: `LIVEKIT_CS_API_URL_OVERRIDES`.
    pub overrides: std::rc::Rc<BTreeMap<ServerName, Url>>,
    /// Keeps the invocation alive for a look-up that others wait for.
    pub wait_until: WaitUntil,
}

impl ClientApis {
    /// The deadline for a look-up that starts now: 10 s, with discovery and the request for the versions.
    pub fn deadline() -> Deadline {
        Deadline::after(LOOK_UP_TIMEOUT)
    }

    /// The API of `server`, from what is known, or by one look-up that all who ask meanwhile share.
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
                Err(error) => return (Err(error), FAILURE_LIFETIME),
            },
        };
        let base = base.as_str().trim_end_matches('/').to_owned();
        let mut api = ClientApi { base, configured, stable: StableForms::default() };
        match self.stable_forms(&api).await {
            Some(stable) => {
                api.stable = stable;
                (Ok(api), lifetime)
            }
            None => (Ok(api), FAILURE_LIFETIME),
        }
    }

    async fn by_well_known(&self, server: &ServerName) -> Result<(Url, Duration), ClientApiError> {
        self.policy.check(server.host()).map_err(|_| ClientApiError::Forbidden)?;
        let found = well_known::fetch(&self.fetchers, self.policy, server, "client").await;
        let (body, lifetime) = found.map_err(ClientApiError::WellKnown)?;
        let url = well_known::client_base_url(&body).ok_or(ClientApiError::WellKnown(WellKnownError::Absent))?;
        let host = Host::of(&url).ok_or(ClientApiError::Forbidden)?;
        self.policy.check(&host).map_err(|_| ClientApiError::Forbidden)?;
        Ok((url, lifetime.max(LIFETIME)))
    }

    /// `None` where the homeserver doesn't tell.
    async fn stable_forms(&self, api: &ClientApi) -> Option<StableForms> {
        #[derive(Deserialize)]
        struct Versions {
            #[serde(default)]
            unstable_features: BTreeMap<String, bool>,
        }
        let deadline = Deadline::after(VERSIONS_TIMEOUT);
        let method = Method::Get { accept: None, authorization: None };
        let call = FetchRequest { url: &api.url("versions"), method, deadline: &deadline };
        let response = api.fetcher(&self.fetchers).send(call).await.ok()?;
        if response.status() != 200 {
            response.discard();
            return None;
        }
        let versions: Versions = serde_json::from_slice(&response.body(MAX_JSON_BODY).await.ok()?).ok()?;
        let has = |flag: &str| versions.unstable_features.get(flag) == Some(&true);
        Some(StableForms {
            delayed_events: has("org.matrix.msc4140.stable"),
            is_joined: has("io.element.msc4502.stable"),
            fed_proxy: has("io.element.msc4512.stable"),
        })
    }
}

/// A homeserver's client-server API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientApi {
    base: String,
    configured: bool,
    stable: StableForms,
}

/// What the homeserver says it has under stable paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StableForms {
    delayed_events: bool,
    is_joined: bool,
    fed_proxy: bool,
}

impl ClientApi {
    /// The URL of what is at `path` below `/_matrix/client/`, on this homeserver whatever the path.
    pub fn url(&self, path: &str) -> String {
        format!("{}/_matrix/client/{path}", self.base)
    }

    /// Where delayed events are, as a URL.
    pub fn delayed_events(&self) -> DelayedEventsUrl {
        DelayedEventsUrl::new(self.url(self.delayed_events_path()))
    }

    /// Where delayed events are (MSC4140), below `/_matrix/client/`.
    pub fn delayed_events_path(&self) -> &'static str {
        match self.stable.delayed_events {
            true => "v1/delayed_events",
            false => "unstable/org.matrix.msc4140/delayed_events",
        }
    }

    /// Below what rooms tell who is joined to them (MSC4502), below `/_matrix/client/`.
    pub fn is_joined_rooms_path(&self) -> &'static str {
        match self.stable.is_joined {
            true => "v3/rooms",
            false => "unstable/io.element.msc4502/rooms",
        }
    }

    /// Where requests to other servers are relayed (MSC4512), below `/_matrix/client/`.
    pub fn fed_proxy_path(&self) -> &'static str {
        match self.stable.fed_proxy {
            true => "v1/appservice/fed_proxy",
            false => "unstable/io.element.msc4512/appservice/fed_proxy",
        }
    }

    /// How it is reached: the operator may name a private address, others may not.
    pub fn fetcher<'a>(&self, fetchers: &'a Fetchers) -> &'a Fetcher {
        if self.configured { fetchers.configured() } else { fetchers.internet() }
    }
}

/// `text` as one segment of a path, or one value in a query.
pub fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Why there is no client-server API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientApiError {
    /// Neither an override nor a client well-known names it.
    #[error("/.well-known/matrix/client {}", problem_of(*.0))]
    WellKnown(WellKnownError),
    /// It leads to a private address.
    #[error("the client-server API is at a private address")]
    Forbidden,
    /// The look-up took too long.
    #[error("the client-server API wasn't found in time")]
    TimedOut,
}

fn problem_of(well_known: WellKnownError) -> &'static str {
    match well_known {
        WellKnownError::Unreachable => "can't be reached",
        WellKnownError::Absent => "has no valid m.homeserver.base_url",
    }
}

thread_local! {
    static CLIENT_APIS: SingleFlightCache<Result<ClientApi, ClientApiError>> = SingleFlightCache::default();
}

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const LIFETIME: Duration = Duration::from_secs(4 * 3600);
const FAILURE_LIFETIME: Duration = Duration::from_secs(60);
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
const VERSIONS_TIMEOUT: Duration = Duration::from_secs(3);
