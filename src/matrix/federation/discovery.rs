//! Server discovery: from a server name to the address of its federation API ([server-server API, "Resolving server
//! names"](https://spec.matrix.org/latest/server-server-api/#resolving-server-names),
//! `docs/protocol.md#finding-homeservers`).
//!
//! How it works:
//! - [`discover`] decides, and performs no I/O: its caller passes a [`Network`] with the two look-ups;
//! - an address, or a name with a port, is the destination itself;
//! - otherwise well-known may delegate to another name; the SRV records of the resulting name come next, and port
//!   8448 last;
//! - a failed look-up isn't an error: the next step applies, and the result is kept for a shorter time;
//! - every host on the way is checked against the [`AddressPolicy`], because its name comes from a caller.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::matrix::address::is_public;
use crate::matrix::federation::dns::{SrvAnswer, SrvTarget};
use crate::matrix::ids::server_name::{Host, ServerName};

/// Resolves `name`, with only the look-ups that the applicable step needs.
///
/// Fails only where the name, or one that it delegates to, leads to an address that `policy` forbids.
pub async fn discover(
    network: &impl Network,
    policy: AddressPolicy,
    name: &ServerName,
) -> Result<Resolution, DiscoveryError> {
    policy.check(name.host())?;
    if let Some(destination) = direct(name) {
        let step = match name.host() {
            Host::Ip(_) => Step::AddressLiteral,
            Host::Name(_) => Step::ExplicitPort,
        };
        return Ok(Resolution::new(destination, step, FOREVER));
    }
    let well_known = network.well_known(name.host()).await;
    let Some(delegated) = well_known.delegated else {
        let srv = by_srv(network, policy, name.host()).await?;
        return Ok(srv.into_resolution(well_known.lifetime, Step::Srv, Step::DefaultPort));
    };
    policy.check(delegated.host())?;
    if let Some(destination) = direct(&delegated) {
        return Ok(Resolution::new(destination, Step::WellKnown, well_known.lifetime));
    }
    let srv = by_srv(network, policy, delegated.host()).await?;
    Ok(srv.into_resolution(well_known.lifetime, Step::WellKnownSrv, Step::WellKnownDefaultPort))
}

/// The look-ups of server discovery.
pub trait Network {
    /// Fetches `https://{host}/.well-known/matrix/server`.
    fn well_known(&self, host: &Host) -> impl Future<Output = WellKnown>;
    /// Queries the SRV records of `record`; `None` where the resolver failed.
    fn srv(&self, record: &str) -> impl Future<Output = Option<SrvAnswer>>;
}

/// Outcome of a well-known look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WellKnown {
    /// The delegated name, where the response is valid.
    pub delegated: Option<ServerName>,
    /// Time for which this outcome, success or failure, may be kept.
    pub lifetime: Duration,
}

/// Addresses that may be contacted on behalf of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Public ones only.
    PublicOnly,
    /// Any (`LIVEKIT_ALLOW_PRIVATE_ADDRESSES`, for a test setup).
    Any,
}

impl AddressPolicy {
    /// Fails where this policy forbids `host`.
    pub fn check(self, host: &Host) -> Result<(), DiscoveryError> {
        match self {
            Self::PublicOnly if !is_public(host) => Err(DiscoveryError::PrivateAddress(host.clone())),
            _ => Ok(()),
        }
    }
}

/// Destination of a server's federation API, and the step that found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The destination of requests.
    pub destination: Destination,
    /// The step of the specification that found it.
    pub step: Step,
    /// Time for which this may be kept.
    pub lifetime: Duration,
}

impl Resolution {
    fn new(destination: Destination, step: Step, lifetime: Duration) -> Self {
        Self { destination, step, lifetime }
    }
}

/// Host to connect to, and name for which TLS is validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// TLS is validated for the host of the connection.
    Direct {
        /// Connected to, validated, and sent as `Host`.
        host: Host,
        /// The TCP port.
        port: u16,
    },
    /// The host comes from an SRV record; the name that was resolved is validated and sent as `Host`.
    Srv {
        /// Validated, and sent as `Host`.
        name: String,
        /// Connected to, in this order until one answers.
        targets: Vec<SrvTarget>,
    },
}

/// Step of server discovery that led to a destination, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// 1: the name is an address.
    AddressLiteral,
    /// 2: the name has a port.
    ExplicitPort,
    /// 3: well-known names an address or a port.
    WellKnown,
    /// 3: the SRV record of the name that well-known delegates to.
    WellKnownSrv,
    /// 3: port 8448 of the name that well-known delegates to.
    WellKnownDefaultPort,
    /// 4: the SRV record of the name itself.
    Srv,
    /// 4: port 8448 of the name itself.
    DefaultPort,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressLiteral => "the server name is an address",
            Self::ExplicitPort => "the server name has a port",
            Self::WellKnown => "well-known",
            Self::WellKnownSrv => "well-known, then its SRV record",
            Self::WellKnownDefaultPort => "well-known, then port 8448",
            Self::Srv => "no valid well-known, SRV record",
            Self::DefaultPort => "no valid well-known and no SRV record, port 8448",
        })
    }
}

