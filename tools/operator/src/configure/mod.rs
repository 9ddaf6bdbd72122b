//! `cargo xtask configure` and `matrixrtc-edge configure`: configuration files by which clients, homeserver, SFU and service find each other.
//!
//! # How it works
//!
//! - [`Options`] is the command line. On a terminal it prompts for missing values; elsewhere they are an error.
//! - A [`Plan`] is a complete deployment, each of its values checked by the worker's own parser.
//! - [`Files`] renders a plan: to print, without secrets, or as files to write. Files that exist with other content are
//!   never overwritten; those of wrangler are completed.
//! - [`Secrets`] are given (a file, the environment), or those that were written before, or new: in this order. Only
//!   files of their owner's have them, never the output.
//! - `steps` lists the commands that remain.
//! - With `--own-machine` the files are those of the executable and of the proxy in front of it, in place of wrangler's.
//! - With `--well-known` or `--server-name`, the present announcement is judged by the doctor's check.

use std::{
    env, fs,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use matrixrtc_edge::config::jurisdiction::Jurisdiction;
use matrixrtc_edge::config::location_hint::LocationHint;
use matrixrtc_edge::matrix::ids::server_name::ServerName;

use crate::doctor::{Finding, Trust, announcement};
use crate::values;

pub use files::Files;
use homeserver_mode::REGISTRATION;
pub use homeserver_mode::Tokens;
pub use key_pair::KeyPair;
use own_machine::ENV_FILE;
pub use placement::{Placement, PlacementChoice};
pub use plan::{Hosting, Plan};
pub use route::Route;
use secrets::New;
use secrets::{KEY, SECRET, SECRETS_FILE};
pub use secrets::{Secrets, SecretsFile};

mod files;
mod homeserver;
mod homeserver_mode;
mod key_pair;
mod livekit;
mod own_machine;
mod placement;
mod plan;
mod route;
mod secrets;
mod steps;
mod wrangler;

/// Print, or write, the configuration files of a deployment: the service's, the SFU's, and the homeserver's announcement
///
/// Prompts for values that aren't given, if it runs on a terminal. Secrets are only written to files (--write), which
/// only their owner can read, and never printed.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// For a machine of one's own, behind a reverse proxy, in place of Cloudflare
    #[arg(long, conflicts_with_all = ["zone", "location_hint", "jurisdiction", "placement"])]
    own_machine: bool,
    /// Host name for the service alone, e.g. matrix-rtc.example.com; Cloudflare creates it
    #[arg(long, value_name = "NAME", conflicts_with = "route", value_parser = Route::custom_domain)]
    domain: Option<Route>,
    /// Path for the service at a host name that is in use, e.g. example.com/livekit/jwt
    #[arg(long, value_name = "NAME/PATH", value_parser = Route::below_path)]
    route: Option<Route>,
    /// Domain at Cloudflare that the route's host name belongs to, e.g. example.com
    #[arg(long, value_name = "NAME", requires = "route", value_parser = route::host_name)]
    zone: Option<String>,
    /// URL of the SFU, as clients get it, e.g. wss://sfu.example.com; Cloudflare must reach it, too
    #[arg(long, value_name = "URL", value_parser = plan::sfu_url)]
    sfu_url: Option<String>,
    /// Homeservers whose users can create rooms, separated by commas; * alone for all
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = plan::homeserver)]
    homeserver: Vec<String>,
    #[arg(long, value_name = "HINT", value_parser = plan::location_hint, help = location_help())]
    location_hint: Option<String>,
    #[arg(long, value_name = "NAME", value_parser = plan::jurisdiction, help = jurisdiction_help())]
    jurisdiction: Option<String>,
    /// Where the worker runs. By default beside the SFU; but chosen by Cloudflare if the SFU is behind Cloudflare's proxy
    /// (one request to it finds that out), is LiveKit Cloud, or has an address in place of a name
    #[arg(long, value_name = "PLACE")]
    placement: Option<PlacementChoice>,
    /// API key that the SFU has already, with its secret in LIVEKIT_SECRET [env: LIVEKIT_KEY]
    ///
    /// Without a pair, --write keeps that of the secrets file in DIR, or makes a new one.
    #[arg(long, value_name = "KEY", conflicts_with = "sfu_keys")]
    sfu_key: Option<String>,
    /// File with the pair that the SFU has already: its configuration, with `KEY: SECRET` below `keys:`, or a file of
    /// nothing but such lines
    #[arg(long, value_name = "FILE")]
    sfu_keys: Option<PathBuf>,
    /// Homeserver that sends its users' requests to the service, in homeserver mode
    #[arg(long, value_name = "NAME", value_parser = values::server_name)]
    homeserver_mode: Option<ServerName>,
    /// Directory to write the files to, with the secrets, instead of printing them without
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// File with the present .well-known/matrix/client, to check
    #[arg(long, value_name = "FILE")]
    well_known: Option<PathBuf>,
    /// Homeserver whose present .well-known/matrix/client is fetched and checked
    #[arg(long, value_name = "NAME", conflicts_with = "well_known", value_parser = values::server_name)]
    server_name: Option<ServerName>,
    /// File with certificates to trust for requests to it and to the SFU, in addition to the public authorities'
    #[arg(long, value_name = "PEM")]
    trust_ca: Vec<PathBuf>,
}

