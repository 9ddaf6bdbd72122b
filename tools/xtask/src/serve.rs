//! `cargo xtask serve`: the production build in workerd alone.

use std::convert::Infallible;

use anyhow::Result;

use crate::{
    build::Build,
    program::{Arguments, SERVE},
    tools, workspace,
};

/// Builds the worker, and becomes the program that runs it until SIGINT or SIGTERM.
///
/// # Errors
///
/// The worker or the program can't be built.
pub fn run(arguments: &Arguments) -> Result<Infallible> {
    let root = workspace::root()?;
    if !arguments.ask_for_help() {
        Build::make(&root)?;
    }
    let workerd = tools::workerd_path(&root)?;
    SERVE.run(&["--workerd".into(), workerd.into(), "--build".into(), Build::dir(&root).into()], arguments)
}
