//! Imports between the modules of the engine and of its simulation have no circles.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn no_module_imports_itself_by_way_of_others() {
    for crate_dir in ["src", "simulation/src"] {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(crate_dir);
        let files: BTreeMap<String, PathBuf> =
            files_in(&src).into_iter().map(|file| (module(&src, &file), file)).collect();
        let mut imports: BTreeMap<&String, BTreeSet<&String>> =
            files.iter().map(|(name, file)| (name, imports_of(file, &files))).collect();
        // Modules that import nothing that is left are no part of a circle.
        while let Some(leaf) = imports.iter().find(|(_, imports)| imports.is_empty()).map(|(name, _)| *name) {
            imports.remove(leaf);
            imports.values_mut().for_each(|imports| imports.retain(|import| *import != leaf));
        }
        assert!(imports.is_empty(), "{crate_dir}: {imports:#?}");
    }
}

/// The modules whose items a file imports, its tests aside.
fn imports_of<'a>(file: &Path, files: &'a BTreeMap<String, PathBuf>) -> BTreeSet<&'a String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = lines.flat_map(|line| line.split("crate::").skip(1));
    let names = |path: &str, module: &str| {
        path.strip_prefix(module)
            .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
    };
    paths.filter_map(|path| files.keys().rfind(|module| names(path, module))).collect()
}

fn module(src: &Path, file: &Path) -> String {
    let path = file.strip_prefix(src).unwrap().with_extension("");
    let path = if path.ends_with("mod") { path.parent().unwrap() } else { &path };
    path.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("::")
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}
