//! A worker in workerd alone.
//!
//! - [`Program`] names workerd, the worker's modules and the configuration that embeds them; [`Launch`] is one deployment.
//! - [`Launch::start`] writes the configuration below the state directory, starts workerd, reads the port that it listens on
//!   from its control pipe, and waits for the answer of `/healthz`.
//! - [`Running`] is that workerd; dropping it kills it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, BufRead, BufReader, PipeReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use matrixrtc_edge::config::VARIABLES;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use supervise::{http, last_lines};

use crate::{attached, log::Log, objects, state::StateLock, workerd::output::Output};

mod config;
mod output;

pub use config::CONFIG;
pub(crate) use config::read_certificates;

/// How to run the worker.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The address to listen on; with port 0 a free one, which [`Running::addr`] returns.
    pub addr: SocketAddr,
    /// The state directory, created if it is missing.
    pub state: PathBuf,
    /// Files with certificates, in PEM, that are trusted beside the public authorities.
    pub trust_ca: Vec<PathBuf>,
    /// The worker's bindings, `LIVEKIT_…`. They reach workerd through its environment and are never written to disk.
    pub env: BTreeMap<String, String>,
    /// The destination of workerd's output.
    pub log: Log,
}

impl Launch {
    /// Locks the state directory, starts workerd, and returns once the worker answers requests.
    ///
    /// # Errors
    ///
    /// Another workerd runs on the state directory, this one ends before it answers (the error carries the end of its
    /// log), or takes too long to.
    pub fn start(&self, program: &Program) -> Result<Running> {
        self.start_on(StateLock::take(&self.state)?, program)
    }

    /// Likewise, with a state directory that the caller has locked already.
    ///
    /// # Errors
    ///
    /// See [`Launch::start`].
    pub fn start_on(&self, state: StateLock, program: &Program) -> Result<Running> {
        // A file too many harms nobody, and a directory that can't be read is reported by workerd.
        let _ = objects::sweep(&self.state.join(objects::DIR));
        config::write(self, program)?;
        let (stdout, stderr, pipe) = self.log.open()?;
        let (control, control_of_child) = io::pipe().context("can't open a pipe")?;
        let mut command = program.command();
        // The configuration binds every variable that workerd's environment has.
        for name in VARIABLES {
            command.env_remove(name);
        }
        let child = command
            .args(self.arguments()?)
            // workerd reports its port there. It has no other use for its standard input, and handing on any other
            // descriptor would take unsafe code.
            .args(["--control-fd", "0"])
            .stdin(control_of_child)
            .stdout(stdout)
            .stderr(stderr)
            .envs(&self.env)
            .spawn()
            .with_context(|| format!("can't start {}", program.workerd.display()))?;
        // It holds the other end of the pipe.
        drop(command);
        let output = pipe.map(|(pipe, threshold)| Output::read(pipe, threshold));
        let mut running = Running { child, addr: self.addr, state: Some(state), output, last_words: Vec::new() };
        running.wait_until_it_answers(control).map_err(|error| match &self.log {
            Log::Lines(_) => error,
            Log::File(log) => error.context(last_lines(log, LOG_LINES)),
        })?;
        Ok(running)
    }

    /// Returns workerd's arguments, once it has been started with the state directory.
    ///
    /// # Errors
    ///
    /// It never was.
    pub fn arguments(&self) -> Result<Vec<OsString>> {
        config::arguments(self)
    }
}

/// A worker, and the workerd that runs it.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable of workerd.
    pub workerd: PathBuf,
    /// The configuration: [`CONFIG`], or one that is like it.
    pub config: String,
    /// The files that it embeds by their names.
    pub modules: Vec<PathBuf>,
    /// The files of the page for people.
    pub assets: Vec<PathBuf>,
    /// The executable that knows [`attached`], if workerd is to be killed when this process is.
    pub attached_by: Option<PathBuf>,
}

impl Program {
    /// Returns the worker that is built in `dir`, for this workerd.
    #[must_use]
    pub fn in_dir(workerd: PathBuf, dir: &Path) -> Self {
        Self::with_assets_in(workerd, dir, &dir.join("assets"))
    }

