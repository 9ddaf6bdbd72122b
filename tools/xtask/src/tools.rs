//! The pinned tools that a build needs: Rust's WebAssembly target, `bindgen`, and the npm packages.
//!
//! - `bindgen` is a program of this workspace, with wasm-bindgen's library of the version in `Cargo.lock`. It is compiled
//!   once per machine and version.
//! - npm brings wrangler, workerd, esbuild, binaryen and a Node that wrangler runs on, of the versions in
//!   `package-lock.json`; and the web clients of the end-to-end tests, of those in `tests/e2e/package-lock.json`.
//! - Nothing is downloaded but from package registries.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cache, progress, workspace};

/// The npm packages, once they are installed.
#[derive(Debug, Clone)]
pub struct Tools {
    root: PathBuf,
    node_modules: PathBuf,
}

impl Tools {
    /// Installs the npm packages, unless they are there.
    ///
    /// # Errors
    ///
    /// They can't be installed; the error carries the end of npm's log.
    pub fn set_up(root: &Path) -> Result<Self> {
        Ok(Self { root: root.to_owned(), node_modules: npm_packages(root)? })
    }

    /// A program of the npm packages, under the pinned Node.
    #[must_use]
    pub(crate) fn npm_command(&self, name: &str) -> Command {
        let mut command = workspace::command(&self.root, self.node_modules.join(".bin").join(name));
        command.env("PATH", self.path());
        command
    }

    /// `wrangler` under the pinned Node, sending no metrics.
    #[must_use]
    pub fn wrangler(&self) -> Command {
        let mut command = workspace::command(&self.root, self.node());
        command
            .arg(self.node_modules.join("wrangler/bin/wrangler.js"))
            .env("WRANGLER_SEND_METRICS", "false")
            .env("PATH", self.path());
        command
    }

    fn node(&self) -> PathBuf {
        self.node_modules.join("node/bin/node")
    }

    /// The search path with the pinned Node first: npm's programs start with `#!/usr/bin/env node`.
    fn path(&self) -> OsString {
        let rest = env::var_os("PATH").unwrap_or_default();
        let dirs = [self.node_modules.join("node/bin")].into_iter().chain(env::split_paths(&rest));
        // Fails only if a directory's name contains the separator: then the system's Node has to do.
        env::join_paths(dirs).unwrap_or(rest)
    }
}

/// Returns the `workerd` executable itself, without the JavaScript wrapper, so that its process id is the one that was
/// started.
///
/// # Errors
///
/// The npm packages aren't installed, or workerd isn't published for this platform.
pub fn workerd(root: &Path) -> Result<PathBuf> {
    let binary = workerd_path(root)?;
    if !binary.exists() {
        bail!("workerd is not installed: run `cargo xtask build`");
    }
    Ok(binary)
}

/// Returns where npm puts the `workerd` executable.
pub(crate) fn workerd_path(root: &Path) -> Result<PathBuf> {
    let platform = match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => "linux-64",
        ("linux", "aarch64") => "linux-arm64",
        ("macos", "x86_64") => "darwin-64",
        ("macos", "aarch64") => "darwin-arm64",
        (os, arch) => bail!("workerd is not published for {os} on {arch}"),
    };
    Ok(root.join(format!("node_modules/@cloudflare/workerd-{platform}/bin/workerd")))
}

/// Adds a target to the Rust toolchain, unless it is there.
///
/// # Errors
///
/// rustup isn't there, or fails.
pub(crate) fn add_target(root: &Path, target: &str) -> Result<()> {
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(root)
        .output()
        .context("can't run rustc")?;
    let libraries = String::from_utf8(libraries.stdout).context("rustc names no directory for its libraries")?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    progress::run(
        &format!("adding the target {target} to the Rust toolchain"),
        Command::new("rustup").args(["target", "add", target]).current_dir(root),
        &cache::log("rustup-target")?,
    )
}

/// Returns the path of `bindgen`, which is compiled first unless it is in the cache.
///
/// # Errors
///
/// It doesn't compile.
pub(crate) fn bindgen(root: &Path) -> Result<PathBuf> {
    // Another thread of this process is no news to the user, as another process is.
    let _alone = BINDGEN.lock().unwrap_or_else(PoisonError::into_inner);
    let source = cache::fingerprint(&[root.join("tools/bindgen/src/main.rs")])?;
    let version = format!("{}-{source}", workspace::locked_version(root, "wasm-bindgen")?);
    let dir = cache::tool("bindgen", &version, |dir| {
        progress::run(
            "compiling bindgen, once per machine",
            workspace::cargo(root).args(["build", "--profile", "xtask", "--package", "bindgen"]),
            &cache::log("bindgen")?,
        )?;
        let compiled = workspace::target_directory(root)?.join("xtask/bindgen");
        fs::copy(&compiled, dir.join("bindgen")).with_context(|| format!("can't copy {}", compiled.display()))?;
        Ok(())
    })?;
    Ok(dir.join("bindgen"))
}

