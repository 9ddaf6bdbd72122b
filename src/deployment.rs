//! The configuration of this deployment, read from its bindings once an isolate.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect};
use wasm_bindgen::prelude::*;
use worker::Env;

use crate::clock;
use crate::config::{Config, ConfigErrors, VARIABLES};

/// The configuration, or what is wrong with it.
pub type Deployment = Rc<Result<Config, ConfigErrors>>;

/// Reads it from `env`: from `[vars]` entries, secrets and Secrets Store bindings alike.
pub async fn configuration(env: &Env) -> Deployment {
    let now = clock::now_ms();
    let known = CONFIGURATION.with_borrow(|known| known.clone());
    if let Some((config, _)) = known.filter(|(_, until)| now < *until) {
        return config;
    }
    let mut values = BTreeMap::new();
    let mut until = u64::MAX;
    for variable in VARIABLES {
        let Ok(binding) = Reflect::get(env, &variable.into()) else { continue };
        if let Some(text) = binding.as_string() {
            values.insert(variable, text);
        } else if binding.is_object() {
            // What can't be read now is worth another try soon; a secret that is there may be rotated.
            let secret = stored_secret(binding.unchecked_into()).await;
            until = until.min(now + if secret.is_some() { SECRETS_STORE_LIFETIME_MS } else { 0 });
            values.extend(secret.map(|secret| (variable, secret)));
        }
    }
    let config = Rc::new(Config::from_lookup(|name| values.get(name).cloned()));
    CONFIGURATION.set(Some((Rc::clone(&config), until)));
    config
}

async fn stored_secret(binding: SecretsStoreSecret) -> Option<String> {
    JsFuture::from(binding.get().ok()?).await.ok()?.as_string()
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

const SECRETS_STORE_LIFETIME_MS: u64 = 300_000;
