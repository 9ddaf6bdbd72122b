//! Files inside an executable: how workerd and the worker come along in `matrixrtc-edge`.
//!
//! ```text
//! the program itself │ gzip of each file │ index, in JSON │ its SHA-256 │ its length, 8 bytes, little-endian │ MAGIC
//! ```
//!
//! - `cargo xtask package` appends the files with the program `pack`. The operating system ignores what follows an
//!   executable's own contents.
//! - The executable opens itself, and reads from its end backwards: trailer, index, then the files.
//! - Each file is unpacked to disk rather than into memory: the 160 MB of a program that lies in a file are read as they
//!   are needed, and given back when memory is short.
//! - A file that is on disk already, with the right content, is left alone: a start that isn't the first writes nothing.
//! - Hashes in the index find damage; they are no protection against an attacker who may write the executable.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// The files inside an executable.
#[derive(Debug)]
pub struct Payload {
    executable: File,
    starts_at: u64,
    files: Vec<Packed>,
}

/// A file inside an executable.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    name: String,
    compressed_size: u64,
    size: u64,
    /// Of the content, in hexadecimal.
    sha256: String,
}

impl Payload {
    /// Makes the executable `to` out of one without a payload, and `files`, which keep their names.
    ///
    /// # Errors
    ///
    /// A file can't be read or has no name, or `to` can't be written.
    pub fn append(executable: &Path, files: &[impl AsRef<Path>], to: &Path) -> Result<()> {
        let mut out = BufWriter::new(new_file_beside(to)?);
        io::copy(&mut open(executable)?, &mut out)?;
        let mut packed = Vec::new();
        for file in files.iter().map(AsRef::as_ref) {
            let name = file.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| format!("{} has no name to pack it under", file.display()))?;
            packed.push(Packed::write(name, &mut open(file)?, &mut out)?);
        }
        let index = serde_json::to_vec(&packed)?;
        out.write_all(&index)?;
        out.write_all(&Sha256::digest(&index))?;
        out.write_all(&u64::try_from(index.len())?.to_le_bytes())?;
        out.write_all(MAGIC)?;
        let out = out.into_inner().context("can't write the executable")?;
        put_in_place(out, to, EXECUTABLE)
    }

    /// Opens the payload of `executable`.
    ///
    /// # Errors
    ///
    /// It has none, or a damaged one.
    pub fn open(executable: &Path) -> Result<Self> {
        let mut file = open(executable)?;
        let end = file.seek(SeekFrom::End(0))?;
        let Some(trailer) = end.checked_sub(TRAILER_LENGTH) else {
            bail!("{} has nothing packed into it", executable.display());
        };
        file.seek(SeekFrom::Start(trailer))?;
        let (mut sha256, mut length, mut magic) = ([0; 32], [0; 8], [0; MAGIC.len()]);
        file.read_exact(&mut sha256)?;
        file.read_exact(&mut length)?;
        file.read_exact(&mut magic)?;
        ensure!(&magic == MAGIC, "{} has nothing packed into it: was it stripped?", executable.display());
        let damaged = || format!("{} is damaged", executable.display());
        let length = u64::from_le_bytes(length);
        let index_at = trailer.checked_sub(length).with_context(damaged)?;
        file.seek(SeekFrom::Start(index_at))?;
        let mut index = Vec::new();
        (&file).take(length).read_to_end(&mut index)?;
        ensure!(Sha256::digest(&index).as_slice() == sha256, damaged());
        let files: Vec<Packed> = serde_json::from_slice(&index).with_context(damaged)?;
        let packed = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.compressed_size));
        let starts_at = packed.and_then(|packed| index_at.checked_sub(packed)).with_context(damaged)?;
        Ok(Self { executable: file, starts_at, files })
    }

    /// Makes `dir` hold the files exactly as they were packed, and nothing else.
    ///
    /// The caller keeps other processes from doing so at the same time. A file that is replaced may be in use.
    ///
    /// # Errors
    ///
    /// `dir` can't be written, or the executable is damaged.
    pub fn unpack(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("can't create {}", dir.display()))?;
        let mut position = self.starts_at;
        for file in &self.files {
            let path = dir.join(&file.name);
            if !file.is_at(&path) {
                (&self.executable).seek(SeekFrom::Start(position))?;
                file.unpack((&self.executable).take(file.compressed_size), &path)
                    .with_context(|| format!("can't unpack {}", path.display()))?;
            }
            position += file.compressed_size;
        }
        // Left behind by an unpacking that was interrupted, or by another version.
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if !self.files.iter().any(|file| *file.name == *entry.file_name()) {
                fs::remove_file(entry.path()).with_context(|| format!("can't remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

impl Packed {
    fn write(name: &str, from: &mut File, to: &mut impl Write) -> Result<Self> {
        let mut to = Counted { inner: to, count: 0 };
        let mut gzip = GzEncoder::new(&mut to, Compression::default());
        let (size, sha256) = copy_hashed(&mut BufReader::new(from), &mut gzip)?;
        gzip.finish()?;
        Ok(Self { name: name.to_owned(), compressed_size: to.count, size, sha256 })
    }

    fn unpack(&self, packed: impl Read, path: &Path) -> Result<()> {
        let mut new = new_file_beside(path)?;
        let (size, sha256) = copy_hashed(&mut GzDecoder::new(BufReader::new(packed)), &mut new)?;
        ensure!((size, &sha256) == (self.size, &self.sha256), "the executable is damaged");
        put_in_place(new, path, EXECUTABLE)
    }

    fn is_at(&self, path: &Path) -> bool {
        let same = |mut file: File| -> Result<bool> {
            let metadata = file.metadata()?;
            Ok(metadata.len() == self.size
                && metadata.permissions().mode() & 0o777 == EXECUTABLE
                && copy_hashed(&mut file, &mut io::sink())?.1 == self.sha256)
        };
        // A file that can't be read is written anew.
        File::open(path).is_ok_and(|file| same(file).unwrap_or(false))
    }
}

/// A writer that counts its bytes.
struct Counted<'a, W> {
    inner: &'a mut W,
    count: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count += u64::try_from(written).map_err(io::Error::other)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("can't read {}", path.display()))
}

/// Copies, and returns the size and the SHA-256 of the content.
fn copy_hashed(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, format!("{:x}", hash.finalize())));
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += u64::try_from(read).map_err(io::Error::other)?;
    }
}

