//! `cargo xtask configure`, `doctor` and `status`, which run this program.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use operator::{configure, doctor, status};

#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Configure(Box<configure::Options>),
    Doctor(Box<doctor::Options>),
    Status(status::Options),
}

fn main() -> ExitCode {
    let status = match Cli::parse().command {
        Command::Configure(options) => repository()
            .and_then(|root| configure::run(&options, &root, "cargo xtask doctor"))
            .map(|()| ExitCode::SUCCESS),
        Command::Doctor(options) => doctor::run(*options),
        Command::Status(options) => status::run(options).map(|()| ExitCode::SUCCESS),
    };
    status.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Returns the repository whose `wrangler.toml` is completed: that of cargo's package, else of the working directory.
fn repository() -> Result<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => env::current_dir().context("the working directory is gone")?,
    };
    let root = start.ancestors().find(|dir| dir.join("wrangler.toml").is_file() && dir.join("Cargo.lock").is_file());
    root.map(Path::to_owned).with_context(|| format!("{} is not in a clone of matrixrtc-edge", start.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }
}
