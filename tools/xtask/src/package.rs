//! `cargo xtask package`: workerd and the worker in one executable, `matrixrtc-edge`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use standalone::payload::Payload;

use crate::{
    build::{Build, target_directory},
    cache,
    progress::{self, Step},
    workerd, workspace,
};

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

/// Makes the executable, unless it is up to date, and answers its path.
///
/// # Errors
///
/// Something can't be built, or the executable can't be written.
pub fn make(root: &Path) -> Result<PathBuf> {
    Build::make(root)?;
    progress::run(
        "compiling matrixrtc-edge",
        workspace::cargo(root).args(["build", "--release", "--package", "standalone", "--bin", NAME]),
        &cache::log("package")?,
    )?;
    let target = target_directory(root)?;
    let launcher = target.join("release").join(NAME);
    let place = path(&target);
    let dir = target.join(DIR);
    fs::create_dir_all(&dir).with_context(|| format!("can't create {}", dir.display()))?;
    let _lock = cache::lock(&dir.join(".lock"), "the package")?;
    let program = workerd::production()?;
    let record = dir.join(".made-from");
    // The lock file stands for workerd, which is big.
    let made_from = [Some(launcher.clone()), Some(program.modules.script.clone()), program.modules.wasm.clone()];
    let made_from: Vec<_> = made_from.into_iter().flatten().chain([root.join("package-lock.json")]).collect();
    let made_from = cache::fingerprint(&made_from)?;
    if place.exists() && fs::read_to_string(&record).is_ok_and(|last| last == made_from) {
        return Ok(place);
    }
    let step = Step::start("packing workerd and the worker into it");
    Payload::append(&launcher, &program, &place)?;
    fs::write(&record, made_from).with_context(|| format!("can't write {}", record.display()))?;
    step.done();
    Ok(place)
}

/// The executable that is there.
///
/// # Errors
///
/// There is none.
pub fn existing(root: &Path) -> Result<PathBuf> {
    let place = path(&target_directory(root)?);
    if !place.exists() {
        bail!("{} is missing: run `cargo xtask package`", place.display());
    }
    Ok(place)
}

fn path(target: &Path) -> PathBuf {
    target.join(DIR).join(NAME)
}

const DIR: &str = "package";
const NAME: &str = "matrixrtc-edge";
