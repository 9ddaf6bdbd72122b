//! Values of the service's variables, judged by the worker's own parser.

use std::collections::BTreeMap;

use matrixrtc_edge::config::{Config, ConfigErrors, Problem};
use matrixrtc_edge::matrix::ids::server_name::ServerName;

/// Returns the value, if the worker accepts it for that variable.
pub(crate) fn checked(variable: &'static str, text: &str) -> Result<String, String> {
    let value = text.trim().to_owned();
    let problems = read(&BTreeMap::from([(variable, value.clone())])).err().map_or_else(Vec::new, |errors| errors.0);
    match problems.into_iter().find(|problem| problem.variable == variable) {
        Some(Problem { problem, .. }) => Err(problem),
        None => Ok(value),
    }
}

/// Parses a server name; of a URL or a user id, the error says which name is meant.
///
/// # Errors
///
/// The text isn't a server name. The message follows the name of the value.
pub fn server_name(text: &str) -> Result<ServerName, String> {
    let name = checked(HS_SERVER_NAME, text)?;
    // A blank value is no problem of the variable's, which is unset then.
    ServerName::parse(&name).map_err(|error| format!("is {text:?}, {error}"))
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
const HS_SERVER_NAME: &str = "LIVEKIT_HS_SERVER_NAME";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_is_trimmed_and_of_a_url_or_a_user_id_the_error_says_which_is_meant() {
        assert_eq!(server_name(" example.com:8448\n").unwrap().as_str(), "example.com:8448");
        for text in ["https://example.com", "https://example.com/_matrix", "@alice:example.com", "example.com/"] {
            let problem = server_name(text).unwrap_err();
            assert!(
                problem.contains("not a Matrix server name") && problem.contains("perhaps example.com"),
                "{problem}"
            );
        }
        for text in ["", " ", "exa mple"] {
            assert!(server_name(text).unwrap_err().contains("not a Matrix server name"), "{text:?}");
        }
    }
}
