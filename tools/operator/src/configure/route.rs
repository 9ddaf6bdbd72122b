//! Custom domain or route of the service at Cloudflare.

use crate::doctor::ServiceUrl;
use matrixrtc_edge::matrix::ids::server_name::{Host, ServerName};
use toml_edit::{InlineTable, Value};

/// Entry of wrangler's `routes`: a custom domain, or a path of a host name in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    url: ServiceUrl,
    /// Domain at Cloudflare of a route; a custom domain needs none.
    zone: Option<String>,
}

impl Route {
    /// Parses the host name of a custom domain.
    ///
    /// # Errors
    ///
    /// The text isn't a host name.
    pub fn custom_domain(text: &str) -> Result<Self, String> {
        let host = host_name(text)?;
        Ok(Self { url: ServiceUrl::parse(&format!("https://{host}"))?, zone: None })
    }

    /// Parses a path of a host name in use: `name/path`.
    ///
    /// # Errors
    ///
    /// The text isn't a host name with a path.
    pub fn below_path(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('*');
        let (host, path) =
            text.split_once('/').ok_or("has no path: for a host name as a whole, use a custom domain")?;
        let host = host_name(host)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if !path.chars().all(plain) {
            return Err(String::from("must be name/path, with a path of letters, digits and -._~"));
        }
        let url = ServiceUrl::parse(&format!("https://{host}/{path}"))?;
        if url.prefix().is_empty() {
            return Err(String::from("has no path: for a host name as a whole, use a custom domain"));
        }
        Ok(Self { url, zone: Some(host) })
    }

    /// Sets the domain at Cloudflare of a route.
    #[must_use]
    pub fn in_zone(self, zone: &str) -> Self {
        Self { zone: self.zone.map(|_| zone.to_owned()), ..self }
    }

    /// URL of the service for clients.
    #[must_use]
    pub fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// Whether there may be a server behind the service, at the same name.
    pub(super) fn is_below_path(&self) -> bool {
        self.zone.is_some()
    }

    /// Entry of wrangler's `routes`.
    pub(super) fn wrangler_route(&self) -> Value {
        let host_and_path = self.url.as_str().trim_start_matches("https://");
        let mut route = InlineTable::new();
        match &self.zone {
            None => {
                route.insert("pattern", host_and_path.into());
                route.insert("custom_domain", true.into());
            }
            Some(zone) => {
                route.insert("pattern", format!("{host_and_path}/*").into());
                route.insert("zone_name", zone.into());
            }
        }
        route.into()
    }
}

/// Parses a DNS name.
///
/// # Errors
///
/// The text isn't a DNS name.
pub fn host_name(text: &str) -> Result<String, String> {
    let name = ServerName::parse(text.trim()).map_err(|_| String::from("is not a host name"))?;
    match (name.host(), name.port()) {
        (Host::Name(host), None) if host.contains('.') => Ok(host.to_ascii_lowercase()),
        _ => Err(String::from("must be a host name, without a port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_custom_domain_and_a_path_a_route() {
        let domain = Route::custom_domain(" Matrix-RTC.example.com\n").unwrap();
        assert_eq!(domain.url().as_str(), "https://matrix-rtc.example.com");
        assert_eq!(
            domain.wrangler_route().to_string(),
            r#"{ pattern = "matrix-rtc.example.com", custom_domain = true }"#
        );
        for text in
            ["matrix.example.com/livekit/jwt", "matrix.example.com/livekit/jwt/", "matrix.example.com/livekit/jwt/*"]
        {
            let route = Route::below_path(text).unwrap().in_zone("example.com");
            assert_eq!(route.url().as_str(), "https://matrix.example.com/livekit/jwt");
            let expected = r#"{ pattern = "matrix.example.com/livekit/jwt/*", zone_name = "example.com" }"#;
            assert_eq!(route.wrangler_route().to_string(), expected);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "https://example.com", "example.com:8443", "10.0.0.1", "localhost", "example.com/path"] {
            assert!(Route::custom_domain(text).is_err(), "{text}");
        }
        for text in [
            "example.com",
            "example.com/",
            "example.com/*",
            "https://example.com/x",
            "example.com/a?b",
            "example.com/a*b",
        ] {
            assert!(Route::below_path(text).is_err(), "{text}");
        }
    }
}
