//! A folder as an archive, whose bytes depend on names, modes and contents alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// Files by their paths, which are relative and have `/` between their parts.
#[derive(Debug, Default)]
pub(super) struct Folder {
    files: BTreeMap<String, File>,
}

#[derive(Debug)]
struct File {
    kind: EntryType,
    mode: u32,
    /// Owner and group.
    owner: u64,
    content: Vec<u8>,
}

impl Folder {
    /// Adds a file that its owner writes, and everyone reads.
    pub(super) fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(path, File { kind: EntryType::Regular, mode: 0o644, owner: 0, content: content.into() })
    }

    /// Adds a program.
    pub(super) fn program(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(path, File { kind: EntryType::Regular, mode: 0o755, owner: 0, content: content.into() })
    }

    /// Adds a directory of `owner` alone.
    pub(super) fn private_directory(self, path: &str, owner: u64) -> Self {
        self.with(&format!("{path}/"), File { kind: EntryType::Directory, mode: 0o700, owner, content: Vec::new() })
    }

    fn with(mut self, path: &str, file: File) -> Self {
        self.files.insert(path.to_owned(), file);
        self
    }

    /// Returns the folder as a compressed archive, in which it has the given name.
    ///
    /// # Errors
    ///
    /// A path is too long for an archive.
    pub(super) fn tar_gz(&self, name: &str) -> Result<Vec<u8>> {
        gzip(&self.tar(&format!("{name}/"))?)
    }

    /// Returns the archive, with `prefix` before each path, and each directory before the first file in it.
    ///
    /// # Errors
    ///
    /// A path is too long for an archive.
    pub(super) fn tar(&self, prefix: &str) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        let mut directories = BTreeSet::new();
        for (path, file) in &self.files {
            let path = format!("{prefix}{path}");
            let inside = path.trim_end_matches('/');
            for (end, _) in inside.match_indices('/') {
                let directory = path.get(..=end).unwrap_or_default();
                if directories.insert(directory.to_owned()) {
                    let whole = File { kind: EntryType::Directory, mode: 0o755, owner: 0, content: Vec::new() };
                    whole.append(&mut archive, directory)?;
                }
            }
            file.append(&mut archive, &path)?;
        }
        archive.into_inner().context("can't end the archive")
    }
}

impl File {
    fn append(&self, archive: &mut Builder<Vec<u8>>, path: &str) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner);
        header.set_gid(self.owner);
        header.set_mtime(MODIFIED_AT_S);
        header.set_size(u64::try_from(self.content.len())?);
        archive.append_data(&mut header, path, self.content.as_slice()).with_context(|| format!("can't archive {path}"))
    }
}

/// Compresses `content`.
///
/// # Errors
///
/// There is no reason for one.
pub(super) fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(content)?;
    gzip.finish().context("can't compress the archive")
}

/// 1 January 2026. Some programs take the beginning of Unix's time for a mistake.
const MODIFIED_AT_S: u64 = 1_767_225_600;

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn an_archive_depends_on_its_files_only() {
        let one = Folder::default().file("b/c", "2").file("a", "1").tar_gz("top").unwrap();
        let other = Folder::default().file("a", "1").file("b/c", "2").tar_gz("top").unwrap();

        assert_eq!(one, other);
        let mut archive = tar::Archive::new(GzDecoder::new(one.as_slice()));
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
            assert_eq!(owner, (0, 0, MODIFIED_AT_S));
            (entry.path().unwrap().to_str().unwrap().to_owned(), header.mode().unwrap())
        });
        let expected = [("top/", 0o755), ("top/a", 0o644), ("top/b/", 0o755), ("top/b/c", 0o644)];
        assert_eq!(entries.collect::<Vec<_>>(), expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
