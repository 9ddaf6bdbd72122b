//! `cargo xtask e2e`: the tests of `tests/e2e`, which put the worker among real parts.
//!
//! Synapse, LiveKit's SFU and its native client run beside the worker in a network namespace of their own, in which
//! libwebrtc finds an interface that isn't loopback; see `tests/e2e/isolated.sh`.

use std::{
    env,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::Args;
use rustix::process::geteuid;

use crate::{
    build::Build,
    cache, debian,
    program::{OPERATOR, SERVE},
    progress,
    tools::{self, Tools},
    workspace,
};

/// Run the end-to-end tests with real homeservers, SFU and clients, installing missing parts first
#[derive(Debug, Args)]
pub struct Options {
    /// Arguments for pytest, for example `-- -k refused`
    #[arg(last = true, value_name = "PYTEST")]
    pytest: Vec<String>,
}

/// Installs and builds missing parts, and becomes pytest.
///
/// # Errors
///
/// Something can't be installed or built, or there is no `unshare`. A failed test is pytest's exit status.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let tests = root.join("tests/e2e");
    debian::IP.set_up()?;
    let chromium = debian::CHROMIUM.set_up()?;
    let python = python(&tests)?;
    let livekit_server = livekit_server(&tests)?;
    tools::npm_packages(&tests)?;
    let tools = Tools::set_up(&root)?;
    Build::make(&root)?;
    for program in [OPERATOR, SERVE] {
        program.compile(&root)?;
    }

    let wrangler = tools.wrangler();
    let mut pytest = Command::new("unshare");
    pytest
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args((!geteuid().is_root()).then_some("--map-root-user"))
        .arg(tests.join("isolated.sh"))
        .arg(python)
        .args(["-m", "pytest"])
        .args(&options.pytest)
        .current_dir(&tests)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("E2E_CHROMIUM", chromium)
        .env("E2E_LIVEKIT_SERVER", livekit_server)
        .env("E2E_WRANGLER", command_line(&wrangler)?)
        .env("E2E_XTASK", env::current_exe()?);
    for (name, value) in wrangler.get_envs() {
        if let Some(value) = value {
            pytest.env(name, value);
        }
    }
    Err(pytest.exec()).context("can't start unshare")
}

/// Returns a Python with the packages of `requirements.txt`.
pub(crate) fn python(tests: &Path) -> Result<PathBuf> {
    let requirements = tests.join("requirements.txt");
    let version = cache::fingerprint(&[&requirements])?;
    let place = cache::tool("e2e-python", &version, |place| {
        progress::run(
            "making a Python environment for real parts",
            Command::new("python3").args(["-m", "venv"]).arg(place),
            &cache::log("e2e-venv")?,
        )
        .context("Python 3.11 with its module venv is needed (Debian's packages python3 and python3-venv)")?;
        progress::run(
            "installing Synapse, LiveKit's client and pytest in it",
            Command::new(place.join("bin/python"))
                .args(["-m", "pip", "install", "--no-input", "--progress-bar", "off"])
                .args(["--require-hashes", "--no-deps", "--only-binary", ":all:"])
                .arg("--requirement")
                .arg(&requirements),
            &cache::log("e2e-pip")?,
        )
    })?;
    Ok(place.join("bin/python"))
}

/// Returns LiveKit's SFU, of the version in `go.mod`.
pub(crate) fn livekit_server(tests: &Path) -> Result<PathBuf> {
    let version = cache::fingerprint(&[&tests.join("go.mod"), &tests.join("go.sum")])?;
    let place = cache::tool("livekit-server", &version, |place| {
        progress::run(
            "building livekit-server, once per machine, takes some minutes",
            Command::new("go")
                .args(["build", "-v", "-o"])
                .arg(place.join("livekit-server"))
                .arg("github.com/livekit/livekit-server/cmd/server")
                .current_dir(tests),
            &cache::log("livekit-server")?,
        )
        .context("Go 1.26 is needed, for LiveKit's SFU")
    })?;
    Ok(place.join("livekit-server"))
}

/// Returns program and arguments as JSON.
fn command_line(command: &Command) -> Result<String> {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Option<Vec<_>> = words.map(|word| word.to_str()).collect();
    let words = words.context("the path of this clone isn't UTF-8")?;
    Ok(serde_json::to_string(&words)?)
}
