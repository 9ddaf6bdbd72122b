//! What is to be configured, checked as the worker will check it.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use matrixrtc_doctor::ServiceUrl;
use matrixrtc_edge::config::{Config, Problem};

use super::{Place, files, in_directory};

/// A deployment to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) place: Place,
    sfu_url: String,
    homeservers: String,
    location_hint: Option<String>,
    sfu_key: Option<String>,
}

impl Plan {
    /// Puts it together. `homeservers` is what `LIVEKIT_FULL_ACCESS_HOMESERVERS` will be.
    ///
    /// # Errors
    ///
    /// The worker wouldn't take it.
    pub fn new(
        place: Place,
        sfu_url: String,
        homeservers: String,
        location_hint: Option<String>,
        sfu_key: Option<String>,
    ) -> Result<Self> {
        let plan = Self { place, sfu_url, homeservers, location_hint, sfu_key };
        read(&plan.vars().into_iter().collect())?;
        Ok(plan)
    }

    /// Where clients find it.
    #[must_use]
    pub fn service_url(&self) -> &ServiceUrl {
        self.place.url()
    }

    /// The variables that are no secrets.
    #[must_use]
    pub fn vars(&self) -> Vec<(&'static str, String)> {
        let mut vars = vec![
            (SFU_URL, self.sfu_url.clone()),
            (HOMESERVERS, self.homeservers.clone()),
            (SANITY_CHECKS, String::from(SANITY_CHECK_INTERVAL_S)),
        ];
        vars.extend(self.location_hint.clone().map(|hint| (LOCATION_HINT, hint)));
        vars
    }

    /// The variables that are.
    #[must_use]
    pub fn secrets(&self) -> [&'static str; 2] {
        SECRETS
    }

    /// The name of the API key, if it is known.
    pub(super) fn sfu_key(&self) -> Option<&str> {
        self.sfu_key.as_deref()
    }

    /// What to do with the files, once they are where they belong.
    pub(super) fn steps(&self, directory: Option<&Path>) -> String {
        let (config, wrangler) = match directory {
            Some(directory) => {
                let file = in_directory(directory, files::WRANGLER);
                (format!(" -c {file}"), file)
            }
            None => (String::new(), String::from("wrangler.toml")),
        };
        let mut steps = format!("Then, with {wrangler} in place:\n\n  npm ci\n  npx wrangler deploy{config}\n");
        for secret in self.secrets() {
            steps += &format!("  npx wrangler secret put {secret}{config}\n");
        }
        let server_name =
            self.homeservers.split(',').next().map(str::trim).filter(|name| *name != "*").unwrap_or("example.com");
        steps += &format!(
            "\nand, with the SFU restarted and the announcement in place, with LIVEKIT_KEY and LIVEKIT_SECRET in the environment:\n\n  \
             cargo xtask doctor {} --server-name {server_name} --sfu-url {}",
            self.service_url(),
            self.sfu_url
        );
        steps
    }
}

/// Reads an SFU's URL.
///
/// # Errors
///
/// The worker wouldn't take it.
pub fn sfu_url(text: &str) -> Result<String, String> {
    checked(SFU_URL, text)
}

/// Reads one homeserver's name, or `*`.
///
/// # Errors
///
/// The worker wouldn't take it.
pub fn homeserver(text: &str) -> Result<String, String> {
    checked(HOMESERVERS, text)
}

/// Reads several homeservers' names, or `*`.
///
/// # Errors
///
/// The worker wouldn't take them.
pub fn homeservers(text: &str) -> Result<String, String> {
    let names = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty());
    checked(HOMESERVERS, &names.collect::<Vec<_>>().join(","))
}

/// Reads a location hint.
///
/// # Errors
///
/// The worker wouldn't take it.
pub fn location_hint(text: &str) -> Result<String, String> {
    checked(LOCATION_HINT, text)
}

/// The value, if the worker takes it for that variable.
fn checked(variable: &'static str, text: &str) -> Result<String, String> {
    let value = text.trim().to_owned();
    let problems = read(&BTreeMap::from([(variable, value.clone())])).err().map_or_else(Vec::new, |errors| errors.0);
    match problems.into_iter().find(|problem| problem.variable == variable) {
        Some(Problem { problem, .. }) => Err(problem),
        None => Ok(value),
    }
}

/// Reads variables as the worker does, with secrets of no meaning.
fn read(vars: &BTreeMap<&'static str, String>) -> Result<Config, matrixrtc_edge::config::ConfigErrors> {
    Config::from_lookup(|name| match vars.get(name) {
        Some(value) => Some(value.clone()),
        None => SECRETS.contains(&name).then(|| String::from("unknown")),
    })
}

const SFU_URL: &str = "LIVEKIT_URL";
const HOMESERVERS: &str = "LIVEKIT_FULL_ACCESS_HOMESERVERS";
const LOCATION_HINT: &str = "LIVEKIT_LOCATION_HINT";
const SANITY_CHECKS: &str = "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS";
/// Webhooks get lost; without this, who has gone meanwhile stays in the call.
const SANITY_CHECK_INTERVAL_S: &str = "60";
const SECRETS: [&str; 2] = ["LIVEKIT_KEY", "LIVEKIT_SECRET"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_worker_reads_them() {
        assert_eq!(sfu_url(" wss://sfu.example.com\n"), Ok(String::from("wss://sfu.example.com")));
        assert!(sfu_url("sfu.example.com").is_err() && sfu_url("").is_err());
        assert!(homeserver("example.com:8448").is_ok() && homeserver("*").is_ok());
        assert!(homeserver("https://example.com").is_err() && homeserver("").is_err());
        assert_eq!(homeservers("a.example  b.example,c.example"), Ok(String::from("a.example,b.example,c.example")));
        assert!(homeservers("*, a.example").is_err());
    }
}
