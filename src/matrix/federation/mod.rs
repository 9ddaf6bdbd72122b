//! Client of the homeservers' federation APIs, with server discovery.
//!
//! How it works:
//! - a server name in `LIVEKIT_FEDERATION_URL_OVERRIDES` needs no discovery, and its URL may be private;
//! - any other is resolved by [`discover`], whose [`Network`] is implemented here, and the result is shared by
//!   all requests of the isolate;
//! - a direct destination is requested with `fetch`; one from an SRV record needs [`srv_socket`], with its targets
//!   tried in order;
//! - when a destination doesn't respond, its resolution is dropped: the server may have moved; when it doesn't respond
//!   as a homeserver does, a minute later;
//! - every step has its own limit, so that all of them fit into the 10 s of a verification.

pub mod discovery;
pub mod dns;
pub mod openid;
pub mod srv_socket;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use thiserror::Error;
use url::Url;

use crate::fetch::{Deadline, FetchError, FetchRequest, Fetcher, Fetchers, MAX_JSON_BODY, Method};
use crate::matrix::federation::discovery::{
    AddressPolicy, Destination, DiscoveryError, Network, Resolution, Step, WellKnown, discover,
};
use crate::matrix::federation::dns::SrvAnswer;
use crate::matrix::ids::server_name::{Host, ServerName};
use crate::matrix::lookups::{SingleFlightCache, WaitUntil, Weigh};
use crate::matrix::well_known::{self, WellKnownError};

/// Client of the federation API, for the duration of one request to this service.
#[derive(Clone)]
pub struct Federation {
    /// Sends the requests.
    pub fetchers: Fetchers,
    /// Addresses that callers may name.
    pub policy: AddressPolicy,
    /// The resolver for SRV records.
    pub dns_over_https_url: Rc<Url>,
    /// URLs that need no discovery: `LIVEKIT_FEDERATION_URL_OVERRIDES`.
    pub overrides: Rc<BTreeMap<ServerName, Url>>,
    /// Keeps the invocation alive for a look-up that other requests wait for, even after its client has disconnected.
    pub wait_until: WaitUntil,
}

impl Federation {
    /// GETs `path_and_query` from `server`. Returns the status and a body of at most `MAX_JSON_BODY` bytes.
    /// Redirects are responses.
    pub async fn get(
        &self,
        server: &ServerName,
        path_and_query: &str,
        deadline: &Deadline,
    ) -> Result<(u16, Vec<u8>), FederationError> {
        if let Some(base) = self.overrides.get(server) {
            let url = format!("{}{path_and_query}", base.as_str().trim_end_matches('/'));
            let response = fetch(self.fetchers.configured(), &url, deadline).await;
            return response
                .map_err(|cause| FederationError::OverrideUnreachable(base.origin().ascii_serialization(), cause));
        }
        let resolution = self.resolve(server, deadline).await?;
        if self.fetchers.are_on_the_edge() && matches!(resolution.destination, Destination::Srv { .. }) {
            return Err(FederationError::SrvOnTheEdge(resolution.destination.to_string()));
        }
        let outcome = self.get_from(&resolution.destination, path_and_query, deadline).await;
        outcome.map_err(|cause| {
            // The server may have moved: the next request resolves the name again.
            RESOLUTIONS.with(|known| known.forget(server));
            FederationError::Unreachable {
                step: resolution.step,
                destination: resolution.destination.to_string(),
                cause,
            }
        })
    }

    /// Notes that the destination of `server` doesn't answer as a homeserver does. It is looked up again a minute later:
    /// an operator who has just corrected it doesn't wait for the end of its lifetime.
    pub fn doubt(&self, server: &ServerName) {
        RESOLUTIONS.with(|known| known.forget_after(server, well_known::MIN_LIFETIME));
    }

    async fn resolve(&self, server: &ServerName, deadline: &Deadline) -> Result<Resolution, FederationError> {
        let (federation, name) = (self.clone(), server.clone());
        let look_up = async move {
            let outcome = discover(&federation, federation.policy, &name).await;
            let lifetime = outcome.as_ref().map_or(well_known::MIN_LIFETIME, |resolution| resolution.lifetime);
            (outcome, lifetime)
        };
        match SingleFlightCache::get(&RESOLUTIONS, server, deadline, &self.wait_until, look_up).await {
            Some(outcome) => outcome.map_err(FederationError::Discovery),
            None => Err(FederationError::DiscoveryTimedOut),
        }
    }

