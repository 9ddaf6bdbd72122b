//! Bodies of requests to this service, read up to a limit.

use js_sys::Uint8Array;
use js_sys::futures::JsFuture;
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
