//! API key and secret that the SFU and the service share.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, anyhow, bail};
use matrixrtc_edge::config::Problem;

use crate::configure::secrets::{KEY, SECRET};
use crate::values;

/// API key with its secret. Its `Debug` output shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    key: String,
    secret: String,
}

impl KeyPair {
    /// Generates a random pair in LiveKit's form.
    ///
    /// # Errors
    ///
    /// The operating system has no randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self { key: format!("API{}", random_text(KEY_LENGTH)?), secret: random_text(SECRET_LENGTH)? })
    }

    /// Reads a pair that is there already, trimmed as the service does.
    ///
    /// # Errors
    ///
    /// Either is empty, is a placeholder or something else that the service refuses, or has a character that LiveKit's
    /// configuration can't have on one line.
    pub fn parse(key: &str, secret: &str) -> Result<Self> {
        let (key, secret) = (key.trim(), secret.trim());
        if key.is_empty() || secret.is_empty() {
            bail!("the API key, or its secret, is empty");
        }
        if key.chars().chain(secret.chars()).any(|c| c.is_control() || c.is_whitespace()) || key.contains(':') {
            bail!("the API key, or its secret, isn't one word");
        }
        let variables = BTreeMap::from([(KEY, key.to_owned()), (SECRET, secret.to_owned())]);
        for Problem { variable, problem } in values::read(&variables).err().into_iter().flat_map(|errors| errors.0) {
            match variable {
                KEY => bail!("the API key {problem}"),
                SECRET => bail!("the secret of the API key {problem}"),
                _ => {}
            }
        }
        Ok(Self { key: key.to_owned(), secret: secret.to_owned() })
    }

    /// Reads the first of `key: secret` lines: below `keys:` in LiveKit's whole configuration, else of all lines, as in
    /// its key file and in `LIVEKIT_KEYS`.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn first_of(lines: &str) -> Result<Self> {
        let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<_> = lines.collect();
        let below_keys = lines.iter().position(|line| *line == "keys:").map_or(0, |at| at.saturating_add(1));
        let first = lines.get(below_keys).and_then(|line| line.split_once(':'));
        let (key, secret) = first.context("there is no line `KEY: SECRET`")?;
        Self::parse(&unquoted(key), &unquoted(secret))
    }

    /// API key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Secret of the key.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether the secret is shorter than LiveKit wants.
    pub(super) fn is_short(&self) -> bool {
        self.secret.len() < LIVEKIT_MIN_SECRET
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair")
    }
}

/// Random letters and digits, each as likely as the others.
fn random_text(length: usize) -> Result<String> {
    let mut text = String::new();
    let mut random = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut random).map_err(|error| anyhow!("there is no randomness for a key: {error}"))?;
        // A byte beyond the last multiple of 62 would make the first characters likelier.
        let fair = random.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        text.extend(letters.take(length - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters after `API`, as many as `livekit-server generate-keys` makes.
const KEY_LENGTH: usize = 12;
/// 285 bits.
const SECRET_LENGTH: usize = 48;
/// LiveKit complains about shorter ones.
const LIVEKIT_MIN_SECRET: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_new_pair_has_livekit_s_form_and_is_another_each_time() {
        let pair = KeyPair::generate().unwrap();
        assert!(pair.key.len() == 15 && pair.key.starts_with("API"), "{}", pair.key);
        let alphanumeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(pair.secret.len() == 48 && alphanumeric(&pair.secret) && alphanumeric(&pair.key) && !pair.is_short());
        let other = KeyPair::generate().unwrap();
        assert!(pair.key != other.key && pair.secret != other.secret);
        let letters: BTreeSet<_> = random_text(10_000).unwrap().bytes().collect();
        assert_eq!(letters.len(), ALPHABET.len(), "letters that never come");
        assert_eq!(format!("{pair:?}"), "KeyPair");
    }

    #[test]
    fn a_pair_is_read_from_livekit_s_configuration() {
        for lines in [
            "APIkey: nobody-may-see",
            "\n# ours\nkeys:\n  \"APIkey\": \"nobody-may-see\"\n  other: x\n",
            "port: 7880\nkeys:\n  APIkey: nobody-may-see\nroom:\n  auto_create: false\n",
            " APIkey :  nobody-may-see \r\nother: x",
        ] {
            let pair = KeyPair::first_of(lines).unwrap();
            assert!(pair.key() == "APIkey" && pair.secret() == "nobody-may-see" && pair.is_short());
        }
        for lines in ["", "keys:\n", "nobody-may-see", "APIkey:", "APIkey: nobody may-see"] {
            let error = KeyPair::first_of(lines).unwrap_err().to_string();
            assert!(!error.contains("nobody"), "{error}");
        }
    }

    #[test]
    fn a_pair_that_the_service_refuses_is_refused_with_the_half_that_it_is() {
        let secret = "nobody-may-see-this-secret-of-the-sfu";
        for (key, secret, problem) in [
            ("APIxxxxxxxx", secret, "the API key is the placeholder of an example"),
            ("API…", secret, "the API key is the placeholder of an example"),
            ("APIkey", "…", "the secret of the API key is the placeholder of an example"),
            ("APIkey", "...", "the secret of the API key is the placeholder of an example"),
            ("APIkey", "changeme", "the secret of the API key is the placeholder of an example"),
            ("APIkey", "<nobody-may-see>", "the secret of the API key is the placeholder of an example"),
            ("'APIkey'", secret, "the API key is in quotation marks"),
            ("APIkey", "\"nobody-may-see\"", "the secret of the API key is in quotation marks"),
        ] {
            let error = KeyPair::parse(key, secret).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("nobody"), "{error}");
        }
    }
}