fn new_file_beside(path: &Path) -> Result<NamedTempFile> {
    let dir = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    NamedTempFile::new_in(&dir).with_context(|| format!("can't write to {}", dir.display()))
}

/// Gives the file its name once its content is on disk, so that it is there whole or not at all.
fn put_in_place(file: NamedTempFile, path: &Path, mode: u32) -> Result<()> {
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).with_context(|| format!("can't write {}", path.display()))?;
    Ok(())
}

const MAGIC: &[u8; 8] = b"MTRXEDGE";
const TRAILER_LENGTH: u64 = 32 + 8 + 8;
const EXECUTABLE: u32 = 0o755;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tempfile::TempDir;

    use super::*;

    /// Packs two files in a directory: returns the executable's path, and where to unpack it to.
    fn packed(dir: &TempDir, program: &str) -> (PathBuf, PathBuf) {
        let path = |name: &str| dir.path().join(name);
        for (name, content) in [("launcher", "ELF"), ("program", program), ("module.js", "import")] {
            fs::write(path(name), content).unwrap();
        }
        Payload::append(&path("launcher"), &[path("program"), path("module.js")], &path("package")).unwrap();
        (path("package"), path("unpacked"))
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let temporary = tempfile::tempdir().unwrap();
        let (package, dir) = packed(&temporary, &"program ".repeat(100_000));

        Payload::open(&package).unwrap().unpack(&dir).unwrap();

        assert!(fs::read(&package).unwrap().starts_with(b"ELF"));
        assert_eq!(fs::read_to_string(dir.join("program")).unwrap(), "program ".repeat(100_000));
        assert_eq!(fs::read_to_string(dir.join("module.js")).unwrap(), "import");
        for executable in [package, dir.join("program")] {
            assert_eq!(fs::metadata(executable).unwrap().mode() & 0o777, 0o755);
        }
    }

    #[test]
    fn files_that_are_as_packed_stay_and_others_are_replaced() {
        let temporary = tempfile::tempdir().unwrap();
        let (package, dir) = packed(&temporary, "program");
        let payload = Payload::open(&package).unwrap();
        payload.unpack(&dir).unwrap();
        let inode = |name: &str| fs::metadata(dir.join(name)).unwrap().ino();
        let before = (inode("program"), inode("module.js"));
        fs::write(dir.join("module.js"), "IMPORT").unwrap();
        fs::write(dir.join(".tmpAbC"), "half").unwrap();

        payload.unpack(&dir).unwrap();

        assert_eq!(inode("program"), before.0);
        assert_ne!(inode("module.js"), before.1);
        assert_eq!(fs::read_to_string(dir.join("module.js")).unwrap(), "import");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }

    #[test]
    fn another_version_takes_the_place_of_the_last() {
        let temporary = tempfile::tempdir().unwrap();
        let (package, dir) = packed(&temporary, "program 1");
        Payload::open(&package).unwrap().unpack(&dir).unwrap();
        let (package, dir) = packed(&temporary, "program 2");

        Payload::open(&package).unwrap().unpack(&dir).unwrap();

        assert_eq!(fs::read_to_string(dir.join("program")).unwrap(), "program 2");
    }

    #[test]
    fn damage_is_noticed() {
        let temporary = tempfile::tempdir().unwrap();
        let (package, dir) = packed(&temporary, &"program ".repeat(1000));
        let whole = fs::read(&package).unwrap();

        for at in 3..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&package, damaged).unwrap();

            let outcome = Payload::open(&package).and_then(|payload| payload.unpack(&dir));

            // A byte that doesn't affect the content, as the time in gzip's header, may differ.
            if outcome.is_ok() {
                assert_eq!(fs::read_to_string(dir.join("program")).unwrap(), "program ".repeat(1000));
            }
        }
        fs::write(&package, &whole[..whole.len() - 1]).unwrap();
        assert!(Payload::open(&package).unwrap_err().to_string().contains("nothing packed"));
    }
}
