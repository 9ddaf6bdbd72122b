//! The repository that these commands work on.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Returns the root of the repository that cargo or the user runs the command in.
///
/// # Errors
///
/// Neither `CARGO_MANIFEST_DIR` nor the working directory lies in the repository.
pub fn root() -> Result<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => env::current_dir().context("the working directory is gone")?,
    };
    start
        .ancestors()
        .find(|dir| dir.join("wrangler.toml").is_file() && dir.join("Cargo.lock").is_file())
        .map(Path::to_owned)
        .with_context(|| format!("{} is not in a clone of matrixrtc-edge", start.display()))
}

/// Returns a command that runs in `root`, and that may call cargo.
///
/// Variables that the outer `cargo run` has set are removed: build scripts depend on them, and would be run again.
#[must_use]
pub fn command(root: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root);
    for (name, _) in env::vars_os() {
        let name_of_outer_run =
            name.to_str().is_some_and(|name| OUTER_RUN.iter().any(|prefix| name.starts_with(prefix)));
        if name_of_outer_run {
            command.env_remove(name);
        }
    }
    command
}

/// Returns the cargo that runs this command.
#[must_use]
pub fn cargo(root: &Path) -> Command {
    command(root, env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Returns cargo's target directory.
///
/// # Errors
///
/// cargo fails.
pub fn target_directory(root: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let output = cargo(root)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("can't run cargo metadata")?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("can't read what cargo metadata says")?;
    Ok(metadata.target_directory)
}

/// Returns the version of the only package of that name in `Cargo.lock`.
///
/// # Errors
///
/// `Cargo.lock` can't be read, or the package isn't in it exactly once.
pub fn locked_version(root: &Path, package: &str) -> Result<String> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("can't read Cargo.lock")?;
    version_in(&lock, package)
}

fn version_in(lock: &str, package: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let lock: Lock = toml::from_str(lock).context("can't parse Cargo.lock")?;
    let mut found = lock.package.into_iter().filter(|candidate| candidate.name == package);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.version),
        (None, _) => anyhow::bail!("{package} is not in Cargo.lock"),
        (Some(_), Some(_)) => anyhow::bail!("{package} is in Cargo.lock more than once"),
    }
}

const OUTER_RUN: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_lock() {
        let lock = r#"
            version = 4
            [[package]]
            name = "wasm-bindgen"
            version = "0.2.130"
            [[package]]
            name = "syn"
            version = "2.0.119"
            [[package]]
            name = "syn"
            version = "3.0.6"
        "#;

        assert_eq!(version_in(lock, "wasm-bindgen").unwrap(), "0.2.130");
        assert!(version_in(lock, "syn").unwrap_err().to_string().contains("more than once"));
        assert!(version_in(lock, "worker").unwrap_err().to_string().contains("worker is not"));
    }
}
