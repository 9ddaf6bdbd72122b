//! Responses to clients: JSON, with the headers that browsers need.
//!
//! How it works:
//! - a response is a status, an optional JSON body and a few headers; [`ApiError`] converts to one;
//! - CORS headers are added at the end, to responses of endpoints that browsers call
//!   (`docs/protocol.md#cors`);
//! - the headers of a successful response are the same every time, so that one `Headers` object per isolate serves
//!   them all.

use std::cell::RefCell;

use serde_json::Value;
use wasm_bindgen::JsValue;
use web_sys::{Headers, ResponseInit};

use crate::error::ApiError;
use crate::rate_limit::OverLimit;

/// A response that has not been sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
    for_browsers: bool,
}

impl Response {
    /// Returns 200 with a JSON body.
    pub fn json(body: Value) -> Self {
        Self { status: 200, body: Some(body), headers: Vec::new(), for_browsers: false }
    }

    /// Keeps it out of caches.
    pub fn uncached(mut self) -> Self {
        self.headers.push(("Cache-Control", "no-store".to_owned()));
        self
    }

    /// Returns 200 for a preflight.
    pub fn preflight() -> Self {
        let max_age = ("Access-Control-Max-Age", PREFLIGHT_LIFETIME_S.to_string());
        Self { status: 200, body: None, headers: vec![max_age], for_browsers: false }
    }

    /// Allows pages of any origin to read this response (`docs/protocol.md#cors`).
    pub fn with_cors(self) -> Self {
        Self { for_browsers: true, ..self }
    }

    /// Converts this to the type of the platform.
    pub fn into_web(self) -> Result<web_sys::Response, JsValue> {
        let init = ResponseInit::new();
        init.set_status(self.status);
        let headers = self.headers()?;
        init.set_headers(&headers);
        let body = self.body.map(|body| body.to_string());
        web_sys::Response::new_with_opt_str_and_init(body.as_deref(), &init)
    }

    fn headers(&self) -> Result<Headers, JsValue> {
        let are_usual = self.for_browsers && self.body.is_some() && self.headers.is_empty();
        if are_usual && let Some(headers) = USUAL_HEADERS.with_borrow(Option::clone) {
            return Ok(headers);
        }
        let headers = Headers::new()?;
        for (name, value) in &self.headers {
            headers.set(name, value)?;
        }
        if self.for_browsers {
            for (name, value) in CORS {
                headers.set(name, value)?;
            }
        }
        if self.body.is_some() {
            headers.set("Content-Type", "application/json")?;
        }
        if are_usual {
            USUAL_HEADERS.set(Some(headers.clone()));
        }
        Ok(headers)
    }
}

impl From<&ApiError> for Response {
    fn from(error: &ApiError) -> Self {
        let headers = match error {
            ApiError::MethodNotAllowed(allow) => vec![("Allow", (*allow).to_owned())],
            ApiError::RateLimited(_) | ApiError::RoomFull => {
                vec![("Retry-After", OverLimit::RETRY_AFTER_S.to_string())]
            }
            _ => Vec::new(),
        };
        Self { status: error.status(), body: Some(error.body()), headers, for_browsers: false }
    }
}

thread_local! {
    /// Headers of every successful response: the platform copies them into each.
    static USUAL_HEADERS: RefCell<Option<Headers>> = const { RefCell::new(None) };
}

const CORS: [(&str, &str); 3] = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST"),
    (
        "Access-Control-Allow-Headers",
        "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization",
    ),
];
const PREFLIGHT_LIFETIME_S: u32 = 86_400;
