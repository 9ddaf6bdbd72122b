//! `cargo xtask`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{
    build::Build,
    demo, dev, e2e, package,
    program::{Arguments, BENCH, OPERATOR},
    release, serve, simulate, size, test, workspace,
};

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
    /// Run the production build in workerd alone, configured by the LIVEKIT_… variables of the environment
    #[command(disable_help_flag = true)]
    Serve(Arguments),
    /// Make the deployable build in build/
    Build,
    /// Make one executable of workerd and the worker, to be run without this repository
    Package,
    Release(release::Options),
    /// Print the size of the build, and its biggest parts; fails over the budget
    Size,
    /// Check format, lints and documentation, and run unit, property and black-box tests
    Test,
    E2e(e2e::Options),
    /// Print, or write, the configuration of wrangler, of the SFU and of the homeservers for a deployment
    #[command(disable_help_flag = true)]
    Configure(Arguments),
    /// Check a deployment from outside: is everything where clients, homeservers and the SFU look for it?
    #[command(disable_help_flag = true)]
    Doctor(Arguments),
    /// Print a link to the page of what goes on in the rooms, signed with the API key
    #[command(disable_help_flag = true)]
    Status(Arguments),
    Simulate(simulate::Options),
    /// Measure how fast tokens are issued, or how many delegated leaves are kept in time
    #[command(disable_help_flag = true)]
    Bench(Arguments),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(options) => demo::run(&options),
        Command::Dev(options) => dev::run(&options),
        Command::Build => Build::make(&workspace::root()?).map(drop),
        Command::Package => package::run(),
        Command::Release(options) => release::run(&options),
        Command::Size => size::run(),
        Command::Test => test::run(),
        Command::E2e(options) => e2e::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Serve(arguments) => match serve::run(&arguments)? {},
        Command::Configure(arguments) => match OPERATOR.run(&["configure".into()], &arguments)? {},
        Command::Doctor(arguments) => match OPERATOR.run(&["doctor".into()], &arguments)? {},
        Command::Status(arguments) => match OPERATOR.run(&["status".into()], &arguments)? {},
        Command::Bench(arguments) => match BENCH.run(&[], &arguments)? {},
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_other_programs_are_passed_on() {
        let cli = Cli::try_parse_from(["cargo xtask", "doctor", "--help", "-x", "https://rtc.example.com", "--", "y"]);

        assert!(matches!(cli.unwrap().command, Command::Doctor(arguments) if arguments.ask_for_help()));
    }
}
