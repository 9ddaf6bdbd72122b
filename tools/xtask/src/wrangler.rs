//! The worker under `wrangler dev`, which adds rate limits and the Secrets Store to workerd.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use supervise::http;

use crate::tools::Tools;

/// `wrangler dev` and its children. Dropping it kills them.
#[derive(Debug)]
pub struct WranglerDev {
    child: Child,
    addr: SocketAddr,
}

impl WranglerDev {
    /// Starts it on `addr`; `prepare` may add to the command.
    ///
    /// # Errors
    ///
    /// It can't be started.
    pub fn start(tools: &Tools, addr: SocketAddr, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = tools.wrangler();
        command.arg("dev");
        Self::start_command(command, addr, prepare)
    }

    /// Starts it on `addr` by a command that passes its arguments on to `wrangler dev`; `prepare` may add to it.
    ///
    /// # Errors
    ///
    /// It can't be started.
    pub fn start_command(mut command: Command, addr: SocketAddr, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        command
            .args(["--ip", &addr.ip().to_string(), "--port", &addr.port().to_string()])
            .arg("--show-interactive-dev-session=false")
            .stdin(Stdio::null())
            // A group of its own: Ctrl-C reaches this process only, which then ends them in order.
            .process_group(0);
        prepare(&mut command);
        let child = command.spawn().context("can't start wrangler")?;
        Ok(Self { child, addr })
    }

    /// Returns the worker's address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for the worker's first answer; returns false if `given_up` comes before it.
    ///
    /// # Errors
    ///
    /// wrangler ends, or takes too long.
    pub fn wait_until_it_answers(&mut self, given_up: impl Fn() -> bool) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE_AT_START;
        while !given_up() {
            self.check()?;
            match http::status(self.addr, "/healthz") {
                Ok(_) => return Ok(true),
                Err(error) if Instant::now() > deadline => return Err(error.context("wrangler dev doesn't answer")),
                Err(_) => thread::sleep(POLL),
            }
        }
        Ok(false)
    }

    /// Checks that it still runs.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("can't wait for wrangler")? {
            Some(status) => bail!("wrangler dev has ended by itself: {status}"),
            None => Ok(()),
        }
    }

    /// Ends it in order, as Ctrl-C would.
    ///
    /// # Errors
    ///
    /// The operating system refuses.
    pub fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::INT).context("can't signal wrangler")?;
        let deadline = Instant::now() + PATIENCE_AT_END;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for WranglerDev {
    fn drop(&mut self) {
        // The rest of the group: none, if all went well.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

const PATIENCE_AT_START: Duration = Duration::from_secs(120);
const PATIENCE_AT_END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
