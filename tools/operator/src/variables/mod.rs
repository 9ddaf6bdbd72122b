//! Variables of the service as its operator gives them to a command: in a file, or in the environment.

pub mod files;
pub mod names;
pub mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::env_file::EnvFile;

/// Variables of a file, where one is given, and of the environment for all that the file lacks.
pub(crate) struct Variables<E> {
    file: Map<String, Value>,
    environment: E,
}

impl<E: Fn(&str) -> Option<String>> Variables<E> {
    /// Reads the file. `environment` returns the value of a variable, if it is set.
    ///
    /// # Errors
    ///
    /// The file can't be read, or isn't what it should be.
    pub(crate) fn read(secrets_file: Option<&Path>, env_file: Option<&Path>, environment: E) -> Result<Self> {
        let file = match (secrets_file, env_file) {
            (Some(path), _) => secrets_of(path)?,
            (None, Some(path)) => variables_of(path)?,
            (None, None) => Map::new(),
        };
        Ok(Self { file, environment })
    }

    /// Returns the value of a variable, unless it is blank.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        // A file's pair must not be mixed with another source's.
        let is_of_pair = |name: &str| ["LIVEKIT_KEY", "LIVEKIT_SECRET", "LIVEKIT_KEYS"].contains(&name);
        let value = match self.file.get(name) {
            Some(value) => value.as_str().map(str::to_owned),
            None if is_of_pair(name) && self.file.keys().any(|name| is_of_pair(name)) => None,
            None => (self.environment)(name),
        };
        value.filter(|value| !value.trim().is_empty())
    }
}

/// Reads the JSON object of a secrets file.
fn secrets_of(path: &Path) -> Result<Map<String, Value>> {
    let content = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    match serde_json::from_slice(&content) {
        Ok(Value::Object(secrets)) => Ok(secrets),
        // The parser's own message may quote a secret.
        _ => bail!("{} isn't a JSON object", path.display()),
    }
}

/// Reads the assignments of an environment file.
fn variables_of(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let file = EnvFile::parse(&text).with_context(|| format!("can't read {}", path.display()))?;
    Ok(file.assignments.into_iter().map(|(name, value)| (name, Value::from(value))).collect())
}
