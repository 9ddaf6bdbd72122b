//! The doctor's command line.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use matrixrtc_edge::config::unlike_a_secret;
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::federation::discovery::AddressPolicy;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use matrixrtc_edge::matrix::ids::user_id::UserId;
use url::Url;

use crate::doctor::credentials::{RegistrationToken, SfuCredentials};
use crate::doctor::examination::examine_until;
use crate::doctor::input::{Secret, read_password};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::settings::Settings;
use crate::doctor::subject::Subject;
use crate::doctor::trust::Trust;
use crate::doctor::user::{AccessToken, Password, UserLogin};
use crate::doctor::watch::Terminal;
use crate::values;
use crate::variables::Variables;

/// Check a deployment from outside, as clients, homeservers and SFUs reach it
///
/// Prints a line for each check: ok, warning, PROBLEM or skipped, and for a problem its cause and the setting to
/// change. Exits with 1 if there is a problem, and with 2 if the command line is invalid. Checks that need an option
/// that isn't given are skipped.
#[derive(Debug, Args)]
pub struct Options {
    /// URL of the service, as .well-known/matrix/client announces it
    #[arg(value_name = "URL", value_parser = ServiceUrl::parse)]
    service: ServiceUrl,
    /// Name of a homeserver whose users use the service: the part of their ids after the colon [env:
    /// LIVEKIT_HS_SERVER_NAME]
    #[arg(long, value_name = "NAME", value_parser = values::server_name)]
    server_name: Option<ServerName>,
    /// URL of the SFU, as clients get it [env: LIVEKIT_URL]
    #[arg(long, value_name = "URL", value_parser = SfuUrl::parse)]
    sfu_url: Option<SfuUrl>,
    /// API key that the service and the SFU share [env: LIVEKIT_KEY, or the first line of LIVEKIT_KEYS]
    #[arg(long, value_name = "KEY")]
    sfu_key: Option<String>,
    /// Secret of the API key; other users of this machine can read it here, but not in the environment [env:
    /// LIVEKIT_SECRET]
    #[arg(long, value_name = "SECRET", value_parser = Secret::read)]
    sfu_secret: Option<Secret>,
    /// as_token of the registration file, in homeserver mode [env: LIVEKIT_AS_TOKEN]
    #[arg(long, value_name = "TOKEN", value_parser = Secret::read)]
    as_token: Option<Secret>,
    /// hs_token of the registration file, in homeserver mode [env: LIVEKIT_HS_TOKEN]
    #[arg(long, value_name = "TOKEN", value_parser = Secret::read)]
    hs_token: Option<Secret>,
    /// Access token of a user of that homeserver, whose way to a call is tried in a Matrix room of its own; other users
    /// of this machine can read it here, but not in the environment [env: MATRIX_ACCESS_TOKEN]
    #[arg(long, value_name = "TOKEN", value_parser = Secret::read, conflicts_with = "login")]
    access_token: Option<Secret>,
    /// User to log in with a password, instead of an access token, and to log out again at the end; the password is
    /// asked for, or read from standard input if that isn't a terminal
    #[arg(long, value_name = "USER")]
    login: Option<String>,
    /// JSON file with LIVEKIT_KEY, LIVEKIT_SECRET, LIVEKIT_AS_TOKEN and LIVEKIT_HS_TOKEN, as `configure --write` makes
    /// it; it goes before the environment
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
    /// Environment file of a service on a machine of one's own, with the same variables, or with those that name files
    /// for them; the changes that problems need are those of that file then
    #[arg(long, value_name = "FILE", conflicts_with = "secrets_file")]
    env_file: Option<PathBuf>,
    /// File with certificates to trust in addition to the public authorities'
    #[arg(long, value_name = "PEM")]
    trust_ca: Vec<PathBuf>,
    /// Accept homeservers at private addresses, like the service's LIVEKIT_ALLOW_PRIVATE_ADDRESSES
    #[arg(long)]
    allow_private_addresses: bool,
    /// Resolver for homeservers' SRV records, which responds with application/dns-json
    #[arg(long, value_name = "URL", default_value = DNS_OVER_HTTPS_URL)]
    dns_over_https_url: Url,
    /// Print the report as one JSON object, at the end
    #[arg(long)]
    json: bool,
}

/// Examines the deployment and prints the report on standard output; standard error shows checks that take longer.
///
/// Returns the program's exit code: 0, 1 if there is a problem, or 2 if the command line is invalid.
///
/// # Errors
///
/// The operating system refuses to set up the network's event loop.
pub fn run(options: Options) -> Result<ExitCode> {
    let json = options.json;
    let password = |user: &str| read_password(user).context("can't read the password");
    let subject = match options.into_subject(|name| env::var(name).ok(), password) {
        Ok(subject) => subject,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(INVALID_COMMAND_LINE));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let interrupted = async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        examine_until(&subject, &mut Terminal { findings: !json }, interrupted).await
    });
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    // Pending look-ups of names whose check has timed out must not delay the exit.
    runtime.shutdown_background();
    Ok(report.exit_code())
}

