//! Python environments with pinned packages.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, progress};

/// Returns the environment of that name with the packages of `requirements`, which have their hashes.
///
/// # Errors
///
/// There is no Python, or a package can't be installed.
pub(crate) fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let mut version = DefaultHasher::new();
    requirements.hash(&mut version);
    cache::tool(name, &format!("{:016x}", version.finish()), |place| {
        fs::write(place.join("requirements.txt"), requirements)?;
        progress::run(
            &format!("making a Python environment for {name}"),
            Command::new("python3").args(["-m", "venv"]).arg(place),
            &cache::log(&format!("{name}-venv"))?,
        )
        .context("Python 3 with its module venv is needed (Debian's packages python3 and python3-venv)")?;
        progress::run(
            &format!("installing {name} in it"),
            Command::new(place.join("bin/python"))
                .args(["-m", "pip", "install", "--no-input", "--progress-bar", "off"])
                .args(["--require-hashes", "--no-deps", "--only-binary", ":all:"])
                .arg("--requirement")
                .arg(place.join("requirements.txt")),
            &cache::log(&format!("{name}-pip"))?,
        )
    })
}
