//! API key and secret that the SFU and the service share.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, anyhow, bail};
use matrixrtc_edge::config::Problem;
use serde_yaml_ng::Value;

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

    /// Reads the first pair of a file: below `keys` in LiveKit's configuration, else in a file of nothing but
    /// `key: secret` lines, like LiveKit's key file.
    ///
    /// # Errors
    ///
    /// The file is no such file, or has no pair. The message shows nothing of it.
    pub fn first_of(file: &str) -> Result<Self> {
        // The parser's own message may quote a secret.
        let content = serde_yaml_ng::from_str(file).map_err(|error| match error.location() {
            Some(place) => anyhow!("it can't be read as YAML, as which LiveKit reads it: see line {}", place.line()),
            None => anyhow!("it can't be read as YAML, as which LiveKit reads it"),
        })?;
        let Value::Mapping(content) = content else { bail!(NO_PAIR) };
        let pairs = match (content.get("keys"), content.get("key_file")) {
            (Some(Value::Mapping(pairs)), _) => pairs,
            (None | Some(Value::Null), Some(_)) => {
                bail!("its pairs are in another file, which `key_file` names: give that one")
            }
            (None, None) if content.iter().all(is_pair) => &content,
            _ => bail!(NO_PAIR),
        };
        match pairs.iter().next() {
            Some((Value::String(key), Value::String(secret))) => Self::parse(key, secret),
            _ => bail!(NO_PAIR),
        }
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

/// Whether an entry is a pair of API key and secret, and not one of LiveKit's settings or of a secrets file.
fn is_pair((name, value): (&Value, &Value)) -> bool {
    let (Value::String(name), Value::String(_)) = (name, value) else { return false };
    !TEXT_SETTINGS.contains(&name.as_str()) && !name.starts_with("LIVEKIT_")
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

const NO_PAIR: &str = "it has no pair of API key and secret: it must be LiveKit's configuration with `KEY: SECRET` below `keys:`, or \
                       have nothing but such lines (a secret of digits alone needs quotation marks)";
/// LiveKit's settings that are texts, as secrets are.
const TEXT_SETTINGS: [&str; 2] = ["log_level", "region"];
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
    fn a_pair_is_read_from_livekit_s_configuration_or_its_key_file() {
        for file in [
            "APIkey: nobody-may-see",
            "\n# ours\nkeys:\n  \"APIkey\": \"nobody-may-see\"\n  other: x\n",
            "port: 7880\nkeys:\n  APIkey: nobody-may-see\nroom:\n  auto_create: false\n",
            "APIkey :  nobody-may-see \r\nother: x",
            "port: 7880\nkeys: {APIkey: nobody-may-see, other: 1}\n",
            "port: 7880\nkeys: # ours\n    # the first\n    'APIkey': 'nobody-may-see' # in use\nlog_level: info\n",
            "keys:\n  APIkey: nobody-may-see\nkey_file: /etc/livekit/keys\n",
            "  # ours\n  APIkey: nobody-may-see\n  other: x\n",
            r#"{"APIkey": "nobody-may-see"}"#,
        ] {
            let pair = KeyPair::first_of(file).unwrap();
            assert!(pair.key() == "APIkey" && pair.secret() == "nobody-may-see" && pair.is_short(), "{file}");
        }
    }

    #[test]
    fn what_has_no_pair_of_livekit_s_is_an_error_that_shows_nothing_of_it() {
        for (file, problem) in [
            ("", "no pair"),
            ("keys:\n", "no pair"),
            ("keys: {}\n", "no pair"),
            ("nobody-may-see", "no pair"),
            ("APIkey:nobody-may-see", "no pair"),
            ("APIkey:", "no pair"),
            ("APIkey: 123456789012345", "needs quotation marks"),
            ("port: 7880\nrtc:\n  tcp_port: 7881\n", "no pair"),
            ("log_level: info\nregion: nobody\n", "no pair"),
            ("livekit:\n  keys:\n    APIkey: nobody-may-see\n", "no pair"),
            (r#"{"LIVEKIT_KEY": "APIkey", "LIVEKIT_SECRET": "nobody-may-see"}"#, "no pair"),
            ("port: 7880\nkey_file: /etc/nobody\n", "which `key_file` names"),
            ("keys:\nkey_file: /etc/nobody\n", "which `key_file` names"),
            ("keys:\n\tAPIkey: nobody-may-see\n", "see line 2"),
            ("keys:\n  APIkey: nobody\n  APIkey: nobody\n", "can't be read as YAML"),
            ("APIkey: nobody may-see", "isn't one word"),
        ] {
            let error = KeyPair::first_of(file).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("nobody"), "{file}: {error}");
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
