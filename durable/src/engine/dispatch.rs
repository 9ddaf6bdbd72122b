//! Order of the due actions.
//!
//! - One poll of the SFU is in flight at a time. It covers all delegations and participants that are due.
//! - Requests to homeservers are spread: the homeserver with the fewest in flight comes first, and a failing one gets
//!   few slots.
//! - The removals of the membership monitor come in between, see
//!   [`MembershipMonitor`](crate::engine::membership::MembershipMonitor).

use std::time::Duration;

use crate::engine::action::{Action, DelayedEvent, DelegationId, Request};
use crate::engine::delegation::State;
use crate::engine::delegation::signals::Scope;
use crate::engine::room::RoomEngine;
use crate::ids::RoomName;
use crate::time::Timestamp;

impl RoomEngine {
    /// Starts the poll of the SFU that covers all that is due: `GetParticipant` for one participant,
    /// `ListParticipants` for several.
    pub(crate) fn take_due_poll(&mut self, now: Timestamp) -> Option<Action> {
        if self.in_flight.polling() {
            return None;
        }
        let sanity_check = self.is_sanity_check_due(now);
        let of: Vec<DelegationId> = self
            .delegations
            .values()
            .filter(|delegation| {
                (sanity_check && delegation.progress.state == State::Connected)
                    || delegation.poll_at().is_some_and(|due| due <= now)
            })
            .map(|delegation| delegation.id)
            .collect();
        let tracked = self.membership.poll_scopes(now, sanity_check);
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
        for id in of {
            if let Some(delegation) = self.delegations.get_mut(&id) {
                delegation.poll_started(action.id);
            }
        }
        Some(action)
    }

    /// Adds due `send`s and `restart`s to `actions`, up to `limit`. The homeserver with the fewest requests in flight
    /// comes first, then the longest overdue request. A failing homeserver gets [`STRUGGLING_LIMIT`] at a time, so
    /// that its time-outs don't hold up the others.
    pub(crate) fn take_due_homeserver_requests(&mut self, now: Timestamp, limit: usize, actions: &mut Vec<Action>) {
        let mut due: Vec<(Timestamp, DelegationId, Call)> = self
            .delegations
            .values()
            .filter_map(|delegation| {
                let (at, call) = match delegation.restart_at() {
                    Some(at) => (at, Call::Restart),
                    None => (delegation.send_at().filter(|_| delegation.is_absent_at(now))?, Call::Send),
                };
                (at <= now).then_some((at, delegation.id, call))
            })
            .collect();
        due.sort_unstable_by_key(|(at, id, _)| (*at, *id));

        while actions.len() < limit {
            let next = due
                .iter()
                .enumerate()
                .filter_map(|(index, (_, id, _))| {
                    let (pending, struggling) = self.in_flight.load_of(&self.delegations.get(id)?.request.server_name);
                    (!struggling || pending < STRUGGLING_LIMIT).then_some((pending, index))
                })
                .min();
            let Some((_, index)) = next else { return };
            let (_, id, call) = due.remove(index);
            actions.extend(self.call(now, id, call));
        }
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

#[derive(Clone, Copy)]
enum Call {
    Restart,
    Send,
}

/// Requests in flight to a homeserver that fails to answer.
const STRUGGLING_LIMIT: usize = 2;

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
