//! Order of the due actions.
//!
//! - One poll of the SFU is in flight at a time, and one is started in a second. It covers all delegations and
//!   participants that are due.
//! - Requests to homeservers that answer come first, in the order of their deadlines. Two of the six places are kept for
//!   them: homeservers that don't answer share the others, whatever the number of their names and ports.
//! - Restarts at a homeserver that limits requests keep to its rate, and to their order: see
//!   [`pacing`](crate::engine::pacing).
//! - The removals of the membership monitor come in between, see
//!   [`MembershipMonitor`](crate::engine::membership::MembershipMonitor).

use std::time::Duration;

use crate::engine::action::{Action, DelayedEvent, DelegationId, Request};
use crate::engine::delegation::signals::Scope;
use crate::engine::delegation::{Delegation, State};
use crate::engine::in_flight::Standing;
use crate::engine::mutant::Mutant;
use crate::engine::pacing::{Turn, Turns};
use crate::engine::room::RoomEngine;
use crate::ids::RoomName;
use crate::time::Timestamp;

impl RoomEngine {
    /// Notes the time of a call. A poll isn't put off for longer than usual where the clock has been set back.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.latest = now;
        self.next_poll = self.next_poll.min(now + POLL_INTERVAL);
    }

    /// Starts the poll of the SFU that covers all that is due: `GetParticipant` for one participant,
    /// `ListParticipants` for several.
    pub(crate) fn take_due_poll(&mut self, now: Timestamp) -> Option<Action> {
        if self.in_flight.polling() || self.next_poll > now {
            return None;
        }
        // It takes along all that are due within the next second: they would have to wait for the next otherwise.
        let soon = if Mutant::PollOneByOne.is_injected() { now } else { now + POLL_INTERVAL };
        let with_restart = |delegation: &Delegation| {
            self.hourly_due(delegation).is_some_and(|due| due <= self.latest_hourly_due(now, delegation))
        };
        if self.poll_dues().all(|due| due > now) && !self.delegations.values().any(with_restart) {
            return None;
        }
        let sanity_check = self.is_sanity_check_due(now);
        let of: Vec<DelegationId> = self
            .delegations
            .values()
            .filter(|delegation| {
                (sanity_check && delegation.progress.state == State::Connected)
                    || delegation.poll_at().is_some_and(|due| due <= soon)
                    || self.hourly_due(delegation).is_some_and(|due| due <= self.latest_hourly_due(now, delegation))
            })
            .map(|delegation| delegation.id)
            .collect();
        let tracked = self.membership.poll_scopes(now, soon, sanity_check);
        let delegations = of.iter().filter_map(|id| self.delegations.get(id)).map(|delegation| delegation.scope());
        let mut scopes = delegations.chain(tracked);
        let first = scopes.next()?;
        let scope = if scopes.all(|scope| scope == first) { first } else { Scope::All };

        let room: RoomName = match of.first().and_then(|id| self.delegations.get(id)) {
            Some(delegation) => delegation.request.room.clone(),
            None => self.membership.room()?.clone(),
        };
        let request = match scope {
            Scope::One(identity) => Request::GetParticipant { room, identity },
            Scope::All => Request::ListParticipants { room },
        };
        let action = self.in_flight.start(now, self.membership.latest_seq(), request);
        if !Mutant::PollOneByOne.is_injected() {
            self.next_poll = now + POLL_INTERVAL;
        }
        for id in of {
            if let Some(delegation) = self.delegations.get_mut(&id) {
                delegation.poll_started(now, action.id);
            }
        }
        Some(action)
    }

    /// Hourly polls up to this one are due: those within the next quarter of an hour go along with a restart, which needs
    /// an alarm anyway.
    fn latest_hourly_due(&self, now: Timestamp, delegation: &Delegation) -> Timestamp {
        let restarting = delegation.restart_at().is_some_and(|at| at <= now);
        if restarting { now + HOURLY_EARLY } else { now }
    }

    /// Adds due `send`s and `restart`s to `actions`, up to `limit`. Homeservers that answer come first, then the earliest
    /// deadline. A request whose deadline has passed comes last: the homeserver has most likely sent that event.
    pub(crate) fn take_due_homeserver_requests(&mut self, now: Timestamp, limit: usize, actions: &mut Vec<Action>) {
        let mut due: Vec<_> =
            self.delegations.values().filter_map(|delegation| self.due_request(now, delegation)).collect();
        due.sort_unstable();
        self.take_requests(now, limit, due, actions);
        self.queue_up(now);
    }

    fn take_requests(&mut self, now: Timestamp, limit: usize, due: Vec<DueRequest>, actions: &mut Vec<Action>) {
        let refused = self.refused(now);
        let (mut answering, mut others, rest) = self.in_flight.counts();
        for DueRequest { rank, id, call, .. } in due {
            if actions.len() >= limit {
                return;
            }
            let Some(delegation) = self.delegations.get(&id) else { continue };
            if call == Call::Restart && self.held_until(now, delegation, &refused) > now {
                self.hold(id);
                continue;
            }
            if rank.standing == Standing::Answering || Mutant::NoPlacesKept.is_injected() {
                answering += 1;
            } else {
                let in_flight = self.in_flight.requests_to(delegation.request.server_name.host());
                let free = PLACES.saturating_sub(answering + others + rest);
                let kept = KEPT_FOR_ANSWERING.saturating_sub(answering);
                if others >= MOST_UNANSWERED || in_flight >= STRUGGLING_LIMIT || free <= kept {
                    continue;
                }
                others += 1;
            }
            actions.extend(self.call(now, id, call));
        }
    }

    /// Returns the request that is due for a delegation, if there is one.
    fn due_request(&self, now: Timestamp, delegation: &Delegation) -> Option<DueRequest> {
        let (at, deadline, call) = match delegation.restart_at() {
            Some(at) => (at, delegation.deadline(), Call::Restart),
            None => {
                let at = delegation.send_at().filter(|_| delegation.is_absent_at(now))?;
                (at, at + SENT_WITHIN, Call::Send)
            }
        };
        let rank = match Mutant::OrderByDueTime.is_injected() {
            true => Rank { standing: Standing::Answering, restricted: false, late: false, deadline: at, due: at },
            false => {
                let standing = self.in_flight.standing(&delegation.request.server_name);
                let restricted = delegation.request.restricted && standing != Standing::Answering;
                Rank { standing, restricted, late: deadline <= now && call == Call::Restart, deadline, due: at }
            }
        };
        (at <= now).then_some(DueRequest { rank, id: delegation.id, call })
    }

    /// Returns until when a restart is held back because of the homeserver's rate.
    pub(crate) fn held_until(&self, now: Timestamp, delegation: &Delegation, refused: &Turns) -> Timestamp {
        let (server_name, deadline) = (&delegation.request.server_name, delegation.deadline());
        let Some(next_at) = self.pacing.next_at(now, server_name, deadline) else { return Timestamp::default() };
        let before = refused.get(server_name).filter(|other| (other.deadline, other.id) < (deadline, delegation.id));
        before.map(|other| other.at.min(other.deadline)).unwrap_or_default().max(next_at)
    }

    /// Records that a due restart is held back, as if it had failed: after a load it would count as made otherwise, because
    /// it was due before the next alarm.
    fn hold(&mut self, id: DelegationId) {
        if let Some(delegation) = self.delegations.get_mut(&id)
            && delegation.progress.failures == 0
            && !Mutant::ForgetHeld.is_injected()
        {
            delegation.progress.failures = 1;
            delegation.store();
            self.changed.insert(id);
        }
    }

    /// Requests that were refused for the homeserver's rate, and are soon tried again: of each homeserver the one with the
    /// earliest deadline.
    pub(crate) fn refused(&self, now: Timestamp) -> Turns {
        let mut refused = Turns::new();
        if self.pacing.is_free() || Mutant::LoseTurn.is_injected() {
            return refused;
        }
        for delegation in self.delegations.values() {
            let soon = |until: &Timestamp| *until > now && *until <= now + TURN_KEPT_FOR;
            let Some(until) = delegation.limited_until().filter(soon) else { continue };
            let deadline = match delegation.progress.state {
                State::Leaving { .. } => until + SENT_WITHIN,
                _ => delegation.deadline(),
            };
            let turn = Turn { deadline, id: delegation.id, at: until };
            let server_name = &delegation.request.server_name;
            match refused.get_mut(server_name) {
                Some(other) if (other.deadline, other.id) < (turn.deadline, turn.id) => {}
                Some(other) => *other = turn,
                None => drop(refused.insert(server_name.clone(), turn)),
            }
        }
        refused
    }

    /// Enters the restarts that wait for the rates of their homeservers in the queues that the rooms of a process share.
    fn queue_up(&self, now: Timestamp) {
        if self.pacing.is_free() {
            return;
        }
        self.pacing.leave();
        let refused = self.refused(now);
        for delegation in self.delegations.values() {
            let latest = if delegation.limited { now + TURN_KEPT_FOR } else { now };
            let Some(at) = delegation.restart_at().filter(|at| *at <= latest) else { continue };
            let at = at.max(self.held_until(now, delegation, &refused));
            let turn = Turn { deadline: delegation.deadline(), id: delegation.id, at };
            self.pacing.enter(&delegation.request.server_name, turn);
        }
    }

    fn call(&mut self, now: Timestamp, id: DelegationId, call: Call) -> Option<Action> {
        let delegation = self.delegations.get_mut(&id)?;
        self.pacing.started(now, &delegation.request.server_name);
        delegation.limited = false;
        let event = DelayedEvent {
            delegation: id,
            server_name: delegation.request.server_name.clone(),
            url: delegation.request.delayed_events_url.clone(),
            owner: delegation.request.owner.clone(),
            delay_id: delegation.request.delay_id.clone(),
        };
        let request = match call {
            Call::Restart => {
                delegation.restarting = true;
                Request::Restart(event)
            }
            Call::Send => {
                delegation.sending = true;
                Request::Send(event)
            }
        };
        Some(self.in_flight.start(now, self.membership.latest_seq(), request))
    }

    /// Returns whether a sanity check is due; if so, schedules the next one.
    fn is_sanity_check_due(&mut self, now: Timestamp) -> bool {
        let Some(interval) = self.config.sanity_check_interval.map(|interval| interval.max(SHORTEST_INTERVAL)) else {
            return false;
        };
        if self.sanity_check_due.is_none_or(|due| now < due) {
            return false;
        }
        let connected = self.delegations.values().any(|delegation| delegation.progress.state == State::Connected);
        let any = connected || !self.membership.is_empty();
        self.set_sanity_check(any.then_some(now + interval));
        any
    }
}

/// Order of the due requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    standing: Standing,
    restricted: bool,
    late: bool,
    deadline: Timestamp,
    due: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct DueRequest {
    rank: Rank,
    id: DelegationId,
    call: Call,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Restart,
    Send,
}

/// Requests that wait for a response at a time: the platform's limit.
const PLACES: usize = 6;
/// Places for homeservers that answer.
const KEPT_FOR_ANSWERING: usize = 2;
/// Places for all others together. One is left for the SFU and for our own homeserver.
const MOST_UNANSWERED: usize = 3;
/// Time within which a leave is to be sent.
const SENT_WITHIN: Duration = Duration::from_secs(5);

/// Time for which those with later deadlines wait for a request that was refused.
const TURN_KEPT_FOR: Duration = Duration::from_secs(5);

/// Requests in flight to a host that doesn't answer.
const STRUGGLING_LIMIT: usize = 2;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

const HOURLY_EARLY: Duration = Duration::from_secs(900);

/// Interval of the polls of the SFU at least.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
