//! The Durable Object of one LiveKit room: the shell around [`RoomEngine`].
//!
//! # How it works
//!
//! - [`RoomObject::command`] lets the engine handle a command, stores the changes and sets the alarm before it
//!   returns. It sends no request.
//! - [`RoomObject::alarm`] acts: it takes due actions from the engine, performs a few at a time, and hands in their
//!   outcomes until nothing is due or its share is used up. Then it sets the next alarm. It naps through the first
//!   polls for a new delegation: an alarm would be a row.
//! - SQLite has one row for each delegation, from its acceptance until its leave is sent or given up, and one for
//!   each tracked participant, from its first token until none admits it any more. With the last row the object drops
//!   everything.
//! - After a failure to store, the engine in memory is ahead of the disk. It is dropped, and loaded anew when it is
//!   next needed, by an alarm a few seconds later at the latest. That alarm says nothing of what was done before: see
//!   [`Alarm`].
//! - Tables of a later version than [`SCHEMA_VERSION`] are neither read nor written: commands fail, and the alarm goes
//!   off once a minute, until that version is back. It carries on what is there.
//!
//! The class is declared by the worker, which implements [`Upstreams`], and bound by
//!
//! ```toml
//! [[durable_objects.bindings]]
//! name = "ROOMS"
//! class_name = "Room"
//!
//! [[migrations]]
//! tag = "v1"
//! new_sqlite_classes = ["Room"]
//! ```

mod schema;
mod store;

pub use schema::SCHEMA_VERSION;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use worker::{Date, DateInit, Delay, ScheduledTime, State, Storage};

use crate::command::{RoomAnswer, RoomCommand};
use crate::engine::action::{Outcome, Request};
use crate::engine::alarm::Alarm;
use crate::engine::backoff::Jitter;
use crate::engine::log_event::LogEvent;
use crate::engine::pacing::Pacing;
use crate::engine::room::{EngineConfig, Input, RoomEngine};
use crate::engine::status::RoomStatus;
use crate::object::store::{Store, StoreError};
use crate::time::Timestamp;

thread_local! {
    /// Rates of homeservers that limit requests, shared by the rooms of this isolate.
    static PACING: Pacing = Pacing::default();
}

/// The object's way to other servers and to the log.
pub trait Upstreams {
    /// Performs the request of an action. It takes 30 s at most.
    fn perform(&self, request: Request) -> impl Future<Output = Outcome>;
    /// Logs an event.
    fn report(&self, log_event: &LogEvent);
    /// Logs how many rows were written at once, an alarm counting as one.
    fn stored(&self, rows: usize);
    /// Logs that nothing can be read or written.
    fn not_stored(&self, error: &worker::Error);
}

/// The object of one LiveKit room.
pub struct RoomObject {
    storage: Storage,
    store: Store,
    /// `None` until it is needed, and after a failure to store: then the rows on disk are the truth.
    room: RefCell<Option<RoomEngine>>,
    /// The alarm, as far as this instance knows.
    alarm: Cell<Option<Alarm>>,
    /// Wakes the running alarm, if there is one.
    acting: RefCell<Option<oneshot::Sender<()>>>,
}

impl RoomObject {
    /// Makes the object with that state; nothing is read yet.
    pub fn new(state: &State) -> Self {
        let storage = state.storage();
        let store = Store::new(storage.sql());
        Self { storage, store, room: RefCell::new(None), alarm: Cell::new(None), acting: RefCell::new(None) }
    }

    /// Records the effect of `command`. When this returns without an error, it is stored, and the alarm is set. With an
    /// error, some of it may be stored.
    pub async fn command(
        &self,
        config: EngineConfig,
        upstreams: &impl Upstreams,
        command: RoomCommand,
    ) -> worker::Result<RoomAnswer> {
        let handled_until = self.handled_until().await?;
        self.load(config, handled_until)?;
        let answer = match self.with_room(config, upstreams, |now, room| room.handle(now, Input::Command(command))) {
            Ok(answer) => answer,
            Err(error) => {
                // A present alarm knows nothing of the part that is stored.
                let _ = self.try_again_within(UNTIL_STORED_AGAIN).await;
                return Err(error.into());
            }
        };
        if answer != RoomAnswer::Recorded {
            return Ok(answer);
        }
        let acting = self.acting.take();
        let is_acting = acting.is_some();
        if let Some(wake) = acting {
            // An alarm that is over just now sets the next one itself.
            let _ = wake.send(());
        }
        // The alarm that is acting may be cut off, and what it has in flight with it: that is due at once then.
        self.set_alarm(upstreams, is_acting).await?;
        Ok(answer)
    }

