//! `pack EXECUTABLE TO FILE...`: makes the executable `TO`, which is `EXECUTABLE` with the files inside it.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use payload::Payload;

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
    let executable = arguments.next().context("no executable is named")?;
    let to = arguments.next().context("no output file is named")?;
    Payload::append(&executable, &arguments.collect::<Vec<_>>(), &to)
}
