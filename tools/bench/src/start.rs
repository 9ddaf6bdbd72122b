//! The time that a worker's modules add to the start of workerd.

use std::{
    io::{BufRead, BufReader, PipeReader, pipe},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use standalone::workerd::Launch;

use crate::process;

/// The cost of a start, until workerd listens: modules are compiled, and their top level has been run.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// On the clock.
    pub elapsed: Duration,
    /// Of all threads.
    pub cpu: Duration,
}

/// Starts workerd as `launch` has started it before, and kills it.
pub fn measure(workerd: &Path, launch: &Launch) -> Result<Start> {
    let (control, control_of_child) = pipe().context("can't open a pipe")?;
    let started = Instant::now();
    let mut child = Command::new(workerd)
        .args(launch.arguments()?)
        .envs(&launch.env)
        .args(["--control-fd", "0"])
        .stdin(control_of_child)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("can't start workerd")?;
    let start = until_it_listens(&child, control, started);
    kill(&mut child)?;
    start
}

fn until_it_listens(child: &Child, control: PipeReader, started: Instant) -> Result<Start> {
    for line in BufReader::new(control).lines() {
        if line?.contains(LISTENING) {
            return Ok(Start { elapsed: started.elapsed(), cpu: process::scheduled_time(child.id())? });
        }
    }
    bail!("workerd ended before it listened")
}

fn kill(child: &mut Child) -> Result<()> {
    child.kill().context("can't kill workerd")?;
    child.wait().context("can't wait for workerd")?;
    Ok(())
}

const LISTENING: &str = r#""event":"listen""#;