    /// Returns the room's state, for its operator. Nothing is stored.
    pub async fn status(&self, config: EngineConfig, with_users: bool) -> worker::Result<RoomStatus> {
        let handled_until = self.handled_until().await?;
        self.load(config, handled_until)?;
        let room = self.room.borrow();
        let room = room.as_ref().ok_or_else(|| worker::Error::from("the room isn't loaded"))?;
        Ok(room.status(with_users))
    }

    /// Returns what the alarm says of the work that was due before, where the engine has yet to be loaded.
    async fn handled_until(&self) -> worker::Result<Option<Timestamp>> {
        if self.room.borrow().is_some() {
            return Ok(None);
        }
        let alarm = self.storage.get_alarm().await?.and_then(|alarm| u64::try_from(alarm).ok());
        let alarm = alarm.map(|alarm| Alarm::set_for(Timestamp::from_millis(alarm)));
        if self.room.borrow().is_none() {
            self.alarm.set(alarm);
        }
        Ok(alarm.and_then(|alarm| alarm.handled_until(now())))
    }

    /// Performs due actions, a few at a time, until nothing is due or its share is used up, and sets the next alarm.
    ///
    /// Where that can't be stored, it is tried again later. An error means that not even an alarm can be set; the
    /// platform runs this one again then, but not for ever.
    pub async fn alarm(&self, config: EngineConfig, upstreams: &impl Upstreams) -> worker::Result<()> {
        self.alarm.set(None);
        let outcome = self.act(config, upstreams).await;
        self.acting.take();
        if let Err(error) = outcome {
            let wait = match &error {
                StoreError::Newer(_) => UNTIL_UPGRADED,
                StoreError::Storage(_) => UNTIL_STORED_AGAIN,
            };
            upstreams.not_stored(&error.into());
            return self.try_again_within(wait).await;
        }
        if self.room.borrow().as_ref().is_some_and(RoomEngine::is_empty) {
            // No command can have come in between: nothing was awaited since the room was found empty.
            self.alarm.set(None);
            self.store.forget();
            return self.storage.delete_all().await;
        }
        self.set_alarm(upstreams, false).await
    }

    /// Puts off an alarm that has gone off, and all that is due with it, by `wait` or up to a second less.
    pub async fn put_off(&self, wait: Duration) -> worker::Result<()> {
        self.alarm.set(None);
        self.try_again_within(wait).await
    }

    async fn act(&self, config: EngineConfig, upstreams: &impl Upstreams) -> Result<(), StoreError> {
        let mut in_flight = FuturesUnordered::new();
        let mut share = ACTIONS_PER_ALARM;
        loop {
            let free = CONCURRENT_ACTIONS.saturating_sub(in_flight.len()).min(share);
            let actions = self.with_room(config, upstreams, |now, room| room.take_due(now, free))?;
            share = share.saturating_sub(actions.len());
            for action in actions {
                in_flight.push(async move { (action.id, upstreams.perform(action.request).await) });
            }
            let nap_until = self.room.borrow().as_ref().and_then(|room| room.nap_until(now()));
            let nap_until = nap_until.filter(|_| in_flight.is_empty() && share > 0);
            if in_flight.is_empty() && nap_until.is_none() {
                return Ok(());
            }
            let (wake, woken) = oneshot::channel();
            self.acting.replace(Some(wake));
            let until_due = pin!(self.until_due(share, nap_until));
            let outcome = async {
                match in_flight.next().await {
                    Some(outcome) => outcome,
                    // It naps.
                    None => std::future::pending().await,
                }
            };
            if let Either::Left(((id, outcome), _)) = select(pin!(outcome), select(woken, until_due)).await {
                let jitter = Jitter::new(js_sys::Math::random());
                self.with_room(config, upstreams, |now, room| {
                    room.handle(now, Input::Outcome { id, outcome, jitter });
                })?;
            }
        }
    }

