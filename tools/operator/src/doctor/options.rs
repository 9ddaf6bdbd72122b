//! The doctor's command line.

use std::convert::Infallible;
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::federation::discovery::AddressPolicy;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use url::Url;

use crate::doctor::credentials::{RegistrationToken, SfuCredentials};
use crate::doctor::examination::examine;
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::subject::Subject;
use crate::doctor::trust::Trust;
use crate::doctor::watch::Terminal;

/// Check a deployment from outside: what a client, a homeserver and an SFU will meet
///
/// Prints a line for each check: ok, warning, PROBLEM or skipped, and for a problem its cause and what to change where. Exits with 1
/// if there is a problem, and with 2 if it is called wrongly. What isn't told can't be checked and is skipped.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the service is: the URL that .well-known announces
    #[arg(value_name = "URL", value_parser = ServiceUrl::parse)]
    service: ServiceUrl,
    /// A homeserver whose users call with it: the name after the colon of their ids [env: LIVEKIT_HS_SERVER_NAME]
    #[arg(long, value_name = "NAME", value_parser = ServerName::parse)]
    server_name: Option<ServerName>,
    /// The SFU's URL that clients get [env: LIVEKIT_URL]
    #[arg(long, value_name = "URL", value_parser = SfuUrl::parse)]
    sfu_url: Option<SfuUrl>,
    /// The API key that the service and the SFU share [env: LIVEKIT_KEY, or the first line of LIVEKIT_KEYS]
    #[arg(long, value_name = "KEY")]
    sfu_key: Option<String>,
    /// Its secret; other users of this machine can read it here, but not in the environment [env: LIVEKIT_SECRET]
    #[arg(long, value_name = "SECRET", value_parser = Secret::read)]
    sfu_secret: Option<Secret>,
    /// In homeserver mode, the as_token of the registration file [env: LIVEKIT_AS_TOKEN]
    #[arg(long, value_name = "TOKEN", value_parser = Secret::read)]
    as_token: Option<Secret>,
    /// In homeserver mode, its hs_token [env: LIVEKIT_HS_TOKEN]
    #[arg(long, value_name = "TOKEN", value_parser = Secret::read)]
    hs_token: Option<Secret>,
    /// Trust these certificates, too
    #[arg(long, value_name = "PEM")]
    trust_ca: Vec<PathBuf>,
    /// Homeservers may be at private addresses, as with the service's LIVEKIT_ALLOW_PRIVATE_ADDRESSES
    #[arg(long)]
    allow_private_addresses: bool,
    /// The resolver for homeservers' SRV records, with application/dns-json answers
    #[arg(long, value_name = "URL", default_value = DNS_OVER_HTTPS_URL)]
    dns_over_https_url: Url,
    /// Print the report as one JSON object, at the end
    #[arg(long)]
    json: bool,
}

/// Examines the deployment and prints the report on standard output; standard error shows what takes longer.
///
/// Gives what the program is to end with: 0, 1 where there is a problem, or 2 where it is called wrongly.
///
/// # Errors
///
/// The operating system refuses the means to ask anything.
pub fn run(options: Options) -> Result<ExitCode> {
    let json = options.json;
    let subject = match options.into_subject(|name| env::var(name).ok()) {
        Ok(subject) => subject,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(CALLED_WRONGLY));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(examine(&subject, &mut Terminal { findings: !json }));
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    // Look-ups of names that nobody waits for any more must not delay the end.
    runtime.shutdown_background();
    Ok(report.exit_code())
}

