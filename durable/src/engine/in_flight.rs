//! The actions whose outcomes are awaited: in memory only, a crash makes all of them due again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::action::{Action, ActionId, DelegationId, HomeserverAnswer, Request};
use crate::ids::ServerName;
use crate::time::Timestamp;

/// The actions whose outcomes are awaited.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    next: u64,
    actions: BTreeMap<ActionId, InFlightAction>,
    /// The homeservers whose latest answer was none, or no success.
    struggling: BTreeSet<ServerName>,
}

/// One action in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InFlightAction {
    pub(crate) request: Request,
    pub(crate) started_at: Timestamp,
    pub(crate) started_seq: Seq,
}

/// Value of the engine's logical clock, in memory only: each token and each change of a participant's presence gets
/// the next one. The outcome of a request says nothing about later values than the one at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(pub(crate) u64);

impl InFlightAction {
    /// The homeserver whose delayed event the request is about.
    fn server_name(&self) -> Option<&ServerName> {
        match &self.request {
            Request::Restart(event) | Request::Send(event) => Some(&event.server_name),
            _ => None,
        }
    }
}

impl InFlight {
    /// Starts empty. `now` keeps the action ids apart from those that were issued before a load.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            next: now.as_millis().saturating_mul(ACTION_IDS_PER_MS),
            actions: BTreeMap::new(),
            struggling: BTreeSet::new(),
        }
    }

    pub(crate) fn start(&mut self, now: Timestamp, seq: Seq, request: Request) -> Action {
        let id = ActionId(self.next);
        self.next = self.next.saturating_add(1);
        let action = InFlightAction { request: request.clone(), started_at: now, started_seq: seq };
        self.actions.insert(id, action);
        Action { id, request }
    }

    /// Takes out the action whose outcome is in. `None` for an unknown one.
    pub(crate) fn complete(&mut self, id: ActionId) -> Option<InFlightAction> {
        self.actions.remove(&id)
    }

    /// Takes out the actions that have taken too long.
    pub(crate) fn timed_out(&mut self, now: Timestamp) -> Vec<(ActionId, InFlightAction)> {
        self.actions.extract_if(.., |_, action| action.started_at + LONGEST <= now).collect()
    }

    /// When the next action will have taken too long.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.actions.values().map(|action| action.started_at + LONGEST).min()
    }

    /// Returns whether a poll of the SFU is in flight.
    pub(crate) fn polling(&self) -> bool {
        self.actions.values().any(|action| is_poll(&action.request))
    }

    /// Number of removals in flight.
    pub(crate) fn removing(&self) -> usize {
        self.actions.values().filter(|action| is_removal(&action.request)).count()
    }

    /// Number of requests in flight to a homeserver, and whether its latest answer was a failure.
    pub(crate) fn load_of(&self, server_name: &ServerName) -> (usize, bool) {
        let pending = self.actions.values().filter(|action| action.server_name() == Some(server_name)).count();
        (pending, self.struggling.contains(server_name))
    }

    /// Records the latest answer of a homeserver.
    pub(crate) fn record_answer(&mut self, server_name: &ServerName, answer: HomeserverAnswer) {
        match answer {
            HomeserverAnswer::Done | HomeserverAnswer::Gone => self.struggling.remove(server_name),
            HomeserverAnswer::Limited(_) | HomeserverAnswer::Failed => self.struggling.insert(server_name.clone()),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// See [`Mutant::ResultsOutliveReplacement`](crate::engine::mutant::Mutant).
    pub(crate) fn hand_over(&mut self, old: DelegationId, new: DelegationId) {
        for action in self.actions.values_mut() {
            if let Request::Restart(event) | Request::Send(event) = &mut action.request
                && event.delegation == old
            {
                event.delegation = new;
            }
        }
    }
}

fn is_poll(request: &Request) -> bool {
    matches!(request, Request::GetParticipant { .. } | Request::ListParticipants { .. })
}

fn is_removal(request: &Request) -> bool {
    matches!(request, Request::RemoveParticipant { .. } | Request::DeleteRoom { .. })
}

/// More actions than any engine starts in a millisecond.
const ACTION_IDS_PER_MS: u64 = 1024;

/// Time after which an action without an outcome has failed.
const LONGEST: Duration = Duration::from_secs(30);
