//! The executable `matrixrtc-edge` for Linux, and its archive.
//!
//! - It is compiled against the symbols of an old glibc ([`GLIBC`]), by cargo-zigbuild with Zig's linker and C compiler: both
//!   are Python packages, pinned with their hashes.
//! - So another processor's is compiled in the same way; workerd for it is an npm package, of the version and hash in the
//!   repository's lock file.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Artefact, VERSION,
    architecture::Architecture,
    folder::Folder,
    npm::LockFile,
    variables::{example, variables},
};
use crate::{build::Build, cache, machine_paths, package, progress, python, tools, workspace};

/// Makes the executable for `architecture`, and returns its path.
///
/// # Errors
///
/// A tool or workerd can't be installed, or it doesn't compile.
pub(super) fn make(root: &Path, build: &Build, architecture: Architecture) -> Result<PathBuf> {
    let target = workspace::target_directory(root)?;
    let launcher = compile(root, &target, architecture)?;
    for file in [&launcher, &build.script, &build.wasm] {
        let content = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
        machine_paths::check(root, &file.display().to_string(), &content)?;
    }
    let workerd = workerd(root, architecture)?;
    let executable = target.join(architecture.target()).join("release").join("packed");
    package::pack(root, &launcher, &[&[workerd], build.files().as_slice()].concat(), &executable)?;
    Ok(executable)
}

/// Returns the archive with the executable and what belongs to it.
///
/// # Errors
///
/// A file can't be read.
pub(super) fn archive(root: &Path, executable: &[u8], architecture: Architecture) -> Result<Artefact> {
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("can't read {path}"));
    let wrangler = read("wrangler.toml")?;
    let variables = variables(&wrangler)?;
    let here = variables.iter().filter(|variable| !OF_CLOUDFLARE.contains(&variable.name));
    let name = folder_name(architecture);
    let content = Folder::default()
        .program("matrixrtc-edge", executable)
        .file("matrixrtc-edge.service", read("tools/standalone/matrixrtc-edge.service")?)
        .file("matrixrtc-edge.env.example", example(EXAMPLE, here))
        .file("Dockerfile", read("tools/standalone/container/Dockerfile")?)
        .file(".dockerignore", read("tools/standalone/container/.dockerignore")?)
        .file("compose.yaml", read("tools/standalone/container/compose.yaml")?)
        .file("README.md", README)
        .file("LICENSE", read("LICENSE")?)
        .tar_gz(&name)?;
    Ok(Artefact { name: archive_name(architecture), content })
}

/// Returns the archive's file name.
pub(super) fn archive_name(architecture: Architecture) -> String {
    format!("{}.tar.gz", folder_name(architecture))
}

fn folder_name(architecture: Architecture) -> String {
    format!("matrixrtc-edge-{VERSION}-linux-{}", architecture.name())
}

/// Compiles the executable without what is packed into it.
fn compile(root: &Path, target: &Path, architecture: Architecture) -> Result<PathBuf> {
    let zig = zig()?;
    let triple = architecture.target();
    tools::add_target(root, &triple)?;
    progress::run(
        &format!("compiling matrixrtc-edge for {}", architecture.name()),
        workspace::cargo(root)
            .args(["zigbuild", "--release", "--target", &format!("{triple}.{GLIBC}")])
            .args(["--package", "standalone", "--bin", "matrixrtc-edge"])
            .env("PATH", with_path(&zig.join("bin"))?)
            .env("CARGO_ZIGBUILD_CACHE_DIR", zig.join("cache"))
            // They replace those of the user's own configuration.
            .env("CARGO_ENCODED_RUSTFLAGS", machine_paths::rustc_flags(root)?.join("\x1f")),
        &cache::log("zigbuild")?,
    )?;
    Ok(target.join(triple).join("release/matrixrtc-edge"))
}

/// Returns a Python environment with cargo-zigbuild and Zig.
fn zig() -> Result<PathBuf> {
    python::environment("zig", ZIG)
}

/// Returns workerd for `architecture`, of the version in the repository's lock file.
fn workerd(root: &Path, architecture: Architecture) -> Result<PathBuf> {
    let name = architecture.workerd();
    let lock_file = fs::read_to_string(root.join("package-lock.json")).context("can't read package-lock.json")?;
    let lock_file = LockFile::parse(&lock_file)?;
    let version = lock_file.version(name)?;
    // Not those of the repository: npm leaves out what is for another platform.
    let place = cache::tool(&format!("workerd-{}", architecture.name()), version, |place| {
        let dependencies = json!({ name: version });
        let package = json!({ "version": version, "integrity": lock_file.package(name)?["integrity"] });
        let lock_file = json!({
            "lockfileVersion": 3,
            "packages": { "": { "dependencies": dependencies }, format!("node_modules/{name}"): package },
        });
        fs::write(place.join("package.json"), json!({ "dependencies": dependencies }).to_string())?;
        fs::write(place.join("package-lock.json"), lock_file.to_string())?;
        progress::run(
            &format!("installing workerd for {}", architecture.name()),
            Command::new("npm")
                .args(["ci", "--force", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(place),
            &cache::log("npm-workerd")?,
        )
    })?;
    Ok(place.join("node_modules").join(name).join("bin/workerd"))
}

/// Returns the search path with `first` in front.
fn with_path(first: &Path) -> Result<OsString> {
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths([first.to_owned()].into_iter().chain(env::split_paths(&rest))).context("a path has a colon in it")
}

/// Debian 10, RHEL 8 and Ubuntu 20.04 have it, or a newer one. workerd itself needs 2.27.
const GLIBC: &str = "2.28";
const ZIG: &str = include_str!("requirements.txt");
const README: &str = include_str!("README.md");
/// Without an effect on a machine of one's own.
const OF_CLOUDFLARE: [&str; 2] = ["LIVEKIT_LOCATION_HINT", "LIVEKIT_JURISDICTION"];
const EXAMPLE: &str = "\
# Configuration of matrixrtc-edge.service: /etc/matrixrtc-edge.env. It holds a secret: chmod 600. Values have no quotes.

# address to listen on, behind a reverse proxy (`127.0.0.1:8080`); leave it out in a container
# MATRIXRTC_EDGE_ADDR=
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_the_variables_of_an_own_machine() {
        let root = workspace::root().unwrap();
        let wrangler = fs::read_to_string(root.join("wrangler.toml")).unwrap();
        let variables = variables(&wrangler).unwrap();

        for left_out in OF_CLOUDFLARE {
            assert!(variables.iter().any(|variable| variable.name == left_out), "{left_out}");
        }
    }

    /// It would come before the image's, and no published port leads to 127.0.0.1.
    #[test]
    fn the_example_leaves_the_address_of_the_image() {
        let assignments = EXAMPLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));

        assert_eq!(assignments.count(), 0, "{EXAMPLE}");
    }
}
