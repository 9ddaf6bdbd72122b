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
    Ok(python::environment("traefik", include_str!("traefik/requirements.txt"))?.join("bin/traefik"))
}
