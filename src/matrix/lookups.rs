//! Look-ups by server name, made once for all who ask at the same time, and kept for as long as they hold.

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

/// Keeps an invocation alive until a promise is settled, even if its client goes away.
pub type WaitUntil = Rc<dyn Fn(&Promise)>;

/// The outcomes that one isolate knows.
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
    /// What is known of `name`, or else what `look_up` finds: an outcome, and for how long it holds. Who asks meanwhile
    /// waits for the same look-up. It ends by itself, however long its first caller stays. `None` at the deadline.
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
        // How it ended is in the table.
        let _ = deadline.bound(JsFuture::from(pending)).await?;
        match lookups.with(|known| known.0.borrow().get(name).cloned()) {
            Some(Known::Found { outcome, .. }) => Some(outcome),
            _ => None,
        }
    }

    /// Drops what is known of `name`: the next who asks looks again.
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

    /// Keeps the table bounded, whatever names callers come up with.
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
/// A look-up that was started this long ago died with the invocation it was part of.
const STUCK_MS: u64 = 15_000;
