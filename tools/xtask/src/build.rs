//! The deployable build: `build/index.js`, `build/index_bg.wasm`, and the page in `build/assets/`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use wasmparser::{Parser, Payload};

use crate::{
    cache, machine_paths,
    page::{self, Page},
    progress,
    tools::{self, Tools},
    workspace,
};

/// The files a worker consists of.
#[derive(Debug, Clone)]
pub struct Build {
    /// The JavaScript module that workerd loads first.
    pub script: PathBuf,
    /// The WebAssembly module it imports.
    pub wasm: PathBuf,
    /// The page for people, which isn't part of the module.
    pub page: PathBuf,
    /// LiveKit's client, which the page loads.
    pub livekit_client: PathBuf,
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
        tools::add_target(root, tools::WASM_TARGET)?;
        let dir = Self::dir(root);
        fs::create_dir_all(&dir).with_context(|| format!("can't create {}", dir.display()))?;
        let _lock = cache::lock(&dir.join(".lock"), "the build")?;
        // The compiler needs none of the tools.
        let (mut tools, mut bindgen) = (None, None);
        progress::all([
            Box::new(|| compile(root)),
            Box::new(|| Tools::set_up(root).map(|set_up| tools = Some(set_up))),
            Box::new(|| tools::bindgen(root).map(|path| bindgen = Some(path))),
        ])?;
        let (Some(tools), Some(bindgen)) = (tools, bindgen) else { bail!("a tool is missing") };

        let build = Self::in_workspace(root)?;
        let record = dir.join(".made-from");
        if build.exists()
            && build.named.exists()
            && fs::read_to_string(&record).is_ok_and(|last| build.made_from(root).is_ok_and(|now| now == last))
        {
            return Ok(build);
        }
        build.bundle(root, &tools, &bindgen)?;
        fs::write(&record, build.made_from(root)?).with_context(|| format!("can't write {}", record.display()))?;
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

    /// Returns the files that are deployed.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 4] {
        [&self.script, &self.wasm, &self.page, &self.livekit_client].map(Clone::clone)
    }

    fn in_workspace(root: &Path) -> Result<Self> {
        let dir = Self::dir(root);
        let release = workspace::target_directory(root)?.join(tools::WASM_TARGET).join("release");
        Ok(Self {
            script: dir.join("index.js"),
            wasm: dir.join("index_bg.wasm"),
            page: dir.join(ASSETS).join("index.html"),
            livekit_client: dir.join(ASSETS).join("livekit-client.js"),
            compiled: release.join("matrixrtc_edge.wasm"),
            named: release.join("matrixrtc_edge.named.wasm"),
        })
    }

    /// Makes the two deployable modules out of the compiled one, and the page.
    fn bundle(&self, root: &Path, tools: &Tools, bindgen: &Path) -> Result<()> {
        let staging = Self::dir(root).join("staging");
        if staging.exists() {
            fs::remove_dir_all(&staging).with_context(|| format!("can't remove {}", staging.display()))?;
        }
        fs::create_dir_all(&staging).with_context(|| format!("can't create {}", staging.display()))?;
        let [wasm, script] = ["index_bg.wasm", "bundle.js"].map(|name| staging.join(name));
        progress::run(
            "making the worker's JavaScript",
            workspace::command(root, bindgen).arg(&self.compiled).arg(&staging),
            &cache::log("bindgen")?,
        )?;
        fs::write(staging.join("entry.js"), ENTRY)?;
        let page = Page::make(root, tools, &staging)?;
        progress::run(
            "bundling the worker's JavaScript",
            tools.npm_command("esbuild").current_dir(&staging).args(ESBUILD).args(page.defines()),
            &cache::log("esbuild")?,
        )?;
        // The slowest step, which a change of the page or of JavaScript alone doesn't need.
        let (record, made_from) = (Self::dir(root).join(".optimised-from"), optimised_from(&wasm)?);
        let is_fresh = self.named.exists() && fs::read_to_string(&record).is_ok_and(|last| last == made_from);
        if !is_fresh {
            progress::run(
                "optimising the worker",
                tools.npm_command("wasm-opt").args(WASM_OPT).arg(&wasm).arg("-o").arg(&self.named),
                &cache::log("wasm-opt")?,
            )?;
            fs::write(&record, made_from).with_context(|| format!("can't write {}", record.display()))?;
        }
        // workerd's modules know no source phase imports: there, importing the file gives the module.
        let bundled = fs::read_to_string(&script).context("can't read the JavaScript module")?;
        fs::write(&script, bundled.replace("import source ", "import "))
            .context("can't write the JavaScript module")?;
        // Names of functions are a fifth of the module, and a panic's message has file and line without them.
        let stripped = without_names(&fs::read(&self.named).context("can't read the WebAssembly module")?)?;
        fs::write(&wasm, stripped).context("can't write the WebAssembly module")?;
        for (from, to) in [(&script, &self.script), (&wasm, &self.wasm)] {
            fs::rename(from, to).with_context(|| format!("can't write {}", to.display()))?;
        }
        let assets = Self::dir(root).join(ASSETS);
        fs::create_dir_all(&assets).with_context(|| format!("can't create {}", assets.display()))?;
        page.write(&self.page, &self.livekit_client)?;
        fs::remove_dir_all(&staging).with_context(|| format!("can't remove {}", staging.display()))
    }

    fn exists(&self) -> bool {
        self.files().iter().all(|file| file.exists())
    }

    /// Returns a text that changes with the compiler's output, with everything that comes after it, and with the build.
    fn made_from(&self, root: &Path) -> Result<String> {
        let versions = ["Cargo.lock", "package-lock.json"].map(|name| root.join(name));
        let (made, page) = (self.files(), page::sources(root)?);
        let files: Vec<_> = versions.iter().chain([&self.compiled, &self.named]).chain(&made).chain(&page).collect();
        Ok(format!("{}\n{ESBUILD:?}\n{WASM_OPT:?}\n{ENTRY}", cache::fingerprint(&files)?))
    }
}

/// Returns a text that changes with the bundled module at `wasm`, and with how it is optimised.
fn optimised_from(wasm: &Path) -> Result<String> {
    Ok(format!("{}\n{WASM_OPT:?}", cache::fingerprint(&[wasm])?))
}

fn compile(root: &Path) -> Result<()> {
    progress::run(
        "compiling the worker",
        workspace::cargo(root)
            .args(["build", "--lib", "--release", "--target", tools::WASM_TARGET])
            .arg(machine_paths::cargo_option(root, tools::WASM_TARGET)?)
            // Promises come from js-sys, so that wasm-bindgen-futures isn't needed beside it.
            .env("WASM_BINDGEN_USE_JS_SYS", "1"),
        &cache::log("compile")?,
    )
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
const ASSETS: &str = "assets";
const ENTRY: &str = include_str!("entry.js");
const ESBUILD: &[&str] = &[
    "entry.js",
    "--bundle",
    "--format=esm",
    "--minify",
    "--external:./index_bg.wasm",
    "--external:cloudflare:*",
    "--outfile=bundle.js",
];
/// The features are those that rustc and wasm-bindgen use: others might be encoded in ways that workerd doesn't know yet.
const WASM_OPT: &[&str] = &[
    "-O",
    // Functions with similar names have similar code: next to each other they are compressed better.
    "--reorder-functions-by-name",
    "--debuginfo",
    "--enable-bulk-memory",
    "--enable-exception-handling",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

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
