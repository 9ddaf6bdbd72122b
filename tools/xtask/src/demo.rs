//! `cargo xtask demo`: a call between real parts on loopback, shown step by step by `tests/e2e/demo.py`.

use std::{env, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};
use clap::Args;

use crate::{build::Build, e2e, program::SERVE, workspace};

/// Watch a call between a real homeserver, a real SFU and the worker, with everything that goes over the wire
///
/// Everything runs on 127.0.0.1, needs no root, and is gone afterwards.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave everything running until Ctrl-C, for a look around
    #[arg(long)]
    keep: bool,
}

/// Installs and builds missing parts, and becomes the demo.
///
/// # Errors
///
/// Something can't be installed, built or started. A demo that fails says so with its exit status.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let tests = root.join("tests/e2e");
    let python = e2e::python(&tests)?;
    let livekit_server = e2e::livekit_server(&tests)?;
    Build::make(&root)?;
    SERVE.compile(&root)?;

    let mut demo = Command::new(python);
    demo.arg("demo.py")
        .args(options.keep.then_some("--keep"))
        .current_dir(&tests)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("E2E_LIVEKIT_SERVER", livekit_server)
        .env("E2E_XTASK", env::current_exe()?);
    // No proxy is meant for this machine's loopback.
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        demo.env_remove(proxy);
    }
    Err(demo.exec()).context("can't start Python")
}