impl Options {
    /// What is to be examined. `environment` gives the value of a variable where there is one.
    ///
    /// # Errors
    ///
    /// Half a key pair is given, a variable is wrong, or a certificate file can't be read.
    pub fn into_subject(self, environment: impl Fn(&str) -> Option<String>) -> Result<Subject> {
        let variable = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let sfu_url = match (self.sfu_url, variable("LIVEKIT_URL")) {
            (Some(url), _) => Some(url),
            (None, Some(text)) => {
                Some(SfuUrl::parse(&text).map_err(|problem| anyhow::anyhow!("LIVEKIT_URL {problem}"))?)
            }
            (None, None) => None,
        };
        let key = self.sfu_key.or_else(|| variable("LIVEKIT_KEY"));
        let secret = self.sfu_secret.map(|Secret(secret)| secret).or_else(|| variable("LIVEKIT_SECRET"));
        let credentials = match (key, secret, variable("LIVEKIT_KEYS")) {
            (Some(key), Some(secret), _) => {
                Some(SfuCredentials::parse(&key, &secret).context("the API key, or its secret, is empty")?)
            }
            (None, None, Some(lines)) => {
                let first = lines.lines().find(|line| !line.trim().is_empty()).and_then(|line| line.split_once(':'));
                let pair = first.and_then(|(key, secret)| SfuCredentials::parse(key.trim(), secret.trim()));
                Some(pair.context("LIVEKIT_KEYS must consist of `key: secret` lines")?)
            }
            (None, None, None) => None,
            (Some(_), None, _) => bail!("there is an API key, but no secret: --sfu-secret or LIVEKIT_SECRET"),
            (None, Some(_), _) => bail!("there is a secret, but no API key: --sfu-key or LIVEKIT_KEY"),
        };
        let own_homeserver = match variable("LIVEKIT_HS_SERVER_NAME") {
            Some(name) => Some(ServerName::parse(name.trim()).context("LIVEKIT_HS_SERVER_NAME is no server name")?),
            None => None,
        };
        // The environment's tokens are that homeserver's, and no other may see them.
        let is_other = self.server_name.is_some() && own_homeserver.is_some() && self.server_name != own_homeserver;
        let token = |given: Option<Secret>, name: &str, missing: &'static str| {
            let text = match (given, variable(name)) {
                (Some(Secret(text)), _) => text,
                (None, Some(_)) if is_other => return Ok(Err(NOT_OF_THIS_HOMESERVER)),
                (None, Some(text)) => text,
                (None, None) => return Ok(Err(missing)),
            };
            RegistrationToken::parse(&text)
                .map(Ok)
                .with_context(|| format!("{name}, or what is given for it, is no token"))
        };
        let as_token = token(self.as_token, "LIVEKIT_AS_TOKEN", NO_AS_TOKEN)?;
        let hs_token = token(self.hs_token, "LIVEKIT_HS_TOKEN", NO_HS_TOKEN)?;
        Ok(Subject {
            service: self.service,
            server_name: self.server_name.or(own_homeserver),
            sfu_url,
            credentials,
            as_token,
            hs_token,
            trust: Trust::new(&self.trust_ca)?,
            addresses: match self.allow_private_addresses {
                true => AddressPolicy::Any,
                false => AddressPolicy::PublicOnly,
            },
            dns_over_https_url: self.dns_over_https_url,
        })
    }
}

/// Printing it doesn't show it.
#[derive(Clone)]
struct Secret(String);

impl Secret {
    fn read(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// As of other wrong command lines.
const CALLED_WRONGLY: u8 = 2;
const NO_AS_TOKEN: &str = "in homeserver mode only; the as_token isn't told: --as-token or LIVEKIT_AS_TOKEN";
const NO_HS_TOKEN: &str = "in homeserver mode only; the hs_token isn't told: --hs-token or LIVEKIT_HS_TOKEN";
const NOT_OF_THIS_HOMESERVER: &str = "the environment's token is for LIVEKIT_HS_SERVER_NAME, another homeserver";
/// The worker's default.
const DNS_OVER_HTTPS_URL: &str = "https://cloudflare-dns.com/dns-query";

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
        let url = ["doctor", "https://rtc.example.com"];
        Program::try_parse_from(url.iter().chain(arguments)).unwrap().options
    }

