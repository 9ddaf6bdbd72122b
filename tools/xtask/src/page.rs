//! The page for people, which the worker sends to browsers: one file of HTML, and LiveKit's client beside it.
//!
//! - `page/` has its sources. esbuild bundles and minifies script and style, which are put into `index.html`.
//! - `livekit-client.js` is the bundle of the npm package, behind the licences of all that is in it.
//! - Both scripts and the style are allowed by their hashes in the page's Content-Security-Policy, which the worker sends:
//!   [`Page::defines`] puts the hashes into its JavaScript.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use crate::{cache, progress, release::npm::LockFile, tools::Tools};

/// The page's two files.
#[derive(Debug)]
pub(crate) struct Page {
    /// `index.html`.
    html: String,
    /// `livekit-client.js`.
    livekit_client: String,
    script_hash: String,
    style_hash: String,
}

impl Page {
    /// Makes both files, with `staging` for what esbuild writes.
    pub(crate) fn make(root: &Path, tools: &Tools, staging: &Path) -> Result<Self> {
        let lock_file = read(&root.join("package-lock.json"))?;
        let lock_file = LockFile::parse(&lock_file)?;
        let version = lock_file.version(LIVEKIT_CLIENT)?;
        progress::run(
            "bundling the page",
            tools
                .npm_command("esbuild")
                .current_dir(root.join(SOURCES))
                .args(["main.js", "style.css"])
                .args(ESBUILD)
                .arg(format!("--define:LIVEKIT_CLIENT_VERSION=\"{version}\""))
                .arg(format!("--outdir={}", staging.display())),
            &cache::log("esbuild-page")?,
        )?;
        let [script, style] = ["main.js", "style.css"].map(|name| read(&staging.join(name)));
        let (script, style) = (script?.trim().to_owned(), style?.trim().to_owned());
        ensure!(!script.contains("</") && !style.contains("</"), "the page's script or style would end too early");
        let mut html = read(&root.join(SOURCES).join("index.html"))?;
        for (place, content) in [("%STYLE%", &style), ("%SCRIPT%", &script)] {
            ensure!(html.matches(place).count() == 1, "page/index.html has no {place}, or two");
            html = html.replace(place, content);
        }
        Ok(Self {
            html,
            livekit_client: livekit_client(root, &lock_file)?,
            script_hash: source(&script),
            style_hash: source(&style),
        })
    }

    /// Returns esbuild's arguments that put the hashes into the worker's JavaScript.
    pub(crate) fn defines(&self) -> [String; 2] {
        let scripts = format!("{} {}", self.script_hash, source(&self.livekit_client));
        [("PAGE_SCRIPTS", scripts), ("PAGE_STYLES", self.style_hash.clone())]
            .map(|(name, value)| format!("--define:{name}=\"{value}\""))
    }

    /// Writes the files to `html` and `livekit_client`.
    pub(crate) fn write(&self, html: &Path, livekit_client: &Path) -> Result<()> {
        for (path, content) in [(html, &self.html), (livekit_client, &self.livekit_client)] {
            fs::write(path, content).with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Returns the page's sources.
pub(crate) fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let dir = root.join(SOURCES);
    let entries = fs::read_dir(&dir).with_context(|| format!("can't read {}", dir.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// Returns LiveKit's client, behind the licences of the packages that are bundled in it.
fn livekit_client(root: &Path, lock_file: &LockFile) -> Result<String> {
    let bundle = read(&root.join("node_modules").join(LIVEKIT_CLIENT).join("dist/livekit-client.umd.js"))?;
    // Its source map isn't served.
    let bundle = bundle.split("//# sourceMappingURL=").next().unwrap_or_default();
    let mut licences = String::new();
    for (path, name, package) in lock_file.bundled_in(LIVEKIT_CLIENT)? {
        let [version, license] = ["version", "license"].map(|field| package[field].as_str().unwrap_or("unknown"));
        licences.push_str(&format!("\n{name} {version}, {license}\n"));
        licences.push_str(&licence_text(&root.join(&path))?);
    }
    ensure!(!licences.contains("*/"), "a licence would end the comment");
    Ok(format!("/*! LiveKit's client, unchanged, and what is bundled in it:\n{licences}*/\n{}\n", bundle.trim()))
}

/// Returns the licence in a package's directory, where it has one.
fn licence_text(package: &Path) -> Result<String> {
    let entries = fs::read_dir(package).with_context(|| format!("can't read {}", package.display()))?;
    let mut texts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        if path.is_file() && (name.starts_with("licen") || name.starts_with("notice")) {
            texts.push(read(&path)?);
        }
    }
    texts.sort();
    Ok(texts.concat())
}

/// Returns the source expression that allows this inline script or style.
fn source(content: &str) -> String {
    format!("'sha256-{}'", Base64::encode_string(&Sha256::digest(content)))
}

fn read(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.replace("\r\n", "\n")),
        Err(error) => bail!("can't read {}: {error}", path.display()),
    }
}

const SOURCES: &str = "page";
pub(crate) const LIVEKIT_CLIENT: &str = "livekit-client";
/// The browsers that Element Call runs in.
const ESBUILD: &[&str] =
    &["--bundle", "--minify", "--format=iife", "--target=chrome109,firefox115,safari16", "--charset=utf8"];