/// Prints or writes the files, for the worker in `root`, whose `wrangler.toml` they complete. `doctor` is the command that
/// checks the deployment afterwards.
///
/// # Errors
///
/// A value isn't given and there is no terminal, the input ends early, or a file can't be read or written.
pub fn run(options: &Options, root: &Path, doctor: &str) -> Result<()> {
    let plan = if io::stdin().is_terminal() && io::stderr().is_terminal() {
        options.prompt(&mut io::stdin().lock(), &mut io::stderr())?
    } else {
        options.plan()?
    };
    let pair = options.given_pair(|name| env::var(name).ok())?;
    let plan = plan.with_sfu_key(pair.as_ref().map(|pair| pair.key().to_owned()).or_else(|| options.sfu_key.clone()));
    let (plan, reason) = match plan.hosting() {
        Hosting::Cloudflare => {
            let (placement, reason) = options.place(&plan)?;
            (plan.placed(placement), Some(reason))
        }
        Hosting::OwnMachine => (plan, None),
    };
    match &options.write {
        Some(directory) => {
            let there = match plan.hosting() {
                Hosting::Cloudflare => SecretsFile::read(&directory.join(SECRETS_FILE))?,
                Hosting::OwnMachine => own_machine::secrets_there(&directory.join(ENV_FILE))?,
            };
            let (secrets, new) = options.secrets(&plan, pair, &there, directory)?;
            let files = Files::for_directory(&plan, &secrets, there, root, directory)?;
            for file in files.write(directory)? {
                println!("wrote {}", file.display());
            }
            for note in files.notes() {
                println!("\n{note}");
            }
            println!("\n{}", steps::after_writing(&plan, &secrets.pair, new, directory, doctor));
        }
        None => println!("{}\n{}", Files::to_print(&plan, root)?, steps::after_printing(&plan)),
    }
    if let Some(reason) = reason {
        println!("The worker runs {reason}.");
    }
    match options.review(&plan)? {
        Some(finding) => println!("\nThe present announcement:\n{finding}"),
        None => println!("\nTo check the present announcement, give --server-name or --well-known."),
    }
    Ok(())
}

impl Options {
    /// Builds the plan from the given values.
    ///
    /// # Errors
    ///
    /// Values are missing; the error lists all of them.
    pub fn plan(&self) -> Result<Plan> {
        let mut missing = Vec::new();
        let route = self.route()?;
        if route.is_none() {
            missing.push("--domain or --route");
        }
        if self.sfu_url.is_none() {
            missing.push("--sfu-url");
        }
        if self.homeserver.is_empty() {
            missing.push("--homeserver");
        }
        let (Some(route), Some(sfu_url), []) = (route, self.sfu_url.clone(), missing.as_slice()) else {
            bail!("{} must be given: there is no terminal to prompt on", missing.join(", "));
        };
        if self.needs_zone(&route) {
            bail!(
                "--zone must be given with --route: the domain at Cloudflare that {} belongs to, as its dashboard lists it",
                route.host()
            );
        }
        let homeserver_mode = self.homeserver_mode.clone();
        self.build_plan(route, sfu_url, self.homeserver.join(","), self.location_hint.clone(), homeserver_mode)
    }