    fn subject(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Subject> {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        options(arguments).into_subject(variable)
    }

    #[test]
    fn the_environment_is_that_of_the_service() {
        let environment = [
            ("LIVEKIT_URL", "wss://sfu.example.com"),
            ("LIVEKIT_KEYS", "\n new: secret \nold: other"),
            ("LIVEKIT_KEY", " "),
        ];
        let subject = subject(&[], &environment).unwrap();
        assert_eq!(subject.sfu_url.unwrap().client(), "wss://sfu.example.com");
        let credentials = subject.credentials.unwrap();
        assert_eq!((credentials.key().name.as_str(), credentials.padded()), ("new", None));
    }

    #[test]
    fn what_is_given_goes_before_the_environment() {
        let environment =
            [("LIVEKIT_URL", "not a URL"), ("LIVEKIT_KEY", "environment"), ("LIVEKIT_SECRET", "secret\n")];
        let subject = subject(&["--sfu-url", "wss://given.example.com", "--sfu-key", "given"], &environment).unwrap();
        assert_eq!(subject.sfu_url.unwrap().client(), "wss://given.example.com");
        let credentials = subject.credentials.unwrap();
        assert_eq!((credentials.key().name.as_str(), credentials.padded()), ("given", Some("secret")));
    }

    #[test]
    fn the_environment_s_tokens_are_for_its_homeserver_only() {
        let environment =
            [("LIVEKIT_HS_SERVER_NAME", "example.com"), ("LIVEKIT_AS_TOKEN", "as"), ("LIVEKIT_HS_TOKEN", "hs")];
        for arguments in [&[][..], &["--server-name", "example.com"]] {
            let subject = subject(arguments, &environment).unwrap();
            assert_eq!(subject.server_name.unwrap().as_str(), "example.com");
            assert!(subject.as_token.is_ok() && subject.hs_token.is_ok());
        }
        let other = subject(&["--server-name", "example.org"], &environment).unwrap();
        assert_eq!(other.as_token.unwrap_err(), NOT_OF_THIS_HOMESERVER);
        assert_eq!(other.hs_token.unwrap_err(), NOT_OF_THIS_HOMESERVER);
        let told = subject(&["--server-name", "example.org", "--as-token", "theirs"], &environment).unwrap();
        assert!(told.as_token.is_ok());
        assert_eq!(subject(&[], &[]).unwrap().as_token.unwrap_err(), NO_AS_TOKEN);
    }

    #[test]
    fn half_a_pair_and_wrong_variables_are_errors() {
        for (environment, problem) in [
            (("LIVEKIT_KEY", "key"), "no secret"),
            (("LIVEKIT_SECRET", "nobody-may-see"), "no API key"),
            (("LIVEKIT_KEYS", "nobody-may-see"), "LIVEKIT_KEYS must consist of"),
            (("LIVEKIT_URL", "sfu.example.com"), "LIVEKIT_URL is not a URL"),
            (("LIVEKIT_AS_TOKEN", "nobody-may-see it"), "LIVEKIT_AS_TOKEN, or what is given for it, is no token"),
            (("LIVEKIT_HS_SERVER_NAME", "https://example.com"), "LIVEKIT_HS_SERVER_NAME is no server name"),
        ] {
            let error = format!("{:#}", subject(&[], &[environment]).unwrap_err());
            assert!(error.contains(problem) && !error.contains("nobody-may-see"), "{error}");
        }
        assert!(subject(&["--trust-ca", "/nowhere"], &[]).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn printing_the_options_shows_no_secret() {
        let secrets = ["--sfu-secret", "--as-token", "--hs-token"].map(|option| [option, "nobody-may-see"]);
        let options = options(&[&["--sfu-key", "key"], secrets.as_flattened()].concat());
        assert!(!format!("{options:?}").contains("nobody-may-see"));
        assert!(!format!("{:?}", options.into_subject(|_| None).unwrap()).contains("nobody-may-see"));
    }
}
