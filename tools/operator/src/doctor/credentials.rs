//! The secrets of a deployment: the key pair of the SFU and the tokens of the registration file.

use std::fmt;

use matrixrtc_edge::livekit::keys::{ApiKey, ApiKeys};
use matrixrtc_edge::matrix::homeserver::Token;

/// A key pair, as the service reads it and as it was given. Printing it shows neither.
#[derive(Clone)]
pub struct SfuCredentials {
    /// As the service reads it: without white space around it.
    pub(crate) keys: ApiKeys,
    /// As it was given.
    name: String,
    secret: String,
}

impl SfuCredentials {
    /// A pair; `None` when either is empty.
    pub fn parse(name: &str, secret: &str) -> Option<Self> {
        Some(Self { keys: ApiKeys::single(name, secret)?, name: name.to_owned(), secret: secret.to_owned() })
    }

    /// What the service signs with.
    pub(crate) fn key(&self) -> &ApiKey {
        self.keys.signing()
    }

    /// Whether the key or the secret was given with white space around it: which of them.
    pub(crate) fn padded(&self) -> Option<&'static str> {
        match (self.name.trim() != self.name, self.secret.trim() != self.secret) {
            (true, _) => Some("key"),
            (_, true) => Some("secret"),
            _ => None,
        }
    }

    /// The pair with white space that may have got into one of the two at the SFU, and what that is.
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

/// One of the two tokens, as the service reads it. Printing it doesn't show it.
#[derive(Clone)]
pub struct RegistrationToken(String);

impl RegistrationToken {
    /// White space around it doesn't count. `None` for what can't be in a header.
    pub fn parse(text: &str) -> Option<Self> {
        Token::parse(text).map(|_| Self(text.trim().to_owned()))
    }

    /// The value of an `Authorization` header.
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
    fn a_token_is_read_as_the_service_reads_it_and_never_shown() {
        let token = RegistrationToken::parse(" nobody-may-see\n").unwrap();
        assert_eq!(token.bearer(), "Bearer nobody-may-see");
        assert_eq!(format!("{token:?}"), "RegistrationToken");
        assert!(RegistrationToken::parse(" ").is_none() && RegistrationToken::parse("two words").is_none());
    }
}
