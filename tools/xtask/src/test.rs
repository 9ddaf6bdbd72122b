//! `cargo xtask test`: everything that is checked without real homeservers and SFUs.

use std::path::Path;

use anyhow::Result;

use crate::{
    cache, debian,
    program::STAND_INS,
    progress, release, size,
    tools::{self, Tools},
    traefik, workspace,
};

/// Runs all checks, and stops at the first that fails.
///
/// # Errors
///
/// A check fails, or can't be run.
pub fn run() -> Result<()> {
    let root = workspace::root()?;
    tools::add_target(&root, tools::WASM_TARGET)?;
    let tools = Tools::set_up(&root)?;
    cargo(&root, "checking the format", &["fmt", "--all", "--check"])?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    cargo(&root, "looking for mistakes", &clippy)?;
    let clippy =
        ["clippy", "--package", "matrixrtc-edge", "--target", "wasm32-unknown-unknown", "--", "-D", "warnings"];
    cargo(&root, "looking for mistakes in what is compiled for WebAssembly only", &clippy)?;
    progress::run_shown(
        "checking the documentation",
        workspace::cargo(&root)
            .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    size::run()?;
    cargo(&root, "running unit and property tests", &["test", "--workspace", "--exclude", "black-box"])?;
    let archive = release::make_twice(&root)?;
    STAND_INS.compile(&root)?;
    debian::IP.set_up()?;
    debian::SYSTEMD_ANALYZE.set_up()?;
    for server in ["nginx", "caddy"] {
        debian::unpack_server(server)?;
    }
    if let Err(error) = traefik::set_up() {
        progress::note(&format!("the tests behind Traefik are left out: {error:#}"));
    }
    // Most of them wait for something, so there may be more of them than cores.
    progress::run_shown(
        "running black-box tests",
        workspace::cargo(&root)
            .args(["test", "--package", "black-box", "--", "--test-threads", "4"])
            .env("RELEASED_ARCHIVE", archive),
    )?;
    progress::run(
        "checking that wrangler would deploy it",
        tools.wrangler().args(["deploy", "--dry-run"]),
        &cache::log("wrangler-deploy")?,
    )
}

fn cargo(root: &Path, what: &str, arguments: &[&str]) -> Result<()> {
    progress::run_shown(what, workspace::cargo(root).args(arguments))
}
