//! Rates of homeservers that limit requests.
//!
//! - A 429 is about all requests of ours to that homeserver, not about one delayed event: Synapse counts restarts without
//!   a login by address. So all restarts there pause for as long as the homeserver says, and then follow each other at
//!   intervals, which become shorter with each success.
//! - In the meantime the earliest deadline comes first. A restart that was refused keeps its turn: those with later
//!   deadlines wait for it. See [`dispatch`](crate::engine::dispatch).
//! - Rooms that share a process share the rates, and stand in one queue: each room enters its waiting requests there, and
//!   those of other rooms with an earlier deadline come before its own. Rooms don't wake each other: a room comes back
//!   when its own turn should have come, and looks again. It isn't overtaken, even if those before it are gone by then.
//! - Leaves don't wait: they are sent at once, and restarts with later deadlines make way for one that was refused.
//! - All of this is in memory only. After a load the homeserver says it again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::delay::HOUR;
use crate::engine::action::{DelegationId, HomeserverAnswer};
use crate::engine::mutant::Mutant;
use crate::ids::ServerName;
use crate::time::Timestamp;

/// One room's part of the rates that the rooms of a process share: see
/// [`RoomEngine::share_pacing`](crate::RoomEngine::share_pacing).
#[derive(Clone, Debug, Default)]
pub struct Pacing {
    limits: Rc<RefCell<Limits>>,
    /// Number of the room.
    room: u64,
}

/// The homeservers that have limited requests.
#[derive(Debug, Default)]
struct Limits {
    homeservers: BTreeMap<ServerName, Limit>,
    /// Number of the newest room.
    newest_room: u64,
}

#[derive(Debug)]
struct Limit {
    /// When the next restart may be requested.
    next_at: Timestamp,
    /// Time between two restarts. Zero: the limit is over, as far as is known.
    interval: Duration,
    /// When the limit was last reported.
    reported_at: Timestamp,
    /// Requests that wait, with the numbers of their rooms.
    queue: Vec<(u64, Turn)>,
}

/// A request that waits for the homeserver's rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// Its deadline.
    pub(crate) deadline: Timestamp,
    /// Its delegation.
    pub(crate) id: DelegationId,
    /// When its room comes back for it.
    pub(crate) at: Timestamp,
}

/// A room's turns, by homeserver: those with the earliest deadlines.
pub(crate) type Turns = BTreeMap<ServerName, Turn>;

impl Pacing {
    /// Returns the part of another room.
    #[must_use]
    pub fn for_another_room(&self) -> Self {
        if Mutant::PaceEachRoom.is_injected() {
            return Self::default();
        }
        let mut limits = self.limits.borrow_mut();
        limits.newest_room = limits.newest_room.saturating_add(1);
        Self { limits: Rc::clone(&self.limits), room: limits.newest_room }
    }

    /// Returns whether no homeserver limits requests, as far as is known.
    pub(crate) fn is_free(&self) -> bool {
        self.limits.borrow().homeservers.values().all(|limit| limit.interval.is_zero())
    }

    /// When a restart with that deadline may be requested of that homeserver, as far as other rooms are concerned.
    /// `None`: the homeserver doesn't limit requests.
    pub(crate) fn next_at(&self, now: Timestamp, server_name: &ServerName, deadline: Timestamp) -> Option<Timestamp> {
        let limits = self.limits.borrow();
        let limit = limits.homeservers.get(server_name).filter(|limit| !limit.interval.is_zero())?;
        let own = (deadline, self.room);
        let comes_first = |(room, turn): &&(u64, Turn)| *room != self.room && (turn.deadline, *room) < own;
        let earlier = limit.queue.iter().filter(comes_first).filter(|(_, turn)| turn.counts(now));
        // A room that expected others before it, which are gone by now, comes back late, but comes first.
        let latest = earlier.clone().map(|(_, turn)| turn.at + limit.interval).max().unwrap_or_default();
        let earlier = u32::try_from(earlier.count()).unwrap_or(u32::MAX);
        Some(latest.max(limit.next_at + limit.interval.saturating_mul(earlier)))
    }

    /// Takes all requests of the room out of the queues.
    pub(crate) fn leave(&self) {
        for limit in self.limits.borrow_mut().homeservers.values_mut() {
            limit.queue.retain(|(room, _)| *room != self.room);
        }
    }

    /// Enters a request of the room in the queue of that homeserver.
    pub(crate) fn enter(&self, server_name: &ServerName, turn: Turn) {
        let mut limits = self.limits.borrow_mut();
        let Some(limit) = limits.homeservers.get_mut(server_name) else { return };
        let of_room = |(room, _): &&mut (u64, Turn)| *room == self.room;
        if limit.queue.iter_mut().filter(of_room).count() < MOST_TURNS {
            return limit.queue.push((self.room, turn));
        }
        let latest = limit.queue.iter_mut().filter(of_room).max_by_key(|(_, turn)| turn.deadline);
        if let Some((_, latest)) = latest.filter(|(_, latest)| turn.deadline < latest.deadline) {
            *latest = turn;
        }
    }

    /// Records that a request is sent.
    pub(crate) fn started(&self, now: Timestamp, server_name: &ServerName) {
        if let Some(limit) = self.limits.borrow_mut().homeservers.get_mut(server_name) {
            limit.next_at = limit.next_at.max(now + limit.interval);
        }
    }

    /// Records the answer to a request. Returns whether it is a limit to be reported.
    pub(crate) fn answered(&self, now: Timestamp, server_name: &ServerName, answer: HomeserverAnswer) -> bool {
        let mut limits = self.limits.borrow_mut();
        match answer {
            HomeserverAnswer::Limited(pause) => {
                let limit = limits.of(now, server_name);
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
                if let Some(limit) = limits.homeservers.get_mut(server_name) {
                    let shorter = limit.interval * 15 / 16;
                    limit.interval = if shorter < SHORTEST_INTERVAL { Duration::ZERO } else { shorter };
                }
            }
            HomeserverAnswer::Failed => {}
        }
        false
    }
}

impl Limits {
    /// Returns the limit of a homeserver. Where there is none yet, a new one takes the place of those that are over, and
    /// of the oldest, should there be too many.
    fn of(&mut self, now: Timestamp, server_name: &ServerName) -> &mut Limit {
        if !self.homeservers.contains_key(server_name) {
            self.homeservers.retain(|_, limit| now < limit.next_at + HOUR);
            if self.homeservers.len() >= MOST_HOMESERVERS
                && let Some(oldest) = self.homeservers.iter().min_by_key(|(_, limit)| limit.next_at)
            {
                let oldest = oldest.0.clone();
                self.homeservers.remove(&oldest);
            }
        }
        self.homeservers.entry(server_name.clone()).or_insert_with(|| Limit {
            next_at: now,
            interval: LONGEST_INTERVAL,
            reported_at: Timestamp::default(),
            queue: Vec::new(),
        })
    }
}

impl Turn {
    /// Returns whether it still waits: its room may be gone.
    fn counts(&self, now: Timestamp) -> bool {
        now < self.deadline && now <= self.at + LATE
    }
}

/// Interval of restarts after a 429: Synapse's default rate is one a second.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// A shorter interval is none.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// A longer pause than this holds for the refused request only.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Homeservers whose limits are kept. Their names are strangers' choice.
const MOST_HOMESERVERS: usize = 1_000;

/// Requests of one room in the queue of a homeserver. A limit of one a second keeps no more of ten seconds' delay anyway.
const MOST_TURNS: usize = 20;

/// Time after which a room that hasn't come back loses its turn.
const LATE: Duration = Duration::from_secs(3);
