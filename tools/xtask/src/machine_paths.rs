//! Paths of the building machine, which the compiler writes into panics' messages: they would tell the builder's name, and
//! make each build another one.
//!
//! - Sources from a registry are at `/crates`, this repository at `/matrixrtc-edge`, and the standard library where its
//!   own builders have put it.
//! - The flags differ from machine to machine, and what is compiled with them doesn't: cargo leaves them out of the names
//!   of symbols.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Returns the flags for rustc that replace the paths.
///
/// # Errors
///
/// rustc or cargo doesn't run, or a directory isn't named in UTF-8.
pub(crate) fn rustc_flags(root: &Path) -> Result<Vec<String>> {
    let home = cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let sources = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten().map(|entry| entry.path());
    let (library, library_of_builders) = standard_library(root)?;
    // The last one that matches counts.
    let replaced = [(home.clone(), "/cargo".to_owned()), (root.to_owned(), "/matrixrtc-edge".to_owned())]
        .into_iter()
        .chain([(workspace::target_directory(root)?, "/target".to_owned())])
        .chain(sources.map(|path| (path, "/crates".to_owned())))
        .chain([(library, library_of_builders)]);
    replaced.map(|(from, to)| flag(&from, &to)).collect()
}

/// Returns the flags for the target, as an argument of cargo's: added to those in `.cargo/config.toml`.
///
/// # Errors
///
/// See [`rustc_flags`].
pub(crate) fn cargo_option(root: &Path, target: &str) -> Result<String> {
    // JSON's strings are strings of TOML's, too.
    let flags = serde_json::to_string(&rustc_flags(root)?)?;
    Ok(format!("--config=target.{target}.rustflags={flags}"))
}

/// Checks that no path of this machine is in `content`, which has this name.
///
/// # Errors
///
/// There is one: the error says which.
pub fn check(root: &Path, name: &str, content: &[u8]) -> Result<()> {
    let home = cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let (library, _) = standard_library(root)?;
    for path in [home, root.to_owned(), workspace::target_directory(root)?, library] {
        let path = path.as_os_str().as_encoded_bytes();
        if let Some(at) = content.windows(path.len()).position(|window| window == path) {
            let shown = content[at..].iter().copied().take_while(|byte| byte.is_ascii_graphic()).take(200).collect();
            bail!("a path of this machine is in {name}: {}", String::from_utf8(shown)?);
        }
    }
    Ok(())
}

fn flag(from: &Path, to: &str) -> Result<String> {
    let from = from.to_str().with_context(|| format!("{} isn't UTF-8", from.display()))?;
    Ok(format!("--remap-path-prefix={from}={to}"))
}

/// Returns cargo's directory in the user's home.
fn cargo_home() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("CARGO_HOME").or_else(|| Some(variable("HOME")?.join(".cargo")))
}

/// Returns where the sources of the standard library would be installed, and what their paths are where they aren't.
fn standard_library(root: &Path) -> Result<(PathBuf, String)> {
    let answer = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("rustc").args(arguments).current_dir(root).output().context("can't run rustc")?;
        String::from_utf8(output.stdout).context("rustc's answer isn't UTF-8")
    };
    let sysroot = answer(&["--print", "sysroot"])?;
    let version = answer(&["--version", "--verbose"])?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
    Ok((Path::new(sysroot.trim()).join("lib/rustlib/src/rust"), format!("/rustc/{commit}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_left_is_found() {
        let root = workspace::root().unwrap();
        let home = cargo_home().unwrap();

        check(&root, "a file", b"/crates/ring/src/lib.rs").unwrap();
        for path in [home.join("registry/src/a/ring/src/lib.rs"), root.join("src/lib.rs")] {
            let content = format!("\0called on None{}\0", path.display());
            let error = check(&root, "a file", content.as_bytes()).unwrap_err().to_string();
            assert!(error.ends_with(&*path.to_string_lossy()), "{error}");
        }
    }

    #[test]
    fn paths_of_this_machine_are_replaced() {
        let root = workspace::root().unwrap();

        let flags = rustc_flags(&root).unwrap();

        let replaced = |to: &str| flags.iter().any(|flag| flag.ends_with(&format!("={to}")));
        assert!(replaced("/cargo") && replaced("/crates") && replaced("/target"), "{flags:?}");
        assert!(flags.contains(&format!("--remap-path-prefix={}=/matrixrtc-edge", root.display())), "{flags:?}");
        // A value of TOML's, whatever is in a path.
        let option = cargo_option(&root, "a-target").unwrap();
        let value = option.strip_prefix("--config=").unwrap();
        let value: toml::Table = toml::from_str(value).unwrap();
        assert_eq!(value["target"]["a-target"]["rustflags"].as_array().unwrap().len(), flags.len());
    }
}
