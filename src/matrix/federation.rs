//! Requests to a homeserver's federation API, with the discovery they need, looked up once and kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use js_sys::Promise;
use js_sys::futures::{JsFuture, future_to_promise};
use url::Url;
use wasm_bindgen::JsValue;

use super::discovery::{AddressPolicy, Destination, DiscoveryError, Network, Resolution, Step, WellKnown, discover};
use super::dns::SrvAnswer;
use super::server_name::{Host, ServerName};
use super::well_known;
use crate::clock;
use crate::outbound::{Call, Deadline, Method, Outbound, OutboundError};
use crate::srv_socket;

/// A client of the federation API, for as long as one request to this service lasts.
#[derive(Clone)]
pub struct Federation {
    /// The ways out.
    pub outbound: Outbound,
    /// Which addresses callers may name.
    pub policy: AddressPolicy,
    /// The resolver for SRV records.
    pub dns_over_https_url: Url,
    /// Keeps the invocation alive for a look-up that others wait for, even if this caller goes away.
    pub wait_until: Rc<dyn Fn(&Promise)>,
}

impl Federation {
    /// GETs `path_and_query` from `server`; the status and at most [`MAX_BODY`] bytes of body. Redirects aren't followed.
    pub async fn get(
        &self,
        server: &ServerName,
        path_and_query: &str,
        deadline: &Deadline,
    ) -> Result<(u16, Vec<u8>), FederationError> {
        let resolution = self.resolve(server, deadline).await?;
        let outcome = self.get_from(&resolution.destination, path_and_query, deadline).await;
        outcome.map_err(|cause| {
            // It may have moved: the next request looks again.
            RESOLUTIONS.with_borrow_mut(|known| known.remove(server));
            FederationError::Unreachable {
                step: resolution.step,
                destination: resolution.destination.to_string(),
                cause,
            }
        })
    }

    /// Resolves `server`, from what is known or by one look-up that all who ask meanwhile share.
    async fn resolve(&self, server: &ServerName, deadline: &Deadline) -> Result<Resolution, FederationError> {
        let now = clock::now_ms();
        let pending = match RESOLUTIONS.with_borrow(|known| known.get(server).map(Known::clone)) {
            Some(Known::Found { outcome, until }) if now < until => return outcome.map_err(FederationError::Discovery),
            Some(Known::Pending { promise, since }) if now < since + STUCK.as_millis() as u64 => promise,
            _ => self.look_up(server, now),
        };
        deadline.bound(JsFuture::from(pending)).await.ok_or(FederationError::DiscoveryTimedOut)?.ok();
        match RESOLUTIONS.with_borrow(|known| known.get(server).map(Known::clone)) {
            Some(Known::Found { outcome, .. }) => outcome.map_err(FederationError::Discovery),
            _ => Err(FederationError::DiscoveryTimedOut),
        }
    }

    /// Starts the look-up. It ends by itself, however long its first caller stays.
    fn look_up(&self, server: &ServerName, now: u64) -> Promise {
        let (federation, name) = (self.clone(), server.clone());
        let promise = future_to_promise(async move {
            let outcome = discover(&federation, federation.policy, &name).await;
            let lifetime = outcome.as_ref().map_or(well_known::MIN_LIFETIME, |resolution| resolution.lifetime);
            let until = clock::now_ms() + lifetime.as_millis() as u64;
            RESOLUTIONS.with_borrow_mut(|known| known.insert(name, Known::Found { outcome, until }));
            Ok(JsValue::UNDEFINED)
        });
        (self.wait_until)(&promise);
        RESOLUTIONS.with_borrow_mut(|known| {
            make_room(known, now);
            known.insert(server.clone(), Known::Pending { promise: promise.clone(), since: now });
        });
        promise
    }

    async fn get_from(
        &self,
        destination: &Destination,
        path_and_query: &str,
        deadline: &Deadline,
    ) -> Result<(u16, Vec<u8>), OutboundError> {
        match destination {
            Destination::Direct { host, port } => {
                let url = format!("https://{host}:{port}{path_and_query}");
                let method = Method::Get { accept: None };
                let call = Call { url: &url, method, deadline };
                let reply = self.outbound.internet().send(call).await?;
                let status = reply.status();
                Ok((status, reply.body(MAX_BODY).await?))
            }
            Destination::Srv { name, targets } => {
                let mut outcome = Err(OutboundError::TimedOut);
                for target in targets {
                    outcome = srv_socket::get(target, name, path_and_query, MAX_BODY, deadline).await;
                    if outcome.is_ok() || deadline.passed() {
                        break;
                    }
                }
                outcome
            }
        }
    }
}