impl Options {
    /// Builds the subject of the examination. `environment` returns the value of a variable, if it is set, and `password`
    /// the password of a user.
    ///
    /// # Errors
    ///
    /// Half a key pair is given, a variable is invalid, or a file or the password can't be read.
    pub fn into_subject(
        self,
        environment: impl Fn(&str) -> Option<String>,
        password: impl FnOnce(&str) -> Result<Password>,
    ) -> Result<Subject> {
        let variables = Variables::read(self.secrets_file.as_deref(), self.env_file.as_deref(), &environment)?;
        let variable = |name| variables.get(name);
        let sfu_url = match (self.sfu_url, variable("LIVEKIT_URL")?) {
            (Some(url), _) => Some(url),
            (None, Some(text)) => {
                Some(SfuUrl::parse(&text).map_err(|problem| anyhow::anyhow!("LIVEKIT_URL {problem}"))?)
            }
            (None, None) => None,
        };
        let credentials = match (self.sfu_key, self.sfu_secret.map(|Secret(secret)| secret)) {
            (Some(key), Some(secret)) => SfuCredentials::given(Some(key), Some(secret), None)?,
            (key, secret) => {
                let key = key.map_or_else(|| variable("LIVEKIT_KEY"), |key| Ok(Some(key)))?;
                let secret = secret.map_or_else(|| variable("LIVEKIT_SECRET"), |secret| Ok(Some(secret)))?;
                SfuCredentials::given(key, secret, variable("LIVEKIT_KEYS")?)?
            }
        };
        let own_homeserver = match variable("LIVEKIT_HS_SERVER_NAME")? {
            Some(name) => {
                let name = values::server_name(&name);
                Some(name.map_err(|problem| anyhow::anyhow!("LIVEKIT_HS_SERVER_NAME {problem}"))?)
            }
            None => None,
        };
        let user_s_homeserver = match self.login.as_deref().map(UserId::parse) {
            Some(Ok(user)) => ServerName::parse(user.server_name()).ok(),
            Some(Err(_)) | None => None,
        };
        let user = match (self.login, self.access_token, environment("MATRIX_ACCESS_TOKEN")) {
            (Some(user), _, _) => {
                let password = password(&user)?;
                Ok(UserLogin::Password { user, password })
            }
            (None, Some(Secret(token)), _) | (None, None, Some(token)) if !token.trim().is_empty() => {
                let token = AccessToken::parse(&token);
                Ok(UserLogin::AccessToken(
                    token.context("MATRIX_ACCESS_TOKEN, or --access-token, is not a valid token")?,
                ))
            }
            _ => Err(NO_USER),
        };
        // The environment's tokens belong to that homeserver and must not be sent to another.
        let is_other = self.server_name.is_some() && own_homeserver.is_some() && self.server_name != own_homeserver;
        let token = |given: Option<Secret>, name: &'static str, missing: &'static str| {
            let text = match given {
                Some(Secret(text)) => text,
                None => match variable(name)? {
                    Some(_) if is_other => return Ok(Err(NOT_OF_THIS_HOMESERVER)),
                    Some(text) => text,
                    None => return Ok(Err(missing)),
                },
            };
            if let Some(problem) = unlike_a_secret(&text) {
                bail!("{name}, or the option for it, {problem}");
            }
            RegistrationToken::parse(&text)
                .map(Ok)
                .with_context(|| format!("{name}, or the option for it, is not a valid token"))
        };
        let as_token = token(self.as_token, "LIVEKIT_AS_TOKEN", NO_AS_TOKEN)?;
        let hs_token = token(self.hs_token, "LIVEKIT_HS_TOKEN", NO_HS_TOKEN)?;
        Ok(Subject {
            service: self.service,
            settings: self.env_file.map_or(Settings::Wrangler, Settings::EnvFile),
            server_name: self.server_name.or(user_s_homeserver).or(own_homeserver),
            sfu_url,
            credentials,
            as_token,
            hs_token,
            user,
            full_access: variable("LIVEKIT_FULL_ACCESS_HOMESERVERS")?,
            unread_variables: variables.unread().cloned(),
            trust: Trust::new(&self.trust_ca)?,
            addresses: match self.allow_private_addresses {
                true => AddressPolicy::Any,
                false => AddressPolicy::PublicOnly,
            },
            dns_over_https_url: self.dns_over_https_url,
        })
    }
}

