//! Matrix server names ([appendices, "Server Name"](https://spec.matrix.org/latest/appendices/#server-name)).
//!
//! How it works:
//! - the grammar is that of the specification, checked by ruma's validation;
//! - a name is split into a [`Host`], address or DNS name, and a port;
//! - names that a URL parser would read as an IPv4 address although they aren't written as one (`127.1`,
//!   `0x7f000001`) are rejected: they would evade the check for private addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// A server name of at most 230 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName {
    text: String,
    host: Host,
    port: Option<u16>,
}

impl ServerName {
    /// Parses `host` or `host:port`.
    pub fn parse(text: &str) -> Result<Self, InvalidServerName> {
        if text.len() > MAX_BYTES {
            return Err(InvalidServerName);
        }
        ruma_identifiers_validation::server_name::validate(text).map_err(|_| InvalidServerName)?;
        let host_end = match text.find(']') {
            Some(bracket) => bracket + 1,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(host_end);
        let port = match port.strip_prefix(':') {
            None => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|port| *port != 0).ok_or(InvalidServerName)?)
            }
            Some(_) => return Err(InvalidServerName),
        };
        Ok(Self { text: text.to_owned(), host: Host::parse(host)?, port })
    }

    /// Returns the name as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the name without its port.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the port, where the name has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Host of a server name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address, written without its brackets.
    Ip(IpAddr),
    /// A DNS name.
    Name(String),
}

impl Host {
    /// Returns the host of a URL.
    pub fn of(url: &url::Url) -> Option<Self> {
        Some(match url.host()? {
            url::Host::Domain(name) => Self::Name(name.to_owned()),
            url::Host::Ipv4(address) => Self::Ip(address.into()),
            url::Host::Ipv6(address) => Self::Ip(address.into()),
        })
    }

    fn parse(text: &str) -> Result<Self, InvalidServerName> {
        if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr = literal.parse().map_err(|_| InvalidServerName)?;
            return Ok(Self::Ip(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        match url::Host::parse(text) {
            Ok(url::Host::Domain(_)) => Ok(Self::Name(text.to_owned())),
            _ => Err(InvalidServerName),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The text is no Matrix server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a Matrix server name")]
pub struct InvalidServerName;

const MAX_BYTES: usize = 230;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_addresses_and_ports_are_told_apart() {
        for (text, host, port) in [
            ("example.com", Host::Name("example.com".into()), None),
            ("example.com:8448", Host::Name("example.com".into()), Some(8448)),
            ("192.0.2.1", Host::Ip([192, 0, 2, 1].into()), None),
            ("192.0.2.1:443", Host::Ip([192, 0, 2, 1].into()), Some(443)),
            ("[2001:db8::1]:1", Host::Ip("2001:db8::1".parse().unwrap()), Some(1)),
        ] {
            let name = ServerName::parse(text).unwrap();
            assert_eq!((name.host(), name.port()), (&host, port), "{text}");
            assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn what_the_grammar_excludes_is_refused() {
        let long = format!("{}.com", "a".repeat(230));
        for text in [
            "",
            "https://example.com",
            "example.com/path",
            "user@example.com",
            "exa mple.com",
            "example.com:",
            "example.com:0",
            "example.com:+443",
            "example.com:99999",
            "[::1",
            "::1",
            "example.com\n",
            "ex%61mple.com",
            &long,
        ] {
            assert_eq!(ServerName::parse(text), Err(InvalidServerName), "{text}");
        }
    }

    #[test]
    fn disguised_addresses_are_refused() {
        for text in ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1."] {
            assert_eq!(ServerName::parse(text), Err(InvalidServerName), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic_and_what_is_accepted_reads_back(text in "\\PC{0,40}|[a-z0-9.:\\[\\]-]{0,40}") {
            if let Ok(name) = ServerName::parse(&text) {
                let port = name.port().map(|port| format!(":{port}")).unwrap_or_default();
                let again = ServerName::parse(&format!("{}{port}", name.host())).unwrap();
                prop_assert_eq!((again.host(), again.port()), (name.host(), name.port()));
            }
        }
    }
}
