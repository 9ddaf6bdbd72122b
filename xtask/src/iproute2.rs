//! The `ip` command, which the tests' network namespaces are made with.

use std::{
    io,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::{cache, progress};

/// Sees to it that there is an `ip` command.
///
/// # Errors
///
/// There is none, and it can't be installed.
pub fn set_up() -> Result<()> {
    let probe = Command::new("ip").arg("-Version").stdout(Stdio::null()).status();
    match probe {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("can't start ip"),
    }
    if !geteuid().is_root() {
        bail!("there is no `ip` command: install the package iproute2");
    }
    progress::run(
        "installing the Debian package iproute2",
        Command::new("sh")
            .args(["-c", "apt-get update && apt-get install --yes --no-install-recommends iproute2"])
            .env("DEBIAN_FRONTEND", "noninteractive"),
        &cache::log("iproute2")?,
    )
}
