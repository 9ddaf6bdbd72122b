//! Running the worker until it is told to stop: `matrixrtc-edge` and `cargo xtask serve`.

use std::{
    collections::BTreeMap, env, net::SocketAddr, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitCode,
    thread, time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use matrixrtc_edge::config::{Config, ConfigErrors, VARIABLES};
use rustix::process::Signal;
use sd_notify::NotifyState;
use supervise::Interrupt;

use crate::{
    log::Log,
    state::StateLock,
    workerd::{Launch, Program},
};

/// Where it listens, what it trusts, and where its state is.
#[derive(Debug, Args)]
pub struct Options {
    /// Where to listen; port 0 is a free one
    #[arg(long, value_name = "IP:PORT", env = ADDR_VARIABLE, default_value = DEFAULT_ADDR)]
    addr: SocketAddr,
    /// The directory the state is kept in; created if it is missing
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY")]
    state: PathBuf,
    /// Trust these certificates, too
    #[arg(long, value_name = "PEM")]
    trust_ca: Vec<PathBuf>,
}

impl Options {
    /// Runs what `program` provides until SIGINT or SIGTERM. Requests that are under way then are finished, for ten seconds
    /// at most.
    ///
    /// `program` is called when the configuration has been found to be right, and the state directory is locked.
    ///
    /// # Errors
    ///
    /// The configuration in the environment is incomplete or wrong ([`ConfigErrors`]), there is no program, the worker can't
    /// be started, or it ends by itself.
    pub fn run(self, program: impl FnOnce(&Self) -> Result<Program>) -> Result<()> {
        let variable = |name: &&str| Some(((*name).to_owned(), env::var(name).ok()?));
        let env: BTreeMap<String, String> = VARIABLES.iter().filter_map(variable).collect();
        Config::from_lookup(|name| env.get(name).cloned())?;
        let state = StateLock::take(&self.state)?;
        let program = program(&self)?;
        let interrupt = Interrupt::listen().context("can't listen for signals")?;
        let launch = Launch { addr: self.addr, state: self.state, trust_ca: self.trust_ca, env, log: Log::Inherit };
        let mut running = launch.start_on(state, &program)?;
        println!("listening on http://{}", running.addr());
        tell_systemd(NotifyState::Ready)?;
        loop {
            let ended = running.try_wait()?;
            // Ctrl-C in a terminal reaches workerd, too: that isn't "by itself".
            if interrupt.has_come() {
                tell_systemd(NotifyState::Stopping)?;
                let status = running.terminate()?;
                if status.signal() == Some(Signal::KILL.as_raw()) {
                    eprintln!("stopped while requests were still running");
                }
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("workerd has ended by itself: {status}");
            }
            thread::sleep(POLL);
        }
    }

    /// The directory the state is kept in.
    #[must_use]
    pub fn state(&self) -> &PathBuf {
        &self.state
    }
}

/// Where systemd has started this process and wants to know.
fn tell_systemd(state: NotifyState<'_>) -> Result<()> {
    sd_notify::notify(&[state]).context("can't tell systemd")
}

/// The exit status for an outcome, after saying on standard error what went wrong: 2 for a configuration that is incomplete
/// or wrong, with a line for each variable, 1 for every other error.
#[must_use]
pub fn exit_status(outcome: Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(status) => return status,
        Err(error) => error,
    };
    match error.downcast_ref::<ConfigErrors>() {
        Some(ConfigErrors(problems)) => {
            eprintln!("error: the configuration in the environment is incomplete or wrong");
            for problem in problems {
                eprintln!("  {} {}", problem.variable, problem.problem);
            }
            ExitCode::from(2)
        }
        None => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The variable that takes the place of `--addr`.
pub const ADDR_VARIABLE: &str = "MATRIXRTC_EDGE_ADDR";
/// Where it listens unless it is told otherwise.
pub const DEFAULT_ADDR: &str = "127.0.0.1:8080";
const POLL: Duration = Duration::from_millis(50);
