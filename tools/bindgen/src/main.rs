//! `bindgen WASM DIR`: writes the compiled worker `WASM` with its JavaScript bindings to `DIR`, as `index_bg.wasm` and
//! `index.js`.
//!
//! This is what the command `wasm-bindgen` does, of the version in `Cargo.lock`, without its test runner: an HTTP server
//! and a WebDriver client that take a minute to compile.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let wasm = arguments.next().context("no WebAssembly module is named")?;
    let dir = arguments.next().context("no output directory is named")?;
    Bindgen::new()
        .input_path(&wasm)
        .out_name("index")
        // An ECMAScript module that imports its WebAssembly module: workerd and esbuild know the form.
        .module(true)?
        .typescript(false)
        // After a panic the module starts anew (src/entry.js of xtask).
        .reset_state_function(true)
        .force_enable_abort_handler(true)
        .generate(&dir)
        .with_context(|| format!("can't make bindings for {}", wasm.display()))
}
