//! What is to be configured, checked as the worker will check it.

use std::collections::BTreeMap;

use anyhow::Result;
use matrixrtc_edge::config::{Config, Problem};

use crate::configure::homeserver_mode::HomeserverMode;
use crate::configure::route::Route;
use crate::doctor::ServiceUrl;

/// A deployment to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    route: Route,
    sfu_url: String,
    homeservers: String,
    location_hint: Option<String>,
    sfu_key: Option<String>,
    homeserver_mode: Option<HomeserverMode>,
}

impl Plan {
    /// Puts it together. `homeservers` is what `LIVEKIT_FULL_ACCESS_HOMESERVERS` will be.
    ///
    /// # Errors
    ///
    /// The worker wouldn't take it.
    pub fn new(
        route: Route,
        sfu_url: String,
        homeservers: String,
        location_hint: Option<String>,
        sfu_key: Option<String>,
    ) -> Result<Self> {
        let plan = Self { route, sfu_url, homeservers, location_hint, sfu_key, homeserver_mode: None };
        read(&plan.vars().into_iter().collect())?;
        Ok(plan)
    }

    /// The same deployment, also as an application service.
    #[must_use]
    pub fn in_homeserver_mode(self, mode: HomeserverMode) -> Self {
        Self { homeserver_mode: Some(mode), ..self }
    }

    /// Where clients find it.
    #[must_use]
    pub fn service_url(&self) -> &ServiceUrl {
        self.route.url()
    }

    /// The domain or path at which the service answers.
    pub(super) fn route(&self) -> &Route {
        &self.route
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
        vars.extend(self.homeserver_mode.as_ref().map(|mode| (HS_SERVER_NAME, mode.server_name().to_string())));
        vars
    }

    /// The variables that are.
    #[must_use]
    pub fn secrets(&self) -> Vec<&'static str> {
        let tokens: &[&str] = if self.homeserver_mode.is_some() { &TOKENS } else { &[] };
        SECRETS.iter().chain(tokens).copied().collect()
    }

    /// The SFU's URL that clients get.
    pub(super) fn sfu_url(&self) -> &str {
        &self.sfu_url
    }

    /// The homeservers whose users create rooms, separated by commas; `*` for all of them.
    pub(super) fn homeservers(&self) -> &str {
        &self.homeservers
    }

    /// The homeserver that has it for an application service, if there is one.
    pub(super) fn homeserver_mode(&self) -> Option<&HomeserverMode> {
        self.homeserver_mode.as_ref()
    }

    /// The name of the API key, if it is known.
    pub(super) fn sfu_key(&self) -> Option<&str> {
        self.sfu_key.as_deref()
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
const HS_SERVER_NAME: &str = "LIVEKIT_HS_SERVER_NAME";
/// Webhooks get lost; without this, who has gone meanwhile stays in the call.
const SANITY_CHECK_INTERVAL_S: &str = "60";
/// Those of homeserver mode.
const TOKENS: [&str; 2] = ["LIVEKIT_AS_TOKEN", "LIVEKIT_HS_TOKEN"];
pub(super) const SECRETS: [&str; 2] = ["LIVEKIT_KEY", "LIVEKIT_SECRET"];

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
