//! From a method and a path to an endpoint (`docs/protocol.md#paths`).
//!
//! How it works:
//! - an endpoint is found by the last segments of the path, below any prefix, with empty segments dropped; a reverse
//!   proxy needs no rewriting;
//! - a path that contains `_matrix` belongs to homeserver mode, and is compared whole from there on, in its stable
//!   and unstable forms;
//! - each endpoint knows its methods, whether browsers call it, and whether it exists in homeserver mode only.

use percent_encoding::percent_decode_str;

/// An endpoint of this service.
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
    /// `/status`, for the operator.
    Status,
    /// `/_matrix/client/…/rtc/livekit/get_token`; this and the following ones are proxied by our homeserver.
    ClientGetToken,
    /// `/_matrix/federation/…/rtc/livekit/get_token`.
    FederationGetToken,
    /// `/_matrix/client/…/rtc/livekit/delegate_delayed_leave`.
    ClientDelegateDelayedLeave,
    /// `/_matrix/app/v1/ping`.
    Ping,
}

impl Endpoint {
    /// Returns the endpoint at `path`, below any prefix. Repeated slashes count as one, and a slash at the end is
    /// ignored.
    ///
    /// The path is percent-decoded first, as a proxy does before it matches: a path must not be one thing to a proxy that
    /// forwards only some paths, and another thing here. A path with encoded dot segments has no endpoint.
    ///
    /// Other paths below `_matrix` have no endpoint, whatever their end: for a client, a response other than 404
    /// would announce support.
    pub fn at(path: &str) -> Option<Self> {
        let path = percent_decode_str(path).decode_utf8_lossy();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
            return None;
        }
        if let Some(matrix) = segments.iter().position(|segment| *segment == "_matrix") {
            return match &segments[matrix + 1..] {
                ["app", "v1", "ping"] => Some(Self::Ping),
                [api, "v1", rest @ ..] | [api, "unstable", "org.matrix.msc4195" | "io.element.msc4195", rest @ ..] => {
                    match (*api, rest) {
                        ("client", ["rtc", "livekit", "get_token"]) => Some(Self::ClientGetToken),
                        ("federation", ["rtc", "livekit", "get_token"]) => Some(Self::FederationGetToken),
                        ("client", ["rtc", "livekit", "delegate_delayed_leave"]) => {
                            Some(Self::ClientDelegateDelayedLeave)
                        }
                        _ => None,
                    }
                }
                _ => None,
            };
        }
        match segments.as_slice() {
            [.., "get_token"] => Some(Self::GetToken),
            [.., "sfu", "get"] => Some(Self::SfuGet),
            [.., "delegate_delayed_leave"] => Some(Self::DelegateDelayedLeave),
            [.., "sfu_webhook"] => Some(Self::SfuWebhook),
            [.., "healthz"] => Some(Self::Healthz),
            [.., "status"] => Some(Self::Status),
            _ => None,
        }
    }

    /// Returns the methods of the endpoint, in the form of the `Allow` header.
    pub fn allow(self) -> &'static str {
        match self {
            Self::GetToken | Self::SfuGet | Self::DelegateDelayedLeave => "POST, OPTIONS",
            Self::SfuWebhook => "POST",
            Self::ClientGetToken | Self::FederationGetToken | Self::ClientDelegateDelayedLeave | Self::Ping => "POST",
            Self::Healthz | Self::Status => "GET, HEAD",
        }
    }

    /// Whether the endpoint has this method.
    pub fn allows(self, method: &str) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method)
    }

    /// Whether pages of other origins call this endpoint.
    pub fn is_for_browsers(self) -> bool {
        matches!(self, Self::GetToken | Self::SfuGet | Self::DelegateDelayedLeave)
    }

    /// Whether the endpoint exists in homeserver mode only. The homeserver is its only caller.
    pub fn is_for_homeserver(self) -> bool {
        use Endpoint::{ClientDelegateDelayedLeave, ClientGetToken, FederationGetToken, Ping};
        matches!(self, ClientGetToken | FederationGetToken | ClientDelegateDelayedLeave | Ping)
    }
}

/// A file for browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFile {
    /// The page for people.
    Page,
    /// `/livekit-client.js`, which the page loads for a test call.
    LivekitClient,
}

