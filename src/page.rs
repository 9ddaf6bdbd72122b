//! The page for people: what a browser gets at the mount point (`docs/protocol.md#the-page`).
//!
//! How it works:
//! - the page is for a `GET` whose `Accept` prefers HTML, at a path without an endpoint; every other client gets what it
//!   would get without a page;
//! - its files are assets of the deployment, behind a binding, and no part of this module; without the binding there is
//!   no page;
//! - the worker puts what it knows of the deployment into the page: the SFU's URL and homeserver mode, which clients learn
//!   anyway, and no secret;
//! - a misconfigured deployment has its page, too: it is where its operator looks first, and it says what `/healthz` says;
//! - scripts and styles are allowed by their hashes, which the build puts into `page.js`.

use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect};
use serde_json::json;
use wasm_bindgen::prelude::*;
use web_sys::{Request, Response};
use worker::Env;

use crate::config::bindings::{self, Deployment};
use crate::route::PageFile;
use crate::service::path_of;

/// Returns the response to a request for the page or one of its files, or `None` for every other request.
pub async fn respond(request: &Request, env: &Env) -> Option<Response> {
    let method = request.method();
    if !matches!(method.as_str(), "GET" | "HEAD") {
        return None;
    }
    let url = request.url();
    let file = PageFile::at(path_of(&url))?;
    let accept = request.headers().get("Accept").ok().flatten().unwrap_or_default();
    if file == PageFile::Page && !prefers_html(&accept) {
        return None;
    }
    let deployment = bindings::deployment_with_page(env).await?;
    let assets = Reflect::get(env, &ASSETS.into()).ok().filter(JsValue::is_object)?;
    let sent = match file {
        PageFile::Page => send_page(&assets, &method, &url, &described(&deployment)),
        PageFile::LivekitClient => send_livekit_client(&assets, &method),
    };
    JsFuture::from(sent).await.ok()?.dyn_into().ok()
}

/// Whether a client with this `Accept` header would rather have HTML than JSON. HTML must be named: `*/*` is what
/// programs send.
fn prefers_html(accept: &str) -> bool {
    let quality = |wanted: &str| {
        accept.split(',').find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_wanted = parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case(wanted));
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            is_wanted.then(|| weight.map_or(1000, thousandths))
        })
    };
    let html = quality("text/html").unwrap_or(0);
    html > 0 && html >= quality("application/json").unwrap_or(0)
}

/// Returns a weight of an `Accept` header in thousandths, its unit; a malformed one counts as 0. The standard library's
/// floats would bring 10 kB of tables.
fn thousandths(weight: &str) -> u16 {
    let (whole, fraction) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    let is_fraction = fraction.len() <= 3 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    match whole {
        "1" if is_fraction && fraction.bytes().all(|digit| digit == b'0') => 1000,
        "0" if is_fraction => digits.fold(0, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0'))),
        _ => 0,
    }
}

/// Returns what the page shows of the deployment, as JSON.
fn described(deployment: &Deployment) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match deployment.as_ref() {
        Ok(config) => json!({
            "version": version,
            "sfu": config.sfu.client(),
            "homeserver": config.application_service.as_ref().map(|service| service.server_name().as_str()),
            "membership": config.require_membership,
        }),
        Err(_) => json!({ "version": version }),
    }
    .to_string()
}

#[wasm_bindgen(module = "/src/page.js")]
extern "C" {
    /// Resolves to the page, or to `undefined` where the assets lack it.
    #[wasm_bindgen(js_name = sendPage)]
    fn send_page(assets: &JsValue, method: &str, url: &str, deployment: &str) -> Promise;

    /// Resolves to LiveKit's client, likewise.
    #[wasm_bindgen(js_name = sendLivekitClient)]
    fn send_livekit_client(assets: &JsValue, method: &str) -> Promise;
}

/// Binding to the files of the page.
const ASSETS: &str = "ASSETS";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn only_browsers_prefer_html() {
        for browser in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "text/html",
            "TEXT/HTML; q=0.9, application/json;q=0.5",
            "application/json, text/html",
            "text/html;q=0.51, application/json;q=0.509",
            "text/html;q=1.000",
        ] {
            assert!(prefers_html(browser), "{browser}");
        }
        for other in [
            "",
            "*/*",
            "application/json",
            "application/json, text/html;q=0.9",
            "text/html;q=0",
            "text/*",
            "text/html;q=x",
            "text/html;q=2",
            "text/html;q=0.0001",
        ] {
            assert!(!prefers_html(other), "{other}");
        }
    }

    #[test]
    fn the_page_learns_no_secret() {
        let config = Config::from_lookup(|name| match name {
            "LIVEKIT_URL" => Some("wss://sfu.example.com".to_owned()),
            "LIVEKIT_HS_SERVER_NAME" | "LIVEKIT_FULL_ACCESS_HOMESERVERS" => Some("example.com".to_owned()),
            "LIVEKIT_KEY" | "LIVEKIT_SECRET" | "LIVEKIT_AS_TOKEN" | "LIVEKIT_HS_TOKEN" => Some("secret".to_owned()),
            _ => None,
        });
        let described = described(&Deployment::new(config));
        assert!(described.contains("wss://sfu.example.com") && described.contains(r#""homeserver":"example.com""#));
        assert!(!described.contains("secret"), "{described}");
    }
}
