//! The state directory, which one process uses at a time.
//!
//! `objects/` holds the Durable Objects' storage, and keeps its place from version to version; `version.json` says which was
//! the last. Everything else is written anew by each start.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::schema;

/// The right to run on a state directory. It ends when this is dropped, and with the process, however that ends.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

impl StateLock {
    /// Creates the directory if it is missing, and locks it for this version.
    ///
    /// # Errors
    ///
    /// It can't be created or written, another process has locked it, or a later version has stored something there
    /// ([`NewerState`](crate::schema::NewerState)).
    pub fn take(dir: &Path) -> Result<Self> {
        if fs::metadata(dir).is_ok_and(|metadata| !metadata.is_dir()) {
            bail!("the state directory {} is a file: name a directory", dir.display());
        }
        let unusable = |error: io::Error| {
            let remedy = remedy(&error);
            anyhow!("the state directory {} can't be used: {error}{remedy}", dir.display())
        };
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(unusable)?;
        }
        // A user who can read the storage can end other people's calls.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        make_private(dir).map_err(Self::with_remedy)?;
        let path = dir.join("lock");
        // Not truncated and never removed: another process that opens it must find the same file.
        let file = File::options().create(true).append(true).open(&path).map_err(unusable)?;
        let lock = match file.try_lock() {
            Ok(()) => Self { file },
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by another process; each needs a state directory of its own", dir.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("can't lock {}", path.display()));
            }
        };
        schema::claim(dir).map_err(Self::with_remedy)?;
        Ok(lock)
    }
}

/// Says what to do about an error of the state directory.
pub(crate) fn remedy(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            String::from(": put it on a disk that can be written; in a container, on a volume")
        }
        ErrorKind::PermissionDenied => {
            format!(": the service runs as user {}, who has to own it (chown)", rustix::process::getuid().as_raw())
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!(": {SPACE}"),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => String::from(": a part of its path is a file"),
        _ => String::new(),
    }
}

/// The size of the state directory, for an error.
const SPACE: &str = "it needs 165 MB at first";
/// Its files and directories; `lost+found` is that of a new disk.
const OURS: [&str; 6] = ["lock", schema::FILE, "objects", "package", "workerd", "lost+found"];

impl StateLock {
    /// Adds the remedy to an error that an operation below the directory has ended with.
    #[must_use]
    pub fn with_remedy(error: anyhow::Error) -> anyhow::Error {
        let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
        match io.map(remedy).filter(|remedy| !remedy.is_empty()) {
            Some(remedy) => anyhow!("{error:#}{remedy}"),
            None => error,
        }
    }
}

/// Takes other users' rights to a directory that was there already.
fn make_private(dir: &Path) -> Result<()> {
    let metadata = fs::metadata(dir).with_context(|| format!("can't look at {}", dir.display()))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    // Another program's, like /tmp: closing that to its users would break it.
    let mut names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).peekable();
    if names.peek().is_some() && !names.any(|name| OURS.iter().any(|ours| name == *ours)) {
        bail!(
            "the state directory {} holds the files of others, and would be closed to them: name a directory of its own, such \
             as {}",
            dir.display(),
            dir.join("matrixrtc-edge").display()
        );
    }
    fs::set_permissions(dir, Permissions::from_mode(mode & !0o077)).with_context(|| {
        format!("{} is open to other users (mode {mode:04o}), and that can't be changed: chmod 700 it", dir.display())
    })
}

impl Drop for StateLock {
    /// Closing the file isn't enough: a process that another thread is just starting has it, too, until it runs its program.
    fn drop(&mut self) {
        // If this fails, the lock ends a moment later.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_for_one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("new/state");

        let first = StateLock::take(&dir).unwrap();
        let error = StateLock::take(&dir).unwrap_err().to_string();
        drop(first);

        assert!(error.contains("in use by another process") && error.contains("new/state"), "{error}");
        StateLock::take(&dir).unwrap();
    }

    #[test]
    fn a_directory_that_was_open_to_others_is_closed_to_them() {
        let place = tempfile::tempdir().unwrap();
        for mode in [0o755, 0o770, 0o701, 0o2750] {
            fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();

            drop(StateLock::take(place.path()).unwrap());

            let left = fs::metadata(place.path()).unwrap().permissions().mode();
            assert_eq!(left & 0o777, 0o700, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_with_the_files_of_others_stays_open_to_them() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("of-others"), "").unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o1777)).unwrap();

        let error = StateLock::take(place.path()).unwrap_err().to_string();

        assert!(error.contains("files of others"), "{error}");
        let left = fs::metadata(place.path()).unwrap().permissions().mode();
        assert_eq!(left & 0o7777, 0o1777);
    }

    #[test]
    fn who_has_inherited_the_file_does_not_hold_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let lock = StateLock::take(place.path()).unwrap();
        let _inherited = lock.file.try_clone().unwrap();

        drop(lock);

        StateLock::take(place.path()).unwrap();
    }
}
