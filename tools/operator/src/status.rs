//! `status`: a link to the page that shows what goes on in the rooms.

use std::env;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;

use crate::doctor::{ServiceUrl, SfuCredentials};
use crate::variables::Variables;

/// Print a link to the page of what goes on in the rooms, valid for ten minutes
///
/// The link is signed with the API key, from LIVEKIT_KEY and LIVEKIT_SECRET, or the first line of LIVEKIT_KEYS, or from
/// the files that other variables name for them. It is a secret for those ten minutes, and of no use for anything but
/// this page.
#[derive(Debug, Args)]
pub struct Options {
    /// URL of the service, as .well-known/matrix/client announces it
    #[arg(value_name = "URL", value_parser = ServiceUrl::parse)]
    service: ServiceUrl,
    /// JSON file with LIVEKIT_KEY and LIVEKIT_SECRET, as `configure --write` makes it; it goes before the environment
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
    /// Environment file of a service on a machine of one's own, with the same variables
    #[arg(long, value_name = "FILE", conflicts_with = "secrets_file")]
    env_file: Option<PathBuf>,
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
    let credentials = options.credentials(|name| env::var(name).ok())?;
    println!("{}", options.link(&credentials)?);
    Ok(())
}

impl Options {
    /// Returns the API key. `environment` returns the value of a variable, if it is set.
    fn credentials(&self, environment: impl Fn(&str) -> Option<String>) -> Result<SfuCredentials> {
        let variables = Variables::read(self.secrets_file.as_deref(), self.env_file.as_deref(), environment)?;
        let (key, secret) = (variables.get("LIVEKIT_KEY")?, variables.get("LIVEKIT_SECRET")?);
        SfuCredentials::given(key, secret, variables.get("LIVEKIT_KEYS")?)?.context(
            "no API key is given: set LIVEKIT_KEY and LIVEKIT_SECRET, --secrets-file or --env-file, as for the service",
        )
    }

    /// Returns the link.
    fn link(&self, credentials: &SfuCredentials) -> Result<String> {
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

    fn options(arguments: &[&str]) -> Options {
        let url = ["status", "https://rtc.example.com/livekit/jwt/"];
        Program::try_parse_from(url.iter().chain(arguments)).unwrap().options
    }

    fn credentials(arguments: &[&str], environment: &[(&str, &str)]) -> Result<SfuCredentials> {
        let find = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|it| it.1.to_owned());
        options(arguments).credentials(find)
    }

    #[test]
    fn a_link_has_its_token_behind_the_hash() {
        for environment in [
            &[("LIVEKIT_KEY", "key"), ("LIVEKIT_SECRET", "nobody-may-see")][..],
            &[("LIVEKIT_KEYS", "key: nobody-may-see")],
        ] {
            let link = options(&[]).link(&credentials(&[], environment).unwrap()).unwrap();
            let token = link.strip_prefix("https://rtc.example.com/livekit/jwt/status#").unwrap();
            assert_eq!(token.split('.').count(), 3, "{link}");
            assert!(!link.contains("nobody-may-see"));
        }
    }

    #[test]
    fn a_file_goes_before_the_environment_and_is_never_mixed_with_it() {
        let environment = [("LIVEKIT_KEY", "environment"), ("LIVEKIT_SECRET", "nobody-may-see")];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("variables");
        let key = |option: &str, content: &str| {
            std::fs::write(&file, content).unwrap();
            credentials(&[option, file.to_str().unwrap()], &environment).map(|it| it.key().name.clone())
        };

        assert_eq!(key("--secrets-file", r#"{"LIVEKIT_KEY": "file", "LIVEKIT_SECRET": "s"}"#).unwrap(), "file");
        assert_eq!(key("--env-file", "LIVEKIT_KEY=file\nLIVEKIT_SECRET=s\n").unwrap(), "file");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "s\n").unwrap();
        let named = format!("LIVEKIT_KEY=file\nLIVEKIT_SECRET_FROM_FILE={}\n", secret.display());
        assert_eq!(key("--env-file", &named).unwrap(), "file");
        // Of a homeserver's tokens only.
        assert_eq!(key("--secrets-file", r#"{"LIVEKIT_HS_TOKEN": "t"}"#).unwrap(), "environment");
        assert!(key("--secrets-file", r#"{"LIVEKIT_KEY": "file"}"#).unwrap_err().to_string().contains("no secret"));
    }

    #[test]
    fn without_a_key_there_is_no_link() {
        assert!(credentials(&[], &[]).unwrap_err().to_string().contains("no API key is given"));
        assert!(credentials(&[], &[("LIVEKIT_KEY", "key")]).unwrap_err().to_string().contains("no secret"));
    }
}
