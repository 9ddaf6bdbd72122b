//! Requests that this service sends: limited in time, and in the size of the response.
//!
//! How it works:
//! - [`Fetchers`] has two exits: `internet` for URLs derived from what a caller sent, `configured` for URLs of the
//!   operator. On the edge both are the global `fetch`; in workerd alone a binding lets only the second one reach
//!   private addresses;
//! - every request has a [`Deadline`], which covers the response's body; the platform aborts the request when it
//!   passes;
//! - every request has a `User-Agent`: none leaves a worker by itself, and many sites refuse requests without one;
//! - redirects are never followed: they are responses like others, so that no secret travels to another host;
//! - a connection that breaks before the response is tried once more, a few times in an invocation, unless the request
//!   must not arrive twice;
//! - a body is read as a stream, up to a limit, whatever length it declares; a response whose body isn't read must be
//!   discarded, to free its connection.

use std::cell::Cell;
use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect, Uint8Array};
use thiserror::Error;
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, RequestInit, RequestRedirect, Response};
use worker::{Delay, Env};

use crate::clock;

/// The two exits of this worker. Cloning is cheap.
#[derive(Clone)]
pub struct Fetchers(Rc<Destinations>);

struct Destinations {
    internet: Fetcher,
    configured: Fetcher,
}

impl Fetchers {
    /// Takes both from the environment. Where there is no binding for configured destinations (on the edge), both are
    /// the global `fetch`.
    pub fn from_env(env: &Env) -> Self {
        let internet: PlatformFetcher = js_sys::global().unchecked_into();
        let configured = Reflect::get(env, &CONFIGURED_BINDING.into()).ok().filter(JsValue::is_object);
        let configured = configured.map_or_else(|| internet.clone(), JsCast::unchecked_into);
        let repeats_left = Rc::new(Cell::new(REPEATS_OF_AN_INVOCATION));
        let [internet, configured] =
            [internet, configured].map(|platform| Fetcher { platform, repeats_left: Rc::clone(&repeats_left) });
        Self(Rc::new(Destinations { internet, configured }))
    }

    /// Returns the exit for destinations that a caller has named: in workerd alone it reaches public addresses only.
    pub fn internet(&self) -> &Fetcher {
        &self.0.internet
    }

    /// Returns the exit for destinations that the operator has named: they may be on a private network.
    pub fn configured(&self) -> &Fetcher {
        &self.0.configured
    }
}

#[wasm_bindgen]
extern "C" {
    /// Object with a `fetch` method: the global scope, or a service binding.
    #[derive(Clone)]
    type PlatformFetcher;

    #[wasm_bindgen(method, catch, js_name = fetch)]
    fn fetch(this: &PlatformFetcher, url: &str, init: &RequestInit) -> Result<Promise, JsValue>;
}

/// One exit. The repeated requests of both are counted together.
pub struct Fetcher {
    platform: PlatformFetcher,
    repeats_left: Rc<Cell<u32>>,
}

impl Fetcher {
    /// Sends `request`, and waits for the head of the response. Where the connection breaks before that, the request
    /// is sent once more before its deadline.
    pub async fn send(&self, request: FetchRequest<'_>) -> Result<FetchResponse, FetchError> {
        match self.send_once(&request).await {
            // A server closes an idle connection just as it is used again.
            Err(FetchError::Lost(_)) if !request.deadline.passed() && self.repeats_left.get() > 0 => {
                self.repeats_left.set(self.repeats_left.get().saturating_sub(1));
                self.send_once(&request).await
            }
            outcome => outcome,
        }
    }

    /// Sends a `request` that must not be repeated, and waits for the head of the response.
    pub async fn send_once(&self, request: &FetchRequest<'_>) -> Result<FetchResponse, FetchError> {
        let init = RequestInit::new();
        init.set_redirect(RequestRedirect::Manual);
        init.set_signal(Some(&request.deadline.signal));
        let headers = web_sys::Headers::new()?;
        headers.set("User-Agent", USER_AGENT)?;
        let (name, value, authorization) = match request.method {
            Method::Get { accept, authorization } => ("Accept", accept, authorization),
            Method::Post { content_type, authorization, body } => {
                init.set_method("POST");
                init.set_body(&Uint8Array::from(body));
                ("Content-Type", Some(content_type), authorization)
            }
        };
        for (name, value) in [(name, value), ("Authorization", authorization)] {
            if let Some(value) = value {
                headers.set(name, value)?;
            }
        }
        init.set_headers(&headers);
        let response = JsFuture::from(self.platform.fetch(request.url, &init)?).await?;
        FetchResponse(response.unchecked_into()).of_the_server()
    }
}

/// A request to send.
pub struct FetchRequest<'a> {
    /// The absolute URL.
    pub url: &'a str,
    /// The method, with its headers and body.
    pub method: Method<'a>,
    /// The deadline, which includes reading the body of the response.
    pub deadline: &'a Deadline,
}

/// Method of a request, with the headers and the body that belong to it.
pub enum Method<'a> {
    /// `GET`.
    Get {
        /// `Accept`.
        accept: Option<&'a str>,
        /// `Authorization`.
        authorization: Option<&'a str>,
    },
    /// `POST`.
    Post {
        /// `Content-Type`.
        content_type: &'a str,
        /// `Authorization`.
        authorization: Option<&'a str>,
        /// The body.
        body: &'a [u8],
    },
}

/// Instant at which requests are aborted.
#[derive(Clone)]
pub struct Deadline {
    signal: AbortSignal,
    at_ms: u64,
}

impl Deadline {
    /// Returns the instant `after` from now.
    pub fn after(after: Duration) -> Self {
        let ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        Self { signal: AbortSignal::timeout_with_u32(ms), at_ms: clock::now_ms() + u64::from(ms) }
    }

