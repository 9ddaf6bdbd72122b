//! A folder as an archive, whose bytes depend on names, modes and contents alone.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
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
    mode: u32,
    content: Vec<u8>,
}

impl Folder {
    /// Adds a file that its owner writes, and everyone reads.
    pub(super) fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(path, 0o644, content.into())
    }

    fn with(mut self, path: &str, mode: u32, content: Vec<u8>) -> Self {
        self.files.insert(path.to_owned(), File { mode, content });
        self
    }

    /// Returns the folder as a compressed archive, in which it has the given name.
    ///
    /// # Errors
    ///
    /// A path is too long for an archive.
    pub(super) fn tar_gz(&self, name: &str) -> Result<Vec<u8>> {
        let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        let gzip = self.tar(&format!("{name}/"), gzip)?;
        gzip.finish().context("can't compress the archive")
    }

    /// Writes the archive, with `prefix` before each path, and a directory before the first file in it.
    fn tar<W: Write>(&self, prefix: &str, to: W) -> Result<W> {
        let mut archive = Builder::new(to);
        let mut directories = Vec::new();
        for (path, file) in &self.files {
            let path = format!("{prefix}{path}");
            for (end, _) in path.match_indices('/') {
                let directory = &path[..=end];
                if !directories.iter().any(|known| known == directory) {
                    append(&mut archive, directory, EntryType::Directory, 0o755, &[])?;
                    directories.push(directory.to_owned());
                }
            }
            append(&mut archive, &path, EntryType::Regular, file.mode, &file.content)?;
        }
        archive.into_inner().context("can't end the archive")
    }
}

fn append<W: Write>(archive: &mut Builder<W>, path: &str, kind: EntryType, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MODIFIED_AT_S);
    header.set_size(u64::try_from(content.len())?);
    archive.append_data(&mut header, path, content.take(u64::MAX)).with_context(|| format!("can't archive {path}"))
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
