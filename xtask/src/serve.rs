//! `cargo xtask serve`: the production build in workerd alone.

use std::{collections::BTreeMap, env, net::SocketAddr, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use matrixrtc_edge::config::{Config, VARIABLES};

use crate::{
    build::Build,
    interrupt::Interrupt,
    workerd::{Launch, Log},
    workspace,
};

/// Run the production build in workerd alone, configured by the LIVEKIT_… variables of the environment
///
/// Ends on SIGINT and SIGTERM. If a variable is missing or wrong, says which and exits with status 2.
#[derive(Debug, Args)]
pub struct Options {
    /// Where to listen; port 0 is a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// The directory the state is kept in; created if it is missing
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Trust these certificates, too
    #[arg(long, value_name = "PEM")]
    trust_ca: Vec<PathBuf>,
}

/// Runs the worker until SIGINT or SIGTERM.
///
/// # Errors
///
/// The configuration is incomplete or wrong ([`ConfigErrors`](matrixrtc_edge::config::ConfigErrors)), the worker can't be
/// built or started, or it ends by itself.
pub fn run(options: Options) -> Result<()> {
    let variable = |name: &&str| Some(((*name).to_owned(), env::var(name).ok()?));
    let env: BTreeMap<String, String> = VARIABLES.iter().filter_map(variable).collect();
    Config::from_lookup(|name| env.get(name).cloned())?;
    Build::make(&workspace::root()?)?;
    let interrupt = Interrupt::listen().context("can't listen for signals")?;
    let launch =
        Launch { addr: options.addr, state: options.state, trust_ca: options.trust_ca, env, log: Log::Inherit };
    let mut running = launch.start()?;
    println!("listening on http://{}", running.addr());
    loop {
        let ended = running.try_wait()?;
        // Ctrl-C in a terminal reaches workerd, too: that isn't "by itself".
        if interrupt.has_come() {
            running.terminate()?;
            return Ok(());
        }
        if let Some(status) = ended {
            bail!("workerd has ended by itself: {status}");
        }
        thread::sleep(POLL);
    }
}

const POLL: Duration = Duration::from_millis(50);
