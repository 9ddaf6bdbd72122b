//! `cargo xtask release`: everything that is published of a version, in `target/release-artifacts/`.
//!
//! - Each artefact has its SHA-256 in `SHA256SUMS`, in the form that `sha256sum --check` reads.
//! - An artefact depends on the sources and the lock files only: not on the time, the folder, the user or the order in which
//!   a directory lists its files (`folder`).
//! - `--verify` makes them again in another folder, and compares the sums.
//! - The version is that of `Cargo.toml`; `--check` compares changelog and tag with it.

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
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use sha2::{Digest, Sha256};

use architecture::Architecture;

use crate::{build::Build, cache, progress, workspace};

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
    let dir = make(&root, options.architecture)?;
    let sums = fs::read_to_string(dir.join(SUMS)).context("can't read the sums")?;
    if options.verify {
        verify(&root, options.architecture, &sums)?;
    }
    for line in sums.lines() {
        let (hash, name) = line.split_once("  ").context("a line of the sums has no name")?;
        let size = fs::metadata(dir.join(name)).with_context(|| format!("can't look at {name}"))?.len();
        println!("{hash}  {:8.2} MB  {name}", size as f64 / 1e6);
    }
    println!("in {}", dir.display());
    Ok(())
}

/// Makes the artefacts of the repository at `root`, and returns their directory, in which nothing else is.
fn make(root: &Path, only: Option<Architecture>) -> Result<PathBuf> {
    let build = Build::make(root)?;
    let dir = workspace::target_directory(root)?.join(DIR);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("can't remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("can't create {}", dir.display()))?;
    let mut sums = String::new();
    for Artefact { name, content } in artefacts(root, &build, only)? {
        let path = dir.join(&name);
        fs::write(&path, &content).with_context(|| format!("can't write {}", path.display()))?;
        sums.push_str(&format!("{:x}  {name}\n", Sha256::digest(&content)));
    }
    fs::write(dir.join(SUMS), sums).context("can't write the sums")?;
    Ok(dir)
}

/// Makes the artefacts once more, of the commit that is checked out, in a new folder, and compares the sums.
fn verify(root: &Path, only: Option<Architecture>, sums: &str) -> Result<()> {
    let changes = workspace::command(root, "git").args(["status", "--porcelain"]).output().context("can't run git")?;
    ensure!(changes.stdout.is_empty(), "there are changes that aren't committed: a copy of the sources lacks them");
    let copy = workspace::target_directory(root)?.join("release-again");
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| format!("can't remove {}", copy.display()))?;
    }
    progress::run(
        "copying the sources",
        Command::new("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(root).arg(&copy),
        &cache::log("release-clone")?,
    )?;
    progress::run(
        "making it all again in another folder takes some minutes",
        workspace::cargo(&copy)
            .args(["xtask", "release"])
            .args(only.map(|only| format!("--architecture={}", only.name())))
            .env_remove("CARGO_TARGET_DIR"),
        &cache::log("release-again")?,
    )?;
    let again = copy.join("target").join(DIR).join(SUMS);
    let again = fs::read_to_string(&again).with_context(|| format!("can't read {}", again.display()))?;
    let different: Vec<_> = sums.lines().filter(|line| !again.lines().any(|other| other == *line)).collect();
    ensure!(again == sums, "made again, these are different:\n{}", different.join("\n"));
    fs::remove_dir_all(&copy).with_context(|| format!("can't remove {}", copy.display()))
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
