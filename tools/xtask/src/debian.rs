//! Programs of Debian's that the tests need: most machines have them, or they are a package away.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::{cache, progress};

/// A program, and the Debian package it comes in.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    name: &'static str,
    package: &'static str,
}

/// The program that sets up the tests' network namespaces.
pub const IP: Program = Program { name: "ip", package: "iproute2" };
/// The browser of the end-to-end tests.
pub const CHROMIUM: Program = Program { name: "chromium", package: "chromium" };
/// systemd's own verifier of units.
pub const SYSTEMD_ANALYZE: Program = Program { name: "systemd-analyze", package: "systemd" };

impl Program {
    /// Returns the program's path, after installing its package if it isn't there.
    ///
    /// # Errors
    ///
    /// It isn't, and can't be installed.
    pub fn set_up(self) -> Result<PathBuf> {
        let Self { name, package } = self;
        if let Some(path) = search(name) {
            return Ok(path);
        }
        if !geteuid().is_root() {
            bail!("there is no `{name}` command: as root, run `apt-get install {package}`");
        }
        progress::run(
            &format!("installing the Debian package {package}"),
            Command::new("sh")
                .args(["-c", r#"apt-get update && apt-get install --yes --no-install-recommends "$0""#, package])
                .env("DEBIAN_FRONTEND", "noninteractive"),
            &cache::log(package)?,
        )?;
        search(name)
            .with_context(|| format!("the package {package} is installed, and there is still no `{name}` command"))
    }
}

/// Unpacks the package of that name into the cache, unless the machine has the server.
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

/// Returns the path of the server of that name: this machine's, or the unpacked one.
///
/// # Errors
///
/// There is none.
pub fn server(name: &str) -> Result<PathBuf> {
    let unpacked = || within(&cache::tool_place(name, VERSION).ok()?, name);
    search(name).or_else(unpacked).with_context(|| format!("there is no {name}: `cargo xtask test` unpacks it"))
}

fn within(place: &Path, name: &str) -> Option<PathBuf> {
    let mut paths = SERVER_DIRS.iter().map(|dir| place.join(dir.trim_start_matches('/')).join(name));
    paths.find(|path| is_executable(path))
}

/// Returns the program's path, also where it is in a directory that only root searches.
fn search(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(SERVER_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The cache keeps the version that was current.
const VERSION: &str = "debian";
const SERVER_DIRS: [&str; 2] = ["/usr/sbin", "/usr/bin"];
/// Without lists of packages, only root can fetch them.
const UNPACK: &str = r#"
apt-get download "$0" || { apt-get update; apt-get download "$0"; }
dpkg-deb --extract "$0"_*.deb .
rm "$0"_*.deb
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_where_the_shell_finds_it() {
        let sh = Program { name: "sh", package: "dash" }.set_up().unwrap();

        assert!(is_executable(&sh), "{}", sh.display());
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert_eq!(search("no-such-command"), None);
    }
}
