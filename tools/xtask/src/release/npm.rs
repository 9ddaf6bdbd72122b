//! The part of a lock file of npm's that one of its packages needs.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The packages of a `package-lock.json`, by the paths where npm puts them.
pub(crate) struct LockFile {
    packages: Map<String, Value>,
}

impl LockFile {
    /// Reads a lock file of version 3.
    ///
    /// # Errors
    ///
    /// It isn't one.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut file: Map<String, Value> = serde_json::from_str(text).context("the lock file isn't JSON")?;
        match (file.get("lockfileVersion").and_then(Value::as_u64), file.remove("packages")) {
            (Some(3), Some(Value::Object(packages))) => Ok(Self { packages }),
            _ => bail!("the lock file isn't one of version 3"),
        }
    }

    /// Returns the version of a package that the project itself depends on.
    ///
    /// # Errors
    ///
    /// It doesn't.
    pub(crate) fn version(&self, name: &str) -> Result<&str> {
        self.package(name)?["version"].as_str().with_context(|| format!("{name} has no version in the lock file"))
    }

    /// Returns what the lock file says of a package that lies in the outermost `node_modules`.
    ///
    /// # Errors
    ///
    /// It isn't there.
    pub(crate) fn package(&self, name: &str) -> Result<&Value> {
        self.packages.get(&format!("{MODULES}{name}")).with_context(|| format!("{name} is not in the lock file"))
    }

    /// Returns the packages that `name` needs, itself among them, on any platform.
    ///
    /// # Errors
    ///
    /// One of them isn't in the file.
    pub(crate) fn needed_by(&self, name: &str) -> Result<Map<String, Value>> {
        let mut found = BTreeSet::new();
        let mut next = vec![format!("{MODULES}{name}")];
        while let Some(path) = next.pop() {
            let package = self.packages.get(&path).with_context(|| format!("{path} is not in the lock file"))?;
            for kind in ["dependencies", "optionalDependencies", "peerDependencies"] {
                let Some(dependencies) = package.get(kind).and_then(Value::as_object) else { continue };
                for dependency in dependencies.keys() {
                    let optional = &package["peerDependenciesMeta"][dependency]["optional"];
                    if kind == "peerDependencies" && optional.as_bool() == Some(true) {
                        continue;
                    }
                    match self.resolve(&path, dependency) {
                        Some(path) => next.push(path),
                        None if kind == "optionalDependencies" => {}
                        None => bail!("{dependency}, which {path} needs, is not in the lock file"),
                    }
                }
            }
            if !found.insert(path) {
                continue;
            }
            next.retain(|path| !found.contains(path));
        }
        Ok(self
            .packages
            .iter()
            .filter(|(path, _)| found.contains(*path))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }

    /// Returns the packages whose code is in a bundle of `name`, itself among them, on any platform: the path of each, its
    /// name, and what the lock file says of it.
    ///
    /// # Errors
    ///
    /// One of them isn't in the file.
    pub(crate) fn bundled_in(&self, name: &str) -> Result<Vec<(String, String, Value)>> {
        let needed = self.needed_by(name)?.into_iter();
        let named = needed.map(|(path, package)| {
            let name = path.rsplit_once(MODULES).map_or(path.as_str(), |(_, name)| name).to_owned();
            (path, name, package)
        });
        // Types have no code.
        Ok(named.filter(|(_, name, _)| !name.starts_with("@types/")).collect())
    }

    /// Returns the path of the package that the one at `from` gets under the name `dependency`: as Node looks for it.
    fn resolve(&self, from: &str, dependency: &str) -> Option<String> {
        let mut folder = format!("{from}/");
        loop {
            let path = format!("{folder}{MODULES}{dependency}");
            if self.packages.contains_key(&path) {
                return Some(path);
            }
            let outer = folder.rfind(MODULES)?;
            folder.truncate(outer);
        }
    }
}

const MODULES: &str = "node_modules/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_brings_what_it_needs_and_nothing_else() {
        let file = LockFile::parse(
            r#"{"lockfileVersion": 3, "packages": {
                "": {"devDependencies": {"a": "1", "unneeded": "1"}},
                "node_modules/a": {"version": "1", "dependencies": {"b": "2"}, "optionalDependencies": {"mac": "1", "gone": "1"},
                    "peerDependencies": {"unneeded": "1"}, "peerDependenciesMeta": {"unneeded": {"optional": true}}},
                "node_modules/a/node_modules/b": {"version": "2", "dependencies": {"@s/c": "1", "a": "1"}},
                "node_modules/b": {"version": "1"},
                "node_modules/@s/c": {"version": "1"},
                "node_modules/mac": {"version": "1", "optional": true},
                "node_modules/unneeded": {"version": "1"}
            }}"#,
        )
        .unwrap();

        let needed = file.needed_by("a").unwrap();

        let paths: Vec<_> = needed.keys().map(String::as_str).collect();
        let expected = ["node_modules/@s/c", "node_modules/a", "node_modules/a/node_modules/b", "node_modules/mac"];
        assert_eq!(BTreeSet::from_iter(paths), BTreeSet::from(expected));
        assert_eq!(file.version("b").unwrap(), "1");
    }
}
