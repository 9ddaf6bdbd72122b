//! Where a homeserver's client-server API answers, and which form of the delayed events it has (§7 of the protocol).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use delegated_leaves::DelayedEventsUrl;
use serde::Deserialize;
use url::Url;

use super::discovery::AddressPolicy;
use super::lookups::{Lookups, WaitUntil};
use super::server_name::{Host, ServerName};
use super::well_known::{self, WellKnownError};
use crate::outbound::{Call, Deadline, Fetcher, Method, Outbound};

/// Finds client-server APIs, for as long as one request to this service, or one alarm, lasts.
#[derive(Clone)]
pub struct ClientApis {
    /// The ways out.
    pub outbound: Outbound,
    /// Which addresses well-known may name.
    pub policy: AddressPolicy,
    /// URLs that need no discovery: `LIVEKIT_CS_API_URL_OVERRIDES`.
    pub overrides: std::rc::Rc<BTreeMap<ServerName, Url>>,
    /// Keeps the invocation alive for a look-up that others wait for.
    pub wait_until: WaitUntil,
}

impl ClientApis {
    /// The API of `server`, from what is known, or by one look-up that all who ask meanwhile share.
    pub async fn find(&self, server: &ServerName, deadline: &Deadline) -> Result<ClientApi, ClientApiError> {
        let (apis, name) = (self.clone(), server.clone());
        let look_up = async move { apis.look_up(&name).await };
        let found = Lookups::get(&CLIENT_APIS, server, deadline, &self.wait_until, look_up).await;
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
        let mut api = ClientApi { base: base.as_str().trim_end_matches('/').to_owned(), configured, stable: false };
        match self.has_stable_delayed_events(&api).await {
            Some(stable) => {
                api.stable = stable;
                (Ok(api), lifetime)
            }
            None => (Ok(api), FAILURE_LIFETIME),
        }
    }

    async fn by_well_known(&self, server: &ServerName) -> Result<(Url, Duration), ClientApiError> {
        self.policy.check(server.host()).map_err(|_| ClientApiError::Forbidden)?;
        let found = well_known::fetch(&self.outbound, self.policy, server, "client").await;
        let (body, lifetime) = found.map_err(ClientApiError::WellKnown)?;
        let url = well_known::client_base_url(&body).ok_or(ClientApiError::WellKnown(WellKnownError::Absent))?;
        let host = Host::of(&url).ok_or(ClientApiError::Forbidden)?;
        self.policy.check(&host).map_err(|_| ClientApiError::Forbidden)?;
        Ok((url, lifetime.max(LIFETIME)))
    }

    /// `None` where the homeserver doesn't tell.
    async fn has_stable_delayed_events(&self, api: &ClientApi) -> Option<bool> {
        #[derive(Deserialize)]
        struct Versions {
            #[serde(default)]
            unstable_features: BTreeMap<String, bool>,
        }
        let deadline = Deadline::after(VERSIONS_TIMEOUT);
        let url = format!("{}/_matrix/client/versions", api.base);
        let call = Call { url: &url, method: Method::Get { accept: None }, deadline: &deadline };
        let reply = api.way_out(&self.outbound).send(call).await.ok()?;
        if reply.status() != 200 {
            reply.discard();
            return None;
        }
        let versions: Versions = serde_json::from_slice(&reply.body(MAX_VERSIONS).await.ok()?).ok()?;
        Some(versions.unstable_features.get(STABLE_DELAYED_EVENTS) == Some(&true))
    }
}

/// A homeserver's client-server API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientApi {
    base: String,
    configured: bool,
    stable: bool,
}

impl ClientApi {
    /// Where delayed events are: the stable path where the homeserver says that it has it.
    pub fn delayed_events(&self) -> DelayedEventsUrl {
        let path = if self.stable { "v1" } else { "unstable/org.matrix.msc4140" };
        DelayedEventsUrl::new(format!("{}/_matrix/client/{path}/delayed_events", self.base))
    }

    /// How it is reached: the operator may name a private address, others may not.
    pub fn way_out<'a>(&self, outbound: &'a Outbound) -> &'a Fetcher {
        if self.configured { outbound.configured() } else { outbound.internet() }
    }
}

/// Why there is no client-server API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientApiError {
    /// Neither an override nor a client well-known names it.
    WellKnown(WellKnownError),
    /// It leads to a private address.
    Forbidden,
    /// The look-up took too long.
    TimedOut,
}

impl fmt::Display for ClientApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WellKnown(WellKnownError::Unreachable) => "/.well-known/matrix/client can't be reached",
            Self::WellKnown(WellKnownError::Absent) => "/.well-known/matrix/client has no valid m.homeserver.base_url",
            Self::Forbidden => "the client-server API is at a private address",
            Self::TimedOut => "the client-server API wasn't found in time",
        })
    }
}

thread_local! {
    static CLIENT_APIS: Lookups<Result<ClientApi, ClientApiError>> = Lookups::default();
}

const STABLE_DELAYED_EVENTS: &str = "org.matrix.msc4140.stable";
const LIFETIME: Duration = Duration::from_secs(4 * 3600);
const FAILURE_LIFETIME: Duration = Duration::from_secs(60);
const VERSIONS_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_VERSIONS: usize = 64 * 1024;
