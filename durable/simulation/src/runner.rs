//! Runs simulations, one or many.

use std::fmt;
use std::num::NonZero;
use std::ops::{AddAssign, Range};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use thiserror::Error;

use crate::homeserver::Fate;
use crate::invariant::Violation;
use crate::limit::{self, Limit};
use crate::siege::{self, Siege};
use crate::world::World;

/// Simulation in which a promise was broken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("seed {seed}: {violation}")]
pub struct Failure {
    /// Its seed: [`trace`] shows its events.
    pub seed: u64,
    /// The promise, and the way in which it was broken.
    pub violation: Violation,
}

/// Totals of simulations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Simulations.
    pub seeds: u64,
    /// Events in them.
    pub steps: u64,
    /// Actions of the engine.
    pub actions: u64,
    /// Losses of the object's memory.
    pub losses: u64,
    /// Delegations.
    pub delegations: u64,
    /// Leaves that the engine had sent.
    pub sent: u64,
    /// Leaves that their homeserver sent by itself.
    pub fired: u64,
    /// Connections that the engine had ended.
    pub removed: u64,
}

/// Runs one simulation.
pub fn simulate(seed: u64) -> Result<Totals, Failure> {
    let _running = Running(seed);
    if seed % siege::EVERY == siege::EVERY - 50 {
        Siege::new(seed).run().map_err(|violation| Failure { seed, violation })?;
    }
    if limit::is_in(seed) {
        Limit::new(seed, false).run().map_err(|violation| Failure { seed, violation })?;
    }
    let mut world = World::new(seed, false);
    world.run().map_err(|violation| Failure { seed, violation })?;
    let fates = |fate: Fate| world.homeservers.events.iter().filter(|event| event.fate == fate).count() as u64;
    Ok(Totals {
        seeds: 1,
        steps: world.steps,
        actions: world.actions,
        losses: world.object.life.into(),
        delegations: world.judge.cases.len() as u64,
        sent: fates(Fate::Sent),
        fired: fates(Fate::Fired),
        removed: world.removed,
    })
}

/// Runs one simulation, and returns its events line by line.
pub fn trace(seed: u64) -> (Vec<String>, Result<(), Failure>) {
    if limit::is_in(seed) {
        let mut limit = Limit::new(seed, true);
        if let Err(violation) = limit.run() {
            return (limit.trace.unwrap_or_default(), Err(Failure { seed, violation }));
        }
    }
    let mut world = World::new(seed, true);
    let result = world.run().map_err(|violation| Failure { seed, violation });
    (world.trace.unwrap_or_default(), result)
}

/// Runs the simulations of `seeds` on all cores. `progress` is called now and then with the totals so far. Stops at
/// the first failure; with several at once, the one with the smallest seed counts.
pub fn run(seeds: Range<u64>, progress: impl Fn(&Progress) + Sync) -> Result<Totals, Failure> {
    let next = AtomicU64::new(seeds.start);
    let done = Mutex::new((Totals::default(), None::<Failure>));
    let lock = || done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= seeds.end || lock().1.is_some() {
                        return;
                    }
                    let batch = batch(first..seeds.end.min(first + BATCH));
                    let mut done = lock();
                    match batch {
                        Ok(totals) => done.0 += totals,
                        Err(failure) => {
                            if done.1.as_ref().is_none_or(|other| failure.seed < other.seed) {
                                done.1 = Some(failure);
                            }
                        }
                    }
                    progress(&Progress { done: done.0, of: seeds.end - seeds.start });
                }
            });
        }
    });
    match done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        (_, Some(failure)) => Err(failure),
        (totals, None) => Ok(totals),
    }
}

/// Progress of [`run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Totals so far.
    pub done: Totals,
    /// Number of simulations to run.
    pub of: u64,
}

fn batch(seeds: Range<u64>) -> Result<Totals, Failure> {
    let mut totals = Totals::default();
    for seed in seeds {
        totals += simulate(seed)?;
    }
    Ok(totals)
}

/// Prints the seed of a simulation that panics.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was seed {}", self.0);
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.actions += other.actions;
        self.losses += other.losses;
        self.delegations += other.delegations;
        self.sent += other.sent;
        self.fired += other.fired;
        self.removed += other.removed;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, steps, actions, losses, delegations, sent, fired, removed } = self;
        write!(f, "{seeds} seeds: {steps} steps, {actions} actions, memory lost {losses} times, ")?;
        write!(f, "{delegations} delegations, {sent} leaves sent, {fired} run out, {removed} connections ended")
    }
}

const BATCH: u64 = 128;
