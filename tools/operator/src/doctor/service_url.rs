//! URL of the service, as `.well-known/matrix/client` announces it.

use std::fmt;

use url::Url;

/// Base URL of the service, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl(Url);

impl ServiceUrl {
    /// Parses an `https` URL (or `http`, for a test setup); white space around it and slashes at its end are ignored.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let mut url = Url::parse(text).map_err(|_| "is not a URL")?;
        match url.scheme() {
            "https" | "http" => {}
            "wss" | "ws" => {
                return Err("is a WebSocket URL, as an SFU's; the URL of this service begins with https://");
            }
            _ => return Err("must begin with https://"),
        }
        if !url.has_host() || url.query().is_some() || url.fragment().is_some() {
            return Err("must be a scheme, a host and perhaps a path, and nothing else");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or a password");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// URL in the form to announce.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// URL of `path` below it; `path` begins with a slash.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.as_str())
    }

    /// Parsed form.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Path of the URL: empty, or with a slash at its beginning and none at its end.
    pub fn prefix(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slashes_at_the_end_do_not_count() {
        for (text, url, prefix) in [
            ("https://matrix-rtc.example.com", "https://matrix-rtc.example.com", ""),
            (" https://matrix-rtc.example.com/\n", "https://matrix-rtc.example.com", ""),
            ("https://Example.com/livekit/jwt//", "https://example.com/livekit/jwt", "/livekit/jwt"),
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787", ""),
        ] {
            let parsed = ServiceUrl::parse(text).unwrap();
            assert_eq!((parsed.as_str(), parsed.prefix()), (url, prefix));
            assert_eq!(parsed.at("/healthz"), format!("{url}/healthz"));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for text in
            ["", "example.com", "wss://sfu.example.com", "https://a:b@example.com", "https://x?y", "https://x#y"]
        {
            assert!(ServiceUrl::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_reads_back(text in "(https?://)?\\PC{0,40}") {
            if let Ok(url) = ServiceUrl::parse(&text) {
                prop_assert_eq!(ServiceUrl::parse(url.as_str()), Ok(url));
            }
        }
    }
}
