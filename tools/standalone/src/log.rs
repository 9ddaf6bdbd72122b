//! The destination of workerd's output.

use std::{fs::File, path::PathBuf, process::Stdio};

use anyhow::{Context, Result};

/// The destination of workerd's standard output and error.
#[derive(Debug, Clone)]
pub enum Log {
    /// To this process's own.
    Inherit,
    /// Both to the end of this file, created if it is missing.
    File(PathBuf),
}

impl Log {
    /// Returns workerd's standard output and standard error.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub(crate) fn open(&self) -> Result<(Stdio, Stdio)> {
        match self {
            Self::Inherit => Ok((Stdio::inherit(), Stdio::inherit())),
            Self::File(path) => {
                let file = File::options().create(true).append(true).open(path);
                let file = file.with_context(|| format!("can't write {}", path.display()))?;
                Ok((file.try_clone()?.into(), file.into()))
            }
        }
    }
}
