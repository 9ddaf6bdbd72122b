//! How long a token takes where each answer of homeserver and SFU takes a while, as it does between machines: with its
//! leave, and without.
//!
//! The two are requested in turns, one at a time, each for a delayed event of its own.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use xtask::progress::Step;

use crate::{
    load::Client,
    production,
    report::percentile,
    tokens::{Bench, milliseconds},
};

#[derive(Debug, Args)]
pub struct HopsOptions {
    /// How long homeserver and SFU take for each answer, in ms
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=1_000))]
    hop: u64,
    /// How many tokens of each kind are requested
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    tokens: u32,
}

/// Builds the worker, measures, and prints the results.
///
/// # Errors
///
/// The worker can't be built or started, or answers something else than a token.
pub fn run(options: &HopsOptions) -> Result<()> {
    let program = production()?;
    let bench = Bench::new(&program, Duration::from_millis(options.hop))?;
    let worker = bench.launch("worker")?.start(&program)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut latencies = runtime.block_on(async {
        let mut client = Client::connect(worker.addr()).await?;
        let mut step = Step::start("measuring");
        let mut latencies = [Vec::new(), Vec::new()];
        // The first ones look for the homeserver.
        for number in 0..WARM_UP + options.tokens {
            step.tick(|| format!("token {number} of {}", WARM_UP + options.tokens));
            for (body, latencies) in [bench.request(), with_leave(bench.request(), number)].iter().zip(&mut latencies) {
                let sent = Instant::now();
                client.post("/get_token", &[], body.to_string().into()).await?;
                if number >= WARM_UP {
                    latencies.push(sent.elapsed());
                }
            }
        }
        step.done();
        anyhow::Ok(latencies)
    })?;

    println!("{:<24}{:>10}{:>10}", format!("{} ms a hop", options.hop), "p50 (ms)", "p99 (ms)");
    for (kind, latencies) in ["a token", "a token with its leave"].into_iter().zip(&mut latencies) {
        latencies.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| milliseconds(percentile(latencies, percent)));
        println!("{kind:<24}{p50:>10.1}{p99:>10.1}");
    }
    Ok(())
}

/// Adds a delayed event of its own to a request for a token.
fn with_leave(mut request: Value, number: u32) -> Value {
    request["delay_id"] = format!("syd_ofTheBenchmark{number}").into();
    request["delay_timeout"] = json!(3_600_000);
    request
}

const WARM_UP: u32 = 5;
