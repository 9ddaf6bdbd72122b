//! `status`: a link to the page that shows what goes on in the rooms.

use std::env;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Map;

use crate::doctor::{ServiceUrl, SfuCredentials};
use crate::variables::secrets_of;

/// Print a link to the page of what goes on in the rooms, valid for ten minutes
///
/// The link is signed with the API key, from LIVEKIT_KEY and LIVEKIT_SECRET, or the first line of LIVEKIT_KEYS. It is a
/// secret for those ten minutes, and of no use for anything but this page.
#[derive(Debug, Args)]
pub struct Options {
    /// URL of the service, as .well-known/matrix/client announces it
    #[arg(value_name = "URL", value_parser = ServiceUrl::parse)]
    service: ServiceUrl,
    /// JSON file with LIVEKIT_KEY and LIVEKIT_SECRET, as `configure --write` makes it; it goes before the environment
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
    /// Print a command in place of the link, which gets the same as JSON
    #[arg(long)]
    curl: bool,
}

/// Prints the link on standard output.
///
/// # Errors
///
/// There is no API key, or no token can be signed with it.
pub fn run(options: Options) -> Result<()> {
    println!("{}", options.link(|name| env::var(name).ok())?);
    Ok(())
}

impl Options {
    /// Returns the link. `environment` returns the value of a variable, if it is set.
    fn link(&self, environment: impl Fn(&str) -> Option<String>) -> Result<String> {
        let file = self.secrets_file.as_deref().map_or_else(|| Ok(Map::new()), secrets_of)?;
        let variable = |name: &str| {
            let value = match file.is_empty() {
                true => environment(name),
                false => file.get(name).and_then(|value| value.as_str()).map(str::to_owned),
            };
            value.filter(|value| !value.trim().is_empty())
        };
        let [key, secret, lines] = ["LIVEKIT_KEY", "LIVEKIT_SECRET", "LIVEKIT_KEYS"].map(variable);
        let credentials = SfuCredentials::given(key, secret, lines)?;
        let credentials = credentials.context(
            "no API key is given: set LIVEKIT_KEY and LIVEKIT_SECRET, or --secrets-file, as for the service",
        )?;
        let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let token = credentials.key().sign_status(now_ms)?;
        let url = self.service.at("/status");
        Ok(match self.curl {
            true => format!("curl -H 'Authorization: Bearer {token}' '{url}'"),
            // What is behind # stays in the browser, and out of the logs of proxies.
            false => format!("{url}#{token}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn link(arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
        let url = ["status", "https://rtc.example.com/livekit/jwt/"];
        let program = Program::try_parse_from(url.iter().chain(arguments)).unwrap();
        let find = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|it| it.1.to_owned());
        program.options.link(find)
    }

    #[test]
    fn a_link_has_its_token_behind_the_hash() {
        for environment in [
            &[("LIVEKIT_KEY", "key"), ("LIVEKIT_SECRET", "nobody-may-see")][..],
            &[("LIVEKIT_KEYS", "key: nobody-may-see")],
        ] {
            let link = link(&[], environment).unwrap();
            let token = link.strip_prefix("https://rtc.example.com/livekit/jwt/status#").unwrap();
            assert_eq!(token.split('.').count(), 3, "{link}");
            assert!(!link.contains("nobody-may-see"));
        }
    }

    #[test]
    fn without_a_key_there_is_no_link() {
        assert!(link(&[], &[]).unwrap_err().to_string().contains("no API key is given"));
        assert!(link(&[], &[("LIVEKIT_KEY", "key")]).unwrap_err().to_string().contains("no secret"));
    }
}
