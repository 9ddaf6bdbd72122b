//! The actions whose outcomes are awaited: in memory only, a crash makes all of them due again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::action::{Action, ActionId, DelegationId, HomeserverAnswer, Request};
use crate::ids::ServerName;
use crate::time::Timestamp;

/// The actions whose outcomes are awaited.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    next: u64,
    actions: BTreeMap<ActionId, InFlightAction>,
    /// How each homeserver has answered the latest request. Those that were never requested aren't in it, nor those
    /// without a delegation.
    standings: BTreeMap<ServerName, Standing>,
}

/// Standing of a homeserver, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It answers, and soon.
    Answering,
    /// It hasn't answered yet, nor failed.
    Unknown,
    /// It doesn't answer, or fails, or takes its time.
    Failing,
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
            standings: BTreeMap::new(),
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

    pub(crate) fn standing(&self, server_name: &ServerName) -> Standing {
        self.standings.get(server_name).copied().unwrap_or(Standing::Unknown)
    }

    /// Number of requests in flight to that host, whatever the port.
    pub(crate) fn requests_to(&self, host: &str) -> usize {
        self.actions.values().filter_map(InFlightAction::server_name).filter(|name| name.host() == host).count()
    }

    /// Numbers of actions in flight: requests to homeservers that answer, requests to others, and the rest.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let names = || self.actions.values().filter_map(InFlightAction::server_name);
        let answering = names().filter(|name| self.standing(name) == Standing::Answering).count();
        let requests = names().count();
        (answering, requests - answering, self.actions.len() - requests)
    }

    /// Records the latest answer of a homeserver. A refusal for the rate is an answer too.
    pub(crate) fn record_answer(&mut self, server_name: &ServerName, answer: HomeserverAnswer, took: Duration) {
        let standing = match answer {
            HomeserverAnswer::Failed => Standing::Failing,
            _ if took > SOON => Standing::Failing,
            _ => Standing::Answering,
        };
        self.standings.insert(server_name.clone(), standing);
    }

    /// Forgets the standing of a homeserver: it has no delegation any more.
    pub(crate) fn forget_standing(&mut self, server_name: &ServerName) {
        self.standings.remove(server_name);
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

/// Time within which a homeserver that answers does so. A slow one must not get the places of the others.
const SOON: Duration = Duration::from_secs(2);

/// Time after which an action without an outcome has failed.
const LONGEST: Duration = Duration::from_secs(30);