/// Reason for not resolving a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiscoveryError {
    /// The host is, by its literal address or by definition, in a private range.
    #[error("{0} is a private address (LIVEKIT_ALLOW_PRIVATE_ADDRESSES is not set)")]
    PrivateAddress(Host),
}

/// Returns the destination of a name that needs no look-up: an address, or a name with a port.
fn direct(name: &ServerName) -> Option<Destination> {
    let port = match (name.host(), name.port()) {
        (_, Some(port)) => port,
        (Host::Ip(_), None) => DEFAULT_PORT,
        (Host::Name(_), None) => return None,
    };
    Some(Destination::Direct { host: name.host().clone(), port })
}

struct BySrv {
    host: Host,
    targets: Vec<SrvTarget>,
    lifetime: Duration,
}

async fn by_srv(network: &impl Network, policy: AddressPolicy, host: &Host) -> Result<BySrv, DiscoveryError> {
    let mut found = BySrv { host: host.clone(), targets: Vec::new(), lifetime: FOREVER };
    for service in SERVICES {
        let Some(answer) = network.srv(&format!("{service}.{host}")).await else {
            found.lifetime = found.lifetime.min(RETRY_FAILED_SRV);
            continue;
        };
        found.lifetime = found.lifetime.min(answer.lifetime);
        for target in answer.targets {
            // RFC 2782 requires a host name here; any other target is a broken record.
            if let Ok(Host::Name(name)) = ServerName::parse(&target.host).map(|name| name.host().clone()) {
                policy.check(&Host::Name(name))?;
                found.targets.push(target);
            }
        }
        if !found.targets.is_empty() {
            break;
        }
    }
    Ok(found)
}

impl BySrv {
    fn into_resolution(self, lifetime: Duration, with_record: Step, without: Step) -> Resolution {
        let lifetime = lifetime.min(self.lifetime);
        let name = self.host.to_string();
        match self.targets.as_slice() {
            [] => {
                let port = DEFAULT_PORT;
                Resolution::new(Destination::Direct { host: self.host, port }, without, lifetime)
            }
            // A target equal to the name itself needs no connection of its own kind.
            [only] if only.host.eq_ignore_ascii_case(&name) => {
                let port = only.port;
                Resolution::new(Destination::Direct { host: self.host, port }, with_record, lifetime)
            }
            _ => {
                let targets = self.targets;
                Resolution::new(Destination::Srv { name, targets }, with_record, lifetime)
            }
        }
    }
}

