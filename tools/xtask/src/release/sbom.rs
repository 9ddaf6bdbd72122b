//! Bills of materials, in CycloneDX's JSON: which packages of which versions are in the module and in the executable.
//!
//! - Rust's packages are those that cargo resolves for the target, without dependencies of builds and tests; their hashes
//!   are those of `Cargo.lock`.
//! - The page has LiveKit's client beside it, from npm, with all that is bundled in it. The executable brings workerd
//!   along, too, with the module and the page.
//! - There is no time and no random serial number in it, so that it is the same each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Artefact, VERSION, npm::LockFile};
use crate::{page::LIVEKIT_CLIENT, tools, workspace};

/// Returns the bill of materials of the module.
///
/// # Errors
///
/// cargo fails, or a lock file can't be read.
pub(super) fn of_worker(root: &Path) -> Result<Artefact> {
    let graph = Graph::read(root, tools::WASM_TARGET)?;
    bill(&format!("matrixrtc-edge-worker-{VERSION}"), &graph, "matrixrtc-edge", of_page(&lock_file(root)?)?)
}

/// Returns the bill of materials of the executable for the target, into which the npm package `workerd` is packed.
///
/// # Errors
///
/// cargo fails, or a lock file can't be read.
pub(super) fn of_executable(root: &Path, target: &str, workerd: &str, name: &str) -> Result<Artefact> {
    let graph = Graph::read(root, target)?;
    let lock_file = lock_file(root)?;
    let version = lock_file.version(workerd)?;
    let license = lock_file.package(workerd)?["license"].as_str();
    let mut components = vec![of_npm(workerd, version, license)];
    components.extend(of_page(&lock_file)?);
    bill(name, &graph, "standalone", components)
}

/// Returns the packages that are bundled in what the page loads.
fn of_page(lock_file: &LockFile) -> Result<Vec<Value>> {
    let bundled = lock_file.bundled_in(LIVEKIT_CLIENT)?;
    Ok(bundled
        .iter()
        .map(|(_, name, package)| {
            of_npm(name, package["version"].as_str().unwrap_or_default(), package["license"].as_str())
        })
        .collect())
}

fn of_npm(name: &str, version: &str, license: Option<&str>) -> Value {
    component(&format!("pkg:npm/{}@{version}", name.replace('@', "%40")), name, version, license, None)
}

fn lock_file(root: &Path) -> Result<LockFile> {
    LockFile::parse(&fs::read_to_string(root.join("package-lock.json")).context("can't read package-lock.json")?)
}

fn bill(name: &str, graph: &Graph, package: &str, more: Vec<Value>) -> Result<Artefact> {
    let mut components = graph.needed_by(package)?;
    components.extend(more);
    let content = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": name,
                "name": name,
                "version": VERSION,
                "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
            },
        },
        "components": components,
    });
    Ok(Artefact { name: format!("{name}.cdx.json"), content: (serde_json::to_string_pretty(&content)? + "\n").into() })
}

fn component(purl: &str, name: &str, version: &str, license: Option<&str>, sha256: Option<&str>) -> Value {
    let mut component = json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl });
    if let Some(license) = license {
        // An older way to write OR.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(sha256) = sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    component
}

/// The packages that cargo resolves for a target, with the hashes of the lock file.
struct Graph {
    metadata: Metadata,
    /// By name and version.
    hashes: BTreeMap<(String, String), String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// None for the packages of this repository.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None for what is linked.
    kind: Option<String>,
}

impl Graph {
    fn read(root: &Path, target: &str) -> Result<Self> {
        let output = workspace::cargo(root)
            .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target])
            .stderr(Stdio::inherit())
            .output()
            .context("can't run cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata fails");
        let metadata = serde_json::from_slice(&output.stdout).context("can't read what cargo metadata says")?;
        let lock = fs::read_to_string(root.join("Cargo.lock")).context("can't read Cargo.lock")?;
        Ok(Self { metadata, hashes: hashes(&lock)? })
    }

    /// Returns the packages that are linked with `package`, itself left out, in the order of their names.
    fn needed_by(&self, package: &str) -> Result<Vec<Value>> {
        let of_id: BTreeMap<_, _> = self.metadata.packages.iter().map(|package| (&package.id, package)).collect();
        let nodes: BTreeMap<_, _> = self.metadata.resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let own = self.metadata.packages.iter().find(|it| it.name == package && it.source.is_none());
        let own = &own.with_context(|| format!("there is no package {package}"))?.id;
        let mut found = BTreeSet::new();
        let mut next = vec![own];
        while let Some(id) = next.pop() {
            if found.insert(id) {
                let node = nodes.get(id).with_context(|| format!("cargo doesn't resolve {id}"))?;
                let linked = |it: &&Dependency| it.dep_kinds.iter().any(|kind| kind.kind.is_none());
                next.extend(node.deps.iter().filter(linked).map(|dependency| &dependency.pkg));
            }
        }
        let mut packages: Vec<_> = found.iter().filter(|id| **id != own).filter_map(|id| of_id.get(*id)).collect();
        packages.sort_by_key(|package| (&package.name, &package.version));
        let describe = |package: &&&Package| {
            let Package { name, version, license, .. } = package;
            let hash = self.hashes.get(&(name.clone(), version.clone()));
            let purl = format!("pkg:cargo/{name}@{version}");
            component(&purl, name, version, license.as_deref(), hash.map(String::as_str))
        };
        Ok(packages.iter().map(describe).collect())
    }
}

/// Returns the hashes in `Cargo.lock`.
fn hashes(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let lock: Lock = toml::from_str(lock).context("can't parse Cargo.lock")?;
    Ok(lock.package.into_iter().filter_map(|it| Some(((it.name, it.version), it.checksum?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_lists_what_is_linked_with_its_hashes() {
        let root = workspace::root().unwrap();

        let bill = of_worker(&root).unwrap();

        let bill: Value = serde_json::from_slice(&bill.content).unwrap();
        let components = bill["components"].as_array().unwrap();
        let find = |name: &str| components.iter().find(|component| component["name"] == name);
        let worker = find("worker").unwrap();
        assert_eq!(worker["purl"], format!("pkg:cargo/worker@{}", workspace::locked_version(&root, "worker").unwrap()));
        assert_eq!(worker["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(find("livekit-client").unwrap()["licenses"][0]["expression"], "Apache-2.0");
        assert!(find("webrtc-adapter").is_some() && find("@types/dom-mediacapture-record").is_none());
        assert!(find("delegated-leaves").is_some() && find("matrixrtc-edge").is_none());
        // For tests, for builds, and for another target.
        for absent in ["proptest", "cc", "rustix"] {
            assert!(find(absent).is_none(), "{absent}");
        }
        let serials: BTreeSet<_> = components.iter().map(|component| component["bom-ref"].as_str()).collect();
        assert_eq!(serials.len(), components.len());
        assert!(bill.get("serialNumber").is_none() && bill["metadata"].get("timestamp").is_none());
    }
}
