//! The archive of the worker: all that a deployment on Cloudflare needs, with Node.js alone.
//!
//! - Modules and `wrangler.toml` are the repository's, without the step that makes the one out of sources.
//! - `package.json` pins wrangler, with the part of the repository's lock file that wrangler needs.
//! - `.dev.vars.example` and the descriptions in `package.json` are the variables of `wrangler.toml`'s comment, which a test
//!   compares with the worker's own table. Cloudflare's deploy button asks for each that isn't commented out.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use toml::Table;

use super::{
    Artefact, VERSION,
    folder::Folder,
    npm::LockFile,
    variables::{Variable, example, variables},
};
use crate::build::Build;

/// Returns the archive of the worker in the repository at `root`.
///
/// # Errors
///
/// A file of the repository can't be read, or isn't as expected.
pub fn archive(root: &Path, build: &Build) -> Result<Artefact> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
    let wrangler = read(&root.join("wrangler.toml"))?;
    let variables = variables(&wrangler)?;
    let package =
        Package::new(&read(&root.join("package.json"))?, &read(&root.join("package-lock.json"))?, &variables)?;
    let name = format!("matrixrtc-edge-worker-{VERSION}");
    let wasm = fs::read(&build.wasm).with_context(|| format!("can't read {}", build.wasm.display()))?;
    let content = Folder::default()
        .file("build/index.js", read(&build.script)?)
        .file("build/index_bg.wasm", wasm)
        .file("build/assets/index.html", read(&build.page)?)
        .file("build/assets/livekit-client.js", read(&build.livekit_client)?)
        .file("wrangler.toml", without_build(&wrangler)?)
        .file("package.json", package.manifest)
        .file("package-lock.json", package.lock_file)
        .file(".dev.vars.example", example(EXAMPLE, &variables))
        .file(".gitignore", GITIGNORE)
        .file("README.md", README)
        .file("LICENSE", read(&root.join("LICENSE"))?)
        .tar_gz(&name)?;
    Ok(Artefact { name: format!("{name}.tar.gz"), content })
}

/// Returns the text of `wrangler.toml` without its table `[build]`.
fn without_build(wrangler: &str) -> Result<String> {
    let mut kept = String::new();
    let mut in_build = false;
    for line in wrangler.lines() {
        if line == "[build]" {
            in_build = true;
        }
        if !in_build {
            kept.push_str(line);
            kept.push('\n');
        }
        // The comment of the next table follows an empty line.
        in_build &= !line.is_empty();
    }
    let (mut whole, rest): (Table, Table) = (wrangler.parse()?, kept.parse()?);
    whole.remove("build").context("wrangler.toml has no build step")?;
    ensure!(whole == rest, "the build step can't be taken out of wrangler.toml: is there no empty line after it?");
    Ok(kept)
}

/// npm's two files.
struct Package {
    manifest: String,
    lock_file: String,
}

impl Package {
    fn new(manifest: &str, lock_file: &str, variables: &[Variable<'_>]) -> Result<Self> {
        let repository: Value = serde_json::from_str(manifest).context("package.json isn't JSON")?;
        let lock_file = LockFile::parse(lock_file)?;
        let mut packages = lock_file.needed_by(WRANGLER)?;
        let may_run_scripts = |name: &String| packages.contains_key(&format!("node_modules/{name}"));
        let scripts = repository["allowScripts"].as_object().context("package.json has no allowScripts")?;
        let scripts: Map<_, _> =
            scripts.iter().filter(|(name, _)| may_run_scripts(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let describe = |variable: &Variable<'_>| (variable.name.to_owned(), json!({ "description": variable.help }));
        let (name, license) = (&repository["name"], &repository["license"]);
        let dependencies = json!({ WRANGLER: lock_file.version(WRANGLER)? });
        let manifest = json!({
            "name": name,
            "version": VERSION,
            "private": true,
            "description": "MatrixRTC authorization service for LiveKit, as a Cloudflare Worker",
            "license": license,
            "engines": { "node": packages[&format!("node_modules/{WRANGLER}")]["engines"]["node"] },
            "scripts": { "dev": "wrangler dev", "deploy": "wrangler deploy" },
            "devDependencies": dependencies,
            "allowScripts": scripts,
            "cloudflare": { "bindings": variables.iter().map(describe).collect::<Map<_, _>>() },
        });
        let root = json!({
            "name": name,
            "version": VERSION,
            "license": license,
            "devDependencies": dependencies,
            "engines": manifest["engines"],
        });
        packages.insert(String::new(), root);
        let lock_file =
            json!({ "name": name, "version": VERSION, "lockfileVersion": 3, "requires": true, "packages": packages });
        Ok(Self { manifest: pretty(&manifest)?, lock_file: pretty(&lock_file)? })
    }
}

fn pretty(json: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(json)? + "\n")
}

const WRANGLER: &str = "wrangler";
const README: &str = include_str!("README.md");
const EXAMPLE: &str = "\
# Configuration of the worker under `npm run dev`: copy this file to .dev.vars, and fill it in. Deployed, the variables are
# in [vars] of wrangler.toml, and those that are secrets come with `npm run deploy -- --secrets-file secrets.production.json`.
";
const GITIGNORE: &str = "\
node_modules/
/.wrangler/
.dev.vars
livekit-fragment.yaml
matrixrtc-registration.yaml
secrets.production.json
secrets.production.json.new
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn repository(file: &str) -> String {
        fs::read_to_string(workspace::root().unwrap().join(file)).unwrap()
    }

    #[test]
    fn the_configuration_differs_in_the_build_step_only() {
        let whole = repository("wrangler.toml");

        let without = without_build(&whole).unwrap();

        let removed: Vec<_> = whole.lines().filter(|line| !without.lines().any(|kept| kept == *line)).collect();
        assert_eq!(removed.first(), Some(&"[build]"));
        assert!(removed.iter().all(|line| !line.starts_with('#')), "{removed:?}");
        let (mut whole, without): (Table, Table) = (whole.parse().unwrap(), without.parse().unwrap());
        assert!(whole.remove("build").is_some());
        assert_eq!(without, whole);
    }

    #[test]
    fn a_build_step_that_cannot_be_taken_out_is_an_error() {
        for text in ["main = \"a\"\n", "[build]\ncommand = \"a\"\n[placement]\nmode = \"smart\"\n"] {
            assert!(without_build(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wrangler_is_of_the_version_of_the_repository() {
        let (manifest, lock_file) = (repository("package.json"), repository("package-lock.json"));
        let package = Package::new(&manifest, &lock_file, &[]).unwrap();

        let (made, own): (Value, Value) =
            (serde_json::from_str(&package.manifest).unwrap(), serde_json::from_str(&manifest).unwrap());

        assert_eq!(made["devDependencies"], json!({ WRANGLER: own["devDependencies"][WRANGLER] }));
        assert!(!package.lock_file.contains("node_modules/binaryen\""));
    }
}
