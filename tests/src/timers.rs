use std::fmt;

use crate::Service;

/// Module before the worker's own that counts timers: a pending one keeps an object in memory, which is billed.
///
/// Whenever the last invocation of a request or an alarm is over, it writes down the number of timers that are left, of
/// all that have been started.
pub struct TimerSpy;

/// Timers at an instant at which nothing runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Alarms that have run so far.
    pub alarms: u64,
    /// Timers that have been started so far.
    pub started: u64,
    /// Timers that are pending.
    pub pending: u64,
}

impl TimerSpy {
    /// Returns the counts so far.
    pub fn counts(service: &Service) -> Vec<Timers> {
        let lines = service.log().lines().into_iter();
        let count = |line: serde_json::Value| {
            let timers = &line["timers"];
            Some(Timers {
                alarms: timers["alarms"].as_u64()?,
                started: timers["started"].as_u64()?,
                pending: timers["pending"].as_u64()?,
            })
        };
        lines.filter_map(|line| count(line.0)).collect()
    }
}

impl fmt::Display for TimerSpy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "import Worker, { Room as Deployed } from 'index.js';
const pending = new Set();
const { setTimeout, clearTimeout } = globalThis;
let started = 0, alarms = 0, running = 0;
globalThis.setTimeout = (callback, ms, ...values) => {
  const fire = () => { pending.delete(+timer); callback(...values); };
  // An object that is also a number, and may be cleared as either.
  const timer = setTimeout(fire, ms);
  started++;
  pending.add(+timer);
  return timer;
};
globalThis.clearTimeout = (timer) => { pending.delete(+timer); clearTimeout(timer); };
AbortSignal.timeout = () => { throw new Error('this timer can never be cleared'); };
const counted = async (invocation) => {
  running++;
  try {
    return await invocation();
  } finally {
    running--;
    const timers = { alarms, started, pending: pending.size };
    if (running === 0) console.log(JSON.stringify({ timers }));
  }
};
export class Room extends Deployed {
  fetch(request) { return counted(() => super.fetch(request)); }
  alarm() { alarms++; return counted(() => super.alarm()); }
}
export default class extends Worker {
  fetch(request) { return counted(() => super.fetch(request)); }
}
",
        )
    }
}
