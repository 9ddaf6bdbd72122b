//! `cargo xtask`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use operator::{configure, doctor};
use standalone::serve::exit_status;
use xtask::{bench, build::Build, demo, dev, e2e, package, serve, simulate, size, test, workspace};

/// The developer's commands of matrixrtc-edge. Each installs the pinned tools it needs, where they are missing.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
    Dev(dev::Options),
    Serve(serve::Options),
    /// Make the deployable build in build/
    Build,
    /// Make one executable of workerd and the worker, to be run without this repository
    Package,
    /// Print the size of the build, and what makes it that big; fails over the budget
    Size,
    /// Check format, lints and documentation, and run unit, property and black-box tests
    Test,
    E2e(e2e::Options),
    Configure(Box<configure::Options>),
    Doctor(Box<doctor::Options>),
    Simulate(simulate::Options),
    Bench(bench::Options),
}

fn main() -> ExitCode {
    exit_status(run(Cli::parse().command))
}

fn run(command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Doctor(options) => return doctor::run(*options),
        Command::Demo(options) => demo::run(&options),
        Command::Dev(options) => dev::run(&options),
        Command::Serve(options) => serve::run(options),
        Command::Configure(options) => configure::run(&options, &workspace::root()?),
        Command::Build => Build::make(&workspace::root()?).map(drop),
        Command::Package => package::run(),
        Command::Size => size::run(),
        Command::Test => test::run(),
        Command::E2e(options) => e2e::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    done.map(|()| ExitCode::SUCCESS)
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
