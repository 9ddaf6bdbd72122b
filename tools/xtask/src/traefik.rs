//! Traefik, which Debian doesn't have: its release, as a Python package distributes it.

use std::path::PathBuf;

use anyhow::Result;

use crate::python;

/// Returns the path of the pinned Traefik, after installing it if it isn't there.
///
/// # Errors
///
/// There is no Python, or the package can't be installed.
pub fn set_up() -> Result<PathBuf> {
    Ok(python::environment(NAME, REQUIREMENTS)?.join(PROGRAM))
}

/// Returns the path of the pinned Traefik, if it is installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    Some(python::place(NAME, REQUIREMENTS).ok()?.join(PROGRAM)).filter(|path| path.exists())
}

const NAME: &str = "traefik";
const REQUIREMENTS: &str = include_str!("traefik/requirements.txt");
const PROGRAM: &str = "bin/traefik";
