//! Options, files and standard input, from which the doctor reads secrets and variables.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::doctor::user::Password;
use crate::env_file::EnvFile;

/// Asks for the password of a user, without echo; without a terminal it is the first line of standard input.
pub(crate) fn read_password(user: &str) -> io::Result<Password> {
    let text = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Password of {user}: "))?
    } else {
        let mut line = String::new();
        io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    match text.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty")),
        false => Ok(Password::new(text)),
    }
}

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

/// Secret option; its `Debug` output doesn't show it.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl Secret {
    /// Reads the value of an option.
    pub(crate) fn read(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// In bytes.
const MAX_PASSWORD: u64 = 4096;
