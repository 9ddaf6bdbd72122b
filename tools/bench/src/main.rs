//! `cargo xtask bench`: how fast the worker is, with upstreams that answer at once.
//!
//! Everything stays on loopback, and ends by itself.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use standalone::workerd::Program;
use xtask::{build::Build, tools, workspace};

mod hops;
mod leaves;
mod load;
mod process;
mod report;
mod start;
mod tokens;
mod upstreams;

/// Measure how fast tokens are issued, beside the same flow hand-written in JavaScript
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    tokens: tokens::TokenOptions,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Measure how long a token takes, with its leave and without, where each answer of homeserver and SFU takes a while
    Hops(hops::HopsOptions),
    /// Measure many delegated leaves in one workerd: are restarts in time, and at what cost
    Leaves(leaves::LeavesOptions),
    /// Be the upstreams: a process of the benchmark's own
    #[command(hide = true)]
    Upstreams {
        /// Where to put the certificate of the authority, in PEM
        authority: PathBuf,
        /// How long they take for each answer, in ms
        hop_ms: u64,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.part {
        None => tokens::run(&cli.tokens),
        Some(Part::Leaves(options)) => leaves::run(options),
        Some(Part::Hops(options)) => hops::run(options),
        Some(Part::Upstreams { authority, hop_ms }) => upstreams::serve(authority, Duration::from_millis(*hop_ms)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the production build, and returns it with the workerd of the npm packages.
fn production() -> Result<Program> {
    let root = workspace::root()?;
    Build::make(&root)?;
    Ok(Program::in_dir(tools::workerd(&root)?, &Build::dir(&root)))
}