impl Network for Federation {
    async fn well_known(&self, host: &Host) -> WellKnown {
        let deadline = Deadline::after(WELL_KNOWN_TIMEOUT);
        let failed = |lifetime| WellKnown { delegated: None, lifetime };
        let Ok(mut url) = Url::parse(&format!("https://{host}/.well-known/matrix/server")) else {
            return failed(NO_WELL_KNOWN_LIFETIME);
        };
        for _ in 0..=MAX_REDIRECTS {
            let call = Call { url: url.as_str(), method: Method::Get { accept: None }, deadline: &deadline };
            let Ok(reply) = self.outbound.internet().send(call).await else {
                return failed(UNREACHABLE_LIFETIME);
            };
            match reply.status() {
                200 => {
                    let cache_control = reply.header("Cache-Control");
                    let expires = reply.header("Expires");
                    let lifetime = well_known::lifetime(cache_control.as_deref(), expires.as_deref(), clock::now_ms());
                    let body = reply.body(MAX_BODY).await.unwrap_or_default();
                    return match well_known::delegated_name(&body) {
                        Some(name) => WellKnown { delegated: Some(name), lifetime },
                        None => failed(NO_WELL_KNOWN_LIFETIME),
                    };
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = reply.header("Location");
                    reply.discard();
                    match location.and_then(|location| self.redirected(&url, &location)) {
                        Some(next) => url = next,
                        None => return failed(NO_WELL_KNOWN_LIFETIME),
                    }
                }
                _ => {
                    reply.discard();
                    return failed(NO_WELL_KNOWN_LIFETIME);
                }
            }
        }
        failed(NO_WELL_KNOWN_LIFETIME)
    }

    async fn srv(&self, record: &str) -> Option<SrvAnswer> {
        let deadline = Deadline::after(DNS_TIMEOUT);
        let mut url = self.dns_over_https_url.clone();
        url.query_pairs_mut().append_pair("name", record).append_pair("type", "SRV");
        let call = Call {
            url: url.as_str(),
            method: Method::Get { accept: Some("application/dns-json") },
            deadline: &deadline,
        };
        let reply = self.outbound.configured().send(call).await.ok()?;
        if reply.status() != 200 {
            reply.discard();
            return None;
        }
        SrvAnswer::parse(&reply.body(MAX_BODY).await.ok()?)
    }
}

impl Federation {
    /// Where a redirect leads, if it may be followed: https only, and to no forbidden address.
    fn redirected(&self, from: &Url, location: &str) -> Option<Url> {
        let to = from.join(location).ok().filter(|to| to.scheme() == "https")?;
        let host = match to.host()? {
            url::Host::Domain(name) => Host::Name(name.to_owned()),
            url::Host::Ipv4(address) => Host::Ip(address.into()),
            url::Host::Ipv6(address) => Host::Ip(address.into()),
        };
        self.policy.check(&host).ok()?;
        Some(to)
    }
}

/// Why the federation API gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FederationError {
    /// The name may not be resolved.
    Discovery(DiscoveryError),
    /// The name wasn't resolved in time.
    DiscoveryTimedOut,
    /// What the name resolves to doesn't answer.
    Unreachable {
        /// How the destination was found.
        step: Step,
        /// What was tried.
        destination: String,
        /// What happened.
        cause: OutboundError,
    },
}

impl fmt::Display for FederationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery(error) => error.fmt(f),
            Self::DiscoveryTimedOut => f.write_str("server discovery (well-known, SRV) took too long"),
            Self::Unreachable { step, destination, cause } => {
                write!(f, "{destination} (found by: {step}) doesn't answer: {cause}")
            }
        }
    }
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

/// What is known of a server name, by all requests of one isolate.
#[derive(Clone)]
enum Known {
    Pending { promise: Promise, since: u64 },
    Found { outcome: Result<Resolution, DiscoveryError>, until: u64 },
}

/// Keeps the table bounded, whatever names callers come up with.
fn make_room(known: &mut HashMap<ServerName, Known>, now: u64) {
    if known.len() >= MAX_KNOWN {
        known.retain(|_, entry| match entry {
            Known::Pending { .. } => true,
            Known::Found { until, .. } => now < *until,
        });
    }
    while known.len() >= MAX_KNOWN {
        match known.keys().next().cloned() {
            Some(any) => known.remove(&any),
            None => break,
        };
    }
}

thread_local! {
    static RESOLUTIONS: RefCell<HashMap<ServerName, Known>> = RefCell::new(HashMap::new());
}

/// How much of an outside server's answer is read.
pub const MAX_BODY: usize = 64 * 1024;
const MAX_KNOWN: usize = 1_000;
const MAX_REDIRECTS: usize = 5;
/// Well-known and SRV leave time for the request itself within the 10 s of a verification: a host that drops packets
/// to port 443 must not keep step 4 from its turn.
const WELL_KNOWN_TIMEOUT: Duration = Duration::from_secs(4);
const DNS_TIMEOUT: Duration = Duration::from_millis(1500);
/// A look-up that was started this long ago died with its isolate's request.
const STUCK: Duration = Duration::from_secs(15);
/// A host that answers without a valid well-known is asked again after this; one that doesn't answer, after that.
const NO_WELL_KNOWN_LIFETIME: Duration = Duration::from_secs(600);
const UNREACHABLE_LIFETIME: Duration = Duration::from_secs(60);
