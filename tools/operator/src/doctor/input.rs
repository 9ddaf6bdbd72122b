//! Options and standard input, from which the doctor reads secrets.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read};

use crate::doctor::user::Password;

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
