use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::watch;

/// Reply of a fake.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    gate: Option<Gate>,
}

#[derive(Clone)]
enum Body {
    Whole(Bytes),
    Chunked(Vec<Bytes>),
    Stalled(Bytes),
}

/// Gate that holds replies back until it is opened.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

impl Reply {
    /// Builds a reply of JSON, as `application/json`.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// Builds a page for people, as proxies send.
    pub fn html(status: u16) -> Self {
        Self::new(status, "text/html", format!("<html><body><h1>{status}</h1></body></html>"))
    }

    /// Builds a redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::new(status, "text/plain", "").header("location", location)
    }

    /// Builds a reply of any content.
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(body.into()), gate: None }
            .header("content-type", content_type)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes all headers of that name.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// Sends the content in chunks of `size` bytes, without `Content-Length`.
    pub fn in_chunks_of(mut self, size: usize) -> Self {
        if let Body::Whole(whole) = &self.body {
            self.body = Body::Chunked(whole.chunks(size).map(Bytes::copy_from_slice).collect());
        }
        self
    }

    /// Pads the content with white space to `size` bytes.
    pub fn padded_to(mut self, size: usize) -> Self {
        if let Body::Whole(whole) = &self.body {
            let mut padded = whole.to_vec();
            padded.resize(size, b' ');
            self.body = Body::Whole(padded.into());
        }
        self
    }

    /// Sends headers and content, but never the end of the body.
    pub fn that_never_ends(mut self) -> Self {
        if let Body::Whole(whole) = self.body {
            self.body = Body::Stalled(whole);
        }
        self
    }

    /// Sends the reply once the gate is open.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    pub(crate) async fn into_response(self) -> Response<BoxBody<Bytes, Infallible>> {
        if let Some(gate) = self.gate {
            gate.opened().await;
        }
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let body = match self.body {
            Body::Whole(bytes) => BoxBody::new(Full::new(bytes)),
            Body::Chunked(chunks) => {
                BoxBody::new(StreamBody::new(stream::iter(chunks).map(|chunk| Ok(Frame::data(chunk)))))
            }
            Body::Stalled(start) => {
                BoxBody::new(StreamBody::new(stream::iter([Ok(Frame::data(start))]).chain(stream::pending())))
            }
        };
        response.body(body).expect("a reply that is HTTP")
    }
}

impl Gate {
    /// Creates a closed gate. One that is never opened holds its replies for ever.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens the gate, for held and later replies.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        let mut state = self.0.subscribe();
        // The sender is alive as long as `self` is.
        let _ = state.wait_for(|open| *open).await;
    }
}
