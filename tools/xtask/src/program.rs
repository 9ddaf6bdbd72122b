//! Commands that are programs of their own: `cargo xtask doctor` compiles and becomes `operator doctor`.
//!
//! - So this crate stays small, and `wrangler deploy`, which runs `cargo xtask build`, compiles nothing that it has no use
//!   for.
//! - All arguments are passed on, `--help` among them.
//! - The program takes this process's place: signals, standard streams and exit status are its own.

use std::{
    convert::Infallible,
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{cache, progress, workspace};

/// The arguments of a command that is a program of its own.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Arguments of the command; see its --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

impl Arguments {
    /// Returns whether they only ask for help.
    #[must_use]
    pub fn ask_for_help(&self) -> bool {
        self.arguments.iter().any(|argument| ["-h", "--help"].iter().any(|help| argument == help))
    }
}

/// A program of this workspace.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The package's name.
    pub package: &'static str,
    /// The binary's.
    pub binary: &'static str,
}

/// `cargo xtask bench`.
pub const BENCH: Program = Program { package: "bench", binary: "bench" };
/// `cargo xtask configure`, `doctor` and `status`.
pub const OPERATOR: Program = Program { package: "operator", binary: "operator" };
/// `cargo xtask serve`.
pub const SERVE: Program = Program { package: "standalone", binary: "serve" };
/// The stand-ins of `cargo xtask dev`.
pub(crate) const STAND_INS: Program = Program { package: "fakes", binary: "stand-ins" };

impl Program {
    /// Compiles the program where it is out of date, and becomes it, with `first` and then `arguments`.
    ///
    /// # Errors
    ///
    /// It doesn't compile, or can't be started.
    pub fn run(self, first: &[OsString], arguments: &Arguments) -> Result<Infallible> {
        let path = self.compile(&workspace::root()?)?;
        let error = Command::new(&path).args(first).args(&arguments.arguments).exec();
        Err(error).with_context(|| format!("can't start {}", path.display()))
    }

    /// Compiles the program where it is out of date, and returns its path.
    ///
    /// # Errors
    ///
    /// It doesn't compile.
    pub fn compile(self, root: &Path) -> Result<PathBuf> {
        let Self { package, binary } = self;
        progress::run_unless_quick(
            &format!("compiling {binary}"),
            workspace::cargo(root).args(["build", "--profile", "xtask", "--package", package, "--bin", binary]),
            &cache::log(binary)?,
        )?;
        Ok(workspace::target_directory(root)?.join("xtask").join(binary))
    }
}
