//! The artefacts once more, of a copy of the sources in another folder, and compared with the first ones.
//!
//! - What is compiled in the copy stays there, so that the next one takes a fraction of the time.
//! - What has been made twice isn't made a third time.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{DIR, SUMS, architecture::Architecture};
use crate::{cache, progress, workspace};

/// Makes the artefacts of the sources as they are, committed or not, in another folder, and compares their sums.
///
/// # Errors
///
/// They can't be made, or are different.
pub(super) fn compare(root: &Path, only: Option<Architecture>, sums: &str) -> Result<()> {
    let copy = workspace::target_directory(root)?.join("release-again");
    let record = copy.join("target").join("compared");
    if fs::read_to_string(&record).is_ok_and(|compared| compared == sums) {
        progress::note("these artefacts have been made twice before");
        return Ok(());
    }
    copy_sources(root, &copy)?;
    progress::run(
        "making it all again in another folder takes some minutes",
        workspace::command(&copy, env::current_exe().context("I don't know my own path")?)
            .arg("release")
            .args(only.map(|only| format!("--architecture={}", only.name())))
            .env("CARGO_MANIFEST_DIR", &copy)
            .env_remove("CARGO_TARGET_DIR"),
        &cache::log("release-again")?,
    )?;
    let again = copy.join("target").join(DIR).join(SUMS);
    let again = fs::read_to_string(&again).with_context(|| format!("can't read {}", again.display()))?;
    same(sums, &again)?;
    fs::write(&record, sums).with_context(|| format!("can't write {}", record.display()))
}

/// Checks that both times the sums are the same.
fn same(sums: &str, again: &str) -> Result<()> {
    let different: Vec<_> = sums.lines().filter(|line| !again.lines().any(|other| other == *line)).collect();
    ensure!(again == sums, "made again, these are different:\n{}", different.join("\n"));
    Ok(())
}

/// Makes `copy` have the sources of the repository at `root`, and leaves alone what is the same.
fn copy_sources(root: &Path, copy: &Path) -> Result<()> {
    let mut paths = BTreeSet::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut paths)?;
    }
    for gone in copied(copy)?.difference(&paths) {
        fs::remove_file(copy.join(gone)).with_context(|| format!("can't remove {} of the copy", gone.display()))?;
    }
    for path in &paths {
        let (from, to) = (root.join(path), copy.join(path));
        let content = fs::read(&from).with_context(|| format!("can't read {}", from.display()))?;
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        let directory = to.parent().context("a file is in no directory")?;
        fs::create_dir_all(directory).with_context(|| format!("can't create {}", directory.display()))?;
        fs::copy(&from, &to).with_context(|| format!("can't write {}", to.display()))?;
    }
    Ok(())
}

/// Returns the sources that are in `copy`.
fn copied(copy: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut paths = BTreeSet::new();
    for source in SOURCES.iter().filter(|source| copy.join(source).exists()) {
        collect(copy, Path::new(source), &mut paths)?;
    }
    Ok(paths)
}

/// Adds the files at `path` below `root`, apart from what tools put there.
fn collect(root: &Path, path: &Path, paths: &mut BTreeSet<PathBuf>) -> Result<()> {
    let whole = root.join(path);
    if !whole.is_dir() {
        paths.insert(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(&whole).with_context(|| format!("can't read {}", whole.display()))? {
        let name = entry.with_context(|| format!("can't read {}", whole.display()))?.file_name();
        if !OF_TOOLS.iter().any(|of_tools| *name == **of_tools) {
            collect(root, &path.join(name), paths)?;
        }
    }
    Ok(())
}

/// What the artefacts are made of, by name: an unpacked archive of the sources has no list of git's.
const SOURCES: [&str; 12] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "durable",
    "package-lock.json",
    "package.json",
    "page",
    "src",
    "tests",
    "tools",
    "wrangler.toml",
];
/// Directories inside them that aren't sources.
const OF_TOOLS: [&str; 4] = [".pytest_cache", "__pycache__", "node_modules", "target"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artefact_that_differs_is_named() {
        let first = "1  worker.tar.gz\n2  executable.tar.gz\n";
        same(first, first).unwrap();

        let error = same(first, "1  worker.tar.gz\n3  executable.tar.gz\n").unwrap_err().to_string();
        assert!(error.contains("2  executable.tar.gz") && !error.contains("worker"), "{error}");
        assert!(same(first, "1  worker.tar.gz\n").is_err());
        assert!(same("1  worker.tar.gz\n", first).is_err());
    }

    #[test]
    fn a_copy_has_the_sources_as_they_are() {
        let [root, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let write = |path: &str, content: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let content = |path: &str| fs::read_to_string(copy.path().join(path)).ok();
        let modified = |path: &str| fs::metadata(copy.path().join(path)).unwrap().modified().unwrap();
        for source in SOURCES {
            write(&format!("{source}/a"), "1");
        }
        for path in ["src/b", "src/c", "tests/node_modules/d", ".dev.vars"] {
            write(path, "1");
        }
        copy_sources(root.path(), copy.path()).unwrap();
        let before = modified("src/b");

        write("src/a", "2");
        fs::remove_file(root.path().join("src/c")).unwrap();
        copy_sources(root.path(), copy.path()).unwrap();

        let expected = [("src/a", Some("2")), ("src/b", Some("1")), ("src/c", None), ("tools/a", Some("1"))];
        for (path, expected) in expected.into_iter().chain([("tests/node_modules/d", None), (".dev.vars", None)]) {
            assert_eq!(content(path).as_deref(), expected, "{path}");
        }
        assert_eq!(modified("src/b"), before);
    }
}
