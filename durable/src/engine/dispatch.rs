//! Order of the due actions.
//!
//! - One poll of the SFU is in flight at a time, and one is started in a second. It covers all delegations and
//!   participants that are due.
//! - Requests to homeservers that answer come first, in the order of their deadlines. Two of the six places are kept for
//!   them: homeservers that don't answer share the others, whatever the number of their names and ports.
//! - The removals of the membership monitor come in between, see
//!   [`MembershipMonitor`](crate::engine::membership::MembershipMonitor).

use std::time::Duration;

use crate::engine::action::{Action, DelayedEvent, DelegationId, Request};
use crate::engine::delegation::signals::Scope;
use crate::engine::delegation::{Delegation, State};
use crate::engine::in_flight::Standing;
use crate::engine::mutant::Mutant;
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
        let tracked = self.membership.poll_scopes(soon, sanity_check);
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
        let (mut answering, mut others, rest) = self.in_flight.counts();
        for DueRequest { rank, id, call, .. } in due {
            if actions.len() >= limit {
                return;
            }
            if rank.standing == Standing::Answering || Mutant::NoPlacesKept.is_injected() {
                answering += 1;
            } else {
                let Some(delegation) = self.delegations.get(&id) else { continue };
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
            true => Rank { standing: Standing::Answering, restricted: false, late: false, deadline: at },
            false => {
                let standing = self.in_flight.standing(&delegation.request.server_name);
                let restricted = delegation.request.restricted && standing != Standing::Answering;
                Rank { standing, restricted, late: deadline <= now && call == Call::Restart, deadline }
            }
        };
        (at <= now).then_some(DueRequest { rank, id: delegation.id, call })
    }

    fn call(&mut self, now: Timestamp, id: DelegationId, call: Call) -> Option<Action> {
        let delegation = self.delegations.get_mut(&id)?;
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

/// Requests in flight to a host that doesn't answer.
const STRUGGLING_LIMIT: usize = 2;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

const HOURLY_EARLY: Duration = Duration::from_secs(900);

/// Interval of the polls of the SFU at least.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
