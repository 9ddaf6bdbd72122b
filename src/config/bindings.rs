//! The configuration of this deployment, read from its bindings once per isolate.
//!
//! How it works:
//! - `[vars]` entries and secrets are strings in `env`; a Secrets Store binding is an object with an asynchronous
//!   `get`;
//! - without Secrets Store bindings the first result, good or bad, holds for the life of the isolate: a deployment
//!   starts new ones;
//! - values from the Secrets Store may be rotated, so they are read again after 5 minutes, and 1 s after a failure;
//! - while a value can't be read again, the last good configuration stays in force, and the log has a warning every
//!   30 s;
//! - the first reading finds out where this is: workerd alone has a binding that the edge hasn't, the way to private
//!   addresses. The log's form depends on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect};
use serde_json::json;
use wasm_bindgen::prelude::*;
use worker::Env;

use crate::clock;
use crate::config::{Config, ConfigErrors, Unreadable, VARIABLES};
use crate::fetch::{self, Deadline};
use crate::log::{Form, Level, Log};

/// The configuration, or its problems.
pub type Deployment = Rc<Result<Config, ConfigErrors>>;

/// Returns the configuration from `env`, from memory while that is fresh.
///
/// Fails, until the Secrets Store answers, where a value has never been read.
pub async fn configuration(env: &Env) -> Deployment {
    let now = clock::now_ms();
    let known = CONFIGURATION.with_borrow(|known| known.clone());
    if let Some((config, until)) = &known
        && now < *until
    {
        return Rc::clone(config);
    }
    if known.is_none() && fetch::is_on_the_edge(env) {
        Form::Objects.choose();
    }
    let mut values = BTreeMap::new();
    let mut stored = Vec::new();
    for variable in VARIABLES {
        let Ok(binding) = Reflect::get(env, &variable.into()) else { continue };
        if let Some(text) = binding.as_string() {
            values.insert(variable, Ok(Some(text)));
        } else if binding.is_object() {
            stored.push(async move { (variable, stored_secret(binding.unchecked_into()).await) });
        }
    }
    let mut lifetime_ms = None;
    // Together: each of them may take as long as the time-out.
    for (variable, value) in join_all(stored).await {
        let lifetime = if value.is_ok() { SECRET_LIFETIME_MS } else { FAILURE_LIFETIME_MS };
        lifetime_ms = Some(lifetime_ms.unwrap_or(lifetime).min(lifetime));
        values.insert(variable, value);
    }
    let unreadable: Vec<_> = values.iter().filter(|(_, value)| value.is_err()).map(|(variable, _)| *variable).collect();
    let config = match known.and_then(|(before, _)| outlasting(before, &unreadable)) {
        Some((before, log_level)) => {
            let log = Log::of_new_request(log_level);
            log.write(Level::Warn, "Secrets Store unavailable", json!({"variables": unreadable}));
            lifetime_ms = Some(OUTAGE_LIFETIME_MS);
            before
        }
        None => Rc::new(Config::from_source(|name| values.get(name).cloned().unwrap_or(Ok(None)))),
    };
    let until = lifetime_ms.map_or(u64::MAX, |lifetime| clock::now_ms() + lifetime);
    CONFIGURATION.set(Some((Rc::clone(&config), until)));
    config
}

/// Returns the deployment, or its problems, where browsers get the page: unless `LIVEKIT_PAGE` turns it off. What else is
/// wrong with the configuration doesn't.
pub async fn deployment_with_page(env: &Env) -> Option<Deployment> {
    let deployment = configuration(env).await;
    let shown = match deployment.as_ref() {
        Ok(config) => config.page,
        Err(_) => {
            let text = Reflect::get(env, &PAGE.into()).ok().and_then(|value| value.as_string()).unwrap_or_default();
            text.trim().is_empty() || text.trim() == "true"
        }
    };
    shown.then_some(deployment)
}

/// Returns the configuration to keep, with its log level, where it was valid and some value is unreadable now.
fn outlasting(before: Deployment, unreadable: &[&str]) -> Option<(Deployment, Level)> {
    let log_level = before.as_ref().as_ref().ok()?.log_level;
    (!unreadable.is_empty()).then_some((before, log_level))
}

async fn stored_secret(binding: SecretsStoreSecret) -> Result<Option<String>, Unreadable> {
    let read = JsFuture::from(binding.get().map_err(|_| Unreadable)?);
    let value = Deadline::after(SECRETS_STORE_TIMEOUT).bound(read).await.ok_or(Unreadable)?;
    Ok(value.map_err(|_| Unreadable)?.as_string())
}

#[wasm_bindgen]
extern "C" {
    type SecretsStoreSecret;

    #[wasm_bindgen(method, catch)]
    fn get(this: &SecretsStoreSecret) -> Result<Promise, JsValue>;
}

thread_local! {
    static CONFIGURATION: RefCell<Option<(Deployment, u64)>> = const { RefCell::new(None) };
}

const PAGE: &str = "LIVEKIT_PAGE";
const SECRET_LIFETIME_MS: u64 = 300_000;
const FAILURE_LIFETIME_MS: u64 = 1_000;
const OUTAGE_LIFETIME_MS: u64 = 30_000;
const SECRETS_STORE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_right_outlasts_what_cannot_be_read_again() {
        let right = Config::from_lookup(|name| match name {
            "LIVEKIT_URL" => Some("wss://sfu.example.com".to_owned()),
            "LIVEKIT_LOG_LEVEL" => Some("error".to_owned()),
            "LIVEKIT_KEY" | "LIVEKIT_SECRET" | "LIVEKIT_FULL_ACCESS_HOMESERVERS" => Some("example".to_owned()),
            _ => None,
        });
        let (right, wrong) = (Rc::new(right), Rc::new(Config::from_lookup(|_| None)));

        let outlasts = |before: &Deployment, unreadable: &[&str]| outlasting(Rc::clone(before), unreadable);
        assert!(outlasts(&right, &["LIVEKIT_SECRET"]).is_some_and(|(_, level)| level == Level::Error));
        assert!(outlasts(&right, &[]).is_none());
        assert!(outlasts(&wrong, &["LIVEKIT_SECRET"]).is_none());
    }
}
