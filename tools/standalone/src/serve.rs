//! The life of the service, until a signal ends it: `matrixrtc-edge` and `cargo xtask serve`.
//!
//! - The variables of the environment and of `--config` are checked with the worker's own parser, before anything is
//!   started; the result goes to workerd, and what is worth a line to the log.
//! - The state directory is locked: two workerds on one would send the same leaves twice.
//! - workerd runs as a child. systemd is notified once the worker answers.
//! - SIGTERM and SIGINT are passed on as SIGTERM; requests that are under way are finished.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use operator::variables::table::STATE_DIRECTORY;
use rustix::process::Signal;
use sd_notify::NotifyState;
use serde_json::json;
use supervise::Interrupt;

use crate::{
    environment::{Environment, Misconfigured},
    listen_address,
    log::Log,
    message::{Kind, Message},
    schema::NewerState,
    state::StateLock,
    surroundings,
    workerd::{Launch, Program, read_certificates},
};

/// Address, trusted certificates, state directory and configuration.
#[derive(Debug, Args)]
pub struct Options {
    /// The address to listen on, or :PORT for every IPv4 address; port 0 is a free one [default: LIVEKIT_JWT_BIND,
    /// LIVEKIT_JWT_PORT or MATRIXRTC_EDGE_ADDR, else 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address::parse)]
    addr: Option<SocketAddr>,
    /// The directory that the state is kept in, 165 MB at first; created if it is missing [default: STATE_DIRECTORY]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Trust these certificates, too
    #[arg(long, value_name = "PEM")]
    trust_ca: Vec<PathBuf>,
    /// Take variables from this file of KEY=value lines, too, which are read as systemd reads its EnvironmentFile=; the
    /// environment comes before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Options {
    /// Runs what `program` provides until SIGINT or SIGTERM. Requests that are under way then are finished, for ten seconds
    /// at most.
    ///
    /// `program` is called with the state directory, when the configuration has been found to be right, and the directory
    /// is locked.
    ///
    /// # Errors
    ///
    /// The configuration is incomplete or wrong ([`Misconfigured`]), there is no program, the worker can't be started, or it
    /// ends by itself.
    pub fn run(self, program: impl FnOnce(&Path) -> Result<Program>) -> Result<()> {
        let mut environment = Environment::of_process(self.config.as_deref())?;
        let checked = self.check(&mut environment);
        for message in environment.take_messages().into_iter().chain(surroundings::check_clock(SystemTime::now())) {
            message.write();
        }
        let ((launch, sfu), interrupt) = (checked?, Interrupt::listen().context("can't listen for signals")?);
        let state = StateLock::take(&launch.state)?;
        listen_address::check(launch.addr)?;
        let program = program(&launch.state)?;
        let mut running = launch.start_on(state, &program)?;
        let url = format!("http://{}", running.addr());
        Message { kind: Kind::Listening, fields: json!({ "url": url }) }.write();
        surroundings::look_up_sfu(&sfu);
        notify_systemd(NotifyState::Ready)?;
        loop {
            let ended = running.try_wait()?;
            // Ctrl-C in a terminal reaches workerd, too: that isn't "by itself".
            if interrupt.has_come() {
                notify_systemd(NotifyState::Stopping)?;
                let status = running.terminate()?;
                if status.signal() == Some(Signal::KILL.as_raw()) {
                    Message { kind: Kind::StillRunning, fields: json!({}) }.write();
                }
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("workerd has ended by itself: {}", running.reason(status));
            }
            thread::sleep(POLL);
        }
    }

    /// Returns what is to be started, and the URL of the SFU's API; or all that is wrong.
    fn check(self, environment: &mut Environment) -> Result<(Launch, String), Misconfigured> {
        let state = match self.state {
            Some(state) => Ok(Some(state)),
            None => environment.get(STATE_DIRECTORY).map(|state| state.map(PathBuf::from)),
        };
        let state = state.and_then(|state| {
            state.filter(|state| !state.as_os_str().is_empty()).ok_or_else(|| {
                let remedy = format!("give one with --state DIR or {STATE_DIRECTORY}");
                Misconfigured(vec![format!("there is no state directory: {remedy}")])
            })
        });
        let addr = listen_address::chosen(self.addr, environment);
        let unread =
            self.trust_ca.iter().filter_map(|path| read_certificates(path).err()).map(|error| format!("{error:#}"));
        let certificates: Vec<_> = unread.collect();
        match (state, addr, environment.worker()) {
            (Ok(state), Ok(addr), Ok(worker)) if certificates.is_empty() => {
                let (log, sfu) = (Log::Lines(worker.config.log_level), worker.config.sfu.api().to_owned());
                Ok((Launch { addr, state, trust_ca: self.trust_ca, env: worker.variables, log }, sfu))
            }
            (state, addr, worker) => {
                let problems = [worker.err(), state.err(), addr.err()].into_iter().flatten();
                Err(Misconfigured(problems.flat_map(|problems| problems.0).chain(certificates).collect()))
            }
        }
    }
}

/// Notifies systemd, if it has started this process and wants to be notified.
fn notify_systemd(state: NotifyState<'_>) -> Result<()> {
    sd_notify::notify(&[state]).context("can't notify systemd")
}

/// Reports an error on standard error, and returns the exit status: 2 for what a restart can't mend, a configuration that
/// is incomplete or wrong, with a line for each problem, or the state of a later version; 1 for every other error.
#[must_use]
pub fn exit_status(outcome: Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(status) => return status,
        Err(error) => error,
    };
    match error.downcast_ref::<Misconfigured>() {
        Some(Misconfigured(problems)) => {
            eprintln!("error: the configuration is incomplete or wrong");
            for problem in problems {
                eprintln!("  {problem}");
            }
            ExitCode::from(2)
        }
        None => {
            eprintln!("error: {error:#}");
            if error.is::<NewerState>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

const POLL: Duration = Duration::from_millis(50);
