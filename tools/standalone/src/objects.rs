//! The files of the Durable Objects, swept before workerd has them.
//!
//! How it works:
//! - workerd makes a database of one page for each object that is called, even if the object stores nothing: the SFU's
//!   webhooks for rooms without delegations leave one for each room;
//! - the objects can't avoid that, since they have to read in order to know; so it is done between two runs;
//! - a database without a single table is removed, together with its write-ahead log, unless that holds something.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Removes the databases in `dir` that hold nothing, and returns their number. Needs the lock on the state directory.
///
/// # Errors
///
/// The directory can't be read, or a file can't be removed.
pub fn sweep(dir: &Path) -> Result<usize> {
    let mut removed = 0;
    for path in databases(dir)? {
        if !holds_nothing(&path)? {
            continue;
        }
        let beside = |suffix: &str| path.with_extension(format!("sqlite-{suffix}"));
        // The database goes last: without it, nothing says that the other files can go.
        for file in [beside("wal"), beside("shm"), path.clone()] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.with_context(|| format!("can't remove {}", file.display()))?,
            }
        }
        removed += 1;
    }
    Ok(removed)
}

/// Returns whether there is a database in `dir` that holds something, or may.
///
/// # Errors
///
/// The directory, or a file in it, can't be read.
pub fn hold_anything(dir: &Path) -> Result<bool> {
    for path in databases(dir)? {
        if !holds_nothing(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the databases of the objects in `dir`, without workerd's own.
fn databases(dir: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("can't read {}", dir.display());
    let mut databases = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(databases),
        entries => entries.with_context(unreadable)?,
    };
    for entry in entries {
        let path = entry.with_context(unreadable)?.path();
        let is_database = path.extension().is_some_and(|suffix| suffix == "sqlite");
        if is_database && path.file_stem().is_none_or(|stem| stem != METADATA) {
            databases.push(path);
        }
    }
    Ok(databases)
}

fn holds_nothing(path: &Path) -> Result<bool> {
    let log_is_empty = fs::metadata(path.with_extension("sqlite-wal")).map_or(true, |log| log.len() == 0);
    Ok(log_is_empty && is_without_tables(path)?)
}

/// Returns whether a database is one page whose table of tables is empty
/// ([SQLite, "Database File Format"](https://www.sqlite.org/fileformat2.html)).
fn is_without_tables(path: &Path) -> Result<bool> {
    let mut head = [0; 108];
    let mut file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    if file.read_exact(&mut head).is_err() {
        // SQLite makes a database out of an empty file as well.
        return Ok(file.metadata().is_ok_and(|file| file.len() == 0));
    }
    let pages = u32::from_be_bytes([head[28], head[29], head[30], head[31]]);
    let (page_type, cells) = (head[100], u16::from_be_bytes([head[103], head[104]]));
    Ok(head.starts_with(MAGIC) && pages == 1 && page_type == LEAF_OF_TABLE && cells == 0)
}

/// Directory of the databases in the state directory.
pub(crate) const DIR: &str = "objects/ROOMS";
const METADATA: &str = "metadata";
const MAGIC: &[u8] = b"SQLite format 3\0";
const LEAF_OF_TABLE: u8 = 0x0d;

#[cfg(test)]
mod tests {
    use super::*;

    fn database(cells: u8, pages: u8) -> Vec<u8> {
        let mut page = vec![0; 4096];
        page[..16].copy_from_slice(MAGIC);
        page[31] = pages;
        page[100] = LEAF_OF_TABLE;
        page[104] = cells;
        page
    }

    #[test]
    fn databases_without_tables_are_removed_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(dir.path().join(name), content).unwrap();
        write("a.sqlite", &database(0, 1));
        write("a.sqlite-wal", b"");
        write("a.sqlite-shm", &[0; 32]);
        write("b.sqlite", &database(1, 1));
        write("c.sqlite", &database(0, 2));
        write("d.sqlite", &database(0, 1));
        write("d.sqlite-wal", b"frames");
        write("e.sqlite", b"");
        write("f.sqlite", b"SQLite format 3\0 and no more");
        write("g.sqlite", &[0; 4096]);
        write("metadata.sqlite", &database(0, 1));

        assert!(hold_anything(dir.path()).unwrap());
        assert_eq!(sweep(dir.path()).unwrap(), 2);

        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let stay = ["b.sqlite", "c.sqlite", "d.sqlite", "d.sqlite-wal", "f.sqlite", "g.sqlite", "metadata.sqlite"];
        assert_eq!(left, stay);
        assert_eq!(sweep(&dir.path().join("missing")).unwrap(), 0);
    }

    #[test]
    fn databases_without_tables_hold_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!hold_anything(&dir.path().join("missing")).unwrap());
        fs::write(dir.path().join("a.sqlite"), database(0, 1)).unwrap();
        fs::write(dir.path().join("metadata.sqlite"), database(9, 9)).unwrap();
        assert!(!hold_anything(dir.path()).unwrap());
    }
}
