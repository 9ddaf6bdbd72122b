//! A child that ends with its parent, however that ends.
//!
//! Two workerds on one state directory would send the same leaves twice. So workerd is killed with this program:
//!
//! - Linux sends a signal to a process when its parent ends, but only on the process's own request.
//! - workerd makes no such request. So this program starts itself once more; that one makes the request, and becomes
//!   workerd, which keeps it.

use std::{ffi::OsString, io::ErrorKind, os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Become another program that is killed when the process that started this one ends
#[derive(Debug, Args)]
pub struct Options {
    parent: i32,
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Options {
    /// The name of the subcommand that these are for.
    pub const SUBCOMMAND: &str = "attached";

    /// Becomes the program.
    ///
    /// # Errors
    ///
    /// The parent has ended already, or the program can't be started.
    pub fn run(&self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL)).context("can't attach to the parent")?;
        if getppid().map(Pid::as_raw_pid) != Some(self.parent) {
            bail!("the parent has ended");
        }
        let error = Command::new(&self.program).args(&self.arguments).exec();
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => " (the state directory must not be on a file system that is mounted noexec)",
            _ => "",
        };
        Err(error).with_context(|| format!("can't start {}{hint}", self.program.display()))
    }
}
