//! `matrixrtc-edge`: the service in one executable, for a machine of one's own. `cargo xtask package` puts workerd and the
//! worker into it.

use std::{env, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Args, FromArgMatches, Subcommand};
use matrixrtc_edge::config::{Presence, TABLE, Variable};
use operator::{configure, doctor, status, variables::table};
use payload::Payload;
use standalone::{attached, healthcheck, serve, state::StateLock, workerd::Program};

/// The command line.
enum Cli {
    Serve(serve::Options),
    Other(Command),
}

#[derive(Debug, Subcommand)]
enum Command {
    Healthcheck(healthcheck::Options),
    Doctor(Box<doctor::Options>),
    Configure(Box<configure::Options>),
    Status(status::Options),
    #[command(name = attached::Options::SUBCOMMAND, hide = true)]
    Attached(attached::Options),
}

fn main() -> ExitCode {
    let cli = Cli::from_matches(&Cli::command().get_matches());
    serve::exit_status(run(cli.unwrap_or_else(|error| error.exit())))
}

impl Cli {
    fn command() -> clap::Command {
        let command = serve::Options::augment_args(clap::Command::new("matrixrtc-edge"));
        Command::augment_subcommands(command)
            .version(env!("CARGO_PKG_VERSION"))
            .about(ABOUT)
            .long_about(format!("{ABOUT}\n\n{MORE}"))
            .after_help(variables())
            .args_conflicts_with_subcommands(true)
    }

    /// Not derived: the service's variables may be in the environment of the other commands, too, and needn't be complete there.
    fn from_matches(matches: &ArgMatches) -> clap::error::Result<Self> {
        match matches.subcommand() {
            Some(_) => Command::from_arg_matches(matches).map(Self::Other),
            None => serve::Options::from_arg_matches(matches).map(Self::Serve),
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let done = match cli {
        Cli::Other(Command::Doctor(options)) => return doctor::run(*options),
        Cli::Other(Command::Configure(options)) => {
            let dir = env::current_dir().context("the working directory is gone")?;
            let has_worker = options.is_for_own_machine() || dir.join("wrangler.toml").is_file();
            ensure!(has_worker, "there is no wrangler.toml here: {WHERE_TO_CONFIGURE}");
            configure::run(&options, &dir, "matrixrtc-edge doctor")
        }
        Cli::Other(Command::Status(options)) => status::run(options),
        Cli::Other(Command::Healthcheck(options)) => healthcheck::run(&options),
        Cli::Other(Command::Attached(options)) => options.run(),
        Cli::Serve(options) => options.run(|state| {
            let executable = env::current_exe().context("can't find my own executable")?;
            let dir = state.join("package");
            Payload::open(&executable)?.unpack(&dir).map_err(StateLock::with_remedy)?;
            Ok(Program { attached_by: Some(executable), ..Program::with_assets_in(dir.join("workerd"), &dir, &dir) })
        }),
    };
    done.map(|()| ExitCode::SUCCESS)
}

const WHERE_TO_CONFIGURE: &str = "for Cloudflare, run it in the unpacked archive of the worker, matrixrtc-edge-worker-…; for \
                                  this machine, give --own-machine";
const ABOUT: &str =
    "MatrixRTC authorization service: turns Matrix OpenID tokens into LiveKit tokens, and looks after delegated leaves";
const MORE: &str = "\
Runs until SIGTERM or SIGINT; requests that are under way are then finished. If a variable is missing or wrong, says which and \
exits with status 2.";
/// Describes every variable: the table of the worker's configuration, and that of the executable.
fn variables() -> String {
    let names = TABLE.iter().map(|variable| variable.name).chain(table::TABLE.iter().map(|variable| variable.name));
    let width = names.map(str::len).max().unwrap_or_default();
    let line = |variable: &Variable| {
        let default = match variable.presence {
            Presence::Required => " (required)".to_owned(),
            Presence::Default("") | Presence::Optional | Presence::Grouped => String::new(),
            Presence::Default(text) => format!(" ({text})"),
        };
        format!("  {:width$}  {}{default}", variable.name, variable.help.replace('`', ""))
    };
    let own = |variable: &table::Variable| format!("  {:width$}  {}", variable.name, variable.help.replace('`', ""));
    let lines: Vec<_> = TABLE.iter().map(line).collect();
    let own: Vec<_> = table::TABLE.iter().map(own).collect();
    format!(
        "The rest is configured by variables of the environment or of --config; the environment comes before the file:\n{}\n\n\
         Variables of this executable alone:\n{}",
        lines.join("\n"),
        own.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }
}