/// Installs the npm packages of the lock file in `dir`, unless they are those already: wrangler, which may have called this,
/// runs from them. Returns their `node_modules`.
///
/// # Errors
///
/// They can't be installed; the error carries the end of npm's log.
pub(crate) fn npm_packages(dir: &Path) -> Result<PathBuf> {
    let modules = dir.join("node_modules");
    let lock_file = dir.join("package-lock.json");
    let up_to_date = || -> Result<bool> {
        let wanted = NpmPackages::read(&lock_file)?;
        Ok(NpmPackages::read(&modules.join(".package-lock.json")).is_ok_and(|installed| installed.are(&wanted)))
    };
    if up_to_date()? {
        return Ok(modules);
    }
    let _lock = cache::lock(&lock_file, "node_modules")?;
    if !up_to_date()? {
        progress::run(
            &format!("installing the npm packages of {}", lock_file.display()),
            Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(dir),
            &cache::log("npm")?,
        )
        .map_err(with_remedy)?;
    }
    Ok(modules)
}

/// Says what to install where there is no npm.
fn with_remedy(error: anyhow::Error) -> anyhow::Error {
    let is_missing = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    match is_missing.into_iter().any(|cause| cause.kind() == ErrorKind::NotFound) {
        true => error.context("there is no `npm` command: install Node.js 20 or newer, which has it"),
        false => error,
    }
}

/// The packages of a lock file: a project's, or the one in which npm records the installed packages.
#[derive(Debug, Deserialize)]
struct NpmPackages {
    packages: BTreeMap<String, NpmPackage>,
}

#[derive(Debug, Deserialize)]
struct NpmPackage {
    version: Option<String>,
    integrity: Option<String>,
    /// It may be left out, because it is for another platform, say.
    #[serde(default)]
    optional: bool,
}

impl NpmPackages {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} isn't npm's", path.display()))
    }

    /// Returns whether these packages, which are installed, are the wanted ones.
    fn are(&self, wanted: &Self) -> bool {
        // The project itself has the empty name, and isn't installed.
        let wanted = || wanted.packages.iter().filter(|(path, _)| !path.is_empty());
        let same = |a: &NpmPackage, b: &NpmPackage| a.version == b.version && a.integrity == b.integrity;
        let nothing_else = self.packages.keys().all(|path| wanted().any(|(wanted, _)| wanted == path));
        nothing_else
            && wanted().all(|(path, package)| {
                self.packages.get(path).map_or(package.optional, |installed| same(installed, package))
            })
    }
}

static BINDGEN: Mutex<()> = Mutex::new(());
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(json: &str) -> NpmPackages {
        serde_json::from_str(&format!(r#"{{"packages": {json}}}"#)).unwrap()
    }

    #[test]
    fn a_machine_without_node_is_given_the_remedy() {
        let mut command = Command::new("no-such-command");
        let log = tempfile::NamedTempFile::new().unwrap();
        let error = with_remedy(progress::run("trying", &mut command, log.path()).unwrap_err());
        assert!(format!("{error:#}").starts_with("there is no `npm` command: install Node.js 20"), "{error:#}");
        assert_eq!(with_remedy(anyhow::anyhow!("it has failed")).to_string(), "it has failed");
    }

    #[test]
    fn npm_is_called_when_something_is_missing_old_or_too_much() {
        let wanted = packages(
            r#"{"": {"version": "0.1.0"}, "a": {"version": "1", "integrity": "sha-a"}, "mac": {"version": "1", "optional": true}}"#,
        );
        for (installed, are_the_wanted) in [
            (r#"{"a": {"version": "1", "integrity": "sha-a"}}"#, true),
            (r#"{"a": {"version": "1", "integrity": "sha-a"}, "mac": {"version": "1", "optional": true}}"#, true),
            (r#"{"a": {"version": "1", "integrity": "sha-a"}, "mac": {"version": "2", "optional": true}}"#, false),
            (r#"{"a": {"version": "1", "integrity": "sha-b"}}"#, false),
            (r#"{"a": {"version": "1", "integrity": "sha-a"}, "b": {"version": "1"}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(packages(installed).are(&wanted), are_the_wanted, "{installed}");
        }
    }
}
