use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::Sfu;

/// Webhook as LiveKit sends it (`docs/protocol.md#webhooks`), or with one mistake.
#[derive(Clone)]
pub struct Webhook {
    body: Bytes,
    key: String,
    secret: String,
    algorithm: Algorithm,
    claims: Value,
    scheme: &'static str,
}

/// Worker that receives webhooks.
pub trait WebhookReceiver {
    /// Its response.
    type Answer;

    /// Returns the absolute URL of a path.
    fn url(&self, path: &str) -> String;

    /// Sends the request.
    fn receive(&self, request: Request<Full<Bytes>>) -> impl Future<Output = Self::Answer>;

    /// Sends the request to a worker that may be killed meanwhile; then there is no response.
    fn try_receive(&self, request: Request<Full<Bytes>>) -> impl Future<Output = Option<Self::Answer>>;
}

/// Signature of a webhook's token.
#[derive(Clone, Copy, Debug)]
pub enum Algorithm {
    /// HS256, as LiveKit signs.
    Hs256,
    /// HS512, with the same secret.
    Hs512,
    /// None: `alg: none` and no signature.
    None,
    /// As `Hs256`, with a header that says `none`.
    Hs256CalledNone,
}

impl Webhook {
    /// Creates an event, signed as the test setup's SFU signs: now, for five minutes.
    pub fn new(event: &Value) -> Self {
        Self::of_bytes(event.to_string())
    }

    /// Creates a webhook of any body, with a signature that matches it.
    pub fn of_bytes(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let now = seconds_since_1970();
        let (key, secret) = Sfu::credentials();
        Self {
            key: key.to_owned(),
            secret: secret.to_owned(),
            algorithm: Algorithm::Hs256,
            claims: json!({
                "nbf": now,
                "exp": now + 300,
                "sha256": STANDARD.encode(Sha256::digest(&body)),
            }),
            body,
            scheme: "",
        }
    }

    /// Replaces key and secret.
    pub fn signed_with(mut self, key: &str, secret: &str) -> Self {
        self.key = key.to_owned();
        self.secret = secret.to_owned();
        self
    }

    /// Replaces the kind of signature.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets a time claim (`exp`, `nbf`) to this many seconds from now.
    pub fn claim_from_now(mut self, claim: &str, seconds: i64) -> Self {
        self.claims[claim] = (seconds_since_1970() + seconds).into();
        self
    }

    /// Replaces the value of a claim.
    pub fn claim(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.claims[claim] = value.into();
        self
    }

    /// Removes a claim.
    pub fn without_claim(mut self, claim: &str) -> Self {
        self.claims.as_object_mut().expect("claims are an object").remove(claim);
        self
    }

    /// Replaces the body under the same signature.
    pub fn replace_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Puts `Bearer ` before the token.
    pub fn with_bearer(mut self) -> Self {
        self.scheme = "Bearer ";
        self
    }

    /// `Authorization` header.
    pub fn authorization(&self) -> String {
        let mut claims = self.claims.clone();
        claims["iss"] = self.key.as_str().into();
        let name = match self.algorithm {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs512 => "HS512",
            Algorithm::None | Algorithm::Hs256CalledNone => "none",
        };
        let header = json!({ "alg": name, "typ": "JWT" });
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = match self.algorithm {
            Algorithm::Hs256 | Algorithm::Hs256CalledNone => {
                let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("any key");
                mac.update(signed.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
            Algorithm::Hs512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(self.secret.as_bytes()).expect("any key");
                mac.update(signed.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
            Algorithm::None => Vec::new(),
        };
        format!("{}{signed}.{}", self.scheme, URL_SAFE_NO_PAD.encode(signature))
    }

    /// POSTs it to `/sfu_webhook`.
    pub async fn send<R: WebhookReceiver>(&self, receiver: &R) -> R::Answer {
        self.send_authorized(receiver, Some(&self.authorization())).await
    }

    /// POSTs it with this `Authorization`, or none.
    pub async fn send_authorized<R: WebhookReceiver>(&self, receiver: &R, authorization: Option<&str>) -> R::Answer {
        receiver.receive(self.request(receiver, authorization)).await
    }

    /// POSTs it to a worker that may be killed meanwhile; then there is no response.
    pub async fn try_send<R: WebhookReceiver>(&self, receiver: &R) -> Option<R::Answer> {
        receiver.try_receive(self.request(receiver, Some(&self.authorization()))).await
    }

    fn request<R: WebhookReceiver>(&self, receiver: &R, authorization: Option<&str>) -> Request<Full<Bytes>> {
        self.request_to(&receiver.url("/sfu_webhook"), authorization)
    }

    /// Builds the request of it to this URL.
    pub fn request_to(&self, url: &str, authorization: Option<&str>) -> Request<Full<Bytes>> {
        let mut request = Request::post(url).header(CONTENT_TYPE, "application/webhook+json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(Full::new(self.body.clone())).expect("a request")
    }
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    since.as_secs().try_into().expect("a year before 292 billion")
}
