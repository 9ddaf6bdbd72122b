//! `cargo xtask serve`: a build of this repository in workerd alone.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use standalone::{serve, workerd::Program};

/// Run the production build in workerd alone, configured by the LIVEKIT_… variables of the environment
///
/// Ends on SIGINT and SIGTERM. If a variable is missing or wrong, says which and exits with status 2.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask serve")]
struct Cli {
    /// The executable of workerd
    #[arg(long, value_name = "FILE", hide = true)]
    workerd: PathBuf,
    /// The directory of the build
    #[arg(long, value_name = "DIR", hide = true)]
    build: PathBuf,
    #[command(flatten)]
    options: serve::Options,
}

fn main() -> ExitCode {
    let Cli { workerd, build, options } = Cli::parse();
    let program = Program::in_dir(workerd, &build);
    serve::exit_status(options.run(|_| Ok(program)).map(|()| ExitCode::SUCCESS))
}
