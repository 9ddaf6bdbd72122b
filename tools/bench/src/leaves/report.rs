//! The results, for people and for programs.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::super::report::percentile;

/// All results. Displayed, it is a table.
#[derive(Debug, Serialize)]
pub struct Report {
    pub delegations: usize,
    pub rooms: usize,
    #[serde(serialize_with = "seconds")]
    pub delay: Duration,
    /// How late a restart may be.
    #[serde(serialize_with = "seconds")]
    pub headroom: Duration,
    #[serde(serialize_with = "seconds")]
    pub handed_over_in: Duration,
    pub restarts: Restarts,
    /// While nothing but restarts happened.
    pub steady: Usage,
    pub exodus: Exodus,
    /// Of workerd, while everybody left.
    #[serde(serialize_with = "seconds")]
    pub exodus_cpu: Duration,
}

/// How late restarts reached the homeserver.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Restarts {
    /// The first of each: after its participant connected.
    #[serde(serialize_with = "percentiles")]
    pub first_lateness: Vec<Duration>,
    /// The others: after they were due.
    #[serde(serialize_with = "percentiles")]
    pub lateness: Vec<Duration>,
}

/// CPU time, memory and disk space of workerd.
#[derive(Debug, Serialize)]
pub struct Usage {
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    #[serde(serialize_with = "seconds")]
    pub cpu: Duration,
    /// Resident, at the end.
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

/// How everybody's leaving went.
#[derive(Debug, Serialize)]
pub struct Exodus {
    /// From each participant's going to its `send`.
    #[serde(serialize_with = "percentiles")]
    pub lateness: Vec<Duration>,
    #[serde(serialize_with = "optional_seconds")]
    pub until_last_left: Option<Duration>,
    #[serde(serialize_with = "optional_seconds")]
    pub until_last_sent: Option<Duration>,
}

impl Report {
    /// Sorts the values that percentiles are taken of.
    pub fn sort(&mut self) {
        for list in [&mut self.restarts.first_lateness, &mut self.restarts.lateness, &mut self.exodus.lateness] {
            list.sort_unstable();
        }
    }

    /// How many leaves weren't sent by the worker.
    pub fn unkept(&self) -> usize {
        self.delegations - self.exodus.lateness.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delegations, rooms, steady, restarts, exodus, .. } = self;
        let (delay, headroom) = (self.delay.as_secs(), self.headroom.as_secs_f64());
        writeln!(
            f,
            "{delegations} delegated leaves in {rooms} rooms, {delay} s each, restarted {headroom} s before their end\n"
        )?;
        let count = restarts.lateness.len();
        row(f, "handed over, participants connected [s]", self.handed_over_in.as_secs_f64(), 1)?;
        spread(f, "first restart after connecting", &restarts.first_lateness)?;
        row(f, "restarts [1/s]", count as f64 / steady.elapsed.as_secs_f64(), 1)?;
        spread(f, "lateness of restarts", &restarts.lateness)?;
        row(f, "CPU of workerd [% of a core]", 100.0 * steady.cpu.as_secs_f64() / steady.elapsed.as_secs_f64(), 1)?;
        row(f, "CPU of workerd [ms/restart]", steady.cpu.as_secs_f64() * 1000.0 / count as f64, 3)?;
        row(f, "memory of workerd [MiB]", steady.memory_bytes as f64 / MEBIBYTE, 1)?;
        row(f, "disk [MiB]", steady.disk_bytes as f64 / MEBIBYTE, 1)?;
        row(f, "last participant left after [s]", exodus.until_last_left.unwrap_or_default().as_secs_f64(), 1)?;
        row(f, "last leave sent after [s]", exodus.until_last_sent.unwrap_or_default().as_secs_f64(), 1)?;
        spread(f, "leave sent after leaving", &exodus.lateness)?;
        row(f, "CPU of workerd [ms/leave]", self.exodus_cpu.as_secs_f64() * 1000.0 / *delegations as f64, 3)?;
        row(f, "leaves not sent by the worker", self.unkept() as f64, 0)
    }
}

fn row(f: &mut fmt::Formatter<'_>, title: &str, value: f64, precision: usize) -> fmt::Result {
    writeln!(f, "{title:<TITLE_WIDTH$}{value:>COLUMN_WIDTH$.precision$}")
}

fn spread(f: &mut fmt::Formatter<'_>, title: &str, sorted: &[Duration]) -> fmt::Result {
    for percent in PERCENTILES {
        let name = if percent == 100 { "max".to_owned() } else { format!("p{percent}") };
        row(f, &format!("{title}, {name} [s]"), percentile(sorted, percent).as_secs_f64(), 3)?;
    }
    Ok(())
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

/// Of sorted durations, in seconds.
fn percentiles<S: Serializer>(sorted: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    let named = PERCENTILES.map(|percent| (format!("p{percent}"), percentile(sorted, percent).as_secs_f64()));
    serializer.collect_map(named)
}

const PERCENTILES: [usize; 3] = [50, 99, 100];
const TITLE_WIDTH: usize = 44;
const COLUMN_WIDTH: usize = 12;
const MEBIBYTE: f64 = 1_048_576.0;
