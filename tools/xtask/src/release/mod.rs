//! `cargo xtask release`: everything that is published of a version, in `target/release-artifacts/`.
//!
//! - Each artefact has its SHA-256 in `SHA256SUMS`, in the form that `sha256sum --check` reads.
//! - An artefact depends on the sources and the lock files only: not on the time, the folder, the user or the order in which
//!   a directory lists its files ([`folder`]).
//! - The version is that of `Cargo.toml`.

mod folder;
mod npm;
pub mod worker;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::{build::Build, workspace};

/// Make everything that is published of this version, in target/release-artifacts/
#[derive(Debug, Args)]
pub struct Options {}

/// A file that is published.
#[derive(Debug)]
pub struct Artefact {
    /// The file's name.
    pub name: String,
    /// The file's content.
    pub content: Vec<u8>,
}

/// Makes the artefacts, and prints their sizes and hashes.
///
/// # Errors
///
/// Something can't be built or written.
pub fn run(_options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let dir = make(&root)?;
    let sums = fs::read_to_string(dir.join(SUMS)).context("can't read the sums")?;
    for line in sums.lines() {
        let (hash, name) = line.split_once("  ").context("a line of the sums has no name")?;
        let size = fs::metadata(dir.join(name)).with_context(|| format!("can't look at {name}"))?.len();
        println!("{hash}  {:8.2} MB  {name}", size as f64 / 1e6);
    }
    println!("in {}", dir.display());
    Ok(())
}

/// Makes the artefacts of the repository at `root`, and returns their directory, in which nothing else is.
fn make(root: &Path) -> Result<PathBuf> {
    let build = Build::make(root)?;
    let dir = workspace::target_directory(root)?.join(DIR);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("can't remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("can't create {}", dir.display()))?;
    let mut sums = String::new();
    for Artefact { name, content } in artefacts(root, &build)? {
        let path = dir.join(&name);
        fs::write(&path, &content).with_context(|| format!("can't write {}", path.display()))?;
        sums.push_str(&format!("{:x}  {name}\n", Sha256::digest(&content)));
    }
    fs::write(dir.join(SUMS), sums).context("can't write the sums")?;
    Ok(dir)
}

fn artefacts(root: &Path, build: &Build) -> Result<Vec<Artefact>> {
    Ok(vec![worker::archive(root, build)?])
}

const DIR: &str = "release-artifacts";
const SUMS: &str = "SHA256SUMS";
/// The version of all packages of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
