//! Where workerd's output goes.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
};

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

/// The last `lines` lines of a log, or nothing if it can't be read.
#[must_use]
pub fn last_lines(log: &Path, lines: usize) -> String {
    fn tail(log: &Path) -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    let text = tail(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut last: Vec<&str> = text.trim_end().lines().rev().take(lines).collect();
    last.reverse();
    last.join("\n")
}

const TAIL_BYTES: u64 = 16 * 1024;
