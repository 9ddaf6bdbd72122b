//! Requests that this service sends: limited in time, and in the size of the response.
//!
//! How it works:
//! - [`Fetchers`] has two exits: `internet` for URLs derived from what a caller sent, `configured` for URLs of the
//!   operator. On the edge both are the global `fetch`; in workerd alone a binding lets only the second one reach
//!   private addresses;
//! - every request has a [`Deadline`], which covers the response's body; a timer aborts the request when it passes, and is
//!   cleared with the end of the response: a timer that is left keeps an object in memory, which is billed;
//! - every request has a `User-Agent`: none leaves a worker by itself, and many sites refuse requests without one;
//! - redirects are never followed: they are responses like others, so that no secret travels to another host;
//! - a connection that breaks before the response is tried once more, a few times in an invocation, unless the request
//!   must not arrive twice;
//! - a body is read as a stream, up to a limit, whatever length it declares; a response that is dropped before frees its
//!   connection;
//! - `fetch.js` does what a request needs from the platform, so that few calls cross the module's border.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect, Uint8Array};
use thiserror::Error;
use wasm_bindgen::prelude::*;
use worker::{Delay, Env};

use crate::clock;
use crate::cloudflare::NoAnswer;

/// The two exits of this worker. Cloning is cheap.
#[derive(Clone)]
pub struct Fetchers(Rc<Destinations>);

struct Destinations {
    internet: Fetcher,
    configured: Fetcher,
    is_on_the_edge: bool,
}

impl Fetchers {
    /// Takes both from the environment. Where there is no binding for configured destinations (on the edge), both are
    /// the global `fetch`.
    pub fn from_env(env: &Env) -> Self {
        let internet: PlatformFetcher = js_sys::global().unchecked_into();
        let configured = configured_exit(env);
        let is_on_the_edge = configured.is_none();
        let configured = configured.map_or_else(|| internet.clone(), JsCast::unchecked_into);
        let repeats_left = Rc::new(Cell::new(REPEATS_OF_AN_INVOCATION));
        let [internet, configured] =
            [internet, configured].map(|platform| Fetcher { platform, repeats_left: Rc::clone(&repeats_left) });
        Self(Rc::new(Destinations { internet, configured, is_on_the_edge }))
    }

    /// Whether this runs on Cloudflare's edge, or under `wrangler dev`, which behaves like it.
    pub fn are_on_the_edge(&self) -> bool {
        self.0.is_on_the_edge
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

/// Whether this is Cloudflare's edge, or `wrangler dev`: workerd alone has a binding for configured destinations, which
/// can be bound nowhere else.
pub fn is_on_the_edge(env: &Env) -> bool {
    configured_exit(env).is_none()
}

fn configured_exit(env: &Env) -> Option<JsValue> {
    Reflect::get(env, &CONFIGURED_BINDING.into()).ok().filter(JsValue::is_object)
}

#[wasm_bindgen(module = "/src/fetch.js")]
extern "C" {
    /// Object with a `fetch` method: the global scope, or a service binding.
    #[derive(Clone)]
    #[wasm_bindgen(typescript_type = "Fetcher")]
    type PlatformFetcher;

    /// One request, and its response.
    type Exchange;

    #[wasm_bindgen(constructor, catch)]
    fn new(
        exit: &PlatformFetcher,
        url: &str,
        user_agent: &str,
        kind: Option<&str>,
        authorization: Option<&str>,
        body: Option<&[u8]>,
        timeout_ms: u32,
    ) -> Result<Exchange, JsValue>;

    #[wasm_bindgen(method)]
    fn head(this: &Exchange) -> Promise;

    #[wasm_bindgen(method)]
    fn header(this: &Exchange, name: &str) -> Option<String>;

    #[wasm_bindgen(method)]
    fn body(this: &Exchange, limit: u32) -> Promise;

    #[wasm_bindgen(method)]
    fn end(this: &Exchange);

    #[wasm_bindgen(js_name = readRequest)]
    fn read_request_at_most(request: &web_sys::Request, limit: u32) -> Promise;
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
        let (kind, authorization, body) = match request.method {
            Method::Get { accept, authorization } => (accept, authorization, None),
            Method::Post { content_type, authorization, body } => (Some(content_type), authorization, Some(body)),
        };
        let left = request.deadline.left_ms();
        let exchange = Exchange::new(&self.platform, request.url, USER_AGENT, kind, authorization, body, left)?;
        // From here on, dropping it ends it.
        let mut response = FetchResponse { exchange, status: 0, is_read: false };
        let status = JsFuture::from(response.exchange.head()).await;
        let status = status.inspect_err(|_| response.is_read = true)?.as_f64().unwrap_or_default();
        response.status = status.abs() as u16;
        match NoAnswer::of(response.status) {
            // On the edge, a failed connection looks like a response.
            Some(no_answer) => Err(FetchError::Cloudflare(no_answer)),
            None if status < 0.0 => Err(FetchError::Challenged),
            None => Ok(response),
        }
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
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at_ms: u64,
}

impl Deadline {
    /// Returns the instant `after` from now.
    pub fn after(after: Duration) -> Self {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self { at_ms: clock::now_ms().saturating_add(ms) }
    }

    /// Whether the instant has passed.
    pub fn passed(&self) -> bool {
        self.left_ms() == 0
    }

    /// Waits for `work`, and returns `None` at the deadline. For work that can't be aborted.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        // A delay that is dropped clears its timer.
        let left = Duration::from_millis(self.left_ms().into());
        match select(pin!(work), pin!(Delay::from(left))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    fn left_ms(&self) -> u32 {
        u32::try_from(self.at_ms.saturating_sub(clock::now_ms())).unwrap_or(u32::MAX)
    }
}

/// Head of a response; the body is still to be read. Dropping it ends the response, which frees its connection.
pub struct FetchResponse {
    exchange: Exchange,
    status: u16,
    /// Whether there is nothing left to free.
    is_read: bool,
}

impl FetchResponse {
    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns a header, where it exists and is text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.exchange.header(name)
    }

    /// Reads the body, of at most `limit` bytes.
    ///
    /// The limit holds for the bytes as they stream. No header is believed: `Content-Length` says nothing beside
    /// `Transfer-Encoding: chunked`, and nothing of what `Content-Encoding` unpacks to.
    pub async fn body(mut self, limit: usize) -> Result<Vec<u8>, FetchError> {
        let body = JsFuture::from(self.exchange.body(in_js(limit))).await;
        self.is_read = true;
        bytes(&body?).ok_or(FetchError::TooLarge)
    }
}

impl Drop for FetchResponse {
    fn drop(&mut self) {
        if !self.is_read {
            self.exchange.end();
        }
    }
}

/// Reads the body of a `request` that has arrived. Returns `None`, and reads no further, where it has more than `limit`
/// bytes.
pub async fn read_request(request: &web_sys::Request, limit: usize) -> Result<Option<Vec<u8>>, JsValue> {
    Ok(bytes(&JsFuture::from(read_request_at_most(request, in_js(limit))).await?))
}

/// Returns the bytes of a `Uint8Array`; `None` for `undefined`.
fn bytes(array: &JsValue) -> Option<Vec<u8>> {
    array.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec)
}

fn in_js(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
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
    #[error("{0}")]
    Cloudflare(NoAnswer),
    /// Cloudflare asks for a browser in place of the server's response.
    #[error(
        "Cloudflare challenges this service like a browser (cf-mitigated): let it pass Bot Fight Mode and the WAF of that zone"
    )]
    Challenged,
    /// The response is larger than the limit.
    #[error("the answer is too large")]
    TooLarge,
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
