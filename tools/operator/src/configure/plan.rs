//! Plan of a deployment, checked by the worker's own parser of its variables.

use anyhow::Result;
use matrixrtc_edge::matrix::address::is_public;
use matrixrtc_edge::matrix::ids::server_name::{Host, ServerName};
use serde_json::Value;
use url::Url;

use crate::configure::placement::Placement;
use crate::configure::route::Route;
use crate::doctor::{ServiceUrl, announcement, livekit_cloud};
use crate::values::{checked, read};

/// Planned deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    route: Route,
    sfu_url: String,
    homeservers: String,
    location_hint: Option<String>,
    jurisdiction: Option<String>,
    placement: Placement,
    sfu_key: Option<String>,
    homeserver_mode: Option<ServerName>,
    hosting: Hosting,
}

/// Host of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosting {
    /// Cloudflare, by wrangler.
    Cloudflare,
    /// One's own machine, by the executable or its image, behind a proxy.
    OwnMachine,
}

impl Plan {
    /// Builds a plan for Cloudflare, with the worker beside the SFU. `homeservers` is the value of `LIVEKIT_FULL_ACCESS_HOMESERVERS`.
    ///
    /// # Errors
    ///
    /// The worker would refuse a value.
    pub fn new(route: Route, sfu_url: String, homeservers: String, location_hint: Option<String>) -> Result<Self> {
        let placement = Placement::beside(&sfu_url);
        let hosting = Hosting::Cloudflare;
        let plan = Self {
            route,
            sfu_url,
            homeservers,
            location_hint,
            jurisdiction: None,
            placement,
            sfu_key: None,
            homeserver_mode: None,
            hosting,
        };
        read(&plan.vars().into_iter().collect())?;
        Ok(plan)
    }

    /// Adds homeserver mode with this homeserver to the deployment.
    #[must_use]
    pub fn in_homeserver_mode(self, server_name: ServerName) -> Self {
        Self { homeserver_mode: Some(server_name), ..self }
    }

    /// Keeps the rooms' objects in a jurisdiction.
    #[must_use]
    pub fn in_jurisdiction(self, jurisdiction: Option<String>) -> Self {
        Self { jurisdiction, ..self }
    }

    /// Makes it a plan for another host.
    #[must_use]
    pub fn hosted_on(self, hosting: Hosting) -> Self {
        Self { hosting, ..self }
    }

    /// Places the worker elsewhere.
    #[must_use]
    pub fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// Sets the API key that the SFU has already.
    #[must_use]
    pub fn with_sfu_key(self, key: Option<String>) -> Self {
        Self { sfu_key: key, ..self }
    }

    /// URL of the service for clients.
    #[must_use]
    pub fn service_url(&self) -> &ServiceUrl {
        self.route.url()
    }

    /// Entry by which clients find the service; in homeserver mode it has the SFU's URL, too.
    pub(super) fn announced(&self) -> Value {
        announcement::entry(self.service_url(), self.homeserver_mode.as_ref().map(|_| self.sfu_url.as_str()))
    }

    /// Custom domain or route of the service.
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// Variables that aren't secrets.
    #[must_use]
    pub fn vars(&self) -> Vec<(&'static str, String)> {
        let mut vars = vec![
            (SFU_URL, self.sfu_url.clone()),
            (HOMESERVERS, self.homeservers.clone()),
            (SANITY_CHECKS, String::from(SANITY_CHECK_INTERVAL_S)),
        ];
        vars.extend(self.location_hint.clone().map(|hint| (LOCATION_HINT, hint)));
        vars.extend(self.jurisdiction.clone().map(|jurisdiction| (JURISDICTION, jurisdiction)));
        vars.extend(self.homeserver_mode.as_ref().map(|server_name| (HS_SERVER_NAME, server_name.to_string())));
        vars
    }

    /// URL of the SFU that clients get.
    pub(super) fn sfu_url(&self) -> &str {
        &self.sfu_url
    }

    /// Homeservers whose users can create rooms, separated by commas; `*` for all.
    pub(super) fn homeservers(&self) -> &str {
        &self.homeservers
    }

    /// Whether the SFU is a project of LiveKit Cloud's.
    pub(super) fn is_on_livekit_cloud(&self) -> bool {
        livekit_cloud::is_project(&self.sfu_url)
    }

    /// Host of the service.
    pub(super) fn hosting(&self) -> Hosting {
        self.hosting
    }

    /// Place in which the worker runs.
    pub(super) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Homeserver of homeserver mode, if that is planned.
    pub(super) fn homeserver_mode(&self) -> Option<&ServerName> {
        self.homeserver_mode.as_ref()
    }

    /// API key that the SFU has already, if it is given.
    pub(super) fn sfu_key(&self) -> Option<&str> {
        self.sfu_key.as_deref()
    }
}

