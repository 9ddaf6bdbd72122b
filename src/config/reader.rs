//! Reads variables one by one, and collects all problems before any is reported.
//!
//! How it works:
//! - a source returns the text of a variable, `None`, or [`Unreadable`] for an existing secret that can't be read now;
//! - white space alone counts as no value;
//! - each method returns `None` after it has noted a problem, so that the caller goes on to the next variable;
//! - the variables that depend on others (the keys, homeserver mode and what needs it) have a method of their own.

use std::fmt;

use crate::config::values::{QUOTED, is_quoted, parse_bool, parse_server_name, shown, unlike_a_secret};
use crate::livekit::keys::ApiKeys;
use crate::matrix::homeserver::{ApplicationService, Token};

/// Problems of a configuration. Names variables, and shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

/// Problem of one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub variable: &'static str,
    /// The problem, worded to follow the name.
    pub problem: String,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Problem { variable, problem }) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{variable} {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A value exists, and can't be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Reads variables from a source, and collects every problem on the way.
pub(super) struct Reader<S> {
    pub(super) source: S,
    pub(super) problems: Vec<Problem>,
}

impl<S: Fn(&str) -> Result<Option<String>, Unreadable>> Reader<S> {
    /// Returns the value of `variable`, if it has one. On an error the problem has been noted.
    fn value(&mut self, variable: &'static str) -> Result<Option<String>, Unreadable> {
        let value = (self.source)(variable).inspect_err(|Unreadable| {
            self.problems.push(Problem { variable, problem: UNREADABLE.to_owned() });
        })?;
        Ok(value.filter(|value| !value.trim().is_empty()))
    }

    fn problem<T>(&mut self, variable: &'static str, problem: impl Into<String>) -> Option<T> {
        let problem = problem.into();
        self.problems.push(Problem { variable, problem });
        None
    }

    pub(super) fn required<T>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(variable);
        self.given(variable, value, parse)
    }

    /// Parses the value of a required variable, once it has been read.
    fn given<T>(
        &mut self,
        variable: &'static str,
        value: Result<Option<String>, Unreadable>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match value.ok()? {
            Some(value) => self.parsed(variable, &value, parse),
            None => self.problem(variable, "is not set"),
        }
    }

    /// Parses the variable's value, or `default` where it has none.
    pub(super) fn default<T>(
        &mut self,
        variable: &'static str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(variable).ok()?;
        self.parsed(variable, value.as_deref().unwrap_or(default), parse)
    }

    /// Parses the variable's value, where it has one.
    pub(super) fn optional<T>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.value(variable).ok()? {
            Some(value) => self.parsed(variable, &value, parse).map(Some),
            None => Some(None),
        }
    }

    fn parsed<T>(
        &mut self,
        variable: &'static str,
        value: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = parse(value).map_err(|problem| match is_quoted(value) && !SECRETS.contains(&variable) {
            true => format!("{QUOTED}: it is {}", shown(value)),
            false => problem,
        });
        parsed.map_err(|problem| self.problem::<T>(variable, problem)).ok()
    }

    /// Reads `LIVEKIT_KEY` and `LIVEKIT_SECRET`, or `LIVEKIT_KEYS` in their place.
    pub(super) fn keys(&mut self) -> Option<ApiKeys> {
        // All three are read first, so that every problem is reported.
        let (name, secret, lines) = (self.value(KEY), self.value(SECRET), self.value(KEYS));
        match (name.ok()?, secret.ok()?, lines.ok()?) {
            (None, None, Some(lines)) => match (ApiKeys::from_lines(&lines), unlike_keys(&lines)) {
                (Some(_), Some(problem)) => self.problem(KEYS, problem),
                (Some(keys), None) => Some(keys),
                (None, _) => self.problem(KEYS, "must consist of `key: secret` lines"),
            },
            (Some(name), Some(secret), None) => {
                let problems = [(KEY, unlike_a_secret(&name)), (SECRET, unlike_a_secret(&secret))];
                if problems.iter().all(|(_, problem)| problem.is_none()) {
                    return ApiKeys::single(&name, &secret);
                }
                for (variable, problem) in problems {
                    problem.and_then(|problem| self.problem::<()>(variable, problem));
                }
                None
            }
            (_, _, Some(_)) => self.problem(KEYS, format!("can't be combined with {KEY} and {SECRET}")),
            (name, secret, None) => {
                if name.is_none() {
                    self.problem::<()>(KEY, "is not set");
                }
                if secret.is_none() {
                    self.problem::<()>(SECRET, "is not set");
                }
                None
            }
        }
    }

    /// Reads the three variables of homeserver mode: all of them, or none. The outer `None` means a problem.
    pub(super) fn application_service(&mut self) -> Option<Option<ApplicationService>> {
        let [as_token, hs_token, server_name] =
            [AS_TOKEN, HS_TOKEN, HS_SERVER_NAME].map(|variable| self.value(variable));
        if let (Ok(None), Ok(None), Ok(None)) = (&as_token, &hs_token, &server_name) {
            return Some(None);
        }
        let parse_token = |text: &str| match unlike_a_secret(text) {
            Some(problem) => Err(problem),
            None => Token::parse(text).ok_or_else(|| "has a character that can't be sent in a header".to_owned()),
        };
        let as_token = self.given(AS_TOKEN, as_token, parse_token);
        let hs_token = self.given(HS_TOKEN, hs_token, parse_token);
        let server_name = self.given(HS_SERVER_NAME, server_name, parse_server_name);
        Some(Some(ApplicationService::new(server_name?, as_token?, hs_token?)))
    }

    /// Reads `LIVEKIT_REQUIRE_MEMBERSHIP`: by default `true` in homeserver mode, which alone can know members.
    pub(super) fn require_membership(&mut self) -> Option<bool> {
        let wanted = self.optional(REQUIRE_MEMBERSHIP, parse_bool)?;
        let in_mode = [AS_TOKEN, HS_TOKEN, HS_SERVER_NAME].into_iter().any(|variable| match (self.source)(variable) {
            Ok(value) => value.is_some_and(|value| !value.trim().is_empty()),
            Err(Unreadable) => true,
        });
        match wanted {
            Some(true) if !in_mode => self.problem(
                REQUIRE_MEMBERSHIP,
                format!("is true without homeserver mode ({AS_TOKEN}, {HS_TOKEN}, {HS_SERVER_NAME}), in which alone the members of a Matrix room are known"),
            ),
            _ => Some(wanted.unwrap_or(in_mode)),
        }
    }
}

