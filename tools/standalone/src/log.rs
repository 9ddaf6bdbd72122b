//! Where workerd's output goes.

use std::{fs::File, path::PathBuf, process::Stdio};

use anyhow::{Context, Result};

/// Where workerd's standard output and error go.
#[derive(Debug, Clone)]
pub enum Log {
    /// To this process's own.
    Inherit,
    /// Both to the end of this file, created if it is missing.
    File(PathBuf),
}

impl Log {
    /// What workerd gets for its standard output and its standard error.
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
