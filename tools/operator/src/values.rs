//! Values of the service's variables, judged by the worker's own parser.

use std::collections::BTreeMap;

use matrixrtc_edge::config::{Config, ConfigErrors, Problem};

/// Returns the value, if the worker accepts it for that variable.
pub(crate) fn checked(variable: &'static str, text: &str) -> Result<String, String> {
    let value = text.trim().to_owned();
    let problems = read(&BTreeMap::from([(variable, value.clone())])).err().map_or_else(Vec::new, |errors| errors.0);
    match problems.into_iter().find(|problem| problem.variable == variable) {
        Some(Problem { problem, .. }) => Err(problem),
        None => Ok(value),
    }
}

/// Parses variables as the worker does, with placeholders for the secrets.
pub(crate) fn read(vars: &BTreeMap<&'static str, String>) -> Result<Config, ConfigErrors> {
    Config::from_lookup(|name| match vars.get(name) {
        Some(value) => Some(value.clone()),
        None => [KEY, SECRET].contains(&name).then(|| String::from("unknown")),
    })
}

const KEY: &str = "LIVEKIT_KEY";
const SECRET: &str = "LIVEKIT_SECRET";
