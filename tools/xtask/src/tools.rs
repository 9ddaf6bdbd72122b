//! The pinned tools a build needs: Rust's WebAssembly target, `wasm-bindgen`, `worker-build` and the npm packages.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cache, progress, workspace};

/// Where the tools are, once they are all there.
#[derive(Debug, Clone)]
pub struct Tools {
    root: PathBuf,
    node_modules: PathBuf,
    wasm_bindgen: PathBuf,
    worker_build: PathBuf,
}

impl Tools {
    /// Installs what is missing, saying so: a few minutes on a fresh machine, nothing to do on a prepared one.
    ///
    /// # Errors
    ///
    /// Something can't be installed; the error carries the end of its log.
    pub fn set_up(root: &Path) -> Result<Self> {
        add_wasm_target(root)?;
        let wasm_bindgen = workspace::locked_version(root, "wasm-bindgen")?;
        let worker = workspace::locked_version(root, "worker")?;
        Ok(Self {
            root: root.to_owned(),
            node_modules: node_modules(root)?,
            wasm_bindgen: cargo_tool(root, "wasm-bindgen-cli", &wasm_bindgen, "wasm-bindgen")?,
            worker_build: cargo_tool(root, "worker-build", &worker, "worker-build")?,
        })
    }

    /// `worker-build`, told to use the pinned tools instead of downloading its own.
    #[must_use]
    pub fn worker_build(&self) -> Command {
        let mut command = workspace::command(&self.root, &self.worker_build);
        command
            .env("WASM_BINDGEN_BIN", &self.wasm_bindgen)
            .env("ESBUILD_BIN", self.npm_binary("esbuild"))
            .env("WASM_OPT_BIN", self.npm_binary("wasm-opt"))
            .env("PATH", self.path());
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

    fn npm_binary(&self, name: &str) -> PathBuf {
        self.node_modules.join(".bin").join(name)
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

fn add_wasm_target(root: &Path) -> Result<()> {
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(root)
        .output()
        .context("can't run rustc")?;
    let libraries = String::from_utf8(libraries.stdout).context("rustc names no directory for its libraries")?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    progress::run(
        &format!("adding the target {WASM_TARGET} to the Rust toolchain"),
        Command::new("rustup").args(["target", "add", WASM_TARGET]).current_dir(root),
        &cache::log("rustup-target")?,
    )
}

/// Installs a crate's program in the cache and answers the program's path.
fn cargo_tool(root: &Path, krate: &str, version: &str, binary: &str) -> Result<PathBuf> {
    let place = cache::tool(krate, version, |place| {
        let log = cache::log(krate)?;
        // Kept when the installation is interrupted, so that the next one goes on from there.
        let target = cache::dir()?.join("target").join(format!("{krate}-{version}"));
        let install = |what: &str, locked: &[&str]| {
            let mut command = workspace::cargo(root);
            command
                .args(["install", krate, "--bin", binary, "--version", &format!("={version}")])
                .args(locked)
                .arg("--root")
                .arg(place)
                .arg("--target-dir")
                .arg(&target)
                // Half the time of the installation, for two seconds more in a build.
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
            progress::run(what, &mut command, &log)
        };
        let what = format!("installing {krate} {version} (some minutes, once per machine)");
        // A registry mirror that lags behind may lack what the crate's own lock file names.
        install(&what, &["--locked"]).or_else(|error| {
            progress::note(&format!("trying without its own lock file: {}", progress::gist(&error)));
            install(&what, &[])
        })?;
        fs::remove_dir_all(&target).with_context(|| format!("can't remove {}", target.display()))
    })?;
    Ok(place.join("bin").join(binary))
}

/// Installs the npm packages of the lock file, unless they are those already: wrangler, which may have called this, runs from them.
fn node_modules(root: &Path) -> Result<PathBuf> {
    let modules = root.join("node_modules");
    let lock_file = root.join("package-lock.json");
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
            "installing the npm packages of package-lock.json",
            Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(root),
            &cache::log("npm")?,
        )?;
    }
    Ok(modules)
}

/// What a lock file names: that of a project, or that in which npm records what it has installed.
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

    /// Whether these packages, which are installed, are the wanted ones.
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

const WASM_TARGET: &str = "wasm32-unknown-unknown";

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(json: &str) -> NpmPackages {
        serde_json::from_str(&format!(r#"{{"packages": {json}}}"#)).unwrap()
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
