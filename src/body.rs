//! Bodies of requests to this service: read up to a limit, and parsed.

use js_sys::Uint8Array;
use js_sys::futures::JsFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use web_sys::Request;

use crate::error::ApiError;
use crate::outbound::read_at_most;

/// Reads the body of `request`. One that is larger than `limit` bytes is refused without being read to its end.
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

/// Parses a body. The errors are our own words: serde's would quote the value, which may be a token.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let not_json = || ApiError::NotJson("The body is not JSON".to_owned());
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path: String = error.path().to_string().chars().take(MAX_QUOTED_PATH).collect();
        match error.inner().classify() {
            Category::Data if path == "." => {
                ApiError::NotJson("The body is not an object of the expected fields".to_owned())
            }
            Category::Data => ApiError::NotJson(format!("{path} is unknown, repeated or of the wrong type")),
            _ => not_json(),
        }
    })?;
    deserializer.end().map_err(|_| not_json())?;
    Ok(parsed)
}

/// The fields of a body that have these names, all of them texts; `null` counts as absent, and other fields as nothing.
pub fn texts<const N: usize>(body: &[u8], names: [&'static str; N]) -> Result<[Option<String>; N], ApiError> {
    let mut fields = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(ApiError::NotJson("The body is not an object".to_owned())),
        Err(_) => return Err(ApiError::NotJson("The body is not JSON".to_owned())),
    };
    let mut texts = [const { None }; N];
    for (name, text) in names.into_iter().zip(&mut texts) {
        *text = match fields.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => return Err(ApiError::NotJson(format!("{name} is of the wrong type"))),
        };
    }
    Ok(texts)
}

/// The value of `field`, which must be there and not empty.
pub fn required(field: &'static str, value: Option<String>) -> Result<String, ApiError> {
    (value.filter(|value| !value.is_empty())).ok_or_else(|| ApiError::BadJson(format!("{field} is missing or empty")))
}

const MAX_QUOTED_PATH: usize = 80;
