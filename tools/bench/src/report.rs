//! The results of a benchmark, for people and for programs.

use std::{fmt, thread, time::Duration};

use serde::Serialize;

/// All results. Displayed, it is a table.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this machine. workerd, the upstreams and the client share them.
    cores: usize,
    /// The others are compared with the first.
    contenders: Vec<Summary>,
    comparisons: Vec<Comparison>,
}

/// The measurements of one contender in one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// With one request at a time.
    pub latency_p50_ms: f64,
    /// With one request at a time.
    pub latency_p99_ms: f64,
    /// With 16 requests at a time, as all that follows.
    pub requests_per_s: f64,
    /// Of workerd, all threads.
    pub cpu_ms_per_request: f64,
    /// Opened by workerd to the homeserver.
    pub homeserver_connections_per_request: f64,
    /// Opened by workerd to the SFU.
    pub sfu_connections_per_request: f64,
}

/// The time that a contender's modules add to the start of workerd.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ModuleStart {
    /// On the clock.
    pub elapsed_ms: f64,
    /// Of all threads.
    pub cpu_ms: f64,
}

/// The measurements of one contender.
#[derive(Debug, Serialize)]
pub struct Summary {
    name: String,
    module_start: ModuleStart,
    /// Resident, at the end.
    memory_bytes: u64,
    medians: Round,
    rounds: Vec<Round>,
}

impl Summary {
    /// Summarises the rounds.
    pub fn new(name: String, module_start: ModuleStart, memory_bytes: u64, rounds: Vec<Round>) -> Self {
        let of = |value: fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
        let medians = Round {
            latency_p50_ms: of(|round| round.latency_p50_ms),
            latency_p99_ms: of(|round| round.latency_p99_ms),
            requests_per_s: of(|round| round.requests_per_s),
            cpu_ms_per_request: of(|round| round.cpu_ms_per_request),
            homeserver_connections_per_request: of(|round| round.homeserver_connections_per_request),
            sfu_connections_per_request: of(|round| round.sfu_connections_per_request),
        };
        Self { name, module_start, memory_bytes, medians, rounds }
    }
}

/// A contender beside the floor: the medians of the ratios within a round.
#[derive(Debug, Serialize)]
struct Comparison {
    name: String,
    latency_p50: f64,
    requests_per_s: f64,
    cpu_per_request: f64,
}

impl Comparison {
    fn new(floor: &Summary, other: &Summary) -> Self {
        let of = |value: fn(&Round) -> f64| {
            let pairs = floor.rounds.iter().zip(&other.rounds);
            median(&pairs.map(|(floor, other)| value(other) / value(floor)).collect::<Vec<_>>())
        };
        Self {
            name: other.name.clone(),
            latency_p50: of(|round| round.latency_p50_ms),
            requests_per_s: of(|round| round.requests_per_s),
            cpu_per_request: of(|round| round.cpu_ms_per_request),
        }
    }
}

impl Report {
    /// Compares the summaries with the first of them.
    pub fn new(contenders: Vec<Summary>) -> Self {
        let comparisons = match contenders.as_slice() {
            [floor, others @ ..] => others.iter().map(|other| Comparison::new(floor, other)).collect(),
            [] => Vec::new(),
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { cores, contenders, comparisons }
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        precision: usize,
        value: impl Fn(&Summary) -> f64,
    ) -> fmt::Result {
        write!(f, "{title:<TITLE_WIDTH$}")?;
        for contender in &self.contenders {
            write!(f, "{:>COLUMN_WIDTH$.precision$}", value(contender))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.contenders.first().map_or(0, |contender| contender.rounds.len());
        writeln!(f, "/get_token of a full-access user, homeserver known; medians of {rounds} rounds in turns;")?;
        writeln!(f, "`homeserver` is the worker, asked in homeserver mode for the same user's token;")?;
        writeln!(f, "{} cores, shared by workerd, the upstreams and the client\n", self.cores)?;
        write!(f, "{:TITLE_WIDTH$}", "")?;
        for contender in &self.contenders {
            write!(f, "{:>COLUMN_WIDTH$}", contender.name)?;
        }
        writeln!(f)?;
        self.row(f, "latency p50, one at a time [ms]", 3, |of| of.medians.latency_p50_ms)?;
        self.row(f, "latency p99, one at a time [ms]", 3, |of| of.medians.latency_p99_ms)?;
        self.row(f, "throughput, 16 at a time [1/s]", 0, |of| of.medians.requests_per_s)?;
        self.row(f, "CPU time of workerd [ms/request]", 3, |of| of.medians.cpu_ms_per_request)?;
        self.row(f, "connections to homeserver [1/request]", 3, |of| of.medians.homeserver_connections_per_request)?;
        self.row(f, "connections to SFU [1/request]", 3, |of| of.medians.sfu_connections_per_request)?;
        self.row(f, "memory of workerd [MiB]", 1, |of| of.memory_bytes as f64 / 1_048_576.0)?;
        self.row(f, "start of the module [ms]", 1, |of| of.module_start.elapsed_ms)?;
        self.row(f, "start of the module, CPU time [ms]", 1, |of| of.module_start.cpu_ms)?;
        writeln!(f, "\nbeside the floor, within a round{:>13}{:>14}{:>14}", "p50", "throughput", "CPU time")?;
        writeln!(f, "{:<TITLE_WIDTH$}{:>7}{:>14}", "  wanted", "≤ 1.15", "≥ 0.90")?;
        for Comparison { name, latency_p50, requests_per_s, cpu_per_request } in &self.comparisons {
            writeln!(f, "  {name:<36}{latency_p50:>7.3}{requests_per_s:>14.3}{cpu_per_request:>14.3}")?;
        }
        Ok(())
    }
}

/// Of any values in any order; the upper one of the middle two where there are two.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Of sorted values: the smallest that `percent` of them don't exceed.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

const TITLE_WIDTH: usize = 38;
const COLUMN_WIDTH: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(name: &str, values: &[f64]) -> Summary {
        let round = |&value| Round {
            latency_p50_ms: value,
            latency_p99_ms: value,
            requests_per_s: 1.0 / value,
            cpu_ms_per_request: value,
            homeserver_connections_per_request: 0.0,
            sfu_connections_per_request: 0.0,
        };
        Summary::new(
            name.to_owned(),
            ModuleStart { elapsed_ms: 1.0, cpu_ms: 1.0 },
            1,
            values.iter().map(round).collect(),
        )
    }

    #[test]
    fn rounds_are_compared_one_by_one() {
        let report = Report::new(vec![summary("floor", &[1.0, 2.0, 4.0]), summary("worker", &[1.5, 2.0, 8.0])]);

        assert_eq!(report.contenders[1].medians.latency_p50_ms, 2.0);
        assert_eq!(report.comparisons[0].latency_p50, 1.5);
        assert!((report.comparisons[0].requests_per_s - 1.0 / 1.5).abs() < 1e-9);
    }

    #[test]
    fn the_percentile_is_a_value_that_was_measured() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();

        assert_eq!(percentile(&sorted, 50), Duration::from_millis(100));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(198));
        assert_eq!(percentile(&sorted[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