    /// Waits until another action is due, or for ever where the share is used up.
    async fn until_due(&self, share: usize, nap_until: Option<Timestamp>) {
        // Past dues are held back on purpose until something in flight is done.
        let due = || self.room.borrow().as_ref().and_then(|room| room.next_due_after(now()));
        let due = nap_until.or_else(due).filter(|_| share > 0);
        match due {
            Some(due) => Delay::from(due.since(now()).min(LONGEST_NAP)).await,
            None => std::future::pending().await,
        }
    }

    /// Runs `work` on the engine, and stores the changes before its result is returned.
    fn with_room<T>(
        &self,
        config: EngineConfig,
        upstreams: &impl Upstreams,
        work: impl FnOnce(Timestamp, &mut RoomEngine) -> T,
    ) -> Result<T, StoreError> {
        let now = now();
        self.load(config, None)?;
        let mut slot = self.room.borrow_mut();
        let Some(room) = &mut *slot else { return Err(worker::Error::from("the room isn't loaded").into()) };
        let done = work(now, room);
        let changes = room.take_changes();
        let log_events = room.take_log_events();
        match self.store.apply(&changes) {
            Ok(0) => {}
            Ok(rows) => upstreams.stored(rows),
            Err(error) => {
                *slot = None;
                self.store.forget();
                return Err(error);
            }
        }
        log_events.iter().for_each(|log_event| upstreams.report(log_event));
        Ok(done)
    }

    /// Loads the engine, unless it is in memory. See [`RoomEngine::load`].
    fn load(&self, config: EngineConfig, handled_until: Option<Timestamp>) -> Result<(), StoreError> {
        let mut slot = self.room.borrow_mut();
        if slot.is_none() {
            let rows = self.store.load()?;
            let mut room = RoomEngine::load(config, now(), rows, handled_until);
            room.share_pacing(PACING.with(Pacing::for_another_room));
            *slot = Some(room);
        }
        Ok(())
    }

    /// Sets the alarm, unless the present one is early enough; `at_once` if anything is in flight.
    async fn set_alarm(&self, upstreams: &impl Upstreams, at_once: bool) -> worker::Result<()> {
        let alarm = |room: &RoomEngine| match at_once && room.has_actions_in_flight() {
            true => Some(Alarm::again_at(now())),
            false => room.next_due().map(Alarm::for_due),
        };
        let Some(alarm) = self.room.borrow().as_ref().and_then(alarm) else { return Ok(()) };
        if self.alarm.get().is_some_and(|set| set.time() <= alarm.time()) {
            return Ok(());
        }
        upstreams.stored(1);
        self.store_alarm(alarm).await
    }

    /// Sets the alarm for another try: after `wait`, or earlier if the present one is.
    async fn try_again_within(&self, wait: Duration) -> worker::Result<()> {
        let latest = now() + wait;
        let time = self.alarm.get().map_or(latest, |alarm| alarm.time().min(latest));
        self.store_alarm(Alarm::again_at(time)).await
    }

    async fn store_alarm(&self, alarm: Alarm) -> worker::Result<()> {
        self.alarm.set(Some(alarm));
        let time = Date::new(DateInit::Millis(alarm.time().as_millis()));
        let set = self.storage.set_alarm(ScheduledTime::new(time.into())).await;
        if set.is_err() {
            self.alarm.set(None);
        }
        set
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(Date::now().as_millis())
}

/// Requests of one invocation that may wait for a response: the platform's limit is six, more would queue.
const CONCURRENT_ACTIONS: usize = 6;
/// Actions of one alarm before the next takes over: each is an invocation of its own, with its own limits. The smallest
/// limit is 50 requests, and an action takes five at most where a homeserver's API has to be found first: the client
/// well-known with two redirects, `/versions`, and the request itself.
const ACTIONS_PER_ALARM: usize = 9;
const LONGEST_NAP: Duration = Duration::from_secs(30);
/// Wait after a failure to store. Long enough for a lasting one, short enough for a passing one: most delays are
/// longer.
const UNTIL_STORED_AGAIN: Duration = Duration::from_secs(5);
/// Wait where a later version has stored the room. It costs a request, a row and a line of the log each time.
const UNTIL_UPGRADED: Duration = Duration::from_secs(60);
