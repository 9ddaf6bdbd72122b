//! The deployable build: `build/index.js` and `build/index_bg.wasm`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use wasmparser::{Parser, Payload};

use crate::{cache, progress, tools::Tools, workspace};

/// The files a worker consists of.
#[derive(Debug, Clone)]
pub struct Build {
    /// The JavaScript module that workerd loads first.
    pub script: PathBuf,
    /// The WebAssembly module it imports.
    pub wasm: PathBuf,
    /// The module as the compiler left it, in cargo's target directory.
    compiled: PathBuf,
    /// The bundled module with the names of its functions, beside it.
    pub(crate) named: PathBuf,
}

impl Build {
    /// Builds what is out of date, with the pinned tools, which are installed first if they are missing.
    ///
    /// # Errors
    ///
    /// A tool can't be installed, or the worker doesn't compile.
    pub fn make(root: &Path) -> Result<Self> {
        let tools = Tools::set_up(root)?;
        let dir = Self::dir(root);
        fs::create_dir_all(&dir).with_context(|| format!("can't create {}", dir.display()))?;
        let _lock = cache::lock(&dir.join(".lock"), "the build")?;

        progress::run(
            "compiling the worker",
            workspace::cargo(root)
                .args(["build", "--lib", "--release", "--target", "wasm32-unknown-unknown"])
                // As worker-build calls it: nothing is compiled twice.
                .env("WASM_BINDGEN_USE_JS_SYS", "1"),
            &cache::log("compile")?,
        )?;
        let build = Self::in_workspace(root)?;
        let record = dir.join(".made-from");
        if build.exists()
            && build.named.exists()
            && fs::read_to_string(&record).is_ok_and(|last| build.fingerprint(root).is_ok_and(|now| now == last))
        {
            return Ok(build);
        }
        progress::run(
            "bundling and optimising the worker",
            tools.worker_build().arg("--release"),
            &cache::log("worker-build")?,
        )?;
        build.strip()?;
        fs::write(&record, build.fingerprint(root)?).with_context(|| format!("can't write {}", record.display()))?;
        Ok(build)
    }

    /// The build that is there.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn existing(root: &Path) -> Result<Self> {
        let build = Self::in_workspace(root)?;
        if !build.exists() {
            bail!("{} is missing: run `cargo xtask build`", build.script.display());
        }
        Ok(build)
    }

    /// Returns the directory of the build of the repository at `root`.
    #[must_use]
    pub fn dir(root: &Path) -> PathBuf {
        root.join(DIR)
    }

    fn in_workspace(root: &Path) -> Result<Self> {
        let dir = Self::dir(root);
        let release = workspace::target_directory(root)?.join("wasm32-unknown-unknown/release");
        Ok(Self {
            script: dir.join("index.js"),
            wasm: dir.join("index_bg.wasm"),
            compiled: release.join("matrixrtc_edge.wasm"),
            named: release.join("matrixrtc_edge.named.wasm"),
        })
    }

    /// Takes the functions' names out of the module, which worker-build keeps in: they are a fifth of it, and a panic's
    /// message tells file and line without them.
    fn strip(&self) -> Result<()> {
        fs::copy(&self.wasm, &self.named).context("can't copy the WebAssembly module")?;
        let stripped = without_names(&fs::read(&self.named)?)?;
        fs::write(&self.wasm, stripped).context("can't write the WebAssembly module")
    }

    fn exists(&self) -> bool {
        self.script.exists() && self.wasm.exists()
    }

    /// Changes with whatever comes after the compiler: its output, what is set for the tools, their versions, and their output.
    fn fingerprint(&self, root: &Path) -> Result<String> {
        let settings = ["Cargo.toml", "Cargo.lock", "package-lock.json"].map(|name| root.join(name));
        let files: Vec<_> = settings.iter().chain([&self.compiled, &self.script, &self.wasm]).collect();
        cache::fingerprint(&files)
    }
}

/// `wasm` without the custom sections that only tools read; everything else stays byte for byte.
fn without_names(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut kept = Vec::with_capacity(wasm.len());
    let mut copied_to = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.context("the WebAssembly module is damaged")?;
        let end = match &payload {
            Payload::Version { range, .. } => range.end,
            payload => match payload.as_section() {
                Some((_, contents)) => contents.end,
                None => continue,
            },
        };
        let end = usize::try_from(end)?;
        let for_tools =
            matches!(&payload, Payload::CustomSection(custom) if ["name", "producers"].contains(&custom.name()));
        if !for_tools {
            kept.extend_from_slice(&wasm[copied_to..end]);
        }
        copied_to = end;
    }
    Ok(kept)
}

const DIR: &str = "build";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_are_taken_out() {
        let module = b"\0asm\x01\0\0\0".as_slice();
        let code = b"\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b".as_slice();
        let custom = b"\0\x05\x04keep".as_slice();
        let names = b"\0\x17\x04name\x01\x10\x01\x01\x0down::function".as_slice();

        let stripped = without_names(&[module, code, names, custom].concat()).unwrap();

        assert_eq!(stripped, [module, code, custom].concat());
    }
}
