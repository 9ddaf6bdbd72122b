//! The production build in workerd alone: what `cargo xtask serve`, the black-box tests and the benchmark run.

use std::collections::BTreeMap;

use anyhow::Result;
pub use standalone::{
    log::Log,
    workerd::{Launch, Modules, Program, Running},
};

use crate::{build::Build, tools, workspace};

/// Starts workerd with the production build, and returns once the worker answers requests.
///
/// # Errors
///
/// There is no build; or see [`Launch::start`].
pub fn start(launch: &Launch) -> Result<Running> {
    launch.start(&production()?)
}

/// The production build that is there, and the workerd of the npm packages.
///
/// # Errors
///
/// There is no build, or workerd isn't installed.
pub fn production() -> Result<Program> {
    let build = Build::existing(&workspace::root()?)?;
    with_modules(Modules { script: build.script, wasm: Some(build.wasm), bindings: BTreeMap::new() })
}

/// Another worker in the same workerd.
///
/// # Errors
///
/// workerd isn't installed.
pub fn with_modules(modules: Modules) -> Result<Program> {
    Ok(Program { workerd: tools::workerd(&workspace::root()?)?, modules, attached_by: None })
}
