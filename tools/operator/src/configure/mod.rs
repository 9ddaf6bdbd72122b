//! `cargo xtask configure`: configuration files by which clients, homeserver, SFU and service find each other.
//!
//! # How it works
//!
//! - [`Options`] is the command line. On a terminal it prompts for missing values; elsewhere they are an error.
//! - A [`Plan`] is a complete deployment, each of its values checked by the worker's own parser.
//! - [`Files`] renders a plan: as fragments to print, or as files to write. Files that exist with other content are
//!   never overwritten, and the tokens of a registration file written before are kept.
//! - `steps` lists the commands that remain. Secrets are put by `wrangler secret put`; no output has them but the
//!   registration file.
//! - With `--well-known` or `--server-name`, the present announcement is judged by the doctor's check.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use matrixrtc_edge::matrix::ids::server_name::ServerName;

use crate::doctor::{Finding, Trust, announcement};

pub use files::Files;
use homeserver_mode::REGISTRATION;
pub use homeserver_mode::{HomeserverMode, Tokens};
pub use plan::Plan;
pub use route::Route;

mod files;
mod homeserver;
mod homeserver_mode;
mod plan;
mod route;
mod steps;

/// Print, or write, the configuration files of a deployment: wrangler's, the SFU's, and the homeserver's announcement
///
/// Prompts for values that aren't given, if it runs on a terminal.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// Host name for the service alone, which Cloudflare creates, e.g. matrix-rtc.example.com
    #[arg(long, value_name = "NAME", conflicts_with = "route", value_parser = Route::custom_domain)]
    domain: Option<Route>,
    /// Path for the service at a host name that is in use, e.g. example.com/livekit/jwt
    #[arg(long, value_name = "NAME/PATH", value_parser = Route::below_path)]
    route: Option<Route>,
    /// Domain at Cloudflare of the route's host name; by default the host name itself
    #[arg(long, value_name = "NAME", requires = "route", value_parser = route::host_name)]
    zone: Option<String>,
    /// URL of the SFU, as clients get it, e.g. wss://sfu.example.com
    #[arg(long, value_name = "URL", value_parser = plan::sfu_url)]
    sfu_url: Option<String>,
    /// Homeservers whose users can create rooms, separated by commas; * alone for all
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = plan::homeserver)]
    homeserver: Vec<String>,
    /// Location of the rooms' objects, which should be near the SFU (weur, eeur, wnam, enam, sam, apac, oc, afr, me)
    #[arg(long, value_name = "HINT", value_parser = plan::location_hint)]
    location_hint: Option<String>,
    /// Name of the API key that the service and the SFU share; never its secret
    #[arg(long, value_name = "KEY")]
    sfu_key: Option<String>,
    /// Homeserver that sends its users' requests to the service, in homeserver mode
    #[arg(long, value_name = "NAME", value_parser = ServerName::parse)]
    homeserver_mode: Option<ServerName>,
    /// Directory to write the files to, instead of printing them
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// File with the present .well-known/matrix/client, to check
    #[arg(long, value_name = "FILE")]
    well_known: Option<PathBuf>,
    /// Homeserver whose present .well-known/matrix/client is fetched and checked
    #[arg(long, value_name = "NAME", conflicts_with = "well_known", value_parser = ServerName::parse)]
    server_name: Option<ServerName>,
    /// File with certificates to trust for that, in addition to the public authorities'
    #[arg(long, value_name = "PEM")]
    trust_ca: Vec<PathBuf>,
}

/// Prints or writes the files.
///
/// # Errors
///
/// A value isn't given and there is no terminal, the input ends early, or a file can't be read or written.
pub fn run(options: &Options, root: &Path) -> Result<()> {
    let plan = if io::stdin().is_terminal() && io::stderr().is_terminal() {
        options.prompt(&mut io::stdin().lock(), &mut io::stderr())?
    } else {
        options.plan()?
    };
    match &options.write {
        Some(directory) => {
            for file in Files::for_directory(&plan, root, directory)?.write(directory)? {
                println!("wrote {}", file.display());
            }
        }
        None => print!("{}", Files::to_print(&plan)),
    }
    println!("\n{}", steps::steps(&plan, options.write.as_deref()));
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
        if self.route().is_none() {
            missing.push("--domain or --route");
        }
        if self.sfu_url.is_none() {
            missing.push("--sfu-url");
        }
        if self.homeserver.is_empty() {
            missing.push("--homeserver");
        }
        let (Some(route), Some(sfu_url), []) = (self.route(), self.sfu_url.clone(), missing.as_slice()) else {
            bail!("{} must be given: there is no terminal to prompt on", missing.join(", "));
        };
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
        let route = match self.route() {
            Some(route) => route,
            None => prompt_until_valid(
                &mut prompt,
                "Host name for the service alone (matrix-rtc.example.com), or name/path?",
                |answer| {
                    if answer.contains('/') { Route::below_path(answer) } else { Route::custom_domain(answer) }
                },
            )?,
        };
        let sfu_url = match &self.sfu_url {
            Some(url) => url.clone(),
            None => {
                prompt_until_valid(&mut prompt, "URL of the SFU for clients (wss://sfu.example.com)?", plan::sfu_url)?
            }
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
            None => prompt_until_valid(
                &mut prompt,
                "Location of the SFU: weur, eeur, wnam, enam, sam, apac, oc, afr, me (empty: Cloudflare decides)?",
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
                    name => ServerName::parse(name).map(Some).map_err(|_| String::from("is not a server name")),
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
        let plan = Plan::new(route, sfu_url, homeservers, location_hint, self.sfu_key.clone())?;
        Ok(match homeserver_mode {
            Some(server_name) => plan.in_homeserver_mode(HomeserverMode::new(server_name, self.tokens()?)),
            None => plan,
        })
    }

    /// Returns the tokens of the registration file that was written before, or generates new ones.
    fn tokens(&self) -> Result<Tokens> {
        let there = self.write.as_ref().and_then(|directory| fs::read_to_string(directory.join(REGISTRATION)).ok());
        there.and_then(|registration| Tokens::read(&registration)).map_or_else(Tokens::generate, Ok)
    }

    fn route(&self) -> Option<Route> {
        let route = self.domain.clone().or_else(|| self.route.clone())?;
        Some(match &self.zone {
            Some(zone) => route.in_zone(zone),
            None => route,
        })
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
        let answers = "https://rtc.example.com\nrtc.example.com\nsfu.example.com\nwss://sfu.example.com\nhttps://x\nexample.com, example.org\n\nhttps://x\nexample.com\n";
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
    fn input_that_ends_is_an_error() {
        let (plan, _) = prompted(&Options::default(), "rtc.example.com\n");
        assert!(plan.unwrap_err().to_string().contains("ended"));
    }
}
