//! Homeserver mode: the registration file with its tokens.

use std::fmt;

use crate::doctor::ServiceUrl;
use anyhow::{Result, anyhow};
use matrixrtc_edge::matrix::ids::server_name::ServerName;

/// Tokens of a registration file. Their `Debug` output doesn't show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    as_token: String,
    hs_token: String,
}

/// Renders the registration file of the homeserver `server_name` for a service at `service`, or without tokens for
/// printing: the homeserver refuses it as it is then.
pub(super) fn registration(server_name: &ServerName, service: &ServiceUrl, tokens: Option<&Tokens>) -> String {
    let tokens = match tokens {
        Some(tokens) => {
            format!("{AS_TOKEN}{}\n{HS_TOKEN}{}\n", quoted(&tokens.as_token), quoted(&tokens.hs_token))
        }
        None => format!("# {AS_TOKEN}a token, which --write makes\n# {HS_TOKEN}another one\n"),
    };
    let users = quoted(&format!("@.*:{}", escaped(server_name.as_str())));
    format!(
        "id: matrixrtc\n{tokens}sender_localpart: _matrixrtc\nurl: null\nnamespaces:\n  users:\n    - exclusive: \
         false\n      regex: {users}\n  aliases: []\n  rooms: []\nio.element.msc4502.scopes:\n  - \
         \"urn:matrix:client:io.element.msc4502:rooms:is_joined\"\nio.element.msc4512.proxy_prefix: \
         rtc/livekit\nio.element.msc4512.proxy_url: {}\nrate_limited: false\n",
        quoted(service.as_str())
    )
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

    /// Tokens of this form, as [`Self::generate`] makes them; `None` for others.
    pub(super) fn new(as_token: &str, hs_token: &str) -> Option<Self> {
        let is_ours =
            |token: &str| token.len() == 2 * TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        let tokens = Self { as_token: as_token.to_owned(), hs_token: hs_token.to_owned() };
        (is_ours(as_token) && is_ours(hs_token)).then_some(tokens)
    }

    /// Token of the service.
    pub(super) fn as_token(&self) -> &str {
        &self.as_token
    }

    /// Token of the homeserver.
    pub(super) fn hs_token(&self) -> &str {
        &self.hs_token
    }

    /// Reads the tokens of a registration file that was rendered here with [`Self::generate`]d ones; `None` for any
    /// other file.
    #[must_use]
    pub fn read(registration: &str) -> Option<Self> {
        let value = |key: &str| {
            let text = registration.lines().find_map(|line| line.strip_prefix(key))?;
            serde_json::from_str::<String>(text).ok()
        };
        Self::new(&value(AS_TOKEN)?, &value(HS_TOKEN)?)
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
        super::registration(&ServerName::parse(server_name).unwrap(), &service, Some(tokens))
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
