//! `cargo xtask simulate`: many lives of delegated leaves in simulated time, in which everything goes wrong that can.

use anyhow::Result;
use clap::Args;

use crate::{progress, workspace};

/// Simulate lives of delegated leaves, on all cores, and check every promise at every step
#[derive(Debug, Args)]
pub struct Options {
    /// The number of lives to simulate
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    seeds: u64,
    /// The seed of the first, the others count on from it
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    first: u64,
    /// Simulate this one only, and print all that happens in it
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
}

/// Runs the simulations, with a line on standard output every few seconds.
///
/// # Errors
///
/// A promise was broken: standard error names it, and the seed. Or the simulator can't be built.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let mut simulate = workspace::cargo(&root);
    simulate.args(["run", "--profile", "simulation", "--package", "simulation"]);
    for setting in PROFILE {
        simulate.args(["--config", &format!("profile.simulation.{setting}")]);
    }
    simulate.arg("--");
    match options.seed {
        Some(seed) => simulate.args(["--seed".to_owned(), seed.to_string()]),
        None => simulate.args([options.seeds.to_string(), options.first.to_string()]),
    };
    progress::run_shown("simulating", &mut simulate)
}

/// The deployed code is made small; here it has to be fast, and a panic has to name its seed.
const PROFILE: [&str; 5] =
    ["inherits = 'release'", "opt-level = 3", "lto = false", "codegen-units = 16", "panic = 'unwind'"];
