//! `cargo xtask serve`: the production build in workerd alone.

use anyhow::Result;
use clap::Args;

use crate::{build::Build, workerd, workspace};

/// Run the production build in workerd alone, configured by the LIVEKIT_… variables of the environment
///
/// Ends on SIGINT and SIGTERM. If a variable is missing or wrong, says which and exits with status 2.
#[derive(Debug, Args)]
// clap would give it the name of the group inside it.
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    options: standalone::serve::Options,
}

/// Builds the worker and runs it until SIGINT or SIGTERM.
///
/// # Errors
///
/// The worker can't be built; or see [`standalone::serve::Options::run`].
pub fn run(options: Options) -> Result<()> {
    options.options.run(|_| {
        Build::make(&workspace::root()?)?;
        workerd::production()
    })
}