    /// Returns the worker whose modules are in `dir`, and the files of its page in `assets`.
    #[must_use]
    pub fn with_assets_in(workerd: PathBuf, dir: &Path, assets: &Path) -> Self {
        let modules = ["index.js", "index_bg.wasm"].map(|name| dir.join(name)).into();
        let assets = ["index.html", "livekit-client.js"].map(|name| assets.join(name)).into();
        Self { workerd, config: CONFIG.to_owned(), modules, assets, attached_by: None }
    }

    /// Returns workerd's command, without arguments.
    fn command(&self) -> Command {
        match &self.attached_by {
            Some(executable) => {
                let mut command = Command::new(executable);
                command.arg(attached::Options::SUBCOMMAND).arg(process::id().to_string()).arg(&self.workerd);
                command
            }
            None => Command::new(&self.workerd),
        }
    }
}

/// A workerd that answers. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    addr: SocketAddr,
    /// Until workerd has ended.
    state: Option<StateLock>,
    /// Likewise.
    output: Option<Output>,
    last_words: Vec<String>,
}

impl Running {
    /// Stops workerd as an operator would (SIGTERM), and waits for its end: for ten seconds, then it is killed.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("can't signal workerd")?;
        let deadline = Instant::now() + PATIENCE_AT_END;
        while Instant::now() < deadline {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        self.kill()
    }

    /// Kills workerd (SIGKILL), and waits for its end.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().context("can't kill workerd")?;
        self.wait()
    }

    /// Waits until workerd ends by itself.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("can't wait for workerd")?;
        self.has_ended();
        Ok(status)
    }

    /// Returns workerd's exit status, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let ended = self.child.try_wait().context("can't wait for workerd")?;
        if ended.is_some() {
            self.has_ended();
        }
        Ok(ended)
    }

    fn has_ended(&mut self) {
        self.state = None;
        if let Some(output) = self.output.take() {
            self.last_words = output.finish();
        }
    }

    /// Returns the reason for workerd's end: its last words, or its exit status where it had none.
    #[must_use]
    pub fn reason(&self, status: ExitStatus) -> String {
        match (self.last_words.join("; "), status.success()) {
            (words, true) if words.is_empty() => String::from("it gave no reason, and no error"),
            (words, _) if words.is_empty() => format!("it gave no reason but {status}"),
            (words, _) => words,
        }
    }

    /// Returns the address that the worker listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the process id of workerd.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_answers(&mut self, control: PipeReader) -> Result<()> {
        let deadline = Instant::now() + PATIENCE_AT_START;
        let (sender, port) = mpsc::channel();
        // Reading ends with workerd's end, so this thread does, too.
        thread::spawn(move || {
            let listening =
                BufReader::new(control).lines().map_while(Result::ok).find_map(|line| listening_port(&line));
            // The receiver may have given up.
            let _ = sender.send(listening);
        });
        match port.recv_timeout(PATIENCE_AT_START) {
            Ok(Some(port)) => self.addr.set_port(port),
            Ok(None) => {
                let status = self.wait()?;
                bail!("workerd ended before it listened on {}: {}", self.addr, self.reason(status));
            }
            Err(_) => bail!("workerd doesn't listen after {} s", PATIENCE_AT_START.as_secs()),
        }
        loop {
            match http::status(self.addr, "/healthz") {
                Ok(_) => return Ok(()),
                Err(error) => {
                    if let Some(status) = self.try_wait()? {
                        bail!("workerd ended before it answered: {}", self.reason(status));
                    }
                    if Instant::now() > deadline {
                        return Err(error).context("the worker doesn't answer");
                    }
                }
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the port of the message with which workerd reports that it listens.
fn listening_port(message: &str) -> Option<u16> {
    #[derive(Deserialize)]
    #[serde(tag = "event", rename_all = "kebab-case")]
    enum Message {
        Listen {
            port: u16,
        },
        #[serde(other)]
        Other,
    }
    match serde_json::from_str(message) {
        Ok(Message::Listen { port }) => Some(port),
        Ok(Message::Other) | Err(_) => None,
    }
}

const PATIENCE_AT_START: Duration = Duration::from_secs(60);
const PATIENCE_AT_END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
const LOG_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_message_that_it_listens() {
        assert_eq!(listening_port(r#"{"event":"listen","socket":"http","port":8080}"#), Some(8080));
        assert_eq!(listening_port(r#"{"event":"listen-inspector","port":9229}"#), None);
        assert_eq!(listening_port("not JSON"), None);
    }
}
