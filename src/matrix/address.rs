//! Public and private addresses: the hosts that a caller may direct this service to
//! (`docs/protocol.md#private-addresses`).
//!
//! How it works:
//! - an address literal is compared with the reserved ranges; an IPv6 address that embeds an IPv4 address counts as
//!   that;
//! - `localhost` and names below it are private by definition;
//! - the addresses behind any other name can't be seen from a worker. The platform covers them: the edge has no
//!   private network, and workerd alone connects to public addresses only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::matrix::ids::server_name::Host;

/// Whether callers may direct this service to `host`.
pub fn is_public(host: &Host) -> bool {
    match host {
        Host::Ip(IpAddr::V4(address)) => is_public_v4(*address),
        Host::Ip(IpAddr::V6(address)) => is_public_v6(*address),
        Host::Name(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name != "localhost" && !name.ends_with(".localhost")
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, ..] => is_public_v4(embedded_v4(segments[6], segments[7])),
        [0x2002, high, low, ..] => is_public_v4(embedded_v4(high, low)),
        [0x2001, second, ..] => second > 0x1ff && second != 0xdb8,
        // Only global unicast is assigned to the internet; everything else is local.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn embedded_v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::ids::server_name::ServerName;

    fn public(text: &str) -> bool {
        is_public(ServerName::parse(text).unwrap().host())
    }

    #[test]
    fn private_loopback_and_link_local_addresses_are_not_public() {
        for text in [
            "127.0.0.1",
            "127.255.0.1:8448",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd12::1]:443",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[ff02::1]",
            "[2001:db8::1]",
            "localhost",
            "LocalHost:8448",
            "a.localhost",
            "localhost.",
        ] {
            assert!(!public(text), "{text}");
        }
    }

    #[test]
    fn public_addresses_and_names_are_public() {
        for text in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1:443",
            "100.128.0.1",
            "[2606:4700::1111]",
            "[2001:4860:4860::8888]",
            "[::ffff:1.1.1.1]",
            "example.com",
            "notlocalhost",
            "localhost.example.com",
        ] {
            assert!(public(text), "{text}");
        }
    }
}
