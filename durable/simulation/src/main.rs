//! Runs simulations of the delegated-leave engine: `simulate SEEDS [FIRST]`, or `simulate --seed SEED` for one with
//! all its events, or `simulate --mutants SEEDS [MUTANT]` for the promise that each mutant is first found to break.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    match (arguments.first().map(String::as_str), numbers.as_slice()) {
        (Some("--seed"), [seed]) => trace(*seed),
        (Some("--mutants"), [seeds]) => mutants(*seeds, arguments.get(2).map(String::as_str)),
        (Some(_), [seeds]) if arguments.len() == 1 => run(*seeds, 0),
        (Some(_), [seeds, first]) if arguments.len() == 2 => run(*seeds, *first),
        _ => {
            eprintln!("usage: simulate SEEDS [FIRST] | simulate --seed SEED | simulate --mutants SEEDS [MUTANT]");
            ExitCode::from(2)
        }
    }
}

fn run(seeds: u64, first: u64) -> ExitCode {
    let start = Instant::now();
    let reported = Mutex::new(start);
    let outcome = simulation::run(first..first.saturating_add(seeds), |progress| {
        if let Ok(mut reported) = reported.lock()
            && reported.elapsed() > Duration::from_secs(3)
        {
            *reported = Instant::now();
            println!("{} of {} seeds, {:.0} s", progress.done.seeds, progress.of, start.elapsed().as_secs_f64());
        }
    });
    match outcome {
        Ok(totals) => {
            println!("every promise was kept in {totals}; {:.1} s", start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}\nto see what happens in it: --seed {}", failure.seed);
            ExitCode::FAILURE
        }
    }
}

fn mutants(seeds: u64, only: Option<&str>) -> ExitCode {
    let wanted = |mutant: &delegated_leaves::Mutant| only.is_none_or(|only| format!("{mutant:?}") == only);
    for mutant in delegated_leaves::Mutant::ALL.into_iter().filter(wanted) {
        let start = Instant::now();
        let failure = mutant.inject(|| (0..seeds).find_map(|seed| simulation::simulate(seed).err()));
        let found = failure.map_or("not found".to_owned(), |failure| failure.to_string().chars().take(120).collect());
        println!("{mutant:?}: {found}; {:.1} s", start.elapsed().as_secs_f64());
    }
    ExitCode::SUCCESS
}

fn trace(seed: u64) -> ExitCode {
    let (lines, outcome) = simulation::trace(seed);
    for line in lines {
        println!("{line}");
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
