//! `cargo xtask release`: everything that is published of a version, in `target/release-artifacts/`.
//!
//! - Each artefact has its SHA-256 in `SHA256SUMS`, in the form that `sha256sum --check` reads.
//! - An artefact depends on the sources and the lock files only: not on the time, the folder, the user or the order in which
//!   a directory lists its files (`folder`).
//! - `--verify` makes them again in another folder, and compares the sums (`again`). `cargo xtask test` does so for this
//!   machine's processor.
//! - The version is that of `Cargo.toml`; `--check` compares changelog and tag with it.

mod again;
pub mod architecture;
mod changelog;
mod executable;
mod folder;
pub mod image;
pub(crate) mod npm;
mod sbom;
mod variables;
pub mod worker;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use sha2::{Digest, Sha256};

use architecture::Architecture;

use crate::{build::Build, workspace};

/// Make everything that is published of this version, in target/release-artifacts/
#[derive(Debug, Args)]
pub struct Options {
    /// Make nothing: print the changelog's section, after checking that changelog, tag and version agree
    #[arg(long)]
    check: bool,
    /// The tag that releases this version; then the changelog has its date
    #[arg(long, requires = "check")]
    tag: Option<String>,
    /// Make them once more, of a copy of the sources in another folder, and compare
    #[arg(long)]
    verify: bool,
    /// Make executable and image for this processor only [default: all]
    #[arg(long, value_enum, value_name = "NAME")]
    architecture: Option<Architecture>,
}

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
pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    if options.check {
        let changelog = fs::read_to_string(root.join("CHANGELOG.md")).context("can't read CHANGELOG.md")?;
        println!("{}", changelog::checked_section(&changelog, VERSION, options.tag.as_deref())?);
        return Ok(());
    }
    let dir = workspace::target_directory(&root)?.join(DIR);
    let sums = make(&root, options.architecture, &dir)?;
    if options.verify {
        again::compare(&root, options.architecture, &sums)?;
    }
    for line in sums.lines() {
        let (hash, name) = line.split_once("  ").context("a line of the sums has no name")?;
        let size = fs::metadata(dir.join(name)).with_context(|| format!("can't look at {name}"))?.len();
        println!("{hash}  {:8.2} MB  {name}", size as f64 / 1e6);
    }
    println!("in {}", dir.display());
    Ok(())
}

/// Makes the artefacts for this machine's processor twice, in two folders, and returns the path of the archive with the
/// executable. The published ones, if they are there, stay.
///
/// # Errors
///
/// They can't be made, or differ.
pub fn make_twice(root: &Path) -> Result<PathBuf> {
    let dir = workspace::target_directory(root)?.join("release-tested");
    let sums = make(root, Some(Architecture::HERE), &dir)?;
    again::compare(root, Some(Architecture::HERE), &sums)?;
    Ok(dir.join(executable::archive_name(Architecture::HERE)))
}

/// Makes the artefacts of the repository at `root` in `dir`, in which nothing else is, and returns their sums.
fn make(root: &Path, only: Option<Architecture>, dir: &Path) -> Result<String> {
    let build = Build::make(root)?;
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("can't remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("can't create {}", dir.display()))?;
    let mut sums = String::new();
    for Artefact { name, content } in artefacts(root, &build, only)? {
        let path = dir.join(&name);
        fs::write(&path, &content).with_context(|| format!("can't write {}", path.display()))?;
        sums.push_str(&format!("{:x}  {name}\n", Sha256::digest(&content)));
    }
    fs::write(dir.join(SUMS), &sums).context("can't write the sums")?;
    Ok(sums)
}

fn artefacts(root: &Path, build: &Build, only: Option<Architecture>) -> Result<Vec<Artefact>> {
    let mut artefacts = vec![worker::archive(root, build)?, sbom::of_worker(root)?];
    for architecture in Architecture::ALL.into_iter().filter(|it| only.is_none_or(|only| *it == only)) {
        let executable = executable::make(root, build, architecture)?;
        let executable = fs::read(&executable).with_context(|| format!("can't read {}", executable.display()))?;
        let archive = executable::archive(root, &executable, architecture)?;
        let name = archive.name.trim_end_matches(".tar.gz");
        artefacts.push(sbom::of_executable(root, &architecture.target(), architecture.workerd(), name)?);
        artefacts.push(archive);
        artefacts.push(image::archive(architecture, &executable, &image::LIBRARIES)?);
    }
    Ok(artefacts)
}

const DIR: &str = "release-artifacts";
const SUMS: &str = "SHA256SUMS";
/// The version of all packages of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
