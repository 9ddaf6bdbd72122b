//! What is under way: in memory only, a crash makes all of it due again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::action::{DelegationId, HomeserverAnswer, Ticket};
use crate::engine::delegation::signals::Scope;
use crate::engine::membership::participant::Moment;
use crate::ids::{Identity, MatrixRoomId, ServerName};
use crate::time::Timestamp;

/// The actions whose results are awaited.
#[derive(Clone, Debug)]
pub(crate) struct Flights {
    next: u64,
    under_way: BTreeMap<Ticket, Flight>,
    /// The homeservers whose latest answer was none, or no success.
    struggling: BTreeSet<ServerName>,
}

/// One action under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
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
    Ask { of: Vec<DelegationId>, scope: Scope, as_of: Moment },
    Members { matrix_room_id: MatrixRoomId, as_of: Moment },
    Server { matrix_room_id: MatrixRoomId, as_of: Moment },
    Remove { identity: Identity, as_of: Moment },
    Delete { matrix_room_id: MatrixRoomId, as_of: Moment },
}

impl Flights {
    /// `now` keeps the tickets apart from those that were given out before.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            next: now.as_millis().saturating_mul(TICKETS_PER_MS),
            under_way: BTreeMap::new(),
            struggling: BTreeSet::new(),
        }
    }

    pub(crate) fn start(&mut self, flight: Flight) -> Ticket {
        let ticket = Ticket(self.next);
        self.next = self.next.saturating_add(1);
        self.under_way.insert(ticket, flight);
        ticket
    }

    /// A result is in. `None` if nothing waits for it.
    pub(crate) fn land(&mut self, ticket: Ticket) -> Option<Flight> {
        self.under_way.remove(&ticket)
    }

    /// Takes out those that have taken too long.
    pub(crate) fn lost(&mut self, now: Timestamp) -> Vec<(Ticket, Flight)> {
        self.under_way.extract_if(.., |_, flight| flight.started_at + LONGEST <= now).collect()
    }

    /// When the next one will have taken too long.
    pub(crate) fn next_lost(&self) -> Option<Timestamp> {
        self.under_way.values().map(|flight| flight.started_at + LONGEST).min()
    }

    /// Whether the SFU is being asked.
    pub(crate) fn asking(&self) -> bool {
        self.under_way.values().any(|flight| matches!(flight.purpose, Purpose::Ask { .. }))
    }

    /// How many removals are under way.
    pub(crate) fn removing(&self) -> usize {
        let removes = |flight: &&Flight| matches!(flight.purpose, Purpose::Remove { .. } | Purpose::Delete { .. });
        self.under_way.values().filter(removes).count()
    }

    /// How many requests a homeserver has to answer, and whether it fails to.
    pub(crate) fn load_of(&self, server_name: &ServerName) -> (usize, bool) {
        let pending = self.under_way.values().filter(|flight| flight.server_name.as_ref() == Some(server_name)).count();
        (pending, self.struggling.contains(server_name))
    }

    /// Remembers which homeservers are in trouble.
    pub(crate) fn judge(&mut self, flight: &Flight, answer: HomeserverAnswer) {
        let Some(server_name) = &flight.server_name else { return };
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
        for flight in self.under_way.values_mut() {
            match &mut flight.purpose {
                Purpose::Restart(id) | Purpose::Send(id) if *id == old => *id = new,
                _ => {}
            }
        }
    }
}

/// More than anybody does in a millisecond.
const TICKETS_PER_MS: u64 = 1024;

/// After this time an action whose result hasn't come has failed.
const LONGEST: Duration = Duration::from_secs(30);
