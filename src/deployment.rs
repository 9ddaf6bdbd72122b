//! The configuration of this deployment, read from its bindings once an isolate.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect};
use serde_json::json;
use wasm_bindgen::prelude::*;
use worker::Env;

use crate::clock;
use crate::config::{Config, ConfigErrors, Unreadable, VARIABLES};
use crate::log::{Level, Log};
use crate::outbound::Deadline;

/// The configuration, or what is wrong with it.
pub type Deployment = Rc<Result<Config, ConfigErrors>>;

/// Reads it from `env`: from `[vars]` entries, secrets and Secrets Store bindings alike.
///
/// What is in the Secrets Store is read again every few minutes, because it may be rotated. When that fails, what was read
/// before stays in force; without that, the deployment is misconfigured until it succeeds.
pub async fn configuration(env: &Env) -> Deployment {
    let now = clock::now_ms();
    let known = CONFIGURATION.with_borrow(|known| known.clone());
    if let Some((config, until)) = &known
        && now < *until
    {
        return Rc::clone(config);
    }
    let mut values = BTreeMap::new();
    let mut lifetime_ms = None;
    for variable in VARIABLES {
        let Ok(binding) = Reflect::get(env, &variable.into()) else { continue };
        if let Some(text) = binding.as_string() {
            values.insert(variable, Ok(Some(text)));
        } else if binding.is_object() {
            let value = stored_secret(binding.unchecked_into()).await;
            let lifetime = if value.is_ok() { SECRET_LIFETIME_MS } else { FAILURE_LIFETIME_MS };
            lifetime_ms = Some(lifetime_ms.unwrap_or(lifetime).min(lifetime));
            values.insert(variable, value);
        }
    }
    let mut config = Rc::new(Config::from_source(|name| values.get(name).cloned().unwrap_or(Ok(None))));
    let unreadable: Vec<_> = values.iter().filter(|(_, value)| value.is_err()).map(|(variable, _)| *variable).collect();
    if let Some((before, _)) = known
        && let Ok(in_force) = before.as_ref()
        && !unreadable.is_empty()
    {
        let log = Log::of_new_request(in_force.log_level);
        log.write(Level::Warn, "Secrets Store out of reach", json!({"variables": unreadable}));
        config = before;
        lifetime_ms = Some(OUTAGE_LIFETIME_MS);
    }
    let until = lifetime_ms.map_or(u64::MAX, |lifetime| clock::now_ms() + lifetime);
    CONFIGURATION.set(Some((Rc::clone(&config), until)));
    config
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

const SECRET_LIFETIME_MS: u64 = 300_000;
const FAILURE_LIFETIME_MS: u64 = 1_000;
const OUTAGE_LIFETIME_MS: u64 = 30_000;
const SECRETS_STORE_TIMEOUT: Duration = Duration::from_secs(5);