    /// Whether the instant has passed.
    pub fn passed(&self) -> bool {
        self.signal.aborted()
    }

    /// Waits for `work`, and returns `None` at the deadline. For work that can't take an abort signal.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let left = Duration::from_millis(self.at_ms.saturating_sub(clock::now_ms()));
        match select(pin!(work), pin!(Delay::from(left))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

/// Head of a response; the body is still to be read.
pub struct FetchResponse(Response);

impl FetchResponse {
    /// Fails for a response that Cloudflare gives in the server's place: on the edge a failed connection looks like
    /// that, and so does anything that Cloudflare takes for an attack.
    fn of_the_server(self) -> Result<Self, FetchError> {
        let error = match self.status() {
            status @ (520..=527 | 530) => FetchError::Cloudflare(status),
            _ if self.header("cf-mitigated").is_some_and(|how| how.trim() == "challenge") => FetchError::Challenged,
            _ => return Ok(self),
        };
        self.discard();
        Err(error)
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// Returns a header, where it exists and is text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.headers().get(name).ok().flatten()
    }

    /// Reads the body, of at most `limit` bytes.
    ///
    /// The limit holds for the bytes as they stream. No header is believed: `Content-Length` says nothing beside
    /// `Transfer-Encoding: chunked`, and nothing of what `Content-Encoding` unpacks to.
    pub async fn body(self, limit: usize) -> Result<Vec<u8>, FetchError> {
        match self.0.body() {
            None => Ok(Vec::new()),
            Some(stream) => read_at_most(stream, limit).await?.ok_or(FetchError::TooLarge),
        }
    }

    /// Drops the response without reading its body, which frees the connection.
    pub fn discard(self) {
        if let Some(stream) = self.0.body() {
            // The outcome of cancelling changes nothing.
            let _ = stream.cancel();
        }
    }
}

/// Reads a stream to its end. Cancels it and returns `None` where there are more than `limit` bytes.
pub async fn read_at_most(stream: web_sys::ReadableStream, limit: usize) -> Result<Option<Vec<u8>>, JsValue> {
    let reader: ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
    let mut body = Vec::new();
    loop {
        let chunk = JsFuture::from(reader.read()).await?;
        if Reflect::get(&chunk, &"done".into())?.is_truthy() {
            return Ok(Some(body));
        }
        let bytes: Uint8Array = Reflect::get(&chunk, &"value".into())?.unchecked_into();
        if body.len() + bytes.length() as usize > limit {
            let _ = reader.cancel();
            return Ok(None);
        }
        body.extend(bytes.to_vec());
    }
}

/// Reason for a missing response.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// The deadline has passed.
    #[error("no answer in time")]
    TimedOut,
    /// No connection, or no TLS; with the message of the platform.
    #[error("{0}")]
    Failed(String),
    /// The connection was closed before the head of the response; with the message of the platform.
    #[error("{0}")]
    Lost(String),
    /// Cloudflare has no response of the server, with the status that it gives instead.
    #[error(fmt = explain)]
    Cloudflare(u16),
    /// Cloudflare asks for a browser in place of the server's response.
    #[error(
        "Cloudflare challenges this service like a browser (cf-mitigated): let it pass Bot Fight Mode and the WAF of that zone"
    )]
    Challenged,
    /// The response is larger than the limit.
    #[error("the answer is too large")]
    TooLarge,
}

/// Writes what Cloudflare's own statuses mean ([Cloudflare, "5xx
/// errors"](https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/)).
fn explain(status: &u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let cause = match status {
        521 => "nobody listens there",
        522 | 523 => "its address isn't reached",
        524 => "it takes too long",
        525 | 526 => "its certificate isn't valid",
        530 => "its name isn't resolved",
        _ => "it sends no valid response",
    };
    write!(f, "Cloudflare has no answer of the server: {cause} ({status})")
}

impl From<JsValue> for FetchError {
    fn from(error: JsValue) -> Self {
        let property = |name: &str| Reflect::get(&error, &name.into()).ok().and_then(|value| value.as_string());
        match property("name").as_deref() {
            Some("TimeoutError" | "AbortError") => Self::TimedOut,
            _ => match property("message") {
                // A message that quotes the URL would quote the token in it.
                Some(message) if message.starts_with(INTERNAL_ERROR) => Self::Failed(format!(
                    "no connection: its name isn't resolved, nobody listens, or its certificate isn't trusted (the platform says: {message})"
                )),
                Some(message) if message.starts_with(CONNECTION_LOST) => Self::Lost(message),
                Some(message) if !message.contains("://") && !message.contains('?') => Self::Failed(message),
                _ => Self::Failed("the request failed".to_owned()),
            },
        }
    }
}

/// `User-Agent` of every request.
pub const USER_AGENT: &str = concat!("matrixrtc-edge/", env!("CARGO_PKG_VERSION"));
/// Limit for the body of a JSON response in bytes, unless a longer one is expected.
pub const MAX_JSON_BODY: usize = 64 * 1024;
/// Limit for the body of an error in bytes.
pub const MAX_ERROR_BODY: usize = 16 * 1024;
/// Start of the runtime's message about a connection that the server has closed.
const CONNECTION_LOST: &str = "Network connection lost";
/// Repeated requests of one invocation. An alarm performs nine actions with up to five requests each, and the free plan
/// allows fifty.
const REPEATS_OF_AN_INVOCATION: u32 = 5;
const CONFIGURED_BINDING: &str = "CONFIGURED";
/// Start of the message that the runtime sends in place of the cause; in workerd alone, the runtime has logged the
/// cause under the reference that follows.
const INTERNAL_ERROR: &str = "internal error";
