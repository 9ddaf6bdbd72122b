//! The variables of the configuration, as `wrangler.toml`'s comment describes them. A test compares that with the worker's
//! own table.

use anyhow::{Result, ensure};

/// One variable, with a line of help.
#[derive(Debug)]
pub(super) struct Variable<'a> {
    pub(super) name: &'a str,
    pub(super) help: &'a str,
    /// Whether every deployment has it.
    pub(super) needed: bool,
}

/// Returns the variables that the comment in `wrangler.toml` lists.
///
/// # Errors
///
/// It lists none.
pub(super) fn variables(wrangler: &str) -> Result<Vec<Variable<'_>>> {
    let lines = wrangler.lines().filter(|line| line.starts_with("#   LIVEKIT_")).filter_map(|line| line.get(4..));
    let variables: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, help)| Variable { name, help, needed: help.ends_with("(required)") || PAIR.contains(&name) })
        .collect();
    ensure!(variables.iter().any(|variable| variable.needed), "wrangler.toml lists no variables");
    Ok(variables)
}

/// Returns a file of variables below `introduction`: each below its help, those that can be left out commented out.
pub(super) fn example<'a>(introduction: &str, variables: impl IntoIterator<Item = &'a Variable<'a>>) -> String {
    let mut text = String::from(introduction);
    for Variable { name, help, needed } in variables {
        let comment = if *needed { "" } else { "# " };
        text.push_str(&format!("\n# {help}\n{comment}{name}=\n"));
    }
    text
}

/// Needed, unless `LIVEKIT_KEYS` is in their place.
const PAIR: [&str; 2] = ["LIVEKIT_KEY", "LIVEKIT_SECRET"];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace;

    #[test]
    fn every_variable_is_described_and_the_needed_ones_are_to_be_filled_in() {
        let wrangler = fs::read_to_string(workspace::root().unwrap().join("wrangler.toml")).unwrap();
        let listed = wrangler.lines().filter(|line| line.starts_with("#   LIVEKIT_")).count();
        let variables = variables(&wrangler).unwrap();

        let example = example("# Fill it in\n", &variables);

        assert_eq!(variables.len(), listed);
        for Variable { name, help, .. } in &variables {
            assert!(example.contains(&format!("# {help}\n")), "{name}");
        }
        let mut asked_for: Vec<_> = example.lines().filter(|line| line.starts_with("LIVEKIT_")).collect();
        asked_for.sort_unstable();
        let expected = ["LIVEKIT_FULL_ACCESS_HOMESERVERS=", "LIVEKIT_KEY=", "LIVEKIT_SECRET=", "LIVEKIT_URL="];
        assert_eq!(asked_for, expected);
    }
}
