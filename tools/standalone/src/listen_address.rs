//! The address to listen on, as the operator writes it.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Result, anyhow};
use operator::variables::table::{JWT_BIND, JWT_PORT};
use serde_json::json;
use thiserror::Error;

use crate::{
    environment::{Environment, Misconfigured},
    message::Kind,
};

/// The address without any setting.
pub const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Returns the address that an option or the environment gives, in this order.
///
/// # Errors
///
/// There is no option, and the environment has a wrong value.
pub fn chosen(option: Option<SocketAddr>, environment: &mut Environment) -> Result<SocketAddr, Misconfigured> {
    if let Some(addr) = option {
        return Ok(addr);
    }
    let Some((variable, text)) = environment.address()? else { return Ok(DEFAULT) };
    if variable != JWT_PORT {
        return parse(&text).map_err(|error| Misconfigured(vec![format!("{variable} {error}")]));
    }
    // The colon of the newer form does no harm.
    let Ok(port) = text.strip_prefix(':').unwrap_or(&text).parse() else {
        let problem = format!("{JWT_PORT} is {text:?}, and no port from 0 to 65535: {JWT_BIND} takes an address");
        return Err(Misconfigured(vec![problem]));
    };
    environment.say(Kind::OlderForm, json!({ "variable": JWT_PORT, "instead": format!("{JWT_BIND}=:{port}") }));
    Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
}

/// Parses `IP:PORT`, `[IP]:PORT`, `localhost:PORT`, or `:PORT` for every IPv4 address.
///
/// # Errors
///
/// It is none of these; the error is worded to follow a name.
pub fn parse(text: &str) -> Result<SocketAddr, InvalidAddress> {
    let given = text.trim();
    if let Ok(addr) = given.parse() {
        return Ok(addr);
    }
    let because = |reason| InvalidAddress { given: given.to_owned(), reason };
    if given.contains("://") {
        return Err(because("has a scheme, and none is wanted"));
    }
    if given.starts_with(['"', '\'']) {
        return Err(because("is in quotation marks, which are a part of the value here: remove them"));
    }
    let Some((host, port)) = given.rsplit_once(':') else {
        return Err(because(match given.parse::<u16>() {
            Ok(_) => "is a port alone: a colon is missing before it",
            Err(_) => "has no port",
        }));
    };
    let Ok(port) = port.parse() else { return Err(because("doesn't end with a port from 0 to 65535")) };
    let ip = match host {
        "" | "*" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        host => {
            host.parse().map_err(|_| because("has a name, or an IPv6 address without brackets, for its IP address"))?
        }
    };
    Ok(SocketAddr::new(ip.into(), port))
}

/// Finds out whether a server could listen on the address now.
///
/// # Errors
///
/// It couldn't: the error says what to change.
pub fn check(addr: SocketAddr) -> Result<()> {
    // The listener is closed at once.
    let Err(error) = TcpListener::bind(addr) else { return Ok(()) };
    let other = "another one with --addr, MATRIXRTC_EDGE_ADDR or LIVEKIT_JWT_BIND";
    Err(match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "{addr} is in use by another program: is this service running already, or the one that it replaces? Stop that, \
             or choose {other}"
        ),
        ErrorKind::AddrNotAvailable => {
            anyhow!("{addr} is no address of this machine: choose {other}, or :{} for every IPv4 address", addr.port())
        }
        ErrorKind::PermissionDenied => {
            anyhow!("this user may not listen on {addr}: ports below 1024 are for root. Choose {other}")
        }
        _ => anyhow!("can't listen on {addr}: {error}. Choose {other}"),
    })
}

/// The text is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{given:?} {reason}; an address to listen on is IP:PORT, such as 127.0.0.1:8080 or [::1]:8080, or :PORT for every IPv4 address"
)]
pub struct InvalidAddress {
    given: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_every_form_that_operators_write() {
        for (text, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            (" 0.0.0.0:0\n", "0.0.0.0:0"),
            ("[::]:8080", "[::]:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:8080", "0.0.0.0:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(parse(text), Ok(expected.parse().unwrap()), "{text:?}");
        }
        for (text, reason) in [
            ("8080", "a colon is missing"),
            ("127.0.0.1", "has no port"),
            ("http://127.0.0.1:8080", "has a scheme"),
            ("127.0.0.1:http", "a port from 0 to 65535"),
            (":65536", "a port from 0 to 65535"),
            ("::1:8080", "IPv6 address without brackets"),
            ("example.com:8080", "has a name"),
            ("\":8080\"", "quotation marks"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(":PORT"), "{text:?}: {error}");
        }
    }
}
