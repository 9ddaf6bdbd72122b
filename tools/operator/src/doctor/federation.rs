//! The homeserver's federation API, by which the service verifies OpenID tokens
//! (`docs/protocol.md#verifying-an-openid-token`).

use std::cell::{Cell, RefCell};
use std::time::Duration;

use matrixrtc_edge::matrix::federation::discovery::{
    AddressPolicy, Destination, Network, Resolution, WellKnown, discover,
};
use matrixrtc_edge::matrix::federation::dns::{SrvAnswer, SrvTarget};
use matrixrtc_edge::matrix::federation::openid::federation_is_off;
use matrixrtc_edge::matrix::ids::server_name::{Host, ServerName};
use matrixrtc_edge::matrix::well_known::delegated_name;
use url::Url;

use crate::doctor::address;
use crate::doctor::report::{Outcome, Status, Verdict};
use crate::doctor::subject::Subject;
use crate::doctor::web::{Failure, Request, Response, Web};

/// Finds the federation API as the service does (`docs/protocol.md#finding-homeservers`), and connects to all its
/// addresses.
pub(crate) async fn discovery(web: &Web, subject: &Subject, server_name: &ServerName) -> Verdict<Resolution> {
    let network = LocalNetwork {
        web,
        resolver: &subject.dns_over_https_url,
        misconfiguration: RefCell::default(),
        silent: Cell::new(false),
    };
    let resolution = match discover(&network, subject.addresses, server_name).await {
        Ok(resolution) => resolution,
        Err(error) => {
            let change = "let .well-known/matrix/server and SRV records name a public host; in a test setup, pass \
                          --allow-private-addresses, and set LIVEKIT_ALLOW_PRIVATE_ADDRESSES for the service";
            return (Outcome::problem(error.to_string(), change), None);
        }
    };
    let mut found = format!("{} (found by: {})", resolution.destination, resolution.step);
    if network.silent.get() {
        found += &format!(", but {} returned no result for SRV records", subject.dns_over_https_url);
    }
    if let Some(Misconfiguration { seen, change }) = network.misconfiguration.into_inner() {
        return (Outcome::problem(format!("{seen}; without it, the service uses {found}"), change), Some(resolution));
    }
    let at_home_only = at_home_only(server_name, &resolution.destination);
    for (host, port) in authorities(&resolution.destination) {
        let server = format!("the homeserver, or the proxy in front of it, at port {port}");
        match address::check(&host, port, &server).await {
            Ok(Outcome { status: Status::Ok, .. }) => {}
            Ok(Outcome { status: Status::Warning, .. }) if subject.addresses == AddressPolicy::Any => {}
            Ok(outcome) => return (with_way(with_warning(outcome, at_home_only), &found), Some(resolution)),
            Err(outcome) => return (with_way(with_warning(outcome, at_home_only), &found), None),
        }
    }
    let outcome = match at_home_only {
        Some(warning) => with_way(warning, &found),
        None => Outcome::ok(found),
    };
    (outcome, Some(resolution))
}

/// Warning of a destination that a service on Cloudflare can't reach: an address, or another host than the name itself,
/// by an SRV record only.
fn at_home_only(server_name: &ServerName, destination: &Destination) -> Option<Outcome> {
    match destination {
        Destination::Direct { host: Host::Name(_), .. } => None,
        Destination::Direct { host: Host::Ip(_), port } => Some(Outcome::warning(
            "works at home, not on Cloudflare, which requests nothing of an address in place of a name",
            format!(
                "give the homeserver a host name with a certificate, in its server name or in .well-known/matrix/server; or set \
                 LIVEKIT_FEDERATION_URL_OVERRIDES={server_name}=https://(host name):{port} for the service"
            ),
        )),
        Destination::Srv { targets, .. } => {
            let target = targets.first().map(|SrvTarget { host, port }| format!("{host}:{port}")).unwrap_or_default();
            Some(Outcome::warning(
                "works at home, not on Cloudflare, where the service refuses the target of an SRV record, because nobody \
                 checks its certificate",
                format!(
                    "serve {{\"m.server\": \"{target}\"}} at https://{}/.well-known/matrix/server, or set \
                     LIVEKIT_FEDERATION_URL_OVERRIDES={server_name}=https://{target} for the service: either with a host \
                     whose certificate is for that host, while that of an SRV target is for the server name",
                    server_name.host()
                ),
            ))
        }
    }
}

