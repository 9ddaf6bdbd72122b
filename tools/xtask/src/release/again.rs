//! The artefacts once more, of a copy of the sources in another folder, and compared with the first ones.
//!
//! - What is compiled in the copy stays there, so that the next one takes a fraction of the time.
//! - What has been made twice isn't made a third time.

use std::{collections::BTreeSet, env, fs, path::Path};

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

/// Makes `copy` have the sources of the clone at `root`, and leaves alone what is the same.
fn copy_sources(root: &Path, copy: &Path) -> Result<()> {
    let list = copy.join("target").join("copied");
    let listed = workspace::command(root, "git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("can't run git")?;
    ensure!(listed.status.success(), "git can't list the sources: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).context("a path isn't in UTF-8")?;
    let paths: BTreeSet<_> = listed.split_terminator('\0').filter(|path| root.join(path).is_file()).collect();
    for gone in fs::read_to_string(&list).unwrap_or_default().lines().filter(|path| !paths.contains(path)) {
        let gone = copy.join(gone);
        fs::remove_file(&gone).with_context(|| format!("can't remove {}", gone.display()))?;
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
    fs::create_dir_all(copy.join("target")).context("can't create the copy's target directory")?;
    let list_of_paths: String = paths.iter().map(|path| format!("{path}\n")).collect();
    fs::write(&list, list_of_paths).with_context(|| format!("can't write {}", list.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

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
        let git = |arguments: &[&str]| {
            assert!(Command::new("git").args(arguments).current_dir(&root).status().unwrap().success());
        };
        let write = |path: &str, content: &str| {
            fs::create_dir_all(root.path().join("src")).unwrap();
            fs::write(root.path().join(path), content).unwrap();
        };
        let copied = |path: &str| fs::read_to_string(copy.path().join(path)).ok();
        git(&["init", "--quiet"]);
        for path in ["src/a", "b", "c"] {
            write(path, "1");
        }
        git(&["add", "."]);
        write(".gitignore", "/build\n");
        write("build", "ignored");
        copy_sources(root.path(), copy.path()).unwrap();
        let modified = |path: &str| fs::metadata(copy.path().join(path)).unwrap().modified().unwrap();
        let before = modified("b");

        write("src/a", "2");
        fs::remove_file(root.path().join("c")).unwrap();
        copy_sources(root.path(), copy.path()).unwrap();

        let paths = ["src/a", "b", "c", "build", ".gitignore"];
        assert_eq!(
            paths.map(copied),
            [Some("2"), Some("1"), None, None, Some("/build\n")].map(|it| it.map(str::to_owned))
        );
        assert_eq!(modified("b"), before);
    }
}
