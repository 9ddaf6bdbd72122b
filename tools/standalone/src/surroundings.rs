//! Checks of the machine at the start: its clock, and whether it resolves the SFU's name.

use std::{
    net::ToSocketAddrs,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use crate::message::{Kind, Message};

/// Returns a warning if the clock is behind the time that this version was made for: a machine without a battery begins in
/// 1970.
#[must_use]
pub fn check_clock(now: SystemTime) -> Option<Message> {
    let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (now_s < MADE_AFTER_S).then(|| {
        let cause = format!(
            "it is {} days behind this version's release: set it, by NTP, or SFU and homeservers refuse all tokens",
            MADE_AFTER_S.saturating_sub(now_s) / 86_400
        );
        Message { kind: Kind::WrongClock, fields: json!({ "cause": cause }) }
    })
}

/// Resolves the host of the SFU's URL in the background, and writes a warning if it has no address here.
pub fn look_up_sfu(api: &str) {
    let Some((host, port)) = host_and_port(api) else { return };
    thread::spawn(move || {
        if let Some(message) = look_up(&host, port) {
            message.write();
        }
    });
}

fn look_up(host: &str, port: u16) -> Option<Message> {
    let cause = match (host, port).to_socket_addrs() {
        Ok(addresses) if addresses.len() > 0 => return None,
        Ok(_) => String::from("it has no address"),
        Err(error) => error.to_string(),
    };
    let cause = format!("{cause}: is LIVEKIT_URL right, and does this machine, or container, have a DNS server?");
    Some(Message { kind: Kind::SfuNotFound, fields: json!({ "host": host, "cause": cause }) })
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    // An address needs no DNS.
    let (host, port) = match authority.rsplit_once(':') {
        _ if authority.starts_with('[') => return None,
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, if scheme == "http" { 80 } else { 443 }),
    };
    Some((host.to_owned(), port))
}

/// 2026-10-01, the compatibility date of the worker's configuration.
const MADE_AFTER_S: u64 = 1_790_812_800;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_is_behind_this_version_is_named() {
        let at = |seconds| check_clock(UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(at(60).is_some_and(|message| message.to_string().contains("NTP")));
        assert!(at(MADE_AFTER_S).is_none());
        assert!(check_clock(UNIX_EPOCH - Duration::from_secs(1)).is_some());
    }

    #[test]
    fn a_name_without_an_address_is_named_with_its_host() {
        for (url, expected) in [
            ("https://sfu.example.com", Some(("sfu.example.com", 443))),
            ("http://sfu.example.com:7880/livekit", Some(("sfu.example.com", 7880))),
            ("https://[::1]:7880", None),
        ] {
            assert_eq!(host_and_port(url), expected.map(|(host, port)| (host.to_owned(), port)));
        }
        assert!(look_up("127.0.0.1", 80).is_none());
        let message = look_up("sfu.invalid", 443).unwrap().to_string();
        assert!(message.contains("sfu.invalid") && message.contains("DNS server"), "{message}");
    }
}