    /// Builds the plan, prompting on `output` for missing values and reading `input` until each is valid.
    ///
    /// # Errors
    ///
    /// `input` ends.
    pub fn prompt(&self, input: &mut impl BufRead, output: &mut impl Write) -> Result<Plan> {
        let mut prompt = |question: &str| -> Result<String> {
            write!(output, "{question} ")?;
            output.flush()?;
            let mut answer = String::new();
            if input.read_line(&mut answer)? == 0 {
                bail!("the input has ended");
            }
            Ok(answer.trim().to_owned())
        };
        let route = match self.route()? {
            Some(route) => route,
            None => prompt_until_valid(
                &mut prompt,
                "Host name for the service alone (matrix-rtc.example.com), or name/path?",
                |answer| {
                    if answer.contains('/') { Route::below_path(answer) } else { Route::custom_domain(answer) }
                },
            )?,
        };
        let route = match self.needs_zone(&route) {
            true => prompt_until_valid(
                &mut prompt,
                &format!("Domain at Cloudflare that {} belongs to (example.com)?", route.host()),
                |answer| route.clone().in_zone(&route::host_name(answer)?),
            )?,
            false => route,
        };
        let sfu_url = match &self.sfu_url {
            Some(url) => url.clone(),
            None => prompt_until_valid(
                &mut prompt,
                "URL of the SFU for clients (wss://sfu.example.com)?",
                if self.own_machine { plan::sfu_url } else { plan::public_sfu_url },
            )?,
        };
        let homeservers = if self.homeserver.is_empty() {
            prompt_until_valid(
                &mut prompt,
                "Homeservers whose users can create rooms: server names, separated by commas, or * for all?",
                plan::homeservers,
            )?
        } else {
            self.homeserver.join(",")
        };
        let location_hint = match &self.location_hint {
            Some(hint) => Some(hint.clone()),
            None if self.own_machine => None,
            None => prompt_until_valid(
                &mut prompt,
                &format!("Location of the SFU: {} (empty: Cloudflare decides)?", LocationHint::ALL.join(", ")),
                |answer| {
                    if answer.is_empty() { Ok(None) } else { plan::location_hint(answer).map(Some) }
                },
            )?,
        };
        let homeserver_mode = match &self.homeserver_mode {
            Some(server_name) => Some(server_name.clone()),
            None => prompt_until_valid(
                &mut prompt,
                "Homeserver that sends its users' requests to the service, in homeserver mode (empty: none)?",
                |answer| match answer {
                    "" => Ok(None),
                    name => values::server_name(name).map(Some),
                },
            )?,
        };
        self.build_plan(route, sfu_url, homeservers, location_hint, homeserver_mode)
    }

    fn build_plan(
        &self,
        route: Route,
        sfu_url: String,
        homeservers: String,
        location_hint: Option<String>,
        homeserver_mode: Option<ServerName>,
    ) -> Result<Plan> {
        let plan = match self.own_machine {
            true => Plan::new(route, sfu_url, homeservers, location_hint)?.hosted_on(Hosting::OwnMachine),
            false => {
                let sfu_url = plan::public_sfu_url(&sfu_url).map_err(|problem| anyhow!("--sfu-url {problem}"))?;
                Plan::new(route, sfu_url, homeservers, location_hint)?.in_jurisdiction(self.jurisdiction.clone())
            }
        };
        Ok(match homeserver_mode {
            Some(server_name) => plan.in_homeserver_mode(server_name),
            None => plan,
        })
    }

