//! The version of the tables in the state directory, by which an earlier executable recognises those of a later one.
//!
//! How it works:
//! - each start writes it to `version.json`, together with the release that it is;
//! - an executable whose tables are of an earlier version ends before anything is changed, unless nothing is stored;
//! - the objects compare the version once more, each in its own database: the file may be lost, or left out of a backup.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use delegated_leaves::SCHEMA_VERSION;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::objects;

/// The state directory has tables of a later version.
#[derive(Debug, Error)]
#[error(
    "the state directory {dir} was last used by matrixrtc-edge {release}, and this is {OWN}, which can't read its tables \
     (version {tables}; this one reads {SCHEMA_VERSION}): install {release} or newer again, which carries on the delegated \
     leaves. Nothing has been changed. With another --state this one starts, but looks after none of them"
)]
pub struct NewerState {
    dir: String,
    release: String,
    tables: usize,
}

/// Content of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    tables: usize,
    release: String,
}

/// Notes in the state directory that this version uses it. Needs the lock on it.
///
/// # Errors
///
/// A later version has stored something there ([`NewerState`]), or the directory can't be read or written.
pub(crate) fn claim(dir: &Path) -> Result<()> {
    let path = dir.join(FILE);
    let own = Written { tables: SCHEMA_VERSION, release: OWN.to_owned() };
    // A file that can't be read says nothing; the objects know better.
    let last: Option<Written> = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    match last {
        Some(last) if last == own => return Ok(()),
        Some(last) if last.tables > SCHEMA_VERSION && objects::hold_anything(&dir.join(objects::DIR))? => {
            let Written { tables, release } = last;
            return Err(NewerState { dir: dir.display().to_string(), release, tables }.into());
        }
        _ => {}
    }
    write(&path, &own).with_context(|| format!("can't write {}", path.display()))
}

/// Replaces the file as a whole: half a line would be no version.
fn write(path: &Path, written: &Written) -> Result<()> {
    let new: PathBuf = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(format!("{}\n", serde_json::to_string(written)?).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    Ok(())
}

/// Name of the file.
pub(crate) const FILE: &str = "version.json";
const OWN: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_leaves_its_version_and_the_next_one_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(text, format!("{{\"tables\":{SCHEMA_VERSION},\"release\":\"{OWN}\"}}\n"));
        claim(dir.path()).unwrap();
    }

    #[test]
    fn a_later_version_s_state_is_refused_once_it_holds_something() {
        let dir = tempfile::tempdir().unwrap();
        let later = format!("{{\"tables\":{},\"release\":\"9.8.7\",\"more\":1}}", SCHEMA_VERSION + 1);
        let (file, rooms) = (dir.path().join(FILE), dir.path().join(objects::DIR));
        fs::create_dir_all(&rooms).unwrap();
        fs::write(&file, &later).unwrap();
        fs::write(rooms.join("a.sqlite"), "tables").unwrap();

        let error = claim(dir.path()).unwrap_err();

        let text = error.downcast_ref::<NewerState>().unwrap().to_string();
        assert!(text.contains("install 9.8.7 or newer") && text.contains(dir.path().to_str().unwrap()), "{text}");
        assert_eq!(fs::read_to_string(&file).unwrap(), later);

        fs::remove_file(rooms.join("a.sqlite")).unwrap();
        claim(dir.path()).unwrap();
        assert_ne!(fs::read_to_string(&file).unwrap(), later);
    }

    #[test]
    fn a_file_that_says_nothing_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "").unwrap();
        claim(dir.path()).unwrap();
        assert!(fs::read_to_string(dir.path().join(FILE)).unwrap().contains(OWN));
    }
}
