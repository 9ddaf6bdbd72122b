//! `matrixrtc-edge`: the service in one executable, for a machine of one's own. `cargo xtask package` puts workerd and the
//! worker into it.

use std::{env, process::ExitCode};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use matrixrtc_doctor as doctor;
use standalone::{attached, healthcheck, payload::Payload, serve, workerd::Program};

/// MatrixRTC authorization service: turns Matrix OpenID tokens into LiveKit tokens, and looks after delegated leaves
///
/// Runs until SIGTERM or SIGINT; requests that are under way are then finished. If a variable is missing or wrong, says
/// which and exits with status 2.
#[derive(Debug, Parser)]
#[command(name = "matrixrtc-edge", version, after_help = VARIABLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<serve::Options>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Healthcheck(healthcheck::Options),
    Doctor(Box<doctor::Options>),
    #[command(name = attached::Options::SUBCOMMAND, hide = true)]
    Attached(attached::Options),
}

fn main() -> ExitCode {
    serve::exit_status(run(Cli::parse()))
}

fn run(cli: Cli) -> Result<ExitCode> {
    let done = match cli {
        Cli { command: Some(Command::Doctor(options)), .. } => return doctor::run(*options),
        Cli { command: Some(Command::Healthcheck(options)), .. } => healthcheck::run(&options),
        Cli { command: Some(Command::Attached(options)), .. } => options.run(),
        Cli { serve: Some(options), .. } => options.run(|options| {
            let executable = env::current_exe().context("can't find my own executable")?;
            let program = Payload::open(&executable)?.unpack(&options.state().join("package"))?;
            Ok(Program { attached_by: Some(executable), ..program })
        }),
        Cli { .. } => Ok(Cli::command().print_help()?),
    };
    done.map(|()| ExitCode::SUCCESS)
}

const VARIABLES: &str = "\
The rest is configured by variables of the environment. Required:
  LIVEKIT_URL                      the SFU's WebSocket URL, wss://…
  LIVEKIT_KEY, LIVEKIT_SECRET      API key and secret, as in the SFU's configuration; or LIVEKIT_KEYS
  LIVEKIT_FULL_ACCESS_HOMESERVERS  whose users may create rooms: server names, or * for everybody
The others are in the README, under “Configure it”.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }
}
