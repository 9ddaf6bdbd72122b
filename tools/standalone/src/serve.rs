//! The life of the service, until a signal ends it: `matrixrtc-edge` and `cargo xtask serve`.
//!
//! - The variables of the environment are checked with the worker's own parser, before anything is started.
//! - The state directory is locked: two workerds on one would send the same leaves twice.
//! - workerd runs as a child. systemd is notified once the worker answers.
//! - SIGTERM and SIGINT are passed on as SIGTERM; requests that are under way are finished.

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

/// Address, trusted certificates and state directory.
#[derive(Debug, Args)]
pub struct Options {
    /// The address to listen on; port 0 is a free one
    #[arg(long, value_name = "IP:PORT", env = ADDR_VARIABLE, default_value = DEFAULT_ADDR)]
    addr: SocketAddr,
    /// The directory that the state is kept in; created if it is missing
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
        notify_systemd(NotifyState::Ready)?;
        loop {
            let ended = running.try_wait()?;
            // Ctrl-C in a terminal reaches workerd, too: that isn't "by itself".
            if interrupt.has_come() {
                notify_systemd(NotifyState::Stopping)?;
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

    /// Returns the directory that the state is kept in.
    #[must_use]
    pub fn state(&self) -> &PathBuf {
        &self.state
    }
}

/// Notifies systemd, if it has started this process and wants to be notified.
fn notify_systemd(state: NotifyState<'_>) -> Result<()> {
    sd_notify::notify(&[state]).context("can't notify systemd")
}

/// Reports an error on standard error, and returns the exit status: 2 for a configuration that is incomplete
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

/// The variable that stands for `--addr`.
pub const ADDR_VARIABLE: &str = "MATRIXRTC_EDGE_ADDR";
/// The default of `--addr`.
pub const DEFAULT_ADDR: &str = "127.0.0.1:8080";
const POLL: Duration = Duration::from_millis(50);
