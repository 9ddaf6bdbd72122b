//! Secrets of a deployment: the SFU's key pair, and the tokens of the registration file in homeserver mode. Their
//! `Debug` output shows none of them.

use std::fmt;

use anyhow::{Context, Result, bail};
use matrixrtc_edge::config::unlike_a_secret;
use matrixrtc_edge::livekit::keys::{ApiKey, ApiKeys};
use matrixrtc_edge::matrix::homeserver::Token;

use crate::variables::SHORTEST_SECRET;

/// Key pair that the service and the SFU share, as the service reads it and as it was given.
#[derive(Clone)]
pub struct SfuCredentials {
    /// Pair as the service reads it: trimmed.
    pub(crate) keys: ApiKeys,
    /// Key and secret as given.
    name: String,
    secret: String,
}

impl SfuCredentials {
    /// Parses a pair; `None` if either half is empty.
    pub fn parse(name: &str, secret: &str) -> Option<Self> {
        Some(Self { keys: ApiKeys::single(name, secret)?, name: name.to_owned(), secret: secret.to_owned() })
    }

    /// Reads the pair from a key and its secret, or else from the first of `key: secret` lines. `None` if nothing is given.
    ///
    /// # Errors
    ///
    /// Half a pair is given, an empty one, one that the service refuses, or lines without one.
    pub(crate) fn given(key: Option<String>, secret: Option<String>, lines: Option<String>) -> Result<Option<Self>> {
        let pair = match (key, secret, lines) {
            (Some(key), Some(secret), _) => {
                Self::parse(&key, &secret).context("the API key, or its secret, is empty")?
            }
            (None, None, Some(lines)) => {
                let first = lines.lines().find(|line| !line.trim().is_empty()).and_then(|line| line.split_once(':'));
                let pair = first.and_then(|(key, secret)| Self::parse(key.trim(), secret.trim()));
                pair.context("LIVEKIT_KEYS must consist of `key: secret` lines")?
            }
            (None, None, None) => return Ok(None),
            (Some(_), None, _) => bail!("an API key is given, but no secret: set --sfu-secret or LIVEKIT_SECRET"),
            (None, Some(_), _) => bail!("a secret is given, but no API key: set --sfu-key or LIVEKIT_KEY"),
        };
        for (half, text) in [("the API key", &pair.name), ("the secret of the API key", &pair.secret)] {
            if let Some(problem) = unlike_a_secret(text) {
                bail!("{half} {problem}");
            }
        }
        Ok(Some(pair))
    }

    /// The key that the service signs with.
    pub(crate) fn key(&self) -> &ApiKey {
        self.keys.signing()
    }

    /// Which half was given with white space around it, if one was.
    pub(crate) fn padded(&self) -> Option<&'static str> {
        match (self.name.trim() != self.name, self.secret.trim() != self.secret) {
            (true, _) => Some("key"),
            (_, true) => Some("secret"),
            _ => None,
        }
    }

    /// Whether the secret is shorter than LiveKit wants it to be.
    pub(crate) fn is_short(&self) -> bool {
        self.secret.trim().chars().count() < SHORTEST_SECRET
    }

    /// The pair with white space that the SFU's configuration may contain by mistake, each with a description.
    pub(crate) fn variants(&self) -> impl Iterator<Item = (&'static str, ApiKey)> + '_ {
        let (name, secret) = (self.name.trim(), self.secret.trim());
        [
            ("a line feed at the end of the secret", ApiKey::new(name, &format!("{secret}\n"))),
            ("a line feed at the end of the secret", ApiKey::new(name, &format!("{secret}\r\n"))),
            ("a space at the end of the secret", ApiKey::new(name, &format!("{secret} "))),
            ("a space at the beginning of the secret", ApiKey::new(name, &format!(" {secret}"))),
            ("a line feed at the end of the key", ApiKey::new(&format!("{name}\n"), secret)),
            ("a space at the end of the key", ApiKey::new(&format!("{name} "), secret)),
        ]
        .into_iter()
    }
}

impl fmt::Debug for SfuCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SfuCredentials")
    }
}

/// One of the two tokens of the registration file, as the service reads it.
#[derive(Clone)]
pub struct RegistrationToken(String);

impl RegistrationToken {
    /// Parses a token, trimmed. `None` if it can't be sent in a header.
    pub fn parse(text: &str) -> Option<Self> {
        Token::parse(text).map(|_| Self(text.trim().to_owned()))
    }

    /// Value of the `Authorization` header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for RegistrationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistrationToken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_short_below_32_characters() {
        let short = |secret: &str| SfuCredentials::parse("devkey", secret).unwrap().is_short();
        assert!(short("secret") && short(&format!(" {}\n", "s".repeat(31))));
        assert!(!short(&"s".repeat(32)));
    }

    #[test]
    fn a_token_is_read_as_the_service_reads_it_and_never_shown() {
        let token = RegistrationToken::parse(" nobody-may-see\n").unwrap();
        assert_eq!(token.bearer(), "Bearer nobody-may-see");
        assert_eq!(format!("{token:?}"), "RegistrationToken");
        assert!(RegistrationToken::parse(" ").is_none() && RegistrationToken::parse("two words").is_none());
    }
}
