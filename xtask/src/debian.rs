//! What the tests need of Debian: programs that are on most machines, or a package away.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::{cache, progress};

/// Sees to it that there is a program, by installing a package if there isn't.
///
/// # Errors
///
/// There is none, and it can't be installed.
pub fn install(program: &str, package: &str) -> Result<()> {
    let probe = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match probe {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("can't start {program}")),
    }
    if !geteuid().is_root() {
        bail!("there is no `{program}` command: install the package {package}");
    }
    progress::run(
        &format!("installing the Debian package {package}"),
        Command::new("sh")
            .args(["-c", r#"apt-get update && apt-get install --yes --no-install-recommends "$0""#, package])
            .env("DEBIAN_FRONTEND", "noninteractive"),
        &cache::log(package)?,
    )
}

/// Sees to it that there is a server of that name, by unpacking the package of that name into the cache if there isn't.
///
/// The package isn't installed: that would start the server.
///
/// # Errors
///
/// There is none, and the package can't be had, or doesn't run here.
pub fn unpack_server(name: &str) -> Result<()> {
    if search(name).is_some() {
        return Ok(());
    }
    cache::tool(name, VERSION, |place| {
        progress::run(
            &format!("unpacking the Debian package {name}"),
            Command::new("sh").args(["-e", "-c", UNPACK, name]).current_dir(place),
            &cache::log(name)?,
        )?;
        let server = within(place, name).context("the package has no program of its name")?;
        let probe = Command::new(server).arg("-h").stdin(Stdio::null()).output();
        match probe {
            Ok(outcome) if outcome.status.success() => Ok(()),
            _ => bail!("it doesn't run here: install the package {name}"),
        }
    })?;
    Ok(())
}

/// The server of that name, of this machine or as it was unpacked.
///
/// # Errors
///
/// There is none.
pub fn server(name: &str) -> Result<PathBuf> {
    let unpacked = || within(&cache::tool_place(name, VERSION).ok()?, name);
    search(name).or_else(unpacked).with_context(|| format!("there is no {name}: `cargo xtask test` unpacks it"))
}

fn within(place: &Path, name: &str) -> Option<PathBuf> {
    SERVER_DIRS.iter().map(|dir| place.join(dir.trim_start_matches('/')).join(name)).find(|path| path.is_file())
}

/// Where it is, also if it is where only root looks.
fn search(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(SERVER_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The cache keeps whichever version was the current one.
const VERSION: &str = "debian";
const SERVER_DIRS: [&str; 2] = ["/usr/sbin", "/usr/bin"];
/// Without lists of packages, it takes root to get them.
const UNPACK: &str = r#"
apt-get download "$0" || { apt-get update; apt-get download "$0"; }
dpkg-deb --extract "$0"_*.deb .
rm "$0"_*.deb
"#;