    async fn get_from(
        &self,
        destination: &Destination,
        path_and_query: &str,
        deadline: &Deadline,
    ) -> Result<(u16, Vec<u8>), FetchError> {
        match destination {
            Destination::Direct { host, port } => {
                let url = format!("https://{host}:{port}{path_and_query}");
                fetch(self.fetchers.internet(), &url, deadline).await
            }
            Destination::Srv { name, targets } => {
                let mut outcome = Err(FetchError::TimedOut);
                for target in targets {
                    outcome = srv_socket::get(target, name, path_and_query, MAX_JSON_BODY, deadline).await;
                    if outcome.is_ok() || deadline.passed() {
                        break;
                    }
                }
                outcome
            }
        }
    }
}

async fn fetch(fetcher: &Fetcher, url: &str, deadline: &Deadline) -> Result<(u16, Vec<u8>), FetchError> {
    let method = Method::Get { accept: None, authorization: None };
    let response = fetcher.send(FetchRequest { url, method, deadline }).await?;
    let status = response.status();
    Ok((status, response.body(MAX_JSON_BODY).await?))
}

impl Network for Federation {
    async fn well_known(&self, host: &Host) -> WellKnown {
        match well_known::fetch(&self.fetchers, self.policy, host, "server").await {
            Ok((body, lifetime)) => match well_known::delegated_name(&body) {
                Some(name) => WellKnown { delegated: Some(name), lifetime },
                None => WellKnown { delegated: None, lifetime: WellKnownError::Absent.lifetime() },
            },
            Err(error) => WellKnown { delegated: None, lifetime: error.lifetime() },
        }
    }

    async fn srv(&self, record: &str) -> Option<SrvAnswer> {
        let deadline = Deadline::after(DNS_TIMEOUT);
        let mut url = Url::clone(&self.dns_over_https_url);
        url.query_pairs_mut().append_pair("name", record).append_pair("type", "SRV");
        let call = FetchRequest {
            url: url.as_str(),
            method: Method::Get { accept: Some("application/dns-json"), authorization: None },
            deadline: &deadline,
        };
        let response = self.fetchers.configured().send(call).await.ok()?;
        if response.status() != 200 {
            return None;
        }
        SrvAnswer::parse(&response.body(MAX_JSON_BODY).await.ok()?)
    }
}

/// Reason for a missing response of the federation API.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FederationError {
    /// The policy forbids the name.
    #[error(transparent)]
    Discovery(DiscoveryError),
    /// The name wasn't resolved in time.
    #[error("server discovery (well-known, SRV) took too long")]
    DiscoveryTimedOut,
    /// The destination is the target of an SRV record, and this runs on Cloudflare's edge. Sockets validate a certificate
    /// for the name that they connect to there, whatever name is expected.
    #[error(
        "{0}, found by SRV record: on Cloudflare, TLS to such a target can't be validated. The homeserver must serve \
         /.well-known/matrix/server; or LIVEKIT_FEDERATION_URL_OVERRIDES must name its URL. Either with a host whose \
         certificate is for that host"
    )]
    SrvOnTheEdge(String),
    /// The URL that the operator has configured doesn't respond.
    #[error("{0} (LIVEKIT_FEDERATION_URL_OVERRIDES) doesn't answer: {1}")]
    OverrideUnreachable(String, FetchError),
    /// The destination doesn't respond.
    #[error("{destination} (found by: {step}) doesn't answer: {cause}")]
    Unreachable {
        /// The step that found the destination.
        step: Step,
        /// The destination.
        destination: String,
        /// The cause.
        cause: FetchError,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct { host, port } => write!(f, "{host}:{port}"),
            Self::Srv { name, targets } => {
                for target in targets {
                    write!(f, "{}:{} ", target.host, target.port)?;
                }
                write!(f, "with a certificate for {name}")
            }
        }
    }
}

impl Weigh for Resolution {
    fn bytes(&self) -> usize {
        match &self.destination {
            Destination::Direct { host: Host::Name(name), .. } => name.len(),
            Destination::Direct { .. } => 0,
            Destination::Srv { name, targets } => {
                name.len() + targets.iter().map(|target| size_of_val(target) + target.host.len()).sum::<usize>()
            }
        }
    }
}

thread_local! {
    static RESOLUTIONS: SingleFlightCache<Result<Resolution, DiscoveryError>> = SingleFlightCache::default();
}

/// Two of these and a well-known look-up leave time for the request itself within the 10 s of a verification.
const DNS_TIMEOUT: Duration = Duration::from_millis(1500);