/// Lifetime of a destination that needed no look-up.
const FOREVER: Duration = Duration::from_secs(48 * 3600);
/// Lifetime of a destination after a failure of the resolver: port 8448 is a guess then.
const RETRY_FAILED_SRV: Duration = Duration::from_secs(60);
const DEFAULT_PORT: u16 = 8448;
const SERVICES: [&str; 2] = ["_matrix-fed._tcp", "_matrix._tcp"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A network with one well-known and some SRV records, which records its look-ups.
    #[derive(Default)]
    struct TestNetwork {
        well_known: Option<&'static str>,
        srv: Vec<(&'static str, &'static str, u16)>,
        broken_dns: bool,
        queried: RefCell<Vec<String>>,
    }

    impl Network for TestNetwork {
        async fn well_known(&self, host: &Host) -> WellKnown {
            self.queried.borrow_mut().push(format!("well-known {host}"));
            WellKnown {
                delegated: self.well_known.map(|name| ServerName::parse(name).unwrap()),
                lifetime: Duration::from_secs(7200),
            }
        }

        async fn srv(&self, record: &str) -> Option<SrvAnswer> {
            self.queried.borrow_mut().push(format!("srv {record}"));
            let targets = self.srv.iter().filter(|(name, ..)| *name == record);
            (!self.broken_dns).then(|| SrvAnswer {
                targets: targets.map(|(_, host, port)| target(host, *port)).collect(),
                lifetime: Duration::from_secs(300),
            })
        }
    }

    fn target(host: &str, port: u16) -> SrvTarget {
        SrvTarget { host: host.into(), port }
    }

    fn resolve(network: &TestNetwork, name: &str) -> Result<Resolution, DiscoveryError> {
        let name = ServerName::parse(name).unwrap();
        futures_executor::block_on(discover(network, AddressPolicy::PublicOnly, &name))
    }

    fn direct_to(host: &str, port: u16) -> Destination {
        direct(&ServerName::parse(&format!("{host}:{port}")).unwrap()).unwrap()
    }

    #[test]
    fn addresses_and_explicit_ports_need_no_look_up() {
        let network = TestNetwork::default();
        assert_eq!(resolve(&network, "1.1.1.1").unwrap().destination, direct_to("1.1.1.1", 8448));
        assert_eq!(resolve(&network, "[2606:4700::1]:99").unwrap().destination, direct_to("[2606:4700::1]", 99));
        assert_eq!(resolve(&network, "example.com:443").unwrap().destination, direct_to("example.com", 443));
        assert!(network.queried.borrow().is_empty());
    }

    #[test]
    fn well_known_with_a_port_or_an_address_ends_the_search() {
        for (delegated, destination) in
            [("hs.example.org:443", direct_to("hs.example.org", 443)), ("1.1.1.1", direct_to("1.1.1.1", 8448))]
        {
            let network = TestNetwork { well_known: Some(delegated), ..TestNetwork::default() };
            let resolution = resolve(&network, "example.com").unwrap();
            assert_eq!(resolution.destination, destination);
            assert_eq!(resolution.step, Step::WellKnown);
            assert_eq!(*network.queried.borrow(), ["well-known example.com"]);
        }
    }

    #[test]
    fn the_srv_record_of_the_delegated_name_is_asked_for() {
        let network = TestNetwork {
            well_known: Some("hs.example.org"),
            srv: vec![("_matrix-fed._tcp.hs.example.org", "target.example.net", 4433)],
            ..TestNetwork::default()
        };
        let resolution = resolve(&network, "example.com").unwrap();
        let expected =
            Destination::Srv { name: "hs.example.org".into(), targets: vec![target("target.example.net", 4433)] };
        assert_eq!((resolution.destination, resolution.step), (expected, Step::WellKnownSrv));
        assert_eq!(resolution.lifetime, Duration::from_secs(300));
    }

    #[test]
    fn the_deprecated_srv_record_comes_second_and_port_8448_last() {
        let mut network =
            TestNetwork { srv: vec![("_matrix._tcp.example.com", "old.example.net", 8000)], ..TestNetwork::default() };
        let resolution = resolve(&network, "example.com").unwrap();
        assert_eq!(resolution.step, Step::Srv);
        assert_eq!(
            *network.queried.borrow(),
            ["well-known example.com", "srv _matrix-fed._tcp.example.com", "srv _matrix._tcp.example.com"]
        );

        network.srv.clear();
        let resolution = resolve(&network, "example.com").unwrap();
        assert_eq!(resolution.destination, direct_to("example.com", 8448));
        assert_eq!(resolution.step, Step::DefaultPort);

        network.well_known = Some("hs.example.org");
        let resolution = resolve(&network, "example.com").unwrap();
        assert_eq!(resolution.destination, direct_to("hs.example.org", 8448));
        assert_eq!(resolution.step, Step::WellKnownDefaultPort);
    }

    #[test]
    fn a_resolver_that_fails_leads_to_port_8448_for_a_short_while() {
        let network = TestNetwork { broken_dns: true, ..TestNetwork::default() };
        let resolution = resolve(&network, "example.com").unwrap();
        assert_eq!(resolution.destination, direct_to("example.com", 8448));
        assert_eq!(resolution.lifetime, RETRY_FAILED_SRV);
    }

    #[test]
    fn private_addresses_are_refused_wherever_they_turn_up() {
        let by_well_known = |name| TestNetwork { well_known: Some(name), ..TestNetwork::default() };
        for (network, name) in [
            (TestNetwork::default(), "127.0.0.1:8448"),
            (TestNetwork::default(), "localhost:8448"),
            (by_well_known("10.0.0.1"), "example.com"),
            (by_well_known("localhost"), "example.com"),
            (
                TestNetwork { srv: vec![("_matrix._tcp.example.com", "localhost", 80)], ..TestNetwork::default() },
                "example.com",
            ),
        ] {
            assert!(matches!(resolve(&network, name), Err(DiscoveryError::PrivateAddress(_))), "{name}");
        }
    }

    #[test]
    fn srv_targets_that_are_no_host_names_are_passed_over() {
        let network = TestNetwork {
            srv: vec![
                ("_matrix-fed._tcp.example.com", "1.1.1.1", 80),
                ("_matrix-fed._tcp.example.com", "a b", 80),
                ("_matrix._tcp.example.com", "example.com", 4433),
            ],
            ..TestNetwork::default()
        };
        assert_eq!(resolve(&network, "example.com").unwrap().destination, direct_to("example.com", 4433));
    }
}
