//! Bodies of requests to this service: read up to a limit, and parsed field by field.
//!
//! How it works:
//! - a body with a `Content-Length` is read in one piece, or rejected by its length alone; any other is read as a
//!   stream, up to the limit;
//! - [`Fields`] is a JSON object from which an endpoint takes fields by name and type; [`Fields::expect_no_more`]
//!   rejects the rest, so that each endpoint decides whether unknown fields are errors;
//! - `null` counts as absent, because a missing field and a field of the wrong type have different error codes
//!   (`docs/protocol.md#errors`);
//! - errors name fields and never quote values, which may be tokens.

use js_sys::Uint8Array;
use js_sys::futures::JsFuture;
use serde_json::{Map, Value};
use web_sys::Request;

use crate::error::ApiError;
use crate::fetch::read_at_most;

/// Reads the body of `request`. A body larger than `limit` bytes is rejected without being read to its end.
pub async fn read(request: &Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    let length = request.headers().get("Content-Length").ok().flatten();
    match length.and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if length > limit => Err(ApiError::TooLarge),
        Some(_) => {
            let buffer = request.array_buffer().map_err(|_| ApiError::Unreadable)?;
            let buffer = JsFuture::from(buffer).await.map_err(|_| ApiError::Unreadable)?;
            Ok(Uint8Array::new(&buffer).to_vec())
        }
        None => match request.body() {
            None => Ok(Vec::new()),
            Some(stream) => match read_at_most(stream, limit).await {
                Ok(Some(body)) => Ok(body),
                Ok(None) => Err(ApiError::TooLarge),
                Err(_) => Err(ApiError::Unreadable),
            },
        },
    }
}

/// Fields of a JSON object, taken out one by one.
#[derive(Default)]
pub struct Fields {
    within: String,
    fields: Map<String, Value>,
}

impl Fields {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self { within: String::new(), fields }),
            Ok(_) => Err(ApiError::NotJson("The body is not an object".to_owned())),
            Err(_) => Err(ApiError::NotJson("The body is not JSON".to_owned())),
        }
    }

    /// Takes a string.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.is(name, "of the wrong type")),
        }
    }

    /// Takes a whole number.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        let value = self.take(name);
        value.map(|value| value.as_i64().ok_or_else(|| self.is(name, "of the wrong type"))).transpose()
    }

    /// Drops a number that the service has no use for.
    pub fn ignore_number(&mut self, name: &str) -> Result<(), ApiError> {
        match self.take(name) {
            None | Some(Value::Number(_)) => Ok(()),
            Some(_) => Err(self.is(name, "of the wrong type")),
        }
    }

    /// Takes an object. An absent one counts as an object without fields.
    pub fn object(&mut self, name: &str) -> Result<Self, ApiError> {
        match self.take(name) {
            None => Ok(Self::default()),
            Some(Value::Object(fields)) => Ok(Self { within: format!("{}{name}.", self.within), fields }),
            Some(_) => Err(self.is(name, "of the wrong type")),
        }
    }

    /// Rejects fields that have not been taken.
    pub fn expect_no_more(self) -> Result<(), ApiError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(self.is(unknown, "unknown")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    fn is(&self, name: &str, what: &str) -> ApiError {
        let path: String = self.within.chars().chain(name.chars()).take(MAX_QUOTED_PATH).collect();
        ApiError::NotJson(format!("{path} is {what}"))
    }
}

/// Returns the value of `field`, or an error where it is missing or empty.
pub fn required(field: &'static str, value: Option<String>) -> Result<String, ApiError> {
    (value.filter(|value| !value.is_empty())).ok_or_else(|| ApiError::BadJson(format!("{field} is missing or empty")))
}

const MAX_QUOTED_PATH: usize = 80;
