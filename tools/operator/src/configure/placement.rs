//! Place in which Cloudflare runs the worker: beside the SFU, to which most of its requests go.
//!
//! # How it works
//!
//! - Cloudflare probes the SFU's host and runs the worker where that is answered fastest. A host behind Cloudflare's own
//!   proxy is answered everywhere, and so is LiveKit Cloud, so a probe finds nothing there.
//! - Without `--placement`, the SFU's host is requested once: a response with Cloudflare's headers comes from its proxy.
//! - Where a probe is of no use, Cloudflare's own measurements decide (smart placement).

use clap::ValueEnum;
use url::{Host, Url};

use crate::doctor::{Trust, cloudflare, livekit_cloud};

/// Value of `placement` in wrangler's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Beside this host name, which is probed by HTTPS.
    Hostname(String),
    /// Beside this host and port, to which connections are probed.
    Host(String),
    /// Where Cloudflare measures the fastest responses.
    Smart,
}

/// PlacementChoice of the operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlacementChoice {
    /// Beside the SFU
    Sfu,
    /// Where Cloudflare measures the fastest responses
    Smart,
}

impl Placement {
    /// Builds the placement beside the SFU at `url`; [`Self::Smart`] if its host is an address, because Cloudflare probes
    /// names only.
    #[must_use]
    pub fn beside(url: &str) -> Self {
        let url = Url::parse(url).ok();
        match url.as_ref().and_then(|url| Some((url.domain()?, url.port()))) {
            None => Self::Smart,
            Some((name, None)) => Self::Hostname(name.to_owned()),
            Some((name, Some(port))) => Self::Host(format!("{name}:{port}")),
        }
    }

    /// Finds the placement for the SFU at `url`, with the reason for it.
    pub async fn find(trust: Trust, url: &str) -> (Self, String) {
        let smart = |reason: &str| (Self::Smart, format!("where Cloudflare chooses: {reason}"));
        let Ok(parsed) = Url::parse(url) else { return smart("the SFU's URL has no host") };
        if livekit_cloud::is_project(url) {
            return smart("LiveKit Cloud answers in many places");
        }
        let Some(Host::Domain(host)) = parsed.host() else { return smart("the SFU has an address in place of a name") };
        match cloudflare::is_proxied(trust, url).await {
            Ok(true) => smart(&format!("{host} is behind Cloudflare's proxy, which answers everywhere")),
            Ok(false) => (Self::beside(url), format!("beside {host}, which isn't behind Cloudflare's proxy")),
            Err(failure) => (
                Self::beside(url),
                format!(
                    "beside {host}. It can't be reached ({failure}): if it is going to be behind Cloudflare's proxy, \
                         give --placement smart"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_probed_at_the_port_that_the_sfu_has_and_an_address_is_not() {
        for (url, placement) in [
            ("wss://sfu.example.com/livekit/sfu", Placement::Hostname(String::from("sfu.example.com"))),
            ("wss://sfu.example.com:443", Placement::Hostname(String::from("sfu.example.com"))),
            ("wss://sfu.example.com:7443", Placement::Host(String::from("sfu.example.com:7443"))),
            ("wss://203.0.113.1", Placement::Smart),
            ("wss://203.0.113.1:7443", Placement::Smart),
            ("wss://[2001:db8::1]", Placement::Smart),
            ("not a URL", Placement::Smart),
        ] {
            assert_eq!(Placement::beside(url), placement, "{url}");
        }
    }

    #[tokio::test]
    async fn what_answers_in_many_places_or_has_no_name_is_not_probed() {
        for url in ["wss://calls-abcdefgh.livekit.cloud", "wss://203.0.113.1:7443", "wss://[2001:db8::1]"] {
            let (placement, reason) = Placement::find(Trust::new(&[]).unwrap(), url).await;
            assert_eq!(placement, Placement::Smart, "{url}: {reason}");
        }
    }
}
