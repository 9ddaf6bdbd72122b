//! The guides name variables that the service, or its executable, reads.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::{fs, path::Path};

use matrixrtc_edge::config::VARIABLES;
use operator::variables::table::TABLE;

#[test]
fn every_variable_of_the_guides_is_one_that_is_read() {
    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides");
    let mut found = 0;
    for entry in fs::read_dir(guides).unwrap() {
        let path = entry.unwrap().path();
        let page = fs::read_to_string(&path).unwrap();
        let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names = words.filter(|word| ["LIVEKIT_", "MATRIXRTC_EDGE_"].iter().any(|start| word.starts_with(start)));
        for name in names {
            let is_read = VARIABLES.contains(&name) || TABLE.iter().any(|variable| variable.name == name);
            assert!(is_read, "{name} in {}", path.display());
            found += 1;
        }
    }
    assert!(found > 50, "{found}");
}
