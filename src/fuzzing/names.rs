//! Identifiers, addresses, paths, and the values of variables.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::SECRET;
use crate::config::{Config, VARIABLES};
use crate::matrix::address::is_public;
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::server_name::{Host, ServerName};
use crate::matrix::ids::user_id::UserId;
use crate::rate_limit::ClientAddress;
use crate::route::Endpoint;
use crate::service::path_of;

/// Reads each line as a server name, a user id, a room id, and the address of a client.
pub fn identifiers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.split('\n') {
        if let Ok(name) = ServerName::parse(line) {
            check_server_name(&name);
        }
        if let Ok(user) = UserId::parse(line) {
            assert!(user.as_str().len() <= MAX_ID && !user.server_name().is_empty());
        }
        if let Ok(room) = RoomId::parse(line) {
            assert!(room.as_str().len() <= MAX_ID && room.as_str().starts_with('!'));
        }
        if let Some(client) = ClientAddress::parse(line) {
            let network = client.to_string();
            let address = network.trim_end_matches("/64");
            assert_eq!(ClientAddress::parse(address), Some(client), "one network has two names");
        }
    }
}

/// Asserts that a URL leads to the very host and port that were checked.
fn check_server_name(name: &ServerName) {
    assert!(name.as_str().len() <= MAX_SERVER_NAME && name.port() != Some(0));
    let url = Url::parse(&format!("https://{name}/.well-known/matrix/server"));
    assert!(url.is_ok(), "a server name makes no URL");
    let Ok(url) = url else { return };
    assert_eq!((url.path(), url.username()), ("/.well-known/matrix/server", ""));
    assert_eq!(url.port_or_known_default(), Some(name.port().unwrap_or(443)));
    let host = Host::of(&url);
    let same = match (&host, name.host()) {
        (Some(Host::Name(there)), Host::Name(here)) => there.eq_ignore_ascii_case(here),
        (there, here) => there.as_ref() == Some(here),
    };
    assert!(same, "a URL leads to another host than its server name");
    assert_eq!(host.as_ref().map(is_public), Some(is_public(name.host())));
}

/// Reads the input as the path of a request.
pub fn paths(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    let url = format!("https://example.com/{}", path.trim_start_matches('/'));
    assert!(!path_of(&url).contains(['?', '#']));
    let endpoint = Endpoint::at(path);
    let decoded = percent_decode_str(path).decode_utf8_lossy().into_owned();
    if let Some(endpoint) = endpoint {
        assert!(endpoint.allow().split(", ").all(|method| endpoint.allows(method)));
        let matrix = decoded.split('/').any(|segment| segment == "_matrix");
        assert_eq!(matrix, endpoint.is_for_homeserver(), "a path is one thing to a proxy, and another one here");
        assert!(!decoded.split('/').any(|segment| segment == ".."));
    }
    let encoded = utf8_percent_encode(&decoded, NON_ALPHANUMERIC).to_string();
    assert_eq!(Endpoint::at(&encoded), endpoint, "an encoded path is another one");
}

/// Reads each line as `VARIABLE=value`; `\n` in a value is a line feed.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value_of = |variable: &str| {
        let mut lines = text.split('\n').filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == variable).map(|(_, value)| value.replace("\\n", "\n"))
    };
    match Config::from_lookup(value_of) {
        Ok(config) => {
            assert!(matches!(config.token_ttl_s, 1..=3600));
            let api = Url::parse(config.sfu.api());
            assert!(api.is_ok_and(|api| matches!(api.scheme(), "http" | "https") && api.query().is_none()));
            assert!(!format!("{config:?}").contains(SECRET) || !is_only_in_secrets(text));
        }
        Err(errors) => {
            assert!(!errors.0.is_empty() && errors.0.iter().all(|problem| VARIABLES.contains(&problem.variable)));
            assert!(!errors.to_string().contains(SECRET) || !is_only_in_secrets(text), "a problem quotes a secret");
        }
    }
}

fn is_only_in_secrets(text: &str) -> bool {
    const SECRETS: [&str; 4] = ["LIVEKIT_SECRET", "LIVEKIT_KEYS", "LIVEKIT_AS_TOKEN", "LIVEKIT_HS_TOKEN"];
    text.split('\n')
        .filter(|line| line.contains(SECRET))
        .all(|line| line.split_once('=').is_some_and(|(name, _)| SECRETS.contains(&name)))
}

/// Bytes of a user id or a room id, by the Matrix specification.
const MAX_ID: usize = 255;
const MAX_SERVER_NAME: usize = 230;