    /// Pair of API key and secret that is given by a file or the environment.
    ///
    /// # Errors
    ///
    /// The file can't be read, or half a pair is given. A key alone is enough to print it.
    fn given_pair(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Option<KeyPair>> {
        if let Some(file) = &self.sfu_keys {
            let content = fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
            return KeyPair::first_of(&content).map(Some).with_context(|| file.display().to_string());
        }
        let variable = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        match (self.sfu_key.clone().or_else(|| variable(KEY)), variable(SECRET)) {
            (Some(key), Some(secret)) => KeyPair::parse(&key, &secret).map(Some),
            (Some(_), None) if self.write.is_some() => {
                bail!("an API key is given, but no secret: set {SECRET}, or give both with --sfu-keys FILE")
            }
            (None, Some(_)) => bail!("{SECRET} is set, but no API key is given: --sfu-key or {KEY}"),
            (_, None) => Ok(None),
        }
    }

    /// Secrets of the deployment: given ones, those that were written to `directory` before, or new ones; and which are
    /// new.
    fn secrets(
        &self,
        plan: &Plan,
        given: Option<KeyPair>,
        there: &SecretsFile,
        directory: &Path,
    ) -> Result<(Secrets, New)> {
        let written = there.pair()?;
        let known = given.or(written);
        if known.is_none() && plan.is_on_livekit_cloud() {
            bail!(
                "LiveKit Cloud makes API key and secret, in the project's settings: set {KEY} and {SECRET}, or give both with \
                 --sfu-keys FILE"
            );
        }
        let mut new = New { pair: known.is_none(), tokens: false };
        let pair = known.map_or_else(KeyPair::generate, Ok)?;
        let tokens = match plan.homeserver_mode() {
            Some(_) => {
                let registration = fs::read_to_string(directory.join(REGISTRATION)).ok();
                let written = registration.and_then(|registration| Tokens::read(&registration));
                let known = written.or_else(|| there.tokens());
                new.tokens = known.is_none();
                Some(known.map_or_else(Tokens::generate, Ok)?)
            }
            None => None,
        };
        Ok((Secrets { pair, tokens }, new))
    }

    /// Place of the worker, with the reason for it.
    fn place(&self, plan: &Plan) -> Result<(Placement, String)> {
        Ok(match self.placement {
            Some(PlacementChoice::Sfu) => match Placement::beside(plan.sfu_url()) {
                Placement::Smart => bail!(
                    "--placement sfu needs an SFU with a name, which {} hasn't: give it one in --sfu-url, or give --placement smart",
                    plan.sfu_url()
                ),
                beside => (beside, String::from("beside the SFU, as --placement says")),
            },
            Some(PlacementChoice::Smart) => {
                (Placement::Smart, String::from("where Cloudflare chooses, as --placement says"))
            }
            None => {
                let trust = Trust::new(&self.trust_ca)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let found = runtime.block_on(Placement::find(trust, plan.sfu_url()));
                // A pending look-up of a name must not delay the exit.
                runtime.shutdown_background();
                found
            }
        })
    }

    /// Route that is given.
    ///
    /// # Errors
    ///
    /// Its host name isn't in the zone.
    fn route(&self) -> Result<Option<Route>> {
        let route = self.domain.clone().or_else(|| self.route.clone());
        match (route, &self.zone) {
            (Some(route), Some(zone)) => {
                route.in_zone(zone).map(Some).map_err(|problem| anyhow!("--zone {zone} {problem}"))
            }
            (route, _) => Ok(route),
        }
    }

    fn needs_zone(&self, route: &Route) -> bool {
        !self.own_machine && route.needs_zone()
    }

    /// Whether it is for a machine of one's own, where no configuration of wrangler's is completed.
    #[must_use]
    pub fn is_for_own_machine(&self) -> bool {
        self.own_machine
    }

    /// Finding of the doctor's check of the present announcement; `None` if no announcement is given.
    fn review(&self, plan: &Plan) -> Result<Option<Finding>> {
        let service = plan.service_url();
        let outcome = if let Some(file) = &self.well_known {
            let content = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
            announcement::judge(&content, service).unwrap_or_else(|problem| problem)
        } else if let Some(server_name) = &self.server_name {
            let trust = Trust::new(&self.trust_ca)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(announcement::examine(trust, service, server_name))
        } else {
            return Ok(None);
        };
        Ok(Some(Finding { check: announcement::ID, title: announcement::TITLE, outcome }))
    }
}

/// Help of `--location-hint`.
fn location_help() -> String {
    format!("Location of the rooms' objects, which should be near the SFU ({})", LocationHint::ALL.join(", "))
}

/// Help of `--jurisdiction`.
fn jurisdiction_help() -> String {
    format!(
        "Jurisdiction that the rooms' objects stay in, to be chosen before the first call ({})",
        Jurisdiction::ALL.join(", ")
    )
}

/// Prompts until `parse` accepts the answer.
fn prompt_until_valid<T>(
    prompt: &mut impl FnMut(&str) -> Result<String>,
    question: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T> {
    let mut text = question.to_owned();
    loop {
        match parse(&prompt(&text)?) {
            Ok(value) => return Ok(value),
            Err(problem) => text = format!("That {problem}. {question}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompted(options: &Options, answers: &str) -> (Result<Plan>, String) {
        let mut output = Vec::new();
        let plan = options.prompt(&mut answers.as_bytes(), &mut output);
        (plan, String::from_utf8(output).unwrap())
    }

    #[test]
    fn missing_values_are_listed_without_a_terminal() {
        let error = Options::default().plan().unwrap_err().to_string();
        assert!(error.starts_with("--domain or --route, --sfu-url, --homeserver must be given"), "{error}");
    }

    #[test]
    fn a_wrong_answer_is_prompted_for_again() {
        let answers = "http://rtc.example.com\nrtc.example.com\nsfu.example.com\nwss://sfu.example.com\nhttps://x\nexample.com, example.org\n\nhttps://x\nexample.com\n";
        let (plan, output) = prompted(&Options::default(), answers);
        let plan = plan.unwrap();
        assert_eq!(plan.service_url().as_str(), "https://rtc.example.com");
        let vars = plan.vars();
        assert!(vars.contains(&("LIVEKIT_URL", String::from("wss://sfu.example.com"))), "{vars:?}");
        assert!(
            vars.contains(&("LIVEKIT_FULL_ACCESS_HOMESERVERS", String::from("example.com,example.org"))),
            "{vars:?}"
        );
        assert!(vars.contains(&("LIVEKIT_HS_SERVER_NAME", String::from("example.com"))), "{vars:?}");
        assert_eq!(output.matches("That ").count(), 4, "{output}");
    }

    #[test]
    fn a_path_is_asked_for_its_domain_at_cloudflare() {
        let answers =
            "rtc.example.co.uk/livekit\nco.uk.example\nexample.co.uk\nws://10.0.0.1\nwss://sfu.example.com\n*\n\n\n";
        let (plan, output) = prompted(&Options::default(), answers);
        let route = plan.unwrap().route().wrangler_route().to_string();
        assert!(route.contains(r#"zone_name = "example.co.uk""#), "{route}");
        assert!(output.contains("That is not the domain of rtc.example.co.uk"), "{output}");
        assert!(output.contains("which Cloudflare can't reach"), "{output}");

        let answers = "rtc.example.co.uk/livekit\nws://10.0.0.1\n*\n\n";
        let (plan, output) = prompted(&Options { own_machine: true, ..Options::default() }, answers);
        assert!(plan.is_ok() && !output.contains("Cloudflare"), "{output}");
    }

    #[test]
    fn only_missing_values_are_prompted_for() {
        let options = Options {
            domain: Route::custom_domain("rtc.example.com").ok(),
            homeserver: vec![String::from("example.com")],
            location_hint: Some(String::from("weur")),
            homeserver_mode: ServerName::parse("example.com").ok(),
            ..Options::default()
        };
        let (plan, output) = prompted(&options, "wss://sfu.example.com\n");
        assert!(plan.is_ok() && output.matches('?').count() == 1, "{output}");
    }

    #[test]
    fn a_place_beside_an_address_is_refused_with_what_to_give() {
        let route = Route::custom_domain("rtc.example.com").unwrap();
        let plan = Plan::new(route, String::from("wss://203.0.113.1"), String::from("*"), None).unwrap();
        let options = |placement| Options { placement: Some(placement), ..Options::default() };
        let error = options(PlacementChoice::Sfu).place(&plan).unwrap_err().to_string();
        assert!(error.contains("wss://203.0.113.1 hasn't") && error.contains("--placement smart"), "{error}");
        assert_eq!(options(PlacementChoice::Smart).place(&plan).unwrap().0, Placement::Smart);
    }

    #[test]
    fn input_that_ends_is_an_error() {
        let (plan, _) = prompted(&Options::default(), "rtc.example.com\n");
        assert!(plan.unwrap_err().to_string().contains("ended"));
    }
}
