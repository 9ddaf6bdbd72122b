//! From a method and a path to what is asked for (§2 of the protocol).

/// What this service has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/get_token`.
    GetToken,
    /// `/sfu/get`.
    SfuGet,
    /// `/delegate_delayed_leave`.
    DelegateDelayedLeave,
    /// `/sfu_webhook`.
    SfuWebhook,
    /// `/healthz`.
    Healthz,
}

impl Endpoint {
    /// The endpoint at `path`, below any prefix: repeated slashes are one, and one at the end doesn't count.
    ///
    /// Paths of Matrix's own API are none of ours, whatever they end with: clients take an answer other than 404 there
    /// for a promise.
    pub fn at(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        if segments.clone().any(|segment| segment == "_matrix") {
            return None;
        }
        match (segments.next_back()?, segments.next_back()) {
            ("get_token", _) => Some(Self::GetToken),
            ("get", Some("sfu")) => Some(Self::SfuGet),
            ("delegate_delayed_leave", _) => Some(Self::DelegateDelayedLeave),
            ("sfu_webhook", _) => Some(Self::SfuWebhook),
            ("healthz", _) => Some(Self::Healthz),
            _ => None,
        }
    }

    /// The methods it answers, as the `Allow` header has them.
    pub fn allow(self) -> &'static str {
        match self {
            Self::GetToken | Self::SfuGet | Self::DelegateDelayedLeave => "POST, OPTIONS",
            Self::SfuWebhook => "POST",
            Self::Healthz => "GET, HEAD",
        }
    }

    /// Whether it answers `method`.
    pub fn allows(self, method: &str) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method)
    }

    /// Whether browsers call it from pages of other origins.
    pub fn is_for_browsers(self) -> bool {
        matches!(self, Self::GetToken | Self::SfuGet | Self::DelegateDelayedLeave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_and_slashes_do_not_matter() {
        for (path, endpoint) in [
            ("/get_token", Endpoint::GetToken),
            ("//get_token", Endpoint::GetToken),
            ("/livekit/jwt/get_token/", Endpoint::GetToken),
            ("/sfu/get", Endpoint::SfuGet),
            ("/a//sfu///get//", Endpoint::SfuGet),
            ("/livekit/jwt//sfu_webhook", Endpoint::SfuWebhook),
            ("/healthz", Endpoint::Healthz),
        ] {
            assert_eq!(Endpoint::at(path), Some(endpoint), "{path}");
        }
    }

    #[test]
    fn other_paths_are_nothing() {
        for path in [
            "/",
            "",
            "/get",
            "/sfu",
            "/get_tokens",
            "/get_token/x",
            "/Get_Token",
            "/_matrix/client/v1/rtc/livekit/get_token",
        ] {
            assert_eq!(Endpoint::at(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_prefix_leads_to_the_same_endpoint(prefix in "(/{1,3}[a-z0-9.-]{0,8}){0,4}", slashes in "/{1,3}", end in "/{0,3}") {
            prop_assert_eq!(Endpoint::at(&format!("{prefix}{slashes}get_token{end}")), Some(Endpoint::GetToken));
            prop_assert_eq!(Endpoint::at(&format!("{prefix}{slashes}nothing{end}")), None);
        }

        #[test]
        fn any_path_is_read_without_panic(path in "\\PC{0,60}") {
            let _ = Endpoint::at(&path);
        }
    }
}
