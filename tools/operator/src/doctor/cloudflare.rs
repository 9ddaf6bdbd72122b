//! Cloudflare in front of a server: recognised by its responses, and what its settings do to requests.

use hyper::header::HeaderMap;

use crate::doctor::trust::Trust;
use crate::doctor::web::{Failure, Request, Web};
use matrixrtc_edge::livekit::sfu_url::SfuUrl;

/// Whether the SFU at `url` is behind Cloudflare's proxy: one request is sent to it.
///
/// # Errors
///
/// It doesn't answer.
pub(crate) async fn is_proxied(trust: Trust, url: &str) -> Result<bool, Failure> {
    let url = SfuUrl::parse(url).map_err(|problem| Failure::NotHttp(problem.to_string()))?;
    let response = Web { trust }.send(&Request::get(&format!("{}/", url.api()), &[])).await?;
    Ok(is_from_cloudflare(&response.headers))
}

/// Whether a response comes from Cloudflare, or through it.
pub(crate) fn is_from_cloudflare(headers: &HeaderMap) -> bool {
    let server = headers.get("server").and_then(|value| value.to_str().ok());
    headers.contains_key("cf-ray") || server.is_some_and(|server| server.eq_ignore_ascii_case("cloudflare"))
}
