//! Custom domain or route of the service at Cloudflare.

use crate::doctor::ServiceUrl;
use matrixrtc_edge::matrix::ids::server_name::{Host, ServerName};
use toml_edit::{InlineTable, Value};

/// Entry of wrangler's `routes`: a custom domain, or a path of a host name in use. On one's own machine it is what the
/// proxy passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    url: ServiceUrl,
    host: String,
    /// Domain at Cloudflare of a path; a custom domain needs none.
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
        Ok(Self { url: ServiceUrl::parse(&format!("https://{host}"))?, host, zone: None })
    }

    /// Parses a path of a host name in use: `name/path`.
    ///
    /// # Errors
    ///
    /// The text isn't a host name with a path.
    pub fn below_path(text: &str) -> Result<Self, String> {
        let text = without_https(text).trim_end_matches('*');
        let (host, path) = text.split_once('/').ok_or(NO_PATH)?;
        if path.starts_with('/') && host.ends_with(':') {
            return Err(format!("begins with {host}//: give name/path alone, such as example.com/livekit/jwt"));
        }
        let host = host_name(host)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if !path.chars().all(plain) {
            return Err(String::from("must be name/path, with a path of letters, digits and -._~"));
        }
        let url = ServiceUrl::parse(&format!("https://{host}/{path}"))?;
        if url.prefix().is_empty() {
            return Err(String::from(NO_PATH));
        }
        Ok(Self { url, host, zone: None })
    }

    /// Sets the domain at Cloudflare of a path.
    ///
    /// # Errors
    ///
    /// The host name doesn't belong to it.
    pub fn in_zone(self, zone: &str) -> Result<Self, String> {
        let is_inside = self.host == zone || self.host.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
        match is_inside {
            true => Ok(Self { zone: Some(zone.to_owned()), ..self }),
            false => Err(format!("is not the domain of {}: that name has to end with it", self.host)),
        }
    }

    /// URL of the service for clients.
    #[must_use]
    pub fn url(&self) -> &ServiceUrl {
        &self.url
    }

    /// Host name of the URL.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether there may be a server behind the service, at the same name.
    pub(super) fn is_below_path(&self) -> bool {
        !self.url.prefix().is_empty()
    }

    /// Whether Cloudflare has yet to be given the domain. It can't be guessed from the name: that of `rtc.example.co.uk`
    /// isn't `co.uk`.
    pub(super) fn needs_zone(&self) -> bool {
        self.is_below_path() && self.zone.is_none()
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

/// Parses a DNS name; of an `https` URL without a path, it is the host.
///
/// # Errors
///
/// The text isn't a DNS name.
pub fn host_name(text: &str) -> Result<String, String> {
    let text = without_https(text).trim_end_matches('/');
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("begins with {scheme}://: give the host name alone, such as matrix-rtc.example.com"));
    }
    if let Some((host, _)) = text.split_once('/') {
        return Err(format!("has a path: give the host name alone, {host}, or for a path of it --route NAME/PATH"));
    }
    let name = ServerName::parse(text)
        .map_err(|_| String::from("is not a host name: it consists of letters, digits, hyphens and dots"))?;
    match (name.host(), name.port()) {
        (_, Some(_)) => Err(String::from("has a port: give the host name alone")),
        (Host::Ip(_), None) => Err(String::from("is an address: give a name, such as matrix-rtc.example.com")),
        (Host::Name(host), None) if host.contains('.') => Ok(host.to_ascii_lowercase()),
        (Host::Name(_), None) => Err(String::from("has no dot: give the whole name, such as matrix-rtc.example.com")),
    }
}

fn without_https(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("https://").unwrap_or(text)
}

const NO_PATH: &str = "has no path: for a host name as a whole, give --domain";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_custom_domain_and_a_path_a_route() {
        for text in [" Matrix-RTC.example.com\n", "https://matrix-rtc.example.com", "matrix-rtc.example.com/"] {
            let domain = Route::custom_domain(text).unwrap();
            assert_eq!(domain.url().as_str(), "https://matrix-rtc.example.com");
            assert!(!domain.is_below_path() && !domain.needs_zone());
            assert_eq!(
                domain.wrangler_route().to_string(),
                r#"{ pattern = "matrix-rtc.example.com", custom_domain = true }"#
            );
        }
        for text in [
            "matrix.example.com/livekit/jwt",
            "matrix.example.com/livekit/jwt/",
            "https://matrix.example.com/livekit/jwt/*",
        ] {
            let route = Route::below_path(text).unwrap();
            assert!(route.is_below_path() && route.needs_zone());
            let route = route.in_zone("example.com").unwrap();
            assert!(!route.needs_zone());
            assert_eq!(route.url().as_str(), "https://matrix.example.com/livekit/jwt");
            let expected = r#"{ pattern = "matrix.example.com/livekit/jwt/*", zone_name = "example.com" }"#;
            assert_eq!(route.wrangler_route().to_string(), expected);
        }
    }

    #[test]
    fn a_zone_is_the_end_of_the_name() {
        let route = || Route::below_path("rtc.example.co.uk/livekit").unwrap();
        for zone in ["rtc.example.co.uk", "example.co.uk"] {
            assert!(route().in_zone(zone).is_ok(), "{zone}");
        }
        for zone in ["example.com", "ample.co.uk", "a.rtc.example.co.uk"] {
            let error = route().in_zone(zone).unwrap_err();
            assert!(error.contains("is not the domain of rtc.example.co.uk"), "{error}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_what_is_wrong() {
        for (text, problem) in [
            ("", "is not a host name"),
            ("http://example.com", "begins with http://"),
            ("wss://example.com", "begins with wss://"),
            ("example.com:8443", "has a port"),
            ("10.0.0.1", "is an address"),
            ("localhost", "has no dot"),
            ("example.com/path", "has a path"),
            ("exa mple.com", "is not a host name"),
        ] {
            let error = Route::custom_domain(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
        for (text, problem) in [
            ("example.com", "has no path"),
            ("example.com/", "has no path"),
            ("example.com/*", "has no path"),
            ("http://example.com/x", "begins with http://"),
            ("example.com/a?b", "must be name/path"),
            ("example.com/a*b", "must be name/path"),
        ] {
            let error = Route::below_path(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
