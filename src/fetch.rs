//! Requests that this service makes: one way out, bounded in time and in what is read.

use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::futures::JsFuture;
use js_sys::{Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, RequestInit, RequestRedirect, Response};
use worker::{Delay, Env};

use crate::clock;

/// The two ways out of this worker. Cloning it costs nothing.
#[derive(Clone)]
pub struct Fetchers(Rc<Destinations>);

struct Destinations {
    internet: Fetcher,
    configured: Fetcher,
}

impl Fetchers {
    /// Takes them from the environment. Where there is no binding for configured destinations (on the edge), both
    /// are the global `fetch`.
    pub fn from_env(env: &Env) -> Self {
        let internet: Fetcher = js_sys::global().unchecked_into();
        let configured = Reflect::get(env, &CONFIGURED_BINDING.into()).ok().filter(JsValue::is_object);
        let configured = configured.map_or_else(|| internet.clone(), JsCast::unchecked_into);
        Self(Rc::new(Destinations { internet, configured }))
    }

    /// To what a caller has named: a local run lets it reach public addresses only.
    pub fn internet(&self) -> &Fetcher {
        &self.0.internet
    }

    /// To what the operator has named: it may be on a private network.
    pub fn configured(&self) -> &Fetcher {
        &self.0.configured
    }
}

#[wasm_bindgen]
extern "C" {
    /// Something with a `fetch` method: the global scope, or a service binding.
    #[derive(Clone)]
    pub type Fetcher;

    #[wasm_bindgen(method, catch, js_name = fetch)]
    fn fetch(this: &Fetcher, url: &str, init: &RequestInit) -> Result<Promise, JsValue>;
}

impl Fetcher {
    /// Sends `call`, and waits until the head of the answer is here. Redirects are answers.
    pub async fn send(&self, request: FetchRequest<'_>) -> Result<FetchResponse, FetchError> {
        let init = RequestInit::new();
        init.set_redirect(RequestRedirect::Manual);
        init.set_signal(Some(&request.deadline.signal));
        match request.method {
            Method::Get { accept: None, authorization: None } => {}
            Method::Get { accept, authorization } => {
                let headers = web_sys::Headers::new()?;
                for (name, value) in [("Accept", accept), ("Authorization", authorization)] {
                    if let Some(value) = value {
                        headers.set(name, value)?;
                    }
                }
                init.set_headers(&headers);
            }
            Method::Post { content_type, authorization, body } => {
                init.set_method("POST");
                init.set_body(&Uint8Array::from(body));
                let headers = web_sys::Headers::new()?;
                headers.set("Content-Type", content_type)?;
                if let Some(authorization) = authorization {
                    headers.set("Authorization", authorization)?;
                }
                init.set_headers(&headers);
            }
        }
        let response = JsFuture::from(self.fetch(request.url, &init)?).await?;
        Ok(FetchResponse(response.unchecked_into()))
    }
}

/// A request to make.
pub struct FetchRequest<'a> {
    /// The absolute URL.
    pub url: &'a str,
    /// The method, with what it takes.
    pub method: Method<'a>,
    /// When to give up, the reading of the answer's body included.
    pub deadline: &'a Deadline,
}

/// A request's method, with the headers and the body that go with it.
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

/// An instant after which requests are given up.
#[derive(Clone)]
pub struct Deadline {
    signal: AbortSignal,
    at_ms: u64,
}

impl Deadline {
    /// The instant `after` from now.
    pub fn after(after: Duration) -> Self {
        let ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        Self { signal: AbortSignal::timeout_with_u32(ms), at_ms: clock::now_ms() + u64::from(ms) }
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.signal.aborted()
    }

    /// Waits for `work`; `None` when it isn't done by then. For work that can't be given the signal of this deadline.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let left = Duration::from_millis(self.at_ms.saturating_sub(clock::now_ms()));
        match select(pin!(work), pin!(Delay::from(left))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

/// The head of an answer; its body is still to be read.
pub struct FetchResponse(Response);

impl FetchResponse {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// A header, where it is there and is text.
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

    /// Lets go of the answer without reading its body: the connection isn't kept waiting for somebody to read it.
    pub fn discard(self) {
        if let Some(stream) = self.0.body() {
            // Nobody waits for the outcome; what is left is the platform's business.
            let _ = stream.cancel();
        }
    }
}

/// Reads a stream to its end; `None`, and the stream cancelled, when there are more than `limit` bytes.
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

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// Not in time.
    TimedOut,
    /// No connection, no TLS, or a connection that broke; with what the platform says of it.
    Failed(String),
    /// The answer is larger than what is read.
    TooLarge,
}

impl From<JsValue> for FetchError {
    fn from(error: JsValue) -> Self {
        let property = |name: &str| Reflect::get(&error, &name.into()).ok().and_then(|value| value.as_string());
        match property("name").as_deref() {
            Some("TimeoutError" | "AbortError") => Self::TimedOut,
            _ => match property("message") {
                // A platform's message that quotes the URL would quote the token in it.
                Some(message) if message.starts_with(INTERNAL_ERROR) => Self::Failed(format!(
                    "no connection: its name isn't resolved, nobody listens, or its certificate isn't trusted (the platform says: {message})"
                )),
                Some(message) if !message.contains("://") && !message.contains('?') => Self::Failed(message),
                _ => Self::Failed("the request failed".to_owned()),
            },
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Failed(message) => f.write_str(message),
            Self::TooLarge => f.write_str("the answer is too large"),
        }
    }
}

const CONFIGURED_BINDING: &str = "CONFIGURED";
/// What the runtime says instead of the cause; a local run's own log has that, under the reference that follows.
const INTERNAL_ERROR: &str = "internal error";
