//! The URL of the SFU: one for clients, and one for its server API.

use url::Url;

/// `LIVEKIT_URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SfuUrl {
    client: String,
    api: String,
}

impl SfuUrl {
    /// Parses a `ws`, `wss`, `http` or `https` URL; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let client = text.trim();
        let mut api = Url::parse(client).map_err(|_| "is not a URL")?;
        let scheme = match api.scheme() {
            "ws" | "http" => "http",
            "wss" | "https" => "https",
            _ => return Err("must begin with wss://, ws://, https:// or http://"),
        };
        if !api.has_host() || api.query().is_some() || api.fragment().is_some() {
            return Err("must be a scheme, a host and perhaps a path, and nothing else");
        }
        if !api.username().is_empty() || api.password().is_some() {
            return Err("must not contain a user name or a password");
        }
        // Always allowed between special schemes.
        api.set_scheme(scheme).map_err(|()| "is not a URL")?;
        Ok(Self { client: client.to_owned(), api: api.as_str().trim_end_matches('/').to_owned() })
    }

    /// Returns the URL for clients, as configured.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Returns the base of the server API: `http(s)`, the same host and path, without a slash at its end.
    pub fn api(&self) -> &str {
        &self.api
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_api_is_on_the_same_host_with_http_and_the_same_prefix() {
        for (text, api) in [
            ("wss://sfu.example.com", "https://sfu.example.com"),
            ("ws://127.0.0.1:7880/", "http://127.0.0.1:7880"),
            (" wss://example.com/livekit/sfu\n", "https://example.com/livekit/sfu"),
            ("https://[2001:db8::1]:1/a//", "https://[2001:db8::1]:1/a"),
        ] {
            let url = SfuUrl::parse(text).unwrap();
            assert_eq!((url.client(), url.api()), (text.trim(), api));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for text in [
            "",
            "sfu.example.com",
            "ftp://x",
            "wss://",
            "wss://a:b@example.com",
            "wss://example.com?x",
            "wss://example.com#x",
        ] {
            assert!(SfuUrl::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "(wss?://)?\\PC{0,40}") {
            if let Ok(url) = SfuUrl::parse(&text) {
                prop_assert!(url.api().starts_with("http"));
            }
        }
    }
}
