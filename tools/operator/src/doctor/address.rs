//! Addresses of a host, and whether connections to all of them succeed.

use std::net::IpAddr;

use matrixrtc_edge::matrix::address::is_public;
use matrixrtc_edge::matrix::ids::server_name::Host;

use crate::doctor::report::{Outcome, Status};
use crate::doctor::web::{Addresses, ConnectFailure, Failure};

/// Like [`check`], for a server that browsers' pages send requests to.
pub(crate) async fn check_for_pages(host: &str, port: u16, server: &str) -> Result<Outcome, Outcome> {
    let outcome = check(host, port, server).await?;
    Ok(match outcome.status {
        Status::Warning => Outcome {
            seen: format!(
                "{}: Chrome asks the user before a page of a public site may reach it (local network access), and a widget may not at \
                 all, unless its host allows it",
                outcome.seen
            ),
            ..outcome
        },
        _ => outcome,
    })
}

/// Connects to `port` at all addresses of `host`. `Err` if none of them answers.
///
/// `server` names the server that has the addresses, for the text of the change.
pub(crate) async fn check(host: &str, port: u16, server: &str) -> Result<Outcome, Outcome> {
    let problem = |failure: Failure| Outcome::problem(failure.to_string(), failure.change(server));
    let Addresses(tried) = Addresses::of(host, port).await.map_err(problem)?;
    let (answering, failed): (Vec<_>, Vec<_>) = tried.into_iter().partition(|(_, outcome)| outcome.is_ok());
    let failed: Vec<_> = failed.into_iter().filter_map(|(address, outcome)| Some((address, outcome.err()?))).collect();
    if answering.is_empty() {
        return Err(problem(Failure::Unreachable(failed)));
    }
    let list: Vec<_> = answering.iter().map(|(address, _)| address.to_string()).collect();
    let mut seen = format!("{host} answers at {}", list.join(" and "));
    let (untried, dead): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|(_, failure)| *failure == ConnectFailure::NoRoute);
    if let Some((address, failure)) = dead.first() {
        let (family, record) = match address.ip() {
            IpAddr::V6(_) => ("IPv6", "AAAA"),
            IpAddr::V4(_) => ("IPv4", "A"),
        };
        return Ok(Outcome::problem(
            format!(
                "{host} has the {family} address {}, which doesn't answer at port {port} ({failure})",
                address.ip()
            ),
            format!("let {server} listen there, too, or remove the {record} record from the DNS"),
        ));
    }
    if let Some((address, _)) = untried.first() {
        seen += &format!("; {} can't be reached from this machine, and wasn't tried", address.ip());
    }
    Ok(match answering.iter().find(|(address, _)| !is_public(&Host::Ip(address.ip()))) {
        Some((address, _)) => Outcome::warning(
            format!("{host} is at {}, a private address", address.ip()),
            format!(
                "nothing, if this is a test setup or if the name resolves to a public address elsewhere; otherwise give {server} a public address"
            ),
        ),
        None => Outcome::ok(seen),
    })
}
