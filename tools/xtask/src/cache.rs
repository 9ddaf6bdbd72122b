//! The per-user cache of tools that are too slow to build for every clone.
//!
//! It lies in `$MATRIXRTC_EDGE_CACHE`, else `$XDG_CACHE_HOME/matrixrtc-edge`, else `~/.cache/matrixrtc-edge`; a tool is in
//! `tools/<name>-<version>/`, the logs of installations in `log/`.

use std::{
    env,
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::progress;

/// Returns the cache's directory, which need not exist yet.
///
/// # Errors
///
/// None of the environment variables above is set.
pub fn dir() -> Result<PathBuf> {
    locate(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
        .context("set MATRIXRTC_EDGE_CACHE or HOME: there is no directory for the cache of tools")
}

/// Returns the path of the log of an installation, or of another command that may fail.
///
/// # Errors
///
/// See [`dir`].
pub fn log(name: &str) -> Result<PathBuf> {
    Ok(dir()?.join("log").join(format!("{name}.log")))
}

/// Returns the directory of `name` in `version`, which `install` fills first if it isn't installed.
///
/// Processes that want the same tool wait for the first one. An installation that failed or was interrupted starts anew.
///
/// # Errors
///
/// The cache can't be written, or `install` failed.
pub fn tool(name: &str, version: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    tool_in(&dir()?.join("tools"), &format!("{name}-{version}"), install)
}

/// Returns the directory of `name` in `version`, which need not be installed.
///
/// # Errors
///
/// See [`dir`].
pub fn tool_place(name: &str, version: &str) -> Result<PathBuf> {
    Ok(dir()?.join("tools").join(format!("{name}-{version}")))
}

fn tool_in(tools: &Path, name: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = tools.join(name);
    let complete = place.join(COMPLETE);
    if complete.exists() {
        return Ok(place);
    }
    fs::create_dir_all(tools).with_context(|| format!("can't create {}", tools.display()))?;
    // Released when the file is closed, so also when this process dies.
    let _lock = lock(&tools.join(format!("{name}.lock")), name)?;
    if complete.exists() {
        return Ok(place);
    }
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("can't remove the incomplete {}", place.display()))?;
    }
    fs::create_dir(&place).with_context(|| format!("can't create {}", place.display()))?;
    install(&place).with_context(|| format!("can't install {name}"))?;
    File::create(&complete).with_context(|| format!("can't write {}", complete.display()))?;
    Ok(place)
}

/// Returns a short text that changes with the contents of `files`, and with the Rust release.
///
/// # Errors
///
/// One of them can't be read.
pub fn fingerprint(files: &[impl AsRef<Path>]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files.iter().map(AsRef::as_ref) {
        fs::read(file).with_context(|| format!("can't read {}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Locks `path`, saying so if another process works on `what` meanwhile. The lock lasts as long as the file is open.
pub(crate) fn lock(path: &Path, what: &str) -> Result<File> {
    // Not truncated: a file with a content may be locked, too.
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("can't open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress::note(&format!("waiting for another process that works on {what}"));
            file.lock().with_context(|| format!("can't lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("can't lock {}", path.display()));
        }
    }
    Ok(file)
}

fn locate(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("MATRIXRTC_EDGE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("matrixrtc-edge")))
        .or_else(|| Some(variable("HOME")?.join(".cache/matrixrtc-edge")))
}

const COMPLETE: &str = ".complete";

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use anyhow::bail;

    use super::*;

    #[test]
    fn the_most_specific_variable_decides() {
        let all = |name: &str| Some(PathBuf::from(format!("/{name}")));
        let home_only = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/a"));

        assert_eq!(locate(all), Some("/MATRIXRTC_EDGE_CACHE".into()));
        assert_eq!(locate(home_only), Some("/home/a/.cache/matrixrtc-edge".into()));
        assert_eq!(locate(|_| None), None);
    }

    #[test]
    fn a_tool_is_installed_once_however_many_want_it() {
        let cache = tempfile::tempdir().unwrap();
        let installations = AtomicUsize::new(0);
        let install = |place: &Path| {
            installations.fetch_add(1, Ordering::Relaxed);
            Ok(fs::write(place.join("binary"), "")?)
        };

        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let place = tool_in(cache.path(), "saw-1.0", install).unwrap();
                    assert!(place.join("binary").exists());
                });
            }
        });

        assert_eq!(installations.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_failed_installation_starts_anew() {
        let cache = tempfile::tempdir().unwrap();
        let fails = |place: &Path| {
            fs::write(place.join("half"), "")?;
            bail!("the network is down")
        };
        tool_in(cache.path(), "saw-1.0", fails).unwrap_err();

        let place = tool_in(cache.path(), "saw-1.0", |place| {
            assert_eq!(fs::read_dir(place)?.count(), 0);
            Ok(())
        });

        assert!(place.is_ok());
    }
}
