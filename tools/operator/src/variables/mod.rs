//! Variables of the service as its operator gives them to a command: in a file, or in the environment.
//!
//! How it works:
//! - an environment file and the environment may have all variables of the executable: those that name files stand for
//!   the worker's own, as for the service ([`files`]);
//! - a secrets file has the worker's variables only, as Cloudflare has no files to read;
//! - the file comes before the environment: for a variable that it has in any form, the environment isn't read;
//! - what nothing reads of the file is kept for a warning ([`Unread`]).

pub mod files;
pub mod names;
pub mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use matrixrtc_edge::config::VARIABLES;
use serde_json::{Map, Value};

use crate::env_file::{EnvFile, Skipped};
use crate::variables::files::{KEYS, PAIR, SOURCES, contradictions, forms};

/// Variables of a file, where one is given, and of the environment for all that the file lacks.
pub(crate) struct Variables<E> {
    file: Map<String, Value>,
    unread: Option<Unread>,
    environment: E,
}

/// The parts of a file that the service doesn't read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The file.
    pub path: PathBuf,
    /// Names that are likely meant for the service.
    pub names: Vec<UnreadName>,
    /// Lines without an assignment.
    pub lines: Vec<Skipped>,
}

/// A name that the service doesn't read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadName {
    /// The name.
    pub name: String,
    /// The name of a variable that was likely meant; the same one if only the executable reads it, and this is Cloudflare's
    /// file.
    pub meant: Option<&'static str>,
}

impl<E: Fn(&str) -> Option<String>> Variables<E> {
    /// Reads the file. `environment` returns the value of a variable, if it is set.
    ///
    /// # Errors
    ///
    /// The file can't be read, or isn't what it should be.
    pub(crate) fn read(secrets_file: Option<&Path>, env_file: Option<&Path>, environment: E) -> Result<Self> {
        let (file, unread) = match (secrets_file, env_file) {
            (Some(path), _) => {
                let mut secrets = secrets_of(path)?;
                let unread = Unread::of(path, &secrets, |name| VARIABLES.contains(&name));
                // The worker on Cloudflare has no files to read.
                secrets.retain(|name, _| SOURCES.iter().all(|source| source.variable != name));
                (secrets, Some(unread))
            }
            (None, Some(path)) => {
                let (variables, lines) = variables_of(path)?;
                let unread = Unread { lines, ..Unread::of(path, &variables, names::is_known) };
                (variables, Some(unread))
            }
            (None, None) => (Map::new(), None),
        };
        Ok(Self { file, unread, environment })
    }

    /// Returns the parts of the file that the service doesn't read; `None` without a file.
    pub(crate) fn unread(&self) -> Option<&Unread> {
        self.unread.as_ref()
    }

    /// Returns the value of one of the worker's variables, unless it is blank. If another variable names a file for it,
    /// the value is the file's, trimmed.
    ///
    /// # Errors
    ///
    /// That file hasn't got the value, or two variables are given that stand for the same.
    pub(crate) fn get(&self, name: &'static str) -> Result<Option<String>> {
        // A file's pair must not be mixed with another source's.
        let forms = match API_KEY.contains(&name) {
            true => forms(&API_KEY),
            false => forms(&[name]),
        };
        let is_in_file = forms.iter().any(|form| self.file.contains_key(*form));
        let value = |form: &str| {
            let value = match is_in_file {
                true => self.file.get(form).and_then(Value::as_str).map(str::to_owned),
                false => (self.environment)(form),
            };
            value.filter(|value| !value.trim().is_empty())
        };
        let contradictions = contradictions(|form| forms.contains(&form) && value(form).is_some());
        ensure!(contradictions.is_empty(), contradictions.join("; "));
        for source in SOURCES {
            let Some(at) = source.sets.iter().position(|set| *set == name) else { continue };
            let Some(path) = value(source.variable) else { continue };
            let values = source.read(path.trim()).map_err(|error| anyhow!("{} {error}", source.variable))?;
            return Ok(values.get(at).map(|value| value.trim().to_owned()));
        }
        Ok(value(name))
    }
}

