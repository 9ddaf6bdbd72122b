//! Homeserver mode: the registration file with its tokens.

use std::fmt;

use crate::doctor::ServiceUrl;
use anyhow::{Result, anyhow};
use matrixrtc_edge::matrix::ids::server_name::ServerName;

/// Homeserver with the service as an application service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeserverMode {
    server_name: ServerName,
    tokens: Tokens,
}

/// Tokens of a registration file. Their `Debug` output doesn't show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    as_token: String,
    hs_token: String,
}

impl HomeserverMode {
    /// Homeserver mode with this homeserver, authenticated by these tokens.
    #[must_use]
    pub fn new(server_name: ServerName, tokens: Tokens) -> Self {
        Self { server_name, tokens }
    }

    /// Name of the homeserver.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// Renders the registration file for a service at `service`.
    pub(super) fn registration(&self, service: &ServiceUrl) -> String {
        let Tokens { as_token, hs_token } = &self.tokens;
        let users = quoted(&format!("@.*:{}", escaped(self.server_name.as_str())));
        format!(
            "id: matrixrtc\n{AS_TOKEN}{}\n{HS_TOKEN}{}\nsender_localpart: _matrixrtc\nurl: null\nnamespaces:\n  users:\n    - exclusive: \
             false\n      regex: {users}\n  aliases: []\n  rooms: []\nio.element.msc4502.scopes:\n  - \
             \"urn:matrix:client:io.element.msc4502:rooms:is_joined\"\nio.element.msc4512.proxy_prefix: \
             rtc/livekit\nio.element.msc4512.proxy_url: {}\nrate_limited: false\n",
            quoted(as_token),
            quoted(hs_token),
            quoted(service.as_str())
        )
    }
}

impl Tokens {
    /// Generates random tokens.
    ///
    /// # Errors
    ///
    /// The operating system has no randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self { as_token: token()?, hs_token: token()? })
    }

    /// Reads the tokens of a registration file that was rendered here with [`Self::generate`]d ones; `None` for any
    /// other file.
    #[must_use]
    pub fn read(registration: &str) -> Option<Self> {
        let value = |key: &str| {
            let text = registration.lines().find_map(|line| line.strip_prefix(key))?;
            let token: String = serde_json::from_str(text).ok()?;
            (token.len() == 2 * TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(token)
        };
        Some(Self { as_token: value(AS_TOKEN)?, hs_token: value(HS_TOKEN)? })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// Quotes a text for YAML: every JSON string is a YAML string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn token() -> Result<String> {
    let mut random = [0; TOKEN_BYTES];
    getrandom::fill(&mut random).map_err(|error| anyhow!("there is no randomness for a token: {error}"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Escapes a server name for a regular expression that matches nothing else.
fn escaped(server_name: &str) -> String {
    server_name.chars().flat_map(|c| matches!(c, '.' | '[' | ']').then_some('\\').into_iter().chain([c])).collect()
}

/// Name of the registration file.
pub(super) const REGISTRATION: &str = "matrixrtc-registration.yaml";
const AS_TOKEN: &str = "as_token: ";
const HS_TOKEN: &str = "hs_token: ";
const TOKEN_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn yaml(text: &str) -> Value {
        serde_yaml_ng::from_str(text).unwrap()
    }

    fn registration(server_name: &str, tokens: &Tokens) -> String {
        let service = ServiceUrl::parse("https://rtc.example.com/livekit/jwt").unwrap();
        HomeserverMode::new(ServerName::parse(server_name).unwrap(), tokens.clone()).registration(&service)
    }

    #[test]
    fn a_yaml_reader_finds_the_keys_of_a_registration_file() {
        let tokens = Tokens::generate().unwrap();
        let read = yaml(&registration("example.com", &tokens));
        let wanted = json!({
            "id": "matrixrtc",
            "as_token": tokens.as_token,
            "hs_token": tokens.hs_token,
            "sender_localpart": "_matrixrtc",
            "url": null,
            "namespaces": { "users": [{ "exclusive": false, "regex": r"@.*:example\.com" }], "aliases": [], "rooms": [] },
            "io.element.msc4502.scopes": ["urn:matrix:client:io.element.msc4502:rooms:is_joined"],
            "io.element.msc4512.proxy_prefix": "rtc/livekit",
            "io.element.msc4512.proxy_url": "https://rtc.example.com/livekit/jwt",
            "rate_limited": false,
        });
        assert!(read == wanted, "another registration file than wanted");
    }

    #[test]
    fn a_server_name_matches_itself_only() {
        let tokens = Tokens::generate().unwrap();
        for (server_name, regex) in
            [("a-b.example.com:8448", r"@.*:a-b\.example\.com:8448"), ("[2001:db8::1]", r"@.*:\[2001:db8::1\]")]
        {
            assert_eq!(yaml(&registration(server_name, &tokens))["namespaces"]["users"][0]["regex"], regex);
        }
    }

    #[test]
    fn tokens_are_new_each_time_and_read_back() {
        let tokens = Tokens::generate().unwrap();
        assert!(tokens.as_token != tokens.hs_token && tokens != Tokens::generate().unwrap());
        assert!(Tokens::read(&registration("example.com", &tokens)) == Some(tokens.clone()));
        assert_eq!(format!("{tokens:?}"), "Tokens");
        for text in ["", "as_token: \"short\"\nhs_token: \"short\"\n", "as_token: x\n"] {
            assert!(Tokens::read(text).is_none(), "{text}");
        }
    }
}
