//! Place where the operator sets the service's variables, for the change that a problem needs.

use std::path::PathBuf;

/// Place of the variables.
#[derive(Clone, Debug)]
pub enum Settings {
    /// wrangler's configuration and its secrets; also where the place isn't known.
    Wrangler,
    /// Environment file at this path, of a service on one's own machine.
    EnvFile(PathBuf),
}

impl Settings {
    /// Sets variables of any kind, which the problem has named.
    pub(crate) fn variables(&self) -> String {
        match self {
            Self::Wrangler => String::from(
                "set them: in [vars] of wrangler's configuration, with `npx wrangler secret put NAME` or `npx wrangler secret bulk \
                 secrets.production.json`, or in the environment of a local run; the service's log gives the reason for each",
            ),
            Self::EnvFile(file) => format!(
                "set them in {}, and restart the service; its log (`journalctl -u matrixrtc-edge`) gives the reason for each",
                file.display()
            ),
        }
    }

    /// Sets one secret to `value`, in words.
    pub(crate) fn secret(&self, name: &str, value: &str) -> String {
        match self {
            Self::Wrangler => format!(
                "set {name} (`npx wrangler secret put {name}`, or in the secrets file and `npx wrangler secret bulk \
                 secrets.production.json`) to {value}"
            ),
            Self::EnvFile(file) => format!("set {name} in {} to {value}, and restart the service", file.display()),
        }
    }
}
