//! Rates of homeservers that limit requests.
//!
//! - A 429 is about all requests of ours to that homeserver, not about one delayed event: Synapse counts restarts without
//!   a login by address. So all restarts there pause for as long as the homeserver says, and then follow each other at
//!   intervals, which become shorter with each success.
//! - In the meantime the earliest deadline comes first. A restart that was refused keeps its turn: those with later
//!   deadlines wait for it. See [`dispatch`](crate::engine::dispatch).
//! - Leaves don't wait: they are sent at once, and restarts with later deadlines make way for one that was refused.
//! - All of this is in memory only. After a load the homeserver says it again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::delay::HOUR;
use crate::engine::action::HomeserverAnswer;
use crate::engine::mutant::Mutant;
use crate::ids::ServerName;
use crate::time::Timestamp;

/// The homeservers that have limited requests, while they have delegations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pacing {
    limits: BTreeMap<ServerName, Limit>,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    /// When the next restart may be requested.
    next_at: Timestamp,
    /// Time between two restarts. Zero: the limit is over, as far as is known.
    interval: Duration,
    /// When the limit was last reported.
    reported_at: Timestamp,
}

impl Pacing {
    /// Returns whether no homeserver limits requests, as far as is known.
    pub(crate) fn is_free(&self) -> bool {
        self.limits.values().all(|limit| limit.interval.is_zero())
    }

    /// When the next restart may be requested of that homeserver. `None`: it doesn't limit requests.
    pub(crate) fn next_at(&self, server_name: &ServerName) -> Option<Timestamp> {
        self.limits.get(server_name).filter(|limit| !limit.interval.is_zero()).map(|limit| limit.next_at)
    }

    /// Records that a request is sent.
    pub(crate) fn started(&mut self, now: Timestamp, server_name: &ServerName) {
        if let Some(limit) = self.limits.get_mut(server_name) {
            limit.next_at = limit.next_at.max(now + limit.interval);
        }
    }

    /// Records the answer to a request. Returns whether it is a limit to be reported.
    pub(crate) fn answered(&mut self, now: Timestamp, server_name: &ServerName, answer: HomeserverAnswer) -> bool {
        match answer {
            HomeserverAnswer::Limited(pause) => {
                let new = Limit { next_at: now, interval: LONGEST_INTERVAL, reported_at: Timestamp::default() };
                let limit = self.limits.entry(server_name.clone()).or_insert(new);
                let pause = pause.unwrap_or_default().clamp(LONGEST_INTERVAL, LONGEST_PAUSE);
                limit.next_at = limit.next_at.max(now + pause);
                let knows_limits = !Mutant::LimitOneByOne.is_injected() && !Mutant::RetryAfterLiterally.is_injected();
                limit.interval = if knows_limits { LONGEST_INTERVAL } else { Duration::ZERO };
                let is_due = limit.reported_at + HOUR <= now;
                if is_due {
                    limit.reported_at = now;
                }
                return is_due;
            }
            HomeserverAnswer::Done | HomeserverAnswer::Gone => {
                if let Some(limit) = self.limits.get_mut(server_name) {
                    let shorter = limit.interval * 15 / 16;
                    limit.interval = if shorter < SHORTEST_INTERVAL { Duration::ZERO } else { shorter };
                }
            }
            HomeserverAnswer::Failed => {}
        }
        false
    }

    /// Forgets a homeserver that has no delegation any more.
    pub(crate) fn forget(&mut self, server_name: &ServerName) {
        self.limits.remove(server_name);
    }
}

/// Interval of restarts after a 429: Synapse's default rate is one a second.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// A shorter interval is none.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// A longer pause than this holds for the refused request only.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
