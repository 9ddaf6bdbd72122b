//! Look-ups by server name: concurrent callers share one, and its outcome is kept for as long as it is valid.
//!
//! How it works:
//! - a table per isolate has an entry for each name: the start of the look-up while it runs, then the outcome with its
//!   lifetime;
//! - the look-up runs as a promise of its own, and `wait_until` keeps its invocation alive, so that it ends even if
//!   the first caller has disconnected;
//! - the first caller waits for the promise, the others look into the table every few milliseconds, each up to its own
//!   deadline: a promise of another request sometimes resumes its waiters within that request, where they may do no I/O;
//! - a look-up that is still pending after 15 s died with its invocation, and is started again;
//! - the table is bounded, in entries and in bytes, because callers choose the names and their servers the outcomes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::thread::LocalKey;
use std::time::Duration;

use js_sys::Promise;
use js_sys::futures::{JsFuture, future_to_promise};
use wasm_bindgen::JsValue;
use worker::Delay;

use crate::clock;
use crate::fetch::Deadline;
use crate::matrix::ids::server_name::ServerName;

/// Keeps an invocation alive until a promise is settled, even after its client has disconnected.
pub type WaitUntil = Rc<dyn Fn(&Promise)>;

/// The outcomes that an isolate has in memory.
pub struct SingleFlightCache<V>(RefCell<HashMap<ServerName, Known<V>>>);

#[derive(Clone)]
enum Known<V> {
    Pending { since: u64 },
    Found { outcome: V, until: u64 },
}

impl<V> Default for SingleFlightCache<V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// An outcome whose size is known.
pub trait Weigh {
    /// Returns about how many bytes it takes beside the memory of the type itself.
    fn bytes(&self) -> usize;
}

impl<T: Weigh, E> Weigh for Result<T, E> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weigh::bytes)
    }
}

impl<V: Weigh + Clone + 'static> SingleFlightCache<V> {
    /// Returns the outcome for `name` from memory, or else from `look_up`, which returns an outcome and its lifetime.
    /// Concurrent callers share the look-up. `None` at the deadline.
    pub async fn get(
        lookups: &'static LocalKey<Self>,
        name: &ServerName,
        deadline: &Deadline,
        wait_until: &WaitUntil,
        look_up: impl Future<Output = (V, Duration)> + 'static,
    ) -> Option<V> {
        let now = clock::now_ms();
        match lookups.with(|known| known.0.borrow().get(name).cloned()) {
            Some(Known::Found { outcome, until }) if now < until => Some(outcome),
            Some(Known::Pending { since }) if now < since + STUCK_MS => {
                deadline.bound(Self::wait(lookups, name)).await.flatten()
            }
            _ => {
                let promise = Self::start(lookups, name, now, wait_until, look_up);
                // The outcome is in the table.
                let _ = deadline.bound(JsFuture::from(promise)).await?;
                Self::outcome(lookups, name)
            }
        }
    }

    /// Waits for the look-up of another request. Returns `None` where it has come to nothing.
    async fn wait(lookups: &'static LocalKey<Self>, name: &ServerName) -> Option<V> {
        let is_pending = || lookups.with(|known| matches!(known.0.borrow().get(name), Some(Known::Pending { .. })));
        while is_pending() {
            Delay::from(TABLE_INTERVAL).await;
        }
        Self::outcome(lookups, name)
    }

    fn outcome(lookups: &'static LocalKey<Self>, name: &ServerName) -> Option<V> {
        match lookups.with(|known| known.0.borrow().get(name).cloned()) {
            Some(Known::Found { outcome, .. }) => Some(outcome),
            _ => None,
        }
    }

    /// Drops the outcome for `name`: the next caller looks it up again.
    pub fn forget(&self, name: &ServerName) {
        self.0.borrow_mut().remove(name);
    }

    /// Drops the outcome for `name` after `lifetime`, unless it is dropped sooner.
    pub fn forget_after(&self, name: &ServerName, lifetime: Duration) {
        let latest = clock::now_ms() + u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX / 2);
        if let Some(Known::Found { until, .. }) = self.0.borrow_mut().get_mut(name) {
            *until = latest.min(*until);
        }
    }

    fn start(
        lookups: &'static LocalKey<Self>,
        name: &ServerName,
        now: u64,
        wait_until: &WaitUntil,
        look_up: impl Future<Output = (V, Duration)> + 'static,
    ) -> Promise {
        let key = name.clone();
        let promise = future_to_promise(async move {
            let (outcome, lifetime) = look_up.await;
            let until = clock::now_ms() + u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX / 2);
            lookups.with(|known| {
                known.make_room(clock::now_ms(), outcome.bytes());
                known.0.borrow_mut().insert(key, Known::Found { outcome, until });
            });
            Ok(JsValue::UNDEFINED)
        });
        wait_until(&promise);
        lookups.with(|known| {
            known.make_room(now, 0);
            known.0.borrow_mut().insert(name.clone(), Known::Pending { since: now });
        });
        promise
    }

    /// Makes room for one more entry of `bytes`: outdated entries go first, then any.
    fn make_room(&self, now: u64, bytes: usize) {
        let mut known = self.0.borrow_mut();
        let weight = |(name, entry): (&ServerName, &Known<V>)| match entry {
            Known::Pending { .. } => name.as_str().len(),
            Known::Found { outcome, .. } => name.as_str().len() + outcome.bytes(),
        };
        let mut weights: usize = known.iter().map(weight).sum();
        let is_full = |entries: usize, weights: usize| entries >= MAX_KNOWN || weights + bytes > MAX_BYTES;
        if is_full(known.len(), weights) {
            known.retain(|_, entry| match entry {
                Known::Pending { .. } => true,
                Known::Found { until, .. } => now < *until,
            });
            weights = known.iter().map(weight).sum();
        }
        while is_full(known.len(), weights) {
            let Some(name) = known.keys().next().cloned() else { return };
            weights -= known.get_key_value(&name).map_or(0, weight);
            known.remove(&name);
        }
    }
}

const MAX_KNOWN: usize = 1_000;
/// Of names and outcomes: the 128 MB of an isolate are for its objects.
const MAX_BYTES: usize = 1024 * 1024;
/// A look-up that started this long ago has died with its invocation.
const STUCK_MS: u64 = 15_000;
/// Interval at which callers look for the outcome of another request's look-up.
const TABLE_INTERVAL: Duration = Duration::from_millis(20);
