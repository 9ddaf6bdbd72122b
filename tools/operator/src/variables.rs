//! Files with variables of the service.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::env_file::EnvFile;

/// Reads the JSON object of a secrets file.
pub(crate) fn secrets_of(path: &Path) -> Result<Map<String, Value>> {
    let content = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    match serde_json::from_slice(&content) {
        Ok(Value::Object(secrets)) => Ok(secrets),
        // The parser's own message may quote a secret.
        _ => bail!("{} isn't a JSON object", path.display()),
    }
}

/// Reads the assignments of an environment file.
pub(crate) fn variables_of(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let file = EnvFile::parse(&text).with_context(|| format!("can't read {}", path.display()))?;
    Ok(file.assignments.into_iter().map(|(name, value)| (name, Value::from(value))).collect())
}
