//! Model of the Durable Object: storage that survives, memory that doesn't, one alarm, and the shell around the
//! engine.

use std::collections::BTreeMap;
use std::time::Duration;

use delegated_leaves::{
    Action, Alarm, Change, DelayId, DelegationId, DelegationRow, EngineConfig, Input, RoomCommand, RoomEngine, RoomRow,
    Rows, Timestamp, TrackedId, TrackedRow,
};

use crate::clock::PROMPT;

/// The object of the room.
pub(crate) struct Object {
    config: EngineConfig,
    /// On disk.
    pub(crate) rows: BTreeMap<DelegationId, DelegationRow>,
    pub(crate) tracked: BTreeMap<TrackedId, TrackedRow>,
    room: RoomRow,
    pub(crate) alarm: Option<Alarm>,
    /// In memory.
    pub(crate) engine: Option<RoomEngine>,
    /// Whether the alarm's handler is running.
    pub(crate) handling: bool,
    /// Whether it has nothing more to do but to set the next alarm.
    pub(crate) finishing: bool,
    pub(crate) in_flight: usize,
    /// Counts the lives of the process: an outcome for a former one is lost.
    pub(crate) life: u32,
    pub(crate) alive: bool,
}

/// Effect of a step on the storage.
#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) put: Vec<DelegationId>,
    pub(crate) deleted: Vec<DelegationRow>,
    pub(crate) forgotten: Vec<TrackedRow>,
}

impl Object {
    pub(crate) fn new(config: EngineConfig) -> Self {
        Self {
            config,
            rows: BTreeMap::new(),
            tracked: BTreeMap::new(),
            room: RoomRow::default(),
            alarm: None,
            engine: None,
            handling: false,
            finishing: false,
            in_flight: 0,
            life: 0,
            alive: true,
        }
    }

    /// Hands the engine a command, as `fetch` does, or an outcome.
    pub(crate) fn handle(&mut self, now: Timestamp, input: Input) {
        self.engine(now).handle(now, input);
    }

    pub(crate) fn command(&mut self, now: Timestamp, command: RoomCommand) {
        self.handle(now, Input::Command(command));
    }

    /// Takes the next actions of the alarm's handler.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<Action> {
        let limit = CONNECTIONS - self.in_flight;
        let actions = self.engine(now).take_due(now, limit);
        self.in_flight += actions.len();
        actions
    }

    /// When the alarm's handler goes on, if no outcome comes before.
    pub(crate) fn next_due_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.engine.as_ref()?.next_due_after(now)
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.in_flight < CONNECTIONS
            && self.engine.as_ref().and_then(RoomEngine::next_due).is_some_and(|due| due <= now)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.tracked.is_empty()
    }

    /// Whether the delegation of that delayed event is on disk.
    pub(crate) fn holds(&self, delay_id: &DelayId) -> bool {
        self.rows.values().any(|row| row.delay_id == *delay_id)
    }

    /// Until when the alarm's handler waits with nothing in flight.
    pub(crate) fn nap_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.engine.as_ref()?.nap_until(now)
    }

    /// Takes the changes to store.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        self.engine.as_mut().map(RoomEngine::take_changes).unwrap_or_default()
    }

    /// Stores the first `count` changes, fails, and drops the engine.
    pub(crate) fn commit_in_part(&mut self, now: Timestamp, mut changes: Vec<Change>, count: usize) -> Stored {
        let (handling, alarm) = (self.handling, self.alarm);
        changes.truncate(count);
        let stored = self.store(changes);
        self.forget();
        self.handling = false;
        self.finishing = false;
        self.alarm = if handling { None } else { alarm };
        self.try_again_within(now, UNTIL_STORED_AGAIN);
        stored
    }

    /// Stores the changes: together with the alarm, as the platform does it.
    pub(crate) fn commit(&mut self, changes: Vec<Change>) -> Stored {
        let stored = self.store(changes);
        let Some(engine) = &self.engine else { return stored };
        if engine.is_empty() {
            self.room = RoomRow::default();
        }
        self.handling &= !self.finishing;
        self.finishing = false;
        if !self.handling {
            self.alarm = engine.next_due().map(Alarm::for_due);
        }
        stored
    }

    fn store(&mut self, changes: Vec<Change>) -> Stored {
        let mut stored = Stored::default();
        for change in changes {
            match change {
                Change::Delete(id) => stored.deleted.extend(self.rows.remove(&id)),
                Change::Put(row) => {
                    stored.put.push(row.id);
                    self.rows.insert(row.id, *row);
                }
                Change::Forget(id) => stored.forgotten.extend(self.tracked.remove(&id)),
                Change::Track(row) => drop(self.tracked.insert(row.id, *row)),
                Change::PutRoom(room) => self.room = room,
            }
        }
        stored
    }

    /// Returns whether the alarm ought to have gone off by now.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        self.alarm.is_some_and(|alarm| now.since(alarm.time()) > PROMPT)
    }

    /// Loses everything in memory. An alarm whose handler was running goes off again.
    pub(crate) fn crash(&mut self, now: Timestamp) {
        self.alive = false;
        self.forget();
        if self.handling {
            self.alarm = Some(Alarm::again_at(now));
            self.handling = false;
            self.finishing = false;
        }
    }

    /// Takes an idle object out of memory, as the platform does.
    pub(crate) fn evict(&mut self) {
        if !self.handling {
            self.forget();
        }
    }

    /// Sets the alarm for another try: after `wait`, or earlier if the present one is.
    pub(crate) fn try_again_within(&mut self, now: Timestamp, wait: Duration) {
        let latest = now + wait;
        self.alarm = Some(Alarm::again_at(self.alarm.map_or(latest, |alarm| alarm.time().min(latest))));
    }

    /// Puts off an alarm that has gone off, and all that is due with it.
    pub(crate) fn put_off(&mut self, now: Timestamp, wait: Duration) {
        self.alarm = None;
        self.try_again_within(now, wait);
    }

    fn forget(&mut self) {
        self.engine = None;
        self.in_flight = 0;
        self.life += 1;
    }

    fn engine(&mut self, now: Timestamp) -> &mut RoomEngine {
        let Self { config, rows, tracked, room, alarm, engine, .. } = self;
        let handled_until = alarm.and_then(|alarm| alarm.handled_until(now));
        engine.get_or_insert_with(|| RoomEngine::load(*config, now, rows_of(rows, tracked, *room), handled_until))
    }
}

fn rows_of(
    delegations: &BTreeMap<DelegationId, DelegationRow>,
    tracked: &BTreeMap<TrackedId, TrackedRow>,
    room: RoomRow,
) -> Rows {
    Rows { delegations: delegations.values().cloned().collect(), tracked: tracked.values().cloned().collect(), room }
}

/// As long as the shell waits after a failure to store.
const UNTIL_STORED_AGAIN: Duration = Duration::from_secs(5);

/// The platform's limit.
const CONNECTIONS: usize = 6;