/// Returns the problem of the first of `key: secret` lines that has one.
fn unlike_keys(lines: &str) -> Option<String> {
    lines.lines().enumerate().find_map(|(n, line)| {
        let (name, secret) = line.split_once(':')?;
        let of_line = |half, problem| format!("line {}: its {half} {problem}", n + 1);
        let name = unlike_a_secret(name).map(|problem| of_line("key", problem));
        name.or_else(|| unlike_a_secret(secret).map(|problem| of_line("secret", problem)))
    })
}

/// The variables whose values are in no message.
const SECRETS: [&str; 5] = [KEY, SECRET, KEYS, AS_TOKEN, HS_TOKEN];
const KEY: &str = "LIVEKIT_KEY";
const SECRET: &str = "LIVEKIT_SECRET";
const KEYS: &str = "LIVEKIT_KEYS";
const AS_TOKEN: &str = "LIVEKIT_AS_TOKEN";
const HS_TOKEN: &str = "LIVEKIT_HS_TOKEN";
const HS_SERVER_NAME: &str = "LIVEKIT_HS_SERVER_NAME";
const REQUIRE_MEMBERSHIP: &str = "LIVEKIT_REQUIRE_MEMBERSHIP";
pub(super) const UNREADABLE: &str = "can't be read from the Secrets Store";