/// Requests the owner of an OpenID token that doesn't exist.
pub(crate) async fn openid(web: &Web, found: &Resolution) -> Verdict<()> {
    let (authority, via) = match &found.destination {
        Destination::Direct { host, port } => (format!("{host}:{port}"), None),
        Destination::Srv { name, targets } => {
            (name.clone(), targets.first().map(|target| (target.host.as_str(), target.port)))
        }
    };
    let url = format!("https://{authority}/_matrix/federation/v1/openid/userinfo?access_token={MADE_UP}");
    let outcome = match web.send(&Request { via, ..Request::get(&url, &[]) }).await {
        Err(failure) => Outcome::problem(
            format!("{authority}: {failure} (clients report OPEN_ID_ERROR)"),
            failure.change("the homeserver's federation port, or the proxy in front of it,"),
        ),
        Ok(response) => match (response.status, response.errcode().as_deref()) {
            // M_UNKNOWN_TOKEN of Synapse and Dendrite, M_UNAUTHORIZED of Conduit and its descendants.
            (401, Some(_)) => Outcome::ok(format!("{authority} refuses a token that it didn't issue")),
            (403 | 404, Some(_)) if federation_is_off(&response.body) => Outcome::problem(
                format!(
                    "{authority} is a homeserver whose federation is disabled ({}): the service can't verify its users' OpenID tokens",
                    response.status
                ),
                format!("{FEDERATION_SWITCHES}; to let no other homeserver in, restrict which may federate instead"),
            ),
            (404, Some(_)) => Outcome::problem(
                format!("{authority} is a homeserver, but has no OpenID endpoint there (404)"),
                format!(
                    "Synapse: in the listener for federation, add the resource `openid` (or `federation`, which includes it); \
                     {FEDERATION_SWITCHES}"
                ),
            ),
            (status, None) => Outcome::problem(
                format!("the response from {authority} isn't that of a homeserver's federation API ({status})"),
                "let the proxy forward /_matrix/federation to the homeserver, or let .well-known/matrix/server name the right host and port",
            ),
            (403, _) => Outcome::problem(
                format!("{authority} refuses requests without authentication (403)"),
                "allow unauthenticated requests to /_matrix/federation/v1/openid/userinfo in the configuration of the homeserver and of the proxy",
            ),
            (429, _) => Outcome::warning(
                format!("{authority} limits the rate of requests (429)"),
                "try again later; if the warning stays, raise the rate limits of the homeserver or the proxy",
            ),
            (status, Some(_)) => Outcome::problem(
                format!("{authority} returned {status} for an unknown token; 401 is expected"),
                "read the homeserver's log",
            ),
        },
    };
    (outcome, Some(()))
}

/// Network of this machine, for the look-ups of discovery.
struct LocalNetwork<'a> {
    web: &'a Web,
    resolver: &'a Url,
    misconfiguration: RefCell<Option<Misconfiguration>>,
    /// Whether a query to the resolver failed.
    silent: Cell<bool>,
}

/// Mistake in spite of which discovery goes on, but to a destination that the operator didn't intend.
struct Misconfiguration {
    seen: String,
    change: String,
}

impl Network for LocalNetwork<'_> {
    async fn well_known(&self, host: &Host) -> WellKnown {
        let url = format!("https://{host}/.well-known/matrix/server");
        let delegated = match self.web.follow(&url, &[]).await {
            Ok(responses) => responses.last().and_then(|response| self.read(&url, response)),
            // Having no web server at this name is legitimate; an untrusted certificate, or silence, is a mistake.
            Err(Failure::Unreachable(_) | Failure::NoAddress { .. }) => None,
            Err(failure) => {
                let change = failure.change(&format!("the web server of {host}"));
                self.note(format!("{url}: {failure}"), change)
            }
        };
        WellKnown { delegated, lifetime: Duration::ZERO }
    }

    async fn srv(&self, record: &str) -> Option<SrvAnswer> {
        let mut url = self.resolver.clone();
        url.query_pairs_mut().append_pair("name", record).append_pair("type", "SRV");
        let response = self.web.send(&Request::get(url.as_str(), &[("accept", "application/dns-json")])).await;
        let found = response.ok().and_then(|response| SrvAnswer::parse(&response.body));
        self.silent.set(self.silent.get() || found.is_none());
        found
    }
}