impl PageFile {
    /// Returns the file at `path`, below any prefix: the page is wherever no endpoint is.
    ///
    /// Paths below `_matrix` and `.well-known` belong to others: a browser gets what every client gets there.
    pub fn at(path: &str) -> Option<Self> {
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let mut segments = decoded.split('/').filter(|segment| !segment.is_empty());
        let of_others = |segment: &str| segment == "_matrix" || segment.starts_with('.');
        // The page shows what goes on in the rooms, too.
        let is_endpoint = Endpoint::at(path).is_some_and(|endpoint| endpoint != Endpoint::Status);
        if is_endpoint || segments.clone().any(of_others) {
            return None;
        }
        match segments.next_back() {
            Some("livekit-client.js") => Some(Self::LivekitClient),
            _ => Some(Self::Page),
        }
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
            ("/livekit/jwt/status", Endpoint::Status),
        ] {
            assert_eq!(Endpoint::at(path), Some(endpoint), "{path}");
        }
    }

    #[test]
    fn a_path_is_what_it_decodes_to() {
        for (path, endpoint) in [
            ("/%67et_token", Some(Endpoint::GetToken)),
            ("/a%2Fsfu%2fget", Some(Endpoint::SfuGet)),
            ("/%5Fmatrix/sfu/get", None),
            ("/_matrix%2Fsfu/get", None),
            ("/_matri%78/get_token", None),
            ("/%5fmatrix/app/v1/ping", Some(Endpoint::Ping)),
            ("/%255Fmatrix/sfu/get", Some(Endpoint::SfuGet)),
            ("/_matrix%2F../sfu/get", None),
            ("/_matrix/..%2Fsfu/get", None),
            ("/x%2F.%2E/sfu/get", None),
            ("/%ff/sfu/get", Some(Endpoint::SfuGet)),
            ("/%/sfu/get", Some(Endpoint::SfuGet)),
        ] {
            assert_eq!(Endpoint::at(path), endpoint, "{path}");
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
            "/_matrix/client/v1/rtc/livekit/sfu/get",
            "/_matrix/client/v3/rtc/livekit/get_token",
            "/_matrix/client/unstable/rtc/livekit/get_token",
            "/_matrix/client/v1/io.element.msc4195/rtc/livekit/get_token",
            "/_matrix/client/v1/x/rtc/livekit/get_token",
            "/_matrix/federation/v1/rtc/livekit/delegate_delayed_leave",
            "/_matrix/app/ping",
            "/_matrix/app/v1/healthz",
            "/_matrix/_matrix/app/v1/ping",
            "/_matrix",
        ] {
            assert_eq!(Endpoint::at(path), None, "{path}");
        }
    }

    #[test]
    fn the_page_is_at_any_prefix_and_takes_no_path_from_others() {
        for path in ["/", "", "//", "/livekit/jwt", "/livekit/jwt/", "/get"] {
            assert_eq!(PageFile::at(path), Some(PageFile::Page), "{path}");
        }
        for path in ["/livekit-client.js", "/livekit/jwt//livekit-client.js"] {
            assert_eq!(PageFile::at(path), Some(PageFile::LivekitClient), "{path}");
        }
        for path in
            ["/sfu/get", "/healthz/", "/%68ealthz", "/_matrix", "/a/%5Fmatrix/x", "/.well-known/x", "/a/..", "/%2e"]
        {
            assert_eq!(PageFile::at(path), None, "{path}");
        }
    }

    #[test]
    fn homeserver_mode_has_stable_and_unstable_forms() {
        for form in ["v1", "unstable/io.element.msc4195"] {
            for prefix in ["", "/", "/prefix//of/get_token"] {
                for (path, endpoint) in [
                    (format!("client/{form}/rtc/livekit/get_token"), Endpoint::ClientGetToken),
                    (format!("federation/{form}/rtc/livekit/get_token"), Endpoint::FederationGetToken),
                    (
                        format!("client/{form}/rtc/livekit/delegate_delayed_leave/"),
                        Endpoint::ClientDelegateDelayedLeave,
                    ),
                    ("app/v1//ping".to_owned(), Endpoint::Ping),
                ] {
                    let path = format!("{prefix}/_matrix/{path}");
                    assert_eq!(Endpoint::at(&path), Some(endpoint), "{path}");
                    assert!(endpoint.is_for_homeserver() && !endpoint.is_for_browsers());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_prefix_leads_to_the_same_endpoint(prefix in "(/{1,3}([a-z0-9-][a-z0-9.-]{0,7})?){0,4}", slashes in "/{1,3}", end in "/{0,3}") {
            prop_assert_eq!(Endpoint::at(&format!("{prefix}{slashes}get_token{end}")), Some(Endpoint::GetToken));
            prop_assert_eq!(Endpoint::at(&format!("{prefix}{slashes}nothing{end}")), None);
        }

        #[test]
        fn any_path_is_read_without_panic(path in "\\PC{0,60}") {
            let _ = Endpoint::at(&path);
        }
    }
}