/// Exit code of clap for an invalid command line.
const INVALID_COMMAND_LINE: u8 = 2;
const NO_AS_TOKEN: &str = "for homeserver mode only; no as_token is given: --as-token or LIVEKIT_AS_TOKEN";
const NO_HS_TOKEN: &str = "for homeserver mode only; no hs_token is given: --hs-token or LIVEKIT_HS_TOKEN";
const NO_USER: &str = "for the way of a user only; none is given: --access-token, MATRIX_ACCESS_TOKEN or --login";
const NOT_OF_THIS_HOMESERVER: &str =
    "the token in the environment is that of another homeserver, LIVEKIT_HS_SERVER_NAME";
/// Default of the worker, too.
const DNS_OVER_HTTPS_URL: &str = "https://cloudflare-dns.com/dns-query";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::fs;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        let url = ["doctor", "https://rtc.example.com"];
        Program::try_parse_from(url.iter().chain(arguments)).unwrap().options
    }

    fn no_password(_: &str) -> Result<Password> {
        bail!("no terminal")
    }

    fn subject(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Subject> {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        options(arguments).into_subject(variable, no_password)
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
    fn options_go_before_the_environment() {
        let environment =
            [("LIVEKIT_URL", "not a URL"), ("LIVEKIT_KEY", "environment"), ("LIVEKIT_SECRET", "secret\n")];
        let subject = subject(&["--sfu-url", "wss://given.example.com", "--sfu-key", "given"], &environment).unwrap();
        assert_eq!(subject.sfu_url.unwrap().client(), "wss://given.example.com");
        let credentials = subject.credentials.unwrap();
        assert_eq!((credentials.key().name.as_str(), credentials.padded()), ("given", Some("secret")));
    }

    #[test]
    fn a_secrets_file_goes_before_the_environment_and_is_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.production.json");
        let arguments = ["--secrets-file", path.to_str().unwrap()];
        let environment = [("LIVEKIT_KEYS", "other: other"), ("LIVEKIT_AS_TOKEN", "as"), ("LIVEKIT_KEY", "other")];
        fs::write(&path, r#"{"LIVEKIT_KEY":"file","LIVEKIT_SECRET":"nobody-may-see"}"#).unwrap();
        let with_pair = subject(&arguments, &environment).unwrap();
        assert_eq!(with_pair.credentials.as_ref().unwrap().key().name, "file");
        assert!(with_pair.as_token.is_ok() && !format!("{with_pair:?}").contains("nobody"));

        fs::write(&path, r#"{"LIVEKIT_HS_TOKEN":"hs"}"#).unwrap();
        let with_token = subject(&arguments, &environment[..1]).unwrap();
        assert_eq!(with_token.credentials.unwrap().key().name, "other");
        assert!(with_token.hs_token.is_ok());

        for content in ["nobody-may-see", r#"["nobody-may-see"]"#] {
            fs::write(&path, content).unwrap();
            let error = format!("{:#}", subject(&arguments, &[]).unwrap_err());
            assert!(error.contains("isn't a JSON object") && !error.contains("nobody"), "{error}");
        }
    }

    #[test]
    fn an_environment_file_is_read_as_the_service_reads_it_and_is_where_changes_belong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.env");
        fs::write(&path, "LIVEKIT_URL=wss://sfu.example.com\nLIVEKIT_KEY=file\nLIVEKIT_SECRET=\"nobody-may-see\"\n")
            .unwrap();
        let arguments = ["--env-file", path.to_str().unwrap()];

        let of_file = subject(&arguments, &[("LIVEKIT_KEYS", "other: other")]).unwrap();

        assert_eq!(of_file.sfu_url.as_ref().unwrap().client(), "wss://sfu.example.com");
        let credentials = of_file.credentials.as_ref().unwrap();
        assert_eq!((credentials.key().name.as_str(), credentials.padded()), ("file", None));
        assert!(!format!("{of_file:?}").contains("nobody"));
        for change in [of_file.settings.variables(), of_file.settings.secret("LIVEKIT_HS_TOKEN", "that one")] {
            assert!(change.contains(path.to_str().unwrap()) && !change.contains("wrangler"), "{change}");
        }
        assert!(subject(&[], &[]).unwrap().settings.variables().contains("npx wrangler secret"));

        fs::write(&path, "LIVEKIT_SECRET=\"nobody").unwrap();
        let error = format!("{:#}", subject(&arguments, &[]).unwrap_err());
        assert!(error.contains("line 1") && !error.contains("nobody"), "{error}");
    }

    #[test]
    fn a_secret_may_be_in_a_file_that_the_environment_file_names() {
        let directory = tempfile::tempdir().unwrap();
        let [path, secret] = ["edge.env", "secret"].map(|name| directory.path().join(name));
        fs::write(&secret, "nobody-may-see\n").unwrap();
        fs::write(&path, format!("LIVEKIT_KEY=file\nLIVEKIT_SECRET_FROM_FILE={}\n", secret.display())).unwrap();
        let arguments = ["--env-file", path.to_str().unwrap()];

        let credentials = subject(&arguments, &[]).unwrap().credentials.unwrap();
        assert_eq!((credentials.key().name.as_str(), credentials.padded()), ("file", None));

        fs::remove_file(&secret).unwrap();
        let error = format!("{:#}", subject(&arguments, &[]).unwrap_err());
        assert!(error.starts_with("LIVEKIT_SECRET_FROM_FILE names") && error.contains("can't be read"), "{error}");
        let given = [&arguments[..], &["--sfu-key", "given", "--sfu-secret", "given"]].concat();
        assert_eq!(subject(&given, &[]).unwrap().credentials.unwrap().key().name, "given");
    }

    #[test]
    fn a_user_is_given_by_a_token_or_by_a_name_with_a_password() {
        let user = |arguments: &[&str], environment: &[(&str, &str)]| {
            let variable =
                |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
            let password = |_: &str| Ok(Password::new(String::from("nobody-may-see")));
            let subject = options(arguments).into_subject(variable, password).unwrap();
            assert!(!format!("{subject:?}").contains("nobody-may-see"));
            (subject.user, subject.server_name.map(|name| name.to_string()))
        };
        let token = [("MATRIX_ACCESS_TOKEN", "nobody-may-see")];
        assert!(matches!(user(&[], &token).0, Ok(UserLogin::AccessToken(_))));
        assert!(matches!(user(&["--access-token", "nobody-may-see"], &[]).0, Ok(UserLogin::AccessToken(_))));
        assert_eq!(user(&[], &[("MATRIX_ACCESS_TOKEN", " ")]).0.unwrap_err(), NO_USER);
        let (login, server_name) = user(&["--login", "@alice:example.com"], &token);
        assert!(matches!(login, Ok(UserLogin::Password { .. })) && server_name.as_deref() == Some("example.com"));
        assert!(subject(&["--login", "alice"], &[]).unwrap_err().to_string().contains("no terminal"));
        let wrong = subject(&[], &[("MATRIX_ACCESS_TOKEN", "nobody may-see")]).unwrap_err().to_string();
        assert!(wrong.contains("not a valid token") && !wrong.contains("nobody"), "{wrong}");
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
        let given = subject(&["--server-name", "example.org", "--as-token", "theirs"], &environment).unwrap();
        assert!(given.as_token.is_ok());
        assert_eq!(subject(&[], &[]).unwrap().as_token.unwrap_err(), NO_AS_TOKEN);
    }

    #[test]
    fn half_a_pair_and_wrong_variables_are_errors() {
        for (environment, problem) in [
            (("LIVEKIT_KEY", "key"), "no secret"),
            (("LIVEKIT_SECRET", "nobody-may-see"), "no API key"),
            (("LIVEKIT_KEYS", "nobody-may-see"), "LIVEKIT_KEYS must consist of"),
            (("LIVEKIT_KEYS", "key: 'nobody-may-see'"), "the secret of the API key is in quotation marks"),
            (("LIVEKIT_KEYS", "APIxxxxxxxx: nobody-may-see"), "the API key is the placeholder of an example"),
            (("LIVEKIT_URL", "sfu.example.com"), "LIVEKIT_URL is not a URL"),
            (
                ("LIVEKIT_HS_TOKEN", "\"nobody-may-see\""),
                "LIVEKIT_HS_TOKEN, or the option for it, is in quotation marks",
            ),
            (("LIVEKIT_AS_TOKEN", "nobody-may-see it"), "LIVEKIT_AS_TOKEN, or the option for it, is not a valid token"),
            (
                ("LIVEKIT_HS_SERVER_NAME", "https://example.com"),
                "LIVEKIT_HS_SERVER_NAME is \"https://example.com\", not a Matrix server name: write what follows the colon in the user \
                 ids of the homeserver, perhaps example.com",
            ),
        ] {
            let error = format!("{:#}", subject(&[], &[environment]).unwrap_err());
            assert!(error.contains(problem) && !error.contains("nobody-may-see"), "{error}");
        }
        assert!(subject(&["--trust-ca", "/nowhere"], &[]).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn printing_the_options_shows_no_secret() {
        let secrets =
            ["--sfu-secret", "--as-token", "--hs-token", "--access-token"].map(|option| [option, "nobody-may-see"]);
        let options = options(&[&["--sfu-key", "key"], secrets.as_flattened()].concat());
        assert!(!format!("{options:?}").contains("nobody-may-see"));
        assert!(!format!("{:?}", options.into_subject(|_| None, no_password).unwrap()).contains("nobody-may-see"));
    }
}