impl LocalNetwork<'_> {
    fn read(&self, url: &str, response: &Response) -> Option<ServerName> {
        match response.status {
            200 => match delegated_name(&response.body) {
                Some(name) => Some(name),
                None => self.note(
                    format!("{url} isn't JSON with a valid m.server, and is ignored"),
                    String::from("let its content be {\"m.server\": \"host:port\"}, without https://"),
                ),
            },
            404 | 410 => None,
            status => self.note(
                format!("{url} returned {status}, and is ignored"),
                String::from("serve the file there without authentication, or let the web server return 404"),
            ),
        }
    }

    fn note<T>(&self, seen: String, change: String) -> Option<T> {
        self.misconfiguration.replace(Some(Misconfiguration { seen, change }));
        None
    }
}

/// Adds a warning to the outcome of an address, which is one, or a problem.
fn with_warning(outcome: Outcome, warning: Option<Outcome>) -> Outcome {
    let Some(warning) = warning else { return outcome };
    Outcome {
        seen: format!("{}; apart from that, it {}", outcome.seen, warning.seen),
        change: match (outcome.change, warning.change) {
            (Some(change), Some(other)) => Some(format!("{change}. And {other}")),
            (change, other) => change.or(other),
        },
        ..outcome
    }
}

fn with_way(outcome: Outcome, found: &str) -> Outcome {
    Outcome { seen: format!("{found}: {}", outcome.seen), ..outcome }
}

fn authorities(destination: &Destination) -> Vec<(String, u16)> {
    match destination {
        Destination::Direct { host, port } => vec![(host.to_string(), *port)],
        Destination::Srv { targets, .. } => targets.iter().map(|target| (target.host.clone(), target.port)).collect(),
    }
}

/// Settings by which other homeservers than Synapse have no federation API.
const FEDERATION_SWITCHES: &str = "Dendrite: set disable_federation: false under global; continuwuity, tuwunel and others of \
                                   Conduit's family: set allow_federation = true under [global]";
const MADE_UP: &str = "made-up-by-matrixrtc-doctor";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_of_an_srv_target_stays_beside_a_problem_of_its_address() {
        let server_name = ServerName::parse("example.org").unwrap();
        let target = SrvTarget { host: String::from("node1.example.com"), port: 8449 };
        let destination = Destination::Srv { name: String::from("example.org"), targets: vec![target] };
        let address = Outcome::problem("node1.example.com has no address", "add an A record");

        let outcome = with_warning(address, at_home_only(&server_name, &destination));

        assert_eq!(outcome.status, Status::Problem);
        let change = outcome.change.unwrap();
        for (text, part) in [
            (&outcome.seen, "has no address"),
            (&outcome.seen, "not on Cloudflare"),
            (&change, "add an A record"),
            (&change, "LIVEKIT_FEDERATION_URL_OVERRIDES=example.org=https://node1.example.com:8449"),
            (&change, "whose certificate is for that host"),
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }

    #[test]
    fn a_name_that_is_requested_directly_has_no_warning() {
        let server_name = ServerName::parse("example.org").unwrap();
        let destination =
            |host: &str| Destination::Direct { host: ServerName::parse(host).unwrap().host().clone(), port: 8448 };
        assert_eq!(at_home_only(&server_name, &destination("matrix.example.org")), None);
        let address = at_home_only(&server_name, &destination("203.0.113.1")).unwrap();
        assert!(address.status == Status::Warning && address.seen.contains("not on Cloudflare"), "{address:?}");
    }
}