impl Unread {
    fn of(path: &Path, file: &Map<String, Value>, is_read: impl Fn(&str) -> bool) -> Self {
        let unread = file.keys().filter(|name| !is_read(name) && names::is_meant_for_us(name));
        let names = unread.map(|name| UnreadName { name: name.clone(), meant: names::nearest(name) }).collect();
        Self { path: path.to_owned(), names, lines: Vec::new() }
    }
}

/// Reads the JSON object of a secrets file.
fn secrets_of(path: &Path) -> Result<Map<String, Value>> {
    let content = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    match serde_json::from_slice(&content) {
        Ok(Value::Object(secrets)) => Ok(secrets),
        // The parser's own message may quote a secret.
        _ => bail!("{} isn't a JSON object", path.display()),
    }
}

/// Reads the assignments of an environment file, and the lines that are none.
fn variables_of(path: &Path) -> Result<(Map<String, Value>, Vec<Skipped>)> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let file = EnvFile::parse(&text).with_context(|| format!("can't read {}", path.display()))?;
    Ok((file.assignments.into_iter().map(|(name, value)| (name, Value::from(value))).collect(), file.skipped))
}

/// Fewest characters of a secret, as LiveKit has it.
pub const SHORTEST_SECRET: usize = 32;
/// All forms of the API key with its secret.
const API_KEY: [&str; 3] = [PAIR[0], PAIR[1], KEYS];

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Writes a file, and returns its path.
    fn file(directory: &TempDir, name: &str, text: &str) -> String {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn of_environment<const N: usize>(
        environment: [(&str, &str); N],
    ) -> Variables<impl Fn(&str) -> Option<String> + use<N>> {
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let find =
            move |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        Variables::read(None, None, find).unwrap()
    }

    #[test]
    fn files_that_variables_name_have_their_values() {
        let directory = tempfile::tempdir().unwrap();
        let secret = file(&directory, "secret", "from-a-file\n");
        let keys = file(&directory, "keys", "# comment\nnew: one\nold: two\n");
        let registration = file(&directory, "registration.yaml", "as_token: aaa\nhs_token: hhh\n");
        for (environment, name, value) in [
            (("LIVEKIT_KEY_FROM_FILE", &secret), "LIVEKIT_KEY", "from-a-file"),
            (("LIVEKIT_SECRET_FROM_FILE", &secret), "LIVEKIT_SECRET", "from-a-file"),
            (("LIVEKIT_KEY_FILE", &keys), "LIVEKIT_KEYS", "new: one\nold: two"),
            (("LIVEKIT_AS_TOKEN_FROM_FILE", &secret), "LIVEKIT_AS_TOKEN", "from-a-file"),
            (("LIVEKIT_HS_TOKEN_FROM_FILE", &secret), "LIVEKIT_HS_TOKEN", "from-a-file"),
            (("LIVEKIT_AS_REGISTRATION_FILE", &registration), "LIVEKIT_AS_TOKEN", "aaa"),
            (("LIVEKIT_AS_REGISTRATION_FILE", &registration), "LIVEKIT_HS_TOKEN", "hhh"),
        ] {
            let of_environment = of_environment([(environment.0, environment.1)]);
            assert_eq!(of_environment.get(name).unwrap().as_deref(), Some(value));

            let env_file = file(&directory, "edge.env", &format!("{}={}\n", environment.0, environment.1));
            let of_file =
                Variables::read(None, Some(Path::new(&env_file)), |_: &str| Some("other".to_owned())).unwrap();
            assert_eq!(of_file.get(name).unwrap().as_deref(), Some(value));
        }
    }

    #[test]
    fn a_file_that_has_a_value_in_any_form_goes_before_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let secret = file(&directory, "secret", "from-a-file");
        let text = format!("LIVEKIT_KEY=of-file\nLIVEKIT_SECRET_FROM_FILE={secret}\nLIVEKIT_AS_TOKEN=of-file\n");
        let env_file = file(&directory, "edge.env", &text);
        let environment = |name: &str| match name {
            "LIVEKIT_AS_REGISTRATION_FILE" => Some("/missing".to_owned()),
            "LIVEKIT_KEYS" | "LIVEKIT_KEY_FROM_FILE" | "LIVEKIT_URL" => Some("of-environment".to_owned()),
            _ => None,
        };

        let variables = Variables::read(None, Some(Path::new(&env_file)), environment).unwrap();

        for (name, value) in [
            ("LIVEKIT_KEY", Some("of-file")),
            ("LIVEKIT_SECRET", Some("from-a-file")),
            ("LIVEKIT_KEYS", None),
            ("LIVEKIT_AS_TOKEN", Some("of-file")),
            ("LIVEKIT_URL", Some("of-environment")),
        ] {
            assert_eq!(variables.get(name).unwrap().as_deref(), value, "{name}");
        }
    }

    #[test]
    fn the_parts_of_a_file_that_nothing_reads_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let text = "LIVEKIT_API_SECRET=nobody-may-see\nLIVEKIT_KEY_FILE=/f\nTZ=UTC\nLIVEKIT_URL: x\nLIVEKIT_EGRESS_TEMPLATE=x\n";
        let env_file = file(&directory, "edge.env", text);
        let secrets =
            file(&directory, "secrets.json", r#"{"LIVEKIT_KEY":"x","LIVEKIT_KEY_FILE":"/f","LIVEKIT_SECRETS":"x"}"#);
        let names = |unread: &Unread| -> Vec<_> {
            unread.names.iter().map(|UnreadName { name, meant }| (name.clone(), *meant)).collect()
        };
        let nothing = |_: &str| None;

        let of_env_file = Variables::read(None, Some(Path::new(&env_file)), nothing).unwrap();
        let unread = of_env_file.unread().unwrap();
        let expected = [("LIVEKIT_API_SECRET", Some("LIVEKIT_SECRET")), ("LIVEKIT_EGRESS_TEMPLATE", None)];
        assert_eq!(names(unread), expected.map(|(name, meant)| (name.to_owned(), meant)));
        assert_eq!(unread.lines.iter().map(|skipped| skipped.line).collect::<Vec<_>>(), [4]);

        let of_secrets = Variables::read(Some(Path::new(&secrets)), None, nothing).unwrap();
        let expected = [("LIVEKIT_KEY_FILE", Some("LIVEKIT_KEY_FILE")), ("LIVEKIT_SECRETS", Some("LIVEKIT_SECRET"))];
        assert_eq!(names(of_secrets.unread().unwrap()), expected.map(|(name, meant)| (name.to_owned(), meant)));

        assert!(Variables::read(None, None, nothing).unwrap().unread().is_none());
    }

    #[test]
    fn a_secrets_file_has_the_worker_s_variables_only() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = file(&directory, "secrets.json", r#"{"LIVEKIT_SECRET_FROM_FILE": "/missing"}"#);
        let environment = |name: &str| (name == "LIVEKIT_SECRET").then(|| "of-environment".to_owned());

        let variables = Variables::read(Some(Path::new(&secrets)), None, environment).unwrap();

        assert_eq!(variables.get("LIVEKIT_SECRET").unwrap().as_deref(), Some("of-environment"));
    }

    #[test]
    fn a_file_without_its_value_and_two_forms_of_it_are_errors_as_for_the_service() {
        for (environment, name, problem) in [
            ([("LIVEKIT_SECRET_FROM_FILE", "/missing"), ("", "")], "LIVEKIT_SECRET", "can't be read"),
            ([("LIVEKIT_SECRET_FROM_FILE", "\"/missing\""), ("", "")], "LIVEKIT_SECRET", "is in quotation marks"),
            ([("LIVEKIT_SECRET_FROM_FILE", "/f"), ("LIVEKIT_SECRET", "x")], "LIVEKIT_SECRET", "are both set"),
            ([("LIVEKIT_KEY_FILE", "/f"), ("LIVEKIT_KEY", "x")], "LIVEKIT_SECRET", "are both set"),
            ([("LIVEKIT_AS_REGISTRATION_FILE", "/f"), ("LIVEKIT_HS_TOKEN", "x")], "LIVEKIT_HS_TOKEN", "are both set"),
        ] {
            let error = of_environment(environment).get(name).unwrap_err().to_string();
            assert!(error.contains(environment[0].0) && error.contains(problem), "{error}");
        }
        let blank = [("LIVEKIT_SECRET_FROM_FILE", " "), ("LIVEKIT_SECRET", "x")];
        assert_eq!(of_environment(blank).get("LIVEKIT_SECRET").unwrap().as_deref(), Some("x"));
    }
}
