//! LiveKit Cloud: an SFU without a configuration file of the operator's, whose settings are in a console.

use url::Url;

/// Whether the SFU at `url` is a project of LiveKit Cloud's.
pub(crate) fn is_project(url: &str) -> bool {
    let url = Url::parse(url).ok();
    url.as_ref().and_then(Url::host_str).is_some_and(|host| host.ends_with(DOMAIN))
}

/// Address of the console.
pub(crate) const CONSOLE: &str = "https://cloud.livekit.io";
const DOMAIN: &str = ".livekit.cloud";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_known_by_its_name() {
        for url in ["wss://calls-abcdefgh.livekit.cloud", "https://calls-abcdefgh.livekit.cloud/"] {
            assert!(is_project(url), "{url}");
        }
        for url in
            ["wss://livekit.cloud.example.com", "wss://notlivekit.cloud", "wss://sfu.example.com/x.livekit.cloud"]
        {
            assert!(!is_project(url), "{url}");
        }
    }
}
