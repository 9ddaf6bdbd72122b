//! The destination of workerd's output.

use std::{
    fs::File,
    io::{self, PipeReader},
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context, Result};
use matrixrtc_edge::log::Level;

/// Standard output, standard error, and what is read from a pipe to make lines of it.
pub(crate) type Destination = (Stdio, Stdio, Option<(PipeReader, Level)>);

/// The destination of workerd's standard output and error.
#[derive(Debug, Clone)]
pub enum Log {
    /// To this process's standard output, as one JSON object a line; those of workerd's own that are below this level are
    /// left out.
    Lines(Level),
    /// Both to the end of this file, created if it is missing.
    File(PathBuf),
}

impl Log {
    /// Returns workerd's standard output and standard error, and the end of the pipe that both lead to, with the level, if
    /// they lead to one.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub(crate) fn open(&self) -> Result<Destination> {
        match self {
            Self::Lines(threshold) => {
                let (reader, writer) = io::pipe().context("can't open a pipe")?;
                // One pipe, so that the order stays.
                Ok((writer.try_clone()?.into(), writer.into(), Some((reader, *threshold))))
            }
            Self::File(path) => {
                let file = File::options().create(true).append(true).open(path);
                let file = file.with_context(|| format!("can't write {}", path.display()))?;
                Ok((file.try_clone()?.into(), file.into(), None))
            }
        }
    }
}
