//! `cargo xtask package`: workerd and the worker in one executable, `matrixrtc-edge`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{build::Build, cache, progress, tools, workspace};

/// Makes the executable, and prints its path and size.
///
/// # Errors
///
/// See [`make`].
pub fn run() -> Result<()> {
    let path = make(&workspace::root()?)?;
    let size = fs::metadata(&path).context("can't look at the executable")?.len();
    println!("{} ({:.1} MB)", path.display(), size as f64 / 1e6);
    Ok(())
}

/// Makes the executable, unless it is up to date, and returns its path.
///
/// # Errors
///
/// Something can't be built, or the executable can't be written.
pub fn make(root: &Path) -> Result<PathBuf> {
    let build = Build::make(root)?;
    progress::run(
        "compiling matrixrtc-edge",
        workspace::cargo(root).args(["build", "--release", "--package", "standalone", "--bin", NAME]),
        &cache::log("package")?,
    )?;
    let target = workspace::target_directory(root)?;
    let launcher = target.join("release").join(NAME);
    let executable = path(&target);
    let dir = target.join(DIR);
    fs::create_dir_all(&dir).with_context(|| format!("can't create {}", dir.display()))?;
    let _lock = cache::lock(&dir.join(".lock"), "the package")?;
    let files: Vec<_> = [tools::workerd(root)?].into_iter().chain(build.files()).collect();
    let record = dir.join(".made-from");
    // The lock file stands for workerd, which is big.
    let lock_file = root.join("package-lock.json");
    let made_from: Vec<_> = [&launcher, &lock_file].into_iter().chain(&files[1..]).collect();
    let made_from = cache::fingerprint(&made_from)?;
    if executable.exists() && fs::read_to_string(&record).is_ok_and(|last| last == made_from) {
        return Ok(executable);
    }
    pack(root, &launcher, &files, &executable)?;
    fs::write(&record, made_from).with_context(|| format!("can't write {}", record.display()))?;
    Ok(executable)
}

/// Makes `executable` out of `launcher` and the files that it needs.
///
/// # Errors
///
/// The program that packs them doesn't compile, or `executable` can't be written.
pub(crate) fn pack(root: &Path, launcher: &Path, files: &[PathBuf], executable: &Path) -> Result<()> {
    progress::run_unless_quick(
        "compiling pack",
        workspace::cargo(root).args(["build", "--release", "--package", "payload", "--bin", PACK]),
        &cache::log(PACK)?,
    )?;
    let pack = workspace::target_directory(root)?.join("release").join(PACK);
    progress::run(
        "packing workerd and the worker into it",
        workspace::command(root, pack).arg(launcher).arg(executable).args(files),
        &cache::log("packing")?,
    )
}

/// Returns the executable that was made last.
///
/// # Errors
///
/// There is none.
pub fn existing(root: &Path) -> Result<PathBuf> {
    let executable = path(&workspace::target_directory(root)?);
    if !executable.exists() {
        bail!("{} is missing: run `cargo xtask package`", executable.display());
    }
    Ok(executable)
}

fn path(target: &Path) -> PathBuf {
    target.join(DIR).join(NAME)
}

const DIR: &str = "package";
const NAME: &str = "matrixrtc-edge";
const PACK: &str = "pack";
