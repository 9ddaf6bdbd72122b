//! `cargo xtask bench`: how fast the worker is, with upstreams that answer at once.
//!
//! Everything stays on loopback, and ends by itself.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

mod leaves;
mod load;
mod process;
mod report;
mod start;
mod tokens;
mod upstreams;

/// Measure how fast tokens are issued, beside the same flow hand-written in JavaScript
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    tokens: tokens::TokenOptions,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Measure many delegated leaves in one workerd: are restarts in time, and what do they take
    Leaves(leaves::LeavesOptions),
    /// Be the upstreams: a process of the benchmark's own
    #[command(hide = true)]
    Upstreams {
        /// Where to put the certificate of the authority, in PEM
        authority: PathBuf,
    },
}

/// Runs a benchmark, and prints its results to standard output.
///
/// # Errors
///
/// The worker can't be built or started, or answers something else than a token.
pub fn run(options: &Options) -> Result<()> {
    match &options.part {
        None => tokens::run(&options.tokens),
        Some(Part::Leaves(options)) => leaves::run(options),
        Some(Part::Upstreams { authority }) => upstreams::serve(authority),
    }
}
