//! What is under way: in memory only, a crash makes all of it due again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::action::{ActionId, DelegationId, HomeserverAnswer};
use crate::engine::delegation::signals::Scope;
use crate::engine::membership::participant::Seq;
use crate::ids::{Identity, MatrixRoomId, ServerName};
use crate::time::Timestamp;

/// The actions whose results are awaited.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    next: u64,
    under_way: BTreeMap<ActionId, InFlightAction>,
    /// The homeservers whose latest answer was none, or no success.
    struggling: BTreeSet<ServerName>,
}

/// One action under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InFlightAction {
    pub(crate) purpose: Purpose,
    /// The homeserver, where one is asked.
    pub(crate) server_name: Option<ServerName>,
    pub(crate) started_at: Timestamp,
}

/// What an action is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Restart(DelegationId),
    Send(DelegationId),
    Poll { of: Vec<DelegationId>, scope: Scope, as_of_seq: Seq },
    Members { matrix_room_id: MatrixRoomId, as_of_seq: Seq },
    Server { matrix_room_id: MatrixRoomId, as_of_seq: Seq },
    Remove { identity: Identity, as_of_seq: Seq },
    Delete { matrix_room_id: MatrixRoomId, as_of_seq: Seq },
}

impl InFlight {
    /// `now` keeps the action ids apart from those that were given out before.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            next: now.as_millis().saturating_mul(ACTION_IDS_PER_MS),
            under_way: BTreeMap::new(),
            struggling: BTreeSet::new(),
        }
    }

    pub(crate) fn start(&mut self, action: InFlightAction) -> ActionId {
        let action_id = ActionId(self.next);
        self.next = self.next.saturating_add(1);
        self.under_way.insert(action_id, action);
        action_id
    }

    /// A result is in. `None` if nothing waits for it.
    pub(crate) fn complete(&mut self, action_id: ActionId) -> Option<InFlightAction> {
        self.under_way.remove(&action_id)
    }

    /// Takes out those that have taken too long.
    pub(crate) fn timed_out(&mut self, now: Timestamp) -> Vec<(ActionId, InFlightAction)> {
        self.under_way.extract_if(.., |_, action| action.started_at + LONGEST <= now).collect()
    }

    /// When the next one will have taken too long.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.under_way.values().map(|action| action.started_at + LONGEST).min()
    }

    /// Whether the SFU is being asked.
    pub(crate) fn polling(&self) -> bool {
        self.under_way.values().any(|action| matches!(action.purpose, Purpose::Poll { .. }))
    }

    /// How many removals are under way.
    pub(crate) fn removing(&self) -> usize {
        let removes =
            |action: &&InFlightAction| matches!(action.purpose, Purpose::Remove { .. } | Purpose::Delete { .. });
        self.under_way.values().filter(removes).count()
    }

    /// How many requests a homeserver has to answer, and whether it fails to.
    pub(crate) fn load_of(&self, server_name: &ServerName) -> (usize, bool) {
        let pending = self.under_way.values().filter(|action| action.server_name.as_ref() == Some(server_name)).count();
        (pending, self.struggling.contains(server_name))
    }

    /// Remembers which homeservers are in trouble.
    pub(crate) fn judge(&mut self, action: &InFlightAction, answer: HomeserverAnswer) {
        let Some(server_name) = &action.server_name else { return };
        match answer {
            HomeserverAnswer::Done | HomeserverAnswer::Gone => self.struggling.remove(server_name),
            HomeserverAnswer::Limited(_) | HomeserverAnswer::Failed => self.struggling.insert(server_name.clone()),
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// [`Mutant::ResultsOutliveReplacement`](crate::engine::mutant::Mutant).
    pub(crate) fn hand_over(&mut self, old: DelegationId, new: DelegationId) {
        for action in self.under_way.values_mut() {
            match &mut action.purpose {
                Purpose::Restart(id) | Purpose::Send(id) if *id == old => *id = new,
                _ => {}
            }
        }
    }
}

/// More than anybody does in a millisecond.
const ACTION_IDS_PER_MS: u64 = 1024;

/// After this time an action whose result hasn't come has failed.
const LONGEST: Duration = Duration::from_secs(30);