/// Parses an SFU's URL.
///
/// # Errors
///
/// The worker would refuse it.
pub fn sfu_url(text: &str) -> Result<String, String> {
    checked(SFU_URL, text)
}

/// Parses the URL of an SFU that Cloudflare has to reach.
///
/// # Errors
///
/// The worker would refuse it, or its host belongs to a private network.
pub fn public_sfu_url(text: &str) -> Result<String, String> {
    let url = sfu_url(text)?;
    let parsed = Url::parse(&url).map_err(|_| String::from("is not a URL"))?;
    let what = match parsed.host() {
        Some(url::Host::Domain(name)) if is_private_name(name) => "a name of a private network",
        Some(url::Host::Ipv4(address)) if !is_public(&Host::Ip(address.into())) => "a private address",
        Some(url::Host::Ipv6(address)) if !is_public(&Host::Ip(address.into())) => "a private address",
        _ => return Ok(url),
    };
    let host = parsed.host_str().unwrap_or_default();
    Err(format!(
        "has {what}, {host}, which Cloudflare can't reach: give the SFU a public name, or run the service on a machine of \
         your own (--own-machine)"
    ))
}

/// Whether a name can only be meant for a private network: one without a dot, or below a domain that is never public.
fn is_private_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.') || PRIVATE_DOMAINS.iter().any(|domain| name.ends_with(domain))
}

/// Parses one homeserver's name, or `*`.
///
/// # Errors
///
/// The worker would refuse it.
pub fn homeserver(text: &str) -> Result<String, String> {
    checked(HOMESERVERS, text)
}

/// Parses several homeservers' names, or `*`.
///
/// # Errors
///
/// The worker would refuse them.
pub fn homeservers(text: &str) -> Result<String, String> {
    let names = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty());
    checked(HOMESERVERS, &names.collect::<Vec<_>>().join(","))
}

/// Parses a location hint.
///
/// # Errors
///
/// The worker would refuse it.
pub fn location_hint(text: &str) -> Result<String, String> {
    checked(LOCATION_HINT, text)
}

/// Parses a jurisdiction.
///
/// # Errors
///
/// The worker would refuse it.
pub fn jurisdiction(text: &str) -> Result<String, String> {
    checked(JURISDICTION, text)
}

/// Reserved for private networks, or in use there and never delegated.
const PRIVATE_DOMAINS: [&str; 8] =
    [".localhost", ".local", ".internal", ".home.arpa", ".lan", ".localdomain", ".intranet", ".corp"];
const SFU_URL: &str = "LIVEKIT_URL";
const HOMESERVERS: &str = "LIVEKIT_FULL_ACCESS_HOMESERVERS";
const LOCATION_HINT: &str = "LIVEKIT_LOCATION_HINT";
pub(super) const JURISDICTION: &str = "LIVEKIT_JURISDICTION";
/// No option gives it, so one that is there goes before it.
pub(super) const SANITY_CHECKS: &str = "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS";
const HS_SERVER_NAME: &str = "LIVEKIT_HS_SERVER_NAME";
/// Without sanity checks, a participant whose webhook is lost stays in the call.
const SANITY_CHECK_INTERVAL_S: &str = "60";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_worker_reads_them() {
        assert_eq!(sfu_url(" wss://sfu.example.com\n"), Ok(String::from("wss://sfu.example.com")));
        assert!(sfu_url("sfu.example.com").is_err() && sfu_url("").is_err());
        assert!(homeserver("example.com:8448").is_ok() && homeserver("*").is_ok());
        assert!(homeserver("https://example.com").is_err() && homeserver("").is_err());
        assert_eq!(homeservers("a.example  b.example,c.example"), Ok(String::from("a.example,b.example,c.example")));
        assert!(homeservers("*, a.example").is_err());
    }

    #[test]
    fn cloudflare_reaches_no_sfu_in_a_private_network() {
        for url in ["wss://sfu.example.com", "wss://8.8.8.8:7443", "wss://[2606:4700::1]"] {
            assert_eq!(public_sfu_url(url), Ok(url.to_owned()));
        }
        for (url, problem) in [
            ("ws://10.0.0.7:7880", "a private address, 10.0.0.7"),
            ("ws://[fd00::7]:7880", "a private address, [fd00::7]"),
            ("ws://127.0.0.1", "a private address"),
            ("ws://localhost:7880", "a name of a private network, localhost"),
            ("ws://livekit:7880", "a name of a private network, livekit"),
            ("wss://sfu.home.arpa", "a name of a private network"),
            ("wss://sfu.lan", "a name of a private network"),
        ] {
            let error = public_sfu_url(url).unwrap_err();
            assert!(error.contains(problem) && error.contains("--own-machine"), "{url}: {error}");
            assert!(sfu_url(url).is_ok(), "{url}");
        }
    }
}
