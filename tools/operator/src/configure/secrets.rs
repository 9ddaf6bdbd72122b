//! Secrets of a deployment, and the file from which `wrangler deploy --secrets-file` takes them.
//!
//! # How it works
//!
//! - The file is a JSON object of variables. wrangler takes `NAME=value` lines, too, but puts the environment's values
//!   above those, and expands `$`.
//! - A file that is there keeps its values: a deployment that is running has them. Missing ones are added, and a value
//!   that another source gives differently is an error.
//! - Without a source for the pair of API key and secret, a new one is made; for the tokens of homeserver mode likewise.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::configure::homeserver_mode::Tokens;
use crate::configure::key_pair::KeyPair;

/// Secrets that SFU, homeserver and service share. Their `Debug` output shows none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// API key and secret.
    pub pair: KeyPair,
    /// Tokens of the registration file, in homeserver mode.
    pub tokens: Option<Tokens>,
}

/// Secrets that are new. A deployment that is there already has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct New {
    /// Pair of API key and secret.
    pub(super) pair: bool,
    /// Tokens of homeserver mode.
    pub(super) tokens: bool,
}

/// Secrets file that is there, or an empty one.
#[derive(Clone, Default)]
pub struct SecretsFile(Map<String, Value>);

impl SecretsFile {
    /// Reads the file at `path`; without one, returns an empty one.
    ///
    /// # Errors
    ///
    /// It can't be read, or isn't a JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        match serde_json::from_slice(&text) {
            Ok(Value::Object(values)) => Ok(Self(values)),
            // The parser's own message may quote a value.
            _ => bail!("{} isn't a JSON object", path.display()),
        }
    }

    /// Takes the values from somewhere else.
    pub(super) fn of(values: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(values.into_iter().map(|(name, value)| (name, Value::from(value))).collect())
    }

    /// Value of a variable.
    #[must_use]
    pub fn value(&self, variable: &str) -> Option<&str> {
        self.0.get(variable).and_then(Value::as_str)
    }

    /// Pair of API key and secret; `None` if the file has neither.
    ///
    /// # Errors
    ///
    /// The file has one of the two, or an invalid pair, or `LIVEKIT_KEYS`.
    pub(super) fn pair(&self) -> Result<Option<KeyPair>> {
        match (self.value(KEY), self.value(SECRET), self.0.get(KEYS)) {
            (Some(key), Some(secret), _) => KeyPair::parse(key, secret).map(Some).context("in the secrets file"),
            (None, None, None | Some(Value::Null)) => Ok(None),
            (None, None, Some(_)) => bail!("the secrets file has {KEYS}: put the pair to keep into {KEY} and {SECRET}"),
            _ => bail!("the secrets file has only one of {KEY} and {SECRET}"),
        }
    }

    /// Tokens of homeserver mode, if the file has both.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        Tokens::new(self.value(AS_TOKEN)?, self.value(HS_TOKEN)?)
    }

    /// Adds `secrets`, and returns the file's new content.
    ///
    /// # Errors
    ///
    /// The file has another value for one of them.
    pub(super) fn with(mut self, secrets: &Secrets) -> Result<String> {
        let mut all = vec![(KEY, secrets.pair.key()), (SECRET, secrets.pair.secret())];
        if let Some(tokens) = &secrets.tokens {
            all.extend([(AS_TOKEN, tokens.as_token()), (HS_TOKEN, tokens.hs_token())]);
        }
        for (variable, value) in all {
            match self.0.get(variable) {
                Some(there) if there.as_str() != Some(value) => {
                    bail!("the secrets file has another {variable} than the one given: which of the two is in use?")
                }
                _ => self.0.insert(variable.to_owned(), Value::from(value)),
            };
        }
        Ok(format!("{:#}\n", Value::Object(self.0)))
    }
}

/// Name of the file.
pub(super) const SECRETS_FILE: &str = "secrets.production.json";
pub(super) const KEY: &str = "LIVEKIT_KEY";
pub(super) const SECRET: &str = "LIVEKIT_SECRET";
pub(super) const KEYS: &str = "LIVEKIT_KEYS";
pub(super) const AS_TOKEN: &str = "LIVEKIT_AS_TOKEN";
pub(super) const HS_TOKEN: &str = "LIVEKIT_HS_TOKEN";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(content: Value) -> SecretsFile {
        SecretsFile(content.as_object().unwrap().clone())
    }

    #[test]
    fn a_file_keeps_its_values_and_gets_the_missing_ones() {
        let there = file(json!({ "LIVEKIT_KEY": "APIkey", "LIVEKIT_SECRET": "nobody-may-see", "OTHER": "mine" }));
        let pair = there.pair().unwrap().unwrap();
        let tokens = Tokens::generate().unwrap();
        let content = there.with(&Secrets { pair, tokens: Some(tokens.clone()) }).unwrap();
        let read: Value = serde_json::from_str(&content).unwrap();
        let wanted = json!({
            "LIVEKIT_KEY": "APIkey", "LIVEKIT_SECRET": "nobody-may-see", "OTHER": "mine",
            "LIVEKIT_AS_TOKEN": tokens.as_token(), "LIVEKIT_HS_TOKEN": tokens.hs_token(),
        });
        assert!(read == wanted, "another file than wanted");
        assert!(file(read).tokens() == Some(tokens));
    }

    #[test]
    fn a_file_with_another_pair_or_half_a_one_is_an_error_without_secrets() {
        let given = Secrets { pair: KeyPair::parse("APIkey", "nobody-may-see").unwrap(), tokens: None };
        let other = file(json!({ "LIVEKIT_KEY": "APIkey", "LIVEKIT_SECRET": "nobody-may-see-this" }));
        let half = file(json!({ "LIVEKIT_SECRET": "nobody-may-see" }));
        let several = file(json!({ "LIVEKIT_KEYS": "APIkey: nobody-may-see", "LIVEKIT_KEY": null }));
        for (error, problem) in [
            (other.with(&given).unwrap_err(), "another LIVEKIT_SECRET"),
            (half.pair().unwrap_err(), "only one of"),
            (several.pair().unwrap_err(), "has LIVEKIT_KEYS"),
        ] {
            let error = error.to_string();
            assert!(error.contains(problem) && !error.contains("nobody"), "{error}");
        }
        assert_eq!(SecretsFile::default().pair().unwrap(), None);
    }
}
