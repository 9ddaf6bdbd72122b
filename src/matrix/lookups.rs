//! Look-ups by server name: concurrent callers share one, and its outcome is kept for as long as it is valid.
//!
//! How it works:
//! - a table per isolate has an entry for each name: a promise while the look-up runs, then the outcome with its
//!   lifetime;
//! - the look-up runs as a promise of its own, and `wait_until` keeps its invocation alive, so that it ends even if
//!   the first caller has disconnected;
//! - callers wait for the promise up to their own deadline, and read the outcome from the table;
//! - a look-up that is still pending after 15 s died with its invocation, and is started again;
//! - the table is bounded, because callers choose the names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::thread::LocalKey;
use std::time::Duration;

use js_sys::Promise;
use js_sys::futures::{JsFuture, future_to_promise};
use wasm_bindgen::JsValue;

use crate::clock;
use crate::fetch::Deadline;
use crate::matrix::ids::server_name::ServerName;

/// Keeps an invocation alive until a promise is settled, even after its client has disconnected.
pub type WaitUntil = Rc<dyn Fn(&Promise)>;

/// The outcomes that an isolate has in memory.
pub struct SingleFlightCache<V>(RefCell<HashMap<ServerName, Known<V>>>);

#[derive(Clone)]
enum Known<V> {
    Pending { promise: Promise, since: u64 },
    Found { outcome: V, until: u64 },
}

impl<V> Default for SingleFlightCache<V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<V: Clone + 'static> SingleFlightCache<V> {
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
        let pending = match lookups.with(|known| known.0.borrow().get(name).cloned()) {
            Some(Known::Found { outcome, until }) if now < until => return Some(outcome),
            Some(Known::Pending { promise, since }) if now < since + STUCK_MS => promise,
            _ => Self::start(lookups, name, now, wait_until, look_up),
        };
        // The outcome is in the table.
        let _ = deadline.bound(JsFuture::from(pending)).await?;
        match lookups.with(|known| known.0.borrow().get(name).cloned()) {
            Some(Known::Found { outcome, .. }) => Some(outcome),
            _ => None,
        }
    }

    /// Drops the outcome for `name`: the next caller looks it up again.
    pub fn forget(&self, name: &ServerName) {
        self.0.borrow_mut().remove(name);
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
            lookups.with(|known| known.0.borrow_mut().insert(key, Known::Found { outcome, until }));
            Ok(JsValue::UNDEFINED)
        });
        wait_until(&promise);
        let pending = Known::Pending { promise: promise.clone(), since: now };
        lookups.with(|known| {
            known.make_room(now);
            known.0.borrow_mut().insert(name.clone(), pending);
        });
        promise
    }

    /// Keeps the table bounded, whatever names callers choose.
    fn make_room(&self, now: u64) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, entry| match entry {
                Known::Pending { .. } => true,
                Known::Found { until, .. } => now < *until,
            });
        }
        while known.len() >= MAX_KNOWN {
            match known.keys().next().cloned() {
                Some(any) => known.remove(&any),
                None => break,
            };
        }
    }
}

const MAX_KNOWN: usize = 1_000;
/// A look-up that started this long ago has died with its invocation.
const STUCK_MS: u64 = 15_000;
