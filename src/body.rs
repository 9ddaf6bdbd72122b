//! Bodies of requests to this service: read up to a limit, and parsed field by field.
//!
//! How it works:
//! - a body with a `Content-Length` is read in one piece, or rejected by its length alone; any other is read as a
//!   stream, up to the limit, and so is one that also has a `Transfer-Encoding`, beside which its length says nothing;
//! - [`Fields`] is a JSON object from which an endpoint takes fields by name and type; the rest is ignored;
//! - `null` counts as absent, because a missing field and a field of the wrong type have different error codes
//!   (`docs/protocol.md#errors`);
//! - errors name fields and never quote values, which may be tokens.

use serde_json::{Map, Value};
use web_sys::Request;

use crate::error::ApiError;
use crate::fetch;

/// Reads the body of `request`. A body larger than `limit` bytes is rejected without being read to its end.
pub async fn read(request: &Request, limit: usize) -> Result<Vec<u8>, ApiError> {
    match fetch::read_request(request, limit).await {
        Ok(body) => body.ok_or(ApiError::TooLarge),
        Err(_) => Err(ApiError::Unreadable),
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
            Some(_) => Err(self.wrong_type(name)),
        }
    }

    /// Takes a whole number.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        let value = self.take(name);
        value.map(|value| value.as_i64().ok_or_else(|| self.wrong_type(name))).transpose()
    }

    /// Drops a number that the service has no use for.
    pub fn ignore_number(&mut self, name: &str) -> Result<(), ApiError> {
        match self.take(name) {
            None | Some(Value::Number(_)) => Ok(()),
            Some(_) => Err(self.wrong_type(name)),
        }
    }

    /// Takes an object. An absent one counts as an object without fields.
    pub fn object(&mut self, name: &str) -> Result<Self, ApiError> {
        match self.take(name) {
            None => Ok(Self::default()),
            Some(Value::Object(fields)) => Ok(Self { within: format!("{}{name}.", self.within), fields }),
            Some(_) => Err(self.wrong_type(name)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    fn wrong_type(&self, name: &str) -> ApiError {
        ApiError::NotJson(format!("{}{name} is of the wrong type", self.within))
    }
}

/// Returns the value of `field`, or an error where it is missing or empty.
pub fn required(field: &'static str, value: Option<String>) -> Result<String, ApiError> {
    (value.filter(|value| !value.is_empty())).ok_or_else(|| ApiError::BadJson(format!("{field} is missing or empty")))
}

/// Returns the value of `field`, or an error where it is missing, empty, or longer than [`MAX_ID`] bytes.
pub fn required_id(field: &'static str, value: Option<String>) -> Result<String, ApiError> {
    within(field, required(field, value)?, MAX_ID)
}

/// Returns `value`, or an error where it is longer than `max` bytes: it is hashed, stored and logged.
pub fn within(field: &'static str, value: String, max: usize) -> Result<String, ApiError> {
    match value.len() <= max {
        true => Ok(value),
        false => Err(ApiError::BadJson(format!("{field} is longer than {max} bytes"))),
    }
}

/// Length limit of identifiers, in bytes: that of the Matrix specification for its own.
pub const MAX_ID: usize = 255;
